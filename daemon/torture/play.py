"""The course of a run: set up, write and break, let it settle, compare."""

import functools
import json
import typing as t
from pathlib import Path

import attrs
import structlog
import trio

from config.load import load_config
from daemon.signals import obey_signals
from daemon.torture.audit import Findings, compare, open_gaps
from daemon.torture.faults import Executioner, RecoveryWatch
from daemon.torture.load import Load
from daemon.torture.logs import read_logs
from daemon.torture.model import Spread, Summary, TortureOptions
from daemon.torture.plan import Fault, as_json, fingerprint, plan
from daemon.torture.stage import Say, Stage, kept_on_failure, open_stage, settle, tend
from daemon.wiring import storage_of
from simulator.core import Simulator
from simulator.entropy import Entropy

log: structlog.stdlib.BoundLogger = structlog.get_logger("torture")


SHOWN: t.Final = 20  # discrepancies in the summary


async def play(options: TortureOptions, say: Say) -> Summary | None:
    """Run it, telling how far it is; None when it was ended before the comparison.

    Raises:
        StartError: the daemon does not start, or a connection does not pair.
    """
    summary = None
    async with trio.open_nursery() as nursery:
        everything = trio.CancelScope()
        obey = functools.partial(obey_signals, foreground=True)
        await nursery.start(obey, everything.cancel, everything.cancel)
        with everything:
            summary = await _play(options, say)
        nursery.cancel_scope.cancel()
    return summary


async def _play(options: TortureOptions, say: Say) -> Summary:
    faults = plan(options.seed, options.seconds, options.kinds, options.connections)
    with kept_on_failure(options.data_dir) as place:
        (place.directory / "plan.json").write_text(json.dumps(as_json(faults), indent=1) + "\n")
        summary = await _run(options, place.directory, faults, say)
        place.succeeded = summary.succeeded
    return attrs.evolve(summary, evidence=str(place.directory)) if place.kept else summary


async def _run(
    options: TortureOptions, directory: Path, faults: tuple[Fault, ...], say: Say
) -> Summary:
    async with open_stage(directory, options.names, seed=options.seed, say=say) as stage:
        run = _Run(stage, options, faults, say)
        await run.torture()
        settled = await run.settle()
        await stage.keeper.leave()
        say("comparing ledger and database")
        async with storage_of(load_config(stage.config, {})) as storage:
            findings = await compare(stage.simulator, storage, stage.team, run.load)
            quarantined = (await storage.statistics())["quarantined"]
            gaps = await open_gaps(storage, stage.team)
        summary = run.sum_up(findings, quarantined, gaps, settled, stage.keeper.logs)
        _keep_evidence(directory, stage.simulator, findings, summary)
    return summary


class _Run:
    """One run between its first fault and its summary."""

    def __init__(
        self, stage: Stage, options: TortureOptions, faults: tuple[Fault, ...], say: Say
    ) -> None:
        self._stage = stage
        self._options = options
        self._faults = faults
        self._say = say
        self._executioner = Executioner(stage, faults, options.seconds)
        self._watch = RecoveryWatch(stage, self._executioner)
        self._began = trio.current_time()
        self.load = Load(
            stage.simulator,
            stage.keeper,
            stage.team,
            rate=options.rate,
            entropy=Entropy(options.seed).fork("load"),
        )

    async def torture(self) -> None:
        """Let people write while everything breaks."""
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.load.write)
            for name in self._stage.team:
                nursery.start_soon(self.load.send, name)
            nursery.start_soon(tend, self._stage)
            nursery.start_soon(self._watch.run)
            nursery.start_soon(self._tell)
            await self._executioner.run()
            nursery.cancel_scope.cancel()

    async def settle(self) -> bool:
        """End all faults and wait until nothing is under way; False when that takes too long."""
        self._say("no more faults: settling")
        self._executioner.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch.run)
            settled = await settle(self._stage, self.load, self._options.settle)
            nursery.cancel_scope.cancel()
        return settled

    async def _tell(self) -> t.NoReturn:
        while True:
            await trio.sleep(5.0)
            keeper, ledger = self._stage.keeper, self._stage.simulator.ledger
            self._say(
                f"{trio.current_time() - self._began:.0f} s: {keeper.kills} kills,"
                f" {self._executioner.done.total()} faults, {len(ledger.records())} messages"
                f" offered, {self.load.backlog()} under way"
            )

    def sum_up(
        self, findings: Findings, quarantined: int, gaps: int, settled: bool, logs: Path
    ) -> Summary:
        """Everything that is known."""
        keeper, executioner = self._stage.keeper, self._executioner
        reading = read_logs(logs)
        unexplained = [*keeper.unexplained, *reading.unexplained]
        counts = attrs.asdict(findings)
        del counts["discrepancies"]
        return Summary(
            seed=self._options.seed,
            schedule_sha256=fingerprint(self._faults),
            seconds=round(trio.current_time() - self._began, 1),
            settled=settled,
            kills=keeper.kills,
            kills_by_point=dict(sorted(keeper.kills_by_point.items())),
            points_not_reached=sorted(set(executioner.not_reached) - set(keeper.kills_by_point)),
            stops=keeper.stops,
            faults=dict(sorted(executioner.done.items())),
            faults_late=executioner.late,
            quarantined=quarantined,
            malformed=self.load.malformed,
            duplicates_offered=self._stage.simulator.ledger.duplicates_offered(),
            sends=self.load.asked,
            unexplained_restarts=len(unexplained),
            unexplained=unexplained[:SHOWN],
            errors_logged=dict(sorted(reading.errors.items())),
            gaps_open=gaps,
            recovery_seconds=Spread.of(self._watch.seconds),
            discrepancies=findings.discrepancies[:SHOWN],
            **counts,
        )


def _keep_evidence(
    directory: Path, simulator: Simulator, findings: Findings, summary: Summary
) -> None:
    """What is needed to find out what happened."""
    (directory / "summary.json").write_text(json.dumps(attrs.asdict(summary), indent=1) + "\n")
    if findings.discrepancies:
        (directory / "discrepancies.txt").write_text("\n".join(findings.discrepancies) + "\n")
    with (directory / "ledger.jsonl").open("w") as ledger:
        for record in simulator.ledger.export():
            ledger.write(json.dumps(record) + "\n")
