"""The real daemon in a process of its own, its command line, and its database."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import typing as t
import urllib.parse

import attrs
import httpx
import trio

from storage.binaries import find_binaries
from storage.embedded import DATABASE, SUPERUSER, EmbeddedPostgres
from tests.support.psql import Psql

TIMEOUT: t.Final = 60.0  # seconds; far above what anything here takes
PAUSE: t.Final = 0.05  # seconds between two looks at another process


@attrs.define
class DaemonProcess:
    """``zapvisor run`` on a configuration; may be killed and started again."""

    directory: pathlib.Path
    config: pathlib.Path
    dsn: str | None
    """Where the database is; None: the daemon's own, wherever its log says that it put it."""
    process: subprocess.Popen[bytes] | None = None
    runs: int = 0
    _psql: Psql | None = attrs.field(default=None, repr=False)

    @property
    def log(self) -> str:
        """All that the runs have printed."""
        return "".join(
            path.read_text(errors="replace") for path in sorted(self.directory.glob("run-*.log"))
        )

    async def start(self) -> None:
        """Start it and wait until its control socket answers."""
        self.launch({})
        await self.until(self._answers, "the daemon answers")

    def launch(self, variables: t.Mapping[str, str]) -> None:
        """Start it, with more environment variables."""
        self.runs += 1
        with (self.directory / f"run-{self.runs:02}.log").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "run", "--config", str(self.config)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**self._environment(), **variables},
            )

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended:\n{self.log[-3000:]}"
        try:
            await self.status()
        except httpx.TransportError:
            return False
        return True

    async def status(self) -> list[dict[str, t.Any]]:
        """What ``zapvisor status`` shows, without the cost of a process; nothing while it waits
        for its database."""
        answer = await self.request("GET", "/status")
        rows: list[dict[str, t.Any]] = answer.json() if answer.is_success else []
        return rows

    async def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        headers: t.Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request to the control socket, whatever the answer; a file for an upload."""
        socket = str(self.directory / "data" / "control.sock")
        transport = httpx.AsyncHTTPTransport(uds=socket, verify=False)  # no TLS: nothing to load
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://zapvisor", timeout=TIMEOUT
        ) as client:
            return await client.request(
                method, path, headers=headers, **({} if body is None else given)
            )

    async def send(
        self, name: str, to: str, /, *, key: str | None = None, **fields: t.Any
    ) -> dict[str, t.Any]:
        """Ask a connection to send a message; its row of the outbox, or the refusal."""
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await self.request(
            "POST", f"/connections/{name}/messages", {"to": to, **fields}, headers
        )
        row: dict[str, t.Any] = answer.json()
        return row

    async def until_outbox(self, number: int, *states: str) -> dict[str, t.Any]:
        """The row of the outbox, once it is in one of the states."""
        row: dict[str, t.Any] = {}

        async def there() -> bool:
            row.update((await self.request("GET", f"/outbox/{number}")).json())
            return row["state"] in states

        try:
            await self.until(there, f"message {number} is {' or '.join(states)}")
        except AssertionError as error:
            error.add_note(f"the message: {row}")
            raise
        return row

    async def kill(self) -> None:
        """``kill -9``: no handler runs, no buffer is flushed."""
        assert self.process is not None
        self.process.kill()
        await trio.to_thread.run_sync(self.process.wait)

    async def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        with trio.fail_after(TIMEOUT):
            return await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)

    async def command(self, *arguments: str) -> t.Any:
        """A command with ``--json``, and what it printed."""
        done = await self._run(*arguments, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def program(self, *arguments: str) -> list[str]:
        """A command, for whoever runs it."""
        return [sys.executable, "-m", "daemon", *arguments, "--config", str(self.config)]

    async def _run(self, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        with trio.fail_after(TIMEOUT):
            return await trio.run_process(
                self.program(*arguments),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                cwd=self.directory,
                env=self._environment(),
            )

    def _environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith("ZAPVISOR_")}

    async def pair(self, name: str, scan: t.Callable[[str], t.Awaitable[object]]) -> None:
        """``zapvisor pair NAME``, with ``scan`` in the place of the phone's camera."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "daemon", "pair", name, "--json", "--config", str(self.config)],
            stdout=subprocess.PIPE,
            cwd=self.directory,
            env=self._environment(),
        )
        assert process.stdout is not None
        text = b""
        scanned = False
        with trio.fail_after(TIMEOUT):
            async for data in process.stdout:
                text += data
                if not scanned and (qr := _first_code(text)) is not None:
                    scanned = True
                    await scan(qr)
            assert await process.wait() == 0, self.log[-3000:]
        await self.until_state(name, "online")

    async def link(
        self, name: str, scan: t.Callable[[str], t.Awaitable[object]], phone: str | None = None
    ) -> None:
        """Pair like ``zapvisor pair NAME``, without the cost of a process.

        With a phone number ``scan`` gets the code to type there, not one to scan.
        """
        path = f"/connections/{name}/pair"
        version = 0
        if (before := await self.request("GET", f"{path}ing?wait=0.05")).content:
            version = before.json()["version"]  # of the pairing before this one
        query = "" if phone is None else f"?phone={phone}"
        (await self.request("POST", f"{path}{query}")).raise_for_status()
        scanned = False
        with trio.fail_after(TIMEOUT):
            while True:
                answer = await self.request("GET", f"{path}ing?after={version}")
                if answer.status_code == httpx.codes.NO_CONTENT:
                    continue
                news = answer.json()
                version = news["version"]
                if news["state"] == "paired":
                    break
                assert news["state"] != "failed", news["sentence"]
                if (shown := news["qr"] or news["code"]) and not scanned:
                    scanned = True
                    await scan(shown)
        await self.until_state(name, "online")

    async def until_state(self, name: str, state: str) -> None:
        """Wait until ``zapvisor status`` shows a state."""

        async def reached() -> bool:
            rows = await self.status()
            return any(row["name"] == name and row["state"] == state for row in rows)

        await self.until(reached, f"{name} is {state}")

    async def query(self, sql: str) -> list[dict[str, t.Any]]:
        """Rows of the database, asked without the daemon."""
        dsn = self.dsn or self._embedded_dsn()
        if self._psql is None or self._psql.dsn != dsn:
            await self.close_query()
            self._psql = Psql(dsn)
        with trio.fail_after(TIMEOUT):
            return await self._psql.ask(sql)

    async def close_query(self) -> None:
        """Let go of the database."""
        psql, self._psql = self._psql, None
        if psql is not None:
            await psql.aclose()

    async def execute(self, sql: str) -> None:
        """Change the database, without the daemon."""
        psql = find_binaries().directory / "psql"
        with trio.fail_after(TIMEOUT):
            await trio.run_process(
                [str(psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql,
                 self.dsn or self._embedded_dsn()],
            )  # fmt: skip

    async def slow_down(self, table: str, seconds: float) -> None:
        """Make every update of a table take time, so that a kill finds something under way."""
        await self.execute(
            f"CREATE FUNCTION slow_{table}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;"
            f" CREATE TRIGGER slow AFTER UPDATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION slow_{table}()"
        )

    @property
    def http_address(self) -> str:
        """Where HTTP is served, by its log; of the newest run."""
        return [
            facts["address"]
            for line in self.log.splitlines()
            if line.startswith("{") and (facts := json.loads(line))["event"] == "http.listening"
        ][-1]

    def embedded_homes(self) -> list[str]:
        """Where the daemon's own databases were, by its log; the newest last."""
        return [
            facts["home"]
            for line in self.log.splitlines()
            if line.startswith("{")
            and (facts := json.loads(line))["event"] == "storage.postgres_started"
        ]

    def _embedded_dsn(self) -> str:
        host = urllib.parse.quote(f"{self.embedded_homes()[-1]}/run", safe="")
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={host}"

    async def messages(self) -> list[dict[str, t.Any]]:
        """Every message that somebody wrote, in the order of arrival, with chat and author."""
        return await self.query(
            "SELECT n.name AS connection, m.text, m.external_id, m.kind, m.from_me,"
            " extract(epoch FROM m.sent_at) AS sent_at, k.kind AS chat_kind, k.address AS chat,"
            " contact_name(c.connection_id, c.id) AS sender_name, m.conversation_id,"
            " (SELECT json_agg(a.address) FROM contact_addresses a"
            "   WHERE a.connection_id = m.connection_id AND a.contact_id = m.sender_id) AS sender"
            " FROM messages m JOIN connections n ON n.id = m.connection_id"
            " JOIN chats k ON (k.connection_id, k.id) = (m.connection_id, m.chat_id)"
            " JOIN contacts c ON (c.connection_id, c.id) = (m.connection_id, m.sender_id)"
            " WHERE m.kind <> 'system'"
            " ORDER BY m.connection_id, m.arrival"
        )

    async def details(self, where: str = "true") -> list[dict[str, t.Any]]:
        """Messages as they look now, side messages included, in the order of arrival."""
        return await self.query(
            f"SELECT * FROM message_details WHERE {where} ORDER BY connection_id, arrival"
        )

    async def until_message(
        self,
        external_id: str,
        accept: t.Callable[[dict[str, t.Any]], object] = lambda _: True,
        what: str = "is stored",
    ) -> dict[str, t.Any]:
        """The message with this id as it looks once it is acceptable."""
        found: list[dict[str, t.Any]] = []

        async def there() -> bool:
            found[:] = await self.details(f"external_id = '{external_id}'")
            return bool(found and accept(found[0]))

        try:
            await self.until(there, f"message {external_id} {what}")
        except AssertionError as error:
            error.add_note(f"the message: {found}")
            raise
        (row,) = found
        return row

    async def until(
        self, condition: t.Callable[[], t.Awaitable[object]], what: str, timeout: float = TIMEOUT
    ) -> None:
        """Look again and again at another process until a condition holds."""
        with trio.move_on_after(timeout):
            while not await condition():
                await trio.sleep(PAUSE)
            return
        raise AssertionError(f"never happened: {what}\n{self.log[-5000:]}")


def _first_code(printed: bytes) -> str | None:
    decoder = json.JSONDecoder()
    text = printed.decode()
    position = 0
    while (position := text.find("{", position)) >= 0:
        try:
            news, position = decoder.raw_decode(text, position)
        except ValueError:
            return None
        if news.get("qr"):
            return str(news["qr"])
    return None


@contextlib.asynccontextmanager
async def open_daemon(
    directory: pathlib.Path,
    url: str,
    root_key: bytes,
    *names: str,
    embedded: bool = False,
    dsn: str | None = None,
    settings: str = "",
    storage: str = "",
    supervision: str = "",
    http: str = "",
) -> t.AsyncIterator[DaemonProcess]:
    """A running daemon with its connections, none of them paired yet.

    Its PostgreSQL is the one of ``dsn``, else one that outlives it, or, ``embedded``, its own.
    ``settings`` are further tables of the configuration, the others more lines of theirs;
    ``http`` is where it listens besides the control socket, by default nowhere.
    """
    await trio.Path(directory).mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        if dsn is None and not embedded:
            server = EmbeddedPostgres(directory / "postgres", temporary=True)
            dsn = (await stack.enter_async_context(server)).dsn
        config = directory / "supervisor.toml"
        connections = "".join(f'[[connections]]\nname = "{name}"\n' for name in names)
        config.write_text(
            f'[daemon]\ndata_dir = "{directory / "data"}"\nlog_level = "debug"\n'
            f'[storage]\ndsn = "{dsn or "embedded"}"\n{storage}\n'
            f'[http]\nlisten = "{http}"\n[whatsapp]\nurl = "{url}"\nroot_key = "{root_key.hex()}"\n'
            f"version_lookup = false\n"
            f'[supervision]\nbackoff_initial = "100ms"\nbackoff_max = "1s"\n{supervision}\n'
            f"{settings}\n{connections}"
        )
        daemon = DaemonProcess(directory, config, dsn)
        try:
            await daemon.start()
            yield daemon
        finally:
            with trio.CancelScope(shield=True):
                await daemon.close_query()
                if daemon.process is not None and daemon.process.poll() is None:
                    await daemon.terminate()
                for home in daemon.embedded_homes():  # it may be outside of the test's directory
                    shutil.rmtree(home, ignore_errors=True)
