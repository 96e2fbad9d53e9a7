"""Frames, however the byte stream is cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import framing
from whatsapp.errors import LocalProtocolError, RemoteProtocolError

payloads = st.lists(st.binary(max_size=300), max_size=6)


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(payloads, st.integers(1, 400))
@settings(deadline=None)
def test_frames_survive_any_cutting(expected: list[bytes], size: int) -> None:
    """Split and joined frames give the same payloads, in order."""
    stream = b"".join(framing.frame(payload) for payload in expected)
    reader = framing.FrameReader()
    assert [p for piece in _pieces(stream, size) for p in reader.feed(piece)] == expected


@given(payloads, st.binary(max_size=40), st.integers(1, 60))
@settings(deadline=None)
def test_server_reads_the_intro_and_frames(
    expected: list[bytes], routing_info: bytes, size: int
) -> None:
    """The routing blob is optional, and everything may come in pieces."""
    stream = framing.intro(routing_info) + b"".join(framing.frame(p) for p in expected)
    reader = framing.ClientStreamReader()
    assert [p for piece in _pieces(stream, size) for p in reader.feed(piece)] == expected
    assert reader.routing_info == routing_info


def test_intro_bytes() -> None:
    """As observed from another client for a blob of four bytes."""
    assert framing.intro(b"") == bytes.fromhex("57410603")
    assert framing.intro(b"abcd") == bytes.fromhex("45440001000004") + b"abcd" + b"WA\6\3"


@given(st.binary(max_size=40), st.integers(1, 40))
@settings(deadline=None)
def test_random_bytes_are_read_or_refused(data: bytes, size: int) -> None:
    """Any bytes: payloads, or RemoteProtocolError."""
    reader = framing.FrameReader()
    for piece in _pieces(data, size):
        reader.feed(piece)
    server = framing.ClientStreamReader()
    try:
        for piece in _pieces(data, size):
            server.feed(piece)
    except RemoteProtocolError:
        pass
    else:
        assert framing.HEADER in data or len(data) < 4 or data.startswith(b"ED")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"W\0", b"EDX", b"ED\0\1\0\0\1aXX"])
def test_other_protocols_are_refused(data: bytes) -> None:
    """A stream that does not begin as ours does ends at once."""
    with pytest.raises(RemoteProtocolError):
        framing.ClientStreamReader().feed(data)


def test_a_frame_has_a_largest_size() -> None:
    """2^24 - 1 bytes fit, one more is our bug."""
    assert framing.frame(bytes(framing.MAX_PAYLOAD))[:3] == b"\xff\xff\xff"
    with pytest.raises(LocalProtocolError):
        framing.frame(bytes(framing.MAX_PAYLOAD + 1))
