"""All connections of the daemon: one one-child supervisor each, and what is known of them."""

import collections.abc as cabc
import datetime as dt
import math
import typing as t

import attrs
import structlog
import trio

from actors.connection import Connection, masked
from actors.errors import (
    AlreadyPairedError,
    ConnectionEndedError,
    ConnectionStoppedError,
    UnknownConnectionError,
)
from actors.hearing import DeafSuspicion
from actors.line import Line, NotOnlineError
from actors.messages import Commit, Record, Replay, Settled
from actors.pairing import PairingBoard, PairingView
from actors.sender import Sender
from actors.settings import ConnectionSettings, Counts, Tools
from storage.api import ConnectionEvent, ConnectionRow, Envelope, Outcome
from supervisor.backoff import Backoff
from supervisor.errors import MailboxFullError, NotRunningError
from supervisor.spec import ChildSpec, OnLimit, Restart, RestartIntensity, RestartPolicy
from supervisor.state import ChildState, ChildStatus
from supervisor.tree import Supervisor
from whatsapp.iq import core
from whatsapp.iq.session import logout_request
from whatsapp.jid import Jid
from whatsapp.pairing_code import phone_digits

CURED_BY_PAIRING: t.Final = frozenset({"logged_out", "locked", "keys_unreadable"})
LOGGED_OUT: t.Final = (
    "logged_out_by_operator",
    "logged out by an operator; its keys are deleted, its conversations stay",
)
END_PATIENCE: t.Final = 5.0  # seconds for a life to end once its socket has
SHUTDOWN: t.Final = ("shutdown", "the daemon stopped")

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleet")


@attrs.frozen(kw_only=True)
class ConnectionStatus:
    """One connection at one moment, for people."""

    name: str
    state: str
    since: dt.datetime
    reason: str
    sentence: str
    retries: int
    paired: bool
    jid: str | None  # masked
    last_message_at: dt.datetime | None
    messages: int
    duplicates: int
    undecryptable: int
    quarantined: int
    in_flight: int
    next_attempt_in: float | None  # seconds
    deaf: int  # how often it was found not to hear, and reset, since the daemon started
    deaf_suspicion: DeafSuspicion | None


@attrs.frozen(kw_only=True)
class FleetSettings:
    """How connections are supervised; times in seconds."""

    retry_limit: int = 30
    backoff_initial: float = 1.0
    backoff_max: float = 60.0
    stable_after: float = 120.0
    park_interval: float | None = 900.0  # None: no trials after the limit
    stop_timeout: float = 5.0

    def policy(self) -> RestartPolicy:
        """The same in the words of the supervisor."""
        return RestartPolicy(
            intensity=RestartIntensity(self.retry_limit),
            backoff=Backoff(initial=self.backoff_initial, maximum=self.backoff_max),
            stable_after=self.stable_after,
            trial_interval=self.park_interval,
        )


class Member:
    """One connection of the fleet: its supervisor, its board and its shown state."""

    def __init__(
        self,
        name: str,
        settings: ConnectionSettings,
        tools: Tools,
        supervision: FleetSettings,
        row: ConnectionRow,
    ) -> None:
        self.name = name
        self.board = PairingBoard(name)
        self.counts = Counts()
        self.paired = row.paired
        self.wanted = row.wanted
        self._row = row
        self._stored_jid = None if row.jid is None else masked(Jid.parse(row.jid))
        self._tools = tools
        self._since = tools.wall_clock()
        self._shown = ("stopped", "not_started", "not started yet")
        self._retries = 0
        self._next_attempt_at: float | None = None
        self.connection = Connection(
            name,
            settings,
            tools,
            report=self.report,
            board=self.board,
            counts=self.counts,
        )
        self.supervisor = Supervisor(
            f"connection:{name}",
            [
                ChildSpec(
                    id=name,
                    start=self._live,
                    restart=Restart.PERMANENT,
                    start_timeout=math.inf,  # the actor has its own deadline, behind the fence
                    shutdown_timeout=supervision.stop_timeout,
                    autostart=False,
                )
            ],
            supervision.policy(),
            on_limit=OnLimit.FATAL,
            observer=self._observe,
            uniform=tools.uniform,
        )
        self.code_for: str | None = None
        """The number to pair with by code; None: by scanning."""
        self._over = trio.Event()  # the last life
        self.leaving = False
        """An operator is logging it out."""
        self._ended: ConnectionEndedError | None = None  # how the last life ended
        self.stop_reason = SHUTDOWN

    async def _live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._ended, self._over = None, trio.Event()
        try:
            with self.connection.outages.life(lambda: self.stop_reason[0]):
                await self.connection.run(task_status=task_status)
        except ConnectionEndedError as error:
            self._ended = error
            raise
        finally:
            self._over.set()

    async def was_logged_out(self) -> bool:
        """Whether the life that ends just now ends because WhatsApp unlinked the device."""
        with trio.move_on_after(END_PATIENCE):
            await self._over.wait()
        return self._ended is not None and self._ended.reason == "logged_out"

    @property
    def own_addresses(self) -> tuple[Jid, ...]:
        """The account's bare addresses, as far as they are known."""
        if self.connection.own:
            return self.connection.own
        return () if self._row.jid is None else (Jid.parse(self._row.jid).bare,)

    @property
    def linked(self) -> bool:
        """Whether pairing would replace a device that works, or may work again."""
        return self.paired and self._shown[1] not in CURED_BY_PAIRING

    def report(self, state: str, reason: str, sentence: str) -> None:
        """Show a state, and record the transition."""
        previous = self._shown[0]
        if (state, reason) == self._shown[:2]:
            return
        self._shown = (state, reason, sentence)
        if state != previous:
            self._since = self._tools.wall_clock()
        log.info(
            "connection.state",
            connection=self.name,
            previous=previous,
            state=state,
            reason=reason,
            sentence=sentence,
            retry=self._retries,
        )
        event = ConnectionEvent(
            connection=self.name,
            previous=previous,
            state=state,
            reason=reason,
            sentence=sentence,
            retry=self._retries,
            at=self._tools.wall_clock(),
        )
        try:
            self._tools.writer.post_nowait(Record(event))
        except MailboxFullError:
            log.warning("connection.event_dropped", connection=self.name, state=state)
        if state in ("syncing", "online"):
            self.paired = True

    def forgotten(self, reason: str, sentence: str) -> None:
        """The keys are gone: another pairing starts from nothing."""
        self.paired = False
        self._stored_jid = self.connection.jid = None
        self.report("logged_out", reason, sentence)

    def _observe(self, status: ChildStatus) -> None:
        """Translate what the supervisor did into the state that people see."""
        self._retries = status.failures
        self._next_attempt_at = status.next_attempt_at
        ended = self._ended
        reason = "crashed" if ended is None else ended.reason
        sentence = (status.last_error or "it ended") if ended is None else ended.sentence
        match status.state:
            case ChildState.BACKOFF:
                self.report("backoff", reason, sentence)
            case ChildState.FATAL:
                self.report("parked", reason, f"gave up after {status.failures} tries: {sentence}")
            case ChildState.STOPPED if self.leaving:
                pass  # told when it is done
            case ChildState.STOPPED if isinstance(ended, ConnectionStoppedError):
                self.report(ended.state, reason, sentence)
            case ChildState.STOPPED:
                self.report("stopped", *self.stop_reason)
            case _:
                pass

    def status(self) -> ConnectionStatus:
        """The connection now."""
        state, reason, sentence = self._shown
        left = None
        if self._next_attempt_at is not None and state in ("backoff", "parked"):
            left = max(0.0, self._next_attempt_at - trio.current_time())
        newest = self.counts.last_message_at
        return ConnectionStatus(
            name=self.name,
            state=state,
            since=_utc(self._since),
            reason=reason,
            sentence=sentence,
            retries=self.supervisor.status(self.name).failures,
            paired=self.paired,
            jid=self.connection.jid or self._stored_jid,
            last_message_at=self._row.last_message_at if newest is None else _utc(newest),
            messages=self._row.messages + self.counts.stored,
            duplicates=self._row.duplicates + self.counts.duplicates,
            undecryptable=self._row.undecryptable + self.counts.undecryptable,
            quarantined=self._row.quarantined + self.counts.quarantined,
            in_flight=self.counts.in_flight(),
            next_attempt_in=left,
            deaf=self.counts.deaf,
            deaf_suspicion=self.counts.deaf_suspicion(),
        )


class Fleet:
    """Starts, stops and shows connections; knows them by the names of the configuration."""

    def __init__(self, members: cabc.Sequence[Member], tools: Tools) -> None:
        self._members = {member.name: member for member in members}
        self._tools = tools
        self._nursery: trio.Nursery | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All connections, in the order of the configuration."""
        return tuple(self._members)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the supervisors of all connections; start those that were not stopped."""
        try:
            async with trio.open_nursery() as self._nursery:
                for member in self._members.values():
                    await self._nursery.start(member.supervisor.run)
                    await self._take_up(member)
                task_status.started()
                await trio.sleep_forever()  # a fleet without a connection may get one
        finally:
            self._nursery = None

    def committed(
        self, envelopes: cabc.Sequence[Envelope], outcomes: cabc.Sequence[Outcome]
    ) -> None:
        """Count what the writer committed: from sockets, from the history, of our own."""
        at = self._tools.wall_clock()
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            member = self._members.get(envelope.connection)
            if member is None:
                continue
            if envelope.message is not None:
                member.counts.take(envelope.message, outcome, at)
            member.counts.quarantined -= outcome.resolved

    @property
    def tools(self) -> Tools:
        """What new members are to be made with."""
        return self._tools

    async def add(self, member: Member) -> None:
        """Take up one more connection, as at the start of the daemon."""
        if self._nursery is None:
            raise NotRunningError("the fleet is not running")
        self._members[member.name] = member
        await self._nursery.start(member.supervisor.run)
        await self._take_up(member)

    async def remove(self, name: str, reason: tuple[str, str]) -> None:
        """Stop a connection and forget it; what is stored of it stays."""
        member = self._member(name)
        await self._end(member, reason)
        member.report("stopped", *reason)
        member.supervisor.stop()
        del self._members[name]

    async def _take_up(self, member: Member) -> None:
        if member.paired:
            await member.connection.outages.resume()
        if not member.paired:
            sentence = f"no phone is linked; run: zapvisor pair {member.name}"
            member.report("stopped", "not_paired", sentence)
        elif not member.wanted:
            member.report("stopped", "stopped", "stopped by an operator, or autostart is off")
        else:
            await self._begin(member)

    def status(self, name: str | None = None) -> list[ConnectionStatus]:
        """One connection, or all."""
        members = self._members.values() if name is None else [self._member(name)]
        return [member.status() for member in members]

    async def start(self, name: str) -> None:
        """Run a connection, now and after a restart of the daemon."""
        member = self._member(name)
        await self._tools.storage.set_wanted(name, True)
        await self._begin(member)

    async def stop(self, name: str) -> None:
        """Stop a connection, now and after a restart of the daemon."""
        member = self._member(name)
        await self._tools.storage.set_wanted(name, False)
        await self._end(member, ("stopped", "stopped by an operator"))

    async def restart(self, name: str) -> None:
        """Stop a connection if it runs, then start it."""
        member = self._member(name)
        await self._tools.storage.set_wanted(name, True)
        await self._in_full(self._start_anew, member, ("restart", "stopped to be started again"))

    async def pair(self, name: str, *, force: bool = False, phone: str | None = None) -> None:
        """Begin to pair; follow it with :meth:`wait_pairing`.

        With ``phone``, a number in international form, there is a code to type on that phone
        instead of one to scan.

        Raises:
            AlreadyPairedError: it is linked to a phone, as far as is known, and ``force`` is
                not set.
            LocalProtocolError: ``phone`` is no phone number.
        """
        member = self._member(name)
        if member.linked and not force:
            raise AlreadyPairedError(name)
        member.code_for = None if phone is None else phone_digits(phone)
        await self._tools.storage.set_wanted(name, True)
        await self._in_full(self._start_anew, member, ("pairing", "stopped to be paired"))

    def line(self, name: str) -> Line:
        """The way to WhatsApp of one connection; there at all times, useful while online."""
        return self._member(name).connection.line

    def own_addresses(self, name: str) -> tuple[Jid, ...]:
        """The bare addresses of a connection's account, the phone number first; empty: nobody's."""
        return self._member(name).own_addresses

    def sender(self, name: str) -> Sender[t.Any] | None:
        """Who sends for a connection, while it is alive."""
        return self._member(name).connection.sender

    async def replay(self, name: str, replay: Replay) -> None:
        """Have a live connection read a stanza again.

        Raises:
            NotOnlineError: there is none.
        """
        await self._member(name).connection.replay(replay)

    async def logout(self, name: str) -> None:
        """Unlink the device from its phone, then forget its keys; conversations stay.

        Raises:
            NotOnlineError: WhatsApp can be told only over a live connection; nothing changed.
            IqError: WhatsApp refused; nothing changed.
        """
        member = self._member(name)
        device = member.connection.device_jid
        if device is None:
            raise NotOnlineError(f"{name} is not online; start it before logging it out")
        line = member.connection.line
        member.leaving = True  # the server may end the stream before it answers
        try:
            try:
                core.require_result(await line.request(lambda iq_id: logout_request(iq_id, device)))
            except NotOnlineError:
                if not await member.was_logged_out():
                    raise
            await self._tools.storage.set_wanted(name, False)
            await self._in_full(self._forget, member, LOGGED_OUT)
        finally:
            member.leaving = False

    async def _forget(self, member: Member, reason: tuple[str, str]) -> None:
        """Stop a connection that WhatsApp has unlinked, and delete its keys."""
        await self._end(member, reason)
        settled, answer = trio.open_memory_channel[Settled](1)
        envelope = Envelope(connection=member.name, reset_records=True)
        await self._tools.writer.post(Commit(envelope, 0, settled))
        await answer.receive()
        member.forgotten(*reason)

    def pairing(self, name: str) -> PairingView:
        """The pairing of a connection now."""
        return self._member(name).board.view()

    async def wait_pairing(self, name: str, after: int) -> PairingView:
        """Wait for a version of the pairing above ``after``; the caller sets the deadline."""
        return await self._member(name).board.wait(after)

    async def _end(self, member: Member, reason: tuple[str, str]) -> None:
        member.stop_reason = reason
        try:
            await member.supervisor.stop_child(member.name)
        finally:
            member.stop_reason = SHUTDOWN

    async def _start_anew(self, member: Member, reason: tuple[str, str]) -> None:
        await self._end(member, reason)
        if reason[0] == "pairing":
            member.board.request(member.code_for)
        await self._begin(member)

    async def _in_full(
        self,
        order: cabc.Callable[[Member, tuple[str, str]], cabc.Awaitable[None]],
        member: Member,
        reason: tuple[str, str],
    ) -> None:
        """Carry an order out to its end, even if whoever gave it goes away meanwhile."""
        if self._nursery is None:
            raise NotRunningError("the fleet is not running")
        done = trio.Event()

        async def carry_out() -> None:
            try:
                await order(member, reason)
            except NotRunningError:
                log.info("connection.order_dropped", connection=member.name, order=reason[0])
            finally:
                done.set()

        self._nursery.start_soon(carry_out)
        await done.wait()

    async def _begin(self, member: Member) -> None:
        """Start now, and follow it in the background: how it goes is shown in the status."""
        if self._nursery is None:
            raise NotRunningError("the fleet is not running")
        await self._nursery.start(self._start_child, member)

    async def _start_child(self, member: Member, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()  # the next line launches the child before it first waits
        try:
            await member.supervisor.start_child(member.name)
        except NotRunningError:
            log.info("connection.start_dropped", connection=member.name, reason="shutting down")

    def _member(self, name: str) -> Member:
        try:
            return self._members[name]
        except KeyError:
            raise UnknownConnectionError(name, self._members) from None


def _utc(unix: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix, dt.UTC)
