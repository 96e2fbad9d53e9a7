"""The mailbox: bounded, first in first out, nothing lost or doubled by cancellation."""

import pytest
import trio
import trio.testing

from supervisor.errors import MailboxClosedError, MailboxEmptyError, MailboxFullError
from supervisor.mailbox import Mailbox


async def test_first_in_first_out() -> None:
    """Mail comes out in the order it went in."""
    mailbox = Mailbox[int](3)
    for mail in (1, 2):
        mailbox.post_nowait(mail)
    await mailbox.post(3)
    assert len(mailbox) == 3
    assert [await mailbox.receive(), mailbox.receive_nowait(), await mailbox.receive()] == [1, 2, 3]
    assert len(mailbox) == 0
    assert bool(mailbox)


async def test_a_full_mailbox_holds_the_poster_back(autojump_clock: trio.testing.MockClock) -> None:
    """``post`` waits for room; ``post_nowait`` refuses and is counted."""
    mailbox = Mailbox[int](1)
    await mailbox.post(1)
    with pytest.raises(MailboxFullError):
        mailbox.post_nowait(2)
    with trio.move_on_after(10) as scope:
        await mailbox.post(3)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.post, 4)
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.statistics().waiting_posts == 1
        assert await mailbox.receive() == 1
        assert await mailbox.receive() == 4  # the cancelled 3 was never posted
    statistics = mailbox.statistics()
    assert (statistics.posted, statistics.received, statistics.refused) == (2, 2, 1)
    assert (statistics.capacity, statistics.depth, statistics.peak) == (1, 0, 1)


async def test_a_cancelled_receive_takes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Mail posted after the cancellation is there for the restarted actor."""
    mailbox = Mailbox[str](1)
    with trio.move_on_after(1):
        await mailbox.receive()
    await mailbox.post("kept")
    assert await mailbox.receive() == "kept"


def test_an_empty_mailbox_says_so() -> None:
    """``receive_nowait`` does not wait."""
    with pytest.raises(MailboxEmptyError):
        Mailbox[int](1).receive_nowait()


async def test_closing_keeps_what_waits() -> None:
    """After ``close`` nothing more goes in, and what was in still comes out."""
    mailbox = Mailbox[int](5)
    for mail in range(3):
        await mailbox.post(mail)
    mailbox.close()
    mailbox.close()
    with pytest.raises(MailboxClosedError):
        await mailbox.post(9)
    with pytest.raises(MailboxClosedError):
        mailbox.post_nowait(9)
    assert [mail async for mail in mailbox] == [0, 1, 2]
    with pytest.raises(MailboxClosedError):
        await mailbox.receive()
    with pytest.raises(MailboxClosedError):
        mailbox.receive_nowait()


async def test_closing_frees_who_waits() -> None:
    """Neither posters nor receivers hang on a closed mailbox."""

    async def post() -> None:
        with pytest.raises(MailboxClosedError):
            await full.post(2)

    async def receive() -> None:
        with pytest.raises(MailboxClosedError):
            await empty.receive()

    full, empty = Mailbox[int](1), Mailbox[int](1)
    await full.post(1)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post)
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            full.close()
            empty.close()
    assert full.receive_nowait() == 1


def test_a_mailbox_holds_at_least_one_mail() -> None:
    """Capacity 0 would be a rendezvous, not a mailbox."""
    with pytest.raises(ValueError, match="at least one"):
        Mailbox[int](0)
