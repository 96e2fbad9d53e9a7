"""Fair queueing: order within a lane, equal shares between lanes, nobody starves."""

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.fair_queue import FairQueue

LANES = "abcde"
puts = st.lists(st.tuples(st.sampled_from(LANES), st.integers(1, 50)), max_size=60)


def drain(queue: FairQueue[int]) -> list[tuple[object, int, int]]:
    taken = []
    while (found := queue.pop()) is not None:
        taken.append(found)
    return taken


@given(puts)
def test_every_item_comes_out_once_in_the_order_of_its_lane(items: list[tuple[str, int]]) -> None:
    """Nothing is lost or doubled, and a lane is first in, first out."""
    queue = FairQueue[int]()
    for number, (lane, weight) in enumerate(items):
        queue.put(lane, number, weight)
    assert len(queue) == len(items)
    taken = drain(queue)
    assert len(queue) == 0
    assert sorted(item for _, item, _ in taken) == list(range(len(items)))
    for lane in LANES:
        mine = [item for name, item, _ in taken if name == lane]
        assert mine == sorted(mine)
    assert all((lane, weight) == items[item] for lane, item, weight in taken)


@given(puts, st.integers(0, 60), st.integers(1, 50))
def test_a_silent_lane_waits_for_its_share_and_one_item(
    items: list[tuple[str, int]], served: int, weight: int
) -> None:
    """Before it, at most its own weight for each other lane, and one item more, is served."""
    queue = FairQueue[int]()
    for number, (lane, each) in enumerate(items):
        queue.put(lane, number, each)
    for _ in range(min(served, len(items))):
        queue.pop()
    queue.put("quiet", -1, weight)
    before: collections.Counter[object] = collections.Counter()
    for lane, item, each in drain(queue):
        if item == -1:
            break
        before[lane] += each
    heaviest = max((each for _, each in items), default=0)
    lanes = len(set(LANES))
    assert sum(before.values()) <= lanes * (weight + heaviest)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6, unique=True))
def test_lanes_that_always_have_something_get_equal_shares(weights: list[int]) -> None:
    """However heavy the items of a lane are, the weight served to each is the same."""
    queue = FairQueue[int]()
    for lane, weight in enumerate(weights):
        for _ in range(4000 // weight + 1):
            queue.put(lane, 0, weight)
    served: collections.Counter[object] = collections.Counter(dict.fromkeys(range(len(weights)), 0))
    while sum(served.values()) < 2000:
        found = queue.pop()
        assert found is not None
        served[found[0]] += found[2]
    assert max(served.values()) - min(served.values()) <= 2 * max(weights)


def test_heavy_mail_that_is_due_at_once_does_not_delay_a_light_one() -> None:
    """A hundred lanes with one heavy item each: whoever comes meanwhile waits for one or two."""
    queue = FairQueue[str]()
    for lane in range(100):
        queue.put(lane, "heavy", 256)
    for _ in range(50):
        queue.pop()
    queue.put("quiet", "light", 1)
    assert [found[1] for _ in range(2) if (found := queue.pop())].count("light") == 1


def test_silence_earns_nothing() -> None:
    """A lane that comes back after a long silence takes turns; it does not make up for it."""
    queue = FairQueue[str]()
    queue.put("late", "late", 1)
    for _ in range(100):
        queue.put("busy", "busy", 1)
    for _ in range(50):
        queue.pop()
    for _ in range(10):
        queue.put("late", "late", 1)
    next_ones = [found[1] for _ in range(10) if (found := queue.pop())]
    assert next_ones.count("late") == pytest.approx(5, abs=1)


def test_a_paused_lane_is_passed_over() -> None:
    """Its items wait, in their order; the others go on."""
    queue = FairQueue[int]()
    for number in range(3):
        queue.put("held", number, 1)
        queue.put("free", 10 + number, 1)
    queue.pause("held")
    queue.put("held", 3, 1)
    assert [item for _, item, _ in drain(queue)] == [10, 11, 12]
    assert len(queue) == 4
    queue.resume("held")
    assert [item for _, item, _ in drain(queue)] == [0, 1, 2, 3]


def test_a_pause_earns_nothing() -> None:
    """A lane that is resumed takes turns; it does not make up for the pause."""
    queue = FairQueue[str]()
    for _ in range(100):
        queue.put("held", "held", 1)
        queue.put("busy", "busy", 1)
    queue.pause("held")
    for _ in range(50):
        queue.pop()
    queue.resume("held")
    next_ones = [found[1] for _ in range(10) if (found := queue.pop())]
    assert next_ones.count("held") == pytest.approx(5, abs=1)


def test_what_is_remembered_of_lanes_is_bounded() -> None:
    """Names that come once leave nothing behind, though the queue is never empty."""
    queue = FairQueue[int]()
    queue.put("always", 0, 1)
    for number in range(10_000):
        queue.put("always", 0, 1)
        queue.put(f"once {number}", 0, 1)
        queue.pop()
        queue.pop()
    assert len(queue._finished) < 200


def test_an_item_weighs_something() -> None:
    """Weight 0 would be served for ever."""
    with pytest.raises(ValueError, match="at least 1"):
        FairQueue[int]().put("a", 1, 0)
