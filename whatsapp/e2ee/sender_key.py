"""Sender keys: one chain per sender and group, signed, so that each message is encrypted once.

Records are values: every function returns a new one, and a failure returns nothing new.
Source: docs/protocol.md#sender-keys
"""

import collections.abc as cabc
import typing as t

import attrs
from google.protobuf.message import DecodeError

from whatsapp.e2ee import curve, ratchet, records
from whatsapp.e2ee.chain import Chain
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.primitives import cbc_decrypt, cbc_encrypt, hkdf
from whatsapp.errors import DecryptionError, DecryptionFailure, LocalProtocolError
from whatsapp.proto import records_pb2, wa_pb2

MAX_STATES: t.Final = 5
RECORD_VERSION: t.Final = 1


@attrs.frozen
class SenderKeyState:
    """One sender key: its chain, and the key its messages are signed with."""

    id: int
    chain: Chain
    signing_public: bytes
    signing_private: bytes | None = attrs.field(default=None, repr=False)  # own keys only


@attrs.frozen
class SenderKeyRecord:
    """The sender keys of one sender in one group; opaque to everybody but this module."""

    states: tuple[SenderKeyState, ...]  # newest first, at least one

    def to_bytes(self) -> bytes:
        """The row to store."""
        record = records_pb2.SenderKeyRecord(version=RECORD_VERSION)
        for state in self.states:
            row = record.states.add(id=state.id, signing_public=state.signing_public)
            records.write_chain(state.chain, row.chain)
            if state.signing_private is not None:
                row.signing_private = state.signing_private
        return record.SerializeToString()

    @classmethod
    def from_bytes(cls, row: bytes) -> "SenderKeyRecord":
        """Read a stored row.

        Raises:
            LocalProtocolError: corrupt, or of an unknown version.
        """
        try:
            record = records_pb2.SenderKeyRecord.FromString(row)
        except DecodeError as error:
            raise LocalProtocolError("corrupt sender-key record") from error
        if record.version != RECORD_VERSION:
            raise LocalProtocolError(f"sender-key record of version {record.version}")
        if not record.states:
            raise LocalProtocolError("sender-key record without a state")
        return cls(tuple(_read_state(state) for state in record.states))


def create(
    record: SenderKeyRecord | None, key_id: int, chain_key: bytes, signing: KeyPair
) -> SenderKeyRecord:
    """A record whose newest state is a fresh sender key of our own.

    ``key_id`` is any random number up to 2147483647, ``chain_key`` 32 secret random bytes.

    Raises:
        LocalProtocolError: an id or chain key out of those bounds.
    """
    if not 0 <= key_id < 2**31 or len(chain_key) != curve.KEY_LENGTH:
        raise LocalProtocolError("malformed sender key")
    return _with_newest(
        record, SenderKeyState(key_id, Chain(chain_key), signing.public, signing.private)
    )


def distribution(record: SenderKeyRecord) -> bytes:
    """What a member needs to read our messages from now on; to be sent in a session."""
    state = record.states[0]
    fields = wa_pb2.SenderKeyDistribution(
        id=state.id,
        iteration=state.chain.counter,
        chain_key=state.chain.key,
        signing_key=curve.serialise(state.signing_public),
    )
    return ratchet.VERSION_BYTE + fields.SerializeToString()


def position(record: SenderKeyRecord) -> tuple[int, int]:
    """The id of the newest sender key, and how many messages were encrypted with it."""
    state = record.states[0]
    return state.id, state.chain.counter


def process_distribution(record: SenderKeyRecord | None, data: bytes) -> SenderKeyRecord:
    """A record which can read the messages of the distributed sender key.

    Some senders distribute the same key again with every message, at its current position. Our
    own position is kept then, so that late messages stay readable; a distribution from before
    our first one adds the keys between the two. Source: docs/protocol.md#sender-keys

    Raises:
        DecryptionError: malformed.
    """
    distributed = _parse_distribution(data)
    for state in record.states if record is not None else ():
        if (state.id, state.signing_public) == (distributed.id, distributed.signing_public):
            chain = state.chain.extended_back(distributed.chain.key, distributed.chain.counter)
            return _with_newest(record, attrs.evolve(state, chain=chain))
    return _with_newest(record, distributed)


def encrypt(
    record: SenderKeyRecord, plaintext: bytes, random64: bytes
) -> tuple[SenderKeyRecord, bytes]:
    """The record after, and the ``skmsg`` body of, one message to the group.

    Raises:
        LocalProtocolError: the newest state is not ours.
    """
    state = record.states[0]
    if state.signing_private is None:
        raise LocalProtocolError("not an own sender key")
    seed, chain = state.chain.step()
    iv, key = _message_keys(seed)
    fields = wa_pb2.SenderKeyMessage(
        id=state.id, iteration=state.chain.counter, ciphertext=cbc_encrypt(key, iv, plaintext)
    )
    signed = ratchet.VERSION_BYTE + fields.SerializeToString()
    signature = curve.sign(state.signing_private, signed, random64)
    return _with_newest(record, attrs.evolve(state, chain=chain)), signed + signature


def decrypt(record: SenderKeyRecord, body: bytes) -> tuple[SenderKeyRecord, bytes]:
    """The record after, and the plaintext of, one ``skmsg``. Senders may leave gaps.

    Raises:
        DuplicateMessageError: its message key was used before.
        DecryptionError: malformed, an unknown sender key, or a wrong signature.
    """
    ratchet.check_version(body)
    signed, signature = body[: -curve.SIGNATURE_LENGTH], body[-curve.SIGNATURE_LENGTH :]
    try:
        fields = wa_pb2.SenderKeyMessage.FromString(signed[1:])
    except DecodeError as error:
        raise ratchet.malformed("not a SenderKeyMessage") from error
    if not (fields.HasField("id") and fields.HasField("iteration")):
        raise ratchet.malformed("SenderKeyMessage without id or iteration")
    position = _find_signer(record.states, fields.id, signed, signature)
    state = record.states[position]
    seed, chain = state.chain.take(fields.iteration)
    iv, key = _message_keys(seed)
    plaintext = cbc_decrypt(key, iv, fields.ciphertext)
    if plaintext is None:
        raise ratchet.malformed("ciphertext of a wrong length or padding")
    spent = attrs.evolve(state, chain=chain)
    before, after = record.states[:position], record.states[position + 1 :]
    return SenderKeyRecord((*before, spent, *after)), plaintext


def _find_signer(
    states: cabc.Sequence[SenderKeyState], key_id: int, signed: bytes, signature: bytes
) -> int:
    """The newest state of that id whose key made the signature: ids can repeat."""
    known = False
    for position, state in enumerate(states):
        if state.id == key_id:
            known = True
            if curve.verify(state.signing_public, signed, signature):
                return position
    if known:
        raise DecryptionError(DecryptionFailure.INVALID_SIGNATURE, f"sender key {key_id}")
    raise DecryptionError(DecryptionFailure.NO_SESSION, f"no sender key {key_id}")


def _with_newest(record: SenderKeyRecord | None, state: SenderKeyState) -> SenderKeyRecord:
    """The record with ``state`` in front, in place of the same sender key's former state."""
    others = tuple(
        other
        for other in (record.states if record is not None else ())
        if (other.id, other.signing_public) != (state.id, state.signing_public)
    )
    return SenderKeyRecord((state, *others)[:MAX_STATES])


def _message_keys(seed: bytes) -> tuple[bytes, bytes]:
    """IV and cipher key, in this order (sessions have them the other way round)."""
    keys = hkdf(seed, b"WhisperGroup", 48)
    return keys[:16], keys[16:]


def _parse_distribution(data: bytes) -> SenderKeyState:
    ratchet.check_version(data)
    try:
        fields = wa_pb2.SenderKeyDistribution.FromString(data[1:])
    except DecodeError as error:
        raise ratchet.malformed("not a SenderKeyDistribution") from error
    if not fields.HasField("id") or len(fields.chain_key) != curve.KEY_LENGTH:
        raise ratchet.malformed("SenderKeyDistribution without id or chain key")
    chain = Chain(fields.chain_key, fields.iteration, floor=fields.iteration)
    return SenderKeyState(fields.id, chain, ratchet.public_key(fields.signing_key))


def _read_state(row: records_pb2.SenderKeyState) -> SenderKeyState:
    private = row.signing_private if row.HasField("signing_private") else None
    return SenderKeyState(
        row.id,
        records.read_chain(row.chain),
        records.stored_key(row.signing_public),
        None if private is None else records.stored_key(private),
    )
