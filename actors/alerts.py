"""The service of alerts: looks, judges, records, and has people told.

It ends nothing and nothing waits for it: whatever goes wrong here is logged, and looked at again
a few seconds later. What is judged, and when, is in ``actors.alert_book``.
"""

import collections
import collections.abc as cabc
import datetime as dt
import typing as t

import attrs
import structlog
import trio

from actors.alert_book import AlertBook, Change
from actors.alert_facts import Snapshot
from actors.alert_outbox import AlertOutbox, Teller
from actors.alert_watches import AlertSettings
from actors.alert_words import Wording, alert_text, notification_of
from actors.maintenance import Quiet, Window
from storage.alerts import Alert, AlertChange, Silence
from storage.alerts import Alerts as AlertStorage
from storage.errors import StorageError, StorageUnavailableError

INTERVAL: t.Final = 10.0  # seconds between two looks
UPKEEP: t.Final = 60.0  # seconds between two marks of what lasts, and two looks at the silences
PATIENCE: t.Final = 3  # attempts to store a change, before people are told without
STANDSTILL: t.Final = 90.0  # seconds between two looks that a process needs that stood still
LOGGED: t.Final = 10  # subjects that a line of the log names
LOADING: t.Final = 5.0  # seconds for a statement of the upkeep

log: structlog.stdlib.BoundLogger = structlog.get_logger("alerts")


@attrs.frozen(kw_only=True)
class AlertPolicy:
    """What the configuration says of alerts."""

    settings: AlertSettings = attrs.field(factory=AlertSettings)
    wording: Wording = attrs.field(factory=Wording)
    windows: tuple[Window, ...] = ()


@attrs.frozen(kw_only=True)
class AlertView:
    """One alert as it is shown."""

    alert: Alert
    silenced_by: str | None = None


class AlertService:
    """All alerts of the daemon."""

    def __init__(
        self,
        storage: AlertStorage,
        look: cabc.Callable[[], cabc.Awaitable[Snapshot]],
        teller: Teller,
        *,
        policy: AlertPolicy,
        wall_clock: cabc.Callable[[], float],
    ) -> None:
        """``look`` takes a few seconds at most, and raises nothing."""
        self._storage = storage
        self._look = look
        self._wall_clock = wall_clock
        self._wording = policy.wording
        self._quiet = Quiet(policy.windows)
        self._outbox = AlertOutbox(storage, teller)
        self._book = AlertBook(policy.settings, wall_clock())
        self._loaded = False
        self._upkeep_at = 0.0  # trio's clock
        self._judged_at: float | None = None  # unix seconds
        self._failures = 0  # of storing changes, in a row
        self._turn = trio.Lock()
        """Of whoever changes the book."""
        self._nudged = trio.Event()

    def use(self, policy: AlertPolicy) -> None:
        """Another configuration is in force."""
        self._book.use(policy.settings)
        self._wording = policy.wording
        self._quiet.windows = policy.windows

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Look every few seconds until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                await self._round(nursery)
                with trio.move_on_after(INTERVAL):
                    await self._nudged.wait()
                self._nudged = trio.Event()

    def nudge(self) -> None:
        """Look now."""
        self._nudged.set()

    async def _round(self, nursery: trio.Nursery) -> None:
        snapshot = await self._look()
        async with self._turn:
            try:
                if snapshot.database_error is None:
                    await self._keep_up()
            except StorageError as error:
                log.warning("alerts.storage_unavailable", error=str(error))
            self._judge(snapshot)
            await self._record(snapshot, nursery)

    # ---- judging -----------------------------------------------------------------------------

    def _judge(self, snapshot: Snapshot) -> None:
        if not self._loaded:
            # What is stored must not fire again: only what says why it cannot be read may.
            snapshot = Snapshot(database_error=snapshot.database_error)
        now = self._wall_clock()
        at = dt.datetime.fromtimestamp(now, dt.UTC)
        if self._judged_at is not None and now - self._judged_at > STANDSTILL:
            self._book.stood_still(now - self._judged_at)
        self._judged_at = now

        def silenced(rule: str, connection: str | None) -> bool:
            return self._quiet.covers(rule, connection, at) is not None

        changes = self._book.evaluate(snapshot, now, silenced)
        self._outbox.post(self._worded(change, now) for change in changes)

    def _worded(self, change: Change, now: float) -> AlertChange:
        sentence = alert_text(change.alert, "en").title
        worded = AlertChange(what=change.what, alert=attrs.evolve(change.alert, sentence=sentence))
        self._log(change, sentence)
        if change.tell is None:
            return worded
        told = notification_of(worded, change.tell, self._wording, now)
        return attrs.evolve(worded, notification=told)

    def _log(self, change: Change, sentence: str) -> None:
        facts: dict[str, t.Any] = {
            "rule": change.alert.rule,
            "severity": change.alert.severity,
            "subjects": list(change.alert.subjects[:LOGGED]),
            "sentence": sentence,
            "told": change.tell is not None,
        }
        match change.what:
            case "fired":
                log.warning("alert.fired", **facts)
            case "repeated":
                log.warning("alert.repeated", **facts)
            case "resolved":
                log.info("alert.resolved", **facts)
            case _:
                log.debug("alert.changed", **facts)

    async def _record(self, snapshot: Snapshot, nursery: trio.Nursery) -> None:
        if not len(self._outbox):
            return
        if snapshot.database_error is None:
            try:
                for key, number in (await self._outbox.save()).items():
                    self._book.stored(key, number)
            except StorageUnavailableError as error:
                log.warning("alerts.storage_unavailable", error=str(error))
                self._failures += 1
            else:
                self._failures = 0
            if self._failures < PATIENCE:  # it may have been stored, and would be told twice
                return
        if self._outbox.untold(trio.current_time()):
            nursery.start_soon(self._outbox.tell)

    # ---- upkeep ------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Load what was firing when the daemon stopped; later, mark what still does."""
        now = trio.current_time()
        if self._loaded and now < self._upkeep_at:
            return
        try:
            with trio.fail_after(LOADING):
                if self._loaded:
                    lasting = [each.key for each in self._book.alerts]
                    if lasting:
                        await self._storage.touch_alerts(lasting, self._wall_clock())
                else:
                    await self.load()
                await self._read_silences()
        except trio.TooSlowError as error:
            raise StorageUnavailableError(f"no answer within {LOADING:g} s") from error
        self._upkeep_at = now + UPKEEP

    async def load(self) -> None:
        """Take up what was firing when the daemon stopped."""
        self._book.load(await self._storage.active_alerts())
        self._loaded = True

    async def _read_silences(self) -> None:
        self._quiet.silences = tuple(await self._storage.silences(since=self._wall_clock()))

    # ---- orders ------------------------------------------------------------------------------

    async def acknowledge(self, alert_id: int, by: str) -> Alert | None:
        """Somebody takes care of it: it is told no more. None: there is no such alert.

        Raises:
            StorageUnavailableError: nothing was changed.
        """
        async with self._turn:
            stored = await self._storage.alert(alert_id)
            if stored is None:
                return None
            taken = self._book.acknowledge(stored.key, by, self._wall_clock())
            if taken is None:
                return stored
            change = AlertChange(
                what="acknowledged", alert=attrs.evolve(taken, sentence=stored.sentence)
            )
            try:
                await self._storage.save_alerts([change])
            except StorageError:
                self._book.unacknowledge(taken.key)
                raise
            log.info("alert.acknowledged", rule=taken.rule, by=by)
            return await self._storage.alert(alert_id)

    async def silence(
        self, connection: str | None, rule: str | None, *, seconds: float, why: str, by: str
    ) -> Silence:
        """Have nobody told for a time.

        Raises:
            StorageUnavailableError: nothing was changed.
        """
        until = self._wall_clock() + seconds
        async with self._turn:  # nobody reads them meanwhile, and takes an older state for the last
            made = await self._storage.add_silence(connection, rule, until=until, why=why, by=by)
            self._quiet.silences = (made, *self._quiet.silences)
        return made

    async def end_silence(self, silence_id: int) -> Silence | None:
        """End one now. None: there is no such silence."""
        async with self._turn:
            ended = await self._storage.end_silence(silence_id)
            self._quiet.silences = tuple(
                ended if ended is not None and each.id == silence_id else each
                for each in self._quiet.silences
            )
        self.nudge()
        return ended

    # ---- what is shown -----------------------------------------------------------------------

    def active(self) -> list[AlertView]:
        """Those that are not resolved, the newest first."""
        return [self.view(alert) for alert in reversed(self._book.alerts)]

    def view(self, alert: Alert) -> AlertView:
        """An alert, and whether anybody is told of it now."""
        at = dt.datetime.fromtimestamp(self._wall_clock(), dt.UTC)
        if alert.resolved_at is not None:
            return AlertView(alert=alert)
        names: list[str | None] = [*alert.subjects] if alert.of_connections else [None]
        reasons = [self._quiet.covers(alert.rule, name, at) for name in names]
        return AlertView(alert=alert, silenced_by=reasons[0] if reasons and all(reasons) else None)

    def windows(self) -> list[str]:
        """The windows of maintenance that are on."""
        at = dt.datetime.fromtimestamp(self._wall_clock(), dt.UTC)
        return [each.name for each in self._quiet.windows if each.lasts(at)]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many alerts there are, by rule and state: firing, acknowledged or silenced."""
        return dict(
            collections.Counter(
                (each.alert.rule, "silenced" if each.silenced_by else each.alert.state)
                for each in self.active()
            )
        )
