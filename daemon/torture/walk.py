"""Walks the crash points: at each of them the daemon dies once, and nothing is lost by it.

The database is one that outlives the daemon, so that a death costs a moment. Each new daemon is
armed with the next point while what the last one left undone is still under way.
"""

import collections.abc as cabc
import contextlib
import typing as t
from pathlib import Path

import attrs
import httpx
import structlog
import trio

from config.load import load_config
from daemon.errors import StartError
from daemon.torture.audit import Findings, compare, open_gaps
from daemon.torture.load import Load
from daemon.torture.logs import read_logs
from daemon.torture.stage import Say, Stage, open_stage, pair, settle, tend
from daemon.wiring import storage_of
from simulator.entropy import Entropy
from simulator.errors import SimulatorError
from storage.crash_points import POINTS
from storage.embedded import EmbeddedPostgres

log: structlog.stdlib.BoundLogger = structlog.get_logger("torture")

NAMES: t.Final = ("sales", "support")
WALKED: t.Final = tuple(each for each in POINTS if not each.startswith("recover."))
"""All but what needs a database of the past: see ``tests/system/test_stale_keys.py``."""
SPARE: t.Final = "spare"  # is linked when pairing has to die
DEADLINE: t.Final = 60.0  # seconds for one point; machines are shared
AGAIN: t.Final = 1.5  # seconds until what leads to a point is done once more
SETTLE: t.Final = 120.0  # seconds


@attrs.frozen(kw_only=True)
class WalkSummary:
    """What a walk ends with."""

    points: int  # to be reached
    reached: list[str]
    not_reached: list[str]
    seconds: float
    findings: Findings
    settled: bool
    quarantined: int
    malformed: int
    gaps_open: int
    unexplained: list[str]

    @property
    def failures(self) -> list[str]:
        """What is not as it must be."""
        found = self.findings
        counts = {
            "points not reached": len(self.not_reached),
            "messages lost": found.lost,
            "stored twice": found.stored_twice,
            "out of order": found.out_of_order,
            "unexpected": found.unexpected,
            "sent twice": found.outbox_sent_twice,
            "said to be sent and not there": found.outbox_lost,
            "malformed stanzas that left no trace": max(0, self.malformed - self.quarantined),
            "gaps that stay open": self.gaps_open,
            "unexplained restarts": len(self.unexplained),
        }
        wrong = [f"{count} {what}" for what, count in counts.items() if count]
        return [*wrong, *([] if self.settled else ["not settled in time"])]


async def walk(directory: Path, say: Say, points: cabc.Sequence[str] = WALKED) -> WalkSummary:
    """Die at each point in turn; ``directory`` is one of ``stage.kept_on_failure``.

    Raises:
        StartError: the daemon does not start, or a connection does not pair.
    """
    began = trio.current_time()
    outside = directory / "outside"
    await trio.Path(outside).mkdir()
    await trio.Path(outside).chmod(0o711)  # for the database's own user
    async with (
        EmbeddedPostgres(outside, temporary=True) as server,
        open_stage(directory, NAMES, seed=1, say=say, dsn=server.dsn, spare=(SPARE,)) as stage,
    ):
        load = Load(
            stage.simulator, stage.keeper, stage.team, rate=1, entropy=Entropy(1).fork("walk")
        )
        walker = _Walker(stage, load)
        for number, point in enumerate(points):
            say(f"{number + 1} of {len(points)}: {point}")
            await walker.die_at(point, points[number + 1] if number + 1 < len(points) else None)
        stage.simulator.faults.clear()
        settled = await settle(stage, load, SETTLE)
        await stage.keeper.leave()
        async with storage_of(load_config(stage.config, {})) as storage:
            findings = await compare(stage.simulator, storage, stage.team, load)
            quarantined = (await storage.statistics())["quarantined"]
            gaps = await open_gaps(storage, stage.team)
        reached = [point for point in points if stage.keeper.kills_by_point[point]]
        return WalkSummary(
            points=len(points),
            reached=reached,
            not_reached=[point for point in points if point not in reached],
            seconds=round(trio.current_time() - began, 1),
            findings=findings,
            settled=settled,
            quarantined=quarantined,
            malformed=load.malformed,
            gaps_open=gaps,
            unexplained=[*stage.keeper.unexplained, *read_logs(stage.keeper.logs).unexplained],
        )


class _Walker:
    """Leads the daemon to one point after the other."""

    def __init__(self, stage: Stage, load: Load) -> None:
        self._stage = stage
        self._load = load
        self._paired = False

    async def die_at(self, point: str, following: str | None) -> None:
        """Do what leads there until the daemon dies of it, or too long; its successor is armed
        with the following point."""
        keeper = self._stage.keeper
        if keeper.kills_by_point[point]:
            return  # met on the way already, by what the last one left undone
        lead = LEADS[point.partition(".")[0]]
        if keeper.armed != point:
            keeper.arm_next(point)
            await keeper.kill()
        if following is not None:
            keeper.arm_next(following)
        with trio.move_on_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tend, self._stage)
                nursery.start_soon(self._lead_on, lead)
                await keeper.until_died_at(point)
                nursery.cancel_scope.cancel()
        await keeper.until_up()

    async def _lead_on(self, lead: "_Lead") -> t.NoReturn:
        while True:
            await self._stage.keeper.until_up()
            with contextlib.suppress(httpx.HTTPError, StartError, SimulatorError):
                await lead(self)
            await trio.sleep(AGAIN)

    # ---- what leads where

    async def message(self) -> None:
        """Somebody writes."""
        await self._load.text()

    async def placeholder(self) -> None:
        """Somebody writes what does not open here, and something that is withheld."""
        account = self._account
        self._stage.simulator.faults.corrupt(account.pn)
        await self._load.text(account)
        self._stage.simulator.faults.withhold(account.pn)
        await self._load.text(account)

    async def quarantine(self) -> None:
        """The server sends nonsense."""
        await self._load.nonsense()

    async def stanza(self) -> None:
        """Something is settled that is no message."""
        await self._load.setting()

    async def outbox(self) -> None:
        """A connection sends."""
        await self._load.send_once(NAMES[0])

    async def resend(self) -> None:
        """A recipient cannot read what a connection sends."""
        for customer in self._load.customers:
            customer.phone.forget(self._account)
        await self.outbox()

    async def pairing(self) -> None:
        """The spare connection is linked, once more if need be."""
        with trio.move_on_after(15.0):
            await pair(self._stage.keeper, self._stage.simulator, SPARE)

    async def prekeys(self) -> None:
        """The server has none of our keys left when the connection comes."""
        for device in self._account.companions:
            device.keys.one_time.clear()
        self._stage.simulator.drop(self._account.pn)
        await trio.lowlevel.checkpoint()

    async def history(self) -> None:
        """The phone tells old messages, more than one part of them."""
        await self._load.old_messages(150)

    async def app_state(self) -> None:
        """The phone changes a setting."""
        await self._load.setting()

    async def media(self) -> None:
        """Somebody sends a picture."""
        await self._load.picture()

    async def gap(self) -> None:
        """A connection breaks, and misses something."""
        self._stage.simulator.drop(self._account.pn)
        await self._load.text(self._account)

    async def pulse(self) -> None:
        """Time passes; and the daemon is stopped in order, as soon as it waits to die of that."""
        if self._stage.keeper.armed == "pulse.ended":
            await self._stage.keeper.terminate()

    @property
    def _account(self) -> t.Any:
        return self._stage.team[NAMES[0]]


_Lead: t.TypeAlias = cabc.Callable[[_Walker], cabc.Awaitable[None]]
LEADS: t.Final[cabc.Mapping[str, _Lead]] = {
    "link": _Walker.message,
    "message": _Walker.message,
    "writer": _Walker.message,
    "commit": _Walker.message,
    "placeholder": _Walker.placeholder,
    "quarantine": _Walker.quarantine,
    "stanza": _Walker.stanza,
    "outbox": _Walker.outbox,
    "resend": _Walker.resend,
    "pairing": _Walker.pairing,
    "prekeys": _Walker.prekeys,
    "history": _Walker.history,
    "app_state": _Walker.app_state,
    "media": _Walker.media,
    "gap": _Walker.gap,
    "pulse": _Walker.pulse,
    "epoch": _Walker.pulse,
}
"""What leads to the points of each family."""
