"""LTHash: the hash of a set, kept up to date by adding and subtracting its members.

A hash is 64 numbers of 16 bits, little-endian, each wrapping around by itself. They are computed
as two large integers that hold every other number in a lane of 32 bits, so that one addition
serves 32 of them and no carry reaches a neighbour.

Source: docs/protocol.md#app-state-hash
"""

import collections.abc as cabc
import typing as t

from whatsapp.e2ee.primitives import hkdf

LENGTH: t.Final = 128
EMPTY: t.Final = bytes(LENGTH)

_INFO: t.Final = b"WhatsApp Patch Integrity"
_LANES: t.Final = int.from_bytes(b"\xff\xff\x00\x00" * 32, "little")
_CARRY: t.Final = int.from_bytes(b"\x00\x00\x01\x00" * 32, "little")


def update(
    state: bytes, *, subtract: cabc.Iterable[bytes] = (), add: cabc.Iterable[bytes] = ()
) -> bytes:
    """The hash of the set without the members ``subtract`` and with the members ``add``.

    Members are value MACs; the order does not matter, and one may be in both.
    """
    even, odd = _split(state)
    for member in subtract:
        low, high = _split(_expand(member))
        even, odd = (even + _CARRY - low) & _LANES, (odd + _CARRY - high) & _LANES
    for member in add:
        low, high = _split(_expand(member))
        even, odd = (even + low) & _LANES, (odd + high) & _LANES
    return (even | odd << 16).to_bytes(LENGTH, "little")


def _expand(member: bytes) -> bytes:
    return hkdf(member, _INFO, LENGTH)


def _split(numbers: bytes) -> tuple[int, int]:
    whole = int.from_bytes(numbers, "little")
    return whole & _LANES, whole >> 16 & _LANES
