"""The gap ledger: the same on both storages."""

import itertools
import typing as t

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from st_helpers import CUSTOMER, DAY, HOUR, KEY, NOW, OTHER, Clock, Cluster, message, take

from storage.api import ConnectionEvent, ConversationRules, Envelope, Storage
from storage.errors import StorageRejectedError
from storage.facts import PlaceholderVerdict
from storage.gaps import (
    GapRow,
    GapStep,
    OutageBegan,
    QueueAnnounced,
    QueueDrained,
    QueuedStanza,
)
from storage.memory import MemoryStorage
from storage.postgres import PostgresStorage


def step(gap: GapStep, **fields: t.Any) -> Envelope:
    return Envelope(connection="sales", gap=gap, **fields)


def began(at: float | None = NOW, kind: str = "ended", reason: str = "network") -> Envelope:
    return step(OutageBegan(kind=kind, reason=reason, at=at))


def announced(login: str, count: int | None, **fields: t.Any) -> Envelope:
    defaults: dict[str, t.Any] = {"at": NOW + 60, "messages": count, "horizon": NOW + 60}
    return step(QueueAnnounced(login=login, number=0, announced=count, **{**defaults, **fields}))


def queued(login: str, number: int, external_id: str | None, **fields: t.Any) -> Envelope:
    """A message of the queue; None: a receipt."""
    others = fields.pop("others", 0)
    return step(
        QueuedStanza(login=login, number=number, is_message=external_id is not None, others=others),
        message=None if external_id is None else message(external_id, **fields),
        stanza=b"stanza",
    )


def drained(login: str, number: int, others: int = 0) -> Envelope:
    return step(QueueDrained(login=login, number=number, at=NOW + 90, others=others))


async def rows(storage: Storage, name: str = "sales") -> list[GapRow]:
    """The oldest first; the sums are right, whatever happened."""
    found = (await storage.gaps(name))[::-1]
    for row in found:
        came = row.stored + row.duplicate + row.undecryptable + row.quarantined + row.other
        assert (row.announced or 0) <= came + row.covered + row.missing
    return found


async def hole(storage: Storage, chat: str = CUSTOMER) -> bool:
    found = await storage.conversations(status=None, connection="sales", limit=50)
    [mark] = [row.possible_hole for row in found if row.chat == chat]
    return mark


@pytest.mark.parametrize("together", [True, False], ids=["one-batch", "one-by-one"])
async def test_an_outage_from_its_beginning_to_its_end(storage: Storage, together: bool) -> None:
    """Each verdict has its count; what comes twice in a batch, and twice in all, counts once."""
    await take(storage, "known")
    await storage.apply([began(), began()])
    await storage.apply([began(at=NOW + 10)])  # goes on already
    batch = [
        announced("a", 7),
        announced("a", 5),  # the greater one holds
        queued("a", 1, "new"),
        queued("a", 2, "known"),
        queued("a", 3, None),
        queued("a", 4, "other", others=1),
        queued("a", 5, "new"),
        drained("a", 6, others=1),
    ]
    for _ in range(2):  # as if the answer to the COMMIT had been lost
        if together:
            await storage.apply(batch)
        else:
            for item in batch:
                await storage.apply([item])
    [row] = await rows(storage)
    assert (row.announced, row.stored, row.duplicate, row.other) == (7, 2, 2, 3)
    assert (row.state, row.resolution, row.missing) == ("closed", "complete", 0)
    assert [moment and moment.timestamp() - NOW for moment in (row.from_at, row.to_at)] == [0, 90]
    assert await storage.gaps(None) == [row]
    assert await storage.gaps("support") == []
    assert await storage.gaps(None, open_only=True) == []
    assert await storage.gaps(None, before=row.id) == []


async def test_an_interrupted_drain_is_covered_by_the_next_complete_one(storage: Storage) -> None:
    """And not before: neither by one that was interrupted too, nor by one that lacks something."""
    await storage.apply([began(), announced("a", 5), queued("a", 1, "A1")])
    await storage.apply([began(at=NOW + 70), announced("b", 4), queued("b", 1, "B1")])
    first, second = await rows(storage)
    assert (first.state, first.interrupted, first.missing) == ("open", True, 4)
    assert (second.state, second.missing) == ("draining", 3)
    await storage.apply([began(at=NOW + 80), announced("c", 3), queued("c", 1, "C1")])
    await storage.apply([queued("c", 2, "C2"), drained("c", 3)])
    assert [row.state for row in await rows(storage)] == ["open", "open", "open"]
    assert (await rows(storage))[-1].missing == 1
    await storage.apply([began(at=NOW + 95), announced("d", 1)])
    await storage.apply([queued("d", 1, "D1", sent_at=int(NOW) + 90)])
    await storage.apply([drained("d", 2)])
    first, second, third, fourth = await rows(storage)
    assert [(row.resolution, row.covered) for row in (first, second)] == [
        ("covered", 4),
        ("covered", 3),
    ]
    assert first.covered_by == second.covered_by == fourth.id
    assert (third.state, third.missing) == ("open", 1)  # announced by a queue that did end


async def test_old_gaps_go(storage: Storage) -> None:
    """Those that closed before, some at a time, with what kept them open; open ones stay, however
    old, and the newest, which the next one follows."""
    lost = {"kind": "undecryptable", "reason": "no_session", "text": None}
    for login, count in (("a", 1), ("b", 2), ("c", 1), ("d", 1)):
        await storage.apply([began(), announced(login, count)])
        await storage.apply([queued(login, 1, f"{login}1", **lost), drained(login, 2)])
        await take(storage, f"{login}1")  # it can be read after all
    states = [row.state for row in await rows(storage)]
    assert states == ["closed", "open", "closed", "closed"]
    assert await storage.forget_gaps(NOW, 10) == 0
    gone = []
    while count := await storage.forget_gaps(NOW + HOUR, 1):
        gone.append(count)
    assert len(gone) >= 2
    left = await rows(storage)
    assert [(row.state, row.login_at is not None) for row in left] == [
        ("open", True),
        ("closed", True),
    ]
    await storage.apply([began(at=NOW + 2 * HOUR, kind="stopped")])
    assert await storage.forget_gaps(NOW + HOUR, 9) >= 1
    assert [row.state for row in await rows(storage)] == ["open", "out"]


async def test_what_comes_late_is_not_missing_any_more(storage: Storage) -> None:
    """New messages from before the login that lacked some; younger or known ones prove nothing."""
    await storage.apply([began(), announced("a", 3), queued("a", 1, "A1"), drained("a", 2)])
    assert (await rows(storage))[0].missing == 2
    young = int(NOW) + 120
    await storage.apply(
        [
            began(at=NOW + 100),
            announced("b", 4, at=NOW + 200, horizon=NOW + 200),
            queued("b", 1, "A1"),
            queued("b", 2, "B1", sent_at=young),
            queued("b", 3, "B2"),
            queued("b", 4, "B3"),
            drained("b", 5),
        ]
    )
    first, second = await rows(storage)
    assert (first.missing, first.covered, first.resolution) == (0, 2, "covered")
    assert (first.covered_by, second.state) == (second.id, "closed")


@pytest.mark.parametrize("end", ["filled", "verdict"])
async def test_placeholders_keep_a_gap_open(storage: Storage, end: str) -> None:
    """Until the message comes, or it is known that it never will."""
    await storage.apply([began(), announced("a", 2), queued("a", 1, "A1", kind="undecryptable")])
    await storage.apply([queued("a", 2, "B1", chat=OTHER), drained("a", 3)])
    [row] = await rows(storage)
    assert (row.undecryptable, row.waiting, row.state) == (1, 1, "open")
    assert (await hole(storage), await hole(storage, OTHER)) == (True, False)
    if end == "filled":
        await take(storage, "A1")
    else:
        fact = PlaceholderVerdict(
            chat=CUSTOMER, direct=True, sender=CUSTOMER, external_id="A1", verdict="gave_up"
        )
        await storage.apply([Envelope(connection="sales", facts=(fact,))])
    [row] = await rows(storage)
    assert (row.undecryptable, row.waiting, row.state) == (1, 0, "closed")
    assert (row.resolution, row.given_up) == (
        ("complete", 0) if end == "filled" else ("given_up", 1)
    )
    assert not await hole(storage)


async def test_quarantined_stanzas_are_counted(storage: Storage) -> None:
    """Once; delivered again they are known."""
    await storage.apply([began(), announced("a", 2)])
    await storage.quarantine(queued("a", 1, "A1"), "poison")
    await storage.quarantine(queued("a", 1, "A1"), "poison")  # the answer was lost
    await storage.quarantine(queued("a", 2, "A2"), "poison")
    await storage.apply([drained("a", 3)])
    await storage.apply([began(at=NOW + 100), announced("b", 1)])
    await storage.quarantine(queued("b", 1, "A2"), "poison")
    await storage.apply([drained("b", 2)])
    first, second = await rows(storage)
    assert (first.quarantined, first.in_quarantine, first.state) == (2, 2, "open")
    assert (second.duplicate, second.quarantined, second.state) == (1, 0, "closed")
    assert (await storage.gap_statistics())["in_quarantine"] == 2


async def test_a_dead_daemon_was_alive_when_it_last_wrote(storage: Storage, clock: Clock) -> None:
    """The newest of message and transition; a new storage knows of none."""
    await storage.apply([began(at=None, kind="died")])
    [row] = await rows(storage)
    assert row.from_at.timestamp() == NOW
    await storage.apply([announced("a", 0), drained("a", 1)])
    event = ConnectionEvent(
        connection="sales", previous="syncing", state="online", reason="online", sentence="-"
    )
    clock.now += 60
    await storage.record_event(event)
    clock.now += 60
    connecting = attrs.evolve(event, previous="stopped", state="connecting")  # of the new daemon
    await storage.apply([queued("b", 1, "A1")])  # of a login that nobody announced: not counted
    clock.now += HOUR
    await storage.record_event(connecting)
    await storage.apply([began(at=None, kind="died")])
    row = (await rows(storage))[-1]
    assert row.from_at.timestamp() == NOW + 120
    assert row.state == "out"


async def test_accepting(storage: Storage, clock: Clock) -> None:
    """Only what is over and open; who and when are kept, and so is what is missing."""
    await storage.apply([began(), announced("a", 3)])
    [row] = await rows(storage)
    with pytest.raises(StorageRejectedError, match="goes on"):
        await storage.accept_gap(row.id, "ana")
    await storage.apply([drained("a", 1)])
    assert await storage.accept_gap(row.id + 1000, "ana") is None
    assert await storage.accept_gap(2**70, "ana") is None
    with pytest.raises(StorageRejectedError, match="a name is missing"):
        await storage.accept_gap(row.id, " ")
    clock.now += DAY
    accepted = await storage.accept_gap(row.id, "ana\0")
    assert accepted is not None
    assert (accepted.resolution, accepted.missing) == ("accepted", 3)
    assert accepted.accepted_by == "ana\N{SYMBOL FOR NULL}"
    assert accepted.closed_at is not None
    assert accepted.closed_at.timestamp() == NOW + DAY
    with pytest.raises(StorageRejectedError, match="closed already"):
        await storage.accept_gap(row.id, "bia")


async def test_conversations_around_a_gap_are_marked(storage: Storage) -> None:
    """Those active within a day before it, or later; until it closes."""
    await take(storage, "old", chat=OTHER, sent_at=int(NOW) - 2 * DAY)
    await take(storage, "A1", sent_at=int(NOW) - 3 * HOUR)
    await storage.apply([began(), announced("a", 1)])
    assert (await hole(storage), await hole(storage, OTHER)) == (True, False)
    await storage.apply([drained("a", 1)])
    assert (await hole(storage), await hole(storage, OTHER)) == (True, False)
    [row] = await rows(storage)
    await storage.accept_gap(row.id, "ana")
    assert (await hole(storage), await hole(storage, OTHER)) == (False, False)


async def test_a_new_device_leaves_the_gap_open(storage: Storage) -> None:
    """And what was interrupted before it is never covered."""
    await storage.apply([began(), announced("a", 3), began(at=NOW + 70)])
    await storage.apply([Envelope(connection="sales", reset_records=True)])
    await storage.apply([announced("b", 0), drained("b", 1)])
    assert [(row.state, row.device_replaced) for row in await rows(storage)] == [
        ("open", True),
        ("open", True),
    ]
    counts = await storage.gap_statistics()
    assert (counts["open"], counts["missing"], counts["device_replaced"]) == (2, 3, 2)


async def test_absurd_values_are_cut(storage: Storage) -> None:
    """No count, time or text that a peer gives is refused."""
    await storage.apply(
        [
            began(at=float("nan"), kind="nonsense", reason="x\0" * 500),
            announced("a" * 500, 2**80, at=float("inf"), messages=-(2**80), horizon=-1e300),
            announced("a" * 500, -1),
            drained("a" * 500, 1),
        ]
    )
    [row] = await rows(storage)
    assert (row.announced, row.missing, row.state) == (10**9, 10**9, "open")


IDS = st.sampled_from([None, "A", "B", "C"])
LOGINS = st.sampled_from(["a", "b", "c"])
TIMES = st.sampled_from([NOW - HOUR, NOW, NOW + 50, NOW + 70])


@st.composite
def histories(draw: st.DrawFn) -> list[list[Envelope]]:
    """Batches of steps in any order, even impossible ones."""
    numbers: dict[str, int] = {}

    def next_number(login: str) -> int:
        numbers[login] = numbers.get(login, 0) + 1
        return numbers[login]

    batches = []
    for size in draw(st.lists(st.integers(1, 6), max_size=8)):
        batch = []
        for _ in range(size):
            login = draw(LOGINS)
            match draw(st.sampled_from(["began", "announced", "queued", "queued", "drained", "r"])):
                case "began":
                    batch.append(began(at=draw(st.one_of(st.none(), TIMES))))
                case "announced":
                    carried = draw(
                        st.sampled_from([None, OutageBegan(kind="silent", reason="s", at=NOW)])
                    )
                    count = draw(st.sampled_from([None, 0, 1, 3]))
                    batch.append(announced(login, count, began=carried))
                case "queued":
                    kind = draw(st.sampled_from(["text", "text", "undecryptable"]))
                    sent = int(draw(TIMES))
                    others = draw(st.sampled_from([0, 0, 2]))
                    number = next_number(login)
                    batch.append(
                        queued(login, number, draw(IDS), kind=kind, sent_at=sent, others=others)
                        if (name := draw(IDS))
                        else queued(login, number, name, others=others)
                    )
                case "drained":
                    batch.append(drained(login, next_number(login)))
                case _:
                    reset = draw(st.sampled_from([False, False, True]))
                    batch.append(Envelope(connection="sales", reset_records=reset))
        batches += [batch] * draw(st.sampled_from([1, 1, 2]))  # its outcome was lost
    return batches


async def ledger(
    storage: Storage, name: str, run: list[list[Envelope]], clock: Clock
) -> list[t.Any]:
    """What a storage shows of a connection after each batch, ids made comparable."""
    clock.now = NOW
    await storage.ensure_connection(name, ConversationRules())
    answers: list[t.Any] = []
    for batch in run:
        clock.now += 30
        await storage.apply([attrs.evolve(item, connection=name) for item in batch])
        found = await rows(storage, name)
        order = {row.id: place for place, row in enumerate(found)}
        answers.append(
            [
                attrs.evolve(
                    row, id=order[row.id], covered_by=row.covered_by and order[row.covered_by]
                )
                for row in found
            ]
        )
        conversations = await storage.conversations(status=None, connection=name, limit=50)
        answers.append(sorted((row.chat, row.possible_hole) for row in conversations))
    return answers


def test_memory_and_postgres_agree_on_gaps(cluster: Cluster) -> None:
    """Whatever the order of the steps."""
    dsn = trio.run(cluster.create, "migrated")
    names = itertools.count()

    @settings(max_examples=40, deadline=None)
    @given(run=histories())
    def agree(run: list[list[Envelope]]) -> None:
        trio.run(check, run, f"run {next(names)}")

    async def check(run: list[list[Envelope]], name: str) -> None:
        clock = Clock()
        expected = await ledger(MemoryStorage(clock), name, run, clock)
        async with PostgresStorage.open(dsn, key=KEY, pool_size=1, clock=clock) as postgres:
            assert await ledger(postgres, name, run, clock) == expected

    agree()
