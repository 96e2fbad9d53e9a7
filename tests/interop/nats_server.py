"""A real nats-server with JetStream, for one test; and what it has stored."""

import base64
import collections.abc as cabc
import contextlib
import json
import shutil
import subprocess
import typing as t
from pathlib import Path

import attrs
import trio

from actors.nats_link import NatsError, NatsLink, NatsSettings, open_link

PROGRAM: t.Final = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


@attrs.define
class NatsServer:
    """``more`` is added to its configuration."""

    directory: Path
    port: int
    more: str = ""
    _process: trio.Process | None = None

    def settings(self, **more: t.Any) -> NatsSettings:
        return NatsSettings(**{"url": f"nats://127.0.0.1:{self.port}", "stream": "ZAP"} | more)

    async def start(self) -> None:
        """Until it answers."""
        assert PROGRAM is not None
        config = self.directory / "nats.conf"
        config.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            f'jetstream {{ store_dir: "{self.directory / "store"}" }}\n{self.more}'
        )
        with (self.directory / "log").open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                [PROGRAM, "-c", str(config)], stdout=log, stderr=subprocess.STDOUT
            )
        with trio.fail_after(20):
            while not await self._answers():
                await trio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                return (await stream.receive_some(4)) == b"INFO"
        except OSError:
            return False

    async def stop(self, *, kill: bool = False) -> None:
        """End it; what it confirmed is on its disk."""
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            await self._process.wait()
            self._process = None

    async def stored(self, **login: t.Any) -> list[tuple[str, dict[str, t.Any], dict[str, str]]]:
        """Subject, event and headers of all messages of the stream."""
        async with open_link(self.settings(**login), "_INBOX.reader") as link:
            info = await request(link, "$JS.API.STREAM.INFO.ZAP")
            state = info["state"]
            found = []
            for number in range(state["first_seq"] or 1, state["last_seq"] + 1):
                got = await request(link, "$JS.API.STREAM.MSG.GET.ZAP", {"seq": number})
                found.append(decoded(got["message"]))
            return found


def decoded(message: dict[str, str]) -> tuple[str, dict[str, t.Any], dict[str, str]]:
    """A stored message."""
    lines = base64.b64decode(message.get("hdrs", "")).decode().splitlines()[1:]
    headers = dict(line.split(": ", 1) for line in lines if line)
    return message["subject"], json.loads(base64.b64decode(message["data"])), headers


async def request(
    link: NatsLink, subject: str, body: dict[str, t.Any] | None = None
) -> dict[str, t.Any]:
    """Ask the server's own API."""
    [answer] = await link.ask([(subject, b"" if body is None else json.dumps(body).encode(), {})])
    if answer.status is not None:
        raise NatsError(f"{subject}: {answer.status}")
    return answer.json()


@contextlib.asynccontextmanager
async def open_nats(directory: Path, more: str = "") -> cabc.AsyncIterator[NatsServer]:
    """A server that runs."""
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = NatsServer(directory, port, more)
    try:
        await server.start()
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await server.stop(kill=True)
