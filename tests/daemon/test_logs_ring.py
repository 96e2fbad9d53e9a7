"""The newest lines in memory, and those who follow them."""

import json
import typing as t

import pytest
import trio
import trio.testing

from api.ports_logs import LogQuery, TooManyReadersError
from daemon.logs.line import LogLine
from daemon.logs.ring import MAX_READERS, LogRing


def put(ring: LogRing, *numbers: int, connection: str | None = None, level: str = "info") -> None:
    """Add lines."""
    for number in numbers:
        facts: dict[str, t.Any] = {"timestamp": "t", "level": level, "event": "x", "n": number}
        ring.append(LogLine.of(facts | ({} if connection is None else {"connection": connection})))


def numbers(lines: t.Iterable[t.Any]) -> list[t.Any]:
    """Which lines these are; the count of a skip instead of a number."""
    facts = [json.loads(line.text) for line in lines]
    return [one.get("n", f"{one.get('count')} skipped") for one in facts]


def test_it_is_bounded_by_lines_and_by_bytes() -> None:
    """The oldest lines leave."""
    ring = LogRing(max_lines=3)
    put(ring, *range(10))
    assert numbers(ring.tail(LogQuery())) == [7, 8, 9]
    ring = LogRing(max_bytes=200)
    put(ring, *range(100))
    assert 1 < len(ring.tail(LogQuery())) < 5


def test_the_tail_is_of_what_fits() -> None:
    """The newest lines of a connection or level, not the newest lines with the rest left out."""
    ring = LogRing()
    put(ring, 1, 2, connection="sales")
    put(ring, 3, 4, level="error")
    put(ring, *range(5, 50))
    assert numbers(ring.tail(LogQuery(lines=1, connection="sales"))) == [2]
    assert numbers(ring.tail(LogQuery(level=40))) == [3, 4]
    assert ring.tail(LogQuery(lines=0)) == []


async def test_a_follower_gets_what_comes_from_any_thread(autojump_clock: object) -> None:
    """It begins with the tail and waits for more, without looking again and again."""
    ring = LogRing()
    put(ring, 1, 2, 3)
    with ring.reader(LogQuery(lines=2)) as reader:
        assert numbers(await reader.read()) == [2, 3]
        put(ring, 4)
        assert numbers(await reader.read()) == [4]
        found: list[t.Any] = []

        async def read() -> None:
            found.extend(numbers(await reader.read()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(put, ring, 5)
        assert found == [5]


async def test_a_cursor_goes_on_and_one_of_before_begins_at_the_start() -> None:
    """Nothing is missed and nothing comes twice over a broken line or a restart."""
    ring = LogRing()
    put(ring, 1, 2, 3)
    with ring.reader(LogQuery(), None) as reader:
        (first, *_rest) = await reader.read()
    with ring.reader(LogQuery(lines=0), first.cursor) as reader:
        assert numbers(await reader.read()) == [2, 3]
    for foreign in ("abcd.2", "nonsense", f"{ring.run}.x"):
        with ring.reader(LogQuery(lines=0), foreign) as reader:
            assert numbers(await reader.read()) == [1, 2, 3]


async def test_a_slow_follower_is_told_what_it_missed() -> None:
    """Its position has left the ring: a count stands for the lines, and it goes on."""
    ring = LogRing(max_lines=5)
    put(ring, 1)
    with ring.reader(LogQuery()) as reader:
        assert numbers(await reader.read()) == [1]
        put(ring, *range(2, 20))
        assert numbers(await reader.read()) == ["13 skipped", 15, 16, 17, 18, 19]


async def test_followers_are_bounded() -> None:
    """One too many is refused; one that leaves makes room."""
    ring = LogRing()
    readers = [ring.reader(LogQuery()) for _ in range(MAX_READERS)]
    for each in readers:
        each.__enter__()
    with pytest.raises(TooManyReadersError, match="32 readers"), ring.reader(LogQuery()):
        pass
    readers[0].__exit__(None, None, None)
    with ring.reader(LogQuery()):
        pass
    for each in readers[1:]:
        each.__exit__(None, None, None)


def test_lines_after_the_end_of_the_loop_hurt_nobody() -> None:
    """Whoever waited is gone with its loop."""
    ring = LogRing()

    async def wait() -> None:
        ring.wait_after(1)

    trio.run(wait)
    put(ring, 1)
    assert numbers(ring.tail(LogQuery())) == [1]
