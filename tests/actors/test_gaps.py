"""Each outage of a connection is a row of the gap ledger, and its counts are what came."""

import collections.abc as cabc
import typing as t

import pytest
import structlog.testing
import trio
import trio.testing

from simulator import Account
from storage.api import Envelope, Outcome
from storage.errors import StorageUnavailableError
from storage.gaps import GapRow
from storage.memory import MemoryStorage
from tests.actors.conftest import NAME, FaultyStorage
from tests.actors.world import START, World, open_world
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node

Clock: t.TypeAlias = trio.testing.MockClock


async def gaps_of(storage: MemoryStorage) -> list[GapRow]:
    """The ledger, the oldest row first; that of the first login left out."""
    linked, *rows = (await storage.gaps(NAME))[::-1]
    assert (linked.kind, linked.state, linked.resolution) == ("linked", "closed", "complete")
    for row in rows:
        came = row.stored + row.duplicate + row.undecryptable + row.quarantined + row.other
        assert (row.announced or 0) == came + row.covered + row.missing
    return rows


async def write(world: World, customer: Account, count: int, what: str = "text") -> None:
    """So many texts of a customer."""
    for number in range(count):
        await customer.phone.send_text(world.accounts[NAME].pn, f"{what} {number}")


def device(world: World) -> Jid:
    return world.accounts[NAME].companions[0].pn


async def away(world: World) -> None:
    """The connection is lost, and cannot come back."""
    world.simulator.faults.refuse_connections = True
    world.simulator.drop()
    await world.until_state(NAME, "backoff", "parked")


async def back(world: World) -> None:
    """It can, and does."""
    world.simulator.faults.refuse_connections = False
    await world.until_state(NAME, "online")
    await world.settled()


async def kill(world: World) -> None:
    await world.kill_daemon()


async def half_open(world: World) -> None:
    world.simulator.half_open()


async def stop(world: World) -> None:
    await world.fleet.stop(NAME)


async def unavailable(world: World) -> None:
    world.simulator.faults.refuse_connections = True
    await world.simulator.end("503")


async def conflict(world: World) -> None:
    await world.simulator.end("conflict")
    await world.until_state(NAME, "conflict")


async def again(world: World) -> None:
    await world.until_state(NAME, "backoff", "connecting")
    await back(world)


async def new_daemon(world: World) -> None:
    await world.start_daemon()
    await back(world)


async def start(world: World) -> None:
    await world.fleet.start(NAME)
    await back(world)


@pytest.mark.parametrize(
    ("leave", "come", "kind", "reason"),
    [
        (away, back, "ended", "network"),
        (half_open, again, "silent", "heartbeat_missed"),
        (kill, new_daemon, "died", "daemon_died"),
        (stop, start, "stopped", "stopped"),
        (unavailable, again, "ended", "unavailable"),
        (conflict, start, "ended", "conflict"),
    ],
)
async def test_every_way_to_be_away_is_a_row(
    autojump_clock: Clock,
    storage: FaultyStorage,
    leave: cabc.Callable[[World], cabc.Awaitable[None]],
    come: cabc.Callable[[World], cabc.Awaitable[None]],
    kind: str,
    reason: str,
) -> None:
    """From its beginning to the end of the queue; closed, for everything announced is stored."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await write(world, customer, 2, "before")
        await world.settled()
        await trio.sleep(7)
        began = START + trio.current_time()
        await leave(world)
        await trio.sleep(5)
        await write(world, customer, 5)
        await come(world)
        await write(world, customer, 3, "live")
        await world.settled()
        [row] = await gaps_of(storage)
        assert (row.kind, row.reason) == (kind, reason)
        assert (row.announced, row.announced_messages, row.stored) == (5, 5, 5)
        assert (row.state, row.resolution, row.missing) == ("closed", "complete", 0)
        if kind != "died":  # this storage's clock stands still
            assert began - 20 < row.from_at.timestamp() <= began + 1
        assert row.from_at < row.login_at <= row.to_at
        assert (await storage.gap_statistics())["open"] == 0


async def test_a_silent_socket_was_dead_before_it_was_found_out(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The gap begins with the last byte that came, not when patience ended."""
    async with open_world(storage, NAME) as world:
        await trio.sleep(60)
        world.simulator.half_open()
        at, dials = START + trio.current_time(), world.dials
        await world.until(lambda: world.dials > dials, "it dials again")
        assert START + trio.current_time() > at + 15
        await world.until_state(NAME, "online")
        [row] = await gaps_of(storage)
        assert row.from_at.timestamp() <= at
        assert row.from_at.timestamp() > at - 20


async def test_a_new_daemon_finds_that_the_last_one_died(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """It says so before it has reached WhatsApp, and dates it by what was stored last."""
    async with open_world(storage, NAME) as world:
        await world.kill_daemon()
        world.simulator.faults.refuse_connections = True
        await world.start_daemon()
        await world.until_state(NAME, "backoff")
        [row] = await gaps_of(storage)
        assert (row.kind, row.state, row.from_at.timestamp()) == ("died", "out", START)
        await back(world)
        [row] = await gaps_of(storage)
        assert (row.kind, row.state) == ("died", "closed")


async def test_an_outage_shows_while_it_lasts(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Failed attempts, and even a new daemon, are part of the same outage."""
    async with open_world(storage, NAME) as world:
        await away(world)
        await trio.sleep(120)
        [row] = await gaps_of(storage)
        assert (row.state, row.kind, row.announced) == ("out", "ended", None)
        await world.kill_daemon()
        await world.start_daemon()
        await trio.sleep(120)
        assert await gaps_of(storage) == [row]
        assert await storage.gap_statistics() == {
            **dict.fromkeys(("open", "missing", "waiting", "in_quarantine", "device_replaced"), 0),
            "ongoing": 1,
        }
        await back(world)
        [row] = await gaps_of(storage)
        assert (row.state, row.reason, row.announced) == ("closed", "network", 0)


async def test_two_outages_in_a_row(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Each login is a row, with what waited for it."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        for count in (3, 4):
            await away(world)
            await write(world, customer, count)
            await back(world)
        first, second = await gaps_of(storage)
        assert (first.stored, second.stored) == (3, 4)
        assert first.to_at is not None
        assert first.to_at <= second.from_at


async def test_redelivered_messages_are_duplicates(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Stored before the end, and not acknowledged: announced again, and here already. A second
    copy within the queue is not one more."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        world.simulator.faults.lose_acks(None, 1000)
        await write(world, customer, 3)
        await trio.sleep(5)
        await away(world)
        world.simulator.faults.clear()
        world.simulator.faults.refuse_connections = True
        await write(world, customer, 2)
        world.simulator.faults.duplicate(device(world), 2)
        await back(world)
        [row] = await gaps_of(storage)
        assert (row.announced, row.duplicate, row.stored, row.missing) == (5, 3, 2, 0)
        assert row.state == "closed"


class KillingStorage(FaultyStorage):
    """A storage at which everything hangs at one commit: before it, or after."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.after = False
        self.hanging = trio.Event()

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        if self.left is None:
            return await super().apply(batch)
        self.left -= 1
        outcomes = [] if self.left <= 0 and not self.after else await super().apply(batch)
        if self.left <= 0:
            self.hanging.set()
            await trio.sleep_forever()
        return outcomes


@pytest.mark.parametrize("after", [False, True], ids=["before-commit", "after-commit"])
async def test_a_kill_at_each_commit_of_a_drain(autojump_clock: Clock, after: bool) -> None:
    """The sums are right afterwards: each message is stored in one row, and both rows close."""
    storage = KillingStorage()
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        world.simulator.faults.latency = 0.05  # so that the queue takes more than one commit
        known = 0
        for commits in range(1, 40):
            await world.kill_daemon()
            await write(world, customer, 4, f"round {commits}")
            storage.left, storage.after, storage.hanging = commits, after, trio.Event()
            await world.start_daemon()
            with trio.move_on_after(60):
                await storage.hanging.wait()
            killed = storage.hanging.is_set()
            await world.kill_daemon()
            storage.left = None
            await world.start_daemon()
            await world.until_state(NAME, "online")
            await world.settled()
            rows = await gaps_of(storage)
            assert {row.state for row in rows} == {"closed"}, commits
            assert sum(row.stored for row in rows[known:]) == 4
            assert not sum(row.missing for row in rows)
            known = len(rows)
            if not killed:
                break
        assert not killed
        assert commits > 5  # so the kills fell into the drain, one after the other
        interrupted = [row for row in rows if row.interrupted]
        assert any(0 < row.stored < 4 for row in interrupted)
        assert {row.resolution for row in interrupted} == {"covered"}
        texts = [row["text"] for row in storage.messages(NAME) if row["kind"] == "text"]
        assert len(texts) == len(set(texts)) == 4 * commits


class ForgetfulStorage(FaultyStorage):
    """A storage whose answer to each COMMIT is lost once."""

    def __init__(self) -> None:
        super().__init__()
        self.last: object = None

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        outcomes = await super().apply(batch)
        if batch is not self.last:
            self.last = batch
            raise StorageUnavailableError("the answer to the COMMIT was lost")
        return outcomes


async def test_an_unknown_outcome_counts_once(autojump_clock: Clock) -> None:
    """A batch that is applied again, because the answer to its COMMIT was lost."""
    storage = ForgetfulStorage()
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await away(world)
        await write(world, customer, 4)
        await back(world)
        [row] = await gaps_of(storage)
        assert (row.announced, row.stored, row.duplicate, row.state) == (4, 4, 0, "closed")
        assert (await storage.connections())[0].duplicates == 4  # so they were applied twice


@pytest.mark.parametrize("fault", ["miscount", "lose_queued"])
async def test_what_was_announced_and_never_sent_is_missing(
    autojump_clock: Clock, storage: FaultyStorage, fault: str
) -> None:
    """The gap stays open, with one warning; its chats are marked; until it is accepted."""
    async with open_world(storage, NAME) as world:
        customer, quiet = map(world.simulator.create_account, ("customer", "quiet"))
        await write(world, customer, 1)
        await world.settled()
        await away(world)
        await write(world, customer, 4)
        faults = world.simulator.faults
        if fault == "miscount":
            faults.miscount(device(world), more=2)
        else:
            faults.lose_queued(device(world), 2)
        with structlog.testing.capture_logs() as logs:
            await back(world)
        [row] = await gaps_of(storage)
        assert (row.state, row.missing) == ("open", 2)
        assert row.stored == (4 if fault == "miscount" else 2)
        assert len(world.simulator.ledger.lost(device(world))) == (fault == "lose_queued") * 2
        [warning] = [line for line in logs if line["event"] == "gap.open"]
        assert (warning["missing"], warning["log_level"]) == (2, "warning")
        [conversation] = await storage.conversations(status=None, connection=NAME, limit=10)
        assert conversation.possible_hole
        # Another outage whose queue is complete does not explain it away.
        await away(world)
        await write(world, quiet, 1)
        await back(world)
        assert [row.state for row in await gaps_of(storage)] == ["open", "closed"]
        assert (await storage.gap_statistics())["missing"] == 2
        accepted = await storage.accept_gap(row.id, "ana")
        assert accepted is not None
        assert (accepted.resolution, accepted.missing, accepted.accepted_by) == (
            "accepted",
            2,
            "ana",
        )
        rows = await storage.conversations(status=None, connection=NAME, limit=10)
        assert [row.possible_hole for row in rows] == [False, False]


@pytest.mark.parametrize("end", ["read", "given up"])
async def test_unreadable_messages_keep_a_gap_open(
    autojump_clock: Clock, storage: FaultyStorage, end: str
) -> None:
    """Until the phone has sent them again, or a verdict says that they never come. Meanwhile
    the conversation that holds one is marked, and no other."""
    async with open_world(storage, NAME) as world:
        customer, other = map(world.simulator.create_account, ("customer", "other"))
        phone = world.accounts[NAME].phone
        await away(world)
        world.simulator.faults.withhold(device(world))
        await write(world, customer, 1)
        await write(world, other, 1)
        phone.answers = False
        with structlog.testing.capture_logs() as logs:
            await back(world)
        assert [line["undecryptable"] for line in logs if line["event"] == "gap.open"] == [1]
        [row] = await gaps_of(storage)
        assert (row.undecryptable, row.stored, row.waiting, row.state) == (1, 1, 1, "open")
        assert (await storage.gap_statistics())["waiting"] == 1
        marks = [
            (row.messages, row.possible_hole)
            for row in await storage.conversations(status=None, connection=NAME, limit=10)
        ]
        assert sorted(marks) == [(1, False), (1, True)]
        if end == "read":
            await world.kill_daemon()
            phone.answers = True
            await world.start_daemon()
        [gap] = [gap for gap in storage._connections[NAME].gaps if gap.kind == "ended"]
        await world.until(lambda: gap.closed_at, "it closes")
        row = (await gaps_of(storage))[0]
        assert (row.waiting, row.given_up) == (0, int(end == "given up"))
        assert row.resolution == ("complete" if end == "read" else "given_up")
        rows = await storage.conversations(status=None, connection=NAME, limit=10)
        assert not any(row.possible_hole for row in rows)


async def test_quarantined_messages_keep_a_gap_open(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """They are kept, and not stored; the next gap is another matter."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await away(world)
        await write(world, customer, 1)
        await customer.phone.send_text(world.accounts[NAME].pn, "poison")
        await back(world)
        await away(world)
        await back(world)
        first, second = await gaps_of(storage)
        assert (first.stored, first.quarantined, first.in_quarantine) == (1, 1, 1)
        assert (first.state, second.state) == ("open", "closed")
        assert (await storage.gap_statistics())["in_quarantine"] == 1


@pytest.mark.parametrize(("sent", "missed"), [(0, 0), (3, 0), (3, 1)])
async def test_without_an_end_marker_the_counts_decide(
    autojump_clock: Clock, storage: FaultyStorage, sent: int, missed: int
) -> None:
    """All announced has come: the queue has ended. Else it is unfinished, and said so; the next
    queue covers it."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await away(world)
        await write(world, customer, sent)
        world.simulator.faults.withhold_end_marker(device(world))
        if missed:
            world.simulator.faults.miscount(device(world))
        with structlog.testing.capture_logs() as logs:
            await back(world)
        [row] = await gaps_of(storage)
        if not missed:
            assert (row.state, row.stored) == ("closed", sent)
            return
        assert [line["missing"] for line in logs if line["event"] == "gap.unfinished"] == [1]
        assert (row.state, row.missing) == ("draining", 1)
        await away(world)
        await back(world)
        first, second = await gaps_of(storage)
        assert (first.interrupted, first.resolution, first.covered) == (True, "covered", 1)
        assert first.covered_by == second.id


ABSURD = [
    {"count": "9223372036854775808999"},
    {"count": "9999999999999999999"},
    {"count": "-5"},
    {"count": "many", "message": "-1"},
    {},
    {"message": "3"},
]


@pytest.mark.parametrize("counts", ABSURD, ids=repr)
async def test_absurd_counts_hurt_nobody(
    autojump_clock: Clock, storage: FaultyStorage, counts: dict[str, str]
) -> None:
    """The connection comes online, its messages are stored, and the row can be accepted."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await away(world)
        await write(world, customer, 2)
        world.simulator.faults.refuse_connections = False
        await world.until_state(NAME, "syncing", "online")
        session = world.accounts[NAME].companions[0].session
        assert session is not None
        for _ in range(2):
            preview = Node("offline_preview", dict(counts))
            await session.send(Node("ib", {"from": SERVER_JID}, (preview,)))
        await back(world)
        [row] = await gaps_of(storage)
        assert row.stored == 2
        if row.state == "open":
            await storage.accept_gap(row.id, "ana")
        assert (await storage.gap_statistics())["open"] == 0


async def test_what_an_operator_does_not_want_is_counted_too(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Messages of groups that are left out, receipts and notifications: ``other``."""
    async with open_world(storage, NAME, groups=False) as world:
        customer = world.simulator.create_account("customer")
        group = world.simulator.create_group("all", [customer, world.accounts[NAME]])
        await world.settled()
        await away(world)
        for number in range(3):
            await customer.phone.send_group_text(group.jid, f"text {number}")
        await write(world, customer, 1)
        await back(world)
        [row] = await gaps_of(storage)
        assert (row.stored, row.missing, row.state) == (1, 0, "closed")
        assert row.other >= 3


async def test_another_device_never_sees_the_queue_of_the_old(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Linking anew leaves a gap open: what the old device was owed is unknown."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await write(world, customer, 1)
        await world.settled()
        await world.fleet.stop(NAME)
        await write(world, customer, 2)
        await world.fleet.pair(NAME, force=True)
        view = await world.fleet.wait_pairing(NAME, 0)
        while view.qr is None:
            view = await world.fleet.wait_pairing(NAME, view.version)
        await world.simulator.scan_qr(view.qr, phone=world.accounts[NAME].pn.user)
        await world.until_state(NAME, "online")
        [row] = await gaps_of(storage)
        assert (row.kind, row.state, row.device_replaced) == ("stopped", "open", True)
        [conversation] = await storage.conversations(status=None, connection=NAME, limit=10)
        assert conversation.possible_hole
        await storage.accept_gap(row.id, "ana")
