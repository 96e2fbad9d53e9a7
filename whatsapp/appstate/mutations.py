"""One record of a collection: encrypted under its key, named by the MAC of its index.

Source: docs/protocol.md#app-state-records
"""

import enum
import hmac
import json
import typing as t

import attrs
from google.protobuf.message import DecodeError

from whatsapp.appstate.errors import BrokenPatchError, MacError
from whatsapp.appstate.keys import KeyRing, SyncKeys
from whatsapp.e2ee.primitives import BLOCK, cbc_decrypt, cbc_encrypt, hmac_sha256
from whatsapp.proto import sync_pb2

MAC_LENGTH: t.Final = 32
MAX_VALUE: t.Final = 1 << 20  # bytes of one encrypted record
MAX_KEY_ID: t.Final = 64  # bytes; six in practice
MAX_INDEX_PARTS: t.Final = 16


class Operation(enum.IntEnum):
    """What a mutation does to the record of its index."""

    SET = 0
    REMOVE = 1


@attrs.frozen
class Mutation:
    """One change, decrypted and verified."""

    operation: Operation
    index: tuple[str, ...]
    """What it is about: a kind, and whom or what it concerns. Empty: unreadable to us."""
    value: sync_pb2.SyncActionValue = attrs.field(repr=False)
    version: int = 0  # of the action's form


@attrs.frozen
class Opened:
    """A mutation with the MACs that the hash of its collection is made of."""

    mutation: Mutation
    index_mac: bytes
    value_mac: bytes


def open_record(operation: Operation, record: sync_pb2.SyncRecord, ring: KeyRing) -> Opened:
    """Verify and decrypt one record.

    Raises:
        MissingKeyError: its key is not known.
        BrokenPatchError: malformed, or a MAC is wrong.
    """
    keys = ring[key_id_of(record.key_id)]
    index_mac, encrypted, value_mac = record.index.blob, *_split(record.value.blob)
    if not hmac.compare_digest(_value_mac(operation, encrypted, keys), value_mac):
        raise MacError("value")
    plain = cbc_decrypt(keys.value_encryption, encrypted[:BLOCK], encrypted[BLOCK:])
    if plain is None:
        raise BrokenPatchError("a record that does not decrypt")
    try:
        data = sync_pb2.SyncActionData.FromString(plain)
    except DecodeError as error:
        raise BrokenPatchError("a record without an index") from error
    if not hmac.compare_digest(hmac_sha256(keys.index, data.index), index_mac):
        raise MacError("index")
    return Opened(read_action(operation, data), index_mac, value_mac)


def seal_record(
    operation: Operation,
    index: tuple[str, ...],
    value: sync_pb2.SyncActionValue,
    keys: SyncKeys,
    *,
    iv: bytes,
    version: int,
) -> sync_pb2.SyncMutation:
    """Encrypt one change; ``iv`` is 16 random bytes, ``version`` the one of the action's form."""
    data = sync_pb2.SyncActionData(
        index=index_bytes(index),
        value=value.SerializeToString(deterministic=True),
        padding=b"",
        version=version,
    )
    encrypted = iv + cbc_encrypt(keys.value_encryption, iv, data.SerializeToString())
    record = sync_pb2.SyncRecord(
        index=sync_pb2.SyncIndex(blob=hmac_sha256(keys.index, data.index)),
        value=sync_pb2.SyncValue(blob=encrypted + _value_mac(operation, encrypted, keys)),
        key_id=sync_pb2.SyncKeyId(id=keys.id),
    )
    return sync_pb2.SyncMutation(operation=operation, record=record)


def read_action(operation: Operation, data: sync_pb2.SyncActionData) -> Mutation:
    """What a verified plaintext says; parts of it that make no sense to us read as empty."""
    try:
        value = sync_pb2.SyncActionValue.FromString(data.value)
    except DecodeError:
        value = sync_pb2.SyncActionValue()
    return Mutation(operation, _read_index(data.index), value, data.version)


def index_bytes(index: tuple[str, ...]) -> bytes:
    """An index in the exact form that phones write and that its MAC is over."""
    return json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode()


def index_mac_of(record: sync_pb2.SyncRecord) -> bytes:
    """The name of a record.

    Raises:
        BrokenPatchError: not a MAC.
    """
    if len(record.index.blob) != MAC_LENGTH:
        raise BrokenPatchError(f"an index MAC of {len(record.index.blob)} bytes")
    return record.index.blob


def value_mac_of(record: sync_pb2.SyncRecord) -> bytes:
    """The MAC at the end of a record's value.

    Raises:
        BrokenPatchError: malformed.
    """
    return _split(record.value.blob)[1]


def key_id_of(key_id: sync_pb2.SyncKeyId) -> bytes:
    """The name of a key.

    Raises:
        BrokenPatchError: none, or absurdly long.
    """
    if not 0 < len(key_id.id) <= MAX_KEY_ID:
        raise BrokenPatchError(f"a key id of {len(key_id.id)} bytes")
    return key_id.id


def readable(text: str) -> str:
    """The same text without what no database and no encoder takes (NUL, lone surrogates)."""
    return text.encode(errors="replace").decode().replace("\x00", "\ufffd")


def _read_index(data: bytes) -> tuple[str, ...]:
    try:
        parts = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(parts, list) or len(parts) > MAX_INDEX_PARTS:
        return ()
    if not all(isinstance(part, str | int) for part in parts):
        return ()
    return tuple(readable(str(part)) for part in parts)


def _split(blob: bytes) -> tuple[bytes, bytes]:
    """The encrypted record (with its iv), and the MAC behind it."""
    size = len(blob) - MAC_LENGTH
    if not 2 * BLOCK <= size <= MAX_VALUE or size % BLOCK:
        raise BrokenPatchError(f"a record of {len(blob)} bytes")
    return blob[:size], blob[size:]


def _value_mac(operation: Operation, encrypted: bytes, keys: SyncKeys) -> bytes:
    name = bytes([operation + 1]) + keys.id
    data = name + encrypted + len(name).to_bytes(8, "big")
    return hmac.digest(keys.value_mac, data, "sha512")[:MAC_LENGTH]
