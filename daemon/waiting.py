"""What the API answers while the daemon still waits for its database: that it does."""

import functools
import socket
import typing as t

import trio
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from api.answers import Answers
from api.bounds import LIVE, refuse, route_of
from api.listener import HttpListener
from api.problems import problem
from api.server import serve_app
from daemon.notify import notify

FOR_ALL: t.Final = "the daemon waits for its database; its log tells why"
EXTENSION: t.Final = 60.0  # seconds more that the service manager is asked for


class WaitingRoom:
    """Answers every request with 503 and the reason, from the first one on until closed; only to
    who asks whether the daemon lives, yes."""

    def __init__(
        self,
        listener: socket.socket,
        nursery: trio.Nursery,
        http_address: tuple[str, int] | None = None,
    ) -> None:
        """``nursery`` must outlive it. ``http_address``: where it answers over HTTP, too."""
        self._app = Answers(self._answer)
        strangers = Answers(self._answer_strangers)
        self.http = None if http_address is None else HttpListener(strangers, http_address)
        self._listener = listener
        self._nursery = nursery
        self._sentence = ""
        self._closing = trio.Event()
        self._closed: trio.Event | None = None

    async def tell(self, sentence: str) -> None:
        """Why the daemon is not up yet; to whoever asks on the socket, and to the service manager.
        Over HTTP anybody may ask, and hears neither of places nor of what the database said."""
        self._sentence = sentence
        notify(f"STATUS={sentence}\nEXTEND_TIMEOUT_USEC={int(EXTENSION * 1_000_000)}")
        if self._closed is None:
            self._closed = trio.Event()
            await self._nursery.start(self._serve)

    async def close(self) -> None:
        """Leave the socket to the API."""
        self._closing.set()
        if self.http is not None:
            self.http.stop()
        if self._closed is not None:
            await self._closed.wait()

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                if self.http is not None:
                    await nursery.start(self.http.run)
                await nursery.start(
                    functools.partial(serve_app, self._app, self._listener, stop=self._closing)
                )
                task_status.started()
        finally:
            assert self._closed is not None  # noqa: S101 - set by who started this
            self._closed.set()

    async def _answer(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await _answer(scope, send, self._sentence)

    async def _answer_strangers(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await _answer(scope, send, FOR_ALL)


async def _answer(scope: Scope, send: Send, sentence: str) -> None:
    if scope["type"] != ScopeType.HTTP:
        return
    if route_of(scope) == LIVE:
        await _say_alive(send)
    else:
        await refuse(send, problem("starting", 503, sentence))


async def _say_alive(send: Send) -> None:
    body = b'{"alive":true}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
