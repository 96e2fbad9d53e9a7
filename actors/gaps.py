"""Outages of a connection, and the offline queue that follows each: counted for the gap ledger.

The rows are in :mod:`storage.gaps`; here are the steps that move them, and when each is posted:
an outage begins at the end of a life that was logged in, or with the daemon that finds no such
end; the login after it brings the queue, whose stanzas are counted by the envelopes they become.
"""

import collections.abc as cabc
import contextlib
import typing as t

import attrs
import structlog
import trio

from actors.errors import ConnectionEndedError
from actors.messages import Commit, Settled, WriterMail
from actors.purpose import Flight, Purpose
from storage.api import Envelope, Outcome, Verdict
from storage.crash_points import crash_point
from storage.gaps import GapStep, OutageBegan, QueueAnnounced, QueueDrained, QueuedStanza
from supervisor.crash import leaves
from supervisor.errors import MailboxFullError
from supervisor.mailbox import Postbox
from whatsapp.errors import RemoteProtocolError
from whatsapp.node import Node

QUEUED: t.Final = ("message", "receipt", "notification", "call")  # what waits in the queue
SILENT: t.Final = frozenset({"silent", "heartbeat_missed"})
"""Endings of a socket that was dead before: since its last byte."""
DEAF: t.Final = frozenset({"deaf_suspected", "loop_stalled"})
"""Endings of one that answered, and brought nothing else: since its last stanza."""
MAX_SEEN: t.Final = 16_384  # stanzas whose second copy is known, of one queue

log: structlog.stdlib.BoundLogger = structlog.get_logger("gaps")


def committed(step: GapStep) -> None:
    """A step is in the ledger; for the crash points."""
    match step:
        case OutageBegan():
            crash_point("gap.began")
        case QueueAnnounced():
            crash_point("gap.announced")
        case QueueDrained():
            crash_point("gap.drained")


class Drain:
    """The offline queue of one login, counted. Knows no clock, and nothing else either."""

    def __init__(self, login: str) -> None:
        """``login`` names it, and no other."""
        self.login = login
        self.announced: int | None = None
        self.messages: int | None = None
        self.arrived = 0
        """Stanzas that came, each once."""
        self.ended = False
        self._seen: set[int] = set()
        self._others = 0
        self._number = 0

    def announce(self, total: int | None, messages: int | None = None) -> None:
        """WhatsApp says how much waits. Of several announcements the greatest holds: one more
        of the same queue must not look like more to come."""
        self.announced = _greater(self.announced, total)
        self.messages = _greater(self.messages, messages)

    def arrive(self, stanza: Node) -> bool:
        """A stanza of the queue; False: it came before, word for word."""
        copy = _fingerprint(stanza)
        if copy in self._seen:
            return False
        if len(self._seen) < MAX_SEEN:
            self._seen.add(copy)
        self.arrived += 1
        return True

    def pass_over(self) -> None:
        """A stanza that arrived needs no envelope: the next step counts it too."""
        self._others += 1

    def count(self, is_message: bool) -> QueuedStanza:
        """The step of a stanza that arrived, for its envelope."""
        return QueuedStanza(
            login=self.login,
            number=self._next(),
            is_message=is_message,
            others=self._take_others(),
        )

    def end(self, at: float) -> QueueDrained:
        """The step that says that nothing more comes; unix seconds."""
        self.ended = True
        return QueueDrained(
            login=self.login, number=self._next(), at=at, others=self._take_others()
        )

    @property
    def missing(self) -> int:
        """Announced stanzas that did not come."""
        return max(0, (self.announced or 0) - self.arrived)

    @property
    def all_came(self) -> bool:
        """Whether as much came as was announced; where nothing was, nobody knows."""
        return self.announced is not None and not self.missing

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _take_others(self) -> int:
        others, self._others = self._others, 0
        return others


class Outages:
    """What one connection missed, from life to life."""

    def __init__(
        self, name: str, writer: Postbox[WriterMail], wall_clock: cabc.Callable[[], float]
    ) -> None:
        """``wall_clock`` gives unix seconds."""
        self.logged_in = False
        """Whether the life under way is, or was."""
        self.heard_at: cabc.Callable[[], float] | None = None
        """When bytes last came in this life (trio clock)."""
        self.stanza_at = 0.0
        """When a stanza last came that answers nothing (trio clock)."""
        self.wall_clock = wall_clock
        self._name = name
        self._writer = writer
        self._began: OutageBegan | None = None

    async def resume(self) -> None:
        """The daemon starts. Unless an outage goes on already, the last daemon died with the
        connection alive."""
        self._began = OutageBegan(kind="died", reason="daemon_died", at=None)
        await self._writer.post(self._mail(self._began))

    @contextlib.contextmanager
    def life(self, stop_reason: cabc.Callable[[], str]) -> cabc.Iterator[None]:
        """Around each life: its end begins an outage, if it was logged in.

        ``stop_reason`` says why, when it is stopped.
        """
        self.logged_in, self.heard_at = False, None
        try:
            yield
        except BaseException as error:
            if self.logged_in:
                self._over(error, stop_reason)
            raise

    def take_began(self) -> OutageBegan | None:
        """The outage before this login, once."""
        began, self._began = self._began, None
        return began

    def _over(self, error: BaseException, stop_reason: cabc.Callable[[], str]) -> None:
        kind, reason, at = "ended", "crashed", trio.current_time()
        causes = list(leaves(error))
        if any(isinstance(cause, trio.Cancelled) for cause in causes):
            kind, reason = "stopped", stop_reason()
        elif isinstance(error, ConnectionEndedError):
            reason = error.reason
        if reason in SILENT and self.heard_at is not None:
            kind, at = "silent", min(at, self.heard_at())
        elif reason in DEAF:
            kind, at = "silent", min(at, self.stanza_at)
        began_at = self.wall_clock() - (trio.current_time() - at)
        self._began = OutageBegan(kind=kind, reason=reason, at=began_at)
        try:
            self._writer.post_nowait(self._mail(self._began))
        except MailboxFullError:
            log.info("gap.told_later", connection=self._name, reason=reason)

    def _mail(self, began: OutageBegan) -> Commit:
        reply, _nobody_waits = trio.open_memory_channel[Settled](1)
        return Commit(Envelope(connection=self._name, gap=began), 0, reply)


class OfflineQueue:
    """Follows the offline queue of one life through its intake, and counts what it becomes."""

    def __init__(self, name: str, salt: bytes, outages: Outages, in_flight: Flight) -> None:
        """``salt`` and the time name the login."""
        self._name = name
        self._outages = outages
        self._in_flight = in_flight
        self._drain = Drain(f"{outages.wall_clock():.3f}-{salt.hex()}")
        self._told = False  # the ledger knows this login
        self._overdue = False
        self._horizon: float | None = None
        self._counting: Node | None = None
        self._verdicts = dict.fromkeys(Verdict, 0)

    def logged_in(self, success: Node) -> None:
        """The login succeeded; the stanza tells WhatsApp's time."""
        self._outages.logged_in = True
        with contextlib.suppress(RemoteProtocolError):
            at = success.integer("t")
            self._horizon = None if at is None else float(at)

    @contextlib.asynccontextmanager
    async def taking(self, node: Node) -> cabc.AsyncIterator[None]:
        """Around all that is done with a stanza that came."""
        if node.tag != "iq":
            self._outages.stanza_at = trio.current_time()
        queued = node.tag in QUEUED and node.text("offline") is not None
        if queued and self._drain.arrive(node):
            await self._tell()
            self._counting = node
        yield
        if self._counting is not None:
            self._drain.pass_over()
        self._counting = None
        if self._overdue and self._drain.all_came:
            await self._end()

    async def post(
        self, envelope: Envelope, purpose: Purpose, *, quarantine: str | None = None
    ) -> None:
        """Post an envelope, which counts the stanza that is owed an answer for it."""
        if (node := self._counting) is not None and purpose.node is node:
            self._counting = None
            step = self._drain.count(is_message=node.tag == "message")
            envelope = attrs.evolve(envelope, gap=step)
            purpose = attrs.evolve(purpose, queued=True)
        await self._in_flight.post(envelope, purpose, quarantine=quarantine)

    async def announced(self, total: int | None, messages: int | None) -> None:
        """What waits, as WhatsApp announces it."""
        if self._drain.ended:
            return
        self._drain.announce(total, messages)
        self._told = False
        await self._tell()

    async def completed(self, total: int | None) -> None:
        """The end marker came."""
        if not self._drain.ended:
            await self.announced(total, None)
            await self._end()

    async def overdue(self) -> None:
        """The end marker should have come by now: the counts alone must tell."""
        self._overdue = True
        if self._drain.ended:
            return
        if self._counting is None and self._drain.all_came:
            await self._end()
        else:
            log.warning("gap.unfinished", **self._facts())

    def settled(self, purpose: Purpose, outcome: Outcome) -> None:
        """An envelope of this life is committed."""
        if purpose.queued:
            self._verdicts[outcome.verdict] += 1
        if purpose.drained:
            unread = self._verdicts[Verdict.PLACEHOLDER] + self._verdicts[Verdict.QUARANTINED]
            if self._drain.missing or unread:
                log.warning("gap.open", **self._facts())
            else:
                log.info("gap.drained", **self._facts())

    async def _tell(self) -> None:
        """Let the ledger know of this login, before anything that counts for it."""
        if self._told:
            return
        self._told = True
        step = QueueAnnounced(
            login=self._drain.login,
            number=0,
            at=self._outages.wall_clock(),
            announced=self._drain.announced,
            messages=self._drain.messages,
            horizon=self._horizon,
            began=self._outages.take_began(),
        )
        await self._in_flight.post(Envelope(connection=self._name, gap=step), Purpose())

    async def _end(self) -> None:
        if not self._drain.ended:
            step = self._drain.end(self._outages.wall_clock())
            envelope = Envelope(connection=self._name, gap=step)
            await self._in_flight.post(envelope, Purpose(drained=True))

    def _facts(self) -> dict[str, t.Any]:
        return {
            "connection": self._name,
            "announced": self._drain.announced,
            "arrived": self._drain.arrived,
            "missing": self._drain.missing,
            "undecryptable": self._verdicts[Verdict.PLACEHOLDER],
            "quarantined": self._verdicts[Verdict.QUARANTINED],
        }


def _fingerprint(node: Node) -> int:
    """The same for the same content; of any node that can be received."""
    content = node.content
    if isinstance(content, tuple):
        return hash((node.tag, *node.attrs.items(), *map(_fingerprint, content)))
    return hash((node.tag, *node.attrs.items(), content))


def _greater(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
