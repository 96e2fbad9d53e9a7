"""App state in the simulator: what phones set, companions can read and verify, and set, too."""

import collections.abc as cabc

import pytest
import trio
import trio.testing
from scripted_companion import Companion, wall_clock
from simulator_cast import Cast, arrived, gather, linked, of_type
from trio.testing import MockClock

from simulator import Settings, Simulator, files, open_simulator
from whatsapp import appstate
from whatsapp.appstate import actions, requests
from whatsapp.appstate.actions import Action
from whatsapp.appstate.errors import MacError
from whatsapp.appstate.keys import KeyRing, SyncKeys, secret_of
from whatsapp.appstate.mutations import Operation, seal_record
from whatsapp.appstate.patches import (
    CollectionState,
    Step,
    build_patch,
    finish,
    read_recovery,
    verify_patch,
    verify_snapshot,
)
from whatsapp.appstate.wire import parse_patch, parse_reference, parse_snapshot
from whatsapp.iq import app_state
from whatsapp.iq.app_state import CollectionAnswer, CollectionRequest
from whatsapp.node import Node


@pytest.fixture
async def simulator(autojump_clock: MockClock) -> cabc.AsyncIterator[Simulator]:
    """A simulator in memory whose clock is the test's; phones share their keys."""
    async with open_simulator(seed=1, now=wall_clock()) as running:
        yield running


@pytest.fixture
async def cast(simulator: Simulator, nursery: trio.Nursery) -> Cast:
    """Everybody, paired and online."""
    return await gather(simulator, nursery)


async def plaintexts(companion: Companion) -> list[bytes]:
    """The peer messages that have come since the last time, decrypted."""
    nodes = await arrived(companion, "message", lambda n: n.text("category") == "peer")
    return [companion.decrypt(node).raw for node in nodes]


async def keys_of(companion: Companion) -> KeyRing:
    """The keys the phone shared."""
    shared = [key for raw in await plaintexts(companion) for key in requests.read_key_share(raw)]
    return KeyRing({bytes.fromhex(key_id): secret_of(data) for key_id, data in shared})


async def fetch(companion: Companion, *wanted: CollectionRequest) -> list[CollectionAnswer]:
    """Ask the server."""
    return list(app_state.parse_sync_response(await companion.ask(app_state.sync_request, wanted)))


def read(name: str, patches: cabc.Iterable[bytes], ring: KeyRing) -> list[Step]:
    """Verify patches from the first one on."""
    steps, state, values = [], CollectionState(), {}
    for data in patches:
        step = finish(verify_patch(name, parse_patch(data), state, values, ring))
        state, values = step.state, {**values, **step.values}
        steps.append(step)
    return steps


async def test_what_phones_set(autojump_clock: MockClock, simulator: Simulator, cast: Cast) -> None:
    """Every setting makes a patch that its companions are told of and can verify."""
    ring = await keys_of(cast.desk)
    phone, ana, rui = cast.desk_account.phone, cast.ana, cast.rui
    group = simulator.create_group("team", [cast.desk_account, ana])
    await phone.set_contact_name(ana, "Ana Lima", "Ana")
    await phone.set_contact_name(rui.lid, "Rui")
    await phone.remove_contact(ana)
    await phone.set_push_name("The desk")
    await phone.mute(group, 1_800_000_000_000)
    await phone.archive(ana)
    await phone.pin(rui.pn)
    await phone.mark_read(ana, on=False)
    await phone.edit_label("1", "VIP", 3)
    await phone.label("1", ana)
    await phone.label_message("1", ana, "ABC")
    await phone.link_number(rui)
    await phone.set_lid_contact_name(cast.eva.lid, "Eva")
    await phone.delete_label("1")
    await phone.delete_chat(rui)
    wanted = [CollectionRequest(name=name) for name in appstate.COLLECTIONS]
    found = {
        answer.name: read(answer.name, answer.patches, ring)
        for answer in await fetch(cast.desk, *wanted)
    }
    told = {
        name: [
            (mutation.operation.name, mutation.index)
            for step in steps
            for mutation in step.mutations
        ]
        for name, steps in found.items()
    }
    assert told["critical_unblock_low"] == [
        ("SET", ("contact", str(ana.pn))),
        ("SET", ("contact", str(rui.lid))),
        ("REMOVE", ("contact", str(ana.pn))),
        ("SET", ("lid_contact", str(cast.eva.lid))),
    ]
    assert told["critical_block"] == [("SET", ("setting_pushName",))]
    assert told["regular_high"] == [
        ("SET", ("mute", str(group.jid))),
        ("SET", ("deleteChat", str(rui.pn), "1")),
    ]
    assert [index[0] for _, index in told["regular_low"]] == [
        "archive",
        "pin_v1",
        "pin_v1",
        "markChatAsRead",
    ]
    assert [index[0] for _, index in told["regular"]] == [
        "label_edit",
        "label_jid",
        "label_message",
        "pnForLidChat",
        "label_edit",
    ]
    contact = found["critical_unblock_low"][0].mutations[0].value.contact_action
    assert (contact.full_name, contact.lid_jid) == (b"Ana Lima", str(ana.lid).encode())
    assert cast.desk_account.name == "The desk"
    notices = await arrived(cast.desk, "notification", of_type("server_sync"))
    heard = [entry for node in notices for entry in app_state.parse_server_sync(node) or ()]
    assert heard[:2] == [("critical_unblock_low", 1), ("critical_unblock_low", 2)]
    assert len(heard) == sum(len(steps) for steps in found.values())


async def test_snapshot(autojump_clock: MockClock, simulator: Simulator, cast: Cast) -> None:
    """On demand the whole collection comes as a file, with the newest values only."""
    ring = await keys_of(cast.desk)
    phone = cast.desk_account.phone
    for name in ("old", "new"):
        await phone.set_contact_name(cast.ana, name)
    await phone.set_contact_name(cast.rui, "gone")
    await phone.remove_contact(cast.rui)
    name = "critical_unblock_low"
    empty, full = await fetch(
        cast.desk,
        CollectionRequest(name="regular", snapshot=True),
        CollectionRequest(name=name, snapshot=True),
    )
    assert (empty.version, empty.snapshot, empty.patches) == (0, None, ())
    assert full.snapshot is not None
    source = parse_reference(full.snapshot)
    data = files.unseal("app_state", simulator.media.get(source.direct_path), source.media_key)
    step = finish(verify_snapshot(name, parse_snapshot(data), ring))
    assert step.state.version == 4
    assert [m.value.contact_action.full_name for m in step.mutations] == [b"new"]
    (nothing,) = await fetch(cast.desk, CollectionRequest(name=name, version=4))
    assert (nothing.version, nothing.patches) == (4, ())


def patch_of(
    action: Action, state: CollectionState, ring: KeyRing, keys: SyncKeys
) -> tuple[bytes, Step]:
    """A companion's patch."""
    sealed = seal_record(
        Operation.SET, action.index, action.value, keys, iv=bytes(16), version=action.version
    )
    patch, step = build_patch(action.collection, [sealed], state, {}, ring, keys)
    return patch.SerializeToString(), step


async def test_companion_sets_something(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, cast: Cast
) -> None:
    """Its patch reaches the phone and the other companions; an outdated one is refused."""
    ring = await keys_of(cast.desk)
    laptop = await linked(simulator, nursery, "laptop", "desk")
    phone = cast.desk_account.phone
    keys = ring[next(iter(phone.sync.keys))]
    pinned = actions.pin(cast.ana.pn, True, at=1)
    patch, step = patch_of(pinned, CollectionState(), ring, keys)
    request = CollectionRequest(name="regular_low", patch=patch)
    (taken,) = await fetch(cast.desk, request)
    assert (taken.version, taken.error) == (1, None)
    assert await arrived(cast.desk, "notification", of_type("server_sync")) == []
    assert len(await arrived(laptop, "notification", of_type("server_sync"))) == 1
    known = phone.setting("pin_v1", str(cast.ana.pn))
    assert known is not None
    assert known.value.pin_action.pinned
    (refused,) = await fetch(laptop, request)
    assert refused.error is not None
    assert refused.error.code == app_state.CONFLICT
    assert [s.state for s in read("regular_low", refused.patches, ring)] == [step.state]
    await phone.pin(cast.ana, on=False)
    (answer,) = await fetch(laptop, CollectionRequest(name="regular_low"))
    assert [s.state.version for s in read("regular_low", answer.patches, ring)] == [1, 2]


async def test_long_lists_come_in_pages(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """More patches than fit are announced; forgotten ones are replaced by a snapshot."""
    settings = Settings(app_state_page=2, app_state_patches=3)
    async with open_simulator(seed=1, now=wall_clock(), settings=settings) as simulator:
        cast = await gather(simulator, nursery)
        for number in range(5):
            await cast.desk_account.phone.edit_label(str(number), f"label {number}")
        (first,) = await fetch(cast.desk, CollectionRequest(name="regular", version=2))
        assert (first.version, first.more, len(first.patches)) == (4, True, 2)
        (second,) = await fetch(cast.desk, CollectionRequest(name="regular", version=4))
        assert (second.version, second.more, len(second.patches)) == (5, False, 1)
        (other,) = await fetch(cast.desk, CollectionRequest(name="regular", version=1))
        assert other.snapshot is not None


async def test_damaged_state_and_its_recovery(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """Patches and snapshots can be damaged on command; the phone hands out its own copy."""
    ring = await keys_of(cast.desk)
    phone = cast.desk_account.phone
    await phone.edit_label("1", "VIP")
    simulator.faults.corrupt_patches(cast.desk.jid)
    (answer,) = await fetch(cast.desk, CollectionRequest(name="regular"))
    with pytest.raises(MacError):
        read("regular", answer.patches, ring)
    (answer,) = await fetch(cast.desk, CollectionRequest(name="regular"))
    (step,) = read("regular", answer.patches, ring)
    simulator.faults.corrupt_snapshots(cast.desk.jid)
    (answer,) = await fetch(cast.desk, CollectionRequest(name="regular", snapshot=True))
    assert answer.snapshot is not None
    source = parse_reference(answer.snapshot)
    data = files.unseal("app_state", simulator.media.get(source.direct_path), source.media_key)
    with pytest.raises(MacError):
        finish(verify_snapshot("regular", parse_snapshot(data), ring))
    await cast.desk.send_peer("R", requests.build_recovery_request("regular", 0))
    (raw,) = await plaintexts(cast.desk)
    recovered = requests.read_recovery(raw)
    assert recovered is not None
    assert (recovered.request_id, recovered.collection) == ("R", "regular")
    whole = finish(read_recovery(recovered.recovery, ring))
    assert whole.state == step.state
    assert whole.values == step.values


async def test_keys_are_shared_on_request(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """A rotated key is told at once or on request; unknown ones have no data; or none is told."""
    await plaintexts(cast.desk)
    phone = cast.desk_account.phone
    told = await phone.rotate_sync_key()
    hidden = await phone.rotate_sync_key(share=False)
    (raw,) = await plaintexts(cast.desk)
    assert requests.read_key_share(raw) == ((told.id.hex(), told.data),)
    await cast.desk.send_peer("1", requests.build_key_request((hidden.id, b"unknown")))
    (raw,) = await plaintexts(cast.desk)
    assert requests.read_key_share(raw) == ((hidden.id.hex(), hidden.data),)
    phone.shares_keys = False
    await cast.desk.send_peer("2", requests.build_key_request((hidden.id,)))
    assert await plaintexts(cast.desk) == []
    await phone.edit_label("1", "VIP")
    (answer,) = await fetch(cast.desk, CollectionRequest(name="regular"))
    assert parse_patch(answer.patches[0]).key_id.id == hidden.id


async def test_nonsense_is_refused(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """Unknown collections, patches that are none, versions from the future."""
    answers = await fetch(
        cast.desk,
        CollectionRequest(name="odd"),
        CollectionRequest(name="regular", patch=b"\xff"),
        CollectionRequest(name="regular", version=7),
    )
    assert [answer.error and answer.error.code for answer in answers] == [400, 400, 400]

    def empty(iq_id: str) -> Node:
        return Node("iq", {"id": iq_id, "type": "set", "xmlns": app_state.XMLNS})

    assert (await cast.desk.ask(empty)).text("type") == "error"
