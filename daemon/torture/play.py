"""The course of a run: set up, write and break, let it settle, compare."""

import collections.abc as cabc
import functools
import json
import shutil
import tempfile
import typing as t
from pathlib import Path

import attrs
import httpx
import structlog
import trio

from config.load import load_config
from daemon.errors import StartError
from daemon.signals import obey_signals
from daemon.torture.audit import Findings, compare
from daemon.torture.faults import Executioner, RecoveryWatch, Stage, tend
from daemon.torture.load import Load
from daemon.torture.logs import read_logs
from daemon.torture.model import Spread, Summary, TortureOptions
from daemon.torture.plan import Fault, as_json, fingerprint, plan
from daemon.torture.process import DaemonKeeper, PostgresHandle, until
from daemon.torture.proxy import FaultProxy
from daemon.wiring import storage_of
from simulator.core import Simulator, open_simulator
from simulator.entropy import Entropy
from simulator.model import Account
from simulator.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger("torture")

PAIRING_DEADLINE: t.Final = 120.0  # seconds for each connection
SHOWN: t.Final = 20  # discrepancies in the summary
_LOOK: t.Final = 0.2  # seconds
_WEBSOCKET: t.Final = "/ws/chat"

Say: t.TypeAlias = cabc.Callable[[str], None]


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
    directory = options.data_dir or Path(tempfile.mkdtemp(prefix="zapvisor-torture-"))
    directory = directory.absolute()
    data_dir, logs = directory / "data", directory / "logs"
    for each in (directory, data_dir, logs):
        each.mkdir(parents=True, exist_ok=True)
        each.chmod(0o711)  # the database may run as another user, who has to get through
    if any(logs.iterdir()):
        raise StartError(f"{directory} holds an earlier run; choose an empty --data-dir")
    faults = plan(options.seed, options.seconds, options.kinds, options.connections)
    (directory / "plan.json").write_text(json.dumps(as_json(faults), indent=1) + "\n")
    summary = None
    try:
        summary = await _run(options, directory, faults, say)
    finally:
        kept = options.data_dir is not None or summary is None or not summary.succeeded
        if not kept:
            shutil.rmtree(directory, ignore_errors=True)
    return attrs.evolve(summary, evidence=str(directory)) if kept else summary


async def _run(
    options: TortureOptions, directory: Path, faults: tuple[Fault, ...], say: Say
) -> Summary:
    settings = Settings(restart_pause=0.1, farewell=0.3)
    say("starting the simulator and the daemon")
    async with (
        open_simulator(seed=options.seed, listen=("127.0.0.1", 0), settings=settings) as simulator,
        trio.open_nursery() as nursery,
    ):
        host, _, port = simulator.http_url.removeprefix("http://").rpartition(":")
        proxy = FaultProxy(host, int(port))
        await nursery.start(proxy.run)
        config = _write_config(options, directory, simulator, proxy)
        control = directory / "data" / "control.sock"
        keeper = DaemonKeeper(config, control, directory / "logs")
        await nursery.start(keeper.run)
        say(f"pairing {', '.join(options.names)}")
        team = {name: await _pair(keeper, simulator, name) for name in options.names}
        database = PostgresHandle(directory / "data")
        stage = Stage(simulator=simulator, proxy=proxy, keeper=keeper, database=database, team=team)
        run = _Run(stage, options, faults, say)
        await run.torture()
        settled = await run.settle()
        await keeper.leave()
        say("comparing ledger and database")
        async with storage_of(load_config(config, {})) as storage:
            findings = await compare(simulator, storage, team, run.load)
            quarantined = (await storage.statistics())["quarantined"]
        summary = run.sum_up(findings, quarantined, settled, directory / "logs")
        _keep_evidence(directory, simulator, findings, summary)
        nursery.cancel_scope.cancel()
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
        await self._executioner.clear()
        with trio.move_on_after(self._options.settle):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tend, self._stage)
                await self.load.finish()
                await until(self._at_rest, _LOOK)
                nursery.cancel_scope.cancel()
            return True
        log.warning("torture.not_settled", owed=self.load.backlog())
        return False

    async def _at_rest(self) -> bool:
        """Whether nothing is owed, waits, or is on its way."""
        if self.load.backlog():
            return False
        ask = self._stage.keeper.request
        try:
            for name in self._stage.team:
                for state in ("queued", "sending"):
                    path = f"/connections/{name}/outbox?state={state}&limit=1"
                    if (await ask("GET", path)).raise_for_status().json():
                        return False
            rows = (await ask("GET", "/status")).raise_for_status().json()
        except httpx.HTTPError:
            return False
        return all(_is_at_rest(row) for row in rows)

    async def _tell(self) -> t.NoReturn:
        while True:
            await trio.sleep(5.0)
            keeper, ledger = self._stage.keeper, self._stage.simulator.ledger
            self._say(
                f"{trio.current_time() - self._began:.0f} s: {keeper.kills} kills,"
                f" {self._executioner.done.total()} faults, {len(ledger.records())} messages"
                f" offered, {self.load.backlog()} under way"
            )

    def sum_up(self, findings: Findings, quarantined: int, settled: bool, logs: Path) -> Summary:
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
            gaps_open=None,
            recovery_seconds=Spread.of(self._watch.seconds),
            discrepancies=findings.discrepancies[:SHOWN],
            **counts,
        )


def _is_at_rest(row: dict[str, t.Any]) -> bool:
    history = row["history"]
    imported = history is None or history["percent"] == 100
    waiting = row["undecryptable"] or row["in_flight"] or not imported
    return row["state"] == "online" and not waiting


def _write_config(
    options: TortureOptions, directory: Path, simulator: Simulator, proxy: FaultProxy
) -> Path:
    """Everything is quicker than in earnest, so that a run sees much of it."""
    certificate, path = directory / "media.pem", directory / "supervisor.toml"
    certificate.write_text(simulator.certificate)
    tables = "".join(f'[[connections]]\nname = "{name}"\n' for name in options.names)
    path.write_text(
        '[daemon]\ndata_dir = "data"\nlog_format = "json"\nshutdown_timeout = "15s"\n'
        '[storage]\ndsn = "embedded"\ncommand_timeout = "4s"\n'
        f'[whatsapp]\nurl = "ws://127.0.0.1:{proxy.port}{_WEBSOCKET}"\n'
        f'root_key = "{simulator.root_key.hex()}"\n'
        '[supervision]\nheartbeat_interval = "3s"\nheartbeat_timeout = "6s"\n'
        'monitor_interval = "2s"\nconnect_timeout = "15s"\nbackoff_initial = "100ms"\n'
        'backoff_max = "1s"\nstable_after = "5s"\npark_interval = "2s"\n'
        '[writer]\nretry_max = "1s"\n'
        '[sending]\ngap = "0s"\nper_minute = 10000\nack_timeout = "10s"\n'
        f'[media]\nca_file = "media.pem"\nhosts = ["{simulator.media.host}"]\n{tables}'
    )
    return path


async def _pair(keeper: DaemonKeeper, simulator: Simulator, name: str) -> Account:
    """Link a connection as a person would, and wait until it is online."""
    path = f"/connections/{name}/pair"
    with trio.move_on_after(PAIRING_DEADLINE):
        (await keeper.request("POST", path)).raise_for_status()
        version, account = 0, None
        while True:
            answer = await keeper.request("GET", f"{path}ing?after={version}&wait=5")
            if not answer.content:
                continue
            news = answer.raise_for_status().json()
            version = news["version"]
            if news["state"] == "failed":
                raise StartError(f"{name} could not be paired: {news['sentence']}")
            if account is None and news["qr"]:
                device = await simulator.scan_qr(news["qr"], name=f"Company, {name}")
                account = device.account
            if account is not None and news["state"] == "paired":
                break
        while True:
            rows = (await keeper.request("GET", "/status")).raise_for_status().json()
            if any(row["name"] == name and row["state"] == "online" for row in rows):
                return account
            await trio.sleep(_LOOK)
    raise StartError(f"{name} did not come online within {PAIRING_DEADLINE:g} s")


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
