"""What is known besides messages: names, groups, settings, labels, receipts, verdicts."""

import math
import typing as t

import attrs
import pytest
from st_helpers import (
    ACCOUNT,
    CUSTOMER,
    CUSTOMER_LID,
    DAY,
    GROUP,
    HOUR,
    NOW,
    OTHER,
    Cluster,
    envelope,
    take,
)

from storage.api import Envelope, RecordChange, RecordKind, Storage, Verdict
from storage.errors import StorageRejectedError
from storage.facts import (
    AddressPair,
    AppStateStep,
    ChatSettings,
    ContactName,
    Delivery,
    DeliveryStatus,
    DeviceList,
    Fact,
    GroupChange,
    GroupMember,
    GroupSnapshot,
    HistoryOffered,
    HistoryStep,
    Label,
    LabelLink,
    NameSource,
    OutboxStep,
    PlaceholderVerdict,
)
from storage.inbox import ChatDetail, GroupDetail, MessageDetail
from storage.postgres import PostgresStorage

FAILED = {"kind": "undecryptable", "text": None, "raw": b""}


async def tell(storage: Storage, *facts: Fact) -> None:
    """Apply facts that come without a message."""
    [outcome] = await storage.apply([Envelope(connection="sales", facts=facts)])
    assert outcome.verdict is Verdict.RECORDED


async def name_of(storage: Storage, address: str = CUSTOMER) -> str | None:
    contact = await storage.contact("sales", address)
    return None if contact is None else contact.name


async def group(storage: Storage) -> GroupDetail:
    found = await storage.group("sales", GROUP)
    assert found is not None
    return found


async def chat(storage: Storage, address: str = CUSTOMER) -> ChatDetail:
    found = await storage.chat("sales", address)
    assert found is not None
    return found


async def shown(storage: Storage, message_id: int | None) -> MessageDetail:
    found = await storage.message(message_id or 0)
    assert found is not None
    return found


def named(name: str, source: NameSource, at: float = NOW, address: str = CUSTOMER) -> ContactName:
    return ContactName(address=address, source=source, name=name, at=at)


async def test_the_best_name_is_shown(storage: Storage) -> None:
    """saved, business, push, username; an empty one gives way to the next."""
    assert await storage.contact("sales", CUSTOMER) is None
    await tell(storage, named("ana.h", NameSource.USERNAME))
    assert await name_of(storage) == "ana.h"
    await take(storage, "A1", sender_name="Ana")
    assert await name_of(storage) == "Ana"
    await tell(storage, named("Ana Ltda", NameSource.BUSINESS), named("Aninha", NameSource.SAVED))
    assert await name_of(storage) == "Aninha"
    [row] = await storage.conversations(status=None, connection="sales", limit=9)
    assert row.title == "Aninha"
    await tell(storage, named("", NameSource.SAVED, NOW + 1))
    assert await name_of(storage) == "Ana Ltda"
    contact = await storage.contact("sales", CUSTOMER)
    assert contact is not None
    assert contact.names == {"business": "Ana Ltda", "push": "Ana", "username": "ana.h"}


async def test_newer_names_win_in_any_order(storage: Storage) -> None:
    """An undated one never replaces a dated one."""
    await tell(storage, named("novo", NameSource.SAVED, NOW))
    await tell(
        storage,
        named("velho", NameSource.SAVED, NOW - DAY),
        named("sem data", NameSource.SAVED, 0),
    )
    assert await name_of(storage) == "novo"
    await tell(storage, named("sem data", NameSource.SAVED, 0, OTHER))
    await tell(storage, named("com data", NameSource.SAVED, NOW - DAY, OTHER))
    assert await name_of(storage, OTHER) == "com data"


async def test_names_follow_their_person(storage: Storage) -> None:
    """Of two addresses of one person the newer name counts."""
    await tell(
        storage,
        named("número", NameSource.PUSH, NOW - 5),
        named("lid", NameSource.PUSH, NOW, CUSTOMER_LID),
        AddressPair(CUSTOMER, CUSTOMER_LID, "history"),
    )
    assert await name_of(storage) == "lid"
    assert await name_of(storage, CUSTOMER_LID) == "lid"
    assert len(await storage.contacts("sales")) == 1


async def test_contacts_by_page_and_query(storage: Storage) -> None:
    """By id; a part of a name or of an address, whatever its case."""
    people = [f"1555000{number:04}@s.whatsapp.net" for number in range(5)]
    await tell(
        storage,
        *(
            named(f"Érica {number}", NameSource.SAVED, address=address)
            for number, address in enumerate(people)
        ),
    )
    first = await storage.contacts("sales", limit=2)
    rest = await storage.contacts("sales", after=first[-1].id, limit=9)
    assert [row.addresses[0] for row in (*first, *rest)] == people
    assert [row.name for row in await storage.contacts("sales", query="érica 3")] == ["Érica 3"]
    assert [row.name for row in await storage.contacts(None, query="0000004@S")] == ["Érica 4"]
    assert await storage.contacts("sales", query="%") == []
    assert await storage.contacts("sales", limit=0) == []
    assert await storage.contacts("support") == []


def snapshot(at: float, *members: str, **fields: t.Any) -> GroupSnapshot:
    return GroupSnapshot(
        group=GROUP,
        at=at,
        **{"subject": "Clientes", **fields},
        members=tuple(GroupMember(address=address) for address in members),
    )


async def members(storage: Storage) -> dict[str, str]:
    return {row.person.addresses[0]: row.role for row in (await group(storage)).members}


async def test_a_group(storage: Storage) -> None:
    """All of it as last heard, and its title on the conversation."""
    await take(storage, "A1", chat=GROUP)
    await tell(
        storage,
        snapshot(
            NOW, CUSTOMER, OTHER, description="d", owner=OTHER, created_at=1_600_000_000,
            announce=True, expiration=86_400,
        ),
    )  # fmt: skip
    found = await group(storage)
    assert (found.subject, found.description, found.announce, found.locked, found.expiration) == (
        "Clientes",
        "d",
        True,
        False,
        86_400,
    )
    assert found.owner is not None
    assert found.owner.shown == "+15550002222"
    assert found.created_at is not None
    assert await members(storage) == {CUSTOMER: "member", OTHER: "member"}
    [row] = await storage.conversations(status=None, connection="sales", limit=9)
    assert row.title == "Clientes"
    [listed] = await storage.groups("sales")
    assert (listed.address, listed.members) == (GROUP, ())
    assert await storage.groups("sales", after=GROUP) == []
    assert await storage.group("sales", "nobody@g.us") is None
    detail = await chat(storage, GROUP)
    assert (detail.title, detail.direct) == ("Clientes", False)


async def test_changes_of_a_group(storage: Storage) -> None:
    """What came before the newest list changes no members; each part by its own time."""
    await tell(storage, snapshot(NOW, CUSTOMER, OTHER))
    await tell(
        storage,
        GroupChange(group=GROUP, at=NOW - 1, subject="Antigo", left=(CUSTOMER,)),
        GroupChange(group=GROUP, at=NOW + 5, left=(OTHER,)),
        GroupChange(group=GROUP, at=NOW + 9, joined=(GroupMember(address=CUSTOMER, role="admin"),)),
        GroupChange(group=GROUP, at=NOW + 2, joined=(GroupMember(address=ACCOUNT),)),
    )
    assert await members(storage) == {CUSTOMER: "admin", ACCOUNT: "member"}
    assert (await group(storage)).subject == "Clientes"
    await tell(storage, snapshot(NOW + 4, CUSTOMER, OTHER, subject="Novo"))
    assert await members(storage) == {CUSTOMER: "admin"}
    assert (await group(storage)).subject == "Novo"
    await tell(storage, GroupChange(group=GROUP, at=NOW + 6, subject="Último", locked=True))
    found = await group(storage)
    assert (found.subject, found.locked) == ("Último", True)


async def test_a_member_under_two_addresses(storage: Storage) -> None:
    """One person, whichever address came and left."""
    await tell(storage, snapshot(NOW, CUSTOMER_LID))
    await tell(
        storage,
        GroupChange(
            group=GROUP,
            at=NOW + 5,
            joined=(GroupMember(address=CUSTOMER, alt=CUSTOMER_LID, role="admin"),),
        ),
    )
    assert await members(storage) == {CUSTOMER: "admin"}
    await tell(storage, GroupChange(group=GROUP, at=NOW + 6, left=(CUSTOMER_LID,)))
    assert await members(storage) == {}


async def test_settings_of_a_chat(storage: Storage) -> None:
    """Each setting by its own time, under any address; before the chat is known, too."""
    await tell(
        storage,
        ChatSettings(chat=CUSTOMER_LID, direct=True, at=NOW, archived=True, muted_until=NOW + HOUR),
        ChatSettings(chat=CUSTOMER, direct=True, at=NOW - 9, archived=False, pinned=True),
        ChatSettings(chat=CUSTOMER, direct=True, at=NOW, read_until=NOW - 60, expiration=7),
    )
    assert await storage.chat("sales", CUSTOMER) is None
    await take(storage, "A1", chat_alt=CUSTOMER_LID, sender_alt=CUSTOMER_LID)
    found = await chat(storage, CUSTOMER_LID)
    assert (found.archived, found.pinned, found.muted, found.unread) == (True, True, True, None)
    assert found.muted_until is not None
    assert found.muted_until.timestamp() == NOW + HOUR
    assert found.read_until is not None
    assert found.read_until.timestamp() == NOW - 60
    assert found.expiration == 7
    await tell(
        storage, ChatSettings(chat=CUSTOMER, direct=True, at=NOW + 1, muted_until=0, unread=True)
    )
    found = await chat(storage)
    assert (found.muted, found.muted_until, found.unread) == (False, None, True)
    await tell(storage, ChatSettings(chat=CUSTOMER, direct=True, at=NOW + 2, muted_until=-1))
    found = await chat(storage)
    assert (found.muted, found.muted_until) == (True, None)


async def test_labels(storage: Storage) -> None:
    """On chats, as last heard; deleted ones show nowhere."""
    await take(storage, "A1")
    link = LabelLink(label="2", chat=CUSTOMER, direct=True, labelled=True, at=NOW)
    await tell(
        storage,
        link,
        Label(id="2", name="VIP", color=1, at=NOW),
        Label(id="1", name="Novo", at=NOW),
        attrs.evolve(link, label="1", labelled=False, at=NOW - 1),
        attrs.evolve(link, label="1", message_id="A1"),
    )
    assert [row.name for row in await storage.labels("sales")] == ["Novo", "VIP"]
    assert [row.name for row in (await chat(storage)).labels] == ["VIP"]
    await tell(storage, Label(id="2", name="VIP", deleted=True, at=NOW + 1))
    await tell(storage, Label(id="2", name="VIP", at=NOW - 1))
    assert [row.name for row in await storage.labels("sales")] == ["Novo"]
    assert (await chat(storage)).labels == ()


def delivered(status: DeliveryStatus, at: float, **fields: t.Any) -> Delivery:
    return Delivery(
        **{
            "chat": CUSTOMER,
            "direct": True,
            "ids": ("T1", "T2"),
            "recipient": CUSTOMER,
            "status": status,
            "at": at,
            **fields,
        }
    )


async def test_receipts(storage: Storage) -> None:
    """Before or after the message, the earliest time of each status; not those of ourselves."""
    await tell(storage, delivered(DeliveryStatus.READ, NOW + 9))
    own = await take(storage, "T1", from_me=True)
    unread = await take(storage, "T3", from_me=True)
    assert (await shown(storage, own.message_id)).status == "read"
    assert (await shown(storage, unread.message_id)).status == "sent"
    await tell(
        storage,
        delivered(DeliveryStatus.DELIVERED, NOW + 5),
        delivered(DeliveryStatus.DELIVERED, NOW + 7),
        delivered(DeliveryStatus.PLAYED, NOW + 8, recipient=ACCOUNT),
        delivered(DeliveryStatus.PLAYED, NOW + 8, chat=OTHER),
        delivered(
            DeliveryStatus.READ,
            NOW + 6,
            chat=CUSTOMER_LID,
            chat_alt=CUSTOMER,
            recipient=CUSTOMER_LID,
            recipient_alt=CUSTOMER,
        ),
    )
    found = await shown(storage, own.message_id)
    [receipt] = found.receipts
    times = (receipt.delivered_at, receipt.read_at, receipt.played_at)
    assert [at and at.timestamp() for at in times] == [NOW + 5, NOW + 6, None]
    assert found.status == "read"
    theirs = await take(storage, "T2")
    assert (await shown(storage, theirs.message_id)).status is None
    assert (await shown(storage, theirs.message_id)).receipts == ()


async def test_receipts_in_a_group(storage: Storage) -> None:
    """One per recipient."""
    own = await take(storage, "T1", chat=GROUP, from_me=True)
    there = {"chat": GROUP, "direct": False}
    await tell(
        storage,
        delivered(DeliveryStatus.DELIVERED, NOW, **there),
        delivered(DeliveryStatus.READ, NOW, **there, recipient=OTHER),
    )
    found = await shown(storage, own.message_id)
    assert [row.recipient.addresses for row in found.receipts] == [(CUSTOMER,), (OTHER,)]
    assert found.status == "read"


async def test_a_verdict_on_a_placeholder(storage: Storage) -> None:
    """It is on the row until the message comes after all; it never marks a complete one."""
    failed = await take(storage, "A1", **FAILED, reason="no session")
    await take(storage, "A2")
    verdict = PlaceholderVerdict(
        chat=CUSTOMER, direct=True, sender=CUSTOMER, external_id="A1", verdict="gave_up"
    )
    await tell(storage, verdict, attrs.evolve(verdict, external_id="A2"))
    found = await shown(storage, failed.message_id)
    assert (found.verdict, found.reason, found.state) == ("gave_up", "no session", "undecryptable")
    assert await storage.waiting_placeholders("sales", 9) == []
    await take(storage, "A1", text="enfim")
    found = await shown(storage, failed.message_id)
    assert (found.verdict, found.reason, found.text) == (None, None, "enfim")
    await tell(storage, verdict)
    assert (await shown(storage, failed.message_id)).verdict is None


async def test_facts_with_a_message(storage: Storage) -> None:
    """They commit together; the message has its own verdict."""
    item = attrs.evolve(envelope("A1"), facts=(named("Aninha", NameSource.SAVED),))
    [outcome] = await storage.apply([item])
    assert outcome.verdict is Verdict.STORED
    assert await name_of(storage) == "Aninha"
    with pytest.raises(StorageRejectedError, match="nobody"):
        await storage.apply([item, attrs.evolve(item, connection="nobody")])


NAMELESS = GroupMember(address="")
BAD: tuple[Fact, ...] = (
    AddressPair("", CUSTOMER_LID, "x"),
    named("x", NameSource.PUSH, address="x" * 300),
    delivered(DeliveryStatus.READ, NOW, recipient=""),
    delivered(DeliveryStatus.READ, NOW, ids=("",)),
    GroupChange(group="", at=NOW),
    GroupChange(group=GROUP, at=NOW, joined=(NAMELESS,)),
    ChatSettings(chat="", direct=True, at=NOW),
    Label(id="", name="x", at=NOW),
    LabelLink(label="1", chat="", direct=True, labelled=True, at=NOW),
    HistoryOffered(key="", notification=b"", sync_type="full", chunk_order=0, progress=0),
    HistoryStep(key="", state="done", position=0, total=0),
    AppStateStep(collection="", version=1, hash=bytes(128)),
    PlaceholderVerdict(chat="", direct=True, sender="x", external_id="x", verdict="x"),
    DeviceList(account="", devices=(), at=NOW),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda fact: type(fact).__name__)
async def test_a_fact_about_nothing_is_rejected(storage: Storage, bad: Fact) -> None:
    """It ends in quarantine with its stanza; the records of its envelope commit all the same."""
    record = RecordChange(RecordKind.SESSION, "1", b"ratchet")
    item = attrs.evolve(envelope("A1", records=(record,)), facts=(bad,))
    with pytest.raises(StorageRejectedError):
        await storage.apply([item])
    outcome = await storage.quarantine(item, "rejected")
    assert "its facts are not stored" in (outcome.error or "")
    assert await storage.load_records("sales", RecordKind.SESSION, ["1"]) == {"1": b"ratchet"}
    assert (await storage.statistics())["messages"] == 0


async def test_a_quarantined_message_leaves_its_facts(storage: Storage) -> None:
    """They are as good as before."""
    item = attrs.evolve(envelope("A1", sender=""), facts=(named("Ana", NameSource.SAVED),))
    outcome = await storage.quarantine(item, "rejected")
    assert outcome.error == "rejected"
    assert await name_of(storage) == "Ana"


async def test_a_fact_that_only_the_database_refuses(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The quarantine keeps the envelope and commits its records without the facts."""
    await cluster.sql(dsn, "ALTER TABLE labels ADD CHECK (name <> 'poison')")
    record = RecordChange(RecordKind.SESSION, "1", b"ratchet")
    poison = Label(id="1", name="poison", at=NOW)
    item = Envelope(connection="sales", records=(record,), facts=(poison,), stanza=b"stanza")
    with pytest.raises(StorageRejectedError):
        await postgres.apply([item])
    outcome = await postgres.quarantine(item, "rejected")
    assert outcome.verdict is Verdict.QUARANTINED
    assert "its facts are not stored" in (outcome.error or "")
    assert await postgres.load_records("sales", RecordKind.SESSION, ["1"]) == {"1": b"ratchet"}
    [sales, _support] = await postgres.connections()
    assert sales.quarantined == 1


ABSURD = (0, -1e300, 1e300, math.inf, -math.inf, math.nan, 2.0**63, NOW + 10 * DAY)


async def test_absurd_facts_are_stored(storage: Storage) -> None:
    """Texts are cut, times replaced, roles and alternatives left out."""
    odd = "N\0\ud800" + "x" * 100_000
    for at in ABSURD:
        await tell(
            storage,
            ContactName(address=CUSTOMER, source=NameSource.SAVED, name=odd, at=at),
            GroupSnapshot(
                group=GROUP,
                at=at,
                subject=odd,
                description=odd,
                owner="x" * 999,
                created_at=-5,
                expiration=2**70,
                members=(
                    GroupMember(address=OTHER, alt="x" * 999, role=""),
                    GroupMember(address=OTHER, role="r" * 99),
                ),
            ),
            GroupChange(group=GROUP, at=at, expiration=-1, left=(CUSTOMER, CUSTOMER)),
            ChatSettings(
                chat=CUSTOMER, direct=True, at=at, muted_until=at, read_until=at, expiration=2**40
            ),
            Label(id="1", name=odd, color=2**40, at=at),
            LabelLink(label="1", chat=CUSTOMER, direct=True, labelled=True, at=at),
            delivered(DeliveryStatus.READ, at, ids=("x" * 5000, "y", "y"), chat_alt="x" * 999),
            HistoryOffered(
                key="k" * 5000,
                notification=b"",
                sync_type=odd,
                chunk_order=2**40,
                progress=-9,
            ),
            HistoryStep(key="k", state="importing", position=-1, total=2**80, error=odd),
            AppStateStep(collection="c", version=2**80, hash=b"", values=((b"i", b"v"),) * 2),
            OutboxStep(id=1, state="sent", reason=odd, at=at),
            DeviceList(account=CUSTOMER, devices=(-1, 2**40, 3, 3), at=at),
        )
    assert (await name_of(storage) or "").startswith("N␀�xxx")
    found = await group(storage)
    assert found.owner is None
    assert await members(storage) == {OTHER: "member"}
    await take(storage, "A1")
    assert (await chat(storage)).expiration == 2**31 - 1
