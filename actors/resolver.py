"""Names to addresses: in few threads of their own, and not for ever.

The system's resolver cannot be interrupted; while no name server answers, a call takes as long as
it likes, half a minute perhaps, and occupies a thread. A thousand connections that look up the same
name must neither take all threads, which files and media need, nor wait without limit.
"""

import functools
import socket
import typing as t

import trio

TIMEOUT: t.Final = 10.0  # seconds for one name
THREADS: t.Final = 8


class BoundedResolver(trio.abc.HostnameResolver):
    """The system's resolver, bounded. See ``trio.socket.set_custom_hostname_resolver``."""

    def __init__(self, *, timeout: float = TIMEOUT, threads: int = THREADS) -> None:
        """``timeout`` in seconds, the wait for a thread included."""
        self._timeout = timeout
        self._threads = trio.CapacityLimiter(threads)

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the interface's name
        proto: int = 0,
        flags: int = 0,
    ) -> list[t.Any]:
        """Like ``socket.getaddrinfo``; ``socket.gaierror`` when it takes too long."""
        look_up: t.Any = functools.partial(
            socket.getaddrinfo, host, port, family, type, proto, flags
        )
        with trio.move_on_after(self._timeout):
            found: list[t.Any] = await trio.to_thread.run_sync(
                look_up, limiter=self._threads, abandon_on_cancel=True
            )
            return found
        raise socket.gaierror(
            socket.EAI_AGAIN, f"no name server answered within {self._timeout:g} s"
        )

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        """Like ``socket.getnameinfo``."""
        return await trio.to_thread.run_sync(
            socket.getnameinfo, sockaddr, flags, limiter=self._threads, abandon_on_cancel=True
        )
