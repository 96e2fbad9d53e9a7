"""Finding conversations and messages, in both storages."""

import datetime as dt
import typing as t

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from st_helpers import CUSTOMER, CUSTOMER_LID, DAY, GROUP, HOUR, NOW, OTHER, Clock, Cluster, take

from storage.api import Envelope, Lane, Storage
from storage.errors import StorageRejectedError
from storage.facts import AddressPair, ContactName, GroupSnapshot, NameSource
from storage.postgres import PostgresStorage
from storage.search import (
    Filter,
    Hit,
    NoWordsError,
    Piece,
    Query,
    snippet,
    words_of,
)

NUMBER = "15550001111"


async def indexed(storage: Storage) -> Storage:
    """The storage, once its index is complete."""
    while True:
        step = await storage.index_messages(100)
        if not step.behind and not step.filling:
            return storage


async def texts(storage: Storage, query: str, **wanted: t.Any) -> list[str]:
    """The texts that are found, the newest first."""
    page = await (await indexed(storage)).search_messages(Query.parse(query), Filter(**wanted))
    assert page.next is None
    return [hit.text for hit in page.hits]


async def test_words_are_found_without_their_accents(storage: Storage) -> None:
    """Whatever the case, whatever the accents, on either side; captions too."""
    await take(storage, "A1", text="A ENTREGA não chegou", sent_at=int(NOW))
    await take(storage, "A2", text="entregá-la à força", sent_at=int(NOW) + 1)
    await take(storage, "A3", kind="image", text="foto da entrega", sent_at=int(NOW) + 2)
    await take(storage, "A4", text="nada disso", sent_at=int(NOW) + 3)
    assert await texts(storage, "entrega") == [
        "foto da entrega",
        "entregá-la à força",
        "A ENTREGA não chegou",
    ]
    assert await texts(storage, "NAO") == ["A ENTREGA não chegou"]
    assert await texts(storage, "forca entrega") == ["entregá-la à força"]
    assert await texts(storage, "entrega -nao -foto") == ["entregá-la à força"]
    assert await texts(storage, "nad*") == ["nada disso"]
    assert await texts(storage, "cheg") == []


async def test_an_edited_message_is_found_by_what_it_reads_now(storage: Storage) -> None:
    """And by what it read before only if that is asked for, as a version of its own."""
    first = await take(storage, "A1", text="laranja", sent_at=int(NOW))
    edit: dict[str, t.Any] = {"kind": "edit", "lane": Lane.SIDE, "target_id": "A1"}
    second = await take(storage, "A2", text="banana", sent_at=int(NOW) + 5, **edit)
    await take(storage, "A3", text="intruso", sent_at=int(NOW) + 6, chat=OTHER, **edit)
    assert await texts(storage, "laranja") == []
    assert await texts(storage, "intruso") == []
    assert await texts(storage, "laranja", former=True) == ["laranja"]
    page = await storage.search_messages(Query.parse("banana"), Filter())
    [hit] = page.hits
    assert (hit.message, hit.version) == (first.message_id, second.message_id)
    assert (hit.current, hit.kind, hit.sender.addresses) == (True, "text", (CUSTOMER,))


async def test_a_deleted_message_is_found_only_if_asked_for(storage: Storage) -> None:
    """It is kept, and shown as deleted."""
    await take(storage, "A1", text="segredo")
    await take(storage, "A2", kind="revoke", lane=Lane.SIDE, target_id="A1", text=None)
    assert await texts(storage, "segredo") == []
    page = await storage.search_messages(Query.parse("segredo"), Filter(deleted=True))
    assert [(hit.text, hit.deleted) for hit in page.hits] == [("segredo", True)]
    assert (await storage.find_conversations(Filter(), query=Query.parse("segredo"))).rows == ()


async def test_a_placeholder_that_is_filled_is_found(storage: Storage) -> None:
    """Though it was looked at before: what changes is looked at again."""
    await take(storage, "A1", kind="undecryptable", text=None, raw=b"", reason="no session")
    assert await texts(storage, "chegou") == []
    await take(storage, "A1", text="chegou")
    assert await texts(storage, "chegou") == ["chegou"]


async def test_conversations_by_all_that_describes_them(storage: Storage) -> None:
    """Status, connection, contact in any form, time, and words."""
    await storage.apply([])
    mine = await take(storage, "A1", text="pedido um", sent_at=int(NOW) - 2 * DAY)
    await take(storage, "B1", chat=OTHER, text="pedido dois", sent_at=int(NOW) - DAY)
    await take(storage, "G1", chat=GROUP, text="grupo", sent_at=int(NOW) - HOUR)
    await take(storage, "S1", connection="support", text="pedido um", sent_at=int(NOW))
    await storage.apply(
        [
            Envelope(
                connection="sales",
                facts=(AddressPair(number=CUSTOMER, lid=CUSTOMER_LID, source="usync"),),
            )
        ]
    )
    await indexed(storage)
    contact = await storage.contact("sales", CUSTOMER)
    assert contact is not None

    async def chats(query: str | None = None, **wanted: t.Any) -> list[tuple[str, str]]:
        found = await storage.find_conversations(
            Filter(**wanted), query=None if query is None else Query.parse(query)
        )
        assert not found.cut
        return [(row.connection, row.chat) for row in found.rows]

    everything = [("support", CUSTOMER), ("sales", GROUP), ("sales", OTHER), ("sales", CUSTOMER)]
    assert await chats() == everything
    assert await chats(connection="sales") == everything[1:]
    assert await chats(address=CUSTOMER_LID) == [("sales", CUSTOMER)]
    assert await chats(address=CUSTOMER) == [everything[0], everything[3]]
    assert await chats(contact=contact.id) == [("sales", CUSTOMER)]
    assert await chats(address=GROUP) == [("sales", GROUP)]
    assert await chats(contact=2**63) == []
    assert await chats("pedido") == [everything[0], *everything[2:]]
    assert await chats("pedido", address=OTHER) == [("sales", OTHER)]
    assert await chats("pedido", connection="support") == [("support", CUSTOMER)]
    assert await chats(since=at(-DAY), until=at(-HOUR)) == [("sales", OTHER)]
    assert mine.conversation_id is not None
    await storage.close_conversation(mine.conversation_id)
    assert await chats(status="closed") == [("sales", CUSTOMER)]
    assert await chats(status="open") == []


async def test_conversations_are_found_by_names(storage: Storage) -> None:
    """Of the contact, from whatever source and under any address, and of the group; folded like
    the words of messages, and all words in one name. Messages are not found by them."""
    await take(storage, "A1", text="olá", sent_at=int(NOW) - 3)
    await take(storage, "B1", chat=OTHER, text="a ana ligou", sent_at=int(NOW) - 2)
    await take(storage, "G1", chat=GROUP, text="grupo", sent_at=int(NOW) - 1)
    await take(storage, "S1", connection="support", text="olá", sent_at=int(NOW))

    def called(address: str, name: str, source: NameSource) -> ContactName:
        return ContactName(address=address, source=source, name=name, at=NOW)

    facts = (
        AddressPair(number=CUSTOMER, lid=CUSTOMER_LID, source="usync"),
        called(CUSTOMER, "Loja da Esquina", NameSource.BUSINESS),
        called(CUSTOMER_LID, "ANÁ Conceição", NameSource.PUSH),
        called(OTHER, "Zé", NameSource.SAVED),
        called("15550009999@s.whatsapp.net", "Ana sem conversa", NameSource.PUSH),
        GroupSnapshot(group=GROUP, at=NOW, subject="Família Conceição"),
    )
    await storage.apply([Envelope(connection="sales", facts=facts)])
    await indexed(storage)

    async def chats(query: str, **wanted: t.Any) -> list[str]:
        found = await storage.find_conversations(Filter(**wanted), query=Query.parse(query))
        assert not found.cut
        return [row.chat for row in found.rows]

    assert await chats("ana") == [OTHER, CUSTOMER]
    assert await chats("conceicao") == [GROUP, CUSTOMER]
    assert await chats("concei* -familia") == [CUSTOMER]
    assert await chats("conceic") == []
    assert await chats("loja ana") == []
    assert await chats("esquina loja") == [CUSTOMER]
    assert await chats("ze") == [OTHER]
    assert await chats("ana", address=CUSTOMER_LID) == [CUSTOMER]
    assert await chats("conceicao", connection="support") == []
    assert await chats("ana", status="open") == []
    assert await texts(storage, "ana") == ["a ana ligou"]

    gone = (called(OTHER, "", NameSource.SAVED), called(OTHER, "Lia", NameSource.PUSH))
    newer = [Envelope(connection="sales", facts=tuple(attrs.evolve(f, at=NOW + 9) for f in gone))]
    await storage.apply(newer)
    assert await chats("ze") == []
    assert await chats("lia") == [OTHER]


async def test_one_search_looks_at_a_bounded_number_of_names(
    postgres: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is cut; what was active last is there."""
    monkeypatch.setattr("storage.postgres_search.CANDIDATES", 3)
    customers = [f"1555000{number}@s.whatsapp.net" for number in range(4)]
    for number, address in enumerate(customers):
        await take(postgres, f"A{number}", chat=address, text=None, sent_at=int(NOW) + number)
        name = ContactName(address=address, source=NameSource.PUSH, name="Ana", at=NOW + number)
        await postgres.apply([Envelope(connection="sales", facts=(name,))])
    found = await postgres.find_conversations(Filter(), query=Query.parse("ana"))
    assert ([row.chat for row in found.rows], found.cut) == (customers[:0:-1], True)
    alone = Filter(address=customers[0])
    found = await postgres.find_conversations(alone, query=Query.parse("ana"))
    assert ([row.chat for row in found.rows], found.cut) == (customers[:1], False)


async def test_the_index_of_names_stands_by_itself(cluster: Cluster, dsn: str) -> None:
    """Nothing of our schema is needed to make it, as when a backup is put back or it is analyzed;
    and a name that is told again as it was does not touch it (the update is within its page)."""
    await cluster.script(
        dsn,
        """
        INSERT INTO connections (name, reopen_window, reopen_from, team_reopens, created_at)
        VALUES ('sales', '0', 'closed_at', false, now());
        INSERT INTO contacts (connection_id, created_at) VALUES (1, now());
        INSERT INTO contact_addresses (connection_id, address, contact_id, created_at)
        SELECT 1, '1@lid', id, now() FROM contacts;
        INSERT INTO contact_names VALUES (1, '1@lid', 'push', 'Ana', now());
        UPDATE contact_names SET name = name || '', at = now() + '1s';
        DO $$ BEGIN
            ASSERT pg_stat_get_xact_tuples_hot_updated('contact_names'::regclass) = 1;
        END $$;
        SET search_path = '';
        REINDEX INDEX public.contact_names_words;
        ANALYZE public.contact_names, public.groups;
        """,
    )


def at(seconds: float) -> dt.datetime:
    """A moment relative to NOW."""
    return dt.datetime.fromtimestamp(NOW + seconds, dt.UTC)


async def test_messages_by_place_and_time(storage: Storage) -> None:
    """Of one connection, one contact, a stretch of time."""
    for number in range(4):
        await take(storage, f"A{number}", text=f"oi {number}", sent_at=int(NOW) + number)
    await take(storage, "B1", chat=OTHER, text="oi outro", sent_at=int(NOW))
    await take(storage, "S1", connection="support", text="oi suporte", sent_at=int(NOW))
    assert await texts(storage, "oi", connection="support") == ["oi suporte"]
    assert await texts(storage, "oi", address=OTHER) == ["oi outro"]
    assert await texts(storage, "oi", since=at(1), until=at(3)) == ["oi 2", "oi 1"]


async def test_a_search_is_paged_without_a_gap(storage: Storage) -> None:
    """By time and id, each once, though more arrive meanwhile."""
    for number in range(9):
        await take(storage, f"A{number}", text=f"oi {number}", sent_at=int(NOW) + number // 3)
    await indexed(storage)
    seen: list[Hit] = []
    before = None
    while True:
        page = await storage.search_messages(Query.parse("oi"), Filter(), before=before, limit=2)
        seen += page.hits
        await take(storage, f"N{len(seen)}", text="oi novo", sent_at=int(NOW) + 100)
        await indexed(storage)
        if page.next is None:
            break
        before = page.next
    assert [hit.text for hit in seen] == [f"oi {number}" for number in range(8, -1, -1)]


async def test_a_closed_conversation_is_reopened_to_waiting(storage: Storage, clock: Clock) -> None:
    """A live one stays as it is; beside another live one it is refused (I4)."""
    first = await take(storage, "A1", sent_at=int(NOW) - 10 * DAY)
    number = first.conversation_id or 0
    await storage.close_conversation(number)
    row = await storage.reopen_conversation(number)
    assert row is not None
    assert (row.status, row.closed_at, row.reopened) == ("waiting", None, 0)
    await storage.open_conversation(number)
    assert (await storage.reopen_conversation(number) or row).status == "open"
    await storage.close_conversation(number)
    clock.now += 10 * DAY
    second = await take(storage, "A2", sent_at=int(clock.now))
    assert second.conversation_id != number
    with pytest.raises(StorageRejectedError):
        await storage.reopen_conversation(number)
    assert await storage.live_conversation(number) == second.conversation_id
    assert (await storage.conversation(number) or row).status == "closed"
    for nobody in (999_999, 0):
        assert await storage.reopen_conversation(nobody) is None
        assert await storage.live_conversation(nobody) is None
        assert await storage.conversation(nobody) is None


async def test_old_messages_are_indexed_after_new_ones(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """A database from before the index: new messages first, then old ones, the newest first; and
    until the end it says that it is not complete."""
    for number in range(60):
        await take(postgres, f"A{number}", text=f"velho {number}", sent_at=int(NOW) + number)
    assert not await postgres.search_complete()
    assert await postgres.search_waiting() == 60
    first = await postgres.index_messages(20)
    assert await postgres.search_waiting() == 40
    assert (first.indexed, first.behind, first.filling) == (20, False, True)
    await take(postgres, "B1", text="velho novo", sent_at=int(NOW) + 500)
    assert await postgres.search_waiting() == 41
    second = await postgres.index_messages(20)
    assert second.filling
    assert await postgres.search_waiting() == 21
    page = await postgres.search_messages(Query.parse("velho"), Filter(), limit=500)
    expected = ["velho novo", *(f"velho {number}" for number in range(59, 20, -1))]
    assert [hit.text for hit in page.hits] == expected
    assert not await postgres.search_complete()
    await indexed(postgres)
    assert await postgres.search_complete()
    assert await postgres.search_waiting() == 0
    page = await postgres.search_messages(Query.parse("velho"), Filter(), limit=500)
    assert len(page.hits) == 61


async def test_what_has_changed_is_a_step_of_its_own(
    postgres: PostgresStorage, cluster: Cluster, dsn: str
) -> None:
    """The writer may have to wait for such a step, and so it does nothing else meanwhile."""
    for number in range(3):
        await take(postgres, f"A{number}", text=f"velho {number}")
    await indexed(postgres)
    await cluster.sql(
        dsn,
        "INSERT INTO search_again (connection_id, message_id)"
        " SELECT connection_id, id FROM messages ORDER BY id LIMIT 2",
    )
    await take(postgres, "B1", text="novo")
    changed = await postgres.index_messages(100)
    assert (changed.indexed, changed.behind, changed.filling) == (2, True, False)
    new = await postgres.index_messages(100)
    assert (new.indexed, new.behind, new.filling) == (1, False, False)
    assert await texts(postgres, "velho") == ["velho 2", "velho 1", "velho 0"]


async def test_one_search_looks_at_a_bounded_number_of_texts(
    postgres: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is cut, and goes on from where it stopped, even if a page is empty."""
    monkeypatch.setattr("storage.postgres_search.CANDIDATES", 3)
    await take(postgres, "A0", chat=OTHER, text="muito raro", sent_at=int(NOW) - DAY)
    for number in range(1, 6):
        await take(postgres, f"A{number}", text="muito", sent_at=int(NOW) + number)
        gone = {"kind": "revoke", "lane": Lane.SIDE, "target_id": f"A{number}", "text": None}
        await take(postgres, f"R{number}", **gone)
    await indexed(postgres)
    query = Query.parse("muito")
    found = await postgres.find_conversations(Filter(), query=query)
    assert (found.rows, found.cut) == ((), True)
    first = await postgres.search_messages(query, Filter(), limit=5)
    assert first.hits == ()
    assert first.next is not None
    second = await postgres.search_messages(query, Filter(), before=first.next, limit=5)
    assert [hit.text for hit in second.hits] == ["muito raro"]
    assert second.next is not None
    assert (await postgres.search_messages(query, Filter(), before=second.next)).hits == ()


def test_a_query_needs_words() -> None:
    """Nothing, signs alone, refusals alone, or far too many are no query."""
    for text in ("", "  ", "!?", "-nada", "*", " ".join(map(str, range(17)))):
        with pytest.raises(NoWordsError):
            Query.parse(text)
    assert Query.parse("Olá mun* -não") == Query(
        words=("Olá",), beginnings=("mun*",), without=("-não",)
    )


def test_snippets_are_pieces_of_plain_text() -> None:
    """The surroundings of the first match; what somebody wrote is never markup."""
    text = "x " * 200 + "o <b>Pedido</b> não chegou " + "y " * 200
    pieces = snippet(text, Query.parse("pedido nao"))
    assert [piece.text for piece in pieces if piece.match] == ["Pedido", "não"]
    assert (pieces[0], pieces[-1].text[-1]) == (Piece("…"), "…")
    assert sum(len(piece.text) for piece in pieces) < 200
    assert snippet("só isso", Query.parse("iss*")) == (Piece("só "), Piece("isso", match=True))


@given(st.text(max_size=300), st.text(min_size=1, max_size=30))
def test_a_snippet_holds_what_is_there(text: str, query: str) -> None:
    """Its pieces are a part of the text, in order."""
    try:
        asked = Query.parse(query)
    except NoWordsError:
        return
    joined = "".join(piece.text for piece in snippet(text, asked)).strip("…")
    assert joined in text or text.strip("…") in joined


async def test_words_are_the_same_in_sql(cluster: Cluster, dsn: str) -> None:
    """``words_of`` and ``search_words`` agree on whatever people write."""
    samples: list[str] = [
        "Ação: 1.234,56 às 10h30 – R$ 5,00!",
        "ana.maria@exemplo.com.br https://x.com/a?b=c&d=e",
        "ΟΔΟΣ ПРИВЕТ שלום 你好。再见 ①½ ﬁm ＦＵＬＬ",
        "👍🏽 ok👍 🇧🇷 e\u0301 A\u030a İstanbul ǅ ẞ",
        "tab\there\r\nnew\u2028line\ufeff\u200bzero \x7f\x1b",
        "a" * 100 + " " + "é" * 100,
        "' \\ & | ! ( ) : * <-> %_",
        "",
    ]

    @given(st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=60))
    def collect(text: str) -> None:
        samples.append(text.replace("\0", ""))

    collect()
    rows = await cluster.sql(
        dsn,
        "SELECT t, search_words(t), name_words(t) = search_vector(t)"
        " FROM unnest($1::text[]) AS u (t)",
        samples,
    )
    for text, words, alike in rows:
        assert alike, text
        ours = words_of(text)
        assert [word for word in words if word.isascii()] == [w for w in ours if w.isascii()], text
        assert len(words) == len(ours), text
