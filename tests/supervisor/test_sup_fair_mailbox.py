"""The mailbox in lanes: bounds, order, cancellation, barriers; nobody starves."""

import typing as t

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.errors import MailboxClosedError, MailboxEmptyError, MailboxFullError
from supervisor.fair_mailbox import FairMailbox

RESERVED: t.Final = 2


@attrs.frozen
class Letter:
    """Mail of a lane; None: a barrier."""

    lane: str | None
    number: int
    places: int = 1


def make(capacity: int) -> FairMailbox[Letter]:
    return FairMailbox(
        capacity,
        key=lambda mail: mail.lane,
        places=lambda mail: mail.places,
        reserved=RESERVED,
    )


def receive_all(mailbox: FairMailbox[Letter]) -> list[Letter]:
    received = []
    while True:
        try:
            received.append(mailbox.receive_nowait())
        except MailboxEmptyError:
            return received


async def test_a_flood_waits_and_others_do_not(autojump_clock: trio.testing.MockClock) -> None:
    """Beyond the shared places a lane waits; another one still has places of its own."""
    mailbox = make(5)
    for number in range(5 + RESERVED):
        mailbox.post_nowait(Letter("flood", number))
    with pytest.raises(MailboxFullError, match="7 of 5"):
        mailbox.post_nowait(Letter("flood", 7))
    with trio.move_on_after(10) as scope:
        await mailbox.post(Letter("flood", 7))
    assert scope.cancelled_caught
    with trio.fail_after(1):
        await mailbox.post(Letter("quiet", 0))
    assert len(mailbox) == mailbox.places_taken == 8
    assert Letter("quiet", 0) in [mailbox.receive_nowait() for _ in range(2)]
    assert [letter.number for letter in receive_all(mailbox)][-1] == 6
    statistics = mailbox.statistics()
    assert (statistics.posted, statistics.received, statistics.refused) == (8, 8, 1)
    assert (statistics.depth, statistics.peak, statistics.waiting_posts) == (0, 8, 0)


async def test_what_is_bigger_than_the_mailbox_is_let_in_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A mail that could never fit waits until the shared places are empty, and then goes in."""
    mailbox = make(5)
    for number in range(4):
        mailbox.post_nowait(Letter("a", number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.post, Letter("giant", 0, places=1000))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(MailboxFullError):
            mailbox.post_nowait(Letter("b", 0, places=3))  # nobody passes who stands in line
        mailbox.post_nowait(Letter("b", 1))  # but a place of its own is its own
        taken = [mailbox.receive_nowait() for _ in range(3)]
        assert "giant" not in [letter.lane for letter in taken]
        await trio.testing.wait_all_tasks_blocked()
        assert receive_all(mailbox)[-1].lane == "giant"


async def test_a_lane_keeps_its_order_while_it_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A small mail that would fit does not pass the big one of its own lane."""
    mailbox = make(5)
    for number in range(5):
        mailbox.post_nowait(Letter("other", number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.post, Letter("a", 1, places=6))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(MailboxFullError):
            mailbox.post_nowait(Letter("a", 2))
        nursery.start_soon(mailbox.post, Letter("a", 3))
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.statistics().waiting_posts == 2
        received: list[Letter] = []
        while len(received) < 7:
            received += receive_all(mailbox)
            await trio.testing.wait_all_tasks_blocked()
        assert [letter.number for letter in received if letter.lane == "a"] == [1, 3]


async def test_who_stood_behind_a_cancelled_post_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The one that nobody passes is gone: the next one in line fits."""
    mailbox = make(5)
    for number in range(3 + RESERVED):
        mailbox.post_nowait(Letter("other", number))
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def give_up() -> None:
            with scope:
                await mailbox.post(Letter("big", 0, places=RESERVED + 5))

        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(mailbox.post, Letter("small", 0, places=RESERVED + 1))
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.statistics().waiting_posts == 2
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.statistics().waiting_posts == 0


async def test_a_barrier_comes_after_all_before_it_and_before_all_after_it() -> None:
    """Also when a lane is paused: then it waits for the lane."""
    mailbox = make(50)
    mailbox.post_nowait(Letter("a", 0))
    mailbox.post_nowait(Letter("b", 0))
    mailbox.post_nowait(Letter(None, 0))
    mailbox.post_nowait(Letter("c", 0))
    mailbox.pause("a")
    mailbox.post_nowait(Letter("a", 1))
    assert receive_all(mailbox) == [Letter("b", 0)]
    mailbox.resume_all()
    received = receive_all(mailbox)
    assert received[:2] == [Letter("a", 0), Letter(None, 0)]
    assert sorted(letter.number for letter in received[2:]) == [0, 1]


async def test_closing_refuses_posters_and_keeps_what_waits() -> None:
    """Whoever waits for a place is told; what is in comes out."""
    mailbox = make(1)

    async def post() -> None:
        with pytest.raises(MailboxClosedError):
            await mailbox.post(Letter("a", 9))

    for number in range(1 + RESERVED):
        await mailbox.post(Letter("a", number))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post)
            await trio.testing.wait_all_tasks_blocked()
            mailbox.close()
    with pytest.raises(MailboxClosedError):
        mailbox.post_nowait(Letter("a", 10))
    assert [mailbox.receive_nowait().number for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MailboxClosedError):
        mailbox.receive_nowait()


OPERATIONS = st.one_of(
    st.tuples(st.just("post"), st.sampled_from("abc"), st.integers(1, 6)),
    st.tuples(st.just("nowait"), st.sampled_from("abc"), st.integers(1, 6)),
    st.tuples(st.just("cancel"), st.just(""), st.integers(0, 20)),
    st.tuples(st.just("receive"), st.just(""), st.integers(1, 5)),
    st.tuples(st.just("barrier"), st.just(""), st.just(1)),
    st.tuples(st.just("pause"), st.sampled_from("abc"), st.just(1)),
    st.tuples(st.just("resume"), st.sampled_from("abc"), st.just(1)),
)


class Run:
    """A mailbox and what it must have done."""

    def __init__(self, capacity: int, nursery: trio.Nursery) -> None:
        self.mailbox = make(capacity)
        self.capacity = capacity
        self.nursery = nursery
        self.posted: dict[str | None, list[Letter]] = {}  # as they were let in
        self.waiting: list[tuple[Letter, trio.CancelScope]] = []
        self.cancelled: list[Letter] = []
        self.received: list[Letter] = []
        self.sizes: list[int] = []
        self.number = 0

    async def post(self, letter: Letter, scope: trio.CancelScope) -> None:
        with scope:
            await self.mailbox.post(letter)
            return
        self.cancelled.append(letter)

    async def step(self, kind: str, lane: str, amount: int) -> None:
        self.number += 1
        match kind:
            case "post":
                letter, scope = Letter(lane, self.number, amount), trio.CancelScope()
                self.waiting.append((letter, scope))
                self.nursery.start_soon(self.post, letter, scope)
            case "nowait":
                letter = Letter(lane, self.number, amount)
                try:
                    self.mailbox.post_nowait(letter)
                except MailboxFullError:
                    self.cancelled.append(letter)
            case "cancel" if self.waiting:
                self.waiting[amount % len(self.waiting)][1].cancel()
            case "receive":
                for _ in range(amount):
                    self.receive()
            case "barrier":
                self.mailbox.post_nowait(Letter(None, self.number))
            case "pause":
                self.mailbox.pause(lane)
            case "resume":
                self.mailbox.resume(lane)
            case _:
                pass
        await trio.testing.wait_all_tasks_blocked()
        biggest = 6
        assert self.mailbox.places_taken <= self.capacity + 3 * RESERVED + biggest

    def receive(self) -> bool:
        try:
            self.received.append(self.mailbox.receive_nowait())
        except MailboxEmptyError:
            return False
        return True


@given(st.integers(1, 8), st.lists(OPERATIONS, max_size=60))
@settings(deadline=None)
def test_whatever_is_done_nothing_is_lost_doubled_or_out_of_order(
    capacity: int, operations: list[tuple[str, str, int]]
) -> None:
    """Bounds hold at every moment; cancelled posts post nothing; all the rest comes out once,
    in the order of its lane, on its side of each barrier, and no poster waits for ever."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            state = Run(capacity, nursery)
            for operation in operations:
                await state.step(*operation)
            state.mailbox.resume_all()
            while state.receive() or state.mailbox.statistics().waiting_posts:
                await trio.testing.wait_all_tasks_blocked()
            numbers = [letter.number for letter in state.received]
            assert len(set(numbers)) == len(numbers)
            gone = {letter.number for letter in state.cancelled}
            asked = {
                i for i, op in enumerate(operations, 1) if op[0] in ("post", "nowait", "barrier")
            }
            assert set(numbers) == asked - gone
            for lane in "abc":
                mine = [letter.number for letter in state.received if letter.lane == lane]
                assert mine == sorted(mine)
            for place, letter in enumerate(state.received):
                if letter.lane is None:
                    assert all(number < letter.number for number in numbers[:place])
            assert len(state.mailbox) == state.mailbox.places_taken == 0
            assert not state.mailbox._lanes
            assert not state.mailbox._line

    trio.run(run, clock=trio.testing.MockClock())
