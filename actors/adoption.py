"""A device that another program has linked, taken over with its keys: nobody scans again."""

import typing as t

import attrs
import trio

from actors.errors import ActorError
from actors.messages import Commit, Settled, WriterMail
from storage.api import Envelope, RecordChange, RecordKind, Verdict
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


@attrs.frozen(kw_only=True)
class Adoption:
    """A device, the records that go with it, and who is whom."""

    device: Device
    records: tuple[RecordChange, ...] = attrs.field(repr=False)
    pairs: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    """Phone-number and hidden address, bare."""

    async def store(self, connection: str, writer: Postbox[WriterMail]) -> bool:
        """Put it in the place of all keys that the connection had: all of it, or nothing; whether
        the database took it."""
        device = RecordChange(RecordKind.DEVICE, "", self.device.to_bytes())
        envelope = Envelope(
            connection=connection,
            records=(device, *self.records),
            reset_records=True,
            facts=tuple(AddressPair(number, lid, SOURCE) for number, lid in self.pairs),
        )
        reply, answer = trio.open_memory_channel[Settled](1)
        await writer.post(Commit(envelope, 0, reply))
        settled = await answer.receive()
        return settled.outcome is not None and settled.outcome.verdict is Verdict.RECORDED
