"""LTHash: the hash of a set, kept up to date by adding and subtracting its members.

A hash is 64 numbers of 16 bits, little-endian, each wrapping around by itself. They are computed
as two large integers that hold every other number in a lane of 32 bits, so that one addition
serves 32 of them and no carry reaches a neighbour.

Source: docs/protocol.md#app-state-hash
"""

import typing as t

from whatsapp.e2ee.primitives import hkdf

LENGTH: t.Final = 128
EMPTY: t.Final = bytes(LENGTH)

_INFO: t.Final = b"WhatsApp Patch Integrity"
_LANES: t.Final = int.from_bytes(b"\xff\xff\x00\x00" * 32, "little")
_CARRY: t.Final = int.from_bytes(b"\x00\x00\x01\x00" * 32, "little")


class LtHash:
    """A hash while members come and go; a member is a value MAC."""

    def __init__(self, state: bytes = EMPTY) -> None:
        self._even, self._odd = _split(state)

    def add(self, member: bytes) -> None:
        """Take a member in."""
        even, odd = _split(_expand(member))
        self._even, self._odd = (self._even + even) & _LANES, (self._odd + odd) & _LANES

    def subtract(self, member: bytes) -> None:
        """Take a member out; it need not have been taken in before."""
        even, odd = _split(_expand(member))
        self._even = (self._even + _CARRY - even) & _LANES
        self._odd = (self._odd + _CARRY - odd) & _LANES

    def digest(self) -> bytes:
        """The hash as it is now."""
        return (self._even | self._odd << 16).to_bytes(LENGTH, "little")


def _expand(member: bytes) -> bytes:
    return hkdf(member, _INFO, LENGTH)


def _split(numbers: bytes) -> tuple[int, int]:
    whole = int.from_bytes(numbers, "little")
    return whole & _LANES, whole >> 16 & _LANES
