"""What operators do to the real daemon: signals in every state, reloads, two daemons at once."""

import collections.abc as cabc
import contextlib
import itertools
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import typing as t

import attrs
import pytest
import trio

from simulator import Simulator, open_simulator
from storage.binaries import find_binaries
from storage.embedded import DATABASE, EmbeddedPostgres
from tests.support.daemon_process import DaemonProcess, open_daemon

WITHIN: t.Final = 12.0  # seconds: the shutdown timeout of these daemons, and some slack


@attrs.define
class Place:
    """A simulator, a database and a daemon with the connection ``sales``."""

    simulator: Simulator
    server: EmbeddedPostgres
    daemon: DaemonProcess
    team: t.Any = None

    async def pair(self) -> None:
        team = self.simulator.create_account("team")

        async def scan(qr: str) -> object:
            return await self.simulator.scan_qr(qr, phone=team.pn.user)

        await self.daemon.link("sales", scan)
        self.team = team

    async def write(self, count: int, name: str = "customer") -> list[str]:
        """So many texts of a customer; their ids."""
        customer = self.simulator.create_account(name)
        return [
            await customer.phone.send_text(self.team.pn, f"{name} {number}")
            for number in range(count)
        ]

    async def sigterm(self) -> None:
        """It ends in time and in order."""
        with trio.fail_after(WITHIN):
            assert await self.daemon.terminate() == 0, self.daemon.log[-3000:]
        assert "Traceback" not in self.daemon.log

    async def until_stored(self, ids: cabc.Collection[str]) -> None:
        """Exactly these messages are there."""

        async def there() -> bool:
            rows = [row["external_id"] for row in await self.daemon.messages()]
            assert len(rows) == len(set(rows))
            return set(rows) == set(ids)

        await self.daemon.until(there, f"{len(ids)} messages are stored once")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> cabc.Iterator[EmbeddedPostgres]:
    """One database server for all of them."""
    made = EmbeddedPostgres(tmp_path_factory.mktemp("operators"))
    trio.run(made.start)
    try:
        yield made
    finally:
        home = made.home
        trio.run(made.stop)
        shutil.rmtree(home, ignore_errors=True)  # it may be outside of the test's directory


_numbers = itertools.count(1)


@pytest.fixture
async def place(tmp_path: pathlib.Path, server: EmbeddedPostgres) -> cabc.AsyncIterator[Place]:
    """A database and a daemon of the test's own."""
    name = f"operators{next(_numbers)}"
    await trio.run_process(
        [str(find_binaries().directory / "psql"), "-X", "-q", "-c", f"CREATE DATABASE {name}",
         server.dsn],
    )  # fmt: skip
    dsn = server.dsn.replace(f"/{DATABASE}?", f"/{name}?")
    async with (
        open_simulator(seed="operators", listen=("127.0.0.1", 0)) as simulator,
        open_daemon(tmp_path / "d", simulator.url, simulator.root_key, "sales", dsn=dsn) as daemon,
    ):
        yield Place(simulator, server, daemon)


async def test_sigterm_while_all_is_well_and_again(place: Place) -> None:
    """Unpaired, pairing, online: it ends with 0 in each; the pairing goes on with the next run,
    and a second signal while it stops ends it at once."""
    await place.daemon.request("POST", "/connections/sales/pair")
    await place.daemon.until_state("sales", "pairing")
    await place.sigterm()
    await place.daemon.start()
    await place.pair()
    ids = await place.write(5)
    await place.until_stored(ids)
    await place.sigterm()
    await place.daemon.start()
    await place.daemon.until_state("sales", "online")
    assert place.daemon.process is not None
    place.daemon.process.send_signal(signal.SIGTERM)
    await place.sigterm()


async def test_sigterm_in_a_flood(place: Place) -> None:
    """What was stored is acknowledged or comes again; nothing is lost or doubled."""
    await place.pair()
    ids: list[str] = []
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            ids.extend(await place.write(400))

        nursery.start_soon(flood)

        async def begun() -> bool:
            return len(await place.daemon.messages()) > 20

        await place.daemon.until(begun, "the flood has begun")
        await place.sigterm()
    await place.daemon.start()
    await place.until_stored(ids)


async def test_sigterm_while_connecting_and_backing_off(place: Place) -> None:
    """With nobody at the other end, and with somebody who never answers."""
    await place.pair()
    await place.sigterm()
    config = place.daemon.config.read_text()
    async with _silent() as port:
        for address, state in (("127.0.0.1:9", "backoff"), (f"127.0.0.1:{port}", "connecting")):
            place.daemon.config.write_text(
                config.replace(place.simulator.url, f"ws://{address}/ws/chat")
            )
            await place.daemon.start()
            await place.daemon.until_state("sales", state)
            await place.sigterm()
    place.daemon.config.write_text(config)
    await place.daemon.start()
    ids = await place.write(3)
    await place.until_stored(ids)


async def test_sigterm_while_the_database_is_away(place: Place) -> None:
    """It ends in time though nothing can be written, and as it waits for the database at its
    start; what was not stored was not acknowledged."""
    await place.pair()
    await place.server.stop()
    ids = await place.write(10)

    async def away() -> bool:
        return "Database is away" in place.daemon.log

    await place.daemon.until(away, "the writer tries in vain")
    config = place.daemon.config.read_text()
    with trio.fail_after(30):
        assert await place.daemon.terminate() == 0, place.daemon.log[-3000:]
    assert "Traceback" not in place.daemon.log
    assert place.daemon.config.read_text() == config
    log = place.daemon.directory / "run-98.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - forking takes a moment only
            [sys.executable, "-m", "daemon", "run", "--config", str(place.daemon.config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=place.daemon.directory,
        )

    async def waits() -> bool:
        return "daemon.waiting_for_database" in log.read_text()

    await place.daemon.until(waits, "it waits")
    process.send_signal(signal.SIGTERM)
    with trio.fail_after(WITHIN):
        assert await trio.to_thread.run_sync(process.wait) == 0
    assert "Traceback" not in log.read_text()
    await place.server.start()
    await place.daemon.start()
    await place.until_stored(ids)


async def test_two_daemons_on_one_database(place: Place) -> None:
    """The second is refused, though it has a data directory of its own; kill -9 of the first
    lets it in at once."""
    await place.pair()
    other = place.daemon.directory / "other"
    other.mkdir()
    config = other / "supervisor.toml"
    text = place.daemon.config.read_text()
    config.write_text(text.replace(f'"{place.daemon.directory}/data"', f'"{other}/data"'))
    with trio.fail_after(40):
        done = await trio.run_process(
            [sys.executable, "-m", "daemon", "run", "--config", str(config)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 1
    said = done.stderr.decode()
    assert place.daemon.process is not None
    assert f"another zapvisor daemon (process {place.daemon.process.pid} on " in said
    assert "storage.dsn" in said
    assert "Traceback" not in said
    await place.daemon.kill()
    await place.daemon.start()
    await place.daemon.until_state("sales", "online")


async def test_death_and_end_in_the_timeline(place: Place) -> None:
    """A kill is told by the next run in a sentence of its own; a stop in order by itself."""
    await place.pair()
    await place.daemon.kill()
    await place.daemon.start()
    await place.daemon.until_state("sales", "online")
    await place.sigterm()
    await place.daemon.start()
    await place.daemon.until_state("sales", "online")

    async def recorded() -> bool:
        whole = await place.daemon.command("timeline", "sales")
        reasons = [row["reason"] for row in whole["transitions"]]
        return reasons.count("daemon_died") == 1 and reasons.count("shutdown") == 1

    await place.daemon.until(recorded, "both are told")
    whole = await place.daemon.command("timeline", "sales")
    assert 0 < whole["percent"] < 100
    assert [row["state"] for row in whole["transitions"]][-1] == "online"


async def test_reload(place: Place) -> None:
    """A broken file changes nothing; a good one adds, changes or removes a connection, by command
    or by signal, and sales stays online all the time."""
    await place.pair()
    before = await place.daemon.status()
    text = place.daemon.config.read_text()
    place.daemon.config.write_text(f"{text}\n[nonsense]\n[[connections]]\nname = 1\n")
    answer = await place.daemon.request("POST", "/reload")
    assert answer.status_code == 422
    detail = json.loads(answer.text)["detail"]
    assert "nonsense" in detail
    assert "name" in detail
    place.daemon.config.write_text(f'{text}\n[[connections]]\nname = "support"\n')
    facts = await place.daemon.command("reload")
    assert (facts["added"], facts["unchanged"], facts["restart"]) == (["support"], 1, [])
    after = await place.daemon.status()
    assert [row["name"] for row in after] == ["sales", "support"]
    assert after[0]["since"] == before[0]["since"]

    async def reloaded(content: str, done: int) -> dict[str, t.Any]:
        """SIGHUP, and what the log says came of it."""
        place.daemon.config.write_text(content)
        assert place.daemon.process is not None
        place.daemon.process.send_signal(signal.SIGHUP)
        lines: list[dict[str, t.Any]] = []

        async def told() -> bool:
            log = place.daemon.log.splitlines()
            whole = [json.loads(line) for line in log if line.startswith("{")]
            lines[:] = [line for line in whole if line["event"].startswith("daemon.reload")]
            return len(lines) == done

        await place.daemon.until(told, f"{done} reloads are told of")
        return lines[-1]

    changed = await reloaded(f'{text}\n[[connections]]\nname = "support"\ngroups = false\n', 3)
    assert (changed["changed"], changed["unchanged"]) == (["support"], 1)
    assert (await reloaded("nonsense", 4))["event"] == "daemon.reload_refused"
    removed = await reloaded(text, 5)
    assert (removed["removed"], removed["unchanged"]) == (["support"], 1)
    [sales] = await place.daemon.status()
    assert (sales["name"], sales["since"]) == ("sales", before[0]["since"])
    ids = await place.write(3)
    await place.until_stored(ids)


@contextlib.asynccontextmanager
async def _silent() -> cabc.AsyncIterator[int]:
    """A port that takes connections and says nothing."""
    async with trio.open_nursery() as nursery:

        async def hold(stream: trio.SocketStream) -> None:
            async with stream:
                while await stream.receive_some():
                    pass

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, hold, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
