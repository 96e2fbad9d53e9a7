"""Puts a changed configuration in force without stopping the daemon."""

import collections.abc as cabc
import time
import typing as t

import attrs
import structlog
import trio

from actors.assembly import conversation_rules, make_member
from actors.fleet import Fleet
from actors.messages import Fence
from actors.roster import Plan, plan
from actors.writer_inbox import Inbox
from api.ports_daemon import ReloadFacts
from config.errors import ConfigError
from config.model import Config
from daemon.made import Made, adopt, with_made
from daemon.notify import notify, notify_reloading
from storage.api import Storage
from storage.errors import StorageError

REMOVED: t.Final = ("removed", "no longer in the configuration; its conversations stay")
CHANGED: t.Final = ("reload", "stopped to apply the changed configuration")
PATIENCE: t.Final = 5.0  # seconds for what a removed connection has under way to be stored

CUT_OFF: t.Final = ReloadFacts(problems=("it was cut off; the daemon's log tells more",))

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


@attrs.define
class _Order:
    done: trio.Event = attrs.field(factory=trio.Event)
    facts: ReloadFacts = CUT_OFF


class Reloader:
    """The service that reloads, one reload at a time; one under way is carried to its end."""

    def __init__(
        self,
        config: Config,
        load: cabc.Callable[[], Config],
        fleet: Fleet,
        storage: Storage,
        writer: Inbox,
        *,
        made: Made | None = None,
        applied: cabc.Callable[[Config], None] | None = None,
        wall_clock: cabc.Callable[[], float] = time.time,  # noqa: TID251 - the edge
    ) -> None:
        """``load`` reads the configuration anew, or raises ``ConfigError``; ``applied`` is called
        with what is in force from then on. ``config`` includes the connections that were
        ``made`` through the API."""
        self.last: tuple[float, ReloadFacts] | None = None
        """When it was reloaded last (unix seconds), and what came of it."""
        self._wall_clock = wall_clock
        self.config = config
        """The one in force."""
        self.made: Made = {} if made is None else made
        own = [each for each in config.connections if each.name not in self.made]
        self.file = attrs.evolve(config, connections=tuple(own))
        """The same without those that were made: what the file says."""
        self.lock = trio.Lock()
        """Held by whoever changes the fleet."""
        self._applied = applied or (lambda _config: None)
        self._load = load
        self._fleet = fleet
        self._storage = storage
        self._writer = writer
        self._send, self._orders = trio.open_memory_channel[_Order](1)
        self._next: _Order | None = None  # not begun: serves all who ask meanwhile

    def ask(self) -> _Order:
        """Have the configuration reloaded soon; whoever asks meanwhile gets the same answer."""
        if self._next is None:
            self._next = _Order()
            self._send.send_nowait(self._next)
        return self._next

    async def reload(self) -> ReloadFacts:
        """Reload, and what came of it."""
        order = self.ask()
        await order.done.wait()
        return order.facts

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        task_status.started()
        async for order in self._orders:
            self._next = None
            try:
                order.facts = await self._reload()
            finally:
                order.done.set()

    async def _reload(self) -> ReloadFacts:
        notify_reloading()
        try:
            facts = await self._carry_out()
        finally:
            notify("READY=1")
        self.last = (self._wall_clock(), facts)
        if facts.problems:
            log.error("daemon.reload_refused", problems=list(facts.problems))
        else:
            log.info("daemon.reloaded", **attrs.asdict(facts))
        return facts

    async def _carry_out(self) -> ReloadFacts:
        try:
            new = await trio.to_thread.run_sync(self._load)
        except ConfigError as error:
            return ReloadFacts(problems=tuple(str(problem) for problem in error.problems))
        async with self.lock:
            facts = await self.put(with_made(new, self.made))
            if not facts.problems:
                self.file = new
                try:
                    await adopt(self._storage, new, self.made)
                except StorageError as error:
                    log.warning("connection.not_adopted", error=str(error))  # the next reload does
        return facts

    async def put(self, config: Config, removed: tuple[str, str] = REMOVED) -> ReloadFacts:
        """Put a configuration in force; the caller holds ``lock``. ``removed``: what is said of
        connections that are not in it."""
        wanted = plan(self.config, config)
        try:
            for name in (*wanted.added, *wanted.changed, *wanted.rules):
                await self._storage.ensure_connection(name, conversation_rules(wanted.config, name))
        except StorageError as error:
            return ReloadFacts(
                problems=(f"the database is away, so nothing was changed; try again: {error}",)
            )
        self._applied(wanted.config)
        return await self._change(wanted, removed)

    async def _change(self, wanted: Plan, removed: tuple[str, str]) -> ReloadFacts:
        """Change the fleet. What a failing database leaves undone is said, and done by the next
        reload."""
        for name in wanted.removed:
            await self._fleet.remove(name, removed)
        for name in wanted.changed:
            await self._fleet.remove(name, CHANGED)
        fence = Fence(trio.Event())
        with trio.move_on_after(PATIENCE):
            await self._writer.post(fence)
            await fence.passed.wait()
        missing = (*wanted.changed, *wanted.added)
        try:
            rows = {row.name: row for row in await self._storage.connections()} if missing else {}
        except StorageError as error:
            self.config = _without(wanted.config, missing)
            return ReloadFacts(
                problems=(
                    f"the database is away, so these connections are stopped until the next"
                    f" reload: {', '.join(missing)} ({error})",
                )
            )
        for name in missing:
            member = make_member(wanted.config, name, self._fleet.tools, rows[name])
            await self._fleet.add(member)
        self.config = wanted.config
        return ReloadFacts(
            added=wanted.added,
            removed=wanted.removed,
            changed=wanted.changed + wanted.rules,
            unchanged=len(wanted.unchanged),
            restart=wanted.restart,
        )


def _without(config: Config, names: cabc.Collection[str]) -> Config:
    left = tuple(each for each in config.connections if each.name not in names)
    return attrs.evolve(config, connections=left)
