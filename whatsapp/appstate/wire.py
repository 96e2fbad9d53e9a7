"""Patches and snapshots as they lie on the server: parsed and bounded, nothing verified.

Source: docs/protocol.md#app-state-records
"""

import collections.abc as cabc
import typing as t

from google.protobuf.message import Message

from whatsapp import protobuf
from whatsapp.appstate.errors import BrokenPatchError
from whatsapp.appstate.mutations import MAX_KEY_ID, index_mac_of, key_id_of
from whatsapp.errors import RemoteProtocolError
from whatsapp.media_source import MediaSource
from whatsapp.proto import sync_pb2

MAX_MUTATIONS: t.Final = 100_000  # of one patch or snapshot
MAX_FIELDS: t.Final = 10 * MAX_MUTATIONS
MAX_BLOB: t.Final = 32 << 20  # bytes of one patch, snapshot or file of mutations
MAX_KEYS: t.Final = 256  # that one patch or snapshot is made with
MAX_VERSION: t.Final = (1 << 63) - 1

M = t.TypeVar("M", bound=Message)


def parse_patch(data: bytes) -> sync_pb2.SyncPatch:
    """A patch as it came; nothing is verified.

    Raises:
        BrokenPatchError: malformed, or too large.
    """
    patch = _parse(sync_pb2.SyncPatch, data)
    return _bounded(patch, patch.mutations)


def parse_snapshot(data: bytes) -> sync_pb2.SyncSnapshot:
    """A snapshot as it came, out of its file; nothing is verified.

    Raises:
        BrokenPatchError: malformed, or too large.
    """
    snapshot = _parse(sync_pb2.SyncSnapshot, data)
    return _bounded(snapshot, snapshot.records)


def parse_reference(data: bytes) -> MediaSource:
    """Where a snapshot's file lies.

    Raises:
        BrokenPatchError: malformed.
    """
    return _source(_parse(sync_pb2.SyncBlobReference, data))


def external_mutations(patch: sync_pb2.SyncPatch) -> MediaSource | None:
    """Where the mutations of a patch lie, when they are not in it."""
    if not patch.HasField("external_mutations"):
        return None
    return _source(patch.external_mutations)


def with_mutations(patch: sync_pb2.SyncPatch, data: bytes) -> sync_pb2.SyncPatch:
    """The same patch with the mutations out of their file.

    Raises:
        BrokenPatchError: malformed, or too large.
    """
    mutations = _parse(sync_pb2.SyncMutations, data).mutations
    whole = sync_pb2.SyncPatch()
    whole.CopyFrom(patch)
    del whole.mutations[:]
    whole.mutations.extend(mutations)
    return _bounded(whole, whole.mutations)


def version_of(
    part: sync_pb2.SyncPatch | sync_pb2.SyncSnapshot | sync_pb2.SyncRecovery,
) -> int | None:
    """The version that a patch or snapshot leads to; None: not told, one more than before.

    Raises:
        BrokenPatchError: absurd.
    """
    if not part.HasField("version"):
        return None
    if part.version.version > MAX_VERSION:
        raise BrokenPatchError("an absurd version")
    return part.version.version


def key_ids(part: sync_pb2.SyncPatch | sync_pb2.SyncSnapshot) -> frozenset[bytes]:
    """The keys that verifying it takes.

    Raises:
        BrokenPatchError: a key is not named, or too many are.
    """
    return _few({key_id_of(part.key_id), *(key_id_of(r.key_id) for r in _records(part))})


def index_macs(patch: sync_pb2.SyncPatch) -> tuple[bytes, ...]:
    """The records that a patch changes: verifying takes their value MACs from before it.

    Raises:
        BrokenPatchError: malformed.
    """
    return tuple(dict.fromkeys(index_mac_of(record) for record in _records(patch)))


def recovery_key_ids(recovery: sync_pb2.SyncRecovery) -> frozenset[bytes]:
    """The keys that ``read_recovery`` takes.

    Raises:
        BrokenPatchError: a key is not named, or too many are.
    """
    if not all(0 < len(record.key_id) <= MAX_KEY_ID for record in recovery.records):
        raise BrokenPatchError("a record without a key id")
    return _few({record.key_id for record in recovery.records})


def build_reference(source: MediaSource) -> sync_pb2.SyncBlobReference:
    """What names an uploaded file in an answer or a patch."""
    return sync_pb2.SyncBlobReference(
        media_key=source.media_key,
        direct_path=source.direct_path.encode(),
        file_size_bytes=source.length or 0,
        file_sha256=source.sha256,
        file_enc_sha256=source.enc_sha256,
    )


def _records(
    part: sync_pb2.SyncPatch | sync_pb2.SyncSnapshot,
) -> cabc.Iterator[sync_pb2.SyncRecord]:
    if isinstance(part, sync_pb2.SyncSnapshot):
        return iter(part.records)
    return (mutation.record for mutation in part.mutations)


def _few(key_ids: set[bytes]) -> frozenset[bytes]:
    if len(key_ids) > MAX_KEYS:
        raise BrokenPatchError(f"{len(key_ids)} keys for one step")
    return frozenset(key_ids)


def _source(reference: sync_pb2.SyncBlobReference) -> MediaSource:
    if not reference.media_key or not reference.direct_path:
        raise BrokenPatchError("a file without a key or a path")
    return MediaSource(
        kind="app_state",
        media_key=reference.media_key,
        direct_path=reference.direct_path.decode(errors="replace"),
        sha256=reference.file_sha256,
        enc_sha256=reference.file_enc_sha256,
        length=reference.file_size_bytes if reference.HasField("file_size_bytes") else None,
    )


def _parse(kind: type[M], data: bytes) -> M:
    if len(data) > MAX_BLOB:
        raise BrokenPatchError(f"{len(data)} bytes of app state")
    try:
        return protobuf.decode(kind, data, MAX_FIELDS)
    except RemoteProtocolError as error:
        raise BrokenPatchError(str(error)) from error


def _bounded(part: M, items: cabc.Sized) -> M:
    if len(items) > MAX_MUTATIONS:
        raise BrokenPatchError(f"{len(items)} records at once")
    return part
