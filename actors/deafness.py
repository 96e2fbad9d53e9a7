"""The deafness subtask: asks the ear what to do, sends the probe, ends the life for a reset."""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.endings import ConnectionRestartError
from actors.errors import ActorError
from actors.hearing import Ear
from actors.hearing_words import LATE, Kind, Load, Order
from actors.line import Line, NotOnlineError
from storage.api import TrafficHour
from storage.errors import StorageUnavailableError
from whatsapp.content import TargetKey
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.peer import PRIORITY, placeholder_resend_request
from whatsapp.stanzas import MessageStanza

REASON: t.Final = "deaf_suspected"

log: structlog.stdlib.BoundLogger = structlog.get_logger("deafness")


class ConnectionDeafError(ConnectionRestartError):
    """It may not hear: a new socket will tell. At once, and no failure."""


class TrafficRows(t.Protocol):
    """What is read of storage here."""

    async def save_traffic(self, connection: str, hours: cabc.Sequence[TrafficHour]) -> None:
        """See :meth:`storage.api.Storage.save_traffic`."""
        ...

    async def load_traffic(self, connection: str) -> list[TrafficHour]:
        """See :meth:`storage.api.Storage.load_traffic`."""
        ...


class Hearing:
    """What one connection hears; the ear outlives its sockets, and so does this."""

    def __init__(self, name: str, ear: Ear) -> None:
        self.ear = ear
        self._name = name
        self._loaded = False
        self._newest: TargetKey | None = None

    async def remember(self, storage: TrafficRows) -> None:
        """Learn the usual traffic from what is stored, once; store what was learned since. While
        the database is away it has to wait."""
        traffic, finished = self.ear.traffic, list[TrafficHour]()
        try:
            if not self._loaded:
                traffic.load(await storage.load_traffic(self._name))
                self._loaded = True
            if finished := traffic.to_store():
                await storage.save_traffic(self._name, finished)
        except StorageUnavailableError as error:
            traffic.not_stored(finished)
            log.warning("deafness.storage_unavailable", connection=self._name, error=str(error))

    def stanza(self, node: Node) -> None:
        """A stanza came, whatever is in it."""
        match node.tag:
            case "message":
                kind = Kind.PEER if node.text("category") == "peer" else Kind.MESSAGE
            case "receipt" | "notification" | "call":
                kind = Kind.OTHER
            case "success":
                self.ear.logged_in(_time(node))
                return
            case _:
                return
        self.ear.take(kind, offline="offline" in node.attrs, sent_at=_time(node) or 0)

    def message(self, stanza: MessageStanza) -> None:
        """A message of a chat that is kept."""
        if stanza.is_peer:
            return
        self.ear.usual_message()
        if stanza.id is not None:
            author = stanza.sender.bare if stanza.chat.is_group and not stanza.from_me else None
            self._newest = TargetKey(
                remote_jid=str(stanza.chat),
                from_me=stanza.from_me,
                id=stanza.id,
                participant=None if author is None else str(author),
            )

    def receipt(self, node: Node) -> None:
        """Messages of ours are confirmed."""
        self.ear.receipt(node.text("id") or "", str(node.required_jid("from").bare))

    def acknowledged(self, node: Node, own: cabc.Container[Jid]) -> None:
        """The server took a stanza of ours, or refused it."""
        chat = node.jid("from")
        if chat is None or node.text("class") != "message" or node.text("error") is not None:
            return
        if chat.bare not in own:
            self.ear.acknowledged(str(chat.bare))

    def question(self, own: Jid, stanza_id: str) -> bytes:
        """What the own phone is asked: for the newest message, or for one that is nowhere. The
        answer is taken for that of a placeholder that nobody waits for."""
        nothing = TargetKey(remote_jid=str(own), from_me=True, id=stanza_id)
        return placeholder_resend_request([self._newest or nothing])


@attrs.frozen(kw_only=True)
class Probe:
    """How the probe is sent."""

    line: Line
    own: Jid
    new_id: cabc.Callable[[], str]
    commit: cabc.Callable[[], cabc.Awaitable[object]]
    """Commits nothing, on the way that messages go."""


class DeafWatch:
    """The task of one life."""

    def __init__(
        self,
        name: str,
        hearing: Hearing,
        probe: Probe,
        measure: cabc.Callable[[float], Load],
    ) -> None:
        """``measure`` takes the lag of the event loop in seconds."""
        self._name = name
        self._hearing = hearing
        self._probe = probe
        self._measure = measure

    async def run(self, storage: TrafficRows, interval: float) -> t.NoReturn:
        """Judge every ``interval`` seconds.

        Raises:
            ConnectionDeafError: the connection is to be reset.
        """
        ear = self._hearing.ear
        async with trio.open_nursery() as nursery:
            while True:
                due = trio.current_time() + interval
                await trio.sleep_until(due)
                load = self._measure(trio.current_time() - due)
                await self._hearing.remember(storage)
                order = ear.consider(load)
                signals = attrs.asdict(ear.signals())
                log.debug("deafness.signals", connection=self._name, **signals)
                if order is Order.PROBE:
                    log.info("deafness.suspected", connection=self._name, why=ear.why)
                    nursery.start_soon(self._ask)
                elif order is Order.RESET:
                    sentence = f"a new socket, to see whether messages are held back: {ear.why}"
                    raise ConnectionDeafError(REASON, sentence)

    async def _ask(self) -> None:
        """Send the probe, unless the way to the database is what is slow.

        Nothing here is cut off by a deadline: what waits for its commit must not be abandoned.
        """
        ear, probe = self._hearing.ear, self._probe
        began = trio.current_time()
        if await probe.commit() is None or trio.current_time() - began > LATE:
            ear.probe_put_off()
            return
        if not ear.wants_probe:
            return
        stanza_id = probe.new_id()
        question = self._hearing.question(probe.own, stanza_id)
        ear.probe_sent(stanza_id)
        try:
            await probe.line.send_peer(question, priority=PRIORITY, stanza_id=stanza_id)
        except (NotOnlineError, ActorError, RemoteProtocolError) as error:
            log.info("deafness.not_asked", connection=self._name, error=str(error))
            ear.probe_failed()


def _time(node: Node) -> int | None:
    """The server's time of a stanza; what else is wrong with it is found by its reader."""
    try:
        return node.integer("t")
    except RemoteProtocolError:
        return None
