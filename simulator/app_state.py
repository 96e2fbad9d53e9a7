"""The app-state server: numbered patches per account and collection, which it cannot read.

It keeps the records that the patches set, so that it can hand out a snapshot of any collection;
the MAC of a snapshot is the one that the author of the newest patch computed.
Source: docs/protocol.md#app-state-fetch
"""

import typing as t

import attrs

from simulator.errors import MediaUnavailableError
from simulator.model import Account, Device
from simulator.world import World
from whatsapp import appstate
from whatsapp.appstate import wire
from whatsapp.appstate.errors import BrokenPatchError
from whatsapp.iq import app_state
from whatsapp.iq.app_state import CollectionAnswer, CollectionRequest
from whatsapp.iq.core import IqError
from whatsapp.jid import SERVER_JID
from whatsapp.node import Node
from whatsapp.proto import sync_pb2

_BAD_REQUEST: t.Final = IqError(400, "bad-request")
_CONFLICT: t.Final = IqError(app_state.CONFLICT, "conflict")
_SET: t.Final = 0


@attrs.define(eq=False)
class Collection:
    """One collection of one account."""

    name: str
    version: int = 0
    patches: list[bytes] = attrs.field(factory=list)  # the last of them leads to ``version``
    records: dict[bytes, sync_pb2.SyncRecord] = attrs.field(factory=dict)  # by index MAC
    mac: bytes = b""
    key_id: bytes = b""

    def since(self, version: int) -> list[bytes] | None:
        """The patches after a version; None when some of them are forgotten."""
        missing = self.version - version
        return None if missing > len(self.patches) else self.patches[len(self.patches) - missing :]


def collection(account: Account, name: str) -> Collection:
    """What the server keeps of a collection.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in appstate.COLLECTIONS:
        raise KeyError(name)
    return account.collections.setdefault(name, Collection(name))


def answer(world: World, device: Device, node: Node) -> Node:
    """Answer a request of the namespace ``w:sync:app:state``.

    Raises:
        RemoteProtocolError: malformed.
    """
    changed: dict[str, int] = {}
    answers = []
    for request in app_state.parse_sync_request(node):
        try:
            held = collection(device.account, request.name)
        except KeyError:
            answers.append(CollectionAnswer(name=request.name, error=_BAD_REQUEST))
            continue
        before = held.version
        answers.append(_answer(world, device, request, held))
        if held.version != before:
            changed[held.name] = held.version
    if changed:
        _tell_others(world, device, changed)
    return app_state.sync_response(node, answers)


def _answer(
    world: World, device: Device, request: CollectionRequest, held: Collection
) -> CollectionAnswer:
    if request.patch is not None:
        return _push(world, device, request, held)
    if request.version > held.version:
        return CollectionAnswer(name=held.name, error=_BAD_REQUEST)
    missing = held.since(request.version)
    if held.version and (request.snapshot or missing is None):
        blob = _snapshot(world, device, held)
        return CollectionAnswer(name=held.name, version=held.version, snapshot=blob)
    return _missing(world, device, request, held, missing or [])


def _missing(
    world: World,
    device: Device,
    request: CollectionRequest,
    held: Collection,
    missing: list[bytes],
    error: IqError | None = None,
) -> CollectionAnswer:
    page = missing[: world.settings.app_state_page]
    served = tuple(
        _spoilt_patch(patch) if world.faults.take("corrupt_patch", device) is not None else patch
        for patch in page
    )
    return CollectionAnswer(
        name=held.name,
        version=request.version + len(page),
        more=len(page) < len(missing),
        patches=served,
        error=error,
    )


def _push(
    world: World, device: Device, request: CollectionRequest, held: Collection
) -> CollectionAnswer:
    if request.version != held.version:
        missing = held.since(request.version) if request.version < held.version else []
        return _missing(world, device, request, held, missing or [], _CONFLICT)
    try:
        patch = wire.parse_patch(request.patch or b"")
        mutations = _mutations(world, patch)
        keyed = [(wire.index_macs(sync_pb2.SyncPatch(mutations=(m,)))[0], m) for m in mutations]
    except BrokenPatchError:
        return CollectionAnswer(name=held.name, error=_BAD_REQUEST)
    held.version += 1
    patch.version.version = held.version
    held.patches.append(patch.SerializeToString())
    del held.patches[: -world.settings.app_state_patches]
    held.mac, held.key_id = patch.snapshot_mac, patch.key_id.id
    for mac, mutation in keyed:
        if mutation.operation == _SET:
            held.records[mac] = mutation.record
        else:
            held.records.pop(mac, None)
    return CollectionAnswer(name=held.name, version=held.version)


def _mutations(world: World, patch: sync_pb2.SyncPatch) -> t.Sequence[sync_pb2.SyncMutation]:
    """The mutations of a patch, also when they lie in a file.

    Raises:
        BrokenPatchError: the file is not there, or none.
    """
    if (source := wire.external_mutations(patch)) is None:
        return patch.mutations
    try:
        plain = world.media.open(source)
    except (MediaUnavailableError, ValueError) as error:
        raise BrokenPatchError("the patch's file cannot be read") from error
    return wire.with_mutations(patch, plain).mutations


def _snapshot(world: World, device: Device, held: Collection) -> bytes:
    snapshot = sync_pb2.SyncSnapshot(
        version=sync_pb2.SyncVersion(version=held.version),
        records=held.records.values(),
        mac=held.mac,
        key_id=sync_pb2.SyncKeyId(id=held.key_id),
    )
    if world.faults.take("corrupt_snapshot", device) is not None:
        snapshot.mac = _flipped(snapshot.mac)
    source = world.media.put_sealed("app_state", snapshot.SerializeToString())
    return wire.build_reference(source).SerializeToString()


def _tell_others(world: World, device: Device, changed: dict[str, int]) -> None:
    listed = tuple(
        Node("collection", {"name": name, "version": version}) for name, version in changed.items()
    )
    for other in device.account.devices.values():
        if other is not device:
            world.notify(other, "server_sync", SERVER_JID, *listed)


def _spoilt_patch(data: bytes) -> bytes:
    patch = sync_pb2.SyncPatch.FromString(data)
    patch.patch_mac = _flipped(patch.patch_mac)
    return patch.SerializeToString()


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:] if data else b"\0"
