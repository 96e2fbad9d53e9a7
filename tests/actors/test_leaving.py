"""Unlinking: by an operator's order, by the phone, and coming back."""

import typing as t

import pytest
import trio
import trio.testing

from actors.line import NotOnlineError
from storage.api import RecordKind
from tests.actors.conftest import FaultyStorage
from tests.actors.world import open_world

Clock: t.TypeAlias = trio.testing.MockClock


async def test_an_operator_logs_out_and_the_keys_are_gone(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """WhatsApp unlinks the device first; then its keys go, its conversations stay."""
    async with open_world(storage, "sales") as world:
        team = world.accounts["sales"]
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(team.pn, "before")
        await world.settled()
        await world.fleet.logout("sales")
        [status] = world.fleet.status("sales")
        assert (status.state, status.reason) == ("logged_out", "logged_out_by_operator")
        assert not status.paired
        assert not team.companions
        assert await storage.load_records("sales", RecordKind.DEVICE, [""]) == {}
        assert [row["text"] for row in storage.messages("sales")] == ["before"]
        assert [row["reason"] for row in await storage.events("sales", 9)].count("logged_out") == 0


async def test_logging_out_needs_a_live_connection(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I8: nothing is deleted that WhatsApp was not told of."""
    async with open_world(storage, "sales") as world:
        await world.fleet.stop("sales")
        await world.until_state("sales", "stopped")
        with pytest.raises(NotOnlineError, match="start it"):
            await world.fleet.logout("sales")
        assert await storage.load_records("sales", RecordKind.DEVICE, [""])


async def test_pairing_again_keeps_every_conversation(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The same customer goes on in the same conversation after another device was linked."""
    async with open_world(storage, "sales") as world:
        team = world.accounts["sales"]
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(team.pn, "before")
        await world.settled()
        await world.fleet.logout("sales")
        await world.fleet.pair("sales")
        version, view = 0, world.fleet.pairing("sales")
        while view.state != "code" or view.qr is None:
            view = await world.fleet.wait_pairing("sales", version)
            version = view.version
        await world.simulator.scan_qr(view.qr, phone=team.pn.user)
        await world.until_state("sales", "online")
        await customer.phone.send_text(team.pn, "after")
        await world.settled()
        rows = storage.messages("sales")
        assert [row["text"] for row in rows] == ["before", "after"]
        assert len({row["conversation_id"] for row in rows}) == 1


async def test_pairing_with_a_code_that_is_typed(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The phone is told the code instead of scanning one."""
    async with open_world(storage, "sales", paired=False) as world:
        team = world.simulator.create_account("team sales")
        await world.fleet.pair("sales", phone=f"+{team.pn.user}")
        version, view = 0, world.fleet.pairing("sales")
        while view.code is None:
            view = await world.fleet.wait_pairing("sales", version)
            version = view.version
        assert view.state == "code"
        assert view.qr is None
        await team.phone.enter_code(view.code)
        await world.until_state("sales", "online")
        assert len(team.companions) == 1
