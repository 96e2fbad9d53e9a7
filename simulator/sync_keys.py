"""The app-state keys of a phone, and its own copy of the collections.

Source: docs/protocol.md#app-state
"""

import typing as t

import attrs

from simulator.entropy import Entropy
from whatsapp.appstate import keys as sync_keys
from whatsapp.appstate.mutations import Mutation, Operation, index_bytes, seal_record
from whatsapp.appstate.patches import (
    CollectionState,
    Step,
    build_patch,
    finish,
    verify_patch,
    verify_snapshot,
)
from whatsapp.appstate.wire import index_macs, parse_patch, parse_snapshot
from whatsapp.proto import sync_pb2

if t.TYPE_CHECKING:
    from whatsapp.appstate.actions import Action


@attrs.frozen
class SyncKey:
    """One key, as it is shared with companions."""

    id: bytes
    secret: bytes = attrs.field(repr=False)
    created_at: int  # Unix milliseconds

    @property
    def data(self) -> bytes:
        """The AppStateSyncKeyData."""
        return sync_keys.build_key_data(self.secret, self.created_at)


@attrs.define(eq=False)
class Replica:
    """One collection as the phone has it."""

    name: str
    state: CollectionState = attrs.field(factory=CollectionState)
    values: dict[bytes, bytes] = attrs.field(factory=dict)  # index MAC → value MAC
    settings: dict[tuple[str, ...], Mutation] = attrs.field(factory=dict)
    sealed: dict[tuple[str, ...], tuple[bytes, bytes]] = attrs.field(factory=dict)
    """Key id and value MAC of each setting."""


class SyncStore:
    """Keys, the newest last, and replicas."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self.keys: dict[bytes, SyncKey] = {}
        self.replicas: dict[str, Replica] = {}

    def new_key(self, at: int) -> SyncKey:
        """Make a key, with which everything is encrypted from now on."""
        key_id = (len(self.keys) + 1).to_bytes(6, "big")
        key = SyncKey(key_id, self._entropy(32), at)
        self.keys[key_id] = key
        return key

    def replica(self, name: str) -> Replica:
        """The phone's copy of a collection."""
        return self.replicas.setdefault(name, Replica(name))

    def apply_patch(self, name: str, data: bytes) -> None:
        """Take a patch over.

        Raises:
            RemoteProtocolError: it cannot be verified.
        """
        replica, patch = self.replica(name), parse_patch(data)
        previous = {mac: replica.values[mac] for mac in index_macs(patch) if mac in replica.values}
        step = finish(verify_patch(name, patch, replica.state, previous, self._ring()))
        self._commit(replica, step, [mutation.record for mutation in patch.mutations])

    def apply_snapshot(self, name: str, data: bytes) -> None:
        """Take a snapshot over.

        Raises:
            RemoteProtocolError: it cannot be verified.
        """
        snapshot = parse_snapshot(data)
        step = finish(verify_snapshot(name, snapshot, self._ring()))
        self.replicas[name] = Replica(name)
        self._commit(self.replica(name), step, list(snapshot.records))

    def make_patch(self, name: str, actions: t.Sequence["Action"], operation: Operation) -> bytes:
        """A patch on top of what the phone has; it counts once the server took it."""
        key = next(reversed(self.keys.values()))
        keys = sync_keys.SyncKeys.derive(key.id, key.secret)
        mutations = [
            seal_record(
                operation,
                action.index,
                action.value,
                keys,
                iv=self._entropy(16),
                version=action.version,
            )
            for action in actions
        ]
        replica = self.replica(name)
        patch, _ = build_patch(name, mutations, replica.state, replica.values, self._ring(), keys)
        return patch.SerializeToString()

    def recovery(self, name: str) -> sync_pb2.SyncRecovery:
        """The whole collection in the clear, for a companion that could not verify it."""
        replica = self.replica(name)
        records = []
        for index, mutation in replica.settings.items():
            key_id, mac = replica.sealed[index]
            data = sync_pb2.SyncActionData(
                index=index_bytes(index),
                value=mutation.value.SerializeToString(deterministic=True),
                version=mutation.version,
            )
            records.append(sync_pb2.SyncPlainRecord(value=data, key_id=key_id, mac=mac))
        return sync_pb2.SyncRecovery(
            version=sync_pb2.SyncVersion(version=replica.state.version),
            collection_name=name.encode(),
            records=records,
            collection_lthash=replica.state.hash,
        )

    def _ring(self) -> sync_keys.KeyRing:
        return sync_keys.KeyRing({key.id: key.secret for key in self.keys.values()})

    def _commit(
        self, replica: Replica, step: Step, records: t.Sequence[sync_pb2.SyncRecord]
    ) -> None:
        replica.state = step.state
        replica.values.update(step.values)
        for mac in step.removed:
            replica.values.pop(mac, None)
        for mutation, record in zip(step.mutations, records, strict=True):
            if mutation.operation is Operation.SET:
                replica.settings[mutation.index] = mutation
                replica.sealed[mutation.index] = (record.key_id.id, record.value.blob[-32:])
            else:
                replica.settings.pop(mutation.index, None)
                replica.sealed.pop(mutation.index, None)
