"""A fault in the API, or in a service, ends neither the daemon nor what its connections receive."""

import collections.abc as cabc
import contextlib
import signal
import typing as t
from pathlib import Path

import attrs
import httpx
import pytest
import structlog.testing
import trio
import trio.testing

import daemon.branches
from actors.indexer import Indexer
from actors.media import MediaKeeper
from api.figures import FigureReader
from api.tokens import TokenKeeper
from config.load import load_config
from daemon.branches import branch_policy, part_troubles
from daemon.registrar import Registrar
from daemon.reload import Reloader
from daemon.run import serve
from simulator import open_simulator
from simulator.core import Simulator
from storage.memory import MemoryStorage
from supervisor.backoff import Backoff
from supervisor.spec import RestartIntensity
from supervisor.state import ChildState, ChildStatus

FAULTY: t.Final = (FigureReader, TokenKeeper, Registrar, Reloader, Indexer, MediaKeeper)
NAMES: t.Final = {
    "figures": "API",
    "tokens": "API",
    "registrar": "API",
    "reload": "API",
    "search": "services",
    "media": "services",
}


async def always_crash(_self: object, *, task_status: trio.TaskStatus[None]) -> t.NoReturn:
    """It starts well, each time."""
    task_status.started()
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError("a defect")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy of the API's parts, with little patience; what it does at its end is the same."""
    policy = attrs.evolve(
        branch_policy(),
        intensity=RestartIntensity(limit=2, window=60.0),
        backoff=Backoff(initial=0.01, maximum=0.01),
        trial_interval=0.05,
    )
    monkeypatch.setattr(daemon.branches, "branch_policy", lambda: policy)
    monkeypatch.setattr("daemon.run.exit_after", lambda _seconds: None)


@contextlib.asynccontextmanager
async def running(
    path: Path, simulator: Simulator, storage: MemoryStorage
) -> cabc.AsyncIterator[httpx.AsyncClient]:
    """A daemon in this process, until it is told to stop; a client of its control socket."""
    file = path / "supervisor.toml"
    file.write_text(
        f'[http]\nlisten = ""\n[daemon]\nshutdown_timeout = "20s"\n[whatsapp]\n'
        f'url = "{simulator.url}"\nroot_key = "{simulator.root_key.hex()}"\n'
        '[[connections]]\nname = "sales"\n'
    )
    config = load_config(file, {})

    @contextlib.asynccontextmanager
    async def the_same(_config: object) -> cabc.AsyncIterator[t.Any]:
        yield storage

    ended = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await serve(config, version="1.2.3", open_storage=the_same)
            ended.set()

        nursery.start_soon(run)
        transport = httpx.AsyncHTTPTransport(uds=str(config.control_socket), retries=10)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://zapvisor", timeout=20
        ) as client:
            yield client
        assert not ended.is_set()
        signal.raise_signal(signal.SIGTERM)


async def until(condition: cabc.Callable[[], cabc.Awaitable[bool]]) -> None:
    """Wait for what is seen only by asking."""
    while not await condition():
        await trio.sleep(0.02)


async def _received(storage: MemoryStorage) -> list[str | None]:
    return [row.text for row in await storage.list_messages("sales", after=0, limit=10)]


async def test_a_connection_goes_on(
    short_path: Path, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of the API crash as often as they are started; messages come, the socket answers, the
    log and health tell, and each part is tried again for ever."""
    for part in FAULTY:
        monkeypatch.setattr(part, "run", always_crash)
    storage = MemoryStorage()
    with trio.fail_after(60), structlog.testing.capture_logs() as logs:
        async with (
            open_simulator(seed="faults", listen=("127.0.0.1", 0)) as simulator,
            running(short_path, simulator, storage) as client,
        ):

            def given_up() -> list[str]:
                return [str(each["child"]) for each in logs if each["event"] == "child.fatal"]

            async def tried_again() -> bool:
                return all(given_up().count(name) > 2 for name in NAMES)

            async def online() -> bool:
                return bool((await client.get("/status")).json()[0]["state"] == "online")

            async def stored() -> bool:
                return "bom dia" in await _received(storage)

            await until(tried_again)
            team, customer = simulator.create_account("team"), simulator.create_account("ana")
            assert (await client.post("/connections/sales/pair")).status_code == 202
            asked = await client.get("/connections/sales/pairing", params={"after": 0})
            while asked.json().get("qr") is None:
                version = asked.json()["version"]
                asked = await client.get("/connections/sales/pairing", params={"after": version})
            await simulator.scan_qr(asked.json()["qr"], phone=team.pn.user)
            await until(online)
            await customer.phone.send_text(team.pn, "bom dia")
            await until(stored)
            reasons = (await client.get("/health")).json()["reasons"]
    assert {each["trial_after"] for each in logs if each["event"] == "child.fatal"} == {0.05}
    for name, branch in NAMES.items():
        assert any(f"the part {name} of the {branch} keeps failing" in reason for reason in reasons)


def test_the_policy() -> None:
    """After ten failures in a minute a part is tried every 30 seconds."""
    assert branch_policy().trial_interval == 30.0
    assert branch_policy().intensity == RestartIntensity(limit=10, window=60.0)


def test_one_hiccup_is_no_trouble() -> None:
    """A part that is back after a single failure is well; one that waits, or failed twice, not."""

    def told(state: ChildState, failures: int) -> bool:
        status = ChildStatus(id="figures", state=state, since=0.0, failures=failures)
        return bool(list(part_troubles("API", [status])))

    assert not told(ChildState.RUNNING, 0)
    assert not told(ChildState.RUNNING, 1)
    assert told(ChildState.RUNNING, 2)
    assert told(ChildState.BACKOFF, 1)
    assert told(ChildState.FATAL, 11)
    assert not told(ChildState.STOPPED, 0)


class Faulty:
    """A storage whose figures cannot be read, for a reason that nobody has foreseen."""

    def __init__(self) -> None:
        self.asked = 0

    async def ping(self) -> float:
        self.asked += 1
        raise KeyError("connections")


async def test_a_reading_that_fails_is_not_repeated_for_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who waits is told at once; the next start of the reader waits until somebody asks again."""
    storage = Faulty()
    figures = FigureReader(t.cast("t.Any", storage))
    for round_ in range(1, 4):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                reading = await figures.reading()
                assert reading.stored is None
                assert "KeyError" in (reading.error or "")

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(KeyError):
                await figures.run()
        assert storage.asked == round_
        assert trio.current_time() == began
        with trio.move_on_after(60):
            await figures.run()
        assert storage.asked == round_
