"""One WebSocket, as Hypercorn serves it, with bounds of its own on what a client may send.

Hypercorn appends first and looks at the size afterwards, again and again for as long as the client
sends; and it unpacks what is compressed, a thousandfold, before it looks at all. Here a message is
refused while it is still outside, the connection ends with it, and nothing is compressed.
"""

import dataclasses
import typing as t

from hypercorn.config import Config
from hypercorn.protocol.events import Event, Request
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from wsproto.events import Message

_NOT_TAKEN: t.Final = (b"sec-websocket-extensions", b"sec-websocket-protocol")
"""Nothing of what these offer is taken, and what is malformed in them would be a fault of ours."""


class TooLargeError(Exception):
    """The client sends a message that is too large, and has been told so."""


class _Buffer(WebsocketBuffer):
    """The message that is coming in, counted in bytes."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.refused = False

    def extend(self, event: Message[t.Any]) -> None:
        """Append a piece. Raises ``FrameTooLargeError``: it does not fit, and is not kept."""
        size = len(event.data.encode() if isinstance(event.data, str) else event.data)
        if self.refused or self.length + size > self.max_length:
            self.refused = True
            self.clear()
            raise FrameTooLargeError
        length = self.length + size
        super().extend(event)
        self.length = length


class WebSocketStream(WSStream):
    """One WebSocket."""

    buffer: _Buffer
    config: Config

    def __init__(self, app: t.Any, config: Config, *rest: t.Any) -> None:
        super().__init__(app, config, *rest)
        self.buffer = _Buffer(config.websocket_max_message_size)

    async def handle(self, event: Event) -> None:
        """Take what the client sends."""
        if isinstance(event, Request):
            event = dataclasses.replace(event, headers=_wanted(event.headers))
        await super().handle(event)

    async def _handle_events(self) -> None:
        await super()._handle_events()
        if self.buffer.refused:
            raise TooLargeError


def _wanted(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that are read here; Hypercorn reads those of a handshake as ASCII."""
    found = []
    for name, value in headers:
        if name.lower() == b"connection":
            found.append((name, value.decode("ascii", "ignore").encode()))
        elif name.lower() not in _NOT_TAKEN:
            found.append((name, value))
    return found
