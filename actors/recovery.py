"""Going on with keys that are older than what the phones have seen: what could be used twice goes.

A session of the past would encrypt under keys that were used already, and its receivers throw such
messages away as repetitions; so sessions and own sender keys are forgotten, and made anew with the
first message of either side. Identity and registration stay: nobody has to pair again. One-time
prekeys get ids that cannot have been given out before, and the server gets fresh ones.
"""

import typing as t

import attrs

from actors.errors import ActorError
from actors.fences import pass_fence
from actors.messages import WriterMail
from storage.api import RecordKind, Storage
from storage.crash_points import crash_point
from storage.errors import SealError
from supervisor.mailbox import Postbox
from whatsapp.device import Device
from whatsapp.e2ee.prekeys import MAX_PREKEY_ID
from whatsapp.errors import LocalProtocolError

JUMP: t.Final = 100_000  # ids of one-time prekeys that may have been used since
REASON: t.Final = (
    "it waited in a database that is older than what was sent: it may have left long ago"
)


class NotStaleError(ActorError):
    """The keys of a connection are as new as is known: there is nothing to recover from."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the keys of {name} are not older than what is known of them; nothing was changed"
        )


class NoDeviceError(ActorError):
    """There is no device whose keys could be renewed, or none that can be read."""


async def check_stale(name: str, storage: Storage) -> None:
    """Raises:
    NotStaleError: the connection is not marked.
    """
    if not await storage.stale_keys(name):
        raise NotStaleError(name)


async def renew_keys(name: str, storage: Storage, writer: Postbox[WriterMail]) -> None:
    """Accept it for a connection that does not run.

    Raises:
        NotStaleError: it is not marked, or not any more.
        NoDeviceError: there is no device, or its keys do not open; nothing was changed.
        StorageError: nothing was changed, unless it failed just when it committed; to be asked
            again, which does no harm.
    """
    await pass_fence(writer, name)
    try:
        found = await storage.load_records(name, RecordKind.DEVICE, [""])
        if "" not in found:
            raise NoDeviceError(f"no phone is linked to {name}; run: zapvisor pair {name}")
        device = Device.from_bytes(found[""])
    except (SealError, LocalProtocolError) as error:
        raise NoDeviceError(
            f"the stored keys of {name} cannot be read ({error}); nothing was changed: put the"
            " secret key back that they were stored with (storage.key_file) and restart the"
            f" daemon, or link the phone anew: zapvisor pair {name}"
        ) from error
    following = (device.next_prekey_id + JUMP - 1) % MAX_PREKEY_ID + 1
    renewed = attrs.evolve(device, next_prekey_id=following)
    own = [jid.signal_address for jid in (device.jid, device.lid) if jid is not None]
    if not await storage.renew_keys(name, renewed.to_bytes(), own, REASON):
        raise NotStaleError(name)
    crash_point("recover.committed")
