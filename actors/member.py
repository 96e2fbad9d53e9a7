"""One connection of the fleet: its supervisor, its policies and the state that is shown."""

import collections.abc as cabc
import datetime as dt
import math
import typing as t

import attrs
import structlog
import trio

from actors.aftermath import Aftermath, minutes
from actors.connection import Connection, masked
from actors.errors import ConnectionEndedError, ConnectionStoppedError
from actors.hearing_words import DeafSuspicion
from actors.pairing import PairingBoard
from actors.settings import ConnectionSettings, Counts, Tools
from storage.api import ConnectionEvent, ConnectionRow
from storage.figures import SyncCounts
from supervisor.backoff import Backoff
from supervisor.spec import ChildSpec, OnLimit, Restart, RestartIntensity, RestartPolicy
from supervisor.state import ChildState, ChildStatus
from supervisor.tree import Supervisor
from whatsapp.jid import Jid

CURED_BY_PAIRING: t.Final = frozenset({"logged_out", "locked", "keys_unreadable", "stale_keys"})
END_PATIENCE: t.Final = 5.0  # seconds for a life to end once its socket has
SHUTDOWN: t.Final = ("shutdown", "the daemon stopped")
_WAITING: t.Final = frozenset({"backoff", "parked", "conflict", "banned"})

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
    until: dt.datetime | None = None  # when a ban is over
    last_heartbeat_at: dt.datetime | None = None  # the last login or answered ping
    lag_seconds: float = 0.0  # that the oldest stanza in hand has waited, its commit included
    logins: int = 0  # since the daemon started, as are the following
    ends: cabc.Mapping[str, int] = attrs.field(factory=dict)  # of its lives, by reason code
    processed: int = 0  # what its sockets delivered, by outcome
    skipped: int = 0
    errors: int = 0
    unrecorded: SyncCounts = attrs.field(factory=SyncCounts)
    """Of these, what no row of sync statistics holds yet."""
    phone_seen_at: float | None = None  # unix seconds: the newest thing that the phone sent


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
        self.turn = trio.Lock()
        """Of orders that may start it: what one does to a connection at rest stays undisturbed."""
        self._row = row
        self._stored_jid = None if row.jid is None else masked(Jid.parse(row.jid))
        self._tools = tools
        self._since = tools.wall_clock()
        self._shown = ("stopped", "not_started", "not started yet")
        self._until: float | None = None  # unix seconds
        self._resting: tuple[str, str, str, float | None] | None = None
        """State, reason, sentence and end of what was shown before a shutdown."""
        if row.state is not None:
            until = None if row.until is None else row.until.timestamp()
            self._resting = (row.state, row.reason, row.sentence, until)
        self._retries = 0
        self._next_attempt_at: float | None = None
        self._retry_limit = supervision.retry_limit
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
        self._aftermath = Aftermath(
            name,
            park_interval=supervision.park_interval,
            stable_after=supervision.stable_after,
            wall_clock=tools.wall_clock,
            uniform=tools.uniform,
        )
        tools.admission.version.configured(settings.version)
        self.code_for: str | None = None
        """The number to pair with by code; None: by scanning."""
        self.begun = trio.Event()
        """The life that goes on, or the next one."""
        self._over = trio.Event()  # the last life
        self.leaving = False
        """An operator is logging it out."""
        self._ended: ConnectionEndedError | None = None  # how the last life ended
        self._standing: ConnectionEndedError | None = None  # from before the daemon started
        self._logged_in_at: float | None = None  # trio clock
        self.stop_reason = SHUTDOWN

    # ---- its lives

    async def _live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._ended, self._over, self._logged_in_at = None, trio.Event(), None
        self.begun.set()
        try:
            if self._standing is not None:
                self._ended, self._standing = self._standing, None
                raise self._ended
            await self._run(task_status)
        finally:
            self.begun = trio.Event()
            self._over.set()

    async def _run(self, task_status: "trio.TaskStatus[None]") -> None:
        try:
            with self.connection.outages.life(lambda: self.stop_reason[0]):
                await self.connection.run(task_status=task_status)
        except ConnectionEndedError as error:
            admission = self._tools.admission
            self.counts.ended(error.reason)
            innocent = admission.ended(self.name, error.reason)
            since = self._logged_in_at
            self._ended = self._aftermath.of(
                error,
                online_for=0.0 if since is None else trio.current_time() - since,
                innocent=innocent,
                held=admission.outage.holding,
            )
            if self._ended is error:
                raise
            raise self._ended from error

    def restore(self) -> bool:
        """Take up the state of before the daemon stopped; False: only a person can start it."""
        if self._resting is None:
            return True
        standing = self._aftermath.restored(*self._resting)
        if isinstance(standing, ConnectionStoppedError):
            self.report(standing.state, standing.reason, standing.sentence)
            return False
        self._standing = standing
        return True

    def wish(self) -> None:
        """An operator starts it."""
        self._aftermath.forget()
        self._tools.admission.wish(self.name)

    def come(self) -> None:
        """If it waits to be tried again, let it be now; its failures still count."""
        if self._shown[0] == "backoff":
            self.supervisor.hasten_child(self.name)

    async def was_logged_out(self) -> bool:
        """Whether the life that ends just now ends because WhatsApp unlinked the device."""
        with trio.move_on_after(END_PATIENCE):
            await self._over.wait()
        return self._ended is not None and self._ended.reason == "logged_out"

    # ---- what is known of it

    @property
    def own_addresses(self) -> tuple[Jid, ...]:
        """The account's bare addresses, as far as they are known."""
        if self.connection.own:
            return self.connection.own
        return () if self._row.jid is None else (Jid.parse(self._row.jid).bare,)

    @property
    def linked(self) -> bool:
        """Whether pairing would replace a device that works, or may work again."""
        dead = self._aftermath.dead
        reasons = {self._shown[1], None if dead is None else dead.reason}
        return self.paired and not reasons & CURED_BY_PAIRING

    def report(
        self, state: str, reason: str, sentence: str, *, plan: str = "", until: float | None = None
    ) -> None:
        """Show a state, and record the transition.

        ``plan``: what happens next, for the record; the status shows it as it is at the moment.
        """
        previous = self._shown[0]
        if (state, reason) == self._shown[:2]:
            return
        self._shown, self._until = (state, reason, sentence), until
        now = self._tools.wall_clock()
        if state != previous:
            self._since = now
        if reason != SHUTDOWN[0]:
            self._resting = (state, reason, sentence, until)
        log.info(
            "connection.state",
            connection=self.name,
            previous=previous,
            state=state,
            reason=reason,
            sentence=sentence,
            retry=self._retries,
        )
        self._tools.journal.note(
            ConnectionEvent(
                connection=self.name,
                previous=previous,
                state=state,
                reason=reason,
                sentence=sentence + plan,
                retry=self._retries,
                at=now,
                until=until,
            )
        )
        if state in ("syncing", "online"):
            self.paired = True
        if state == "syncing":
            self._logged_in_at = trio.current_time()
            self._aftermath.works()
        self._tools.admission.shown(self.name, state, reason)

    def forgotten(self, reason: str, sentence: str) -> None:
        """The keys are gone: another pairing starts from nothing."""
        self.paired = False
        self._stored_jid = self.connection.jid = None
        self._aftermath.works()
        self.report("logged_out", reason, sentence)

    @property
    def rests(self) -> bool:
        """Whether it neither runs nor will by itself."""
        child = self.supervisor.status(self.name).state
        return child is ChildState.STOPPED and self._shown[0] not in _WAITING

    def adopted(self, jid: Jid | None, reason: str, sentence: str) -> None:
        """The keys are those of another program's device now; it is started by a person."""
        self.paired = True
        self._stored_jid = self.connection.jid = None if jid is None else masked(jid)
        self._aftermath.works()
        self.report("stopped", reason, sentence)

    def _observe(self, status: ChildStatus) -> None:
        """Translate what the supervisor did into the state that people see."""
        self._retries = status.failures
        self._next_attempt_at = status.next_attempt_at
        ended = self._ended
        if ended is None:
            reason = "crashed"
            sentence = (
                f"a defect of zapvisor ended it: {status.last_error or 'without an error'};"
                " the log holds the details, please report them"
            )
        else:
            reason, sentence = ended.reason, ended.sentence
        match status.state:
            case ChildState.BACKOFF:
                state = "backoff" if ended is None else ended.state
                until = None if ended is None else ended.until
                self.report(state, reason, sentence, plan=self._plan(status, state), until=until)
            case ChildState.FATAL:
                self.report("parked", reason, self._given_up(status, sentence))
            case ChildState.STOPPED if self.leaving:
                pass  # told when it is done
            case ChildState.STOPPED if isinstance(ended, ConnectionStoppedError):
                self.report(ended.state, reason, sentence)
            case ChildState.STOPPED:
                self.report("stopped", *self.stop_reason)
            case _:
                pass

    def _plan(self, status: ChildStatus, state: str) -> str:
        """What the supervisor does next, where the sentence does not say so itself."""
        if state != "backoff" or status.next_attempt_at is None:
            return ""
        wait = max(0.0, status.next_attempt_at - trio.current_time())
        again = "at once" if wait < 0.05 else f"in {wait:.1f} s"
        counted = f", retry {status.failures} of {self._retry_limit}" if status.failures else ""
        return f"; next try {again}{counted}"

    def _given_up(self, status: ChildStatus, sentence: str) -> str:
        failed = f"failed {status.failures} times in a row, now parked; the last time: {sentence}"
        if status.next_attempt_at is None:
            cure = f"it is not tried again; once the cause is gone, run: zapvisor start {self.name}"
        else:
            every = minutes(status.next_attempt_at - trio.current_time())
            cure = f"it is tried every {every}; to try at once, run: zapvisor start {self.name}"
        return f"{failed}; {cure}"

    def status(self) -> ConnectionStatus:
        """The connection now."""
        state, reason, sentence = self._shown
        left = None
        if self._next_attempt_at is not None and state in _WAITING:
            left = max(0.0, self._next_attempt_at - trio.current_time())
        newest, beaten = self.counts.last_message_at, self.counts.last_heartbeat_at
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
            until=None if self._until is None else _utc(self._until),
            last_heartbeat_at=None if beaten is None else _utc(beaten),
            lag_seconds=self.counts.lag(),
            logins=self.counts.logins,
            ends=dict(self.counts.ends),
            processed=self.counts.processed,
            skipped=self.counts.skipped,
            errors=self.counts.errors,
            unrecorded=self.counts.unrecorded(),
            phone_seen_at=self.counts.phone_seen_at,
        )


def _utc(unix: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix, dt.UTC)
