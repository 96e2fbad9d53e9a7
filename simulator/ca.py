"""The simulator's own certificate authority: clients under test are told to trust its root."""

import typing as t

from simulator.entropy import Entropy
from simulator.faults import Forgery
from whatsapp.certificates import issue_chain
from whatsapp.e2ee.curve import KeyPair

_DAY: t.Final = 86400
_VALID_FOR: t.Final = 3650 * _DAY


class Authority:
    """A root, the server's static key, and chains between the two."""

    def __init__(self, entropy: Entropy, now: int) -> None:
        self._entropy = entropy
        self._now = now
        self._root = self._pair()
        self._intermediate = self._pair()
        self.static = self._pair()
        self._chain = self._issue(self._root, self.static.public)

    @property
    def root_key(self) -> bytes:
        """The public key to trust, 32 bytes."""
        return self._root.public

    def chain(self, forgery: Forgery | None = None) -> bytes:
        """The server's chain; a forged one has another root, or is for another server's key."""
        match forgery:
            case None:
                return self._chain
            case "root":
                return self._issue(self._pair(), self.static.public)
            case "leaf":
                return self._issue(self._root, self._pair().public)

    def _issue(self, root: KeyPair, leaf_key: bytes) -> bytes:
        return issue_chain(
            root=root,
            intermediate=self._intermediate,
            leaf_key=leaf_key,
            not_before=self._now - _DAY,
            not_after=self._now + _VALID_FOR,
            random=self._entropy,
        )

    def _pair(self) -> KeyPair:
        return KeyPair.from_private(self._entropy(32))
