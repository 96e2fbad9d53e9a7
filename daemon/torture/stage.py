"""What a run is played on: simulator, network, daemon, and accounts that are linked."""

import collections.abc as cabc
import contextlib
import functools
import shutil
import tempfile
import typing as t
from pathlib import Path

import attrs
import httpx
import structlog
import trio

from daemon.errors import StartError
from daemon.torture.load import Load
from daemon.torture.logs import lines_of
from daemon.torture.process import DaemonKeeper, PostgresHandle, cluster_home, until
from simulator.core import Simulator, open_simulator
from simulator.model import Account
from simulator.settings import Settings
from simulator.tcp_proxy import TcpProxy, open_tcp_proxy

log: structlog.stdlib.BoundLogger = structlog.get_logger("torture")

PAIRING_DEADLINE: t.Final = 120.0  # seconds for each connection
SYNC_DEADLINE: t.Final = 20.0  # seconds for the first look at the phones' settings
OPERATOR: t.Final = 0.5  # seconds until somebody sees to a connection that stays away
_LOOK: t.Final = 0.2  # seconds
_WEBSOCKET: t.Final = "/ws/chat"

Say: t.TypeAlias = cabc.Callable[[str], None]


@attrs.frozen(kw_only=True)
class Stage:
    """Everything that faults can strike."""

    simulator: Simulator
    proxy: TcpProxy
    keeper: DaemonKeeper
    database: PostgresHandle
    config: Path
    team: dict[str, Account]
    """The accounts of the linked connections, by name, in order."""


@attrs.define
class Place:
    """Where a run keeps everything."""

    directory: Path
    chosen: bool
    """By the operator, who wants it kept."""
    succeeded: bool = False

    @property
    def kept(self) -> bool:
        """Whether it is there afterwards."""
        return self.chosen or not self.succeeded


@contextlib.contextmanager
def kept_on_failure(chosen: Path | None) -> cabc.Iterator[Place]:
    """A directory for a run, which is removed only if the run says that it succeeded.

    Raises:
        StartError: there is an earlier run in it.
    """
    directory = chosen or Path(tempfile.mkdtemp(prefix="zapvisor-torture-"))
    place = Place(directory.absolute(), chosen=chosen is not None)
    for each in (place.directory, place.directory / "data", place.directory / "logs"):
        each.mkdir(parents=True, exist_ok=True)
        each.chmod(0o711)  # the database may run as another user, who has to get through
    if any((place.directory / "logs").iterdir()):
        raise StartError(f"{directory} holds an earlier run; choose an empty --data-dir")
    try:
        yield place
    finally:
        if not place.kept:
            for each in (cluster_home(place.directory / "data"), place.directory):
                shutil.rmtree(each, ignore_errors=True)


@contextlib.asynccontextmanager
async def open_stage(
    directory: Path,
    names: cabc.Sequence[str],
    *,
    seed: int,
    say: Say,
    dsn: str = "embedded",
    spare: cabc.Sequence[str] = (),
) -> cabc.AsyncIterator[Stage]:
    """Set everything up; leaving the block ends it without ceremony.

    Args:
        directory: of :func:`kept_on_failure`.
        names: connections that are linked to phones.
        seed: of the simulator.
        say: is told how far it is.
        dsn: of the database.
        spare: further connections, not linked.

    Raises:
        StartError: the daemon does not start, or a connection does not pair.
    """
    settings = Settings(restart_pause=0.1, farewell=0.3)
    say("starting the simulator and the daemon")
    async with (
        open_simulator(seed=seed, listen=("127.0.0.1", 0), settings=settings) as simulator,
        open_tcp_proxy(_address(simulator)) as proxy,
        trio.open_nursery() as nursery,
    ):
        config = _write_config(directory, (*names, *spare), simulator, proxy, dsn)
        keeper = DaemonKeeper(config, directory / "data" / "control.sock", directory / "logs")
        await nursery.start(keeper.run)
        say(f"pairing {', '.join(names)}")
        team = {name: await pair(keeper, simulator, name) for name in names}
        for account in team.values():
            await account.phone.set_push_name(account.name)
        with trio.move_on_after(SYNC_DEADLINE):
            await until(functools.partial(_app_state_synced, keeper.logs, names), _LOOK)
        yield Stage(
            simulator=simulator,
            proxy=proxy,
            keeper=keeper,
            database=PostgresHandle(directory / "data"),
            config=config,
            team=team,
        )
        nursery.cancel_scope.cancel()


def _address(simulator: Simulator) -> tuple[str, int]:
    host, _, port = simulator.http_url.removeprefix("http://").rpartition(":")
    return host, int(port)


async def _app_state_synced(logs: Path, names: cabc.Collection[str]) -> bool:
    """Whether all have seen the first setting: a device that has none waits for keys, and begins
    to wait again when the daemon is killed."""
    await trio.lowlevel.checkpoint()
    synced = [line for line in lines_of(logs) if '"app_state.synced"' in line]
    return all(any(f'"connection": "{name}"' in line for line in synced) for name in names)


def _write_config(
    directory: Path,
    names: cabc.Iterable[str],
    simulator: Simulator,
    proxy: TcpProxy,
    dsn: str,
) -> Path:
    """Everything is quicker than in earnest, so that a run sees much of it."""
    certificate, path = directory / "media.pem", directory / "supervisor.toml"
    certificate.write_text(simulator.certificate)
    tables = "".join(f'[[connections]]\nname = "{name}"\n' for name in names)
    path.write_text(
        '[daemon]\ndata_dir = "data"\nlog_format = "json"\nshutdown_timeout = "15s"\n'
        f'[storage]\ndsn = "{dsn}"\ncommand_timeout = "4s"\n'
        f'[http]\nlisten = ""\n[whatsapp]\nurl = "ws://127.0.0.1:{proxy.port}{_WEBSOCKET}"\n'
        "version_lookup = false\n"
        f'root_key = "{simulator.root_key.hex()}"\n'
        '[supervision]\nheartbeat_interval = "3s"\nheartbeat_timeout = "6s"\n'
        'monitor_interval = "2s"\nconnect_timeout = "15s"\nbackoff_initial = "100ms"\n'
        'backoff_max = "1s"\nstable_after = "5s"\npark_interval = "2s"\n'
        '[writer]\nretry_max = "1s"\n'
        '[sending]\ngap = "0s"\nper_minute = 10000\nack_timeout = "10s"\n'
        f'[media]\nca_file = "media.pem"\nhosts = ["{simulator.media.host}"]\n{tables}'
    )
    return path


async def pair(keeper: DaemonKeeper, simulator: Simulator, name: str) -> Account:
    """Link a connection as a person would, and wait until it is online.

    Raises:
        StartError: it does not pair, or does not come online.
        httpx.HTTPError: the daemon went away meanwhile.
    """
    path = f"/connections/{name}/pair"
    with trio.move_on_after(PAIRING_DEADLINE):
        version = 0
        if (before := await keeper.request("GET", f"{path}ing?wait=0.05")).content:
            version = before.json()["version"]  # of the pairing before this one
        (await keeper.request("POST", f"{path}?force=true")).raise_for_status()
        account = None
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

        async def online() -> bool:
            rows = (await keeper.request("GET", "/status")).raise_for_status().json()
            return any(row["name"] == name and row["state"] == "online" for row in rows)

        await until(online, _LOOK)
        return account
    raise StartError(f"{name} did not come online within {PAIRING_DEADLINE:g} s")


async def tend(stage: Stage) -> t.NoReturn:
    """The operator: starts what waits for a person, which a conflict does."""
    while True:
        await trio.sleep(OPERATOR)
        with contextlib.suppress(httpx.HTTPError):
            rows = (await stage.keeper.request("GET", "/status")).raise_for_status().json()
            for row in rows:
                if row["paired"] and row["state"] in ("conflict", "stopped"):
                    await stage.keeper.request("POST", f"/connections/{row['name']}/start")


# ---- the end of a run


async def settle(stage: Stage, load: Load, deadline: float) -> bool:
    """Wait until nothing is owed, waits, or is on its way; False when that takes too long."""

    async def at_rest() -> bool:
        return not load.backlog() and await _at_rest(stage)

    with trio.move_on_after(deadline):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tend, stage)
            await load.finish()
            await until(at_rest, _LOOK)
            nursery.cancel_scope.cancel()
        return True
    log.warning("torture.not_settled", owed=load.backlog())
    return False


async def _at_rest(stage: Stage) -> bool:
    """As far as the daemon says."""
    ask = stage.keeper.request
    try:
        for name in stage.team:
            for state in ("queued", "sending"):
                path = f"/connections/{name}/outbox?state={state}&limit=1"
                if (await ask("GET", path)).raise_for_status().json():
                    return False
        rows = (await ask("GET", "/status")).raise_for_status().json()
    except httpx.HTTPError:
        return False
    return all(_is_at_rest(row) for row in rows if row["name"] in stage.team)


def _is_at_rest(row: dict[str, t.Any]) -> bool:
    history = row["history"]
    chunks = 0 if history is None else history["waiting"]
    return row["state"] == "online" and not chunks + row["undecryptable"] + row["in_flight"]
