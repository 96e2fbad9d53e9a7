"""Reading: pages, versions, quotes, look-ups; and rows that are read anew."""

import math
import typing as t

import pytest
from st_helpers import (
    ACCOUNT,
    CUSTOMER,
    CUSTOMER_LID,
    GROUP,
    KEY,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    message,
    take,
)

from storage.api import Envelope, Lane, MediaFile, Storage
from storage.errors import StorageRejectedError
from storage.facts import AddressPair
from storage.inbox import ADDON_KINDS, MessageDetail, shown_address
from storage.migrate import load_migrations
from storage.postgres import PostgresStorage
from storage.prepare import MAX_DETAIL_LENGTH
from storage.queries import queries

T0 = int(NOW)
LID = {"chat": CUSTOMER_LID, "sender": CUSTOMER_LID}
SIDE: dict[str, t.Any] = {"lane": Lane.SIDE, "target_id": "A1"}
BEYOND = (0, -1, 10**9, 2**63, -(2**70))


async def shown(storage: Storage, message_id: int | None) -> MessageDetail:
    found = await storage.message(message_id or 0)
    assert found is not None
    return found


async def test_pages_of_a_conversation(storage: Storage) -> None:
    """By time, then by arrival; oldest first within a page, side messages left out."""
    await storage.apply(
        [
            envelope("A1", sent_at=T0 - 10),
            envelope("A3", sent_at=T0),
            envelope("A4", sent_at=T0),
            envelope("S1", **SIDE, kind="reaction", sent_at=T0),
            envelope("A2", sent_at=T0 - 5),
        ]
    )
    [row] = await storage.conversations(status=None, connection="sales", limit=9)
    pages: list[list[str]] = []
    before: int | None = None
    while page := await storage.conversation_messages(row.id, before=before, limit=3):
        pages.append([item.external_id for item in page])
        before = page[0].id
    assert pages == [["A2", "A3", "A4"], ["A1"]]
    assert await storage.conversation_messages(row.id, limit=0) == []
    for number in BEYOND:
        assert await storage.conversation_messages(number) == []
        assert await storage.conversation_messages(row.id, before=number) == []
        assert await storage.message(number) is None
    assert row.messages == 5


async def test_all_of_a_message(storage: Storage, clock: Clock) -> None:
    """What was stored comes back, cleaned."""
    detail = {"options": ["a\0", 1, 2.5, None, True, {"x": math.inf, "y": object()}], "n": 2**70}
    outcome = await take(
        storage,
        "A1",
        kind="image",
        text="le\0genda",
        sender_name="Ana",
        mentions=(OTHER, "", "x" * 600, ACCOUNT),
        flags=("forwarded", "view_once"),
        detail=detail,
        media=MediaFile(
            kind="image", mimetype="image/jpeg\0", size=-1, name="n" * 2000, sha256=b"short"
        ),
        sent_at=T0 - 60,
    )
    found = await shown(storage, outcome.message_id)
    assert (found.kind, found.text, found.original_text) == ("image", "le␀genda", "le␀genda")
    assert (found.sender.name, found.sender.shown) == ("Ana", "+15550001111")
    assert [item.addresses for item in found.mentions] == [(OTHER,), (ACCOUNT,)]
    assert found.flags == ("forwarded", "view_once")
    assert found.detail == {
        "options": ["a␀", 1, 2.5, None, True, {"x": None, "y": None}],
        "n": None,
    }
    assert found.media is not None
    assert (found.media.state, found.media.mimetype, found.media.size) == (
        "pending",
        "image/jpeg␀",
        None,
    )
    assert len(found.media.name or "") == 1024
    assert (found.sent_at.timestamp(), found.received_at.timestamp()) == (T0 - 60, NOW)
    assert (found.versions, found.reactions, found.votes, found.quoted) == ((), (), (), None)
    assert (found.deleted, found.status, found.state, found.lane) == (None, None, "stored", "live")
    row = await storage.find_message("sales", CUSTOMER, "A1")
    assert row is not None
    assert (row.detail, row.flags, row.raw) == (found.detail, found.flags, b"raw")


@pytest.mark.parametrize("depth", [10, 10_000])
async def test_details_are_bounded(storage: Storage, depth: int) -> None:
    """What is too deep is cut off, what is too large left out: the raw bytes have it whole."""
    deep: t.Any = "x"
    for _ in range(depth):
        deep = [deep]
    large = {"x": "é" * (MAX_DETAIL_LENGTH + 1)}
    first = await take(storage, "A1", detail={"deep": deep})
    second = await take(storage, "A2", detail=large)
    assert ("x" in repr((await shown(storage, first.message_id)).detail)) is (depth == 10)
    assert (await shown(storage, second.message_id)).detail == {}


async def test_versions(storage: Storage) -> None:
    """The newest by (time, id); edits of an edit's own author only; the original stays."""
    first = await take(storage, "A1", text="um", sent_at=T0)
    assert (await shown(storage, first.message_id)).versions == ()
    edit = {**SIDE, "kind": "edit"}
    await storage.apply(
        [
            envelope("E9", **edit, text="três", sent_at=T0 + 5),
            envelope("E1", **edit, text="dois", sent_at=T0 + 5),
            envelope("E0", **edit, text=None, sent_at=T0 + 1),
            envelope("X1", **edit, text="não meu", sent_at=T0 + 9, from_me=True),
            envelope("X3", **{**edit, "target_id": "A2"}, text="outra", sent_at=T0 + 9),
        ]
    )
    found = await shown(storage, first.message_id)
    assert [item.text for item in found.versions] == ["um", None, "dois", "três"]
    assert [item.external_id for item in found.versions] == ["A1", "E0", "E1", "E9"]
    assert (found.text, found.original_text) == ("três", "um")


async def test_who_may_delete(storage: Storage) -> None:
    """The author; in groups anybody who names the author. The first deletion counts."""
    revoke = {**SIDE, "kind": "revoke", "text": None}
    own = await take(storage, "A1", from_me=True)
    await take(storage, "D1", **revoke, target_author=ACCOUNT)
    assert (await shown(storage, own.message_id)).deleted is None
    await take(storage, "D2", **revoke, from_me=True, sent_at=T0 + 9)
    await take(storage, "D3", **revoke, from_me=True, sent_at=T0 + 5)
    deleted = (await shown(storage, own.message_id)).deleted
    assert deleted is not None
    assert (deleted.by.is_self, deleted.at.timestamp()) == (True, T0 + 5)
    assert (await shown(storage, own.message_id)).text == "olá"

    there = {"chat": GROUP, **revoke, "sender": OTHER}
    theirs = await take(storage, "A1", chat=GROUP)
    await take(storage, "D4", **there)
    assert (await shown(storage, theirs.message_id)).deleted is None
    await take(storage, "D5", **there, target_author=ACCOUNT)
    assert (await shown(storage, theirs.message_id)).deleted is None
    await take(storage, "D6", **there, target_author=CUSTOMER)
    deleted = (await shown(storage, theirs.message_id)).deleted
    assert deleted is not None
    assert deleted.by.addresses == (OTHER,)


async def test_two_messages_with_one_id(storage: Storage) -> None:
    """A reaction that names the author concerns that author's message only."""
    react = {**SIDE, "kind": "reaction", "text": "👍", "from_me": True}
    theirs = await take(storage, "A1")
    own = await take(storage, "A1", from_me=True)
    await take(storage, "R1", **react, target_author=CUSTOMER)
    assert len((await shown(storage, theirs.message_id)).reactions) == 1
    assert (await shown(storage, own.message_id)).reactions == ()
    await take(storage, "R2", **react, target_author=ACCOUNT, sent_at=T0 + 1)
    assert len((await shown(storage, own.message_id)).reactions) == 1
    found = await storage.find_message("sales", CUSTOMER, "A1")
    assert found is not None
    assert found.id == theirs.message_id
    found = await storage.find_message("sales", None, "A1", author=ACCOUNT)
    assert found is not None
    assert (found.id, found.from_me) == (own.message_id, True)


async def test_reactions_and_votes_are_taken_back(storage: Storage) -> None:
    """By an empty one; odd details count as none."""
    poll = await take(storage, "A1", kind="poll", from_me=True)
    vote = {**SIDE, "kind": "poll_vote", "text": None}
    await storage.apply(
        [
            envelope("R1", **SIDE, kind="reaction", text="👍", sent_at=T0),
            envelope("V1", **vote, detail={"options": ["sim", 7]}, sent_at=T0),
            envelope("V2", **vote, detail={"options": "não"}, sent_at=T0 + 1),
            envelope("V3", **vote, detail={"sent_at_ms": "x"}, sent_at=T0 + 2),
        ]
    )
    found = await shown(storage, poll.message_id)
    assert [(item.voter.addresses, item.options) for item in found.votes] == [
        ((CUSTOMER,), ("sim",))
    ]
    assert [item.emoji for item in found.reactions] == ["👍"]
    await storage.apply(
        [
            envelope("R2", **SIDE, kind="reaction", text="", sent_at=T0 + 1),
            envelope("V4", **vote, detail={"options": []}, sent_at=T0 + 3),
        ]
    )
    found = await shown(storage, poll.message_id)
    assert (found.votes, found.reactions) == ((), ())


async def test_quotes(storage: Storage) -> None:
    """As the quoted message reads now, shortened; where it is unknown, what was told."""
    await take(storage, "A1", text="um")
    quoting = await take(storage, "A2", quoted_id="A1", quoted_author=CUSTOMER, from_me=True)
    unknown = await take(storage, "A3", quoted_id="A0", quoted_author=OTHER)
    nobody = await take(storage, "A4", quoted_id="A0")
    await take(storage, "E1", **SIDE, kind="edit", text="é" * 5000)
    quoted = (await shown(storage, quoting.message_id)).quoted
    assert quoted is not None
    assert (quoted.text, quoted.kind) == ("é" * 300, "text")
    assert quoted.author is not None
    assert quoted.author.addresses == (CUSTOMER,)
    quoted = (await shown(storage, unknown.message_id)).quoted
    assert quoted is not None
    assert (quoted.id, quoted.text, quoted.kind) == (None, None, None)
    assert quoted.author is not None
    assert (quoted.author.contact, quoted.author.shown) == (None, "+15550002222")
    quoted = (await shown(storage, nobody.message_id)).quoted
    assert quoted is not None
    assert quoted.author is None


async def test_look_ups(storage: Storage) -> None:
    """Under any address of the chat; nothing where there is nothing."""
    await storage.apply(
        [Envelope(connection="sales", facts=(AddressPair(CUSTOMER, CUSTOMER_LID, "x"),))]
    )
    stored = await take(storage, "A1", **LID, sent_at=T0 - 5)
    await take(storage, None, text="sem id", sent_at=T0 - 9)
    await take(storage, "S1", **SIDE, kind="reaction", sent_at=T0 - 99)
    for address in (CUSTOMER, CUSTOMER_LID, None):
        found = await storage.find_message("sales", address, "A1")
        assert found is not None
        assert (found.id, found.chat, found.chat_alt) == (
            stored.message_id,
            CUSTOMER,
            CUSTOMER_LID,
        )
        assert found.senders == (CUSTOMER, CUSTOMER_LID)
    for connection, chat, name in (
        ("support", None, "A1"),
        ("nobody", None, "A1"),
        ("sales", OTHER, "A1"),
        ("sales", None, "a\0"),
    ):
        assert await storage.find_message(connection, chat, name) is None
    oldest = await storage.oldest_message("sales", CUSTOMER_LID)
    assert oldest is not None
    assert oldest.external_id == "A1"
    assert await storage.oldest_message("sales", OTHER) is None


async def test_waiting_placeholders(storage: Storage) -> None:
    """What may still come, page by page."""
    failed = {"kind": "undecryptable", "text": None, "raw": b"", "reason": "no session"}
    for _ in range(2):
        await take(storage, "A1", **failed, chat_alt=CUSTOMER_LID)
    await take(storage, "G1", chat=GROUP, **failed)
    await take(storage, "B1", connection="support", **failed)
    await take(storage, "A2")
    first, second = await storage.waiting_placeholders("sales", 9)
    assert (first.external_id, first.retries, first.reason) == ("A1", 2, "no session")
    assert (first.chat, first.chat_alt, first.direct) == (CUSTOMER, CUSTOMER_LID, True)
    assert (second.chat, second.chat_alt, second.direct) == (GROUP, None, False)
    assert second.senders == (CUSTOMER, CUSTOMER_LID)
    assert len(await storage.waiting_placeholders(None, 9)) == 3
    assert await storage.waiting_placeholders("sales", 9, after=first.id) == [second]
    assert await storage.waiting_placeholders("nobody", 9) == []


async def test_a_message_is_read_anew(storage: Storage) -> None:
    """In place, once: kind, text, file and the rest; identity, time and bytes stay."""
    stored = await take(storage, "A1", kind="unknown", text=None, raw=b"\x08\x01")
    [found] = await storage.unread_kinds(0, 9)
    assert (found.id, found.raw, found.kind) == (stored.message_id, b"\x08\x01", "unknown")
    new = message(
        "other id",
        chat=OTHER,
        kind="image",
        text="legenda",
        raw=b"other",
        quoted_id="A0",
        flags=("forwarded",),
        detail={"width": 3},
        media=MediaFile(kind="image", size=5),
        sent_at=T0 - 99,
    )
    assert await storage.rewrite("sales", found.id, new, expected="unknown")
    assert not await storage.rewrite("sales", found.id, new, expected="unknown")
    detail = await shown(storage, found.id)
    assert (detail.kind, detail.text, detail.detail) == ("image", "legenda", {"width": 3})
    assert (detail.external_id, detail.chat, detail.sent_at.timestamp()) == ("A1", CUSTOMER, NOW)
    assert detail.media is not None
    assert detail.quoted is not None
    assert await storage.unread_kinds(0, 9) == []
    [again] = await storage.unread_kinds(0, 9, connection="sales", kinds=None)
    assert (again.raw, again.flags) == (b"\x08\x01", ("forwarded",))
    assert await storage.unread_kinds(0, 9, kinds=["video"]) == []
    assert await storage.unread_kinds(0, 9, connection="support", kinds=None) == []
    assert await storage.unread_kinds(again.id, 9, kinds=None) == []
    for number in BEYOND:
        assert not await storage.rewrite("sales", number, new, expected="image")


async def test_what_turns_out_to_be_a_side_message(storage: Storage) -> None:
    """It leaves the conversation's pages and shows at its target."""
    target = await take(storage, "A1")
    stored = await take(storage, "R1", kind="unknown")
    new = message("R1", **SIDE, kind="reaction", text="👍")
    assert await storage.rewrite("sales", stored.message_id or 0, new, expected="unknown")
    page = await storage.conversation_messages(stored.conversation_id or 0)
    assert [item.external_id for item in page] == ["A1"]
    assert len((await shown(storage, target.message_id)).reactions) == 1


async def test_placeholders_are_not_read_anew(storage: Storage) -> None:
    """Only their message fills them."""
    failed = await take(storage, "A1", kind="undecryptable", text=None)
    for new, expected in (
        (message("A1"), "undecryptable"),
        (message(kind="undecryptable"), "text"),
    ):
        with pytest.raises(StorageRejectedError):
            await storage.rewrite("sales", failed.message_id or 0, new, expected=expected)
    with pytest.raises(StorageRejectedError):
        await storage.rewrite("sales", failed.message_id or 0, message(kind=""), expected="text")
    assert not await storage.rewrite("sales", failed.message_id or 0, message(), expected="text")
    assert await storage.unread_kinds(0, 9, kinds=None) == []


async def test_encrypted_answers(storage: Storage) -> None:
    """Each with its target once that is there; opened ones are done."""
    batch = [
        envelope(f"X{number}", **SIDE, kind=kind, text=None)
        for number, kind in enumerate(ADDON_KINDS)
    ]
    done = [
        envelope("Y1", **SIDE, kind="poll_vote", detail={"options": []}, sent_at=T0 - 9),
        envelope("Y2", **SIDE, kind="event_response", detail={"response": "going"}),
        envelope("Y3", **SIDE, kind="reaction"),
    ]
    await storage.apply(batch + done)
    pending = await storage.pending_addons(0, 99)
    assert [item.message.kind for item in pending] == list(ADDON_KINDS)
    assert {item.target for item in pending} == {None}
    poll = await take(storage, "A1", kind="poll", from_me=True, raw=b"secret")
    await take(storage, "A1", chat=OTHER)
    [first] = await storage.pending_addons(0, 1)
    assert first.target is not None
    assert (first.target.id, first.target.raw) == (poll.message_id, b"secret")
    assert [item.message.id for item in await storage.pending_addons(first.message.id, 1)] == [
        pending[1].message.id
    ]
    vote = next(item.message for item in pending if item.message.kind == "poll_vote")
    opened = message("X3", **SIDE, kind="poll_vote", detail={"options": ["sim"]})
    assert await storage.rewrite("sales", vote.id, opened, expected="poll_vote")
    assert len(await storage.pending_addons(0, 99)) == len(ADDON_KINDS) - 1
    [counted] = (await shown(storage, poll.message_id)).votes
    assert counted.options == ("sim",)


async def test_a_placeholder_filled_by_a_side_message(storage: Storage) -> None:
    """What could not be read was a reaction: it leaves the pages, its file row comes late."""
    target = await take(storage, "A1")
    failed = await take(storage, "R1", kind="undecryptable", text=None)
    picture = await take(storage, "A2", kind="undecryptable", text=None)
    await storage.apply(
        [
            envelope("R1", **SIDE, kind="reaction", text="👍", target_author=CUSTOMER),
            envelope("A2", kind="image", media=MediaFile(kind="image"), quoted_id="A1"),
        ]
    )
    page = await storage.conversation_messages(failed.conversation_id or 0)
    assert [item.external_id for item in page] == ["A1", "A2"]
    assert len((await shown(storage, target.message_id)).reactions) == 1
    found = await shown(storage, picture.message_id)
    assert found.media is not None
    assert found.quoted is not None


async def test_failure_and_content_in_one_batch(storage: Storage) -> None:
    """The row has everything of the content."""
    failed = envelope("A1", kind="undecryptable", text=None, reason="no session")
    full = envelope("A1", kind="image", media=MediaFile(kind="image"), mentions=(OTHER,))
    first, _second = await storage.apply([failed, full])
    found = await shown(storage, first.message_id)
    assert (found.kind, found.reason, len(found.mentions)) == ("image", None, 1)
    assert found.media is not None


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((CUSTOMER, CUSTOMER_LID), "+15550001111"),
        ((CUSTOMER_LID,), "lid:900000000001"),
        ((GROUP,), GROUP),
        (("odd@s.whatsapp.net",), "odd@s.whatsapp.net"),
        ((), "?"),
    ],
)
def test_a_lid_is_no_phone_number(addresses: tuple[str, ...], expected: str) -> None:
    """It never looks like one."""
    assert shown_address(addresses) == expected


async def test_views_for_operators(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    """SQL at a prompt tells the same."""
    await postgres.apply(
        [
            envelope("A1", text="um", sender_name="Ana"),
            envelope("E1", **SIDE, kind="edit", text="dois", sent_at=T0 + 1),
            envelope("D1", **SIDE, kind="revoke", text=None, sent_at=T0 + 2),
            envelope("R1", **SIDE, kind="reaction", text="👍", from_me=True),
        ]
    )
    [row] = await cluster.sql(dsn, "SELECT * FROM inbox_messages")
    assert (row["text"], row["edited"], row["sender"], row["deleted_by"]) == (
        "dois",
        True,
        "Ana",
        "Ana",
    )
    versions = await cluster.sql(dsn, "SELECT text FROM message_versions ORDER BY version")
    assert [item["text"] for item in versions] == ["um", "dois"]
    [reaction] = await cluster.sql(dsn, "SELECT emoji FROM reactions")
    assert reaction["emoji"] == "👍"
    assert await cluster.sql(dsn, "SELECT FROM poll_votes") == []


async def test_an_older_database_is_brought_up_to_date(cluster: Cluster) -> None:
    """What the first version stored is there: names, chats, messages."""
    first = load_migrations()[0]
    dsn = await cluster.create()
    await cluster.script(dsn, first.sql)
    await cluster.script(dsn, queries()["create_migrations"])
    await cluster.sql(dsn, queries()["record_migration"], 1, first.name, first.checksum)
    await cluster.script(
        dsn,
        """
        INSERT INTO connections (name, reopen_window, reopen_from, team_reopens, created_at)
            VALUES ('sales', '1 day', 'closed_at', false, now());
        INSERT INTO counters (connection_id, arrivals, messages) VALUES (1, 1, 1);
        INSERT INTO contacts (connection_id, is_self, created_at) VALUES (1, true, now());
        INSERT INTO contacts (connection_id, name, created_at) VALUES (1, 'Ana', now());
        INSERT INTO contact_addresses VALUES (1, '15550001111@s.whatsapp.net', 2, now());
        INSERT INTO chats (connection_id, kind, address, contact_id, title, created_at)
            VALUES (1, 'direct', '15550001111@s.whatsapp.net', 2, NULL, now());
        INSERT INTO conversations (connection_id, chat_id, status, messages, opened_at,
            last_message_at) VALUES (1, 1, 'waiting', 1, now(), now());
        INSERT INTO messages (connection_id, chat_id, sender_id, external_id, conversation_id,
            arrival, kind, state, from_me, lane, remote_timestamp, sent_at, received_at, text, raw)
            VALUES (1, 1, 2, 'A1', 1, 1, 'text', 'stored', false, 'live', 0, now(), now(),
                'olá', '');
        """,
    )
    async with PostgresStorage.open(dsn, key=KEY) as storage:
        [row] = await storage.conversations(status=None, connection="sales", limit=9)
        assert (row.title, row.messages) == ("Ana", 1)
        [item] = await storage.conversation_messages(row.id)
        assert (item.text, item.sender.name) == ("olá", "Ana")
        await take(storage, "A2", sender_name="Ana B")
        [row] = await storage.conversations(status=None, connection="sales", limit=9)
        assert (row.title, row.messages) == ("Ana B", 2)
