"""Two contacts found to be one person: everything comes together, and apart again on order."""

import typing as t

import attrs
import pytest
from st_content import content
from st_helpers import (
    ACCOUNT,
    CUSTOMER,
    CUSTOMER_LID,
    DAY,
    GROUP,
    HOUR,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    take,
)

from storage.api import (
    ConversationRow,
    Envelope,
    Lane,
    MediaFile,
    RecordChange,
    RecordKind,
    Storage,
    Verdict,
)
from storage.erasure import Rule
from storage.errors import StorageRejectedError
from storage.facts import AddressPair
from storage.inbox import MergeRow
from storage.postgres import PostgresStorage
from storage.queues import MediaResult, MediaState
from whatsapp.proto.records_pb2 import DeviceRecord

LID = {"chat": CUSTOMER_LID, "sender": CUSTOMER_LID}
OWN_LID = "900000000099@lid"
FAILED = {"kind": "undecryptable", "text": None, "raw": b""}
T0 = int(NOW)


async def learn(storage: Storage, number: str = CUSTOMER, lid: str = CUSTOMER_LID) -> None:
    """The mapping arrives by itself."""
    fact = AddressPair(number, lid, "usync")
    [outcome] = await storage.apply([Envelope(connection="sales", facts=(fact,))])
    assert outcome.verdict is Verdict.RECORDED


async def listed(storage: Storage) -> list[ConversationRow]:
    return await storage.conversations(status=None, connection="sales", limit=50)


async def read(storage: Storage, conversation: int | None) -> list[str]:
    """The ids of a conversation's messages, in the order of reading."""
    return [row.external_id for row in await storage.conversation_messages(conversation or 0)]


async def only_merge(storage: Storage) -> MergeRow:
    [merge] = await storage.merges("sales")
    return merge


async def test_two_live_conversations(storage: Storage, clock: Clock) -> None:
    """The older one takes the messages of the younger, which is closed and says where they are."""
    number = await take(storage, "A1", sent_at=T0 - 30)
    lid = await take(storage, "B1", **LID, sent_at=T0 - 40)
    await take(storage, "A2", sent_at=T0 - 20)
    clock.now += 5
    await learn(storage)
    [row] = await listed(storage)
    assert (row.id, row.status, row.messages) == (number.conversation_id, "waiting", 3)
    assert row.opened_at.timestamp() == T0 - 40
    assert row.chat == CUSTOMER
    assert await read(storage, number.conversation_id) == ["B1", "A1", "A2"]
    assert await read(storage, lid.conversation_id) == []
    assert (await take(storage, "B2", **LID)).conversation_id == number.conversation_id
    assert (await take(storage, "B1", **LID)).conversation_id == number.conversation_id
    closed = await storage.close_conversation(lid.conversation_id or 0)
    assert closed is not None
    assert (closed.status, closed.merged_into) == ("closed", number.conversation_id)
    with pytest.raises(StorageRejectedError):
        await storage.open_conversation(lid.conversation_id or 0)
    merge = await only_merge(storage)
    assert (merge.addresses, merge.messages, merge.duplicates) == ((CUSTOMER_LID,), 1, 0)
    assert (merge.source, merge.undone_at) == ("usync", None)


async def test_the_older_chat_survives_under_the_number(storage: Storage) -> None:
    """The LID wrote first: its chat and conversation stay, and show the number from now on."""
    lid = await take(storage, "B1", **LID)
    number = await take(storage, "A1")
    await learn(storage)
    [row] = await listed(storage)
    assert (row.id, row.chat, row.messages) == (lid.conversation_id, CUSTOMER, 2)
    assert await read(storage, number.conversation_id) == []


async def test_a_chat_gets_its_number_later(storage: Storage) -> None:
    """Nobody wrote under the number: nothing to merge, but now it is shown."""
    await take(storage, "B1", **LID)
    assert [row.chat for row in await listed(storage)] == [CUSTOMER_LID]
    await learn(storage)
    assert [row.chat for row in await listed(storage)] == [CUSTOMER]
    assert await storage.merges("sales") == []
    contact = await storage.contact("sales", CUSTOMER_LID)
    assert contact is not None
    assert contact.addresses == (CUSTOMER, CUSTOMER_LID)
    assert contact.shown == "+15550001111"


@pytest.mark.parametrize("how", ["fact", "chat_alt", "group"])
async def test_the_mapping_in_the_batch_of_its_messages(storage: Storage, how: str) -> None:
    """Messages under both addresses and what joins them, all at once: one conversation."""
    batch = [envelope("A1"), envelope("B1", **LID), envelope("A1", **LID)]
    if how == "fact":
        fact = AddressPair(CUSTOMER, CUSTOMER_LID, "stanza")
        batch.append(Envelope(connection="sales", facts=(fact,)))
    elif how == "chat_alt":
        batch.append(envelope("B2", **LID, chat_alt=CUSTOMER))
    else:
        batch.append(envelope("G1", chat=GROUP, sender=CUSTOMER_LID, sender_alt=CUSTOMER))
    outcomes = await storage.apply(batch)
    assert [item.verdict for item in outcomes[:3]] == [
        Verdict.STORED,
        Verdict.STORED,
        Verdict.DUPLICATE,
    ]
    assert len({item.conversation_id for item in outcomes[:3]}) == 1


async def test_closed_conversations_stay_apart(storage: Storage, clock: Clock) -> None:
    """Only live ones go together; the chat has the history of both."""
    old = await take(storage, "B1", **LID, sent_at=T0 - 9 * DAY)
    await storage.close_conversation(old.conversation_id or 0)
    clock.now += 2 * DAY
    new = await take(storage, "A1", sent_at=T0 + 2 * DAY)
    await learn(storage)
    rows = await listed(storage)
    assert [(row.id, row.status) for row in rows] == [
        (new.conversation_id, "waiting"),
        (old.conversation_id, "closed"),
    ]
    assert {row.chat for row in rows} == {CUSTOMER}
    late = await take(storage, "B0", **LID, sent_at=T0 - 8 * DAY, lane=Lane.HISTORY)
    assert late.conversation_id == old.conversation_id


async def test_the_same_message_under_both(storage: Storage) -> None:
    """It is one afterwards, and the counters say so; nothing is lost."""
    first = await take(storage, "A1", text="um")
    second = await take(storage, "A1", **LID, text="um")
    await take(storage, "A2", **LID)
    assert second.verdict is Verdict.STORED
    await learn(storage)
    [row] = await listed(storage)
    assert row.messages == 2
    assert await read(storage, row.id) == ["A1", "A2"]
    statistics = await storage.statistics()
    assert (statistics["messages"], statistics["duplicates"]) == (2, 1)
    again = await take(storage, "A1", **LID)
    assert (again.verdict, again.message_id) == (Verdict.DUPLICATE, first.message_id)
    assert (await only_merge(storage)).duplicates == 1


async def test_a_complete_message_replaces_its_placeholder(storage: Storage) -> None:
    """One identity decrypted what the other could not."""
    await take(storage, "A1", **FAILED)
    complete = await take(storage, "A1", **LID, text="lido")
    await learn(storage)
    [row] = await storage.list_messages("sales", after=0, limit=9)
    assert (row.id, row.text) == (complete.message_id, "lido")
    statistics = await storage.statistics()
    assert (statistics["messages"], statistics["undecryptable"]) == (1, 0)


async def test_the_live_one_before_the_imported(storage: Storage) -> None:
    """A waiting conversation never loses its question to a closed one from the history."""
    await take(storage, "A1", **LID, lane=Lane.HISTORY)
    live = await take(storage, "A1")
    await learn(storage)
    [row] = await listed(storage)
    assert (row.id, row.status, row.messages) == (live.conversation_id, "waiting", 1)
    await storage.unmerge((await only_merge(storage)).id)
    rows = await listed(storage)
    assert sorted((row.chat, row.status, row.messages) for row in rows) == [
        (CUSTOMER, "waiting", 1),
        (CUSTOMER_LID, "closed", 1),
    ]


async def test_the_file_stays(storage: Storage) -> None:
    """Of a file with two rows the stored one stays; both are back after the undoing."""
    picture = {"kind": "image", "media": MediaFile(kind="image")}
    kept = await take(storage, "A1", **picture)
    lost = await take(storage, "A1", **LID, **picture)
    result = MediaResult(state=MediaState.STORED, blob_sha256=bytes(32), blob_size=7)
    assert await storage.finish_media("sales", lost.message_id or 0, result)
    await learn(storage)
    detail = await storage.message(kept.message_id or 0)
    assert detail is not None
    assert detail.media is not None
    assert detail.media.state == "stored"
    assert await storage.media_counts("sales") == {"stored": 1}
    await storage.unmerge((await only_merge(storage)).id)
    assert lost.message_id in {
        row.id for row in await storage.list_messages("sales", after=0, limit=9)
    }
    assert await storage.media_file(lost.message_id or 0) is not None


async def two_files(storage: Storage) -> tuple[int, int]:
    """The same message under both addresses, with the same file, stored twice."""
    picture = {"kind": "image", "media": MediaFile(kind="image", name="a.jpg")}
    kept = (await take(storage, "A1", **picture)).message_id or 0
    lost = (await take(storage, "A1", **LID, **picture)).message_id or 0
    result = MediaResult(state=MediaState.STORED, blob_sha256=bytes(32), blob_size=7)
    for number in (kept, lost):
        assert await storage.finish_media("sales", number, result)
    await learn(storage)
    return kept, lost


async def states(storage: Storage, *numbers: int) -> list[str | None]:
    """Of the files of messages; None: it has none."""
    rows = [await storage.media_file(number) for number in numbers]
    return [None if row is None else row.state for row in rows]


async def test_a_file_that_was_deleted_meanwhile(storage: Storage) -> None:
    """The undoing does not say that it is there."""
    kept, lost = await two_files(storage)
    assert await states(storage, kept, lost) == ["stored", None]
    assert await storage.forget_media("sales", kept)  # the last: the file went
    await storage.unmerge((await only_merge(storage)).id)
    assert await states(storage, kept, lost) == ["removed", "removed"]
    row = await storage.media_file(lost)
    assert row is not None
    assert (row.blob_sha256, row.blob_size) == (bytes(32), 7)
    assert await storage.blob_users(bytes(32)) == 0


async def test_a_file_that_another_message_has(storage: Storage) -> None:
    """It was not deleted, so it is there for the message that comes back, too."""
    picture = {"kind": "image", "media": MediaFile(kind="image")}
    third = (await take(storage, "C1", chat=OTHER, sender=OTHER, **picture)).message_id or 0
    result = MediaResult(state=MediaState.STORED, blob_sha256=bytes(32), blob_size=7)
    assert await storage.finish_media("sales", third, result)
    kept, lost = await two_files(storage)
    assert await storage.forget_media("sales", kept)
    await storage.unmerge((await only_merge(storage)).id)
    assert await states(storage, kept, lost, third) == ["removed", "stored", "stored"]


async def test_a_file_of_an_erased_message(storage: Storage) -> None:
    """A rule of retention took the message's content and file: neither comes back."""
    kept, lost = await two_files(storage)
    rule = Rule(
        kinds=None, files_only=False, after=HOUR, live=True, connections=(), text="older than 1h"
    )
    await storage.retain("sales", rule, after=0, window=100, now=NOW + DAY, dry=False)
    assert await states(storage, kept, lost) == [None, None]
    await storage.unmerge((await only_merge(storage)).id)
    assert await states(storage, kept, lost) == [None, "removed"]


async def test_undoing_restores_everything(storage: Storage) -> None:
    """Contacts, chats, conversations and messages are as if the two had never met."""
    await storage.apply(
        [
            envelope("A1", sent_at=T0 - 30, sender_name="Ana"),
            envelope("B1", **LID, sent_at=T0 - 40, sender_name="Bia"),
            envelope("A1", **LID, sent_at=T0 - 30, sender_name="Bia"),
            envelope("A2", **LID, sent_at=T0 - 20, **FAILED),
            envelope("T1", from_me=True, sent_at=T0 - 10),
            envelope("T1", chat=CUSTOMER_LID, from_me=True, sent_at=T0 - 10),
            envelope("G1", chat=GROUP, sender=CUSTOMER_LID, sent_at=T0 - 5),
            envelope("G1", chat=GROUP, sender=CUSTOMER, sent_at=T0 - 5),
        ]
    )
    before = (await content(storage, "sales", lanes=True), await listed(storage))
    counts = await storage.connections()
    await learn(storage)
    assert len(await listed(storage)) == 2
    merge = await only_merge(storage)
    undone = await storage.unmerge(merge.id)
    assert undone is not None
    assert undone.undone_at is not None
    assert (await content(storage, "sales", lanes=True), await listed(storage)) == before
    assert await storage.connections() == counts
    again = await storage.unmerge(merge.id)
    assert again == undone


async def test_told_apart_for_good(storage: Storage) -> None:
    """What an operator has undone is not merged again; each address leads to its own chat."""
    await take(storage, "A1")
    await take(storage, "B1", **LID)
    await learn(storage)
    await storage.unmerge((await only_merge(storage)).id)
    await learn(storage)
    await take(storage, "B2", **LID, chat_alt=CUSTOMER, sender_alt=CUSTOMER)
    await take(storage, "A2", chat_alt=CUSTOMER_LID, sender_alt=CUSTOMER_LID)
    assert {row.chat: row.messages for row in await listed(storage)} == {
        CUSTOMER: 2,
        CUSTOMER_LID: 2,
    }


async def test_what_came_after_the_merge(storage: Storage, clock: Clock) -> None:
    """It stays with the conversation that took it."""
    await take(storage, "A1", sent_at=T0 - 20)
    lid = await take(storage, "B1", **LID, sent_at=T0 - 10)
    await learn(storage)
    later = await take(storage, "B2", **LID)
    await storage.unmerge((await only_merge(storage)).id)
    assert await read(storage, later.conversation_id) == ["A1", "B2"]
    assert await read(storage, lid.conversation_id) == ["B1"]
    rows = {row.chat: row for row in await listed(storage)}
    assert (rows[CUSTOMER].messages, rows[CUSTOMER_LID].messages) == (2, 1)
    assert rows[CUSTOMER_LID].status == "waiting"
    [sender] = {row.senders for row in await storage.list_messages("sales", after=0, limit=9)} - {
        (CUSTOMER_LID,)
    }
    assert sender == (CUSTOMER,)


async def test_a_conversation_that_went_on_after_the_merge(storage: Storage, clock: Clock) -> None:
    """One that moved with its chat goes back with what was written in it since."""
    first = await take(storage, "A1")
    await storage.close_conversation(first.conversation_id or 0)
    second = await take(storage, "B1", **LID)
    await storage.close_conversation(second.conversation_id or 0)
    await learn(storage)
    clock.now += HOUR
    reopened = await take(storage, "A2", sent_at=T0 + HOUR)
    assert (reopened.reopened, reopened.conversation_id) == (True, second.conversation_id)
    await storage.unmerge((await only_merge(storage)).id)
    rows = {row.chat: row for row in await listed(storage)}
    assert (rows[CUSTOMER].messages, rows[CUSTOMER].status) == (1, "closed")
    assert (rows[CUSTOMER_LID].messages, rows[CUSTOMER_LID].status) == (2, "waiting")
    assert (await take(storage, "A3")).conversation_id == first.conversation_id


async def test_merges_are_undone_backwards(storage: Storage) -> None:
    """A merge on which another one rests waits for that one."""
    third = "15550003333@s.whatsapp.net"
    await storage.apply([envelope("A1"), envelope("B1", **LID), envelope("C1", chat=third)])
    await learn(storage)
    await learn(storage, third)
    newer, older = await storage.merges("sales")
    with pytest.raises(StorageRejectedError, match="later"):
        await storage.unmerge(older.id)
    assert (await listed(storage))[0].messages == 3
    await storage.unmerge(newer.id)
    await storage.unmerge(older.id)
    assert [row.messages for row in await listed(storage)] == [1, 1, 1]
    assert await storage.unmerge(10**9) is None
    assert await storage.unmerge(2**70) is None


async def test_the_accounts_own_addresses(storage: Storage) -> None:
    """They are known from the device on; what was taken for a stranger is the account itself."""
    await take(storage, "G1", chat=GROUP, sender=OWN_LID, kind="text")
    device = DeviceRecord(jid="15559990000:7@s.whatsapp.net", lid="900000000099:7@lid")
    change = RecordChange(RecordKind.DEVICE, "", device.SerializeToString())
    await storage.apply([Envelope(connection="sales", records=(change,))])
    for address in (ACCOUNT, OWN_LID):
        contact = await storage.contact("sales", address)
        assert contact is not None
        assert contact.is_self
        assert set(contact.addresses) == {ACCOUNT, OWN_LID}
    own = await take(storage, "N1", chat=ACCOUNT, from_me=True)
    detail = await storage.message(own.message_id or 0)
    assert detail is not None
    assert detail.sender.is_self
    assert await storage.contacts("sales") == []
    [merge] = await storage.merges("sales")
    assert (merge.source, merge.addresses) == ("login", (OWN_LID,))


async def test_nothing_crosses_connections(storage: Storage) -> None:
    """What one connection learns changes no other's contacts."""
    for connection in ("sales", "support"):
        await storage.apply(
            [envelope("A1", connection=connection), envelope("B1", connection=connection, **LID)]
        )
    await learn(storage)
    rows = await storage.conversations(status=None, connection="support", limit=9)
    assert len(rows) == 2
    assert await storage.merges("support") == []
    assert len(await storage.merges(None)) == 1


async def test_groups_know_one_person(storage: Storage) -> None:
    """Messages of both addresses in a group have one author, whose reaction counts once."""
    fields: dict[str, t.Any] = {"chat": GROUP, "kind": "reaction", "target_id": "G1"}
    await storage.apply(
        [
            envelope("G1", chat=GROUP, sender=OTHER),
            envelope("R1", **fields, sender=CUSTOMER, text="👍", lane=Lane.SIDE),
            envelope("R2", **fields, sender=CUSTOMER_LID, text="❤", lane=Lane.SIDE, sent_at=T0 + 1),
        ]
    )
    [shown] = [row for row in (await content(storage, "sales"))["messages"] if row["reactions"]]
    assert [item["emoji"] for item in shown["reactions"]] == ["👍", "❤"]
    await learn(storage)
    [shown] = [row for row in (await content(storage, "sales"))["messages"] if row["reactions"]]
    assert [item["emoji"] for item in shown["reactions"]] == ["❤"]


async def test_a_large_merge(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    """Thousands of messages move, and thousands become one, in bounded time."""
    for start in range(0, 3000, 500):
        await postgres.apply(
            [
                envelope(f"A{number}", **place, sent_at=T0 - number)
                for number in range(start, start + 500)
                for place in ({}, LID)
            ]
        )
    await learn(postgres)
    [row] = await listed(postgres)
    assert row.messages == 3000
    merge = await only_merge(postgres)
    assert (merge.messages, merge.duplicates) == (0, 3000)
    await postgres.unmerge(merge.id)
    assert sorted(row.messages for row in await listed(postgres)) == [3000, 3000]
    orphans = await cluster.sql(
        dsn,
        "SELECT FROM messages m JOIN conversations v USING (connection_id) "
        "WHERE v.id = m.conversation_id AND v.chat_id <> m.chat_id",
    )
    assert orphans == []


async def test_a_batch_again_after_its_merge(storage: Storage) -> None:
    """A batch whose outcome was lost is applied again, and nothing changes."""
    fact = AddressPair(CUSTOMER, CUSTOMER_LID, "stanza")
    await storage.apply([envelope("A1"), envelope("B1", **LID)])
    batch = [attrs.evolve(envelope("B2", **LID), facts=(fact,)), envelope("A1", **LID)]
    first = await storage.apply(batch)
    before = await content(storage, "sales", lanes=True)
    again = await storage.apply(batch)
    assert [item.message_id for item in again] == [item.message_id for item in first]
    assert {item.verdict for item in again} == {Verdict.DUPLICATE}
    assert await content(storage, "sales", lanes=True) == before
    assert len(await storage.merges("sales")) == 1
