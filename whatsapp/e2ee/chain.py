"""One symmetric chain: a message key per index, and the keys of indexes that were skipped.

Sessions use one chain per direction and ratchet key, sender keys use one per state; both derive
them alike. Source: docs/protocol.md#chains
"""

import bisect
import typing as t

import attrs

from whatsapp.e2ee.primitives import hmac_sha256
from whatsapp.errors import DecryptionError, DecryptionFailure, DuplicateMessageError

MAX_AHEAD: t.Final = 2000
MAX_SKIPPED: t.Final = 2000
MAX_INDEX: t.Final = 2**32 - 2  # the index after it still fits the wire and the record
SKIPPED_ENTRY: t.Final = 36  # index (4 bytes, big endian), seed (32 bytes)

_SEED: t.Final = b"\x01"
_NEXT: t.Final = b"\x02"


@attrs.frozen
class Chain:
    """A chain key, the index it belongs to, and what was skipped on the way there.

    ``skipped`` is packed, so that a record which holds 2000 keys still loads and stores quickly;
    its entries ascend because a chain only ever moves forward.
    """

    key: bytes = attrs.field(repr=False)
    counter: int = 0  # the next unused index
    skipped: bytes = attrs.field(default=b"", repr=False)
    floor: int = 0  # below it, skipped keys may have been dropped or were never known

    def step(self) -> tuple[bytes, "Chain"]:
        """The message seed of the next index, and the chain after it."""
        seed, key = hmac_sha256(self.key, _SEED), hmac_sha256(self.key, _NEXT)
        return seed, Chain(key, self.counter + 1, self.skipped, self.floor)

    def take(self, index: int) -> tuple[bytes, "Chain"]:
        """The message seed of any index, and the chain which no longer holds it.

        Raises:
            DuplicateMessageError: the seed was taken before.
            DecryptionError: too far ahead, or so old that its seed may have been dropped.
        """
        if index < self.counter:
            return self._take_skipped(index)
        if index > MAX_INDEX:
            raise DecryptionError(DecryptionFailure.INVALID_MESSAGE, "the chain is exhausted")
        if index == self.counter:
            return self.step()
        if index - self.counter > MAX_AHEAD:
            raise DecryptionError(
                DecryptionFailure.TOO_FAR_IN_FUTURE, f"{index - self.counter} messages ahead"
            )
        entries, key = _derive(self.key, self.counter, index)
        skipped, floor = _bounded(self.skipped + entries, self.floor)
        return Chain(key, index, skipped, floor).step()

    def extended_back(self, key: bytes, index: int) -> "Chain":
        """This chain with the seeds from ``index`` (whose chain key is ``key``) up to its floor.

        Unchanged if they are known already, or too many.
        """
        if not 0 < self.floor - index <= MAX_AHEAD:
            return self
        entries, _key = _derive(key, index, self.floor)
        skipped, floor = _bounded(entries + self.skipped, index)
        return attrs.evolve(self, skipped=skipped, floor=floor)

    def _take_skipped(self, index: int) -> tuple[bytes, "Chain"]:
        skipped = self.skipped
        count = len(skipped) // SKIPPED_ENTRY
        start = bisect.bisect_left(range(count), index, key=lambda i: _index_at(skipped, i))
        start *= SKIPPED_ENTRY
        entry = skipped[start : start + SKIPPED_ENTRY]
        if entry[:4] == index.to_bytes(4, "big"):
            rest = skipped[:start] + skipped[start + SKIPPED_ENTRY :]
            return entry[4:], Chain(self.key, self.counter, rest, self.floor)
        if index >= self.floor:
            raise DuplicateMessageError(f"message key {index} was used before")
        raise DecryptionError(
            DecryptionFailure.INVALID_MESSAGE_KEY, f"message key {index} is no longer held"
        )


def _derive(key: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
    """The packed seeds of the indexes from start to stop, and the chain key at stop."""
    entries = []
    for index in range(start, stop):
        entries.append(index.to_bytes(4, "big") + hmac_sha256(key, _SEED))
        key = hmac_sha256(key, _NEXT)
    return b"".join(entries), key


def _bounded(skipped: bytes, floor: int) -> tuple[bytes, int]:
    """The newest entries, as many as may be held, and the floor that tells of the others."""
    excess = len(skipped) // SKIPPED_ENTRY - MAX_SKIPPED
    if excess <= 0:
        return skipped, floor
    return skipped[excess * SKIPPED_ENTRY :], max(floor, _index_at(skipped, excess - 1) + 1)


def _index_at(skipped: bytes, position: int) -> int:
    offset = position * SKIPPED_ENTRY
    return int.from_bytes(skipped[offset : offset + 4], "big")
