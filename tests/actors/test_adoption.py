"""A connection gets the device of another program: all of it or nothing, and only at rest."""

import functools
import random
import typing as t

import attrs
import pytest
import trio
import trio.testing

from actors.adoption import Adoption, NotAdoptedError
from actors.errors import AlreadyPairedError, StillRunningError
from storage.api import ConversationRules, Envelope, Outcome, RecordChange, RecordKind
from storage.errors import StorageRejectedError, StorageUnavailableError
from tests.actors.conftest import FaultyStorage
from tests.actors.world import open_world
from whatsapp.device import Device
from whatsapp.jid import Jid

Clock: t.TypeAlias = trio.testing.MockClock
KINDS: t.Final = (RecordKind.DEVICE, RecordKind.SESSION, RecordKind.PREKEY)


def adoption() -> Adoption:
    """Another program's device, with a session and a prekey."""
    device = Device.generate(random.Random(5).randbytes)
    device = attrs.evolve(device, jid=Jid.parse("5511999990009:4@s.whatsapp.net"), account=b"x")
    records = (
        RecordChange(RecordKind.SESSION, "5511999990001.0", b"session"),
        RecordChange(RecordKind.PREKEY, "7", bytes(32)),
    )
    pairs = (("5511999990001@s.whatsapp.net", "77001@lid"),)
    return Adoption(device=device, records=records, pairs=pairs)


async def records(storage: FaultyStorage) -> dict[RecordKind, dict[str, bytes]]:
    """What is stored under the keys that matter here."""
    names = ["", "5511999990001.0", "7", "1"]
    return {kind: await storage.load_records("sales", kind, names) for kind in KINDS}


async def test_a_connection_at_rest_takes_it_over(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Its own keys are gone, the others are there, and it waits for a person, also after a
    restart of the daemon."""
    async with open_world(storage, "sales") as world:
        await world.fleet.stop("sales")
        await world.until_state("sales", "stopped")
        with pytest.raises(AlreadyPairedError):
            await world.fleet.adopt("sales", adoption())
        taken = adoption()
        await world.fleet.adopt("sales", taken, force=True)
        [status] = world.fleet.status("sales")
        assert (status.state, status.reason, status.paired) == ("stopped", "imported", True)
        assert status.jid is not None
        assert status.jid.startswith("***0009")
        assert await records(storage) == {
            RecordKind.DEVICE: {"": taken.device.to_bytes()},
            RecordKind.SESSION: {"5511999990001.0": b"session"},
            RecordKind.PREKEY: {"7": bytes(32)},
        }
        contact = await storage.contact("sales", "77001@lid")
        assert contact is not None
        assert "5511999990001@s.whatsapp.net" in contact.addresses
        [row] = [row for row in await storage.connections() if row.name == "sales"]
        assert (row.paired, row.wanted) == (True, False)


async def test_one_that_runs_is_left_alone(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Whatever --force says: its keys are in use."""
    async with open_world(storage, "sales") as world:
        before = await records(storage)
        with pytest.raises(StillRunningError, match="zapvisor stop sales"):
            await world.fleet.adopt("sales", adoption(), force=True)
        assert await records(storage) == before
        [status] = world.fleet.status("sales")
        assert status.state == "online"


@pytest.mark.parametrize("kind", [StorageRejectedError, StorageUnavailableError])
async def test_what_the_database_does_not_take_changes_nothing(
    autojump_clock: Clock,
    storage: FaultyStorage,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    """Refused or away: the old keys are there, nothing is quarantined, and the fleet goes on."""
    async with open_world(storage, "sales") as world:
        await world.fleet.stop("sales")
        await world.until_state("sales", "stopped")
        before = await records(storage)
        apply = storage.apply

        async def refuse(batch: t.Sequence[Envelope]) -> list[Outcome]:
            if any(envelope.reset_records for envelope in batch):
                raise kind("not this")
            return await apply(batch)

        monkeypatch.setattr(storage, "apply", refuse)
        expected = NotAdoptedError if kind is StorageRejectedError else StorageUnavailableError
        with pytest.raises(expected, match="not this"):
            await world.fleet.adopt("sales", adoption(), force=True)
        assert await records(storage) == before
        [row] = [row for row in await storage.connections() if row.name == "sales"]
        assert row.quarantined == 0
        await world.fleet.start("sales")
        await world.until_state("sales", "online")


async def test_nobody_starts_it_meanwhile(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """An order to start waits for its turn: then it is the new device that goes online."""
    async with open_world(storage, "sales") as world:
        await world.fleet.stop("sales")
        await world.until_state("sales", "stopped")
        apply, inside, go = storage.apply, trio.Event(), trio.Event()

        async def slowly(batch: t.Sequence[Envelope]) -> list[Outcome]:
            if any(envelope.reset_records for envelope in batch):
                inside.set()
                await go.wait()
            return await apply(batch)

        storage.apply = slowly  # type: ignore[method-assign]
        taken = adoption()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(world.fleet.adopt, "sales", taken, force=True))
            await inside.wait()
            nursery.start_soon(world.fleet.start, "sales")
            await trio.testing.wait_all_tasks_blocked()
            [status] = world.fleet.status("sales")
            assert status.state == "stopped"
            go.set()
        found = await storage.load_records("sales", RecordKind.DEVICE, [""])
        assert found == {"": taken.device.to_bytes()}
        [status] = world.fleet.status("sales")
        assert status.state == "connecting"


async def test_a_fence_that_a_writer_loses_is_posted_again(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A writer that crashes takes the fence along; the import goes on all the same."""

    class Forgetful:
        posted = 0

        async def post(self, mail: t.Any) -> None:
            await trio.lowlevel.checkpoint()
            self.posted += 1
            if self.posted > 1:
                mail.passed.set()

    await storage.ensure_connection("sales", ConversationRules())
    with trio.fail_after(600):
        await adoption().store("sales", storage, t.cast("t.Any", Forgetful()))
    assert (await records(storage))[RecordKind.PREKEY] == {"7": bytes(32)}
