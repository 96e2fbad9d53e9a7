"""What the control socket answers while the daemon still waits for its database: that it does."""

import socket
import typing as t

import trio
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from api.answers import Answers
from api.bounds import refuse
from api.problems import problem
from api.server import serve_app
from daemon.notify import notify

LIVE: t.Final = "/health/live"  # it does live, and waits
EXTENSION: t.Final = 60.0  # seconds more that the service manager is asked for


class WaitingRoom:
    """Answers every request with 503 and the reason, from the first one on until closed; only to
    who asks whether the daemon lives, yes."""

    def __init__(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """``nursery`` must outlive it."""
        self._listener = listener
        self._nursery = nursery
        self._sentence = ""
        self._closing = trio.Event()
        self._closed: trio.Event | None = None

    async def tell(self, sentence: str) -> None:
        """Why the daemon is not up yet; to whoever asks, and to the service manager."""
        self._sentence = sentence
        notify(f"STATUS={sentence}\nEXTEND_TIMEOUT_USEC={int(EXTENSION * 1_000_000)}")
        if self._closed is None:
            self._closed = trio.Event()
            await self._nursery.start(self._serve)

    async def close(self) -> None:
        """Leave the socket to the API."""
        self._closing.set()
        if self._closed is not None:
            await self._closed.wait()

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await serve_app(
                Answers(self._answer), self._listener, stop=self._closing, task_status=task_status
            )
        finally:
            assert self._closed is not None  # noqa: S101 - set by who started this
            self._closed.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return
        if scope["path"] == LIVE:
            await _say_alive(send)
        else:
            await refuse(send, problem("starting", 503, self._sentence))


async def _say_alive(send: Send) -> None:
    body = b'{"alive":true}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
