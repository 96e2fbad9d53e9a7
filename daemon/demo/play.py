"""The demo's course: write for a while, let it settle, compare, sum up."""

import collections
import functools
import typing as t

import structlog
import trio

from api.views import ConnectionView
from daemon.demo.audit import audit, newest_ids
from daemon.demo.customers import Customers, close_conversations
from daemon.demo.model import DemoOptions, Progress, Show, Summary
from daemon.demo.stage import Stage, open_stage
from daemon.errors import StartError
from daemon.signals import obey_signals
from simulator.entropy import Entropy

log: structlog.stdlib.BoundLogger = structlog.get_logger("demo")

LOOK: t.Final = 0.5  # seconds between two looks for the screen
CLOSE_EVERY: t.Final = 0.4  # seconds
CRASH_EVERY: t.Final = 2.0  # seconds
RESTART: t.Final = 10.0  # seconds a restart may take
_RATE_WINDOW: t.Final = 8  # looks
_EVENTS: t.Final = 100_000


async def play(options: DemoOptions, show: Show) -> Summary | None:
    """Run the demo; None when it was ended before anything was written."""
    writing, everything = trio.CancelScope(), trio.CancelScope()
    summary = None
    async with trio.open_nursery() as nursery:
        obey = functools.partial(obey_signals, foreground=True)
        await nursery.start(obey, writing.cancel, everything.cancel)
        with everything:
            summary = await _play(options, show, writing)
        nursery.cancel_scope.cancel()
    return summary


async def _play(options: DemoOptions, show: Show, writing: trio.CancelScope) -> Summary | None:
    def say(phase: str) -> None:
        show(_nothing_yet(phase))

    say("starting the simulator")
    async with open_stage(options, say) as stage:
        if writing.cancel_called:
            return None
        run = await _Run.begin(stage, options, show)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.look_now_and_then)
            with writing:
                await run.write()
            run.phase = "settling"
            settled = await run.settle()
            nursery.cancel_scope.cancel()
        if not settled:
            log.warning("demo.not_settled", under_way=stage.backlog(), seconds=options.drain)
        run.phase = "comparing ledger and database"
        await run.look()
        return await run.sum_up()


class _Run:
    """One demo between its first text and its summary."""

    def __init__(
        self,
        stage: Stage,
        options: DemoOptions,
        show: Show,
        skip: dict[str, int],
        before: dict[str, t.Any],
        lives: int,
    ) -> None:
        entropy = Entropy(options.seed).fork("demo")
        self.phase = "customers are writing"
        self._stage = stage
        self._options = options
        self._show = show
        self._skip = skip
        self._before = before
        self._lives = lives
        self._entropy = entropy
        self._customers = Customers(
            stage.simulator,
            list(stage.accounts.values()),
            stage.backlog,
            rate=options.rate,
            entropy=entropy.fork("customers"),
        )
        self._began = trio.current_time()
        self._seconds = 0.0
        self._looks: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RATE_WINDOW)

    @classmethod
    async def begin(cls, stage: Stage, options: DemoOptions, show: Show) -> "_Run":
        """Note how things are before the first text.

        Raises:
            StartError: the seed would repeat ids that an earlier run may have used.
        """
        storage = stage.core.storage
        skip = await newest_ids(storage, stage.accounts)
        if options.seed is not None and any(skip.values()):
            raise StartError(
                f"{options.data_dir} holds messages of an earlier run, and a seed gives the same"
                " ids again: leave --seed out, or choose an empty --data-dir"
            )
        before = await storage.statistics()
        run = cls(stage, options, show, skip, before, lives=0)
        run._lives = await run._count_lives()
        return run

    async def write(self) -> None:
        """Let customers write, and things go wrong, for as long as asked."""
        closing = functools.partial(
            close_conversations,
            self._stage.core.storage,
            CLOSE_EVERY,
            self._entropy.fork("closing"),
        )
        with trio.move_on_after(self._options.seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._customers.write)
                nursery.start_soon(closing)
                nursery.start_soon(self._crash_now_and_then)

    async def settle(self) -> bool:
        """Wait until everything written has been stored and acknowledged."""
        self._stage.simulator.faults.clear()
        settled = await self._stage.settle(self._options.drain)
        self._seconds = trio.current_time() - self._began
        return settled

    async def _crash_now_and_then(self) -> t.NoReturn:
        """The last connection is the unlucky one."""
        name, account = list(self._stage.accounts.items())[-1]
        simulator, fleet = self._stage.simulator, self._stage.core.fleet
        while True:
            await trio.sleep(CRASH_EVERY)
            match self._entropy.below(3):
                case 0:
                    simulator.drop(account.pn)  # the network goes away without a word
                case 1:
                    await simulator.end("503", account.pn)  # the server is in trouble
                case _:
                    # The actor is cancelled in the middle of its work; once begun it is finished.
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + RESTART):
                        await fleet.restart(name)

    async def look_now_and_then(self) -> t.NoReturn:
        """Keep the screen up to date."""
        while True:
            await self.look()
            await trio.sleep(LOOK)

    async def look(self) -> None:
        """Show how things are."""
        now = await self._stage.core.storage.statistics()
        stored = now["messages"] - self._before["messages"]
        moment = trio.current_time()
        self._looks.append((moment, stored))
        since, then = self._looks[0]
        views = [ConnectionView.of(each) for each in self._stage.core.fleet.status()]
        self._show(
            Progress(
                phase=self.phase,
                seconds=moment - self._began,
                written=self._customers.tally.owed,
                stored=stored,
                duplicates=now["duplicates"] - self._before["duplicates"],
                reopened=now["reopened"] - self._before["reopened"],
                restarts=await self._count_lives() - self._lives,
                rate=(stored - then) / (moment - since) if moment > since else 0.0,
                connections=views,
            )
        )

    async def sum_up(self) -> Summary:
        """Compare ledger and database; count the rest in the database, too."""
        stage, storage = self._stage, self._stage.core.storage
        compared = await audit(stage.simulator, storage, stage.accounts, self._skip)
        after = await storage.statistics()
        return Summary(
            offered=compared.offered,
            stored=compared.stored,
            duplicates_offered=stage.simulator.ledger.duplicates_offered(),
            duplicates_skipped=after["duplicates"] - self._before["duplicates"],
            lost=compared.lost,
            stored_twice=compared.stored_twice,
            unexpected=compared.unexpected,
            conversations=sum(after["conversations"].values()),
            reopened=after["reopened"] - self._before["reopened"],
            restarts=await self._count_lives() - self._lives,
            seconds=round(self._seconds, 3),
            messages_per_second=round(compared.stored / self._seconds, 1) if self._seconds else 0.0,
        )

    async def _count_lives(self) -> int:
        """How often a connection began to connect, from the recorded transitions."""
        count = 0
        for name in self._stage.accounts:
            events = await self._stage.core.storage.events(name, _EVENTS)
            count += sum(event["state"] == "connecting" != event["previous"] for event in events)
        return count


def _nothing_yet(phase: str) -> Progress:
    return Progress(
        phase=phase, seconds=0, written=0, stored=0, duplicates=0, reopened=0, restarts=0, rate=0
    )
