"""The offline queue of one login, counted: whatever comes, in whatever order."""

import pytest
import structlog.testing
import trio
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ConnectionEndedError
from actors.gaps import MAX_SEEN, Drain, Outages
from actors.messages import Commit, Fence, WriterMail
from storage.gaps import OutageBegan, QueuedStanza
from supervisor.mailbox import Mailbox
from whatsapp.node import Node


def stanza(number: int) -> Node:
    """One of many, told apart by what is deep in it."""
    return Node("message", {"offline": number % 3}, (Node("enc", {}, b"%d" % number),))


stanzas = st.lists(st.integers(0, 20), max_size=60)


@given(announced=st.lists(st.one_of(st.none(), st.integers(0, 2**63)), max_size=4), come=stanzas)
def test_missing_is_what_was_announced_and_did_not_come(
    announced: list[int | None], come: list[int]
) -> None:
    """A second copy is not one more, nor is a second announcement; surplus is not negative."""
    drain = Drain("a")
    for total in announced:
        drain.announce(total)
    first = [drain.arrive(stanza(number)) for number in come]
    assert drain.arrived == len(set(come)) == sum(first)
    greatest = max((total for total in announced if total is not None), default=0)
    assert drain.missing == max(0, greatest - len(set(come)))


@given(st.lists(st.sampled_from(["message", "other", "passed over"]), max_size=60))
def test_every_stanza_is_in_exactly_one_step(kinds: list[str]) -> None:
    """Counted by its own step, or by the next one; numbers grow by one."""
    drain = Drain("a")
    steps: list[QueuedStanza] = []
    for kind in kinds:
        if kind == "passed over":
            drain.pass_over()
        else:
            steps.append(drain.count(is_message=kind == "message"))
    end = drain.end(at=1.0)
    assert len(steps) + sum(step.others for step in steps) + end.others == len(kinds)
    assert [step.number for step in steps] + [end.number] == list(range(1, len(steps) + 2))
    assert [step.is_message for step in steps] == [
        kind == "message" for kind in kinds if kind != "passed over"
    ]


def test_memory_is_bounded() -> None:
    """Beyond a number of stanzas second copies are no longer told from new ones."""
    drain = Drain("a")
    for number in range(MAX_SEEN + 10):
        assert drain.arrive(stanza(number))
    assert not drain.arrive(stanza(0))
    assert drain.arrive(stanza(MAX_SEEN + 5))
    assert len(drain._seen) == MAX_SEEN


def end(
    outages: Outages, error: BaseException, *, logged_in: bool = True, heard: float = 0.0
) -> None:
    """A life that ends that way, its last bytes and its last stanza being of different ages."""

    def live() -> None:
        with outages.life(lambda: "stopped"):
            now = trio.current_time()
            outages.logged_in = logged_in
            outages.heard_at = lambda: now - heard
            outages.stanza_at = now - 3 * heard
            raise error

    with pytest.raises(type(error)):
        live()


async def test_the_end_of_a_life_begins_an_outage() -> None:
    """Only of one that was logged in: else the outage before it goes on."""
    inbox: Mailbox[WriterMail] = Mailbox(4)
    outages = Outages("sales", inbox, lambda: 1000.0)
    end(outages, ConnectionEndedError("network", "it broke"), logged_in=False)
    assert len(inbox) == 0
    end(outages, ConnectionEndedError("network", "it broke"))
    end(outages, ExceptionGroup("several", [ValueError("a bug")]))
    for reason in ("network", "crashed"):
        mail = await inbox.receive()
        assert isinstance(mail, Commit)
        began = mail.envelope.gap
        assert isinstance(began, OutageBegan)
        assert (began.kind, began.reason, began.at) == ("ended", reason, pytest.approx(1000))


async def test_a_full_mailbox_only_delays_it() -> None:
    """The next login tells the ledger what could not be told at once, and tells it once."""
    inbox: Mailbox[WriterMail] = Mailbox(1)
    inbox.post_nowait(Fence(trio.Event()))
    outages = Outages("sales", inbox, lambda: 1000.0)
    with structlog.testing.capture_logs() as logs:
        end(outages, ConnectionEndedError("network", "it broke"))
    assert [line["event"] for line in logs] == ["gap.told_later"]
    began = outages.take_began()
    assert began is not None
    assert (began.kind, began.reason) == ("ended", "network")
    assert outages.take_began() is None


@pytest.mark.parametrize(
    ("reason", "at"),
    [("network", 1000), ("silent", 990), ("heartbeat_missed", 990), ("deaf_suspected", 970)],
)
async def test_when_an_outage_began(reason: str, at: float) -> None:
    """A dead socket: with its last byte; one that only answered: with its last stanza."""
    outages = Outages("sales", Mailbox(4), lambda: 1000.0)
    end(outages, ConnectionEndedError(reason, "it ended"), heard=10)
    began = outages.take_began()
    assert began is not None
    assert began.at == pytest.approx(at, abs=1)
    assert began.kind == ("ended" if reason == "network" else "silent")
