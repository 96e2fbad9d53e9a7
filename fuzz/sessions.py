"""Harnesses for Signal: ciphertexts before and behind their MACs, sender keys, and stored rows."""

import functools
import typing as t

from google.protobuf.message import DecodeError

from fuzz import keys
from fuzz.harness import Target, choice, damaged, ensure, refused
from whatsapp.appstate import keys as sync_keys
from whatsapp.device import Device
from whatsapp.e2ee import curve, prekeys, ratchet, sender_key, session
from whatsapp.e2ee.primitives import hmac_sha256
from whatsapp.e2ee.sender_key import SenderKeyRecord
from whatsapp.e2ee.session import LocalIdentity, SessionRecord
from whatsapp.errors import LocalProtocolError
from whatsapp.proto import records_pb2, wa_pb2

SIGNED_PREKEY_ID: t.Final = 3
PREKEY_ID: t.Final = 9

_ALICE: t.Final = LocalIdentity(keys.pair("alice"), 1)
_BOB: t.Final = LocalIdentity(keys.pair("bob"), 2)
_SIGNED: t.Final = {SIGNED_PREKEY_ID: keys.pair("signed prekey")}
_PREKEYS: t.Final = {PREKEY_ID: keys.pair("one-time prekey")}
_NEW: t.Final = keys.pair("new ratchet")
_SIGNER: t.Final = keys.pair("signer")


def _bundle() -> session.PreKeyBundle:
    return session.PreKeyBundle(
        registration_id=_BOB.registration_id,
        identity=_BOB.identity.public,
        signed_prekey_id=SIGNED_PREKEY_ID,
        signed_prekey=_SIGNED[SIGNED_PREKEY_ID].public,
        signed_prekey_signature=prekeys.sign_prekey(
            _BOB.identity, _SIGNED[SIGNED_PREKEY_ID].public, bytes(64)
        ),
        prekey_id=PREKEY_ID,
        prekey=_PREKEYS[PREKEY_ID].public,
    )


@functools.cache
def parties() -> tuple[SessionRecord, session.Ciphertext, SessionRecord]:
    """Alice's record, her first message, and Bob's record after it, with one archived session."""
    alice = session.start_session(
        None, _bundle(), _ALICE, keys.pair("base"), keys.pair("alice ratchet")
    )
    alice, first = session.encrypt(alice, _ALICE, b"first")
    bob = _receive(None, first.body).record
    old = session.start_session(
        bob, _bundle(), _ALICE, keys.pair("other base"), keys.pair("other ratchet")
    )
    return alice, first, SessionRecord(bob.current, old.archived)


def _receive(record: SessionRecord | None, body: bytes) -> session.Decrypted:
    return session.decrypt_prekey_message(record, _BOB, body, _SIGNED, _PREKEYS, _NEW)


def ciphertext(data: bytes) -> None:
    """Messages of a session: raw, and with the right MAC over whatever fields."""
    way, data = choice(data, 4)
    alice, first, bob = parties()
    with refused:
        match way:
            case 0:
                session.decrypt_message(bob, _BOB, data, _NEW)
            case 1:
                _receive(bob, data)
            case 2:
                session.decrypt_message(bob, _BOB, _authentic(alice, data), _NEW)
            case _:
                # The outer part is the fuzzer's, the inner one a real first message.
                inner = session.peek_prekey_message(first.body)
                ensure(inner.prekey_id == PREKEY_ID, "another prekey than was sent")
                outer = b"\x33" + data + _field(4, wa_inner(first.body))
                for record in (None, bob):
                    _receive(record, outer)


def wa_inner(body: bytes) -> bytes:
    """The message inside a prekey message."""
    return wa_pb2.PreKeySignalMessage.FromString(body[1:]).message


def _field(number: int, value: bytes) -> bytes:
    ensure(len(value) < 1 << 14, "a short field")
    size = len(value)
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([number << 3 | 2]) + length + value


def _authentic(alice: SessionRecord, fields: bytes) -> bytes:
    """The fields under the MAC that Alice's chain gives for their counter."""
    signed = b"\x33" + _field(1, curve.serialise(alice.current.ratchet.public)) + fields
    try:
        counter = wa_pb2.SignalMessage.FromString(signed[1:]).counter
    except DecodeError:
        counter = 0
    chain = alice.current.sending
    index = chain.counter + counter % 8
    seed, _chain = chain.take(index)
    signed += bytes([2 << 3, index])  # of a field that comes twice the last one counts
    mac = hmac_sha256(
        ratchet.MessageKeys.from_seed(seed).mac,
        curve.serialise(_ALICE.identity.public) + curve.serialise(_BOB.identity.public) + signed,
    )
    return signed + mac[: ratchet.MAC_LENGTH]


@functools.cache
def group_key() -> tuple[SenderKeyRecord, SenderKeyRecord]:
    """A sender key as its owner has it, and as a member got it."""
    owner = sender_key.create(None, 5, bytes(32), _SIGNER)
    member = sender_key.process_distribution(None, sender_key.distribution(owner))
    return owner, member


def group_ciphertext(data: bytes) -> None:
    """Sender keys handed out, and group messages with and without the right signature."""
    way, data = choice(data, 4)
    _owner, member = group_key()
    with refused:
        match way:
            case 0:
                sender_key.decrypt(member, data)
            case 1:
                signed = b"\x33" + data
                sender_key.decrypt(member, signed + curve.sign(_SIGNER.private, signed, bytes(64)))
            case 2:
                record = sender_key.process_distribution(None, data)
                ensure(
                    SenderKeyRecord.from_bytes(record.to_bytes()) == record,
                    "a sender key that changes in storage",
                )
            case _:
                # The known key once more, at another position.
                known = b"\x33" + data + sender_key.distribution(_owner)[1:]
                record = sender_key.process_distribution(member, known)
                ensure(len(record.states) <= sender_key.MAX_STATES, "too many sender keys")


def stored(data: bytes) -> None:
    """Rows read back: what can be read can be used and written again; the rest is damaged."""
    way, data = choice(data, 4)
    alice, first, _bob = parties()
    with damaged:
        match way:
            case 0:
                _use_session(SessionRecord.from_bytes(data), alice, first)
            case 1:
                _use_sender_key(SenderKeyRecord.from_bytes(data))
            case 2:
                device = Device.from_bytes(data)
                ensure(Device.from_bytes(device.to_bytes()) == device, "a device that changes")
            case _:
                sync_keys.secret_of(data)


def _use_session(record: SessionRecord, alice: SessionRecord, first: session.Ciphertext) -> None:
    again = SessionRecord.from_bytes(record.to_bytes())
    ensure(again == record, "a session that changes in storage")
    _after, message = session.encrypt(alice, _ALICE, b"second")
    for body in (first.body, message.body):
        with refused:
            _receive(record, body)
    with refused:
        session.decrypt_message(record, _BOB, wa_inner(first.body), _NEW)
    session.encrypt(record, _BOB, b"answer")
    record.archived_states()


def _use_sender_key(record: SenderKeyRecord) -> None:
    ensure(SenderKeyRecord.from_bytes(record.to_bytes()) == record, "a sender key that changes")
    owner, _member = group_key()
    with refused:
        sender_key.process_distribution(record, sender_key.distribution(owner))
    _owner, body = sender_key.encrypt(owner, b"hello", bytes(64))
    with refused:
        sender_key.decrypt(record, body)
    try:
        sender_key.encrypt(record, b"hello", bytes(64))
    except LocalProtocolError:
        ensure(record.states[0].signing_private is None, "an own sender key that does not work")


def seeds() -> dict[str, list[bytes]]:
    """Inputs that get far, for the corpus."""
    alice, first, bob = parties()
    _after, second = session.encrypt(alice, _ALICE, b"second")
    owner, member = group_key()
    _owner, body = sender_key.encrypt(owner, b"hello", bytes(64))
    device = Device.generate(keys.Drawn("stored"))
    inner = wa_pb2.SignalMessage(counter=1, ciphertext=bytes(16)).SerializeToString()
    outer = wa_pb2.PreKeySignalMessage.FromString(first.body[1:])
    outer.ClearField("message")
    archived = records_pb2.SessionRecord.FromString(bob.to_bytes())
    return {
        "ciphertext": [
            b"\0" + wa_inner(first.body),
            b"\1" + first.body,
            b"\1" + second.body,
            b"\2" + inner,
            b"\3" + outer.SerializeToString(),
        ],
        "group_ciphertext": [
            b"\0" + body,
            b"\1" + body[1 : -curve.SIGNATURE_LENGTH],
            b"\2" + sender_key.distribution(owner),
            b"\3" + sender_key.distribution(member)[1:],
        ],
        "stored": [
            b"\0" + archived.SerializeToString(),
            b"\0" + alice.to_bytes(),
            b"\1" + owner.to_bytes(),
            b"\1" + member.to_bytes(),
            b"\2" + device.to_bytes(),
            b"\3" + sync_keys.build_key_data(bytes(32), 1),
        ],
    }


TARGETS: t.Final = (
    Target(name="ciphertext", run=ciphertext, form="choice"),
    Target(name="group_ciphertext", run=group_ciphertext, form="choice"),
    Target(name="stored", run=stored, form="choice"),
)
