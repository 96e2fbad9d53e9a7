"""Serves an app on a socket, on trio; no client can take more than its share, or stay for nothing.

Theory of operation
    Hypercorn parses and frames; this module bounds what a client can hold on to:

    - a connection that has no complete request within ``IDLE`` seconds is closed, be it silent or
      slow, and so is one that is done and asks nothing more;
    - there are at most so many connections (``Places``). When all are taken, the one that has been
      idle longest makes room; when none is idle, the newcomer is told 503;
    - whoever does not read what is sent to it is cut off after ``STALL`` seconds. Hypercorn itself
      would wait for ever, shielded from every deadline;
    - a message over a WebSocket that is too large is refused before it is kept, and ends it
      (``api.server_websocket``);
    - HTTP/1.1 and WebSockets only: HTTP/2 has many more ways to be flooded, and no use here.
"""

import collections.abc as cabc
import contextlib
import functools
import logging
import math
import socket
import struct
import typing as t

import attrs
import h11
import hypercorn.protocol.h11
import hypercorn.trio.run
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio import serve
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr
from litestar.types import ASGIApp, Receive, Scope, Send

from api.request_id import PEER_UID
from api.server_websocket import TooLargeError, WebSocketStream

GRACE: t.Final = 1.0  # seconds that requests under way get when the server stops
IDLE: t.Final = 30.0  # seconds for a request to arrive
STALL: t.Final = 30.0  # seconds for a piece of an answer to leave
PLACES: t.Final = 600  # connections
MAX_HEADERS: t.Final = 16 * 1024  # bytes of a request before its body, address included
MAX_FRAME: t.Final = 64 * 1024  # bytes of a message that a client sends over a WebSocket
PING_INTERVAL: t.Final = 20.0  # seconds between pings of a WebSocket
LOST: t.Final = 60_000  # milliseconds that the system waits for a peer that has vanished

_FULL: t.Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-length: 0\r\n\r\n"
)


log: structlog.stdlib.BoundLogger = structlog.get_logger("api")


class Places:
    """The connections of one server: who is there, and who is idle."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: set[object] = set()
        self._idle: dict[object, cabc.Callable[[], None]] = {}  # the longest idle first

    def __len__(self) -> int:
        return len(self._taken)

    def enter(self, client: object) -> bool:
        """Take a place; False: there is none."""
        if len(self._taken) >= self._most:
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            leave = self._idle.pop(oldest)
            self._taken.discard(oldest)
            leave()
        self._taken.add(client)
        return True

    def idle(self, client: object, leave: cabc.Callable[[], None]) -> None:
        """This one has nothing under way, and may be asked to ``leave``."""
        if client in self._taken:
            self._idle[client] = leave

    def busy(self, client: object) -> None:
        """This one has something under way."""
        self._idle.pop(client, None)

    def leave(self, client: object) -> None:
        """This one is gone."""
        self._taken.discard(client)
        self._idle.pop(client, None)


@attrs.frozen(kw_only=True)
class Patience:
    """How long clients are waited for, in seconds, and how many there may be."""

    idle: float = IDLE
    stall: float = STALL
    places: int = PLACES


class _Config(Config):
    stall = STALL
    places = Places(PLACES)


class _Tasks(TaskGroup):
    """The tasks of one client. An app that ends takes its queue along, or what the client still
    sends would wait in it for ever. A WebSocket's app ends soon after its client, even if it only
    sends and so would never hear of it; so does an answer that is on its way."""

    def __init__(self, stall: float, side_tasks: trio.CancelScope) -> None:
        """``side_tasks``: what cancels the pings of a WebSocket."""
        super().__init__()
        self._stall = stall
        self._side_tasks = side_tasks

    def spawn(self, func: cabc.Callable[..., cabc.Awaitable[None]], *args: t.Any) -> None:
        """Start a task that ends with the connection."""

        async def run() -> None:
            with self._side_tasks:
                await func(*args)

        assert self._nursery is not None  # noqa: S101 - entered by who has us
        self._nursery.start_soon(run)

    async def spawn_app(
        self,
        app: t.Any,
        config: Config,
        scope: t.Any,
        send: cabc.Callable[[t.Any], cabc.Awaitable[None]],
    ) -> cabc.Callable[[t.Any], cabc.Awaitable[None]]:
        """Start the app; what is returned hands it what the client sends."""
        put, take = trio.open_memory_channel[t.Any](config.max_app_queue_size)
        running = trio.CancelScope()

        started = finished = False

        async def tell(message: t.Any) -> None:
            nonlocal started, finished
            kind = message["type"]
            started = started or kind == "http.response.start"
            last = kind == "http.response.body" and not message.get("more_body", False)
            finished = finished or last or kind == "websocket.close"
            await send(message)
            # To a client that is gone Hypercorn sends nothing, at once: a loop that sends would
            # never end, and never let anybody else run.
            await trio.lowlevel.checkpoint()

        async def run() -> None:
            try:
                with take, running:
                    await app(
                        scope, take.receive, tell, trio.to_thread.run_sync, trio.from_thread.run
                    )
            except Exception:
                await config.log.exception("Error in ASGI Framework")
            finally:
                await send(None)

        async def hand(event: t.Any) -> None:
            if event["type"].endswith(".disconnect"):
                if not finished and (started or event["type"] == "websocket.disconnect"):
                    running.cancel()  # a request that is not answered yet is left to finish
                with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError):
                    put.send_nowait(event)
                return
            patience = self._stall if event["type"] == "websocket.receive" else math.inf
            with trio.move_on_after(patience) as late:
                with contextlib.suppress(trio.BrokenResourceError):
                    await put.send(event)
            if late.cancelled_caught:
                raise trio.BrokenResourceError("it sends what nobody reads")

        assert self._nursery is not None  # noqa: S101 - entered by who has us
        self._nursery.start_soon(run)
        return hand


class _Http11(H11Protocol):
    """HTTP/1.1; who asks for HTTP/2 gets an answer in HTTP/1.1, or none."""

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.http_version == b"2.0":
            await self._send_error_response(505)
            raise trio.BrokenResourceError("it speaks HTTP/2")


class PatientServer(TCPServer):
    """One client."""

    config: _Config
    protocol: H11Protocol  # type: ignore[assignment]  # handles the same events

    async def run(self) -> None:
        """Serve it until it goes, or is sent away."""
        places = self.config.places
        if not places.enter(self):
            with trio.move_on_after(GRACE), contextlib.suppress(trio.BrokenResourceError):
                await self.stream.send_all(_FULL)
            await trio.aclose_forcefully(self.stream)
            return
        try:
            with trio.CancelScope() as scope:
                self._leave = scope.cancel
                places.idle(self, scope.cancel)
                await self._serve()
        except Exception as error:  # it would end the server, for everybody
            log.error("http.client_failed", exc_info=error)
        finally:
            places.leave(self)
            await trio.aclose_forcefully(self.stream)

    async def _serve(self) -> None:
        sock = self.stream.socket
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST)
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
        except OSError:
            return  # it is gone already
        side_tasks = trio.CancelScope()
        async with _Tasks(self.config.stall, side_tasks) as tasks:
            self._task_group = tasks
            self.protocol = _Http11(
                self.app,
                self.config,
                self.context,
                tasks,
                ConnectionState({**self.state, PEER_UID: _peer_uid(sock)}),
                False,
                client,
                server,
                self.protocol_send,
            )
            await self.idle_task.restart(tasks, self._idle_timeout)
            try:
                await self._read_data()
            except trio.BrokenResourceError:
                await self.protocol.handle(Closed())
            except TooLargeError:
                await self._linger()
                await self.protocol.handle(Closed())
            finally:
                side_tasks.cancel()

    async def _linger(self) -> None:
        """Drop what still comes: to close on it at once would take back what the client was told
        last."""
        with (
            trio.move_on_after(GRACE),
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            while await self.stream.receive_some(MAX_RECV):
                pass

    async def protocol_send(self, event: Event) -> None:
        """Send. A client that reads nothing is cut off, and one that was sent half a piece is not
        sent another: it could not tell where that begins."""
        if isinstance(event, Updated):
            if event.idle:
                self.config.places.idle(self, self._leave)
            else:
                self.config.places.busy(self)
        if not isinstance(event, RawData):
            # Hypercorn answers a client that left in the middle of its request while another task
            # shuts the socket down.
            with contextlib.suppress(trio.BusyResourceError, trio.ClosedResourceError):
                await super().protocol_send(event)
            return
        try:
            async with self.send_lock:
                await self._send(event.data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            await self.protocol.handle(Closed())

    async def _send(self, data: bytes) -> None:
        whole = False
        try:
            with trio.move_on_after(self.config.stall):
                await self.stream.send_all(data)
                whole = True
        finally:
            if not whole:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(self.stream)
        if not whole:
            raise trio.BrokenResourceError("it does not read")


def _peer_uid(sock: t.Any) -> int | None:
    if sock.family != socket.AF_UNIX:
        return None
    size = struct.calcsize("3i")
    facts = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _pid, uid, _gid = struct.unpack("3i", facts)
    return int(uid)


hypercorn.trio.run.TCPServer = PatientServer  # type: ignore[attr-defined]  # made there alone
hypercorn.protocol.h11.WSStream = WebSocketStream  # type: ignore[attr-defined,assignment]


async def serve_app(
    app: ASGIApp,
    listener: socket.socket,
    *,
    stop: trio.Event,
    patience: Patience = Patience(),
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stop``; requests under way then get ``GRACE`` seconds.

    ``listener`` stays the caller's. The app hears nothing of ASGI's lifespan: it may be served by
    several listeners, and Litestar bears no second lifespan beside the first.
    """
    config = _Config()
    config.stall = patience.stall
    config.places = Places(patience.places)
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.graceful_timeout = GRACE
    config.keep_alive_timeout = patience.idle
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEADERS
    config.websocket_max_message_size = MAX_FRAME
    config.websocket_ping_interval = PING_INTERVAL
    config.bind = [f"fd://{listener.dup().detach()}"]
    async with trio.open_nursery() as nursery:
        await nursery.start(
            functools.partial(serve, _without_lifespan(app), config, shutdown_trigger=stop.wait)
        )
        task_status.started()


def _without_lifespan(app: ASGIApp) -> t.Any:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        kind: str = scope["type"]
        if kind != "lifespan":
            await app(scope, receive, send)
            return
        for _begin_and_end in range(2):
            event = (await receive())["type"]
            done: t.Any = {"type": f"{event}.complete"}
            await send(done)

    return answer
