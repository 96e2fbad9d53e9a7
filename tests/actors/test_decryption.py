"""A stanza of several parts: what can be read counts, whatever the others do."""

import random

import attrs
import pytest

from actors.decryption import Decryptor
from actors.inbound import envelope_for
from actors.records import RecordCache
from tests.actors.conftest import NAME, FaultyStorage
from tests.actors.test_inbound import DEVICE, stanza
from whatsapp.content import build_sender_key_distribution, build_text
from whatsapp.e2ee import sender_key, session
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import DecryptionError, DecryptionFailure, DuplicateMessageError
from whatsapp.padding import pad
from whatsapp.stanzas import EncPayload, MessageStanza

RANDOM = random.Random(5)
GROUP = "1-2@g.us"


def new_key() -> KeyPair:
    return KeyPair.from_private(RANDOM.randbytes(32))


@pytest.fixture
def parts() -> dict[str, EncPayload]:
    """What a group member sends: the sender key pairwise, and the text under it."""
    bundle = session.PreKeyBundle(
        registration_id=DEVICE.registration_id,
        identity=DEVICE.identity.public,
        signed_prekey_id=DEVICE.signed_prekey_id,
        signed_prekey=DEVICE.signed_prekey.public,
        signed_prekey_signature=DEVICE.signed_prekey_signature,
        prekey_id=None,
        prekey=None,
    )
    member = session.LocalIdentity(new_key(), 7)
    record = session.start_session(None, bundle, member, new_key(), new_key())
    key = sender_key.create(None, 9, RANDOM.randbytes(32), new_key())
    handed = build_sender_key_distribution(GROUP, sender_key.distribution(key))
    record, pairwise = session.encrypt(record, member, pad(handed, 3))
    _, direct = session.encrypt(record, member, pad(build_text("pairwise text"), 3))
    _, common = sender_key.encrypt(key, pad(build_text("common text"), 3), RANDOM.randbytes(64))
    return {
        "key": EncPayload("pkmsg", pairwise.body),
        "direct": EncPayload("pkmsg", direct.body),
        "common": EncPayload("skmsg", common),
        "broken": EncPayload("pkmsg", pairwise.body[:-1] + b"\x00"),
        "strange": EncPayload("msmsg", b"?"),
    }


def group_stanza(*encs: EncPayload) -> MessageStanza:
    base = stanza(**{"from": GROUP, "participant": "15550001111:2@s.whatsapp.net"})
    return attrs.evolve(base, encs=encs)


async def text_of(storage: FaultyStorage, *encs: EncPayload) -> str | None:
    decryptor = Decryptor(RecordCache(storage, NAME), DEVICE, RANDOM.randbytes)
    given = group_stanza(*encs)
    opened = await decryptor.open(given)
    message = envelope_for(NAME, DEVICE, given, opened).message
    return None if message is None or message.kind == "undecryptable" else message.text


async def test_a_broken_part_hides_no_readable_one(
    storage: FaultyStorage, parts: dict[str, EncPayload]
) -> None:
    """I5: before or behind what cannot be read, a message is a message."""
    assert await text_of(storage, parts["key"], parts["common"]) == "common text"
    assert await text_of(storage, parts["strange"], parts["direct"]) == "pairwise text"
    assert await text_of(storage, parts["direct"], parts["strange"]) == "pairwise text"
    assert await text_of(storage, parts["strange"], parts["key"], parts["common"]) == "common text"


async def test_the_failure_that_tells_most_is_the_reason(
    storage: FaultyStorage, parts: dict[str, EncPayload]
) -> None:
    """A repeated part beside one that never opened is no redelivery."""
    cache = RecordCache(storage, NAME)
    decryptor = Decryptor(cache, DEVICE, RANDOM.randbytes)
    opened = await decryptor.open(group_stanza(parts["direct"]))
    assert opened.failure is None
    cache.put(opened.changes, ticket=1)
    repeated = await decryptor.open(group_stanza(parts["direct"]))
    assert isinstance(repeated.failure, DuplicateMessageError)
    mixed = await decryptor.open(group_stanza(parts["direct"], parts["common"]))
    assert isinstance(mixed.failure, DecryptionError)
    assert not isinstance(mixed.failure, DuplicateMessageError)
    assert mixed.reason is DecryptionFailure.NO_SESSION
