"""HTTP on the loopback: a listener whose trouble is its own.

A port that is taken, or a server that fails, is said in the log and in health, and is tried again;
nothing else of the daemon notices.
"""

import contextlib
import socket
import typing as t

import structlog
import trio
from litestar.types import ASGIApp

from api.server import serve_app
from supervisor.crash import leaves

RETRY_PAUSE: t.Final = 5.0  # seconds
BACKLOG: t.Final = 128

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")


class _Once:
    """Says that all is ready the first time it is: by then, or by a failure after it, the server
    may have been started many times."""

    def __init__(self, status: trio.TaskStatus[None]) -> None:
        self._status: trio.TaskStatus[None] | None = status

    def started(self, _value: object = None) -> None:
        """Ready, or as good as it gets for now."""
        if self._status is not None:
            status, self._status = self._status, None
            status.started()


class HttpListener:
    """Serves an app at an address; tries again for as long as it cannot."""

    def __init__(self, app: ASGIApp, address: tuple[str, int]) -> None:
        """``address``: host and port; port 0 is any free one, ``port`` tells which."""
        self._app = app
        self._host, self._wanted = address
        self._stop = trio.Event()
        self.port: int | None = None  # None: nobody is served
        self.trouble: str | None = None  # why nobody is, for an operator

    def stop(self) -> None:
        """Finish the requests under way, and end."""
        self._stop.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped; ready once the first attempt has succeeded or failed."""
        self._stop = trio.Event()
        ready = _Once(task_status)
        while not self._stop.is_set():
            try:
                with contextlib.closing(await self._bind()) as listener:
                    await self._serve(listener, ready)
            except OSError as error:
                self._say(f"{self._place()} cannot be listened at: {error.strerror or error}")
            except Exception as error:  # a fault of the server is no reason to end the daemon
                names = ", ".join(dict.fromkeys(type(each).__name__ for each in leaves(error)))
                self._say(f"the server at {self._place()} failed: {names}", error)
            ready.started()
            with trio.move_on_after(RETRY_PAUSE):
                await self._stop.wait()

    async def _serve(self, listener: socket.socket, ready: "_Once") -> None:
        self.port = listener.getsockname()[1]
        if self.trouble is not None:
            log.info("http.recovered", address=self._place(), after=self.trouble)
        self.trouble = None
        log.info("http.listening", address=f"http://{self._place()}")
        try:
            await serve_app(
                self._app, listener, stop=self._stop, task_status=t.cast("t.Any", ready)
            )
        finally:
            self.port = None

    async def _bind(self) -> socket.socket:
        """A listening socket. Raises ``OSError``."""
        family, kind, _protocol, _name, address = (
            await trio.socket.getaddrinfo(
                self._host, self._wanted, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )[0]
        made = socket.socket(family, kind)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            made.listen(BACKLOG)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        return made

    def _place(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self.port or self._wanted}"

    def _say(self, trouble: str, error: Exception | None = None) -> None:
        if trouble != self.trouble:
            log.error(
                "http.unavailable",
                reason=trouble,
                advice="it is tried again; the connections and the command line are not affected."
                " Another program may hold the port: free it, or set another one in http.listen",
                exc_info=error,
            )
        self.trouble = trouble
