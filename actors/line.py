"""The way to WhatsApp that one connection offers to others, while it is online."""

import collections.abc as cabc
import contextlib
import typing as t

import trio

from actors.errors import ConnectionEndedError
from actors.link import Link
from whatsapp.node import Node

REQUEST_TIMEOUT: t.Final = 30.0  # seconds

SendPeer: t.TypeAlias = cabc.Callable[[bytes, str | None, str | None], cabc.Awaitable[str]]
"""Takes a message, a priority and an id; gives the id."""


class NotOnlineError(Exception):
    """The connection has no live socket, or lost it before the answer came."""


class Line(t.Protocol):
    """What may be asked of a connection. Every method raises ``NotOnlineError`` while there is
    no socket; the caller tries again later."""

    @property
    def name(self) -> str:
        """The connection's name."""
        ...

    @property
    def online(self) -> bool:
        """Whether there is a socket, logged in."""
        ...

    async def request(
        self, build: cabc.Callable[[str], Node], timeout: float = REQUEST_TIMEOUT
    ) -> Node:
        """Send the iq that ``build`` makes for an id; its answer, a result or an error."""
        ...

    async def send(self, node: Node) -> None:
        """Send one node."""
        ...

    async def send_peer(
        self, message: bytes, *, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        """Send a message (a ``Message``, unpadded) to the own phone; its stanza id.

        What the encryption changes is committed first."""
        ...


class ConnectionLine:
    """The line of one connection; it outlives the sockets that it is attached to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._link: Link | None = None
        self._send_peer: SendPeer | None = None
        self._calls: set[trio.CancelScope] = set()

    @property
    def online(self) -> bool:
        """See :attr:`Line.online`."""
        return self._link is not None

    @contextlib.contextmanager
    def attached(self, link: Link, send_peer: SendPeer) -> cabc.Iterator[None]:
        """Offer a socket; at the end whoever waits for an answer on it learns that it is gone."""
        self._link, self._send_peer = link, send_peer
        try:
            yield
        finally:
            self._link = self._send_peer = None
            for scope in self._calls:
                scope.cancel()

    async def request(
        self, build: cabc.Callable[[str], Node], timeout: float = REQUEST_TIMEOUT
    ) -> Node:
        """See :meth:`Line.request`."""
        with self._call() as link:
            return await link.request(build(link.ids.next()), timeout)
        raise self._gone()

    async def send(self, node: Node) -> None:
        """See :meth:`Line.send`."""
        with self._call() as link:
            await link.send(node)
            return
        raise self._gone()

    async def send_peer(
        self, message: bytes, *, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        """See :meth:`Line.send_peer`."""
        with self._call():
            send_peer = self._send_peer
            assert send_peer is not None  # noqa: S101 - set together with the link
            return await send_peer(message, priority, stanza_id)
        raise self._gone()

    @contextlib.contextmanager
    def _call(self) -> cabc.Iterator[Link]:
        """The socket, for as long as it lives; the body ends early when it does not."""
        link = self._link
        if link is None:
            raise self._gone()
        with trio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                yield link
            except ConnectionEndedError as error:
                raise NotOnlineError(f"{self.name}: {error.sentence}") from error
            finally:
                self._calls.discard(scope)

    def _gone(self) -> NotOnlineError:
        return NotOnlineError(f"{self.name} is not online")
