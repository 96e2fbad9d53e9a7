"""How messages find their conversation."""

import pytest
from st_helpers import CUSTOMER, DAY, GROUP, HOUR, NOW, Clock, envelope, take

from storage.api import (
    ConversationRow,
    ConversationRules,
    Lane,
    Outcome,
    ReopenFrom,
    Storage,
    Verdict,
)
from storage.errors import StorageRejectedError

FAILED = {"kind": "undecryptable", "text": None, "raw": b""}


async def only(storage: Storage, outcome: Outcome) -> ConversationRow:
    """The conversation of a message."""
    rows = await storage.conversations(status=None, connection=None, limit=100)
    [row] = [row for row in rows if row.id == outcome.conversation_id]
    return row


async def closed(storage: Storage, clock: Clock, hours_ago: float, **fields: object) -> Outcome:
    """A conversation that was closed ``hours_ago``, an hour after its message."""
    clock.now = NOW - hours_ago * HOUR
    outcome = await take(storage, "old", sent_at=int(clock.now) - HOUR, **fields)
    await storage.close_conversation(outcome.conversation_id or 0)
    clock.now = NOW
    return outcome


@pytest.mark.parametrize("apart", [False, True])
async def test_a_burst_opens_one_conversation(storage: Storage, apart: bool) -> None:
    """50 first messages, in one batch or in fifty, open exactly one, waiting."""
    batch = [envelope(f"A{number}", sender_name="Ana") for number in range(50)]
    outcomes = (
        [(await storage.apply([item]))[0] for item in batch]
        if apart
        else await storage.apply(batch)
    )
    assert [outcome.opened for outcome in outcomes] == [True] + [False] * 49
    [row] = await storage.conversations(status=None, connection=None, limit=100)
    assert (row.status, row.messages, row.title) == ("waiting", 50, "Ana")


@pytest.mark.parametrize("status", ["waiting", "open"])
async def test_a_live_conversation_takes_every_message(storage: Storage, status: str) -> None:
    """Messages of customer and team go there, and change nothing about its status."""
    first = await take(storage, "A1")
    if status == "open":
        await storage.open_conversation(first.conversation_id or 0)
    second = await take(storage, "A2")
    third = await take(storage, "A3", from_me=True)
    assert first.conversation_id == second.conversation_id == third.conversation_id
    assert (await only(storage, first)).status == status


async def test_closed_23_hours_ago_reopens(storage: Storage, clock: Clock) -> None:
    """Within the window the same conversation waits again."""
    old = await closed(storage, clock, 23)
    outcomes = await storage.apply([envelope("A1"), envelope("A2")])
    assert [(item.reopened, item.opened) for item in outcomes] == [(True, False), (False, False)]
    assert {item.conversation_id for item in outcomes} == {old.conversation_id}
    row = await only(storage, old)
    assert (row.status, row.reopened, row.closed_at, row.messages) == ("waiting", 1, None, 3)


async def test_closed_25_hours_ago_opens_a_new_one(storage: Storage, clock: Clock) -> None:
    """Past the window the old conversation stays closed."""
    old = await closed(storage, clock, 25)
    outcome = await take(storage, "A1")
    assert (outcome.opened, outcome.reopened) == (True, False)
    assert outcome.conversation_id != old.conversation_id
    assert (await only(storage, old)).status == "closed"
    assert (await only(storage, outcome)).status == "waiting"


async def test_the_last_second_of_the_window(storage: Storage, clock: Clock) -> None:
    """The window includes its end."""
    old = await closed(storage, clock, 24)
    assert (await take(storage, "A1", sent_at=int(NOW))).conversation_id == old.conversation_id


async def test_the_window_can_count_from_the_last_message(storage: Storage, clock: Clock) -> None:
    """Closed 23 hours ago, but silent for 25: a new conversation."""
    await storage.ensure_connection("sales", ConversationRules(reopen_from=ReopenFrom.LAST_MESSAGE))
    clock.now = NOW - 25 * HOUR
    old = await take(storage, "old", sent_at=int(clock.now))
    clock.now = NOW - 23 * HOUR
    await storage.close_conversation(old.conversation_id or 0)
    clock.now = NOW
    assert (await take(storage, "A1")).opened


async def test_rules_are_each_connections_own(storage: Storage, clock: Clock) -> None:
    """A longer window here does not lengthen it there."""
    await storage.ensure_connection("support", ConversationRules(reopen_window=7 * DAY))
    await closed(storage, clock, 48)
    await closed(storage, clock, 48, connection="support")
    assert (await take(storage, "A1")).opened
    assert (await take(storage, "A1", connection="support")).reopened


async def test_no_window_at_all(storage: Storage, clock: Clock) -> None:
    """A window of nothing, or of for ever."""
    await storage.ensure_connection("sales", ConversationRules(reopen_window=0))
    await storage.ensure_connection("support", ConversationRules(reopen_window=1e300))
    await closed(storage, clock, 1)
    await closed(storage, clock, 24 * 365, connection="support")
    assert (await take(storage, "A1")).opened
    assert (await take(storage, "A1", connection="support")).reopened


async def test_late_messages_reopen(storage: Storage, clock: Clock) -> None:
    """Sent before the closing, delivered long after: the team has not seen it."""
    clock.now = NOW - 48 * HOUR
    old = await take(storage, "old", sent_at=int(clock.now))
    clock.now = NOW - 46 * HOUR
    await storage.close_conversation(old.conversation_id or 0)
    clock.now = NOW
    late = await take(storage, "A1", sent_at=int(NOW) - 47 * HOUR)
    assert (late.reopened, late.conversation_id) == (True, old.conversation_id)


async def test_last_message_at_does_not_go_back(storage: Storage) -> None:
    """A message that was sent earlier leaves the time of the newest."""
    first = await take(storage, "A1")
    await take(storage, "A2", sent_at=int(NOW) - HOUR)
    await take(storage, "A3", sent_at=int(NOW) - DAY, lane=Lane.HISTORY)
    row = await only(storage, first)
    assert (row.last_message_at.timestamp(), row.messages) == (NOW, 3)


async def test_only_the_newest_conversation_reopens(storage: Storage, clock: Clock) -> None:
    """Of several closed ones, the older stay closed."""
    await closed(storage, clock, 60)
    clock.now = NOW - 20 * HOUR
    newer = await take(storage, "A1", sent_at=int(clock.now))
    assert newer.opened
    await storage.close_conversation(newer.conversation_id or 0)
    clock.now = NOW
    assert (await take(storage, "A2")).conversation_id == newer.conversation_id


async def test_team_opens_without_waiting(storage: Storage) -> None:
    """The team wrote first: somebody is on it already."""
    outcome = await take(storage, "A1", from_me=True)
    assert outcome.opened
    assert (await only(storage, outcome)).status == "open"
    assert (await take(storage, "A2")).conversation_id == outcome.conversation_id
    assert (await only(storage, outcome)).status == "open"


async def test_team_does_not_reopen(storage: Storage, clock: Clock) -> None:
    """A last word of the team belongs to the closed conversation, which stays closed."""
    old = await closed(storage, clock, 2)
    team = await take(storage, "A1", from_me=True)
    assert (team.conversation_id, team.opened, team.reopened) == (old.conversation_id, False, False)
    row = await only(storage, old)
    assert (row.status, row.messages, row.last_message_at.timestamp()) == ("closed", 2, NOW)


async def test_team_after_the_window_opens(storage: Storage, clock: Clock) -> None:
    """Past the window the team's message begins a conversation, open."""
    await closed(storage, clock, 25)
    team = await take(storage, "A1", from_me=True)
    assert team.opened
    assert (await only(storage, team)).status == "open"


async def test_team_may_reopen(storage: Storage, clock: Clock) -> None:
    """With the option, its message reopens the conversation, to open."""
    await storage.ensure_connection("sales", ConversationRules(team_reopens=True))
    old = await closed(storage, clock, 2)
    team = await take(storage, "A1", from_me=True)
    assert (team.conversation_id, team.reopened) == (old.conversation_id, True)
    assert (await only(storage, old)).status == "open"


async def test_order_within_a_batch(storage: Storage, clock: Clock) -> None:
    """The team's word before the customer's leaves it closed; the customer's reopens it."""
    old = await closed(storage, clock, 2)
    outcomes = await storage.apply(
        [
            envelope("A1", from_me=True),
            envelope("A2"),
            envelope("A3", from_me=True),
            envelope("A4"),
        ]
    )
    assert [item.reopened for item in outcomes] == [False, True, False, False]
    assert {item.conversation_id for item in outcomes} == {old.conversation_id}
    assert (await only(storage, old)).messages == 5


async def test_duplicates_reopen_nothing(storage: Storage, clock: Clock) -> None:
    """A redelivery after the closing leaves the conversation closed."""
    old = await closed(storage, clock, 2)
    again = await take(storage, "old", sent_at=int(NOW) - 3 * HOUR)
    assert again.verdict is Verdict.DUPLICATE
    assert (await only(storage, old)).status == "closed"


async def test_placeholders_reopen(storage: Storage, clock: Clock) -> None:
    """A customer wrote something, even if we cannot read it yet."""
    old = await closed(storage, clock, 2)
    outcome = await take(storage, "A1", **FAILED)
    assert (outcome.verdict, outcome.reopened) == (Verdict.PLACEHOLDER, True)
    assert (await only(storage, old)).status == "waiting"


async def test_filling_leaves_the_conversation_alone(storage: Storage, clock: Clock) -> None:
    """The content of a placeholder in a conversation closed since does not reopen it."""
    failed = await take(storage, "A1", **FAILED)
    await storage.close_conversation(failed.conversation_id or 0)
    clock.now += HOUR
    filled = await take(storage, "A1")
    assert filled.filled
    row = await only(storage, failed)
    assert (row.status, row.messages) == ("closed", 1)


async def test_history_opens_nothing(storage: Storage) -> None:
    """Old messages of an unknown chat rest in a closed conversation of their own time."""
    then = int(NOW) - 30 * DAY
    outcomes = await storage.apply(
        [envelope(f"A{n}", sent_at=then + n, lane=Lane.HISTORY) for n in range(3)]
    )
    assert not any(item.opened or item.reopened for item in outcomes)
    row = await only(storage, outcomes[0])
    assert (row.status, row.messages) == ("closed", 3)
    assert row.opened_at.timestamp() == then
    assert (await take(storage, "A9")).opened


async def test_history_attaches_by_its_own_time(storage: Storage, clock: Clock) -> None:
    """To the conversation that had begun by then, else to the oldest; status stays."""
    old = await closed(storage, clock, 60)
    new = await take(storage, "A1")
    begun = await take(storage, "H1", sent_at=int(NOW) - 50 * HOUR, lane=Lane.HISTORY)
    before = await take(storage, "H2", sent_at=int(NOW) - 90 * HOUR, lane=Lane.HISTORY)
    recent = await take(storage, "H3", sent_at=int(NOW), lane=Lane.HISTORY)
    assert begun.conversation_id == before.conversation_id == old.conversation_id
    assert recent.conversation_id == new.conversation_id
    assert (await only(storage, old)).status == "closed"
    assert (await only(storage, new)).status == "waiting"


async def test_side_messages_are_no_activity(storage: Storage, clock: Clock) -> None:
    """A reaction goes where its time belongs; it opens, reopens and moves nothing."""
    old = await closed(storage, clock, 2)
    before = await only(storage, old)
    side = await take(storage, "R1", kind="reaction", lane=Lane.SIDE)
    assert (side.verdict, side.conversation_id) == (Verdict.STORED, old.conversation_id)
    assert (side.opened, side.reopened) == (False, False)
    after = await only(storage, old)
    assert (after.status, after.last_message_at) == ("closed", before.last_message_at)
    assert after.messages == before.messages + 1


async def test_groups_are_chats(storage: Storage) -> None:
    """All members of a group write in one conversation; their own chats are others."""
    outcomes = await storage.apply(
        [
            envelope("A1", chat=GROUP, sender=CUSTOMER),
            envelope("A2", chat=GROUP, sender="15550003333@s.whatsapp.net"),
            envelope("A3", chat=CUSTOMER),
        ]
    )
    first, second, third = (item.conversation_id for item in outcomes)
    assert first == second != third


async def test_open_and_close(storage: Storage, clock: Clock) -> None:
    """waiting → open → closed → open; doing it twice changes nothing."""
    number = (await take(storage, "A1")).conversation_id or 0
    for action, status in (("open", "open"), ("close", "closed"), ("close", "closed")):
        clock.now += 60
        row = await getattr(storage, f"{action}_conversation")(number)
        assert row.status == status
        assert row == await only(storage, await take(storage, "A1"))
    assert row.closed_at.timestamp() == NOW + 120
    row = await storage.open_conversation(number)
    assert row is not None
    assert (row.status, row.closed_at, row.reopened) == ("open", None, 0)


async def test_no_such_conversation(storage: Storage) -> None:
    """None, whichever way."""
    assert await storage.open_conversation(12_345) is None
    assert await storage.close_conversation(12_345) is None


async def test_two_live_conversations_are_refused(storage: Storage, clock: Clock) -> None:
    """An old conversation does not open while another of its chat is live."""
    old = await closed(storage, clock, 30)
    new = await take(storage, "A1")
    assert new.opened
    with pytest.raises(StorageRejectedError):
        await storage.open_conversation(old.conversation_id or 0)
    assert (await only(storage, old)).status == "closed"


async def test_lists(storage: Storage, clock: Clock) -> None:
    """By status and connection, the most recently active first, limited."""
    for number in range(3):
        await take(storage, "A1", chat=f"1555000{number}@s.whatsapp.net", sent_at=int(NOW) + number)
    other = await take(storage, "A1", connection="support", sent_at=int(NOW) + 9)
    await storage.close_conversation(other.conversation_id or 0)

    async def listed(**filters: str) -> list[str]:
        asked = {"status": None, "connection": None, "limit": 2, **filters}
        return [row.chat[:8] for row in await storage.conversations(**asked)]

    assert await listed(connection="sales") == ["15550002", "15550001"]
    assert await listed(status="closed") == ["15550001"]
    assert await listed(status="open") == []
    assert len(await listed()) == 2


async def test_what_history_told_first_is_news_when_it_comes_live(storage: Storage) -> None:
    """The customer's last message came with the history, then from the queue: it waits."""
    stored = await take(storage, "A", lane=Lane.HISTORY)
    assert (await only(storage, stored)).status == "closed"
    again, once_more = await take(storage, "A"), await take(storage, "A")
    assert (again.verdict, again.message_id) == (Verdict.DUPLICATE, stored.message_id)
    assert (again.reopened, once_more.reopened) == (True, False)
    row = await only(storage, again)
    assert (row.status, row.messages) == ("waiting", 1)
    late = await take(storage, "A", lane=Lane.HISTORY)
    assert (late.verdict, late.reopened) == (Verdict.DUPLICATE, False)


async def test_one_batch_may_hold_both(storage: Storage) -> None:
    """The same when history and queue come together."""
    batch = [envelope("A", lane=Lane.HISTORY), envelope("A"), envelope("B"), envelope("A")]
    outcomes = await storage.apply(batch)
    assert [outcome.verdict for outcome in outcomes] == [
        Verdict.STORED,
        Verdict.DUPLICATE,
        Verdict.STORED,
        Verdict.DUPLICATE,
    ]
    assert [outcome.reopened for outcome in outcomes] == [False, True, False, False]
    row = await only(storage, outcomes[0])
    assert (row.status, row.messages, row.reopened) == ("waiting", 2, 1)
