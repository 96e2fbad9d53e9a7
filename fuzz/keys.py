"""Fixed keys and parties, so that every run of a harness is the same."""

import hashlib
import typing as t

from whatsapp.certificates import issue_chain
from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair

NOW: t.Final = 1_790_000_000  # unix seconds


class Drawn:
    """``random(n)`` in the place of randomness: the same sequence for the same name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def __call__(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._name} {self._count}".encode()).digest(count)


def pair(name: str) -> KeyPair:
    """The key pair of that name."""
    return KeyPair.from_private(hashlib.sha256(name.encode()).digest())


ROOT: t.Final = pair("root")
INTERMEDIATE: t.Final = pair("intermediate")
SERVER_STATIC: t.Final = pair("server static")
SERVER_EPHEMERAL: t.Final = pair("server ephemeral")
CLIENT_NOISE: t.Final = pair("client noise")
CLIENT_EPHEMERAL: t.Final = pair("client ephemeral")
DEVICE: t.Final = Device.generate(Drawn("device"))


def chain() -> bytes:
    """A certificate chain that is valid under ``ROOT`` now."""
    return issue_chain(
        root=ROOT,
        intermediate=INTERMEDIATE,
        leaf_key=SERVER_STATIC.public,
        not_before=NOW - 86_400,
        not_after=NOW + 86_400,
        random=Drawn("chain"),
    )
