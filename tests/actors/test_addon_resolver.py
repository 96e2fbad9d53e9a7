"""Encrypted answers are opened once their message is there, under whichever addresses."""

import typing as t

import pytest
import trio
from stored_rows import CUSTOMER, OWN, StoredRows
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import addons as service
from actors.addons import AddonResolver
from whatsapp import addons, compose
from whatsapp.content import TargetKey
from whatsapp.jid import Jid

SECRET: t.Final = b"s" * 32
POLL: t.Final = compose.poll("Lunch?", ["Tea", "Café"], selectable=1, secret=SECRET)
KEY: t.Final = TargetKey(remote_jid=OWN[0], from_me=False, id="POLL")


def vote(option: str = "Tea", *, author: str = OWN[0], voter: str = CUSTOMER[0]) -> bytes:
    """The customer's vote in our poll."""
    parent = addons.Parent(id="POLL", authors=(author,), raw=POLL)
    return compose.poll_vote(KEY, addons.encrypt_vote([option], parent, voter, b"i" * 12), 5)


@pytest.fixture
def rows() -> StoredRows:
    return StoredRows()


@pytest.fixture
def resolver(rows: StoredRows) -> AddonResolver:
    def own(_connection: str) -> tuple[Jid, ...]:
        return tuple(Jid.parse(jid) for jid in OWN) if rows.lid_known else ()

    return AddonResolver(rows, own)  # type: ignore[arg-type]


@pytest.mark.parametrize(("author", "voter"), [(OWN[0], CUSTOMER[0]), (OWN[1], CUSTOMER[1])])
async def test_a_vote_is_opened_at_the_first_look(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    rows: StoredRows,
    resolver: AddonResolver,
    author: str,
    voter: str,
) -> None:
    """The row then tells the options, and is the same message still."""
    rows.add(POLL, external_id="POLL", from_me=True)
    answer = rows.add(vote("Café", author=author, voter=voter), external_id="VOTE")
    await nursery.start(resolver.run)
    await wait_all_tasks_blocked()
    row = rows.row(answer)
    assert (row.kind, row.detail) == ("poll_vote", {"sent_at_ms": 5, "options": ["Café"]})
    assert (row.target_id, row.target_author, row.lane) == ("POLL", OWN[0], "side")
    nursery.cancel_scope.cancel()


async def test_a_vote_before_its_poll_waits_for_it(
    autojump_clock: MockClock, nursery: trio.Nursery, rows: StoredRows, resolver: AddonResolver
) -> None:
    """It opens when the service is woken after the poll came."""
    answer = rows.add(vote(), external_id="VOTE")
    await nursery.start(resolver.run)
    await trio.sleep(5)
    assert "options" not in rows.row(answer).detail
    rows.add(POLL, external_id="POLL", from_me=True)
    resolver.wake()
    await wait_all_tasks_blocked()
    assert rows.row(answer).detail["options"] == ["Tea"]
    nursery.cancel_scope.cancel()


async def test_nobody_needs_to_wake_it(
    autojump_clock: MockClock, nursery: trio.Nursery, rows: StoredRows, resolver: AddonResolver
) -> None:
    """What cannot be opened yet is tried again every minute."""
    rows.add(POLL, external_id="POLL", from_me=True)
    answer = rows.add(vote(), external_id="VOTE")
    rows.lid_known = False  # the account is not known either
    await nursery.start(resolver.run)
    await trio.sleep(1)
    rows.lid_known = True
    await trio.sleep(service.INTERVAL)
    assert rows.row(answer).detail["options"] == ["Tea"]
    nursery.cancel_scope.cancel()


async def test_reactions_and_edits_change_their_kind(
    autojump_clock: MockClock, nursery: trio.Nursery, rows: StoredRows, resolver: AddonResolver
) -> None:
    """They become what they would be without encryption."""
    rows.add(POLL, external_id="POLL", from_me=True)
    parent = addons.Parent(id="POLL", authors=OWN, raw=POLL)
    sealed = addons.encrypt_reaction("👍", 5, parent, CUSTOMER[1], b"i" * 12)
    reaction = rows.add(compose.encrypted_reaction(KEY, sealed), external_id="R")
    sealed = addons.encrypt_edit(compose.text("new"), parent, OWN[0], b"j" * 12)
    edit = rows.add(compose.encrypted_edit(KEY, sealed), external_id="E", from_me=True)
    await nursery.start(resolver.run)
    await wait_all_tasks_blocked()
    assert (rows.row(reaction).kind, rows.row(reaction).text) == ("reaction", "👍")
    assert (rows.row(edit).kind, rows.row(edit).text) == ("edit", "new")
    nursery.cancel_scope.cancel()


async def test_what_never_opens_stops_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery, rows: StoredRows, resolver: AddonResolver
) -> None:
    """Answers to nobody, damaged ones, and rows that storage refuses, stay as they are."""
    stuck = [
        rows.add(vote(author="1@lid"), external_id="WRONG"),
        rows.add(vote(), external_id="DAMAGED", raw=b"\xff"),
        rows.add(vote(), external_id="REFUSED"),
    ]
    rows.refused.add(stuck[2])
    rows.add(POLL, external_id="POLL", from_me=True)
    last = rows.add(vote(), external_id="VOTE")
    await nursery.start(resolver.run)
    await trio.sleep(3 * service.INTERVAL)
    assert all("options" not in rows.row(item).detail for item in stuck)
    assert rows.row(last).detail["options"] == ["Tea"]
    nursery.cancel_scope.cancel()


async def test_each_look_reads_a_bounded_part(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    rows: StoredRows,
    resolver: AddonResolver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New rows come first; the old ones take turns, until all had theirs."""
    monkeypatch.setattr(service, "PAGE", 2)
    monkeypatch.setattr(service, "PAGES", 3)
    answers = [rows.add(vote(), external_id=f"V{number}") for number in range(20)]
    await nursery.start(resolver.run)
    await trio.sleep(1)
    rows.add(POLL, external_id="POLL", from_me=True)
    new = rows.add(vote("Café"), external_id="NEW")
    rows.reads.clear()
    resolver.wake()
    await trio.sleep(1)
    assert rows.row(new).detail["options"] == ["Café"]
    assert len(rows.reads) <= 2 + 3
    await trio.sleep(5 * service.INTERVAL)
    assert all(rows.row(item).detail["options"] == ["Tea"] for item in answers)
    nursery.cancel_scope.cancel()


async def test_wakes_come_in_flocks(
    autojump_clock: MockClock, nursery: trio.Nursery, rows: StoredRows, resolver: AddonResolver
) -> None:
    """Many wakes in a second make one look."""
    await nursery.start(resolver.run)
    await wait_all_tasks_blocked()
    rows.reads.clear()
    for _ in range(100):
        resolver.wake()
        await trio.sleep(0.009)
    await trio.sleep(service.PAUSE)
    assert 1 <= len(rows.reads) <= 4
    nursery.cancel_scope.cancel()


async def test_a_database_that_is_away_is_waited_for(
    autojump_clock: MockClock, nursery: trio.Nursery, rows: StoredRows, resolver: AddonResolver
) -> None:
    """With longer and longer pauses; the work goes on where it was."""
    rows.add(POLL, external_id="POLL", from_me=True)
    answer = rows.add(vote(), external_id="VOTE")
    rows.away = 3
    began = trio.current_time()
    await nursery.start(resolver.run)
    while "options" not in rows.row(answer).detail:
        await trio.sleep(0.5)
        assert trio.current_time() < began + 30
    assert trio.current_time() >= began + 1 + 2 + 4
    nursery.cancel_scope.cancel()
