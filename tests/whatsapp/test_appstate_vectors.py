"""App state as another implementation writes it: verified here, and written here the same.

The vectors are made by vectors/make_appstate_vectors.mjs, which says how.
"""

import json
import pathlib
import typing as t

import pytest

from whatsapp.appstate import lthash, patches, requests, wire
from whatsapp.appstate.keys import KeyRing, secret_of
from whatsapp.appstate.mutations import Operation, seal_record
from whatsapp.appstate.patches import CollectionState
from whatsapp.jid import Jid
from whatsapp.proto import sync_pb2

VECTORS = json.loads(
    (pathlib.Path(__file__).parent / "vectors" / "appstate_vectors.json").read_text()
)
KEYS = VECTORS["keys"]
RING = KeyRing({bytes.fromhex(key): bytes.fromhex(KEYS[key]["secret"]) for key in KEYS})


class Device:
    """What a device keeps of collections."""

    def __init__(self) -> None:
        self.states: dict[str, CollectionState] = {}
        self.values: dict[str, dict[bytes, bytes]] = {}

    def before(self, name: str) -> CollectionState:
        return self.states.get(name, CollectionState())

    def previous(self, name: str, patch: sync_pb2.SyncPatch) -> dict[bytes, bytes]:
        known = self.values.get(name, {})
        return {mac: known[mac] for mac in wire.index_macs(patch) if mac in known}

    def apply(self, name: str, data: bytes) -> patches.Step:
        patch = wire.parse_patch(data)
        previous = self.previous(name, patch)
        step = patches.finish(patches.verify_patch(name, patch, self.before(name), previous, RING))
        self.take(name, step)
        return step

    def take(self, name: str, step: patches.Step) -> None:
        known = {} if step.reset else self.values.setdefault(name, {})
        known.update(step.values)
        for mac in step.removed:
            known.pop(mac, None)
        self.values[name], self.states[name] = known, step.state


@pytest.fixture
def caught_up() -> Device:
    """A device that applied all single patches of the vectors."""
    device = Device()
    for vector in VECTORS["patches"]:
        device.apply(vector["collection"], bytes.fromhex(vector["patch"]))
    return device


@pytest.mark.parametrize("key_id", KEYS)
def test_keys_are_derived_alike(key_id: str) -> None:
    """All five keys of a secret."""
    keys = RING[bytes.fromhex(key_id)]
    derived = (keys.index, keys.value_encryption, keys.value_mac, keys.snapshot_mac, keys.patch_mac)
    assert [key.hex() for key in derived] == KEYS[key_id]["derived"]


def test_hashes_add_and_subtract_alike() -> None:
    """Additions, then a subtraction, one of a member that was never in."""
    vector = VECTORS["lthash"]
    first, second, third, stranger = map(bytes.fromhex, vector["members"])
    whole = lthash.LtHash()
    for member in (first, second, third):
        whole.add(member)
    assert whole.digest().hex() == vector["sum"]
    changed = lthash.LtHash(whole.digest())
    changed.subtract(second)
    changed.subtract(stranger)
    changed.add(first)
    assert changed.digest().hex() == vector["changed"]


def test_patches_verify_one_after_the_other() -> None:
    """Every MAC is right, the hashes agree, and the actions are the ones that were written."""
    device = Device()
    for vector in VECTORS["patches"]:
        step = device.apply(vector["collection"], bytes.fromhex(vector["patch"]))
        assert (step.state.version, step.state.hash.hex()) == (vector["version"], vector["hash"])
        [mutation] = step.mutations
        assert mutation.operation == vector["operation"]
        assert list(mutation.index) == vector["index"]
        assert mutation.version == vector["action_version"]
        assert mutation.value == action_value(vector)
        assert not step.unknown_removals


def action_value(vector: dict[str, t.Any]) -> sync_pb2.SyncActionValue:
    return sync_pb2.SyncActionValue.FromString(bytes.fromhex(vector["value"]))


def test_the_same_patches_are_written() -> None:
    """With the same iv the bytes are the same."""
    device = Device()
    for vector in VECTORS["patches"]:
        name, keys = vector["collection"], RING[bytes.fromhex(vector["key"])]
        sealed = seal_record(
            Operation(vector["operation"]),
            tuple(vector["index"]),
            action_value(vector),
            keys,
            iv=bytes.fromhex(vector["iv"]),
            version=vector["action_version"],
        )
        probe = sync_pb2.SyncPatch(mutations=[sealed])
        patch, step = patches.build_patch(
            name, [sealed], device.before(name), device.previous(name, probe), RING, keys
        )
        assert patch.SerializeToString().hex() == vector["patch"]
        device.take(name, step)
        assert step.state.hash.hex() == vector["hash"]


def test_snapshots_lead_to_the_same_state(caught_up: Device) -> None:
    """A snapshot and all patches before it agree: version, hash and MACs of the records."""
    for vector in VECTORS["snapshots"]:
        name, snapshot = (
            vector["collection"],
            wire.parse_snapshot(bytes.fromhex(vector["snapshot"])),
        )
        step = patches.finish(patches.verify_snapshot(name, snapshot, RING))
        assert step.reset
        assert step.state == caught_up.states[name]
        assert step.values == caught_up.values[name]


@pytest.mark.parametrize("form", ["patch", "external"])
def test_one_patch_may_touch_an_index_twice(caught_up: Device, form: str) -> None:
    """Overwritten, set and removed, removed without ever having been there: the hash agrees."""
    vector = VECTORS["multiple"]
    patch = wire.parse_patch(bytes.fromhex(vector[form]))
    source = wire.external_mutations(patch)
    if source is not None:
        assert (source.kind, source.direct_path, source.length) == ("app_state", "/v/t1?x=1", 9)
        patch = wire.with_mutations(patch, bytes.fromhex(vector["blob"]))
    step = caught_up.apply(vector["collection"], patch.SerializeToString())
    assert (step.state.version, step.state.hash.hex()) == (vector["version"], vector["hash"])
    assert [m.value.pin_action.pinned for m in step.mutations] == [True, False, True, True, True]
    assert (len(step.values), len(step.removed), step.unknown_removals) == (1, 2, 1)


def test_keys_are_shared_and_asked_for_alike() -> None:
    """The messages between phone and device, both ways."""
    messages = VECTORS["messages"]
    raw = bytes.fromhex(messages["share"])
    share = requests.read_key_share(raw)
    assert {key: secret_of(data).hex() for key, data in share} == {
        key: KEYS[key]["secret"] for key in KEYS
    }
    built = requests.build_key_share((bytes.fromhex(key), data) for key, data in share)
    assert built == raw
    request = requests.build_key_request(map(bytes.fromhex, KEYS))
    assert request.hex() == messages["request"]
    assert requests.parse_key_request(request) == tuple(map(bytes.fromhex, KEYS))


def test_the_phones_copy_is_asked_for_and_read() -> None:
    """A recovered collection, compressed or not."""
    messages = VECTORS["messages"]
    request = requests.build_recovery_request("regular_low", 1_790_000_000)
    assert request.hex() == messages["recovery_request"]
    assert requests.parse_recovery_request(request) == "regular_low"
    for name in ("recovery", "recovery_gzip"):
        recovered = requests.read_recovery(bytes.fromhex(messages[name]))
        assert recovered is not None
        assert (recovered.request_id, recovered.collection) == ("REQUEST1", "regular_low")
        step = patches.finish(patches.read_recovery(recovered.recovery, RING))
        assert step.reset
        assert (step.state.version, step.state.hash) == (9, bytes([4]) * 128)
        [mutation] = step.mutations
        assert mutation.index == ("pin_v1", str(Jid.parse("15550001111@s.whatsapp.net")))
        assert mutation.value.pin_action.pinned
        assert list(step.values.values()) == [bytes([3]) * 32]
