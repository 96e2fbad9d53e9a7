"""Signs of life of the phones: what counts, what is kept, and who is asked."""

import typing as t

import attrs
import pytest
import trio
import trio.testing

from actors.line import NotOnlineError
from actors.phones import ASK_AFTER, ASK_EVERY, AT_ONCE, INTERVAL, Phones, phone_sign
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from whatsapp.jid import Jid
from whatsapp.node import Node

START: t.Final = 1_790_000_000.0
DAY: t.Final = 86_400.0
OWN: t.Final = (Jid.parse("15550001111@s.whatsapp.net"), Jid.parse("99887766@lid"))


def wall_clock() -> float:
    """Unix seconds of the virtual clock."""
    return START + trio.current_time()


@pytest.mark.parametrize(
    ("tag", "attributes", "expected"),
    [
        ("message", {"from": "15550001111@s.whatsapp.net", "t": "1790000000"}, 1790000000),
        ("receipt", {"from": "99887766@lid", "t": "1790000000", "type": "read-self"}, 1790000000),
        (
            "receipt",
            {"from": "1203@g.us", "participant": "15550001111@s.whatsapp.net", "t": "17"},
            17,
        ),
        ("message", {"from": "15550001111:3@s.whatsapp.net", "t": "1790000000"}, None),
        ("message", {"from": "15550002222@s.whatsapp.net", "t": "1790000000"}, None),
        ("message", {"from": "1203@g.us", "participant": "15550002222@s.whatsapp.net"}, None),
        ("notification", {"from": "15550001111@s.whatsapp.net", "t": "1790000000"}, None),
        ("message", {"from": "15550001111@s.whatsapp.net", "t": "soon"}, None),
        ("message", {"from": "15550001111:x@s.whatsapp.net", "t": "17"}, None),
        ("message", {}, None),
    ],
)
def test_what_is_a_sign(tag: str, attributes: dict[str, str], expected: int | None) -> None:
    """Messages and receipts of the own phone; not of other devices, people, or the server."""
    assert phone_sign(Node(tag, attributes), OWN) == expected


@attrs.define
class Status:
    """What a fleet tells."""

    name: str
    state: str = "online"
    paired: bool = True
    phone_seen_at: float | None = None


@attrs.define
class Fleet:
    """Connections that note when they are asked."""

    statuses: list[Status]
    asked: list[tuple[str, float]] = attrs.field(factory=list)
    offline: bool = False

    def status(self) -> list[Status]:
        return self.statuses

    async def ask_phone(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append((name, trio.current_time()))
        if self.offline:
            raise NotOnlineError(name)


class Away(MemoryStorage):
    """May be away."""

    def __init__(self) -> None:
        super().__init__(wall_clock)
        self.away = False

    async def note_phone_signs(self, signs: t.Any) -> None:
        if self.away:
            raise StorageUnavailableError("away")
        await super().note_phone_signs(signs)


async def test_signs_are_kept_over_a_restart(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The newest one; while the database is away it waits; what was never seen counts from now."""
    storage = Away()
    await storage.note_phone_signs({"sales": START - 5 * DAY})
    fleet = Fleet([Status("sales"), Status("new"), Status("unpaired", "stopped", False)])
    phones = Phones(storage, fleet, wall_clock)
    nursery.start_soon(phones.run)
    await trio.sleep(1)
    assert phones.seen_at("sales") == START - 5 * DAY
    assert phones.seen_at("new") == START
    assert phones.seen_at("unpaired") is None
    storage.away = True
    fleet.statuses[0].phone_seen_at = START + 60
    await trio.sleep(2 * INTERVAL)
    assert phones.seen_at("sales") == START + 60
    assert (await storage.phone_signs())["sales"] == START - 5 * DAY
    storage.away = False
    await trio.sleep(INTERVAL)
    again = Phones(storage, fleet, wall_clock)
    fleet.statuses[0].phone_seen_at = None
    nursery.start_soon(again.run)
    await trio.sleep(1)
    assert again.seen_at("sales") == START + 60
    assert again.seen_at("new") == START
    nursery.cancel_scope.cancel()


async def test_a_silent_phone_is_asked_once_a_day(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """From the third day on, while it is online; an answer ends it."""
    storage = Away()
    fleet = Fleet([Status("sales"), Status("off", "backoff")], offline=True)
    phones = Phones(storage, fleet, wall_clock)
    nursery.start_soon(phones.run)
    await trio.sleep(ASK_AFTER + 3 * ASK_EVERY - 2 * INTERVAL)
    assert [name for name, _at in fleet.asked] == ["sales"] * 3
    fleet.statuses[0].phone_seen_at = wall_clock()
    asked = len(fleet.asked)
    await trio.sleep(ASK_AFTER - INTERVAL)
    assert len(fleet.asked) == asked
    nursery.cancel_scope.cancel()


async def test_a_large_fleet_is_asked_bit_by_bit(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Some in each look; all in the end."""
    storage = Away()
    fleet = Fleet([Status(f"c{number}") for number in range(3 * AT_ONCE)])
    nursery.start_soon(Phones(storage, fleet, wall_clock).run)
    await trio.sleep(ASK_AFTER + INTERVAL / 2)
    assert len(fleet.asked) == AT_ONCE
    await trio.sleep(5 * INTERVAL)
    assert len(fleet.asked) == len({name for name, _at in fleet.asked}) == 3 * AT_ONCE
    nursery.cancel_scope.cancel()
