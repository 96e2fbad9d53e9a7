"""Keys of the past: nothing is sent with them; accepted, the talk goes on without pairing again."""

import copy
import typing as t

import pytest
import trio
import trio.testing

from actors.recovery import JUMP, NoDeviceError, NotStaleError
from storage.api import RecordKind
from storage.epochs import Epoch
from storage.queues import OutboxState
from tests.actors.outbox_world import NAME, SendingWorld, sending_world
from whatsapp.device import Device

Clock: t.TypeAlias = trio.testing.MockClock


async def talk(world: SendingWorld, text: str) -> None:
    """Both say something."""
    await world.send(world.customer.pn, text=f"team {text}")
    await world.customer.phone.send_text(world.team.pn, f"customer {text}")
    await world.world.settled()


async def put_back(world: SendingWorld, records: dict[RecordKind, dict[str, bytes]]) -> None:
    """The daemon is stopped, its keys are those of the past, and it is started."""
    fleet = world.world.fleet
    await fleet.stop(NAME)
    world.storage._connections[NAME].records = records
    known = world.storage._epoch
    await world.storage.begin_epoch(Epoch(database=known.database, epoch=known.epoch + 5))
    await fleet.start(NAME)
    await world.world.until_state(NAME, "parked")


def device(world: SendingWorld) -> Device:
    return Device.from_bytes(world.storage._connections[NAME].records[RecordKind.DEVICE][""])


async def test_parked_until_it_is_accepted(autojump_clock: Clock) -> None:
    """Starting it does not help; recovering does, and then both hear each other again."""
    async with sending_world() as world:
        await talk(world, "one")
        past = copy.deepcopy(world.storage._connections[NAME].records)
        await talk(world, "two")
        await put_back(world, past)
        fleet = world.world.fleet
        dialled = world.world.dials
        for _try in range(2):
            await fleet.restart(NAME)
            await world.world.until_state(NAME, "parked")
        [status] = fleet.status(NAME)
        assert (status.reason, world.world.dials) == ("stale_keys", dialled)
        assert f"zapvisor recover {NAME}" in status.sentence
        assert not fleet._member(NAME).linked  # so pairing anew needs no force
        await world.customer.phone.send_text(world.team.pn, "meanwhile")
        before = device(world)
        await fleet.recover(NAME)
        await world.world.until_state(NAME, "online")
        await world.world.settled()
        await talk(world, "three")
        assert await world.texts("buyer") == [
            *("team one", "customer one", "team two", "customer two"),
            *("meanwhile", "team three", "customer three"),
        ]
        texts = await world.texts(NAME)
        assert texts[-3:] == ["meanwhile", "team three", "customer three"]
        after = device(world)
        assert after.identity == before.identity
        assert after.registration_id == before.registration_id
        assert after.next_prekey_id > before.next_prekey_id + JUMP
        assert await world.storage.stale_keys(NAME) == []
        with pytest.raises(NotStaleError):
            await fleet.recover(NAME)


async def test_why_all_this(autojump_clock: Clock) -> None:
    """A session of the past encrypts under keys that were used before: who receives that has to
    ask for it again, which phones do not do."""
    async with sending_world() as world:
        await talk(world, "one")
        past = copy.deepcopy(world.storage._connections[NAME].records)
        await talk(world, "two")
        await world.world.fleet.stop(NAME)
        world.storage._connections[NAME].records = past
        await world.world.fleet.start(NAME)
        await world.world.until_state(NAME, "online")
        await world.send(world.customer.pn, text="team three")
        await world.world.settled()
        rows = world.storage._connections["buyer"].rows.values()
        assert [row.retries for row in rows if row.content.text == "team three"] == [1]


async def test_what_waited_to_be_sent_is_not_sent_again(autojump_clock: Clock) -> None:
    """It was sent long ago, for all that is known; an operator may send it nevertheless."""
    async with sending_world() as world:
        await talk(world, "one")
        past = copy.deepcopy(world.storage._connections[NAME].records)
        await put_back(world, past)
        number = (await world.enqueue(world.customer.pn, "text", None, {"text": "old"})).id
        await world.world.fleet.recover(NAME)
        await world.world.until_state(NAME, "online")
        await trio.sleep(60)
        row = await world.storage.outbox_row(NAME, number)
        assert row is not None
        assert row.state == OutboxState.UNKNOWN
        assert "old" not in await world.texts("buyer")


async def test_a_newer_database_is_a_cure(autojump_clock: Clock) -> None:
    """While nobody has accepted the old one, it starts as if nothing had been."""
    async with sending_world() as world:
        await talk(world, "one")
        past = copy.deepcopy(world.storage._connections[NAME].records)
        await talk(world, "two")
        newest = copy.deepcopy(world.storage._connections[NAME].records)
        await put_back(world, past)
        world.storage._stale.clear()  # as the newer database has it
        world.storage._connections[NAME].records = newest
        await world.world.fleet.start(NAME)
        await world.world.until_state(NAME, "online")
        await talk(world, "three")
        assert (await world.texts("buyer"))[-2:] == ["team three", "customer three"]


@pytest.mark.parametrize("stored", [{"": b"nonsense"}, {}])
async def test_keys_that_cannot_be_read(autojump_clock: Clock, stored: dict[str, bytes]) -> None:
    """Are not renewed: it says so, stays parked, and everything else goes on."""
    async with sending_world() as world:
        await talk(world, "one")
        past = copy.deepcopy(world.storage._connections[NAME].records)
        await put_back(world, past)
        world.storage._connections[NAME].records[RecordKind.DEVICE] = dict(stored)
        fleet = world.world.fleet
        with pytest.raises(NoDeviceError, match=f"zapvisor pair {NAME}"):
            await fleet.recover(NAME)
        [status] = fleet.status(NAME)
        assert status.state != "online"
        [mark] = await world.storage.stale_keys(NAME)
        assert not mark.accepted
        await fleet.recover("buyer")
        await world.world.until_state("buyer", "online")
