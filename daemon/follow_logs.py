"""``zapvisor logs -f``: a WebSocket on the control socket, and another one when it ends."""

import json
import sys
import typing as t
import urllib.parse
from pathlib import Path

import trio
import trio_websocket as ws

from daemon.client import open_client
from daemon.errors import CommandError, RefusedError
from daemon.logs.line import TextRenderer
from supervisor.crash import leaves

PAUSE: t.Final = 0.5  # seconds between two tries while there is no daemon
CONNECT: t.Final = 10.0  # seconds for the handshake
MAX_FRAME: t.Final = 1024 * 1024  # bytes
_FINAL: t.Final = frozenset({4029, 4403, 4404, 4503})
"""Codes after which it is of no use to come again."""

Line: t.TypeAlias = dict[str, t.Any]
Show: t.TypeAlias = t.Callable[[Line], None]


class Printer:
    """Prints lines as JSON, or as text with colours on a terminal."""

    def __init__(self, *, as_json: bool, stream: t.TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._as_json = as_json
        self._render = TextRenderer(colours=self._stream.isatty())

    def __call__(self, line: Line) -> None:
        """Print one line."""
        if self._as_json:
            text = json.dumps(line)
        elif line.get("event") == "logs.skipped":
            text = f"--- {line['count']} lines skipped ---"
        else:
            text = self._render(line)
        self._stream.write(text + "\n")
        self._stream.flush()


def follow_logs(path: Path, query: dict[str, str | None], show: Show) -> int:
    """Show lines until Ctrl-C, over restarts of the daemon; exit code 0.

    Raises:
        NoDaemonError: nobody answers at the start.
        RefusedError: it has no log to follow, or no such connection.
    """
    with open_client(path):  # its errors tell what to do
        pass
    try:
        trio.run(_follow, path, query, show)
    except KeyboardInterrupt:
        return 0
    except BaseExceptionGroup as group:
        for leaf in leaves(group):
            if isinstance(leaf, KeyboardInterrupt):
                return 0
            if isinstance(leaf, CommandError | BrokenPipeError):
                raise leaf from None
        raise
    return 0


async def _follow(path: Path, query: dict[str, str | None], show: Show) -> None:
    cursor: str | None = None
    away = False
    while True:
        given = {"after": cursor, **query}
        text = urllib.parse.urlencode({k: v for k, v in given.items() if v is not None})
        try:
            stream = await trio.open_unix_socket(str(path))
        except OSError:
            if not away:
                sys.stderr.write("--- the daemon is away; waiting for it ---\n")
            away = True
        else:
            away = False
            async with stream:
                cursor = await _read(stream, f"/logs/ws?{text}", cursor, show)
        await trio.sleep(PAUSE)


async def _read(
    stream: trio.SocketStream, resource: str, cursor: str | None, show: Show
) -> str | None:
    """Show what comes on one WebSocket until it ends; the cursor after that."""
    async with trio.open_nursery() as nursery:
        socket = await _shake_hands(nursery, stream, resource)
        while socket is not None:
            try:
                frame = json.loads(await socket.get_message())
            except ws.ConnectionClosed as closed:
                if closed.reason is not None and closed.reason.code in _FINAL:
                    raise RefusedError(str(closed.reason.reason)) from None
                break
            show(frame["line"])
            cursor = frame["cursor"]
        nursery.cancel_scope.cancel()
    return cursor


async def _shake_hands(
    nursery: trio.Nursery, stream: trio.SocketStream, resource: str
) -> ws.WebSocketConnection | None:
    """An open WebSocket; None: the daemon is starting or stopping, so that the next try tells."""
    try:
        with trio.fail_after(CONNECT):
            return await ws.wrap_client_stream(
                nursery, stream, "zapvisor", resource, max_message_size=MAX_FRAME
            )
    except (ws.HandshakeError, ws.ConnectionClosed, trio.TooSlowError, OSError):
        return None
