"""What the phone and its linked devices tell each other about app state, as peer messages.

Every reader takes the plaintext of a message and is None (or empty) when it is about something
else. Source: docs/protocol.md#app-state-keys and docs/protocol.md#app-state-recovery
"""

import collections.abc as cabc
import typing as t
import zlib

import attrs
from google.protobuf.message import DecodeError

from whatsapp import protobuf
from whatsapp.appstate.keys import SECRET_LENGTH
from whatsapp.appstate.mutations import MAX_KEY_ID, readable
from whatsapp.appstate.wire import MAX_BLOB, MAX_FIELDS
from whatsapp.errors import RemoteProtocolError
from whatsapp.proto import sync_pb2

KEY_PRIORITY: t.Final = "high"
"""The push priority of a key request."""
RECOVERY_PRIORITY: t.Final = "high_force"
"""The push priority of a request for a snapshot."""

MAX_KEYS: t.Final = 1024  # in one share or request

_KEY_SHARE: t.Final = 6
_KEY_REQUEST: t.Final = 7
_DATA_REQUEST: t.Final = 16
_DATA_RESPONSE: t.Final = 17
_SNAPSHOT_RECOVERY: t.Final = 8  # the kind of data
_GZIP_OR_ZLIB: t.Final = 32 + zlib.MAX_WBITS

SharedKey: t.TypeAlias = tuple[str, bytes]
"""The hex of a key id, and its AppStateSyncKeyData."""


@attrs.frozen(repr=False)
class Recovered:
    """What the phone sent of a collection that this device could not verify."""

    request_id: str  # stanza id of the request
    collection: str
    recovery: sync_pb2.SyncRecovery


def read_key_share(raw: bytes) -> tuple[SharedKey, ...]:
    """The usable keys in a message of the phone; empty when it shares none.

    Raises:
        RemoteProtocolError: not a message.
    """
    protocol = _protocol(raw)
    return () if protocol is None else _keys(protocol.key_share)


def keys_from_share(share: bytes) -> tuple[SharedKey, ...]:
    """The usable keys in an AppStateSyncKeyShare.

    Raises:
        RemoteProtocolError: malformed.
    """
    return _keys(protobuf.decode(sync_pb2.SyncKeyShare, share))


def build_key_share(keys: cabc.Iterable[tuple[bytes, bytes | None]]) -> bytes:
    """The phone's answer: key ids with their AppStateSyncKeyData, or None for unknown ones."""
    share = sync_pb2.SyncKeyShare()
    for key_id, data in keys:
        share.keys.add(key_id=sync_pb2.SyncKeyId(id=key_id), key_data=data)
    return _message(sync_pb2.SyncPeerMessage.Protocol(type=_KEY_SHARE, key_share=share))


def build_key_request(key_ids: cabc.Iterable[bytes]) -> bytes:
    """Asks the phone for keys."""
    request = sync_pb2.SyncKeyRequest(key_ids=(sync_pb2.SyncKeyId(id=key) for key in key_ids))
    return _message(sync_pb2.SyncPeerMessage.Protocol(type=_KEY_REQUEST, key_request=request))


def parse_key_request(raw: bytes) -> tuple[bytes, ...]:
    """The ids of the keys that a device asks for.

    Raises:
        RemoteProtocolError: not a message.
    """
    protocol = _protocol(raw)
    if protocol is None or protocol.type != _KEY_REQUEST:
        return ()
    return tuple(key.id for key in protocol.key_request.key_ids[:MAX_KEYS])


def _keys(share: sync_pb2.SyncKeyShare) -> tuple[SharedKey, ...]:
    return tuple(
        (key.key_id.id.hex(), key.key_data)
        for key in share.keys[:MAX_KEYS]
        if 0 < len(key.key_id.id) <= MAX_KEY_ID and _is_usable(key.key_data)
    )


def _is_usable(key_data: bytes) -> bool:
    """A phone answers without data for a key that it does not have."""
    try:
        return len(sync_pb2.SyncKeyData.FromString(key_data).key_data) == SECRET_LENGTH
    except DecodeError:
        return False


def build_recovery_request(collection: str, timestamp: int) -> bytes:
    """Asks the phone for its own copy of a collection; ``timestamp`` in unix seconds."""
    request = sync_pb2.SyncRecoveryRequest(
        type=_SNAPSHOT_RECOVERY,
        collection=sync_pb2.SyncRecoveryRequest.Collection(
            collection_name=collection.encode(), timestamp=timestamp
        ),
    )
    return _message(sync_pb2.SyncPeerMessage.Protocol(type=_DATA_REQUEST, recovery_request=request))


def parse_recovery_request(raw: bytes) -> str | None:
    """The collection that a device asks for.

    Raises:
        RemoteProtocolError: not a message.
    """
    protocol = _protocol(raw)
    if protocol is None or protocol.recovery_request.type != _SNAPSHOT_RECOVERY:
        return None
    return _text(protocol.recovery_request.collection.collection_name)


def build_recovery_response(
    request_id: str, recovery: sync_pb2.SyncRecovery, *, compress: bool = True
) -> bytes:
    """The phone's copy of a collection, in answer to the request ``request_id``."""
    data = recovery.SerializeToString()
    if compress:
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        data = packer.compress(data) + packer.flush()
    snapshot = sync_pb2.SyncRecoveryResponse.Snapshot(
        collection_snapshot=data, is_compressed=compress
    )
    response = sync_pb2.SyncRecoveryResponse(
        type=_SNAPSHOT_RECOVERY,
        stanza_id=request_id.encode(),
        results=(sync_pb2.SyncRecoveryResponse.Result(snapshot=snapshot),),
    )
    return _message(
        sync_pb2.SyncPeerMessage.Protocol(type=_DATA_RESPONSE, recovery_response=response)
    )


def is_recovery(raw: bytes) -> bool:
    """Whether a message answers a request for a snapshot (even with nothing in it).

    Raises:
        RemoteProtocolError: not a message.
    """
    protocol = _protocol(raw)
    return protocol is not None and protocol.recovery_response.type == _SNAPSHOT_RECOVERY


def read_recovery(raw: bytes) -> Recovered | None:
    """The phone's copy of a collection; None also when the phone has none.

    Raises:
        RemoteProtocolError: malformed, or too large.
    """
    protocol = _protocol(raw)
    if protocol is None or protocol.recovery_response.type != _SNAPSHOT_RECOVERY:
        return None
    response = protocol.recovery_response
    snapshot = next((r.snapshot for r in response.results if r.HasField("snapshot")), None)
    if snapshot is None or not snapshot.collection_snapshot:
        return None
    data = snapshot.collection_snapshot
    if snapshot.is_compressed:
        data = _inflate(data)
    recovery = protobuf.decode(sync_pb2.SyncRecovery, data, MAX_FIELDS)
    return Recovered(_text(response.stanza_id), _text(recovery.collection_name), recovery)


def _inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
    try:
        inflated = unpacker.decompress(data, MAX_BLOB)
    except zlib.error as error:
        raise RemoteProtocolError("a recovered collection that does not inflate") from error
    if not unpacker.eof:
        raise RemoteProtocolError("a recovered collection that is cut off, or too large")
    return inflated


def _message(protocol: sync_pb2.SyncPeerMessage.Protocol) -> bytes:
    return sync_pb2.SyncPeerMessage(protocol_message=protocol).SerializeToString()


def _protocol(raw: bytes) -> sync_pb2.SyncPeerMessage.Protocol | None:
    message = protobuf.decode(sync_pb2.SyncPeerMessage, raw)
    if message.HasField("device_sent_message"):  # some clients wrap peer messages, too
        message = message.device_sent_message.message
    return message.protocol_message if message.HasField("protocol_message") else None


def _text(data: bytes) -> str:
    return readable(data.decode(errors="replace"))
