"""Whatever the order, the batches and the repetitions: the same content in the end."""

import itertools
import random
import typing as t

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from st_content import content
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
)

from storage.api import ConversationRules, Envelope, Lane, Storage
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Delivery,
    DeliveryStatus,
    Fact,
    GroupChange,
    GroupMember,
    GroupSnapshot,
    Label,
    LabelLink,
    NameSource,
)
from storage.memory import MemoryStorage
from storage.postgres import PostgresStorage

OWN_LID = "900000000099@lid"
OTHER_LID = "900000000002@lid"
T0 = int(NOW)

PERSON = (
    {"chat": CUSTOMER, "sender": CUSTOMER},
    {"chat": CUSTOMER_LID, "sender": CUSTOMER_LID},
    {
        "chat": CUSTOMER_LID,
        "sender": CUSTOMER_LID,
        "chat_alt": CUSTOMER,
        "sender_alt": CUSTOMER,
    },
)
TEAM = (
    {"chat": CUSTOMER, "from_me": True},
    {"chat": CUSTOMER_LID, "from_me": True, "sender": OWN_LID, "sender_alt": ACCOUNT},
)
MEMBER = (
    {"chat": GROUP, "sender": CUSTOMER},
    {"chat": GROUP, "sender": CUSTOMER_LID},
    {"chat": GROUP, "sender": CUSTOMER_LID, "sender_alt": CUSTOMER},
)
SIDE = {"lane": Lane.SIDE}


def said(name: str, places: t.Iterable[dict[str, t.Any]], **fields: t.Any) -> list[Envelope]:
    """One message, as it may come: under each address, live or from the history."""
    lanes = [Lane.SIDE] if fields.get("lane") else [Lane.LIVE, Lane.HISTORY]
    return [
        envelope(name, **{**place, **fields, "lane": lane}) for place in places for lane in lanes
    ]


def failed(name: str, places: t.Iterable[dict[str, t.Any]], **fields: t.Any) -> list[Envelope]:
    """A delivery of a message that did not decrypt."""
    return [
        envelope(name, **place, **fields, kind="undecryptable", text=None, raw=b"")
        for place in places
    ]


def fact(*facts: Fact) -> list[Envelope]:
    return [Envelope(connection="sales", facts=(item,)) for item in facts]


def delivery(chat: str, recipient: str, status: DeliveryStatus, at: float, **fields: t.Any) -> Fact:
    return Delivery(
        chat=chat,
        direct=not chat.endswith("@g.us"),
        ids=("T1",),
        recipient=recipient,
        status=status,
        at=at,
        **fields,
    )


# Everything below may come in any order; each group must come at least once.
STORY: tuple[list[Envelope], ...] = (
    said("C1", PERSON, text="bom dia", sent_at=T0 - 9000, sender_name="Ana"),
    failed("C1", PERSON[:2], sent_at=T0 - 9000),
    said("C2", PERSON, text="quero comprar", sent_at=T0 - 5000),
    said("T1", TEAM, text="claro!", sent_at=T0 - 4000),
    said("E1", PERSON, kind="edit", text="bom dia!", target_id="C1", sent_at=T0 - 8000, **SIDE),
    said("E2", PERSON, kind="edit", text="boa tarde", target_id="C1", sent_at=T0 - 7000, **SIDE),
    said("E3", TEAM, kind="edit", text="hackeado", target_id="C1", sent_at=T0 - 6000, **SIDE),
    said("D1", PERSON, kind="revoke", text=None, target_id="C2", sent_at=T0 - 3000, **SIDE),
    said("D2", PERSON, kind="revoke", text=None, target_id="T1", sent_at=T0 - 3000, **SIDE),
    said(
        "R1",
        PERSON,
        kind="reaction",
        text="👍",
        target_id="T1",
        target_author=OWN_LID,
        detail={"sent_at_ms": 5},
        sent_at=T0 - 2000,
        **SIDE,
    ),
    said(
        "R2",
        PERSON,
        kind="reaction",
        text="❤",
        target_id="T1",
        target_author=ACCOUNT,
        detail={"sent_at_ms": 9},
        sent_at=T0 - 2000,
        **SIDE,
    ),
    said(
        "R3",
        TEAM,
        kind="reaction",
        text="🙏",
        target_id="C1",
        target_author=CUSTOMER_LID,
        sent_at=T0 - 1000,
        **SIDE,
    ),
    said("Q1", TEAM, text="resposta", quoted_id="C1", quoted_author=CUSTOMER, sent_at=T0 - 900),
    said("G1", MEMBER, text="oi grupo", sent_at=T0 - 800, mentions=(OTHER_LID,)),
    said("G2", [{"chat": GROUP, "sender": OTHER}], text="oi", sent_at=T0 - 700),
    said(
        "G3",
        MEMBER,
        kind="revoke",
        text=None,
        target_id="G2",
        target_author=OTHER_LID,
        sent_at=T0 - 600,
        **SIDE,
    ),
    said("P1", [{"chat": GROUP, "sender": OTHER}], kind="poll", text="?", sent_at=T0 - 500),
    said(
        "V1",
        MEMBER,
        kind="poll_vote",
        text=None,
        target_id="P1",
        target_author=OTHER,
        detail={"options": ["sim"]},
        sent_at=T0 - 400,
        **SIDE,
    ),
    said(
        "V2",
        MEMBER,
        kind="poll_vote",
        text=None,
        target_id="P1",
        target_author=OTHER_LID,
        detail={"options": ["não", "sim"]},
        sent_at=T0 - 300,
        **SIDE,
    ),
    fact(AddressPair(CUSTOMER, CUSTOMER_LID, "usync")),
    fact(AddressPair(OTHER, OTHER_LID, "group")),
    said("T9", TEAM[1:], text="até logo", sent_at=T0 - 100),
    fact(delivery(CUSTOMER, CUSTOMER, DeliveryStatus.DELIVERED, T0 - 3900)),
    fact(delivery(CUSTOMER_LID, CUSTOMER_LID, DeliveryStatus.DELIVERED, T0 - 3950)),
    fact(delivery(CUSTOMER_LID, CUSTOMER_LID, DeliveryStatus.READ, T0 - 3000)),
    fact(ContactName(address=CUSTOMER, source=NameSource.SAVED, name="Ana Souza", at=T0 - 50)),
    fact(ContactName(address=CUSTOMER_LID, source=NameSource.SAVED, name="Ana S.", at=T0 - 90)),
    fact(ContactName(address=OTHER_LID, source=NameSource.BUSINESS, name="Loja", at=0)),
    fact(
        GroupSnapshot(
            group=GROUP,
            at=T0 - 1000,
            subject="Clientes",
            members=(GroupMember(address=CUSTOMER, role="admin"), GroupMember(address=OTHER)),
        )
    ),
    fact(
        GroupSnapshot(
            group=GROUP,
            at=T0 - 5000,
            subject="Velho",
            announce=True,
            members=(GroupMember(address=ACCOUNT), GroupMember(address=CUSTOMER)),
        )
    ),
    fact(GroupChange(group=GROUP, at=T0 - 500, left=(OTHER_LID,))),
    fact(
        GroupChange(group=GROUP, at=T0 - 300, joined=(GroupMember(address=OTHER_LID, alt=OTHER),))
    ),
    fact(GroupChange(group=GROUP, at=T0 - 2000, subject="Meio", left=(CUSTOMER,))),
    fact(ChatSettings(chat=CUSTOMER, direct=True, at=T0 - 10, archived=True, muted_until=-1.0)),
    fact(ChatSettings(chat=CUSTOMER_LID, direct=True, at=T0 - 5, archived=False, pinned=True)),
    fact(Label(id="1", name="VIP", color=3, at=T0 - 10)),
    fact(Label(id="1", name="vip", color=2, at=T0 - 20)),
    fact(LabelLink(label="1", chat=CUSTOMER_LID, direct=True, labelled=True, at=T0 - 10)),
    fact(LabelLink(label="1", chat=CUSTOMER, direct=True, labelled=False, at=T0 - 20)),
)


@st.composite
def runs(draw: st.DrawFn) -> list[list[Envelope]]:
    """The whole story in some order: each group once or more, cut into batches."""
    shuffle = random.Random(draw(st.integers(0, 2**32)))
    told = [shuffle.choice(group) for group in STORY]
    told += [shuffle.choice(group) for group in shuffle.choices(STORY, k=draw(st.integers(0, 30)))]
    shuffle.shuffle(told)
    size = draw(st.sampled_from([1, 2, 5, 20, 100]))
    return [told[start : start + size] for start in range(0, len(told), size)]


async def tell(storage: Storage, connection: str, run: list[list[Envelope]]) -> dict[str, t.Any]:
    """The content after a run, on a connection of its own."""
    rules = ConversationRules(reopen_window=0)
    await storage.ensure_connection(connection, rules)
    for batch in run:
        await storage.apply([_on(item, connection) for item in batch])
    return await content(storage, connection)


def _on(item: Envelope, connection: str) -> Envelope:
    return Envelope(connection=connection, message=item.message, facts=item.facts)


def in_order() -> list[list[Envelope]]:
    return [[group[-1]] for group in STORY]


def test_any_order_gives_the_same_content() -> None:
    """On the fake: hundreds of orders."""

    async def same(run: list[list[Envelope]]) -> None:
        expected = await tell(MemoryStorage(Clock()), "sales", in_order())
        assert await tell(MemoryStorage(Clock()), "sales", run) == expected

    @settings(max_examples=100, deadline=None)
    @given(run=runs())
    def check(run: list[list[Envelope]]) -> None:
        trio.run(same, run)

    check()


async def test_the_story_as_it_reads() -> None:
    """What all those orders lead to is what was meant."""
    shown = await tell(MemoryStorage(Clock()), "sales", in_order())
    by_id = {row["external_id"]: row for row in shown["messages"]}
    assert by_id["C1"]["text"] == "boa tarde"
    assert [item["text"] for item in by_id["C1"]["versions"]] == [
        "bom dia",
        "bom dia!",
        "boa tarde",
    ]
    assert [item["emoji"] for item in by_id["C1"]["reactions"]] == ["🙏"]
    assert by_id["C2"]["deleted"]["by"]["name"] == "Ana Souza"
    assert by_id["T1"]["deleted"] is None
    assert [item["emoji"] for item in by_id["T1"]["reactions"]] == ["❤"]
    [receipt] = by_id["T1"]["receipts"]
    assert receipt["delivered_at"].timestamp() == T0 - 3950
    assert by_id["T1"]["status"] == "read"
    assert by_id["Q1"]["quoted"]["text"] == "boa tarde"
    assert by_id["G2"]["deleted"]["by"]["shown"] == "+" + CUSTOMER.split("@")[0]
    [vote] = by_id["P1"]["votes"]
    assert vote["options"] == ["não", "sim"]
    [group] = shown["groups"]
    assert (group["subject"], group["announce"]) == ("Clientes", False)
    assert [(row["person"]["name"], row["role"]) for row in group["members"]] == [
        ("Ana Souza", "admin"),
        ("Loja", "member"),
    ]
    [chat] = [row for row in shown["chats"] if row["address"] == CUSTOMER]
    assert (chat["archived"], chat["muted"], chat["pinned"]) == (False, True, True)
    assert [row["name"] for row in chat["labels"]] == ["VIP"]
    assert len(shown["people"]) == 2


def test_any_order_in_postgres(cluster: Cluster) -> None:
    """The real one agrees with the fake, order by order."""
    names = itertools.count()

    async def run_all() -> None:
        dsn = await cluster.create("migrated")
        async with PostgresStorage.open(dsn, key=KEY, pool_size=1, clock=Clock()) as postgres:
            expected = await tell(postgres, "first", in_order())
            assert expected == await tell(MemoryStorage(Clock()), "first", in_order())
            for run in examples:
                assert await tell(postgres, f"c{next(names)}", run) == expected
            statistics = await cluster.sql(
                dsn, "SELECT DISTINCT messages, undecryptable FROM counters"
            )
            assert len(statistics) == 1

    examples: list[list[list[Envelope]]] = []

    @settings(max_examples=25, deadline=None, database=None)
    @given(run=runs())
    def collect(run: list[list[Envelope]]) -> None:
        examples.append(run)

    collect()
    trio.run(run_all)
