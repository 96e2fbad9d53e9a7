"""Frames on the byte stream inside the WebSocket, and what a client sends before the first one.

Source: docs/protocol.md#framing
"""

import typing as t

from whatsapp.binary.tokens import DICTIONARY_VERSION
from whatsapp.errors import LocalProtocolError, RemoteProtocolError

HEADER: t.Final = b"WA\x06" + bytes([DICTIONARY_VERSION])
"""Sent by the client before its first frame; also the prologue of the handshake."""

MAX_PAYLOAD: t.Final = (1 << 24) - 1  # bytes

_LENGTH: t.Final = 3  # bytes
_ROUTING_MAGIC: t.Final = b"ED\x00\x01"


def frame(payload: bytes) -> bytes:
    """One frame: its length, then the payload.

    Raises:
        LocalProtocolError: the payload is longer than a frame can be.
    """
    if len(payload) > MAX_PAYLOAD:
        raise LocalProtocolError(f"a frame of {len(payload)} bytes")
    return len(payload).to_bytes(_LENGTH, "big") + payload


def intro(routing_info: bytes) -> bytes:
    """What a client sends before its first frame; the routing blob may be empty.

    Raises:
        LocalProtocolError: the blob is longer than its length field.
    """
    if not routing_info:
        return HEADER
    return _ROUTING_MAGIC + frame(routing_info) + HEADER


class FrameReader:
    """Cuts the byte stream into frame payloads, however it was split or joined on the way.

    It holds at most one unfinished frame (16 MiB) beyond what it was last fed.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take in bytes; return the payloads which are complete now. Never raises."""
        self._buffer += data
        payloads: list[bytes] = []
        start = 0
        while (end := self._end_of_frame(start)) <= len(self._buffer):
            payloads.append(bytes(self._buffer[start + _LENGTH : end]))
            start = end
        del self._buffer[:start]
        return payloads

    def _end_of_frame(self, start: int) -> int:
        body = start + _LENGTH
        return body + int.from_bytes(self._buffer[start:body], "big")


class ClientStreamReader:
    """The server's reader: what stands before the first frame, then frames."""

    def __init__(self) -> None:
        self._before = bytearray()
        self._frames = FrameReader()
        self.routing_info: bytes | None = None
        """What the client sent with its header (may be empty); None until the header is here."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take in bytes; return the payloads which are complete now.

        Raises:
            RemoteProtocolError: the stream does not begin as ours does.
        """
        if self.routing_info is not None:
            return self._frames.feed(data)
        self._before += data
        return self._read_intro()

    def _read_intro(self) -> list[bytes]:
        data, body, start = self._before, 0, 0
        if data[:1] == _ROUTING_MAGIC[:1]:
            _check_prefix(data, _ROUTING_MAGIC)
            body = len(_ROUTING_MAGIC) + _LENGTH
            start = body + int.from_bytes(data[len(_ROUTING_MAGIC) : body], "big")
        end = start + len(HEADER)
        _check_prefix(data[start:end], HEADER)
        if len(data) < end:
            return []
        self.routing_info = bytes(data[body:start])
        rest = bytes(data[end:])
        self._before = bytearray()
        return self._frames.feed(rest)


def _check_prefix(data: bytes | bytearray, expected: bytes) -> None:
    if not expected.startswith(data[: len(expected)]):
        raise RemoteProtocolError("not a WhatsApp stream")
