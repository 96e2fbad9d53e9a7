"""What a harness is, and what it may let through."""

import collections.abc as cabc
import contextlib
import typing as t

import attrs

from whatsapp.errors import LocalProtocolError, RemoteProtocolError

Run: t.TypeAlias = cabc.Callable[[bytes], None]

refused: t.Final = contextlib.suppress(RemoteProtocolError)
"""Around each call of a parser: what a peer sends may raise this, and nothing else."""

damaged: t.Final = contextlib.suppress(LocalProtocolError)
"""Around the reading of a stored row: a damaged one is our own trouble."""


@attrs.frozen(kw_only=True)
class Target:
    """One harness: takes any bytes; what it raises is a defect."""

    name: str
    run: Run
    form: t.Literal["bytes", "node", "message", "choice"] = "bytes"
    """What the fuzzer may change as a whole: an encoded node, a protobuf message, or a message
    behind the byte of a :func:`choice`."""
    max_length: int = 4096  # bytes of an input


def ensure(condition: object, what: str) -> None:
    """A property that holds for every input.

    Raises:
        AssertionError: it does not.
    """
    if not condition:
        raise AssertionError(what)


def choice(data: bytes, count: int) -> tuple[int, bytes]:
    """One of ``count`` ways to read the rest, told by the first byte."""
    return (data[0] % count, data[1:]) if data else (0, b"")


def pieces(data: bytes, size: int) -> cabc.Iterator[bytes]:
    """``data`` as a socket might hand it out."""
    return (data[at : at + size] for at in range(0, len(data), max(size, 1)))
