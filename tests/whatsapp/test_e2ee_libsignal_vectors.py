"""Conversations of another implementation, replayed byte for byte.

The vectors are made by vectors/make_libsignal_vectors.mjs, which says how.
"""

import json
import pathlib
import typing as t

import pytest

from whatsapp.e2ee import curve, sender_key, session
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import DuplicateMessageError

VECTORS = json.loads(
    (pathlib.Path(__file__).parent / "vectors" / "libsignal_vectors.json").read_text()
)
SIGNED_PREKEY_ID = 1
PREKEY_ID = 77
UNUSED = KeyPair.from_private(b"\x09" * 32)


def key(private: str) -> KeyPair:
    return KeyPair.from_private(bytes.fromhex(private))


class Party:
    """One side of a recorded conversation, played by this implementation."""

    def __init__(self, vector: dict[str, t.Any]) -> None:
        self.own = session.LocalIdentity(key(vector["identity"]), vector["registration_id"])
        self.signed_prekey = key(vector["signed_prekey"])
        self.signature = bytes.fromhex(vector["signed_prekey_signature"])
        self.prekey = key(vector["prekey"])
        self.row: bytes | None = None

    @property
    def record(self) -> session.SessionRecord | None:
        return None if self.row is None else session.SessionRecord.from_bytes(self.row)

    def bundle(self, with_prekey: bool) -> session.PreKeyBundle:
        return session.PreKeyBundle(
            registration_id=self.own.registration_id,
            identity=self.own.identity.public,
            signed_prekey_id=SIGNED_PREKEY_ID,
            signed_prekey=self.signed_prekey.public,
            signed_prekey_signature=self.signature,
            prekey_id=PREKEY_ID if with_prekey else None,
            prekey=self.prekey.public if with_prekey else None,
        )

    def decrypt(self, kind: str, body: bytes, drawn: list[str]) -> bytes:
        new_ratchet = key(drawn[0]) if drawn else UNUSED
        if kind == "pkmsg":
            decrypted = session.decrypt_prekey_message(
                self.record,
                self.own,
                body,
                {SIGNED_PREKEY_ID: self.signed_prekey},
                {PREKEY_ID: self.prekey},
                new_ratchet,
            )
        else:
            assert self.record is not None
            decrypted = session.decrypt_message(self.record, self.own, body, new_ratchet)
        self.row = decrypted.record.to_bytes()
        return decrypted.plaintext


@pytest.mark.parametrize("vector", VECTORS["conversations"], ids=lambda vector: vector["name"])
def test_replaying_a_recorded_conversation_gives_the_same_bytes(vector: dict[str, t.Any]) -> None:
    """With the recorded keys, what we send equals what they sent, and we read all they read."""
    parties = {name: Party(party) for name, party in vector["parties"].items()}
    other = {"alice": parties["bob"], "bob": parties["alice"]}
    sent: list[dict[str, t.Any]] = []
    for event in vector["events"]:
        match event:
            case {"do": "start", "who": who, "drawn": [base_key, ratchet_key]}:
                party = parties[who]
                party.row = session.start_session(
                    party.record,
                    other[who].bundle(vector["with_prekey"]),
                    party.own,
                    key(base_key),
                    key(ratchet_key),
                ).to_bytes()
            case {"do": "send", "who": who}:
                party = parties[who]
                assert party.record is not None
                record, ciphertext = session.encrypt(
                    party.record, party.own, bytes.fromhex(event["plaintext"])
                )
                party.row = record.to_bytes()
                assert ciphertext.type == event["type"]
                assert ciphertext.body.hex() == event["body"]
                sent.append(event)
            case {"do": "deliver", "id": number, "drawn": drawn}:
                message = sent[number]
                receiver = other[message["who"]]
                body = bytes.fromhex(message["body"])
                plaintext = receiver.decrypt(message["type"], body, drawn)
                assert plaintext.hex() == message["plaintext"]
                with pytest.raises(DuplicateMessageError):
                    receiver.decrypt(message["type"], body, [])
            case _:
                pytest.fail(f"unknown event {event}")


def test_group_messages_of_another_implementation_are_read_in_any_order() -> None:
    """Its iterations leave gaps; a repeated distribution changes nothing."""
    group = VECTORS["group"]
    messages = [
        (bytes.fromhex(m["body"]), bytes.fromhex(m["plaintext"])) for m in group["messages"]
    ]
    first, again = (bytes.fromhex(d["data"]) for d in group["distributions"])
    record = sender_key.process_distribution(None, first)
    for number in (3, 0, 1, 7, 6, 2, 4, 5):
        record = sender_key.process_distribution(record, again)
        body, plaintext = messages[number]
        record, read = sender_key.decrypt(
            sender_key.SenderKeyRecord.from_bytes(record.to_bytes()), body
        )
        assert read == plaintext
        with pytest.raises(DuplicateMessageError):
            sender_key.decrypt(record, body)


def test_own_sender_key_gives_the_same_bytes_as_another_implementation() -> None:
    """Distribution and first message equal theirs, the signature aside (its nonce is free)."""
    group = VECTORS["group"]
    record = sender_key.create(
        None, group["id"], bytes.fromhex(group["chain_key"]), key(group["signing_private"])
    )
    assert sender_key.distribution(record).hex() == group["distributions"][0]["data"]
    expected = group["messages"][0]
    _record, body = sender_key.encrypt(record, bytes.fromhex(expected["plaintext"]), bytes(64))
    assert body[:-64].hex() == expected["body"][:-128]
    assert curve.verify(key(group["signing_private"]).public, body[:-64], body[-64:])
