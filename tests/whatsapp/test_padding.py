"""The padding inside encrypted payloads."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.padding import pad, unpad


@given(st.binary(max_size=100), st.integers(0, 255))
def test_padding_round_trips(plaintext: bytes, random_byte: int) -> None:
    """One to fifteen bytes are added, and all of them removed."""
    padded = pad(plaintext, random_byte)
    assert 1 <= len(padded) - len(plaintext) <= 15
    assert unpad(padded) == plaintext


def test_sixteen_bytes_of_padding_are_accepted() -> None:
    """Some senders add up to 16."""
    assert unpad(b"text" + b"\x10" * 16) == b"text"


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"text\x00", b"text\x01\x02", b"\x02", b"\x11" * 17]
)
def test_anything_else_is_malformed(data: bytes) -> None:
    """Every padding byte is checked."""
    with pytest.raises(RemoteProtocolError):
        unpad(data)


@given(st.binary(max_size=40))
def test_any_bytes_unpad_or_are_the_peers_fault(data: bytes) -> None:
    """No bytes raise anything but `RemoteProtocolError`."""
    with contextlib.suppress(RemoteProtocolError):
        assert data.startswith(unpad(data))


@pytest.mark.parametrize("random_byte", [-1, 256])
def test_the_random_byte_is_a_byte(random_byte: int) -> None:
    """Anything else is our fault."""
    with pytest.raises(LocalProtocolError):
        pad(b"", random_byte)
