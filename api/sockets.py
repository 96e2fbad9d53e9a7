"""What the routes of WebSockets have in common."""

import typing as t

import trio
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

AnySocket: t.TypeAlias = WebSocket[t.Any, t.Any, t.Any]


async def until_gone(socket: AnySocket, scope: trio.CancelScope) -> None:
    """Take what the client says for nothing, until it leaves; then cancel."""
    try:
        while True:
            await socket.receive_data(mode="text")
    except WebSocketDisconnect:
        scope.cancel()
