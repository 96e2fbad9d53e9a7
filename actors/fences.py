"""Waiting until the writer has settled what was posted before."""

import typing as t

import trio

from actors.messages import Fence, WriterMail
from supervisor.mailbox import Postbox

PATIENCE: t.Final = 60.0  # seconds, twice as long each time
MOST_PATIENCE: t.Final = 3600.0  # seconds


async def pass_fence(writer: Postbox[WriterMail], connection: str | None = None) -> None:
    """Return once everything posted before is settled, however long the database is away:
    everything of a connection, or of all.

    A writer that crashes loses the fence in its hands, so another one is posted now and then.
    """
    patience = PATIENCE
    while True:
        fence = Fence(trio.Event(), connection)
        await writer.post(fence)
        with trio.move_on_after(patience):
            await fence.passed.wait()
        if fence.passed.is_set():
            return
        patience = min(2 * patience, MOST_PATIENCE)
