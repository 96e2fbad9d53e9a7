"""The service that applies the rules of retention.

A sweep goes through the messages of each connection by id, some at a time, and strips those to
which a rule applies. A step that took long makes the next one smaller; between two steps there is
a pause. A sweep that is cut short begins anew: what is stripped already costs little to pass.
"""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs
import structlog
import trio

from storage.api import ConnectionRow
from storage.erasure import RetentionRun, RetentionStep, Rule
from storage.errors import StorageError

FIRST: t.Final = 300.0  # seconds after the start
INTERVAL: t.Final = 6 * 3600.0  # seconds between two rounds
SMALLEST: t.Final = 50  # messages looked at in one step
LARGEST: t.Final = 1000
LARGEST_DRY: t.Final = 20_000  # when nothing is changed
LONG: t.Final = 0.05  # seconds: a step that takes longer is halved, one of half of it doubled
PAUSE: t.Final = 0.1  # seconds between two steps, and at least as long as the step took
PATIENCE: t.Final = 60  # seconds that a step waits for more important work
RETRIES: t.Final = 5  # of one step
SHORT_RULE: t.Final = 35 * 86400.0  # seconds; a rule for less than that is warned of

log: structlog.stdlib.BoundLogger = structlog.get_logger("retention")


class RetentionStorage(t.Protocol):
    """What is asked of storage; see ``storage.erasure.Erasing``."""

    async def connections(self) -> list[ConnectionRow]:
        """Every connection."""
        ...

    async def retain(
        self, connection: str, rule: Rule, *, after: int, window: int, now: float, dry: bool
    ) -> RetentionStep:
        """One step of a rule."""
        ...

    async def retain_rest(self, cutoff: float, limit: int) -> int:
        """What else is too old."""
        ...

    async def record_retention(self, run: RetentionRun) -> None:
        """Remember a sweep."""
        ...

    async def retention_runs(self, *, limit: int = 50) -> list[RetentionRun]:
        """What was removed."""
        ...


@attrs.frozen(kw_only=True)
class Preview:
    """What a rule would remove now."""

    rule: str
    connection: str
    messages: int
    files: int


class Retention:
    """See the module. ``rules`` may be changed while it runs."""

    def __init__(
        self,
        storage: RetentionStorage,
        rules: cabc.Sequence[Rule],
        remove_files: cabc.Callable[[], cabc.Awaitable[int]],
        clock: cabc.Callable[[], float],
        busy: cabc.Callable[[], bool] = lambda: False,
    ) -> None:
        """``clock``: the wall clock that says what is old enough to be deleted. ``busy``: whether
        more important work waits for the database."""
        self.rules = tuple(rules)
        self._storage = storage
        self._remove_files = remove_files
        self._clock = clock
        self._busy = busy

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Sweep until cancelled."""
        task_status.started()
        self._warn()
        await trio.sleep(FIRST)
        while True:
            try:
                await self.sweep()
            except StorageError as error:
                log.warning("retention.failed", error=str(error))
            await trio.sleep(INTERVAL)

    def use(self, rules: cabc.Sequence[Rule]) -> None:
        """Other rules are in force from the next sweep on."""
        if tuple(rules) != self.rules:
            self.rules = tuple(rules)
            self._warn()

    def _warn(self) -> None:
        for rule in self.rules:
            if rule.after < SHORT_RULE:
                log.warning(
                    "retention.short_rule",
                    rule=rule.text,
                    advice="a message may be stripped while its conversation is still of use, and"
                    " before history that a phone sends late has come; 35d or more is usual",
                )

    async def sweep(self) -> int:
        """Apply all rules once; how many messages and files lost their content.

        Raises:
            StorageError: the rest is left for the next sweep.
        """
        total = 0
        for rule in self.rules:
            for name in await self._connections(rule):
                total += await self._apply(rule, name)
            if rule.kinds is None and not rule.files_only and not rule.connections:
                await self._rest(rule)
        if removed := await self._remove_files():
            log.info("retention.files_removed", files=removed)
        return total

    async def _rest(self, rule: Rule) -> None:
        while True:
            if not await self._storage.retain_rest(self._clock() - rule.after, LARGEST):
                return
            await trio.sleep(PAUSE)

    async def preview(self, seconds: float) -> tuple[list[Preview], bool]:
        """What each rule would remove now, where that is anything; False: there was no time for
        all of it.

        Raises:
            StorageError: it could not be counted.
        """
        found = []
        with trio.move_on_after(seconds) as scope:
            for rule in self.rules:
                for name in await self._connections(rule):
                    messages, files = await self._pass(rule, name, self._clock(), dry=True)
                    if messages or files:
                        found.append(
                            Preview(rule=rule.text, connection=name, messages=messages, files=files)
                        )
        return found, not scope.cancelled_caught

    async def runs(self, limit: int) -> list[RetentionRun]:
        """What sweeps have removed, the newest first."""
        return await self._storage.retention_runs(limit=limit)

    async def _connections(self, rule: Rule) -> list[str]:
        names = [row.name for row in await self._storage.connections()]
        return [name for name in names if not rule.connections or name in rule.connections]

    async def _apply(self, rule: Rule, name: str) -> int:
        now = self._clock()
        messages, files = await self._pass(rule, name, now, dry=False)
        if messages or files:
            await self._storage.record_retention(
                RetentionRun(
                    connection=name,
                    rule=rule.text,
                    began_at=_utc(now),
                    ended_at=_utc(self._clock()),
                    cutoff=_utc(now - rule.after),
                    messages=messages,
                    files=files,
                )
            )
            log.info(
                "retention.removed", connection=name, rule=rule.text, messages=messages, files=files
            )
        return messages + files

    async def _pass(self, rule: Rule, name: str, now: float, *, dry: bool) -> tuple[int, int]:
        """Go through all messages of a connection; how many messages and files."""
        after, window, failures = 0, SMALLEST, 0
        messages = files = 0
        while True:
            began = trio.current_time()
            try:
                step = await self._storage.retain(
                    name, rule, after=after, window=window, now=now, dry=dry
                )
            except StorageError:
                # Most often a lock of somebody else's: that is waited for outside a transaction.
                failures += 1
                if failures > RETRIES:
                    raise
                window = max(SMALLEST, window // 2)
                await trio.sleep(2.0**failures)
                continue
            failures = 0
            took = trio.current_time() - began
            messages, files = messages + step.messages, files + step.files
            if step.last_id is None:
                return messages, files
            after = step.last_id
            if took > LONG and not dry:
                window = max(SMALLEST, window // 2)
            elif took < LONG / 2:
                window = min(LARGEST_DRY if dry else LARGEST, 2 * window)
            await trio.sleep(0.0 if dry else max(PAUSE, took))
            for _second in range(PATIENCE):
                if dry or not self._busy():
                    break
                await trio.sleep(1.0)


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
