"""Sender keys: any order of delivery, repeated distributions, limits, and hostile bytes."""

import hashlib
import itertools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.e2ee import curve, sender_key
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.sender_key import SenderKeyRecord
from whatsapp.errors import (
    DecryptionError,
    DecryptionFailure,
    DuplicateMessageError,
    LocalProtocolError,
    RemoteProtocolError,
)
from whatsapp.proto import records_pb2, wa_pb2

SIGNING = KeyPair.from_private(b"\x51" * 32)
OTHER = KeyPair.from_private(b"\x52" * 32)


class Sender:
    """The owner of a sender key; the record passes through bytes at every message."""

    def __init__(self, key_id: int = 5, signing: KeyPair = SIGNING) -> None:
        chain_key = hashlib.sha256(signing.private).digest()
        self.row = sender_key.create(None, key_id, chain_key, signing).to_bytes()

    @property
    def distribution(self) -> bytes:
        return sender_key.distribution(SenderKeyRecord.from_bytes(self.row))

    def send(self, text: str) -> bytes:
        record, body = sender_key.encrypt(
            SenderKeyRecord.from_bytes(self.row), text.encode(), bytes(64)
        )
        self.row = record.to_bytes()
        return body


def member(*distributions: bytes) -> SenderKeyRecord:
    """The record of someone who has received these distributions."""
    record = None
    for data in distributions:
        record = sender_key.process_distribution(record, data)
    assert record is not None
    return record


def read(record: SenderKeyRecord, body: bytes) -> tuple[SenderKeyRecord, str]:
    """Decrypt, with the record passing through bytes."""
    after, plaintext = sender_key.decrypt(SenderKeyRecord.from_bytes(record.to_bytes()), body)
    return after, plaintext.decode()


def failure_of(record: SenderKeyRecord, body: bytes) -> DecryptionError:
    """Why this message cannot be read."""
    with pytest.raises(DecryptionError) as failure:
        sender_key.decrypt(record, body)
    return failure.value


@settings(deadline=None)
@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=8))
def test_messages_read_in_any_order_whatever_distribution_comes_first(
    order: list[int], distributed: list[int]
) -> None:
    """Each message carries the key at its position, as some senders do, and order is lost.

    The first distribution to arrive decides nothing: an earlier one adds the keys before it.
    """
    sender = Sender()
    messages = [(sender.distribution, sender.send(f"message {number}")) for number in range(8)]
    record = None
    readable = 8
    for number in order:
        distribution, body = messages[number]
        record = sender_key.process_distribution(record, distribution)
        readable = min(readable, number)
        for repeated in distributed:
            if repeated >= readable:
                record = sender_key.process_distribution(record, messages[repeated][0])
        record, text = read(record, body)
        assert text == f"message {number}"
        assert isinstance(failure_of(record, body), DuplicateMessageError)
        assert len(record.states) == 1


def test_a_message_from_before_the_distribution_is_no_duplicate() -> None:
    """We cannot know whether it was read, so it may not be called seen."""
    sender = Sender()
    early = sender.send("early")
    record = member(sender.distribution)
    error = failure_of(record, early)
    assert not isinstance(error, DuplicateMessageError)
    assert error.reason is DecryptionFailure.INVALID_MESSAGE_KEY


def test_a_distribution_from_far_before_changes_nothing() -> None:
    """Deriving the keys in between is bounded; the position held is kept."""
    sender = Sender()
    early = sender.distribution
    for _ in range(2001):
        body = sender.send("")
    record = member(sender.distribution)
    assert sender_key.process_distribution(record, early) == record
    assert not isinstance(failure_of(record, body), DuplicateMessageError)


def test_the_last_index_of_a_chain_is_never_reached() -> None:
    """A chain distributed at its very end still gives a record that can be stored."""
    fields = wa_pb2.SenderKeyDistribution(
        id=5, iteration=2**32 - 2, chain_key=bytes(32), signing_key=curve.serialise(SIGNING.public)
    )
    record = member(b"\x33" + fields.SerializeToString())
    owner = SenderKeyRecord(
        tuple(attrs.evolve(state, signing_private=SIGNING.private) for state in record.states)
    )
    owner, body = sender_key.encrypt(owner, b"last", bytes(64))
    record, text = read(record, body)
    assert text == "last"
    signed = (
        b"\x33"
        + wa_pb2.SenderKeyMessage(
            id=5, iteration=2**32 - 1, ciphertext=bytes(16)
        ).SerializeToString()
    )
    error = failure_of(record, signed + curve.sign(SIGNING.private, signed, bytes(64)))
    assert error.reason is DecryptionFailure.INVALID_MESSAGE
    assert SenderKeyRecord.from_bytes(record.to_bytes()) == record


def test_gaps_are_accepted() -> None:
    """Some senders use every second iteration; the keys between stay in store."""
    sender = Sender()
    record = member(sender.distribution)
    bodies = [sender.send(str(number)) for number in range(9)]
    for number in range(0, 9, 2):
        record, text = read(record, bodies[number])
        assert text == str(number)
    assert len(record.states[0].chain.skipped) == 4 * 36


def test_a_sender_may_jump_2000_messages_and_no_more() -> None:
    """The bound on what one message may cost."""
    sender = Sender()
    record = member(sender.distribution)
    bodies = [sender.send(str(number)) for number in range(2002)]
    assert failure_of(record, bodies[2001]).reason is DecryptionFailure.TOO_FAR_IN_FUTURE
    record, text = read(record, bodies[2000])
    assert text == "2000"
    record, text = read(record, bodies[0])
    assert text == "0"


def test_a_reused_id_with_another_signing_key_is_another_sender_key() -> None:
    """Both stay readable: the signature tells which one a message belongs to."""
    first, second = Sender(signing=SIGNING), Sender(signing=OTHER)
    record = member(first.distribution, second.distribution)
    record, text = read(record, second.send("second"))
    assert text == "second"
    record, text = read(record, first.send("first"))
    assert text == "first"
    assert [state.signing_public for state in record.states] == [OTHER.public, SIGNING.public]


def test_five_sender_keys_are_kept() -> None:
    """A sixth pushes the oldest out; an old one distributed again counts as new."""
    senders = [Sender(key_id=number) for number in range(7)]
    record = member(*(sender.distribution for sender in senders[:5]))
    record = sender_key.process_distribution(record, senders[0].distribution)
    record = sender_key.process_distribution(record, senders[5].distribution)
    assert [state.id for state in record.states] == [5, 0, 4, 3, 2]
    assert failure_of(record, senders[1].send("")).reason is DecryptionFailure.NO_SESSION
    assert read(record, senders[0].send("zero"))[1] == "zero"


def test_tampering_with_any_byte_is_noticed_and_leaves_the_state_usable() -> None:
    """The signature covers every byte of the message as received."""
    sender = Sender()
    record = member(sender.distribution)
    body = sender.send("genuine")
    for position in range(len(body)):
        tampered = bytearray(body)
        tampered[position] ^= 0x01
        assert not isinstance(failure_of(record, bytes(tampered)), DuplicateMessageError)
    assert failure_of(record, body[:-1] + b"\xff").reason is DecryptionFailure.INVALID_SIGNATURE
    assert read(record, body)[1] == "genuine"


def test_a_member_cannot_send_in_the_name_of_another() -> None:
    """Every member knows the chain key; only the signing key makes a sender."""
    sender = Sender()
    record = member(sender.distribution)
    forger = SenderKeyRecord(
        tuple(attrs.evolve(state, signing_private=OTHER.private) for state in record.states)
    )
    _record, body = sender_key.encrypt(forger, b"forged", bytes(64))
    assert failure_of(record, body).reason is DecryptionFailure.INVALID_SIGNATURE


def test_zero_iterations_are_on_the_wire() -> None:
    """Peers which encode a message again before checking it need every field there."""
    sender = Sender(key_id=0)
    fields = wa_pb2.SenderKeyDistribution.FromString(sender.distribution[1:])
    assert [field.number for field, _ in fields.ListFields()] == [1, 2, 3, 4]
    message = wa_pb2.SenderKeyMessage.FromString(sender.send("")[1:-64])
    assert [field.number for field, _ in message.ListFields()] == [1, 2, 3]


def test_only_the_owner_encrypts() -> None:
    """A received sender key cannot send, and a malformed one is not made."""
    with pytest.raises(LocalProtocolError):
        sender_key.encrypt(member(Sender().distribution), b"", bytes(64))
    for key_id, chain_key in ((-1, bytes(32)), (2**31, bytes(32)), (1, b"short")):
        with pytest.raises(LocalProtocolError):
            sender_key.create(None, key_id, chain_key, SIGNING)


def test_rotation_keeps_the_former_key_for_late_readers() -> None:
    """A fresh key goes in front and is the one distributed."""
    record = sender_key.create(None, 1, bytes(32), SIGNING)
    record = sender_key.create(record, 2, b"\x01" * 32, OTHER)
    assert [state.id for state in record.states] == [2, 1]
    assert member(sender_key.distribution(record)).states[0].id == 2


def test_a_distribution_never_replaces_an_own_key() -> None:
    """Our own key handed back to us keeps its private part and position."""
    sender = Sender()
    early = sender.distribution
    sender.send("")
    record = sender_key.process_distribution(SenderKeyRecord.from_bytes(sender.row), early)
    assert record.to_bytes() == sender.row


malformed_distributions = [
    b"",
    b"\x33",
    b"\x33\xff",
    b"\x23" + Sender().distribution[1:],
    *(
        b"\x33" + fields.SerializeToString()
        for fields in (
            wa_pb2.SenderKeyDistribution(id=1, chain_key=b"short", signing_key=b"\x05" + bytes(32)),
            wa_pb2.SenderKeyDistribution(id=1, chain_key=bytes(32), signing_key=bytes(32)),
            wa_pb2.SenderKeyDistribution(chain_key=bytes(32), signing_key=b"\x05" + bytes(32)),
        )
    ),
]


@pytest.mark.parametrize("data", malformed_distributions)
def test_malformed_distributions_are_refused(data: bytes) -> None:
    """Nothing is kept of them."""
    with pytest.raises(DecryptionError):
        sender_key.process_distribution(None, data)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x33"]))
def test_any_bytes_fail_as_the_peers_fault(data: bytes, prefix: bytes) -> None:
    """No bytes raise anything but `RemoteProtocolError`."""
    record = member(Sender().distribution)
    with pytest.raises(RemoteProtocolError):
        sender_key.decrypt(record, prefix + data)
    with pytest.raises(RemoteProtocolError):
        sender_key.process_distribution(record, prefix + data)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.one_of(st.integers(0, 3000), st.integers(0, 2**32 - 1)),
    st.binary(max_size=40),
)
def test_signed_nonsense_fails_as_the_peers_fault(
    key_id: int, iteration: int, ciphertext: bytes
) -> None:
    """A member who signs garbage harms nobody but the message."""
    record = member(Sender(key_id=key_id & 1).distribution)
    fields = wa_pb2.SenderKeyMessage(id=key_id, iteration=iteration, ciphertext=ciphertext)
    signed = b"\x33" + fields.SerializeToString()
    body = signed + curve.sign(SIGNING.private, signed, bytes(64))
    before = record.to_bytes()
    failure_of(record, body)
    assert record.to_bytes() == before


def test_records_survive_storage() -> None:
    """All of a record is in its row, private key and skipped keys included."""
    sender = Sender()
    assert SenderKeyRecord.from_bytes(sender.row).to_bytes() == sender.row
    record = member(sender.distribution, Sender(9, OTHER).distribution)
    sender.send("skipped")
    record, _text = read(record, sender.send("read"))
    assert SenderKeyRecord.from_bytes(record.to_bytes()) == record


def test_corrupt_rows_are_our_fault() -> None:
    """A row we cannot read raises the local error."""
    row = Sender().row
    newer = records_pb2.SenderKeyRecord.FromString(row)
    newer.version = 2
    empty = records_pb2.SenderKeyRecord(version=1)
    bad_key = records_pb2.SenderKeyRecord.FromString(row)
    bad_key.states[0].signing_private = b"short"
    bad_chain = records_pb2.SenderKeyRecord.FromString(row)
    bad_chain.states[0].chain.key = b"short"
    for bad in (b"\xff", row[:-1], *(r.SerializeToString() for r in (newer, empty, bad_key))):
        with pytest.raises(LocalProtocolError):
            SenderKeyRecord.from_bytes(bad)
    with pytest.raises(LocalProtocolError):
        SenderKeyRecord.from_bytes(bad_chain.SerializeToString())


def test_late_keys_beyond_the_store_are_no_duplicates() -> None:
    """With 2000 skipped keys held the oldest go first, and their messages are not called seen."""
    sender = Sender()
    record = member(sender.distribution)
    bodies = [sender.send(str(number)) for number in range(2030)]
    for number in itertools.chain(range(1, 21, 2), [2011, 2029]):
        record, _text = read(record, bodies[number])
    held = len(record.states[0].chain.skipped) // 36
    assert held == 2000
    assert not isinstance(failure_of(record, bodies[0]), DuplicateMessageError)
    assert isinstance(failure_of(record, bodies[2011]), DuplicateMessageError)
