"""Gives what is in quarantine to the writer again, with the code of now."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from actors.errors import ActorError
from actors.line import NotOnlineError
from actors.messages import Commit, Replay, Settled
from actors.reading import message_of
from actors.rereading import origin_of_message, own_addresses
from actors.writer_inbox import Inbox
from storage.api import UNDECRYPTABLE, Envelope, ReceivedMessage, Storage
from storage.quarantine import QuarantinedStanza, QuarantineRow
from whatsapp.content import NONE, read_content
from whatsapp.content_kinds import KINDS
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid

PATIENCE: t.Final = 20.0  # seconds until an attempt is settled; shorter than a request may take


class NoWayOutError(ActorError):
    """A row that no attempt can bring out of the quarantine; the text says why."""


class SlowRetryError(ActorError):
    """An attempt under way that is not settled yet."""


class Replayer(t.Protocol):
    """What is needed of the fleet."""

    async def replay(self, name: str, replay: Replay) -> None:
        """Have a live connection read a stanza again; ``NotOnlineError``: there is none."""
        ...


class Restorer:
    """Tries rows of the quarantine again, on order."""

    def __init__(self, storage: Storage, writer: Inbox, fleet: Replayer) -> None:
        self._storage = storage
        self._writer = writer
        self._fleet = fleet

    async def retry(self, row_id: int) -> QuarantineRow | None:
        """Try a row once more; how it is afterwards. None: there is no such row. What is resolved
        already stays as it is.

        Raises:
            NoWayOutError: nothing was kept that could be stored.
            NotOnlineError: its stanza can be opened by its live connection only.
            SlowRetryError: it is under way still.
        """
        found = await self._storage.quarantined_stanza(row_id)
        if found is None:
            return None
        with trio.move_on_after(PATIENCE) as patience:
            match found.row.way_out:
                case "message" if found.message is not None:
                    await self._store(found, found.message)
                case "stanza":
                    await self._read_again(found)
                case "resolved":
                    pass
                case _:
                    raise NoWayOutError(_lost(found.row))
        if patience.cancelled_caught:
            raise SlowRetryError(
                f"row {row_id} is being tried, and not settled within {PATIENCE:g} s;"
                " look at it again in a while"
            )
        after = await self._storage.quarantined_stanza(row_id)
        return None if after is None else after.row

    async def _store(self, found: QuarantinedStanza, message: ReceivedMessage) -> None:
        own = (await own_addresses(self._storage)).get(found.row.connection, ())
        envelope = Envelope(
            connection=found.row.connection,
            message=read_anew(message, own),
            stanza=found.stanza,
            resolves=found.row.id,
        )
        reply, answer = trio.open_memory_channel[Settled](1)
        await self._writer.post(Commit(envelope, 0, reply))
        await answer.receive()

    async def _read_again(self, found: QuarantinedStanza) -> None:
        replay = Replay(found.row.id, found.stanza)
        try:
            await self._fleet.replay(found.row.connection, replay)
        except NotOnlineError as error:
            raise NotOnlineError(
                f"row {found.row.id} holds a stanza that was never opened, and only its live"
                f" connection can: {error}; start {found.row.connection}, then try again"
            ) from error
        await replay.done.wait()


def read_anew(message: ReceivedMessage, own: cabc.Sequence[Jid]) -> ReceivedMessage:
    """The message as the present code reads its bytes; as it was, where they tell nothing."""
    if message.kind == UNDECRYPTABLE or message.kind not in KINDS or not message.raw:
        return message
    origin = origin_of_message(message, own)
    if origin is None:
        return message
    try:
        content = read_content(message.raw)
    except RemoteProtocolError:
        return message
    if content.kind == NONE:
        return message
    return attrs.evolve(message_of(content, origin), ordinal=message.ordinal)


def _lost(row: QuarantineRow) -> str:
    if row.opened:
        return (
            f"row {row.id} was opened and held no message; its keys are used, so it can never be"
            " read again"
        )
    return f"nothing was kept of row {row.id} that could be stored"
