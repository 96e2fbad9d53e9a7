"""Connections are made, changed and deleted on order, under running ones."""

import collections.abc as cabc
import contextlib
import typing as t

import attrs
import pytest
import trio
import trio.testing

from actors.errors import UnknownConnectionError
from actors.forgetting import KeysKeptError, delete_keys
from actors.messages import Settled
from api.problems import ProblemError
from config.model import Config, ConnectionConfig, WhatsAppConfig
from daemon.made import load_made, with_made
from daemon.registrar import Registrar
from daemon.reload import Reloader
from storage.api import RecordKind
from storage.errors import StorageUnavailableError
from tests.actors.conftest import FaultyStorage
from tests.actors.world import World, open_world

Clock = trio.testing.MockClock


@attrs.define
class Place:
    """A world with a registrar, and the configuration as its file has it."""

    world: World
    file: Config
    reloader: Reloader = attrs.field(init=False)
    registrar: Registrar = attrs.field(init=False)
    proxies: list[str] = attrs.field(factory=list)

    def states(self) -> dict[str, str]:
        """Every connection and its state."""
        return {row.name: row.state for row in self.world.fleet.status()}

    def origins(self) -> dict[str, str]:
        """Where each is from."""
        return {name: self.registrar.settings(name).origin for name in self.world.fleet.names}

    async def reasons(self, name: str) -> list[str]:
        """The transitions of a connection."""
        return [row.reason for row in await self.world.storage.timeline(name, limit=200)]

    async def refusal(self, order: cabc.Awaitable[object]) -> tuple[str, int, str]:
        """How an order is refused."""
        with pytest.raises(ProblemError) as refused:
            await order
        problem = refused.value.problem
        return problem.type.removeprefix("urn:zapvisor:"), problem.status, problem.detail


@contextlib.asynccontextmanager
async def open_place(storage: FaultyStorage) -> cabc.AsyncIterator[Place]:
    """``sales``, which the file has and which is online."""
    async with open_world(storage, "sales") as world:
        config = Config(
            whatsapp=WhatsAppConfig(root_key=world.simulator.root_key.hex(), version="2.3000.1"),
            connections=(ConnectionConfig(name="sales"),),
        )
        place = Place(world, config)
        place.reloader = Reloader(
            config,
            lambda: place.file,
            world.fleet,
            storage,
            world.writer.inbox,
            applied=lambda now: place.proxies.append(now.proxy_for("shop")),
        )
        place.registrar = Registrar(place.reloader, world.fleet, storage, world.writer.inbox)
        await world.nursery.start(place.reloader.run)
        await world.nursery.start(place.registrar.run)
        yield place


async def test_one_that_was_made_works_and_stays(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """It is paired and takes messages; reloads leave it alone; a restart has it again; and the
    other one is not touched."""
    async with open_place(storage) as place:
        before = await place.reasons("sales")
        assert await place.registrar.create({"name": "shop", "groups": False}) == "shop"
        assert place.states() == {"sales": "online", "shop": "stopped"}
        assert place.origins() == {"sales": "file", "shop": "api"}
        await place.world.pair("shop")
        customer = place.world.simulator.create_account("customer")
        await customer.phone.send_text(place.world.accounts["shop"].pn, "oi")
        await place.world.until(lambda: storage.committed, "stored")
        facts = await place.reloader.reload()
        assert (facts.problems, facts.unchanged) == ((), 2)
        assert place.states()["shop"] == "online"
        assert await place.reasons("sales") == before
        made = await load_made(storage)
        assert with_made(place.file, made).conversations_for("shop").groups is False


async def test_one_that_was_made_is_changed(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """By stopping and starting it alone; what is null follows the others again."""
    async with open_place(storage) as place:
        await place.registrar.create({"name": "shop", "proxy": "http://u:pw@proxy.example:3128"})
        before = await place.reasons("sales")
        assert place.proxies[-1] == "http://u:pw@proxy.example:3128"
        assert "pw" not in str(place.registrar.settings("shop"))
        await place.registrar.change("shop", {"reopen_window": "2h", "proxy": None})
        assert place.proxies[-1] == ""
        facts = place.registrar.settings("shop")
        assert (facts.own["reopen_window"], facts.effective["proxy"]) == ("2h", "")
        assert storage._connections["shop"].rules.reopen_window == 7200
        assert (await load_made(storage))["shop"].reopen_window == 7200
        assert await place.reasons("sales") == before
        kind, status, detail = await place.refusal(
            place.registrar.change("shop", {"reopen_window": "soon"})
        )
        assert (kind, status) == ("bad-connection", 422)
        assert "reopen_window" in detail
        kind, _, _ = await place.refusal(place.registrar.change("shop", {"name": "other"}))
        assert kind == "bad-connection"
        assert place.registrar.settings("shop") == facts


async def test_a_linked_one_is_deleted_by_force_only(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Its keys go then, its messages stay; made again, it goes on from there."""
    async with open_place(storage) as place:
        before = await place.reasons("sales")
        await place.registrar.create({"name": "shop"})
        await place.world.pair("shop")
        customer = place.world.simulator.create_account("customer")
        await customer.phone.send_text(place.world.accounts["shop"].pn, "oi")
        await place.world.until(lambda: storage.committed, "stored")
        kind, status, detail = await place.refusal(place.registrar.delete("shop"))
        assert (kind, status) == ("still-linked", 409)
        assert "zapvisor logout shop" in detail
        assert place.states()["shop"] == "online"
        assert await storage.load_records("shop", RecordKind.DEVICE, [""])
        await place.registrar.delete("shop", force=True)
        assert place.states() == {"sales": "online"}
        assert await storage.load_records("shop", RecordKind.DEVICE, [""]) == {}
        assert await load_made(storage) == {}
        assert (await place.reasons("shop"))[-1] == "deleted"
        assert await place.reasons("sales") == before
        with pytest.raises(UnknownConnectionError):
            place.registrar.settings("shop")
        await place.registrar.create({"name": "shop"})
        [status_row] = place.world.fleet.status("shop")
        assert (status_row.messages, status_row.paired) == (1, False)


async def test_one_that_was_logged_out_is_deleted(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The logout is confirmed: no force is needed."""
    async with open_place(storage) as place:
        await place.registrar.create({"name": "shop"})
        await place.world.pair("shop")
        await place.world.fleet.logout("shop")
        await place.registrar.delete("shop")
        assert place.states() == {"sales": "online"}


async def test_what_the_file_has_is_not_changed_here(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Nor is what there is not, or is there already; each says what to do instead."""
    async with open_place(storage) as place:
        for order in (
            place.registrar.change("sales", {"groups": False}),
            place.registrar.delete("sales", force=True),
        ):
            kind, status, detail = await place.refusal(order)
            assert (kind, status) == ("from-file", 409)
            assert "zapvisor reload" in detail
        kind, status, _ = await place.refusal(place.registrar.create({"name": "sales"}))
        assert (kind, status) == ("connection-exists", 409)
        kind, status, _ = await place.refusal(place.registrar.delete("nobody"))
        assert (kind, status) == ("unknown-connection", 404)
        assert place.states() == {"sales": "online"}


async def test_the_file_gets_one_of_the_same_name(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """It has the last word from then on; the connection itself goes on."""
    async with open_place(storage) as place:
        await place.registrar.create({"name": "shop", "groups": False})
        both = (ConnectionConfig(name="sales"), ConnectionConfig(name="shop", groups=True))
        place.file = attrs.evolve(place.file, connections=both)
        facts = await place.reloader.reload()
        assert (facts.problems, facts.added, facts.changed) == ((), (), ("shop",))
        assert place.origins() == {"sales": "file", "shop": "file"}
        assert place.registrar.settings("shop").effective["groups"] is True
        assert await load_made(storage) == {}
        place.file = attrs.evolve(place.file, connections=both[:1])
        assert (await place.reloader.reload()).removed == ("shop",)


async def test_the_file_keeps_the_last_word(
    autojump_clock: Clock, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it cannot be written down that a connection is the file's now."""

    async def away(*_args: object) -> None:
        raise StorageUnavailableError("refused")

    async with open_place(storage) as place:
        await place.registrar.create({"name": "shop", "groups": True})
        both = (ConnectionConfig(name="sales"), ConnectionConfig(name="shop", groups=False))
        place.file = attrs.evolve(place.file, connections=both)
        monkeypatch.setattr(storage, "forget_made", away)
        assert (await place.reloader.reload()).changed == ("shop",)
        await place.registrar.create({"name": "other"})
        assert place.registrar.settings("shop").effective["groups"] is False
        assert place.origins() == {"sales": "file", "shop": "file", "other": "api"}
        kind, *_more = await place.refusal(place.registrar.delete("shop"))
        assert kind == "from-file"


async def test_what_is_half_made_can_be_made_again(
    autojump_clock: Clock, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings were stored, then the database went away before they were put in force."""
    async with open_place(storage) as place:
        ensure, calls = storage.ensure_connection, []

        async def fails_second(name: str, rules: t.Any) -> None:
            calls.append(name)
            if len(calls) == 2:
                raise StorageUnavailableError("refused")
            await ensure(name, rules)

        monkeypatch.setattr(storage, "ensure_connection", fails_second)
        with pytest.raises(StorageUnavailableError):
            await place.registrar.create({"name": "shop"})
        assert place.states() == {"sales": "online"}
        await place.registrar.create({"name": "shop"})
        assert place.states() == {"sales": "online", "shop": "stopped"}


async def test_keys_that_stay_are_told(autojump_clock: Clock) -> None:
    """What the database refuses for good was not done."""

    class Refusing:
        async def post(self, mail: t.Any) -> None:
            await mail.reply.send(Settled(mail.ticket, None))

    with pytest.raises(KeysKeptError, match="sales"):
        await delete_keys(t.cast("t.Any", Refusing()), "sales")


async def test_the_database_is_away(
    autojump_clock: Clock, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is half made; what was half deleted can be deleted again, or comes back."""

    async def away(*_args: object) -> None:
        raise StorageUnavailableError("refused")

    async with open_place(storage) as place:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "save_made", away)
            with pytest.raises(StorageUnavailableError):
                await place.registrar.create({"name": "shop"})
        assert place.states() == {"sales": "online"}
        await place.registrar.create({"name": "shop"})
        with monkeypatch.context() as patch:
            patch.setattr(storage, "forget_made", away)
            with pytest.raises(StorageUnavailableError):
                await place.registrar.delete("shop")
        assert place.states() == {"sales": "online"}
        assert (await place.reloader.reload()).added == ("shop",)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "forget_made", away)
            with pytest.raises(StorageUnavailableError):
                await place.registrar.delete("shop")
        await place.registrar.delete("shop")
        assert await load_made(storage) == {}
        assert (await place.reloader.reload()).added == ()


async def test_an_order_is_carried_out_whoever_waits(
    autojump_clock: Clock, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that goes away leaves nothing half done."""
    save = storage.save_made

    async def slowly(name: str, settings: cabc.Mapping[str, object]) -> None:
        await trio.sleep(2)
        await save(name, settings)

    monkeypatch.setattr(storage, "save_made", slowly)
    async with open_place(storage) as place:
        with trio.move_on_after(1) as impatient:
            await place.registrar.create({"name": "shop"})
        assert impatient.cancelled_caught
        assert sorted(place.states()) == ["sales"]
        await place.registrar.create({"name": "office"})
        assert sorted(place.states()) == ["office", "sales", "shop"]


async def test_settings_of_another_version_are_left_out(storage: FaultyStorage) -> None:
    """The log tells, the others run."""
    for name in ("one", "two", "three"):
        await storage.ensure_connection(name, storage._connections["sales"].rules)
        await storage.save_made(name, {"name": name, "autostart": True})
    await storage.save_made("two", {"name": "two", "of_the_future": 1})
    assert sorted(await load_made(storage)) == ["one", "three"]
