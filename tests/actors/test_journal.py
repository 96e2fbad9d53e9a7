"""Transitions reach the writer in order, whatever the state of its mailbox."""

import structlog.testing
import trio
import trio.testing

from actors import fences
from actors import journal as journal_module
from actors.fences import pass_fence
from actors.journal import Journal
from actors.messages import Fence, Record, WriterMail
from storage.api import ConnectionEvent
from supervisor.mailbox import Mailbox

Clock = trio.testing.MockClock


def event(number: int, connection: str = "sales") -> ConnectionEvent:
    return ConnectionEvent(
        connection=connection, previous="a", state=f"s{number}", reason="r", sentence="s"
    )


def taken(mail: WriterMail) -> str | None:
    """The state of a recorded transition; a fence is let pass."""
    if isinstance(mail, Fence):
        mail.passed.set()
        return None
    assert isinstance(mail, Record)
    assert isinstance(mail.row, ConnectionEvent)
    return f"{mail.row.connection} {mail.row.state}"


async def take_all(inbox: Mailbox[WriterMail], count: int) -> list[str]:
    rows: list[str] = []
    with trio.fail_after(1000):
        while len(rows) < count:
            if (row := taken(await inbox.receive())) is not None:
                rows.append(row)
    return rows


async def test_what_does_not_fit_is_posted_when_there_is_room(autojump_clock: Clock) -> None:
    """A full mailbox loses nothing, and the order of each connection stays."""
    inbox: Mailbox[WriterMail] = Mailbox(1)
    journal = Journal(inbox)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        for number in range(40):
            journal.note(event(number))
            journal.note(event(number, "support"))
        await trio.sleep(500)
        assert len(inbox) == 1
        rows = await take_all(inbox, 80)
        nursery.cancel_scope.cancel()
    for name in ("sales", "support"):
        mine = [row for row in rows if row.startswith(name)]
        assert mine == [f"{name} s{number}" for number in range(40)]


async def test_few_are_under_way_at_a_time(autojump_clock: Clock) -> None:
    """The next ones go when the writer has stored those before them: messages come between."""
    inbox: Mailbox[WriterMail] = Mailbox(1000)
    journal = Journal(inbox)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        for number in range(90):
            journal.note(event(number))
        await trio.sleep(1)
        assert len(inbox) == journal_module.AT_ONCE + 1
        assert len(await take_all(inbox, 90)) == 90
        nursery.cancel_scope.cancel()


async def test_a_writer_that_lost_the_fence_does_not_end_it(autojump_clock: Clock) -> None:
    """A writer that crashed with mail in its hands is back some time; so are the records."""
    inbox: Mailbox[WriterMail] = Mailbox(1000)
    journal = Journal(inbox)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        for number in range(40):
            journal.note(event(number))
        await trio.sleep(1)
        while len(inbox):
            inbox.receive_nowait()
        await trio.sleep(fences.PATIENCE + 1)
        assert (await take_all(inbox, 24))[0] == "sales s16"
        nursery.cancel_scope.cancel()


async def test_the_oldest_goes_when_too_many_wait(autojump_clock: Clock) -> None:
    """Bounded for each connection, and said aloud."""
    journal = Journal(Mailbox(1))
    with structlog.testing.capture_logs() as logs:
        for number in range(journal_module.PER_CONNECTION + 2):
            journal.note(event(number))
        journal.note(event(0, "support"))
    assert len(journal) == journal_module.PER_CONNECTION + 1
    assert [(log["event"], log["state"]) for log in logs] == [
        ("connection.event_dropped", "s0"),
        ("connection.event_dropped", "s1"),
    ]


async def test_the_end_hands_over_what_is_left_but_not_for_ever(autojump_clock: Clock) -> None:
    """A fleet that is cancelled still records how it ended; a stuck writer does not hold it."""
    inbox: Mailbox[WriterMail] = Mailbox(3)
    journal = Journal(inbox)
    for number in range(5):
        journal.note(event(number))
    with structlog.testing.capture_logs() as logs, trio.CancelScope() as scope:
        scope.cancel()
        await journal.finish()
    assert trio.current_time() <= journal_module.PARTING
    assert (len(inbox), len(journal)) == (3, 2)
    assert [(log["event"], log["events"]) for log in logs] == [("connection.events_lost", 2)]


async def test_a_lost_fence_is_posted_again(autojump_clock: Clock) -> None:
    """A connection is not stuck behind a fence that a crashed writer took with it."""
    inbox: Mailbox[WriterMail] = Mailbox(10)
    async with trio.open_nursery() as nursery:
        done = trio.Event()

        async def wait() -> None:
            await pass_fence(inbox)
            done.set()

        nursery.start_soon(wait)
        await inbox.receive()  # and crash
        await trio.sleep(fences.PATIENCE - 1)
        assert len(inbox) == 0
        await trio.sleep(2)
        assert len(inbox) == 1
        taken(await inbox.receive())
        await done.wait()
        await trio.sleep(10_000)
        assert len(inbox) == 0
