"""Files of erased messages: gone from the disk, unless another message has them."""

import pytest
import trio
from test_media_keeper import Desk, desk  # noqa: F401 - a fixture
from trio.testing import MockClock

from storage.errors import StorageUnavailableError
from storage.queues import MediaState


async def test_files_of_erased_messages_go(autojump_clock: MockClock, desk: Desk) -> None:  # noqa: F811
    """Of two messages with one file the other one keeps it; with the last it goes."""
    first, _ = desk.receive()
    second, _ = desk.receive()
    await desk.run_for(60)
    assert {desk.state(first), desk.state(second)} == {MediaState.STORED}
    desk.queues.erase(first)
    assert await desk.keeper.remove_erased() == 0
    assert (len(desk.stored_files()), desk.queues.erased) == (1, [])
    desk.queues.erase(second)
    assert await desk.keeper.remove_erased() == 1
    assert (desk.stored_files(), desk.queues.erased) == ([], [])


async def test_what_is_left_by_a_crash_goes_later(autojump_clock: MockClock, desk: Desk) -> None:  # noqa: F811
    """The list is in the database; whoever asks again goes on with it."""
    number, _ = desk.receive()
    await desk.run_for(60)
    desk.queues.erase(number)
    desk.queues.away = True
    with pytest.raises(StorageUnavailableError):
        await desk.keeper.remove_erased()
    desk.restart()
    desk.queues.away = False
    assert await desk.keeper.remove_erased() == 1
    assert desk.stored_files() == []


async def test_erased_while_it_is_fetched(autojump_clock: MockClock, desk: Desk) -> None:  # noqa: F811
    """The file that comes for a message without content is not kept."""
    number, _ = desk.receive()
    desk.queues.hold_finish = trio.Event()
    async with desk.running():
        await trio.sleep(30)
        assert len(desk.stored_files()) == 1
        desk.queues.erase(number)
        desk.queues.hold_finish.set()
        await trio.sleep(30)
        assert desk.stored_files() == []
