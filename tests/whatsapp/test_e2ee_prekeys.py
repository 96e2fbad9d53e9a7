"""Making prekeys."""

import pytest

from whatsapp.e2ee import curve, prekeys
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import LocalProtocolError


def test_ids_ascend_and_wrap_around_without_zero() -> None:
    """After the largest id of three bytes comes 1; 0 would read as "no prekey"."""
    pairs = prekeys.generate(0xFFFFFE, 4, bytes)
    assert [prekey_id for prekey_id, _ in pairs] == [0xFFFFFE, 0xFFFFFF, 1, 2]


def test_each_key_takes_randomness_of_its_own() -> None:
    """32 bytes per key, in order."""
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    pairs = prekeys.generate(1, 3, random)
    assert asked == [32, 32, 32]
    assert [pair for _, pair in pairs] == [
        KeyPair.from_private(bytes([number]) * 32) for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0x1000000, 1), (1, -1), (1, 0x1000000)])
def test_impossible_batches_are_our_fault(first: int, count: int) -> None:
    """Ids are three bytes and never repeat within a batch."""
    with pytest.raises(LocalProtocolError):
        prekeys.generate(first, count, bytes)


def test_the_signature_covers_the_serialised_key() -> None:
    """33 bytes are signed, by the identity key."""
    identity, prekey = KeyPair.from_private(b"\x01" * 32), KeyPair.from_private(b"\x02" * 32)
    signature = prekeys.sign_prekey(identity, prekey.public, bytes(64))
    assert curve.verify(identity.public, b"\x05" + prekey.public, signature)
