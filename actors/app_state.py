"""App state of one connection: kept in step with the phone, and brought back when it breaks.

Theory of operation. One task per life. Each collection has a time at which it is due; whatever
makes it due (a notification, a key, the end of a backoff) only moves that time. A round asks for
all due collections in one request and applies each answer by itself, so that a broken collection
holds up no other. Cures, in this order: a missing key is asked of the phone and waited for;
what does not verify is replaced by a snapshot, twice at most; then the phone is asked for its own
copy. Only committed steps move a collection, so a crash anywhere repeats at most the last step.
"""

import collections
import collections.abc as cabc
import enum
import math
import typing as t

import attrs
import structlog
import trio

from actors.app_state_steps import Fetch, Position, Post, Stepper
from actors.errors import ActorError
from actors.line import Line, NotOnlineError
from actors.records import RecordCache
from actors.settings import ConnectionSettings, Tools
from storage.errors import StorageError
from supervisor.backoff import Backoff
from whatsapp.appstate import COLLECTIONS, requests, wire
from whatsapp.appstate.errors import MissingKeyError
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import app_state as iq
from whatsapp.iq.core import IqError
from whatsapp.proto import sync_pb2

FIRST_KEYS: t.Final = 30.0  # seconds that a new device waits for the phone to share its keys
ASK_AGAIN: t.Final = 86_400.0  # seconds before the phone is asked for the same thing again
BROKEN_RETRY: t.Final = 3600.0  # seconds between attempts at a broken collection
MAX_SNAPSHOTS: t.Final = 2  # fetched to cure one collection
MAX_REFUSALS: t.Final = 3  # in a row, before a collection is asked for from the start
MAX_RECOVERIES: t.Final = 8  # answers of the phone that wait to be read
MAX_ASKED: t.Final = 4096
BACKOFF: t.Final = Backoff(initial=5.0, maximum=900.0)
NOW: t.Final = -math.inf
NEVER: t.Final = math.inf

log: structlog.stdlib.BoundLogger = structlog.get_logger("app_state")


class SyncState(enum.Enum):
    """What a collection is waiting for."""

    CURRENT = "current"  # nothing
    SYNCING = "syncing"  # its turn
    RETRYING = "retrying"  # the end of a backoff
    WAITING_FOR_KEYS = "waiting_for_keys"
    BROKEN = "broken"  # the phone's copy


@attrs.frozen(kw_only=True)
class CollectionStatus:
    """One collection, for the operator."""

    name: str
    state: SyncState
    version: int
    detail: str = ""  # what went wrong last


class Asked:
    """When the phone was last asked for what. One per connection, shared by its lives."""

    def __init__(self) -> None:
        self._at: collections.OrderedDict[str, float] = collections.OrderedDict()

    def again_at(self, what: str) -> float:
        """When it may be asked again (trio clock)."""
        return self._at.get(what, NOW) + ASK_AGAIN

    def may(self, what: str) -> bool:
        """Whether it may be asked now."""
        return self.again_at(what) <= trio.current_time()

    def note(self, what: str) -> None:
        """It has been asked now."""
        self._at[what] = trio.current_time()
        self._at.move_to_end(what)
        while len(self._at) > MAX_ASKED:
            self._at.popitem(last=False)


@attrs.define(eq=False)
class _Collection:
    """A collection and what is to be done about it."""

    position: Position
    state: SyncState = SyncState.SYNCING
    due_at: float = NEVER  # trio clock
    fresh: bool = False  # what is stored is no base: ask for a snapshot
    breaks: int = 0  # verifications that failed since the last that did not
    failures: int = 0  # other failures in a row
    detail: str = ""
    recovery: sync_pb2.SyncRecovery | None = None  # the phone's copy, not yet applied

    @property
    def name(self) -> str:
        return self.position.name

    @property
    def wants_snapshot(self) -> bool:
        return self.fresh or self.position.state is None

    def succeeded(self) -> None:
        """Everything that came is committed."""
        self.state, self.detail = SyncState.CURRENT, ""
        self.breaks = self.failures = 0
        self.fresh = False

    def wait(self, state: SyncState, due_at: float, error: Exception) -> None:
        """Do nothing until then."""
        self.state, self.due_at, self.detail = state, due_at, str(error)[:256]


class AppState:
    """Serves the app state of one connection for the time of one life."""

    def __init__(
        self,
        name: str,
        cache: RecordCache,
        post: Post,
        tools: Tools,
        settings: ConnectionSettings,
        line: Line,
        fetch: Fetch,
        *,
        own: str | None = None,
        asked: Asked | None = None,
    ) -> None:
        """``post`` commits and gives the outcome; ``own`` is the account's bare address."""
        self._name = name
        self._line = line
        self._tools = tools
        self._timeout = settings.request_timeout
        self._asked = Asked() if asked is None else asked
        self._stepper = Stepper(name, cache, post, tools, fetch, own)
        self._collections = {each: _Collection(Position(each)) for each in COLLECTIONS}
        self._recoveries: collections.deque[bytes] = collections.deque(maxlen=MAX_RECOVERIES)
        self._shares = 0  # of keys, so far
        self._first_keys = trio.Event()
        self._rung = trio.Event()

    # ---- what others tell: none of it waits ----------------------------------------------

    def dirty(self, names: cabc.Iterable[str] | None = None) -> None:
        """Collections changed (None: perhaps all). Those that wait for a cure keep waiting."""
        for name in COLLECTIONS if names is None else names:
            one = self._collections.get(name)
            if one is not None and one.state in (SyncState.CURRENT, SyncState.SYNCING):
                one.due_at = NOW
        self._rung.set()

    def keys_arrived(self) -> None:
        """The phone shared keys; they are in the record cache."""
        self._shares += 1
        self._first_keys.set()
        for one in self._collections.values():
            if one.state is SyncState.WAITING_FOR_KEYS:
                one.due_at = NOW
        self._rung.set()

    def recovery_arrived(self, raw: bytes) -> None:
        """The phone answered a request for its copy of a collection (a ``Message``)."""
        self._recoveries.append(raw)
        self._rung.set()

    def status(self) -> tuple[CollectionStatus, ...]:
        """All collections as they are now."""
        return tuple(
            CollectionStatus(
                name=one.name, state=one.state, version=one.position.version, detail=one.detail
            )
            for one in self._collections.values()
        )

    # ---- the task ------------------------------------------------------------------------

    async def run(self, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all collections in step, for ever."""
        task_status.started()
        if not await self._load():
            with trio.move_on_after(FIRST_KEYS):
                await self._first_keys.wait()
        self.dirty()
        while True:
            await self._due()
            while self._recoveries:
                await self._on_recovery(self._recoveries.popleft())
            now = trio.current_time()
            if due := [one for one in self._collections.values() if one.due_at <= now]:
                await self._round(due)

    async def _load(self) -> bool:
        """Read how far all is; False: there is nothing, and there are no keys to read it with."""
        failures = 0
        while True:
            try:
                for one in self._collections.values():
                    await self._stepper.load(one.position)
                begun = any(one.position.state is not None for one in self._collections.values())
                return begun or await self._stepper.has_keys()
            except StorageError as error:
                failures += 1
                log.warning("app_state.unread", connection=self._name, error=str(error))
                await trio.sleep(self._delay(failures))

    async def _due(self) -> None:
        """Wait until there is something to do."""
        deadline = min(one.due_at for one in self._collections.values())
        if not self._recoveries and deadline > trio.current_time():
            with trio.CancelScope(deadline=deadline):
                await self._rung.wait()
        self._rung = trio.Event()

    async def _round(self, due: cabc.Sequence[_Collection]) -> None:
        """Ask for what is due, all in one request, and apply each answer by itself."""
        for one in due:
            one.due_at = NEVER
        if recovered := [one for one in due if one.recovery is not None]:
            for one in recovered:
                await self._recover(one)
            due = [one for one in due if one not in recovered]
        if not due:
            return
        fresh = {one.name: one.wants_snapshot for one in due}
        wanted = [
            iq.CollectionRequest(
                name=one.name, version=one.position.version, snapshot=fresh[one.name]
            )
            for one in due
        ]
        try:
            node = await self._line.request(
                lambda iq_id: iq.sync_request(iq_id, wanted), self._timeout
            )
            answers = {answer.name: answer for answer in iq.parse_sync_response(node)}
        except (NotOnlineError, RemoteProtocolError) as error:
            for one in due:
                self._later(one, error)
            return
        for one in due:
            answer = answers.get(one.name)
            if answer is None:
                self._later(one, RemoteProtocolError("the server left it out of its answer"))
            elif answer.error is not None:
                self._later(one, answer.error)
                self._doubt(one)
            else:
                await self._take(one, answer, fresh[one.name])

    async def _take(self, one: _Collection, answer: iq.CollectionAnswer, fresh: bool) -> None:
        async def work() -> None:
            moved = await self._stepper.apply(one.position, answer, fresh)
            if fresh and one.position.state is not None and not moved:
                raise RemoteProtocolError("a snapshot was asked for, and none came")
            if answer.more and not moved:
                self._later(one, RemoteProtocolError("the server has more, and sends none of it"))
                return
            one.succeeded()
            if answer.more:
                one.due_at = NOW

        await self._guarded(one, work)

    async def _guarded(
        self, one: _Collection, work: cabc.Callable[[], cabc.Awaitable[None]]
    ) -> None:
        """Do something with a collection; when it fails, see to the cure."""
        shares = self._shares
        try:
            await work()
        except MissingKeyError as error:
            await self._ask_for_keys(one, error, since=shares)
        except (IqError, ActorError) as error:
            self._later(one, error)
            self._doubt(one)
        except (NotOnlineError, StorageError) as error:
            self._later(one, error)
        except RemoteProtocolError as error:
            await self._on_break(one, error)

    # ---- cures ---------------------------------------------------------------------------

    def _later(self, one: _Collection, error: Exception) -> None:
        one.failures += 1
        delay = self._delay(one.failures)
        if isinstance(error, IqError) and error.backoff is not None:
            delay = max(delay, min(error.backoff, BACKOFF.maximum))
        one.wait(SyncState.RETRYING, trio.current_time() + delay, error)
        self._log("app_state.delayed", one, error)

    def _doubt(self, one: _Collection) -> None:
        """What fails again and again may do so for the version that is asked for."""
        one.fresh = one.fresh or one.failures >= MAX_REFUSALS

    async def _ask_for_keys(self, one: _Collection, error: MissingKeyError, *, since: int) -> None:
        """Ask the phone for keys, each at most once a day, and park the collection."""
        names = {f"key {key_id.hex()}": key_id for key_id in sorted(error.key_ids)}
        self._log("app_state.keys_missing", one, error)
        one.wait(SyncState.WAITING_FOR_KEYS, NEVER, error)
        if ask := {name: key_id for name, key_id in names.items() if self._asked.may(name)}:
            request = requests.build_key_request(ask.values())
            await self._send(request, requests.KEY_PRIORITY, ask)
        if self._shares != since:  # perhaps the very keys, while this looked for them
            one.due_at = NOW
        else:
            one.due_at = min(self._ask_again_at(name) for name in names)

    async def _on_break(self, one: _Collection, error: RemoteProtocolError) -> None:
        """Replace what does not verify by a snapshot; then by what the phone itself has."""
        one.breaks += 1
        one.fresh = True
        now = trio.current_time()
        if one.breaks <= MAX_SNAPSHOTS:
            self._log("app_state.broken_step", one, error)
            one.wait(SyncState.RETRYING, now + self._delay(one.breaks), error)
            return
        log.error("app_state.broken", connection=self._name, collection=one.name, error=str(error))
        one.wait(SyncState.BROKEN, now + BROKEN_RETRY, error)
        what = f"collection {one.name}"
        if self._asked.may(what):
            now_unix = int(self._tools.wall_clock())
            request = requests.build_recovery_request(one.name, now_unix)
            await self._send(request, requests.RECOVERY_PRIORITY, (what,))

    async def _send(self, message: bytes, priority: str, what: cabc.Iterable[str]) -> None:
        """Ask the phone for something; if that fails, it counts as not asked."""
        try:
            await self._line.send_peer(message, priority=priority)
        except (NotOnlineError, ActorError, RemoteProtocolError) as error:
            log.warning("app_state.phone_not_asked", connection=self._name, error=str(error))
        else:
            for each in what:
                self._asked.note(each)

    def _ask_again_at(self, what: str) -> float:
        return max(self._asked.again_at(what), trio.current_time() + BACKOFF.maximum)

    # ---- the phone's copy ----------------------------------------------------------------

    async def _on_recovery(self, raw: bytes) -> None:
        try:
            recovered = requests.read_recovery(raw)
            version = 0 if recovered is None else wire.version_of(recovered.recovery) or 0
        except RemoteProtocolError as error:
            log.warning("app_state.recovery_unread", connection=self._name, error=str(error))
            return
        one = None if recovered is None else self._collections.get(recovered.collection)
        if recovered is None or one is None:
            log.warning("app_state.recovery_empty", connection=self._name)
        elif one.state is SyncState.BROKEN or version > one.position.version:
            one.recovery = recovered.recovery
            await self._recover(one)

    async def _recover(self, one: _Collection) -> None:
        async def work() -> None:
            assert one.recovery is not None  # noqa: S101 - the callers saw to it
            await self._stepper.recover(one.position, one.recovery)
            one.recovery = None
            one.succeeded()
            one.due_at = NOW  # what came since

        await self._guarded(one, work)
        if one.state is not SyncState.WAITING_FOR_KEYS:
            one.recovery = None

    def _delay(self, failures: int) -> float:
        return max(BACKOFF.delay(failures, self._tools.uniform()), 1.0)

    def _log(self, event: str, one: _Collection, error: Exception) -> None:
        log.warning(event, connection=self._name, collection=one.name, error=str(error))
