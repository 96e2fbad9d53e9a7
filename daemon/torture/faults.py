"""Carries out the plan, lane by lane."""

import collections
import collections.abc as cabc
import math
import typing as t

import attrs
import structlog
import trio

from daemon.torture.plan import Fault, lane_of
from daemon.torture.stage import Stage
from simulator.model import Device
from simulator.queue import Entry
from simulator.session import State
from simulator.tcp_proxy import Flow
from whatsapp.jid import Jid

log: structlog.stdlib.BoundLogger = structlog.get_logger("torture")

UP_DEADLINE: t.Final = 180.0  # seconds for the daemon to be there again
BREATH: t.Final = 1.0  # seconds that a new daemon has at least, however late the plan is
REACH_DEADLINE: t.Final = 6.0  # seconds for a crash point to be reached
LATENCY: t.Final = 0.05  # seconds per stanza of a slow server
_FLOWS: t.Final[cabc.Mapping[str, Flow]] = {
    "tcp_stall": Flow(stalled=True),
    "tcp_delay": Flow(delay=0.15),
    "tcp_bytes": Flow(singly=512),
}
"""How bytes move, both ways, while a fault of the network lasts."""
_LOOK: t.Final = 0.1  # seconds


class Executioner:
    """Strikes when the plan says so; late faults are left out once the time is over."""

    def __init__(self, stage: Stage, faults: cabc.Sequence[Fault], seconds: float) -> None:
        self.done: collections.Counter[str] = collections.Counter()
        self.late = 0
        self.not_reached: list[str] = []
        """Crash points that were waited for in vain."""
        self.when_ended: cabc.Callable[[], None] = _nothing
        """Called at the end of each fault."""
        self._stage = stage
        self._faults = faults
        self._seconds = seconds
        self._began = 0.0
        self._armed: dict[Fault, int] = {}  # crashes: deaths at their points before them

    async def run(self) -> None:
        """Carry out everything."""
        self._began = trio.current_time()
        lanes: dict[str, list[Fault]] = {}
        for fault in self._faults:
            lanes.setdefault(lane_of(fault), []).append(fault)
        async with trio.open_nursery() as nursery:
            for faults in lanes.values():
                nursery.start_soon(self._run_lane, faults)

    async def _run_lane(self, faults: cabc.Sequence[Fault]) -> None:
        for number, fault in enumerate(faults):
            await trio.sleep_until(self._began + fault.at)
            if trio.current_time() > self._began + self._seconds:
                self.late += 1
                continue
            following = faults[number + 1] if number + 1 < len(faults) else None
            log.info("torture.fault", **attrs.asdict(fault))
            await self._strike(fault, following)
            self.when_ended()
            self.done[fault.kind] += 1
            if lane_of(fault) == "daemon":
                await trio.sleep(BREATH)

    # ---- one fault

    async def _strike(self, fault: Fault, following: Fault | None) -> None:
        match lane_of(fault):
            case "daemon":
                await self._on_daemon(fault, following)
            case "database":
                await self._on_database(fault)
            case "server":
                await self._on_server(fault)
            case _:
                await self._on_network(fault)

    async def _on_daemon(self, fault: Fault, following: Fault | None) -> None:
        keeper = self._stage.keeper
        with trio.fail_after(UP_DEADLINE):
            await keeper.until_up()
            if fault.kind == "crash":
                await self._crash(fault, following)
                return
            self._arm(following)
            await (keeper.terminate() if fault.kind == "term" else keeper.kill())
            await keeper.until_up()

    def _arm(self, fault: Fault | None) -> None:
        """Let the next run die at a crash point, so that it need not be killed for that again."""
        if fault is not None and fault.kind == "crash":
            keeper = self._stage.keeper
            self._armed[fault] = keeper.kills_by_point[fault.point]
            keeper.arm_next(_target(fault))

    async def _crash(self, fault: Fault, following: Fault | None) -> None:
        keeper = self._stage.keeper
        died = keeper.kills_by_point[fault.point] > self._armed.get(fault, math.inf)
        if not died and keeper.armed != _target(fault):
            self._arm(fault)
            await keeper.kill()
        self._arm(following)
        with trio.move_on_after(REACH_DEADLINE) as patience:
            await keeper.until_died_at(fault.point, self._armed[fault])
        if patience.cancelled_caught:
            self.not_reached.append(fault.point)  # it may still get there, which counts then
        await keeper.until_up()

    async def _on_database(self, fault: Fault) -> None:
        if fault.kind == "pg_kill":
            self._stage.database.kill()
            return
        self._stage.database.stop()
        try:
            await trio.sleep(fault.seconds)
        finally:
            self._stage.database.go_on()

    async def _on_server(self, fault: Fault) -> None:
        simulator, faults = self._stage.simulator, self._stage.simulator.faults
        target = self._target(fault)
        match fault.kind:
            case "drop":
                simulator.drop(target)
            case "half_open":
                simulator.half_open(target)
            case "515" | "503" | "conflict":
                await simulator.end(fault.kind, target)
            case "stall":
                faults.stall(target)
                await trio.sleep(fault.seconds)
                faults.stall(target, on=False)
            case "slow":
                faults.latency = LATENCY
                await trio.sleep(fault.seconds)
                faults.latency = 0.0
            case "refuse" | "restart":
                faults.refuse_connections = True
                if fault.kind == "restart":
                    simulator.drop()
                await trio.sleep(fault.seconds)
                faults.refuse_connections = False
            case "duplicate":
                faults.duplicate(target, fault.count)
            case "reorder":
                faults.reorder(target, fault.count)
            case "lose_acks":
                faults.lose_acks(target, fault.count)
            case "corrupt":
                faults.corrupt(target, fault.count)
            case "withhold":
                faults.withhold(target, fault.count)
            case other:
                raise ValueError(other)

    async def _on_network(self, fault: Fault) -> None:
        proxy = self._stage.proxy
        match fault.kind:
            case "tcp_cut":
                proxy.reset()
            case "tcp_refuse":
                proxy.shut()
                proxy.reset()
                await trio.sleep(fault.seconds)
                proxy.open()
            case kind if kind in _FLOWS:
                proxy.flow(up=_FLOWS[kind], down=_FLOWS[kind])
                await trio.sleep(fault.seconds)
                proxy.flow()
            case other:
                raise ValueError(other)

    def _target(self, fault: Fault) -> Jid | None:
        if fault.connection is None:
            return None
        return list(self._stage.team.values())[fault.connection].pn

    # ---- the end of it

    def clear(self) -> None:
        """From now on everything works."""
        self._stage.database.go_on()
        self._stage.simulator.faults.clear()
        self._stage.proxy.clear()


class RecoveryWatch:
    """Measures how long it takes, once a fault ends, until all is as it should be.

    For each fault a clock starts at its end, and stops at the first moment when every connection
    is logged in and all is acknowledged that the server owed at the start. Faults that come
    meanwhile stop no clock: they lengthen what is measured.
    """

    def __init__(self, stage: Stage, executioner: Executioner) -> None:
        self.seconds: list[float] = []
        self._stage = stage
        self._clocks: list[tuple[float, list[Entry]]] = []  # when it began, what was owed then
        executioner.when_ended = self._begin

    def _begin(self) -> None:
        owed = [entry for device in self._devices() for entry in device.queue]
        self._clocks.append((trio.current_time(), owed))

    async def run(self) -> t.NoReturn:
        """Watch."""
        while True:
            await trio.sleep(_LOOK)
            for _, owed in self._clocks:
                while owed and owed[-1].acknowledged:
                    owed.pop()
            if all(_is_online(device) for device in self._devices()):
                now = trio.current_time()
                self.seconds += [now - began for began, owed in self._clocks if not owed]
                self._clocks = [clock for clock in self._clocks if clock[1]]

    def _devices(self) -> list[Device]:
        return [d for account in self._stage.team.values() for d in account.companions]


def _is_online(device: Device) -> bool:
    return device.session is not None and device.session.state is State.ACTIVE


def _nothing() -> None:
    """Nobody wants to know."""


def _target(fault: Fault) -> str:
    return f"{fault.point}:{fault.count}"
