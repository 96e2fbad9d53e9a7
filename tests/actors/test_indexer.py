"""The index of the search is made soon, in steps, and whatever happens to the database."""

import trio
import trio.testing

from actors.indexer import GATHER, IDLE, STEP, Indexer
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from storage.search import IndexStep


class Scripted(MemoryStorage):
    """Answers as it is told; notes when it was asked, and how long a step takes."""

    def __init__(self) -> None:
        super().__init__(trio.current_time)
        self.steps: list[IndexStep | None] = []  # None: the database is away
        self.asked: list[float] = []
        self.begun = trio.current_time()
        self.limits: list[int] = []
        self.most = STEP  # that it manages before the statement's time is up

    async def index_messages(self, limit: int) -> IndexStep:
        self.limits.append(limit)
        self.asked.append(round(trio.current_time() - self.begun, 3))
        await trio.sleep(0.25)
        step = self.steps.pop(0) if self.steps else IndexStep(0, behind=False, filling=False)
        if step is None or limit > self.most:
            raise StorageUnavailableError("gone")
        return step


async def test_news_are_indexed_soon_and_gathered(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """News wake it once, however many; without news it looks by itself now and then."""
    storage = Scripted()
    indexer = Indexer(storage)
    await nursery.start(indexer.run)
    await trio.sleep(10)
    for _ in range(100):
        indexer.wake()
    await trio.sleep(5)
    assert storage.asked == [0.0, 10 + GATHER]
    await trio.sleep(IDLE)
    assert len(storage.asked) == 3


async def test_what_is_behind_is_caught_up_with_rests(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """At most half of the time is spent on it; a database that is away is tried again."""
    storage = Scripted()
    behind = IndexStep(STEP, behind=True, filling=True)
    storage.steps = [behind, behind, None, None, IndexStep(STEP, behind=False, filling=True)]
    await nursery.start(Indexer(storage).run)
    await trio.sleep(30)
    assert storage.asked == [0.0, 0.5, 1.0, 2.25, 4.5, 5.0]


async def test_a_step_that_is_too_long_gets_shorter(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Until the database manages it in time; then longer again, for as long as that goes well."""
    storage = Scripted()
    storage.most = 100
    storage.steps = [IndexStep(0, behind=True, filling=True)] * 9
    await nursery.start(Indexer(storage).run)
    await trio.sleep(30)
    assert storage.limits[:6] == [500, 125, 31, 62, 124, 31]
    storage.most = STEP
    await trio.sleep(600)
    assert storage.limits[-1] == STEP
    storage.most = 0
    await trio.sleep(3600)
    assert storage.limits[-1] == 1
