"""Randomness as an argument: the system's, or a reproducible stream for demos and tests."""

import hashlib
import secrets


class Entropy:
    """Random bytes on call; with a seed, the same ones in every run."""

    def __init__(self, seed: int | str | None = None) -> None:
        self._seed = None if seed is None else repr(seed).encode()
        self._drawn = 0

    def __call__(self, size: int) -> bytes:
        """``size`` fresh bytes."""
        if self._seed is None:
            return secrets.token_bytes(size)
        self._drawn += 1
        block = self._seed + b"/" + str(self._drawn).encode()
        return hashlib.shake_256(block).digest(size)

    def below(self, limit: int) -> int:
        """A number from 0 up to, not including, ``limit`` (at most 2**56)."""
        return int.from_bytes(self(8), "big") % limit

    def fork(self, name: str) -> "Entropy":
        """An independent stream, so that what one part draws never shifts what another gets."""
        if self._seed is None:
            return self
        child = Entropy()
        child._seed = self._seed + b"/" + name.encode() + b"/"
        return child
