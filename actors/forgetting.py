"""Deleting the keys of a connection, by way of the writer: after all that they have opened."""

import trio

from actors.errors import ActorError
from actors.messages import Commit, Settled, WriterMail
from storage.api import Envelope
from supervisor.mailbox import Postbox


class KeysKeptError(ActorError):
    """The database refuses it; the keys are still there."""


async def delete_keys(writer: Postbox[WriterMail], connection: str) -> None:
    """Return once they are gone, however long the database is away.

    Raises:
        KeysKeptError: see there.
    """
    settled, answer = trio.open_memory_channel[Settled](1)
    await writer.post(Commit(Envelope(connection=connection, reset_records=True), 0, settled))
    if (await answer.receive()).outcome is None:
        raise KeysKeptError(f"the keys of {connection} could not be deleted; see the log for why")
