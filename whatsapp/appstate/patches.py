"""Steps: what moves a collection from one verified state to the next, and who makes them.

Verifying checks every MAC and gives a :class:`Step`, or raises and gives nothing. Large inputs
take a while: ``verify_…`` are generators that pause every few records (their ``return`` value is
the step), so that an event loop can breathe; :func:`finish` runs one to its end.

Source: docs/protocol.md#app-state-hash
"""

import collections.abc as cabc
import hmac
import typing as t

import attrs

from whatsapp.appstate import lthash
from whatsapp.appstate.errors import BrokenPatchError, MacError
from whatsapp.appstate.keys import KeyRing, SyncKeys
from whatsapp.appstate.mutations import (
    MAC_LENGTH,
    Mutation,
    Opened,
    Operation,
    key_id_of,
    open_record,
    read_action,
    value_mac_of,
)
from whatsapp.appstate.wire import MAX_MUTATIONS, key_ids, recovery_key_ids, version_of
from whatsapp.e2ee.primitives import hmac_sha256
from whatsapp.proto import sync_pb2

PAUSE_EVERY: t.Final = 64  # records

R = t.TypeVar("R")

Verifying: t.TypeAlias = "cabc.Generator[None, None, Step]"


@attrs.frozen(repr=False)
class CollectionState:
    """How far a collection is: nothing applied yet, or the result of the last step."""

    version: int = 0
    hash: bytes = lthash.EMPTY


@attrs.frozen(kw_only=True, repr=False)
class Step:
    """One patch or snapshot, verified, ready to be committed as a whole."""

    state: CollectionState
    mutations: tuple[Mutation, ...]
    reset: bool = False  # a snapshot: what was known before is void
    values: cabc.Mapping[bytes, bytes]  # index MAC → value MAC, as set by this step
    removed: tuple[bytes, ...] = ()  # index MACs
    unknown_removals: int = 0  # removed records that were not there; tolerated


def verify_patch(
    name: str,
    patch: sync_pb2.SyncPatch,
    before: CollectionState,
    previous: cabc.Mapping[bytes, bytes],
    ring: KeyRing,
) -> Verifying:
    """Verify a patch of the collection ``name`` on top of the state ``before`` it.

    ``previous`` has the value MACs of those of its :func:`index_macs` that are known.

    Raises:
        MissingKeyError: one or more keys are not known.
        BrokenPatchError: malformed, or a MAC is wrong.
    """
    ring.require(key_ids(patch))
    keys, version = ring[key_id_of(patch.key_id)], version_of(patch)
    if version is None:
        version = before.version + 1
    value_macs = [value_mac_of(mutation.record) for mutation in patch.mutations]
    mac = _patch_mac(name, patch.snapshot_mac, value_macs, version, keys)
    if not hmac.compare_digest(mac, patch.patch_mac):
        raise MacError("patch")
    changes = _Changes(before.hash, previous)
    for count, mutation in enumerate(patch.mutations, 1):
        changes.apply(open_record(_operation(mutation), mutation.record, ring))
        if not count % PAUSE_EVERY:
            yield
    step = changes.step(version)
    if not hmac.compare_digest(_snapshot_mac(name, step.state, keys), patch.snapshot_mac):
        raise MacError("snapshot")
    return step


def verify_snapshot(name: str, snapshot: sync_pb2.SyncSnapshot, ring: KeyRing) -> Verifying:
    """Verify a snapshot of the collection ``name``.

    Raises:
        MissingKeyError: one or more keys are not known.
        BrokenPatchError: malformed, or a MAC is wrong.
    """
    ring.require(key_ids(snapshot))
    keys, changes = ring[key_id_of(snapshot.key_id)], _Changes(lthash.EMPTY, {})
    for count, record in enumerate(snapshot.records, 1):
        changes.apply(open_record(Operation.SET, record, ring))
        if not count % PAUSE_EVERY:
            yield
    step = attrs.evolve(changes.step(version_of(snapshot) or 0), reset=True)
    if not hmac.compare_digest(_snapshot_mac(name, step.state, keys), snapshot.mac):
        raise MacError("snapshot")
    return step


def read_recovery(recovery: sync_pb2.SyncRecovery, ring: KeyRing) -> Verifying:
    """Take over what the phone itself holds of a collection, in the clear.

    It comes from the own phone over its Signal session, which vouches for it: the hash is taken
    as told, because it is what later patches build on.

    Raises:
        MissingKeyError: one or more keys, which name the records, are not known.
        BrokenPatchError: malformed.
    """
    ring.require(recovery_key_ids(recovery))
    if len(recovery.collection_lthash) != lthash.LENGTH or len(recovery.records) > MAX_MUTATIONS:
        raise BrokenPatchError("a recovery without a hash, or too large")
    version, changes = version_of(recovery) or 0, _Changes(lthash.EMPTY, {})
    for count, record in enumerate(recovery.records, 1):
        if len(record.mac) != MAC_LENGTH:
            raise BrokenPatchError("a recovered record without its MAC")
        index_mac = hmac_sha256(ring[record.key_id].index, record.value.index)
        changes.apply(Opened(read_action(Operation.SET, record.value), index_mac, record.mac))
        if not count % PAUSE_EVERY:
            yield
    state = CollectionState(version, recovery.collection_lthash)
    return attrs.evolve(changes.step(version), state=state, reset=True)


def finish(verifying: cabc.Generator[None, None, R]) -> R:
    """Run a generator of this module to its end, without a pause."""
    while True:
        try:
            next(verifying)
        except StopIteration as done:
            return t.cast(R, done.value)


class _Changes:
    """The value MACs of a collection's records, as far as one step touches them."""

    def __init__(self, before: bytes, previous: cabc.Mapping[bytes, bytes]) -> None:
        self._hash = lthash.LtHash(before)
        self._current = dict(previous)
        self._mutations: list[Mutation] = []
        self._touched: dict[bytes, None] = {}
        self._unknown = 0

    def apply(self, opened: Opened) -> None:
        """Apply one mutation; it may undo an earlier one of the same step."""
        self._mutations.append(opened.mutation)
        self._touched[opened.index_mac] = None
        previous = self._current.pop(opened.index_mac, None)
        if previous is not None:
            self._hash.subtract(previous)
        if opened.mutation.operation is Operation.SET:
            self._hash.add(opened.value_mac)
            self._current[opened.index_mac] = opened.value_mac
        elif previous is None:
            self._unknown += 1

    def step(self, version: int) -> Step:
        """The outcome."""
        return Step(
            state=CollectionState(version, self._hash.digest()),
            mutations=tuple(self._mutations),
            values={mac: self._current[mac] for mac in self._touched if mac in self._current},
            removed=tuple(mac for mac in self._touched if mac not in self._current),
            unknown_removals=self._unknown,
        )


def build_patch(
    name: str,
    mutations: cabc.Iterable[sync_pb2.SyncMutation],
    before: CollectionState,
    previous: cabc.Mapping[bytes, bytes],
    ring: KeyRing,
    keys: SyncKeys,
) -> tuple[sync_pb2.SyncPatch, Step]:
    """A patch of sealed mutations on top of the state ``before``, and the step that it makes.

    It carries no version, as clients write it: the server adds one.
    """
    mutations, changes = tuple(mutations), _Changes(before.hash, previous)
    for mutation in mutations:
        changes.apply(open_record(_operation(mutation), mutation.record, ring))
    step = changes.step(before.version + 1)
    snapshot_mac = _snapshot_mac(name, step.state, keys)
    value_macs = [value_mac_of(mutation.record) for mutation in mutations]
    patch = sync_pb2.SyncPatch(
        mutations=mutations,
        snapshot_mac=snapshot_mac,
        patch_mac=_patch_mac(name, snapshot_mac, value_macs, step.state.version, keys),
        key_id=sync_pb2.SyncKeyId(id=keys.id),
    )
    return patch, step


def build_snapshot(
    name: str, version: int, records: cabc.Iterable[sync_pb2.SyncRecord], keys: SyncKeys
) -> sync_pb2.SyncSnapshot:
    """A snapshot of sealed records, one per index."""
    records, hashed = tuple(records), lthash.LtHash()
    for record in records:
        hashed.add(value_mac_of(record))
    state = CollectionState(version, hashed.digest())
    return sync_pb2.SyncSnapshot(
        version=sync_pb2.SyncVersion(version=version),
        records=records,
        mac=_snapshot_mac(name, state, keys),
        key_id=sync_pb2.SyncKeyId(id=keys.id),
    )


def _snapshot_mac(name: str, state: CollectionState, keys: SyncKeys) -> bytes:
    data = state.hash + state.version.to_bytes(8, "big") + name.encode()
    return hmac_sha256(keys.snapshot_mac, data)


def _patch_mac(
    name: str, snapshot_mac: bytes, value_macs: list[bytes], version: int, keys: SyncKeys
) -> bytes:
    data = (snapshot_mac, *value_macs, version.to_bytes(8, "big"), name.encode())
    return hmac_sha256(keys.patch_mac, b"".join(data))


def _operation(mutation: sync_pb2.SyncMutation) -> Operation:
    try:
        return Operation(mutation.operation)
    except ValueError as error:
        raise BrokenPatchError(f"an unknown operation: {mutation.operation}") from error
