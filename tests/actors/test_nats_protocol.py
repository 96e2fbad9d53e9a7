"""The text protocol of NATS: bytes in, events out, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import nats_protocol
from actors.nats_protocol import (
    MAX_LINE,
    Info,
    Message,
    NatsParser,
    NatsProtocolError,
    Ping,
    Pong,
    ServerError,
)

SAID = (
    b'INFO {"server_id":"X","headers":true,"tls_required":false}\r\n'
    b"+OK\r\nPING\r\n"
    b"MSG _INBOX.a.0 1 5\r\nhe\r\no\r\n"
    b"HMSG _INBOX.a.1 1 _INBOX.b 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"PONG\r\n-ERR 'Authorization\x1b Violation'\r\n"
)
MEANT = [
    Info({"server_id": "X", "headers": True, "tls_required": False}),
    Ping(),
    Message("_INBOX.a.0", b"he\r\no"),
    Message("_INBOX.a.1", b"", 503),
    Pong(),
    ServerError("Authorization? Violation"),
]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_any_pieces(size: int) -> None:
    """The same events, wherever the bytes are cut."""
    parser = NatsParser()
    found = []
    for start in range(0, len(SAID), size):
        found += parser.feed(SAID[start : start + size])
    assert found == MEANT
    assert (MEANT[0].headers, MEANT[0].tls_required) == (True, False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [
        b"HELLO\r\n",
        b"INFO []\r\n",
        b"INFO {\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 99999999\r\n",
        b"HMSG a 1 20 10\r\n",
        b"MSG a 1 2\r\nabcd",
        b"x" * (MAX_LINE + 3),
    ],
)
def test_what_no_server_says(wrong: bytes) -> None:
    """Is an error, and bounded."""
    with pytest.raises(NatsProtocolError):
        NatsParser().feed(wrong)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_bytes_raise_nothing_else(pieces: list[bytes]) -> None:
    """Whatever a server sends."""
    parser = NatsParser()
    try:
        for piece in pieces:
            parser.feed(piece)
    except NatsProtocolError:
        pass


def test_what_a_publisher_says() -> None:
    """With headers, without, and who it is."""
    assert nats_protocol.publish("a.b", "in.1", b"x\r\n") == b"PUB a.b in.1 3\r\nx\r\n\r\n"
    told = nats_protocol.publish("a", "in", b"xy", {"Nats-Msg-Id": "7"})
    head = b"NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n"
    assert told == b"HPUB a in %d %d\r\n" % (len(head), len(head) + 2) + head + b"xy\r\n"
    assert nats_protocol.connect({"verbose": False}) == b'CONNECT {"verbose": false}\r\n'
    assert nats_protocol.subscribe("in.*", 1) == b"SUB in.* 1\r\n"
