"""What a demo runs on: the simulator, an embedded PostgreSQL, and the daemon's own tree."""

import collections.abc as cabc
import contextlib
import tempfile
import typing as t
from pathlib import Path

import attrs
import trio

from config.model import (
    Config,
    ConnectionConfig,
    DaemonConfig,
    StorageConfig,
    SupervisionConfig,
    WhatsAppConfig,
)
from daemon.demo.model import DemoOptions
from daemon.errors import StartError
from daemon.wiring import Core, build_core, storage_of, supervise
from simulator.core import Simulator, open_simulator
from simulator.model import Account

PAIRING_DEADLINE: t.Final = 60.0  # seconds for each connection
_LOOK: t.Final = 0.02  # seconds between looks at a status
_UNLIMITED: t.Final = 10_000  # restarts: the demo crashes one connection on purpose


async def until(condition: cabc.Callable[[], bool]) -> None:
    """Wait until the condition holds; it is looked at now and then, for nobody tells."""
    while True:
        if condition():
            return
        await trio.sleep(_LOOK)


@attrs.frozen(kw_only=True)
class Stage:
    """Everything is up, and every connection is linked to a phone and online."""

    simulator: Simulator
    core: Core
    accounts: dict[str, Account]

    def backlog(self) -> int:
        """Stanzas that the connections have not acknowledged."""
        return sum(
            len(device.queue) for account in self.accounts.values() for device in account.companions
        )

    async def settle(self, deadline: float) -> bool:
        """Wait until nothing is under way any more; False when that took too long."""
        with trio.move_on_after(deadline):
            await until(lambda: not self.backlog() and not self._in_flight())
            return True
        return False

    def _in_flight(self) -> int:
        return sum(each.in_flight for each in self.core.fleet.status())


@contextlib.asynccontextmanager
async def open_stage(
    options: DemoOptions, say: cabc.Callable[[str], None]
) -> cabc.AsyncIterator[Stage]:
    """Set everything up, saying how far it is; leaving the block stops it in order.

    Raises:
        StartError: a connection does not pair or come online in time.
        StorageError: PostgreSQL does not start.
    """
    with contextlib.ExitStack() as stack:
        directory = options.data_dir
        if directory is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="zapvisor-demo-"))
            directory = Path(made)
        async with open_simulator(seed=options.seed, listen=("127.0.0.1", 0)) as simulator:
            config = _config(options, directory, simulator)
            say("starting PostgreSQL")
            async with storage_of(config, temporary=options.data_dir is None) as storage:
                core = await build_core(config, storage)
                async with contextlib.aclosing(core), trio.open_nursery() as nursery:
                    tree = supervise(core)
                    await nursery.start(tree.run)
                    say(f"pairing {', '.join(options.names)}")
                    accounts = await _pair_all(core, simulator, options.names)
                    yield Stage(simulator=simulator, core=core, accounts=accounts)
                    tree.stop()


def _config(options: DemoOptions, directory: Path, simulator: Simulator) -> Config:
    return Config(
        daemon=DaemonConfig(data_dir=str(directory.absolute()), shutdown_timeout=10.0),
        storage=StorageConfig(dsn="embedded"),
        whatsapp=WhatsAppConfig(url=simulator.url, root_key=simulator.root_key.hex()),
        supervision=SupervisionConfig(
            backoff_initial=0.2, backoff_max=1.0, stable_after=5.0, retry_limit=_UNLIMITED
        ),
        connections=tuple(ConnectionConfig(name=name) for name in options.names),
    )


async def _pair_all(
    core: Core, simulator: Simulator, names: cabc.Iterable[str]
) -> dict[str, Account]:
    """Link all connections at the same time; in the order of ``names``."""
    accounts: dict[str, Account] = dict.fromkeys(names, t.cast("Account", None))

    async def pair(name: str) -> None:
        accounts[name] = await _pair(core, simulator, name)

    async with trio.open_nursery() as nursery:
        for name in accounts:
            nursery.start_soon(pair, name)
    return accounts


async def _pair(core: Core, simulator: Simulator, name: str) -> Account:
    """Link a connection as a person would: read the code from the screen with a phone."""
    with trio.move_on_after(PAIRING_DEADLINE):
        fleet = core.fleet
        version = fleet.pairing(name).version
        await fleet.pair(name, force=True)
        while True:
            view = await fleet.wait_pairing(name, version)
            version = view.version
            if view.state == "failed":
                raise StartError(f"{name} could not be paired: {view.sentence}")
            if view.qr is not None:
                break
        device = await simulator.scan_qr(view.qr, name=f"Company, {name}")
        await until(lambda: fleet.status(name)[0].state == "online")
        return device.account
    state = core.fleet.status(name)[0]
    raise StartError(f"{name} did not come online in {PAIRING_DEADLINE:g} s: {state.sentence}")
