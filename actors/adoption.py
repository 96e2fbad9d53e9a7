"""A device that another program has linked, taken over with its keys: nobody scans again."""

import collections.abc as cabc
import typing as t

import attrs

from actors.errors import ActorError
from actors.fences import pass_fence
from actors.messages import WriterMail
from storage.api import Envelope, Outcome, RecordChange, RecordKind
from storage.facts import AddressPair
from supervisor.mailbox import Postbox
from whatsapp.device import Device

SOURCE: t.Final = "import"
ADOPTED: t.Final = (
    "imported",
    "the credentials of another system were imported; make sure that it is stopped for good, then"
    " start this connection",
)
KINDS: t.Final = frozenset(
    {
        RecordKind.SESSION,
        RecordKind.IDENTITY,
        RecordKind.PREKEY,
        RecordKind.SENDER_KEY,
        RecordKind.APP_STATE_KEY,
    }
)


class NotAdoptedError(ActorError):
    """The database refused it; nothing was changed."""


class AdoptionStorage(t.Protocol):
    """What is asked of storage."""

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        """Commit it in one transaction."""
        ...


@attrs.frozen(kw_only=True)
class Adoption:
    """A device, the records that go with it, and who is whom."""

    device: Device
    records: tuple[RecordChange, ...] = attrs.field(repr=False)
    pairs: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    """Phone-number and hidden address, bare."""

    async def store(
        self, connection: str, storage: AdoptionStorage, writer: Postbox[WriterMail]
    ) -> None:
        """Put it in the place of all keys that the connection had: all of it, or nothing.

        It does not go by way of the writer, who would keep what the database takes of it.

        Raises:
            StorageError: nothing was changed.
        """
        await pass_fence(writer, connection)  # what the old keys have opened is stored
        device = RecordChange(RecordKind.DEVICE, "", self.device.to_bytes())
        envelope = Envelope(
            connection=connection,
            records=(device, *self.records),
            reset_records=True,
            facts=tuple(AddressPair(number, lid, SOURCE) for number, lid in self.pairs),
        )
        await storage.apply([envelope])
