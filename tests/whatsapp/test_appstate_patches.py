"""Patches and snapshots: what verifies, what does not, and that nothing else can happen."""

import collections.abc as cabc
import contextlib
import json
import typing as t

import hypothesis
import hypothesis.strategies as st
import pytest

from whatsapp.appstate import actions, lthash, patches, requests, wire
from whatsapp.appstate.actions import Action
from whatsapp.appstate.errors import BrokenPatchError, MacError, MissingKeyError
from whatsapp.appstate.keys import KeyRing, build_key_data, secret_of
from whatsapp.appstate.mutations import Operation, index_bytes, read_action, seal_record
from whatsapp.appstate.patches import CollectionState, Step
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.proto import sync_pb2

NAME: t.Final = "regular_low"
KEY: t.Final = b"\x00\x00\x00\x00\x00\x01"
RING: t.Final = KeyRing({KEY: b"s" * 32})
KEYS: t.Final = RING[KEY]
ANA: t.Final = Jid.parse("15550001111@s.whatsapp.net")
GROUP: t.Final = Jid.parse("120363000000000001@g.us")
AT: t.Final = 1_790_000_000_000

relaxed = hypothesis.settings(max_examples=100, deadline=None)


def seal(
    action: Action, operation: Operation = Operation.SET, salt: int = 0
) -> sync_pb2.SyncMutation:
    return seal_record(
        operation,
        action.index,
        action.value,
        KEYS,
        iv=salt.to_bytes(16, "big"),
        version=action.version,
    )


def build(
    *mutations: sync_pb2.SyncMutation,
    before: CollectionState | None = None,
    previous: dict[bytes, bytes] | None = None,
) -> tuple[sync_pb2.SyncPatch, Step]:
    return patches.build_patch(
        NAME, mutations, before or CollectionState(), previous or {}, RING, KEYS
    )


def verify(
    patch: sync_pb2.SyncPatch,
    before: CollectionState | None = None,
    previous: dict[bytes, bytes] | None = None,
    *,
    name: str = NAME,
    ring: KeyRing = RING,
) -> Step:
    data = wire.parse_patch(patch.SerializeToString())
    return patches.finish(
        patches.verify_patch(name, data, before or CollectionState(), previous or {}, ring)
    )


def test_what_is_built_verifies() -> None:
    """Whoever builds a patch and whoever verifies it end in the same state."""
    patch, made = build(seal(actions.pin(ANA, True, at=AT)), seal(actions.pin(GROUP, True, at=AT)))
    assert verify(patch) == made
    assert (made.state.version, len(made.values)) == (1, 2)
    second, removed = build(
        seal(actions.pin(ANA, True, at=AT), Operation.REMOVE, 1),
        before=made.state,
        previous=dict(made.values),
    )
    step = verify(second, made.state, dict(made.values))
    assert step == removed
    assert (step.state.version, len(step.removed), step.unknown_removals) == (2, 1, 0)


def test_a_set_undone_leaves_the_empty_hash() -> None:
    """Set, overwritten and removed within one patch: as if nothing had been."""
    pin = actions.pin(ANA, True, at=AT)
    _, step = build(seal(pin), seal(pin, salt=1), seal(pin, Operation.REMOVE, 2))
    assert step.state.hash == lthash.EMPTY
    assert not step.values
    assert len(step.removed) == 1


def test_removing_the_unknown_is_tolerated() -> None:
    """It is counted; the hash does not change."""
    patch, _ = build(seal(actions.pin(ANA, True, at=AT), Operation.REMOVE))
    step = verify(patch)
    assert step.unknown_removals == 1
    assert step.state.hash == lthash.EMPTY


def test_a_version_may_be_told_by_the_server() -> None:
    """A patch as pushed has none, and then it is one more; the MACs tell a wrong one."""
    patch, made = build(seal(actions.pin(ANA, True, at=AT)))
    patch.version.version = 1
    assert verify(patch) == made
    patch.version.version = 2
    with pytest.raises(MacError, match="patch MAC"):
        verify(patch)


@pytest.mark.parametrize(
    ("part", "which"),
    [
        ("patch_mac", "patch"),
        ("snapshot_mac", "patch"),  # the patch MAC is over it, too
        ("value", "patch"),  # and over the value MACs
        ("ciphertext", "value"),
        ("operation", "value"),
        ("index", "index"),
    ],
)
def test_whatever_was_changed_shows(part: str, which: str) -> None:
    """Every part of a patch is under some MAC."""
    patch, _ = build(seal(actions.pin(ANA, True, at=AT)))
    record = patch.mutations[0].record
    match part:
        case "patch_mac" | "snapshot_mac":
            setattr(patch, part, bytes(32))
        case "value":
            record.value.blob = record.value.blob[:-1] + b"\x00"
        case "ciphertext":
            record.value.blob = b"\xff" + record.value.blob[1:]
        case "operation":
            patch.mutations[0].operation = Operation.REMOVE
        case _:
            record.index.blob = bytes(32)
    with pytest.raises(MacError) as caught:
        verify(patch)
    assert caught.value.which == which


def test_a_lost_patch_shows() -> None:
    """On top of another state the snapshot MAC does not match."""
    first, made = build(seal(actions.pin(ANA, True, at=AT)))
    second, _ = build(seal(actions.pin(GROUP, True, at=AT)), before=made.state)
    verify(first)
    with pytest.raises(MacError, match="snapshot MAC"):
        verify(second, CollectionState(1, lthash.EMPTY))
    with pytest.raises(MacError):
        verify(first, name="regular")  # a patch of another collection


def test_missing_keys_are_all_named() -> None:
    """So that they can be asked for at once."""
    patch, _ = build(seal(actions.pin(ANA, True, at=AT)))
    patch.mutations[0].record.key_id.id = b"other"
    with pytest.raises(MissingKeyError) as caught:
        verify(patch, ring=KeyRing({}))
    assert caught.value.key_ids == {KEY, b"other"}


def test_snapshots_verify() -> None:
    """As a whole, or not at all; an index that is there twice counts once, its last value."""
    records = [seal(actions.pin(jid, True, at=AT)).record for jid in (ANA, GROUP)]
    older = seal(actions.pin(ANA, False, at=AT), salt=9).record
    snapshot = patches.build_snapshot(NAME, 7, records, KEYS)
    snapshot.records.insert(0, older)
    data = snapshot.SerializeToString()
    step = patches.finish(patches.verify_snapshot(NAME, wire.parse_snapshot(data), RING))
    assert (step.reset, step.state.version, len(step.values)) == (True, 7, 2)
    del snapshot.records[1]
    with pytest.raises(MacError, match="snapshot MAC"):
        patches.finish(patches.verify_snapshot(NAME, snapshot, RING))


def test_large_steps_pause() -> None:
    """A thousand records give others a dozen turns."""
    records = [
        seal(actions.pin(Jid(f"1555{n:07}", "s.whatsapp.net"), True, at=AT)).record
        for n in range(1000)
    ]
    verifying = patches.verify_snapshot(NAME, patches.build_snapshot(NAME, 1, records, KEYS), RING)
    assert sum(1 for _ in verifying) == 1000 // patches.PAUSE_EVERY


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{}",
        b"[1.5]",
        b'[["deep"]]',
        b"[" * 10_000,
        b'"pin_v1"',
        b"\xff\xfe",
        b"[" + b"1," * 99,
    ],
)
def test_an_unreadable_index_breaks_nothing(index: bytes) -> None:
    """It is verified all the same: the action is kept from us, the collection goes on."""
    action = Action(NAME, (), sync_pb2.SyncActionValue(), 1)
    data = sync_pb2.SyncActionData(index=index, value=b"\xff\xff", version=1)
    mutation = read_action(Operation.SET, data)
    assert mutation.index == ()
    assert mutation.value == action.value


def test_texts_of_an_index_are_storable() -> None:
    """NUL and lone surrogates, which JSON can carry, do not reach anyone."""
    data = sync_pb2.SyncActionData(index=rb'["mute","a\u0000b\ud800c",7]')
    assert read_action(Operation.SET, data).index == ("mute", "a\ufffdb?c", "7")


@hypothesis.given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
@relaxed
def test_indexes_are_json(parts: list[str]) -> None:
    """Compact, and unescaped where JavaScript does not escape."""
    written = index_bytes(tuple(parts))
    assert json.loads(written) == parts
    assert written == json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()


def test_references_become_sources() -> None:
    """And back, without the parts that nobody told."""
    source = MediaSource(
        kind="app_state",
        media_key=b"m" * 32,
        direct_path="/v/t1?x=1",
        sha256=b"a" * 32,
        enc_sha256=b"b" * 32,
        length=5,
    )
    assert wire.parse_reference(patches_reference(source)) == source
    with pytest.raises(BrokenPatchError):
        wire.parse_reference(b"")


def patches_reference(source: MediaSource) -> bytes:
    return wire.build_reference(source).SerializeToString()


def test_our_own_keys_are_checked() -> None:
    """A damaged row is an error of ours."""
    assert secret_of(build_key_data(b"k" * 32, AT)) == b"k" * 32
    for damaged in (b"", b"\xff", build_key_data(b"short", AT)):
        with pytest.raises(LocalProtocolError):
            secret_of(damaged)


def test_shares_without_a_usable_key_hold_nothing() -> None:
    """A phone that has no key answers with its id alone."""
    good = build_key_data(b"k" * 32, AT)
    raw = requests.build_key_share(
        [(b"a", None), (b"", good), (b"b" * 65, good), (b"c", b"\xff"), (b"d", good)]
    )
    assert requests.read_key_share(raw) == ((b"d".hex(), good),)
    assert requests.read_key_share(b"") == ()
    share = sync_pb2.SyncPeerMessage.FromString(raw).protocol_message.key_share
    assert requests.keys_from_share(share.SerializeToString()) == ((b"d".hex(), good),)
    wrapped = sync_pb2.SyncPeerMessage()
    wrapped.device_sent_message.message.MergeFromString(raw)
    assert requests.read_key_share(wrapped.SerializeToString()) == ((b"d".hex(), good),)


def test_a_recovery_is_bounded() -> None:
    """Cut off, or blown up beyond what a collection can be: refused."""
    bomb = sync_pb2.SyncRecovery(collection_name=bytes(wire.MAX_BLOB + 1))
    with pytest.raises(RemoteProtocolError, match="too large"):
        requests.read_recovery(requests.build_recovery_response("1", bomb))
    whole = sync_pb2.SyncRecovery(collection_name=b"regular")
    raw = requests.build_recovery_response("1", whole)
    assert requests.is_recovery(raw)
    message = sync_pb2.SyncPeerMessage.FromString(raw)
    snapshot = message.protocol_message.recovery_response.results[0].snapshot
    snapshot.collection_snapshot = snapshot.collection_snapshot[:-3]
    with pytest.raises(RemoteProtocolError):
        requests.read_recovery(message.SerializeToString())
    snapshot.Clear()
    assert requests.read_recovery(message.SerializeToString()) is None
    assert requests.read_recovery(requests.build_key_request([KEY])) is None


def broken_recoveries() -> cabc.Iterator[sync_pb2.SyncRecovery]:
    """Each breaks one rule."""
    good = sync_pb2.SyncRecovery(collection_lthash=bytes(128))
    good.version.version = 1
    good.records.add(key_id=KEY, mac=bytes(32))
    patches.finish(patches.read_recovery(good, RING))
    for damage in (
        lambda one: one.ClearField("collection_lthash"),
        lambda one: one.records[0].ClearField("mac"),
        lambda one: one.records[0].ClearField("key_id"),
        lambda one: setattr(one.version, "version", 1 << 63),
    ):
        one = sync_pb2.SyncRecovery()
        one.CopyFrom(good)
        damage(one)
        yield one


def test_broken_recoveries_are_refused() -> None:
    """With the error that they have in common with broken patches."""
    for recovery in broken_recoveries():
        with pytest.raises(BrokenPatchError):
            patches.finish(patches.read_recovery(recovery, RING))


def as_a_device_does(patch: sync_pb2.SyncPatch) -> Step:
    """Look up what was there before, then verify."""
    assert wire.index_macs(patch)
    return verify(patch)


@pytest.mark.parametrize(
    "damage",
    [
        lambda patch: patch.ClearField("key_id"),
        lambda patch: setattr(patch.version, "version", 1 << 63),
        lambda patch: setattr(patch.mutations[0].record.value, "blob", bytes(64)),
        lambda patch: setattr(patch.mutations[0].record.index, "blob", b""),
        lambda patch: patch.mutations.extend(
            sync_pb2.SyncMutation(
                record=sync_pb2.SyncRecord(key_id=sync_pb2.SyncKeyId(id=bytes([1, n])))
            )
            for n in range(256)
        ),
    ],
)
def test_malformed_patches_are_refused(damage: cabc.Callable[[sync_pb2.SyncPatch], None]) -> None:
    """Before any key is looked at."""
    patch, _ = build(seal(actions.pin(ANA, True, at=AT)))
    damage(patch)
    with pytest.raises(BrokenPatchError):
        as_a_device_does(patch)


def test_an_operation_nobody_knows_is_refused() -> None:
    """Although its MACs may be right under rules of tomorrow."""
    patch, _ = build(seal(actions.pin(ANA, True, at=AT)))
    patch.mutations[0].operation = 7
    with pytest.raises(BrokenPatchError, match="operation"):
        verify(patch)


def test_sizes_are_bounded() -> None:
    """Of what is parsed at once."""
    with pytest.raises(BrokenPatchError, match="bytes of app state"):
        wire.parse_snapshot(bytes(wire.MAX_BLOB + 1))
    many = sync_pb2.SyncPatch(mutations=[sync_pb2.SyncMutation()] * (wire.MAX_MUTATIONS + 1))
    with pytest.raises(BrokenPatchError, match="records at once"):
        wire.parse_patch(many.SerializeToString())


def test_secrets_stay_out_of_representations() -> None:
    """A log that shows keys shows their names."""
    assert repr(KEYS) == f"SyncKeys({KEY.hex()})"
    with pytest.raises(MissingKeyError):
        RING[b"another"]


@hypothesis.given(st.binary(max_size=512))
@relaxed
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Nothing but our own errors comes out of what the phone sends."""
    for read in (
        requests.read_key_share,
        requests.keys_from_share,
        requests.parse_key_request,
        requests.read_recovery,
        requests.parse_recovery_request,
        requests.is_recovery,
    ):
        with contextlib.suppress(RemoteProtocolError):
            read(data)


def steps_through(data: bytes) -> None:
    """Try whatever a server can make us do with some bytes."""
    works: tuple[cabc.Callable[[], object], ...] = (
        lambda: wire.parse_reference(data),
        lambda: patches.finish(patches.verify_snapshot(NAME, wire.parse_snapshot(data), RING)),
        lambda: verify(wire.parse_patch(data)),
        lambda: verify(wire.with_mutations(wire.parse_patch(data), data)),
        lambda: wire.index_macs(wire.parse_patch(data)),
        lambda: wire.external_mutations(wire.parse_patch(data)),
    )
    for work in works:
        with contextlib.suppress(RemoteProtocolError):
            work()


@hypothesis.given(st.binary(max_size=512))
@relaxed
def test_any_bytes_are_a_step_or_refused(data: bytes) -> None:
    """Nothing but our own errors comes out of what the server sends."""
    steps_through(data)


@hypothesis.given(st.data())
@relaxed
def test_damaged_patches_are_refused(data: st.DataObject) -> None:
    """One changed byte, anywhere: either it does not matter, or it is refused."""
    patch, made = build(seal(actions.pin(ANA, True, at=AT)), seal(actions.pin(GROUP, True, at=AT)))
    raw = bytearray(patch.SerializeToString())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    steps_through(bytes(raw))
    try:
        step = verify(wire.parse_patch(bytes(raw)))
    except RemoteProtocolError:
        return
    assert step.state == made.state
    assert step.mutations == made.mutations
