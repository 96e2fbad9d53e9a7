"""Making prekeys: the one-time ones, and the signature of the long-lived one."""

import collections.abc as cabc
import typing as t

from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import LocalProtocolError

MAX_PREKEY_ID: t.Final = 0xFFFFFF


def generate(
    first_id: int, count: int, random: cabc.Callable[[int], bytes]
) -> tuple[tuple[int, KeyPair], ...]:
    """``count`` one-time prekeys with ascending ids; after 16777215 comes 1 again.

    ``random(n)`` gives n secret random bytes. Id 0 is never used: peers read it as "no prekey".
    Source: docs/protocol.md#key-ids

    Raises:
        LocalProtocolError: ``first_id`` is no prekey id, or more keys than ids.
    """
    if not (1 <= first_id <= MAX_PREKEY_ID and 0 <= count <= MAX_PREKEY_ID):
        raise LocalProtocolError(f"{count} prekeys from id {first_id}")
    return tuple(
        ((first_id - 1 + offset) % MAX_PREKEY_ID + 1, KeyPair.from_private(random(32)))
        for offset in range(count)
    )


def sign_prekey(identity: KeyPair, public: bytes, random64: bytes) -> bytes:
    """The identity key's signature over a signed prekey, as uploaded with it."""
    return curve.sign(identity.private, curve.serialise(public), random64)
