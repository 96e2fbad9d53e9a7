"""The text protocol of NATS, as far as a publisher needs it: bytes in, events out; no I/O.

Source: the NATS documentation, "Client Protocol" and "JetStream wire API".
"""

import collections.abc as cabc
import json
import typing as t

import attrs

MAX_LINE: t.Final = 64 * 1024  # bytes: INFO lists the servers of a cluster
MAX_PAYLOAD: t.Final = 1024 * 1024  # bytes of a message to us; answers of JetStream are small
_CRLF: t.Final = b"\r\n"


class NatsProtocolError(Exception):
    """What the server sent makes no sense."""


@attrs.frozen
class Info:
    """What the server says of itself."""

    options: cabc.Mapping[str, t.Any]

    @property
    def tls_required(self) -> bool:
        return self.options.get("tls_required") is True

    @property
    def headers(self) -> bool:
        """Whether messages may have headers."""
        return self.options.get("headers") is True


@attrs.frozen
class Message:
    """A message to us."""

    subject: str
    payload: bytes = attrs.field(repr=False)
    status: int | None = None  # of a message without a payload: 503, nobody answers

    def json(self) -> dict[str, t.Any]:
        """The object in the payload.

        Raises:
            NatsProtocolError: it is none.
        """
        try:
            found = json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise NatsProtocolError("an answer of JetStream is not JSON") from error
        if not isinstance(found, dict):
            raise NatsProtocolError("an answer of JetStream is no object")
        return found


@attrs.frozen
class Ping:
    """The server wants to know whether we are there."""


@attrs.frozen
class Pong:
    """It is there."""


@attrs.frozen
class ServerError:
    """``-ERR``"""

    text: str


NatsEvent: t.TypeAlias = Info | Message | Ping | Pong | ServerError


class NatsParser:
    """Bytes of a server → events; the buffer is bounded by the largest message."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._message: tuple[str, int, int] | None = None  # subject, bytes of headers, of all

    def feed(self, data: bytes) -> list[NatsEvent]:
        """The events that are complete now.

        Raises:
            NatsProtocolError: no server says that; or more than it may.
        """
        self._buffer += data
        found: list[NatsEvent] = []
        while (event := self._next()) is not None:
            if event != "nothing":
                found.append(event)
        return found

    def _next(self) -> NatsEvent | t.Literal["nothing"] | None:
        if self._message is not None:
            return self._payload(*self._message)
        end = self._buffer.find(_CRLF, 0, MAX_LINE + 2)
        if end < 0:
            if len(self._buffer) > MAX_LINE:
                raise NatsProtocolError(f"a line is longer than {MAX_LINE} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return self._line(line)

    def _line(self, line: bytes) -> NatsEvent | t.Literal["nothing"]:
        word, _space, rest = line.strip().partition(b" ")
        match word.upper():
            case b"INFO":
                return Info(_object(rest))
            case b"PING":
                return Ping()
            case b"PONG":
                return Pong()
            case b"+OK" | b"":
                return "nothing"
            case b"-ERR":
                text = rest.decode("utf-8", "replace").strip(" '")[:500]
                return ServerError("".join(c if c.isprintable() else "?" for c in text))
            case b"MSG":
                self._expect(rest.split(), headers=False)
                return "nothing"
            case b"HMSG":
                self._expect(rest.split(), headers=True)
                return "nothing"
            case _:
                raise NatsProtocolError(f"{line[:20]!r} is nothing that a server of NATS says")

    def _expect(self, parts: list[bytes], *, headers: bool) -> None:
        """Remember what the payload after this line is."""
        sizes = 2 if headers else 1
        if not 2 + sizes <= len(parts) <= 3 + sizes or not all(
            part.isdigit() and len(part) < 10 for part in parts[-sizes:]
        ):
            raise NatsProtocolError("a message is announced in a form that is none")
        total = int(parts[-1])
        head = int(parts[-2]) if headers else 0
        if total > MAX_PAYLOAD or head > total:
            raise NatsProtocolError(f"a message of {total} bytes is announced")
        self._message = (parts[0].decode("utf-8", "replace"), head, total)

    def _payload(self, subject: str, head: int, total: int) -> NatsEvent | None:
        if len(self._buffer) < total + 2:
            return None
        if self._buffer[total : total + 2] != _CRLF:
            raise NatsProtocolError("a message is longer than announced")
        headers, payload = bytes(self._buffer[:head]), bytes(self._buffer[head:total])
        del self._buffer[: total + 2]
        self._message = None
        return Message(subject, payload, _status(headers))


def _object(text: bytes) -> dict[str, t.Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NatsProtocolError("INFO is not JSON") from error
    if not isinstance(found, dict):
        raise NatsProtocolError("INFO is no object")
    return found


def _status(headers: bytes) -> int | None:
    """The status in the first line of headers, ``NATS/1.0 503``."""
    parts = headers.partition(_CRLF)[0].split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() and len(parts[1]) == 3 else None


def connect(options: cabc.Mapping[str, t.Any]) -> bytes:
    """``CONNECT``"""
    return b"CONNECT " + json.dumps(options).encode() + _CRLF


def subscribe(subject: str, number: int) -> bytes:
    """``SUB``"""
    return f"SUB {subject} {number}\r\n".encode()


def publish(
    subject: str, reply: str, payload: bytes, headers: cabc.Mapping[str, str] | None = None
) -> bytes:
    """``PUB``, or ``HPUB`` when there are headers; neither subjects nor headers hold line ends."""
    if not headers:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + _CRLF
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    sizes = f"{len(head)} {len(head) + len(payload)}"
    return f"HPUB {subject} {reply} {sizes}\r\n".encode() + head + payload + _CRLF


PING: t.Final = b"PING\r\n"
PONG: t.Final = b"PONG\r\n"
