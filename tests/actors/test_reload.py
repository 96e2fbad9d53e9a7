"""A changed configuration is put in force under running connections."""

import collections.abc as cabc
import contextlib

import attrs
import pytest
import trio
import trio.testing

from config.errors import ConfigError, Problem
from config.model import Config, ConnectionConfig, SupervisionConfig, WhatsAppConfig
from daemon.reload import Reloader
from storage.errors import StorageUnavailableError
from tests.actors.conftest import FaultyStorage
from tests.actors.world import World, open_world

Clock = trio.testing.MockClock


@attrs.define
class Place:
    """A world with a reloader over a configuration that tests write."""

    world: World
    new: Config | ConfigError
    reloader: Reloader = attrs.field(init=False)

    def connect(self, *names: str, **fields: object) -> None:
        """The connections that the configuration is to have."""
        assert isinstance(self.new, Config)
        tables = tuple(ConnectionConfig(name=name, **fields) for name in names)  # type: ignore[arg-type]
        self.new = attrs.evolve(self.new, connections=tables)

    def load(self) -> Config:
        if isinstance(self.new, ConfigError):
            raise self.new
        return self.new

    def states(self) -> dict[str, str]:
        """Every connection and its state."""
        return {row.name: row.state for row in self.world.fleet.status()}

    async def reasons(self, name: str) -> list[str]:
        """The transitions of a connection."""
        return [row.reason for row in await self.world.storage.timeline(name, limit=200)]


@contextlib.asynccontextmanager
async def open_place(storage: FaultyStorage, *names: str) -> cabc.AsyncIterator[Place]:
    """Connections that are online, and a reloader."""
    async with open_world(storage, *names) as world:
        config = Config(
            whatsapp=WhatsAppConfig(root_key=world.simulator.root_key.hex(), version="2.3000.1"),
            connections=tuple(ConnectionConfig(name=name) for name in names),
        )
        place = Place(world, config)
        place.reloader = Reloader(config, place.load, world.fleet, storage, world.writer.inbox)
        await world.nursery.start(place.reloader.run)
        yield place


async def test_added_removed_and_changed(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Each as it should be; the one that did not change is not touched, and loses nothing."""
    async with open_place(storage, "kept", "changed", "gone") as place:
        world = place.world
        before, dials = await place.reasons("kept"), world.dials
        place.connect("kept", "changed", "new")
        assert isinstance(place.new, Config)
        kept, changed, new = place.new.connections
        changed = attrs.evolve(changed, groups=False)
        place.new = attrs.evolve(place.new, connections=(kept, changed, new))
        facts = await place.reloader.reload()
        assert (facts.added, facts.removed, facts.changed) == (("new",), ("gone",), ("changed",))
        assert (facts.unchanged, facts.problems, facts.restart) == (1, (), ())
        await world.until_state("changed", "online")
        assert place.states() == {"kept": "online", "changed": "online", "new": "stopped"}
        assert world.dials == dials + 1
        assert await place.reasons("kept") == before
        assert (await place.reasons("gone"))[-1] == "removed"
        customer = world.simulator.create_account("customer")
        for name in ("kept", "changed"):
            await customer.phone.send_text(world.accounts[name].pn, f"to {name}")
        await world.until(lambda: len(storage.committed) == 2, "both go on")
        assert world.fleet.status("changed")[0].messages == 1
        await world.pair("new")


async def test_removed_and_back(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Its device and its messages are still there."""
    async with open_place(storage, "sales") as place:
        customer = place.world.simulator.create_account("customer")
        await customer.phone.send_text(place.world.accounts["sales"].pn, "one")
        await place.world.until(lambda: storage.committed, "stored")
        place.connect()
        assert (await place.reloader.reload()).removed == ("sales",)
        assert place.states() == {}
        await customer.phone.send_text(place.world.accounts["sales"].pn, "two")
        place.connect("sales")
        assert (await place.reloader.reload()).added == ("sales",)
        await place.world.until_state("sales", "online")
        await place.world.until(lambda: len(storage.committed) == 2, "what came meanwhile")
        assert place.world.fleet.status("sales")[0].messages == 2


async def test_a_stopped_one_stays_stopped(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """A change of its settings is no reason to start it."""
    async with open_place(storage, "sales") as place:
        await place.world.fleet.stop("sales")
        place.connect("sales", groups=False)
        assert (await place.reloader.reload()).changed == ("sales",)
        await trio.testing.wait_all_tasks_blocked()
        assert place.states() == {"sales": "stopped"}


async def test_a_broken_configuration_is_refused(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """With everything that is wrong with it; the old one stays, and a repaired one works."""
    async with open_place(storage, "sales") as place:
        good = place.new
        before = await place.reasons("sales")
        place.new = ConfigError(
            [
                Problem(where="supervisor.toml:3", message="unknown name"),
                Problem(where="supervisor.toml:9", message="not a table"),
            ]
        )
        facts = await place.reloader.reload()
        assert len(facts.problems) == 2
        assert "supervisor.toml:3" in facts.problems[0]
        assert await place.reasons("sales") == before
        assert place.reloader.config == good
        place.new = good
        assert (await place.reloader.reload()).problems == ()


async def test_the_database_is_away(
    autojump_clock: Clock, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed, and the same reload works later."""

    async def away(*_args: object) -> None:
        raise StorageUnavailableError("refused")

    async with open_place(storage, "sales") as place:
        place.connect("sales", "support", groups=False)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "ensure_connection", away)
            facts = await place.reloader.reload()
        assert "nothing was changed" in facts.problems[0]
        assert place.states() == {"sales": "online"}
        with monkeypatch.context() as patch:
            patch.setattr(storage, "connections", away)
            facts = await place.reloader.reload()
        assert "sales, support" in facts.problems[0]
        assert place.states() == {}
        facts = await place.reloader.reload()
        assert facts.added == ("sales", "support")
        await place.world.until_state("sales", "online")


async def test_who_asks_meanwhile_gets_the_same_answer(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Signals and commands at once are one reload; one that goes away does not stop it."""
    async with open_place(storage, "sales") as place:
        place.connect("sales", "support")
        assert isinstance(place.new, Config)
        place.new = attrs.evolve(place.new, supervision=SupervisionConfig(retry_limit=3))
        with trio.move_on_after(0):
            await place.reloader.reload()
        first, second = place.reloader.ask(), place.reloader.ask()
        assert first is second
        await first.done.wait()
        await place.world.until_state("sales", "online")
        assert place.states() == {"sales": "online", "support": "stopped"}
