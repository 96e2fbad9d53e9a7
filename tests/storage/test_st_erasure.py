"""Forgetting a person, on PostgreSQL: nothing of theirs is left, nothing of others' is touched."""

import base64
import functools
import json
import typing as t

import attrs
import pytest
import trio
from st_helpers import (
    ACCOUNT,
    CUSTOMER,
    CUSTOMER_LID,
    DAY,
    GROUP,
    KEY,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    take,
)

from storage.api import (
    ConversationRules,
    Envelope,
    Lane,
    MediaFile,
    RecordChange,
    RecordKind,
    Storage,
    Verdict,
    handled_key,
)
from storage.erasure import Erasure
from storage.errors import StorageRejectedError
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Delivery,
    DeliveryStatus,
    DeviceList,
    GroupChange,
    GroupMember,
    GroupSnapshot,
    HistoryChatCount,
    HistoryOffered,
    HistoryStep,
    Label,
    LabelLink,
    NameSource,
    OutboxStep,
)
from storage.postgres import PostgresStorage
from storage.queues import MediaResult, MediaState, OutboxRequest
from whatsapp.binary import codec
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.proto import wa_pb2

NUMBER = CUSTOMER.partition("@")[0]
LID = CUSTOMER_LID.partition("@")[0]
SECRET = "planted-words"
NAME = "Planted Name"
FILE = "planted-file.pdf"
BLOB = b"b" * 32
PLANTED = (NUMBER, LID, SECRET, NAME, FILE)
OTHERS = "words-of-somebody-else"


def raw_text(text: str) -> bytes:
    return wa_pb2.Message(conversation=text.encode()).SerializeToString()


def raw_quote(text: str) -> bytes:
    """A text that quotes one of the person's, and mentions them."""
    made = wa_pb2.Message()
    made.extended_text_message.text = text.encode()
    context = made.extended_text_message.context_info
    context.stanza_id, context.participant = b"P1", CUSTOMER.encode()
    context.quoted_message = raw_text(SECRET)
    context.mentioned_jid.append(CUSTOMER_LID.encode())
    return made.SerializeToString()


def person() -> list[Envelope]:
    """All that a program of this kind comes to know of a person."""
    both = {"chat_alt": CUSTOMER_LID, "sender_alt": CUSTOMER_LID, "sender_name": NAME}
    theirs: dict[str, t.Any] = {"text": SECRET, "raw": raw_text(SECRET), **both}
    group: dict[str, t.Any] = {"chat": GROUP, "sender": CUSTOMER, "sender_alt": CUSTOMER_LID}
    session = RecordChange(RecordKind.SESSION, f"{NUMBER}.0", b"s")
    records = (
        session,
        RecordChange(RecordKind.SESSION, f"{LID}_1.3", b"s"),
        RecordChange(RecordKind.IDENTITY, f"{NUMBER}.0", b"i"),
        RecordChange(RecordKind.SENDER_KEY, f"{GROUP}::{NUMBER}.0", b"k"),
    )
    facts = (
        ContactName(address=CUSTOMER, source=NameSource.SAVED, name=NAME, at=NOW - 60),
        Delivery(
            chat=CUSTOMER,
            direct=True,
            ids=("T1",),
            recipient=CUSTOMER,
            status=DeliveryStatus.READ,
            at=NOW - 50,
        ),
        GroupSnapshot(
            group=GROUP,
            at=NOW - 40,
            subject="the group",
            owner=CUSTOMER,
            members=(GroupMember(address=CUSTOMER, alt=CUSTOMER_LID), GroupMember(address=OTHER)),
        ),
        ChatSettings(chat=CUSTOMER, direct=True, at=NOW - 30, pinned=True),
        Label(id="1", name="vip", at=NOW - 30),
        LabelLink(label="1", chat=CUSTOMER, direct=True, labelled=True, at=NOW - 30),
        DeviceList(account=CUSTOMER, devices=(0, 3), at=NOW - 30),
        HistoryOffered(key="H", notification=b"n", sync_type="recent", chunk_order=1, progress=10),
        HistoryStep(
            key="H",
            state="done",
            position=1,
            total=1,
            counts=(HistoryChatCount(chat=CUSTOMER, offered=1, stored=1),),
        ),
    )
    file = MediaFile(kind="document", name=FILE, mimetype="application/pdf", size=3)
    quote = {"quoted_id": "P1", "quoted_author": CUSTOMER, "mentions": (CUSTOMER_LID,)}
    secret = handled_key(CUSTOMER, CUSTOMER, "S1")
    return [
        envelope("P1", records=records, **theirs),
        envelope("P2", kind="document", media=file, **{**theirs, "text": None}),
        envelope("P3", kind="edit", lane=Lane.SIDE, target_id="P1", **theirs),
        envelope("P4", kind="undecryptable", reason="no_session", **{**theirs, "text": None}),
        envelope("T1", chat=CUSTOMER, from_me=True, text=SECRET, raw=raw_text(SECRET)),
        envelope("G1", text=SECRET, raw=raw_text(SECRET), **group),
        envelope("O1", chat=GROUP, sender=OTHER, text=OTHERS, raw=raw_text(OTHERS)),
        envelope("R1", kind="reaction", lane=Lane.SIDE, target_id="O1", text="👍", **group),
        envelope(
            "O2",
            chat=GROUP,
            sender=OTHER,
            text=f"{OTHERS} @{NUMBER}",
            raw=raw_quote(f"{OTHERS} @{NUMBER}"),
            detail={"said": [f"to {NUMBER}", int(NUMBER)]},
            **quote,
        ),
        envelope(
            "O3",
            chat=OTHER,
            kind="contact",
            text=NAME,
            detail={"cards": [{"name": NAME, "vcard": f"TEL;waid={NUMBER}:+1 555"}]},
            raw=wa_pb2.Message(conversation=f"waid={NUMBER} {NAME}".encode()).SerializeToString(),
        ),
        envelope(
            "O4",
            chat=GROUP,
            sender=OTHER,
            kind="reaction",
            lane=Lane.SIDE,
            target_id="G1",
            target_author=CUSTOMER,
            text="👍",
        ),
        envelope("B1", chat=OTHER, text=OTHERS, raw=raw_text(OTHERS), sender_name="Bia"),
        Envelope(connection="sales", handled=secret, facts=facts),
    ]


async def plant(storage: PostgresStorage) -> None:
    """The person on one connection, with what does not come in batches."""
    await storage.apply(person())
    stored = MediaResult(state=MediaState.STORED, blob_sha256=BLOB, blob_size=3)
    for job in await storage.claim_media(5):
        assert await storage.finish_media(job.connection, job.message_id, stored)
    node = Node("message", {"from": Jid.parse(CUSTOMER), "id": "Q1"}, b"sealed")
    poison = attrs.evolve(
        envelope("Q1", text=SECRET, raw=raw_text(SECRET)), stanza=codec.encode(node)
    )
    await storage.quarantine(poison, "refused")
    unread = attrs.evolve(poison, message=None)
    await storage.quarantine(attrs.evolve(unread, stanza=codec.encode(node)), "makes no sense")
    request = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": SECRET})
    row, _new = await storage.enqueue("sales", f"to-{NUMBER}", request, external_id="X1")
    await storage.outbox_set_payload("sales", row.id, raw_text(SECRET))
    said = OutboxRequest(
        kind="text", chat=OTHER, body={"text": f"ask {NUMBER}", "mentions": [CUSTOMER]}
    )
    other, _new = await storage.enqueue("sales", "k2", said, external_id="X2")
    step = OutboxStep(id=other.id, state="failed", at=NOW)
    await storage.apply([Envelope(connection="sales", facts=(step,))])
    while (await storage.index_messages(100)).behind:
        pass


async def forget(storage: PostgresStorage, address: str = CUSTOMER, **options: t.Any) -> Erasure:
    """All of it at once, files included."""
    row = await storage.begin_erasure(
        address=address, connection=options.pop("connection", None), by="dpo", version="1"
    )
    assert row is not None
    return await finish(storage, row.id)


async def finish(storage: PostgresStorage, number: int) -> Erasure:
    for _ in range(500):
        row = await storage.continue_erasure(number, files_gone=True)
        if row.finished_at is not None:
            while (await storage.index_messages(100)).behind:
                pass
            return row
    raise AssertionError("it never ends")


TABLES = """
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY 1
"""


async def dump(cluster: Cluster, dsn: str) -> dict[str, list[str]]:
    """Every row of every table as text, bytes in hexadecimal."""
    found = {}
    for row in await cluster.sql(dsn, TABLES):
        rows = await cluster.sql(dsn, f'SELECT to_jsonb(x)::text AS row FROM "{row["name"]}" x')
        found[row["name"]] = sorted(each["row"] for each in rows)
    return found


def forms(planted: str) -> set[str]:
    """What a text looks like in a row: plain, in base64 at any offset, in hexadecimal."""
    data = planted.encode()
    encoded = {
        base64.b64encode(b"x" * offset + data)[4 if offset else 0 : -4].decode()
        for offset in range(3)
    }
    words = {planted.lower(), *planted.lower().replace("-", " ").split()[:1]}
    return {planted, data.hex(), json.dumps(planted)[1:-1], *encoded, *words}


def left(dumped: dict[str, list[str]], planted: t.Iterable[str] = PLANTED) -> list[tuple[str, str]]:
    """Where a planted text still is."""
    return [
        (table, form)
        for table, rows in dumped.items()
        for row in rows
        for text in planted
        for form in forms(text)
        if form in row or form in row.lower()
    ]


async def test_what_is_planted_is_found(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """The search for leftovers finds everything, or the next test would prove nothing."""
    await plant(postgres)
    tables = {table for table, _form in left(await dump(cluster, dsn))}
    assert tables >= {
        "messages",
        "contact_addresses",
        "contact_names",
        "chats",
        "media",
        "receipts",
        "handled_stanzas",
        "group_members",
        "groups",
        "chat_settings",
        "label_links",
        "history_chats",
        "device_lists",
        "signal_sessions",
        "signal_identities",
        "signal_sender_keys",
        "outbox",
        "quarantine",
        "events",
        "search_documents",
    }


async def test_nothing_of_the_person_is_left(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """In no table, in no form."""
    await plant(postgres)
    row = await forget(postgres)
    assert left(await dump(cluster, dsn)) == []
    assert row.counts["addresses"] == 2
    assert row.counts["messages"] == 7
    assert row.counts["naming"] == 3
    assert row.counts["files"] == 1
    assert row.counts["quarantine"] == 2
    assert row.phase == "done"
    assert await postgres.erased_blobs(5) == [BLOB]
    assert [each.id for each in await postgres.erasures()] == [row.id]


async def test_nothing_of_others_is_changed(cluster: Cluster, dsn: str, clock: Clock) -> None:
    """A database in which the person never was, and one in which they were forgotten, say the
    same of everybody else."""

    async def others(dsn: str) -> dict[str, t.Any]:
        select = """
            SELECT c.name AS connection, k.kind AS chat_kind, m.external_id, m.kind, m.text, m.raw,
                m.sent_at, m.lane, contact_name(m.connection_id, m.sender_id) AS sender
            FROM messages m JOIN connections c ON c.id = m.connection_id
            JOIN chats k ON k.connection_id = m.connection_id AND k.id = m.chat_id
            WHERE m.external_id IN ('O1', 'B1') ORDER BY m.external_id"""
        names = "SELECT address, source, name, at FROM contact_names ORDER BY 1, 2"
        search = """SELECT m.external_id, d.words::text FROM search_documents d
            JOIN messages m ON m.id = d.message_id WHERE m.external_id IN ('O1', 'B1') ORDER BY 1"""
        return {
            "messages": [tuple(row) for row in await cluster.sql(dsn, select)],
            "names": [tuple(row) for row in await cluster.sql(dsn, names)],
            "search": [tuple(row) for row in await cluster.sql(dsn, search)],
            "groups": [
                tuple(row)
                for row in await cluster.sql(
                    dsn, "SELECT address, subject, announce FROM groups ORDER BY 1"
                )
            ],
            "labels": [tuple(row) for row in await cluster.sql(dsn, "SELECT * FROM labels")],
        }

    async def fill(dsn: str, *, forgotten: bool) -> None:
        async with PostgresStorage.open(dsn, key=KEY, clock=clock) as storage:
            for name in ("sales", "support"):
                await storage.ensure_connection(name, ConversationRules())
            if forgotten:
                await plant(storage)
                await forget(storage)
                return
            kept = [
                each
                for each in person()
                if each.message is not None and each.message.external_id in ("O1", "B1")
            ]
            subject = GroupSnapshot(group=GROUP, at=NOW - 40, subject="the group")
            label = Label(id="1", name="vip", at=NOW - 30)
            await storage.apply([*kept, Envelope(connection="sales", facts=(subject, label))])
            while (await storage.index_messages(100)).behind:
                pass

    without = await cluster.create("migrated")
    await fill(dsn, forgotten=True)
    await fill(without, forgotten=False)
    assert await others(dsn) == await others(without)


async def test_what_others_said_stays(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """A message that quoted the person keeps its own text, without quote and number."""
    await plant(postgres)
    await forget(postgres)
    [row] = await cluster.sql(dsn, "SELECT * FROM messages WHERE external_id = 'O2'")
    assert row["text"] == f"{OTHERS} @removed"
    assert row["quoted_id"] is row["quoted_author"] is row["mentions"] is row["erased"] is None
    assert json.loads(row["detail"]) == {"said": ["to removed", None]}
    shown = wa_pb2.Message.FromString(row["raw"])
    assert shown.extended_text_message.text == f"{OTHERS} @removed".encode()
    assert not shown.extended_text_message.context_info.quoted_message
    [card] = await cluster.sql(dsn, "SELECT * FROM messages WHERE external_id = 'O3'")
    assert (card["erased"], card["detail"], card["raw"]) == ("forgotten", None, b"")


AGAIN = [
    ("live", {}),
    ("history", {"lane": Lane.HISTORY}),
    ("undecryptable", {"kind": "undecryptable", "text": None, "reason": "no_session"}),
    ("edit", {"kind": "edit", "lane": Lane.SIDE, "target_id": "P1"}),
    ("under the other address", {"chat": CUSTOMER_LID}),
    ("undated history", {"lane": Lane.HISTORY, "sent_at": 0}),
    ("from the team", {"from_me": True}),
    ("in a group", {"chat": GROUP, "sender": CUSTOMER_LID}),
    ("under a new address", {"chat": "900000000077@lid", "chat_alt": CUSTOMER}),
]


@pytest.mark.parametrize("fields", [each for _name, each in AGAIN], ids=[n for n, _ in AGAIN])
async def test_redelivery_does_not_bring_it_back(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, clock: Clock, fields: dict[str, t.Any]
) -> None:
    """It is answered, its keys commit, and it is counted; nothing else is stored."""
    await plant(postgres)
    await forget(postgres)
    before = await dump(cluster, dsn)
    clock.now += DAY
    record = RecordChange(RecordKind.PREKEY, "7", b"k")
    told: dict[str, t.Any] = {"text": SECRET, "raw": raw_text(SECRET), "sender_name": NAME}
    for external_id in ("P1", "P4", "NEW"):
        outcome = await take(postgres, external_id, records=(record,), **{**told, **fields})
        assert outcome.verdict is Verdict.FORGOTTEN
    after = await dump(cluster, dsn)
    assert left(after) == []
    changed = {table for table in after if after[table] != before[table]}
    assert changed <= {"counters", "signal_prekeys", "tombstones"}
    [counter] = await cluster.sql(
        dsn, "SELECT forgotten FROM counters ORDER BY connection_id LIMIT 1"
    )
    assert counter["forgotten"] == 3
    assert await postgres.load_records("sales", RecordKind.PREKEY, ["7"]) == {"7": b"k"}


async def test_facts_do_not_bring_it_back(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, clock: Clock
) -> None:
    """Names, receipts, pairs, members, settings and devices of before."""
    await plant(postgres)
    await forget(postgres)
    clock.now += DAY
    again = [each for each in person() if each.message is None]
    late = (
        AddressPair(CUSTOMER, CUSTOMER_LID, "usync"),
        GroupSnapshot(
            group=GROUP, at=NOW + DAY, subject="x", members=(GroupMember(address=CUSTOMER),)
        ),
        GroupChange(group=GROUP, at=NOW + DAY, left=(CUSTOMER,)),
        Delivery(
            chat=GROUP,
            direct=False,
            ids=("O9",),
            recipient=CUSTOMER_LID,
            status=DeliveryStatus.READ,
            at=NOW + DAY,
        ),
    )
    await postgres.apply([*again, Envelope(connection="sales", facts=late)])
    poison = envelope("Q1", text=SECRET, raw=raw_text(SECRET))
    assert (await postgres.quarantine(poison, "refused")).verdict is Verdict.FORGOTTEN
    node = Node("message", {"from": Jid.parse(CUSTOMER), "id": "Q7", "t": str(int(NOW))}, b"x")
    unread = Envelope(connection="sales", stanza=codec.encode(node))
    assert (await postgres.quarantine(unread, "no sense")).verdict is Verdict.FORGOTTEN
    late = attrs.evolve(node, attrs={**node.attrs, "t": str(int(NOW) + 60)})
    unread = attrs.evolve(unread, stanza=codec.encode(late))
    assert (await postgres.quarantine(unread, "no sense")).verdict is Verdict.QUARANTINED
    assert await cluster.sql(dsn, "DELETE FROM quarantine RETURNING id") != []
    assert left(await dump(cluster, dsn)) == []


async def test_who_writes_again_is_a_new_contact(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, clock: Clock
) -> None:
    """With a conversation of their own; the old ones are nobody's. It holds over a restart."""
    await plant(postgres)
    await forget(postgres)
    clock.now += DAY
    late = {"sent_at": int(clock.now), "chat_alt": CUSTOMER_LID, "sender_alt": CUSTOMER_LID}
    outcome = await take(postgres, "N1", sender_name="New Name", **late)
    assert (outcome.verdict, outcome.opened) == (Verdict.STORED, True)
    found = await postgres.contact("sales", CUSTOMER_LID)
    assert found is not None
    assert found.name == "New Name"
    assert [each.id for each in await postgres.contacts("sales", query=NUMBER)] == [found.id]
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as other:
        assert (await take(other, "P1", text=SECRET)).verdict is Verdict.FORGOTTEN
        assert (await take(other, "N2", **late)).verdict is Verdict.STORED
        pair = ChatSettings(chat=CUSTOMER, direct=True, at=clock.now, pinned=True)
        await other.apply([Envelope(connection="sales", facts=(pair,))])
    assert len(await cluster.sql(dsn, "SELECT FROM chat_settings")) == 1


@pytest.mark.parametrize("steps", [1, 2, 4, 6, 9, 14, 20, 28, 36])
async def test_killed_at_any_step(cluster: Cluster, dsn: str, clock: Clock, steps: int) -> None:
    """The daemon that comes next finishes it, to the same end."""
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as storage:
        for name in ("sales", "support"):
            await storage.ensure_connection(name, ConversationRules())
        await plant(storage)
        row = await storage.begin_erasure(address=CUSTOMER, connection=None, by="x", version="1")
        assert row is not None
        for _ in range(steps):
            await storage.continue_erasure(row.id)
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as storage:
        assert (await take(storage, "P9", text=SECRET)).verdict is Verdict.FORGOTTEN
        for number in await storage.unfinished_erasures():
            await finish(storage, number)
        done = await storage.erasure(row.id)
        assert done is not None
        assert (done.counts["messages"], done.counts["naming"]) == (7, 3)
    assert left(await dump(cluster, dsn)) == []


async def test_what_changes_while_it_is_redacted(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule of retention strips it between the reading and the writing: nothing comes back, and
    those that nobody touched lose their names all the same."""
    await plant(postgres)
    fetch, stripped = postgres._fetch, False

    async def strip_first(name: str, *arguments: t.Any) -> list[t.Any]:
        nonlocal stripped
        if name == "redact_messages" and not stripped:
            stripped = True
            await cluster.sql(
                dsn,
                "SELECT erase_messages(m.connection_id, ARRAY[m.id], 'retention', now())"
                " FROM messages m WHERE m.external_id = 'O2'",
            )
        return await fetch(name, *arguments)

    monkeypatch.setattr(postgres, "_fetch", strip_first)
    row = await forget(postgres)
    assert stripped
    found = await cluster.sql(
        dsn, "SELECT text, raw, erased, quoted_id FROM messages WHERE external_id = 'O2'"
    )
    assert [tuple(each) for each in found] == [(None, b"", "retention", None)]
    assert left(await dump(cluster, dsn)) == []
    assert row.counts["naming"] == 3


async def test_of_a_merge_nothing_can_be_undone(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """What a merge kept of the person goes, too, and undoing it is over."""
    await take(postgres, "P1", text=SECRET, raw=raw_text(SECRET))
    await take(postgres, "P1", chat=CUSTOMER_LID, text=SECRET, raw=raw_text(SECRET))
    pair = AddressPair(CUSTOMER, CUSTOMER_LID, "usync")
    await postgres.apply([Envelope(connection="sales", facts=(pair,))])
    [merge] = await postgres.merges("sales")
    assert merge.duplicates == 1
    assert "contact_merge_rows" in {table for table, _form in left(await dump(cluster, dsn))}
    await forget(postgres, CUSTOMER_LID)
    assert left(await dump(cluster, dsn)) == []
    assert await postgres.unmerge(merge.id) is None


async def test_only_one_connection(cluster: Cluster, dsn: str, postgres: PostgresStorage) -> None:
    """The others keep the person."""
    await postgres.apply([attrs.evolve(each, connection="support") for each in person()])
    await plant(postgres)
    await forget(postgres, connection="sales")
    assert await postgres.contact("sales", CUSTOMER) is None
    kept = await postgres.contact("support", CUSTOMER)
    assert kept is not None
    assert kept.name == NAME
    outcome = await take(postgres, "P77", connection="support", text=SECRET)
    assert outcome.verdict is Verdict.STORED


async def test_who_is_unknown_or_the_account_itself(postgres: PostgresStorage) -> None:
    """Nothing is begun."""
    await take(postgres, "T1", from_me=True)
    begin = functools.partial(postgres.begin_erasure, connection=None, by="x", version="1")
    assert await begin(address="nobody@s.whatsapp.net") is None
    assert await begin(contact=2**70) is None
    with pytest.raises(StorageRejectedError, match="account of a connection"):
        await begin(address=ACCOUNT)
    assert await postgres.erasures() == []


async def test_an_account_that_is_no_contact_yet(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """Is nobody to forget, though it is a member of a group; a group is nobody, either."""
    members = (GroupMember(address=ACCOUNT), GroupMember(address=OTHER))
    group = GroupSnapshot(group=GROUP, at=NOW, subject="x", members=members)
    await postgres.apply([Envelope(connection="sales", facts=(group,))])
    await cluster.sql(dsn, "DELETE FROM contact_addresses")
    own = ACCOUNT.replace("@", ":7@")
    await cluster.sql(
        dsn,
        "INSERT INTO device_identity (connection_id, jid, sealed, updated_at)"
        f" SELECT id, '{own}', 'x', now() FROM connections WHERE name = 'sales'",
    )
    begin = functools.partial(postgres.begin_erasure, connection=None, by="x", version="1")
    with pytest.raises(StorageRejectedError, match="account of a connection"):
        await begin(address=ACCOUNT)
    assert await begin(address=GROUP) is None
    assert await postgres.erasures() == []


async def test_quarantine_keeps_no_session_either(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, clock: Clock
) -> None:
    """Somebody else's message that is refused does not bring a session with the person back; one
    of theirs, of later, shows for good that they are back."""
    await plant(postgres)
    await forget(postgres)
    clock.now += DAY
    sessions = tuple(each for item in person() for each in item.records)
    keys = [each.key for each in sessions if each.kind is RecordKind.SESSION]
    poison = attrs.evolve(envelope("Q8", chat=OTHER), records=sessions)
    assert (await postgres.quarantine(poison, "refused")).verdict is Verdict.QUARANTINED
    assert await postgres.load_records("sales", RecordKind.SESSION, keys) == {}
    back = attrs.evolve(envelope("Q9", sent_at=int(clock.now)), records=sessions)
    assert (await postgres.quarantine(back, "refused")).verdict is Verdict.QUARANTINED
    assert len(await postgres.load_records("sales", RecordKind.SESSION, keys)) >= 1
    assert await cluster.sql(dsn, "SELECT FROM tombstones WHERE returned_at IS NOT NULL") != []


async def test_who_is_only_a_member_of_a_group(
    cluster: Cluster, dsn: str, postgres: PostgresStorage
) -> None:
    """Can be forgotten as well."""
    member = GroupSnapshot(group=GROUP, at=NOW, subject="x", members=(GroupMember(address=OTHER),))
    await postgres.apply([Envelope(connection="sales", facts=(member,))])
    assert (await forget(postgres, OTHER)).counts["memberships"] == 1
    assert left(await dump(cluster, dsn), [OTHER.partition("@")[0]]) == []


async def test_a_batch_that_is_refused_leaves_the_tombstones_right(
    postgres: PostgresStorage, clock: Clock
) -> None:
    """What it told of a person's return is not so; the next batch tells it again."""
    await plant(postgres)
    await forget(postgres)
    clock.now += DAY
    back = envelope("N1", sent_at=int(clock.now))
    with pytest.raises(StorageRejectedError):
        await postgres.apply([back, envelope("N2", connection="nowhere")])
    pair = Envelope(connection="sales", facts=(AddressPair(CUSTOMER, CUSTOMER_LID, "usync"),))
    await postgres.apply([pair])
    assert await postgres.contact("sales", CUSTOMER) is None
    [outcome] = await postgres.apply([back])
    assert outcome.verdict is Verdict.STORED
    await postgres.apply([pair])
    assert await postgres.contact("sales", CUSTOMER_LID) is not None


@pytest.mark.parametrize("seed", range(4))
async def test_while_messages_come(
    cluster: Cluster, dsn: str, postgres: PostgresStorage, seed: int
) -> None:
    """Whatever is committed around the order: what came before it is erased, what came after it
    is dropped, and nothing is in between."""
    await plant(postgres)
    verdicts: list[Verdict] = []

    async def deliver(task: int) -> None:
        for number in range(6):
            for _ in range((seed + task) % 3):
                await trio.lowlevel.checkpoint()
            outcome = await take(
                postgres, f"W{task}-{number}", text=SECRET, raw=raw_text(SECRET), sender_name=NAME
            )
            verdicts.append(outcome.verdict)

    async with trio.open_nursery() as nursery:
        for task in range(3):
            nursery.start_soon(deliver, task)
        for _ in range(seed):
            await postgres.ping()
        nursery.start_soon(forget, postgres)
    assert set(verdicts) <= {Verdict.STORED, Verdict.FORGOTTEN}
    assert left(await dump(cluster, dsn)) == []


async def test_the_storages_agree(storage: Storage) -> None:
    """On who is forgotten, what is dropped, and who has come back."""
    await take(storage, "P1", text=SECRET, chat_alt=CUSTOMER_LID, sender_alt=CUSTOMER_LID)
    await take(storage, "B1", chat=OTHER, text=OTHERS)
    subject = await storage.erasure_subject(address=CUSTOMER_LID, connection=None)
    assert subject is not None
    assert (subject.addresses, subject.known_on, subject.messages) == (
        (CUSTOMER, CUSTOMER_LID),
        ("sales",),
        1,
    )
    row = await storage.begin_erasure(
        contact=(await storage.contacts("sales"))[0].id, connection=None, by="x", version="1"
    )
    assert row is not None
    while row.finished_at is None:
        row = await storage.continue_erasure(row.id, files_gone=True)
    assert row.counts["messages"] == 1
    for chat in (CUSTOMER, CUSTOMER_LID):
        assert (await take(storage, "P2", chat=chat)).verdict is Verdict.FORGOTTEN
        assert await storage.is_forgotten("sales", [chat], NOW)
        assert not await storage.is_forgotten("sales", [chat], NOW + 1)
    assert not await storage.is_forgotten("sales", [OTHER], NOW)
    assert (await take(storage, "B2", chat=OTHER)).verdict is Verdict.STORED
    texts = [each.text for each in await storage.list_messages("sales", after=0, limit=9)]
    assert texts == [None, OTHERS, "olá"]
    outcome = await take(storage, "P3", sent_at=int(NOW) + 60)
    assert (outcome.verdict, outcome.opened) == (Verdict.STORED, True)
    people = await storage.contacts("sales")
    assert [each.addresses for each in people] == [(OTHER,), (CUSTOMER,)]
    assert await storage.unfinished_erasures() == []
    with pytest.raises(StorageRejectedError, match="no erasure 99"):
        await storage.continue_erasure(99)
