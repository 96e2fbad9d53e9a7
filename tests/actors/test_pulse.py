"""The mark that the daemon is alive."""

import trio
import trio.testing

from actors.pulse import LAST_WORD, Pulse
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage


class Marks(MemoryStorage):
    """Notes when it was marked, on the trio clock; may be away."""

    def __init__(self) -> None:
        super().__init__(trio.current_time)
        self.marks: list[float] = []
        self.ends: list[float] = []
        self.away = False

    async def mark_alive(self, life: int) -> None:
        if self.away:
            raise StorageUnavailableError("gone")
        await super().mark_alive(life)
        self.marks.append(trio.current_time())

    async def end_life(self, life: int) -> None:
        if self.away:
            await trio.sleep_forever()
        await super().end_life(life)
        self.ends.append(trio.current_time())


async def test_one_mark_every_half_minute(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Through an absence of the database; and a last word when it ends in order."""
    storage = Marks()
    pulse = Pulse(storage)
    await pulse.begin()
    begun = trio.current_time()
    await nursery.start(pulse.run)
    await trio.sleep(65)
    storage.away = True
    await trio.sleep(60)
    storage.away = False
    await trio.sleep(30)
    pulse.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert [mark - begun for mark in storage.marks] == [30, 60, 150]
    assert [end - begun for end in storage.ends] == [155]


async def test_it_ends_though_the_database_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A daemon is not held up by its last word."""
    storage = Marks()
    pulse = Pulse(storage)
    await pulse.begin()
    storage.away = True
    pulse.stop()
    with trio.fail_after(LAST_WORD + 1):
        await pulse.run()
