"""Every list, page by page, while it grows: each row once, in order. And the searches."""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import io
import itertools
import typing as t

import attrs
import httpx
import pytest
import trio
from daemon_fakes import GROUP, NOON, FakeFleet, FakeRegistrar, connection, problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from actors.drafts import BadRequestError
from api.app import Backend, build_app
from api.pages import Pages
from api.views import ConversationView, WriterView
from daemon.screen import conversations_table
from storage.api import (
    ChatKind,
    ConnectionEvent,
    ConversationRow,
    ConversationRules,
    Envelope,
    Lane,
    MediaFile,
    ReceivedMessage,
)
from storage.facts import AddressPair, ContactName, GroupSnapshot, NameSource
from storage.gaps import OutageBegan, QueueAnnounced, QueueDrained
from storage.memory import MemoryStorage
from storage.queues import OutboxRequest

ANA = "5511999990001@s.whatsapp.net"
WRITER = WriterView(
    depth=0,
    capacity=1,
    batches=0,
    envelopes=0,
    last_commit_seconds=0,
    retrying_seconds=None,
    last_error=None,
)


class Current:
    """Whatever a test has put there: making an app for every example would take long."""

    def __init__(self) -> None:
        self.now: t.Any = None

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self.now, name)


STORAGE, FLEET = Current(), Current()


@functools.cache
def app() -> t.Any:
    """The app over what is current."""
    FLEET.now = FakeFleet()
    backend = Backend(
        fleet=FLEET,
        storage=STORAGE,
        writer=lambda: WRITER,
        version="1",
        started_at=NOON,
        wall_clock=NOON.timestamp,
        registrar=FakeRegistrar(t.cast("t.Any", FLEET)),
    )
    return build_app(backend)


class Place:
    """The app over a storage in memory, and one more of everything on demand."""

    def __init__(self) -> None:
        transport = httpx.ASGITransport(app())
        self.client = httpx.AsyncClient(transport=transport, base_url="http://zapvisor")
        self.storage = STORAGE.now = MemoryStorage(NOON.timestamp)
        self.fleet = FLEET.now = FakeFleet()
        self._count = itertools.count()

    async def open(self) -> None:
        """Two connections, and a conversation with Ana."""
        for name in self.fleet.names:
            await self.storage.ensure_connection(name, ConversationRules())
        await self.take(external_id="ANA0", text="oi")

    async def take(self, *facts: t.Any, gap: t.Any = None, **fields: t.Any) -> int:
        """One message, or facts alone."""
        defaults: dict[str, t.Any] = {
            "chat": ANA,
            "chat_kind": ChatKind.DIRECT,
            "sender": fields.get("chat", ANA),
            "sender_name": "Ana",
            "from_me": False,
            "kind": "text",
            "sent_at": int(NOON.timestamp()),
            "raw": b"raw",
        }
        message = ReceivedMessage(**{**defaults, **fields}) if fields else None
        envelope = Envelope(connection="sales", message=message, facts=facts, gap=gap)
        [outcome] = await self.storage.apply([envelope])
        return outcome.message_id or 0

    async def grow(self) -> None:
        """One more of everything."""
        n = next(self._count)
        number, lid = f"55219{n:08}@s.whatsapp.net", f"7{n:08}@lid"
        at = int(NOON.timestamp()) - 100 + n // 2
        photo = MediaFile(kind="image", name="foto.jpg")
        await self.take(external_id=f"P{n}", chat=number, text="oi", media=photo, sent_at=at)
        await self.take(external_id=f"L{n}", chat=lid, text="oi", sent_at=at)
        await self.take(AddressPair(number=number, lid=lid, source="usync"))
        await self.take(
            external_id=f"ANA{n + 1}", text="oi", sent_at=int(NOON.timestamp()) + n // 2
        )
        await self.take(GroupSnapshot(group=f"1203{n:08}@g.us", at=float(n), subject="Família"))
        request = OutboxRequest(kind="text", chat=ANA, body={"text": "oi"})
        await self.storage.enqueue("sales", f"key{n}", request, external_id=f"3EB0{n}")
        await self.storage.record_event(
            ConnectionEvent(
                connection="sales", previous="", state="online", reason="", sentence="", at=at
            )
        )
        message = ReceivedMessage(
            chat=ANA,
            chat_kind=ChatKind.DIRECT,
            sender=ANA,
            from_me=False,
            external_id=f"Q{n}",
            kind="text",
            sent_at=at,
        )
        poison = Envelope(connection="sales", message=message, stanza=str(n).encode())
        await self.storage.quarantine(poison, "refused")
        began = OutageBegan(kind="ended", reason="network", at=float(at))
        await self.take(gap=began)
        announced = QueueAnnounced(
            login=f"life{n}", number=1, at=at, announced=0, messages=0, horizon=None
        )
        await self.take(gap=announced)
        await self.take(gap=QueueDrained(login=f"life{n}", number=2, at=at))
        self.fleet.connections[f"shop{n:03}"] = connection(f"shop{n:03}")

    async def conversation(self) -> int:
        """The number of Ana's."""
        row = await self.storage.message(
            (await self.storage.list_messages("sales", after=0, limit=1))[0].id
        )
        assert row is not None
        return row.conversation


Sort: t.TypeAlias = cabc.Callable[[dict[str, t.Any]], t.Any]


@attrs.frozen
class Listed:
    """A list: where, what its rows are sorted by, and in which direction."""

    path: str
    key: Sort
    falling: bool = True
    rows: Sort = lambda content: content
    pages_fall: bool = False  # each page rises, the next one is before it


def by(*names: str) -> Sort:
    return lambda row: tuple(row[name] for name in names)


LISTS: t.Final = {
    "connections": Listed("/connections", by("name"), falling=False),
    "conversations": Listed("/conversations", by("last_message_at", "id")),
    "messages": Listed("/conversations/{ana}/messages", by("sent_at", "id"), pages_fall=True),
    "search": Listed("/messages?query=oi", by("at", "message")),
    "contacts": Listed("/contacts", by("id"), falling=False),
    "merges": Listed("/contacts/merges", by("id")),
    "groups": Listed("/groups", by("connection", "address"), falling=False),
    "outbox": Listed("/outbox", by("id")),
    "gaps": Listed("/gaps", by("id")),
    "connection gaps": Listed("/connections/sales/gaps", by("id")),
    "quarantine": Listed("/quarantine", by("id")),
    "media": Listed("/media?connection=sales", by("message_id")),
    "timeline": Listed(
        "/connections/sales/timeline",
        by("id"),
        falling=False,
        rows=lambda content: content["transitions"],
    ),
}


async def read_all(
    place: Place, listed: Listed, limit: int, grows: cabc.Iterator[bool]
) -> list[t.Any]:
    """The keys of all rows, in the order of reading; the list may grow between two pages."""
    path = listed.path.replace("{ana}", str(await place.conversation()))
    url = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    seen: list[t.Any] = []
    while True:
        answer = await place.client.get(url)
        assert answer.status_code == 200, answer.text
        keys = [listed.key(row) for row in listed.rows(answer.json())]
        assert len(keys) <= limit
        seen += keys[::-1] if listed.pages_fall else keys
        assert len(seen) < 200, "the pages lead in a circle"
        if "next" not in answer.links:
            assert "x-next-cursor" not in answer.headers
            return seen
        url = answer.links["next"]["url"]
        assert answer.headers["x-next-cursor"] in url
        if next(grows):
            await place.grow()


@pytest.mark.parametrize("name", LISTS)
@given(rows=st.integers(0, 7), limit=st.integers(1, 4), grows=st.lists(st.booleans(), max_size=10))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_row_once_and_in_order(name: str, rows: int, limit: int, grows: list[bool]) -> None:
    """Whatever comes meanwhile: what was there before is read once, and nothing twice."""
    listed = LISTS[name]

    async def read() -> None:
        place = Place()
        await place.open()
        for _ in range(rows):
            await place.grow()
        before = await read_all(place, listed, 200, itertools.repeat(False))
        found = await read_all(
            place, listed, limit, itertools.chain(grows, itertools.repeat(False))
        )
        assert found == sorted(found, reverse=listed.falling)
        assert len(found) == len(set(found))
        assert set(before) - moved(name, place, before) <= set(found)

    trio.run(read)


def moved(name: str, place: Place, before: list[t.Any]) -> set[t.Any]:
    """Ana's conversation, which is on top whenever something grows, and so above a page."""
    return {before[0]} if name == "conversations" else set()


async def test_a_cursor_is_checked() -> None:
    """Damaged ones, those of other lists, and two places at once are refused by name."""
    place = Place()
    await place.open()
    for _ in range(3):
        await place.grow()
    cursor = (await place.client.get("/outbox?limit=1")).headers["x-next-cursor"]
    for query, part in (
        (f"/gaps?cursor={cursor}", "another list"),
        (f"/outbox?cursor={cursor[:-3]}", "damaged"),
        ("/outbox?cursor=%C3%A1", "damaged"),
        ("/outbox?cursor=", "damaged"),
        (f"/outbox?cursor={cursor}&before=3", "alone"),
    ):
        found = problem(await place.client.get(query))
        assert (found["status"], found["type"]) == (422, "urn:zapvisor:bad-request")
        assert part in found["detail"]
    kept = await place.client.get("/outbox?limit=1&state=queued&before=3")
    assert "state=queued" in kept.links["next"]["url"]
    assert "before" not in kept.links["next"]["url"]


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    """Nothing else comes of it."""
    pages = Pages[int]("x", (int, str, dt.datetime), lambda row: (row, "", NOON))
    with contextlib.suppress(BadRequestError):
        pages.read(text)


@given(st.integers(0, 2**63 - 1), st.text(), st.datetimes(timezones=st.just(dt.UTC)))
def test_a_cursor_comes_back_as_it_was(number: int, text: str, moment: dt.datetime) -> None:
    """Numbers, texts and times."""
    pages = Pages[int]("x", (int, str, dt.datetime), lambda row: (row, text, moment))
    assert pages.read(pages._encode((number, text, moment))) == (number, text, moment)


async def test_the_openapi_document_tells_of_pages() -> None:
    """Every list has its headers and its parameter there."""
    place = Place()
    paths = (await place.client.get("/schema/openapi.json")).json()["paths"]
    names = {re_number(listed.path.partition("?")[0]) for listed in LISTS.values()}
    for path in names:
        told = paths[path]["get"]
        assert {"X-Next-Cursor", "Link"} <= set(told["responses"]["200"]["headers"]), path
        assert "cursor" in {each["name"] for each in told["parameters"]}, path
        assert told["tags"], path


def re_number(path: str) -> str:
    """The path as a template."""
    return path.replace("{ana}", "{number}").replace("/sales/", "/{name}/")


async def test_messages_are_found() -> None:
    """With snippets in pieces, the place, and what is left out."""
    place = Place()
    await place.open()
    await place.take(external_id="E1", text="O <b>Pedido</b> não chegou, e o pedido é urgente")
    await place.take(external_id="E2", kind="edit", lane=Lane.SIDE, target_id="ANA0", text="tchau")
    await place.take(external_id="G1", chat=GROUP, chat_kind=ChatKind.GROUP, sender=ANA, text="eu")
    answer = await place.client.get("/messages", params={"query": "PEDIDO nao"})
    assert answer.headers["x-search"] == "complete"
    [hit] = answer.json()
    assert [piece["text"] for piece in hit["snippet"] if piece["match"]] == [
        "Pedido",
        "não",
        "pedido",
    ]
    assert (hit["connection"], hit["sender"]["name"], hit["current"]) == ("sales", "Ana", True)
    find = functools.partial(place.client.get, "/messages")
    assert (await find(params={"query": "oi"})).json() == []
    assert len((await find(params={"query": "oi", "former": True})).json()) == 1
    assert len((await find(params={"query": "tchau"})).json()) == 1
    for contact in (GROUP, "+55 11 99999-0001"):
        found = (await find(params={"query": "eu", "contact": contact})).json()
        assert len(found) == (contact == GROUP)
    early = {"query": "pedido", "until": "2026-03-01T12:00:00Z"}
    assert (await find(params=early)).json() == []
    for bad in (
        {"query": "..."},
        {"query": "-pedido"},
        {"query": "x", "since": "2026-03-01T12:00:00"},
        {"query": "x", "contact": "nobody at all"},
    ):
        assert problem(await find(params=bad))["status"] == 422
    assert problem(await find())["status"] == 400


@pytest.mark.parametrize(
    ("chat", "title", "shown"),
    [
        ("5511999990010@s.whatsapp.net", "Ana", "Ana"),
        ("5511999990010@s.whatsapp.net", None, "+5511999990010"),
        ("900000000001@lid", None, "lid:900000000001"),
        ("120363000000000001@g.us", "", "120363000000000001@g.us"),
    ],
)
def test_how_a_conversation_is_called(chat: str, title: str | None, shown: str) -> None:
    """By its name, else by the number; a LID never looks like one."""
    row = ConversationRow(
        id=1,
        connection="sales",
        chat=chat,
        title=title,
        status="open",
        messages=1,
        opened_at=NOON,
        last_message_at=NOON,
        closed_at=None,
        reopened=0,
        merged_into=None,
        possible_hole=False,
    )
    assert ConversationView.of(row).shown == shown
    table = Console(file=io.StringIO(), width=200)
    table.print(conversations_table([attrs.asdict(ConversationView.of(row))], NOON))
    assert shown in t.cast("io.StringIO", table.file).getvalue()


async def test_conversations_are_found() -> None:
    """By contact in every form, by time, by words."""
    place = Place()
    await place.open()
    await place.grow()
    number = await place.conversation()
    ana = await place.storage.contact("sales", ANA)
    assert ana is not None

    async def found(**params: t.Any) -> list[int]:
        answer = await place.client.get("/conversations", params=params)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()]

    assert len(await found()) == 2
    for contact in (ANA, "5511999990001", "+55 (11) 99999-0001", str(ana.id)):
        assert await found(contact=contact) == [number]
    assert await found(contact="5511999990001", status="closed") == []
    assert await found(query="oi", contact=ANA) == [number]
    assert await found(query="tchau") == []
    saved = ContactName(address=ANA, source=NameSource.SAVED, name="Zuleide Conceição", at=1)
    await place.take(saved)
    assert await found(query="CONCEICAO") == await found(query="zul* -tchau") == [number]
    assert await found(query="conceicao", status="closed") == []
    assert await found(since="2026-03-01T12:00:00Z") == [number]
    shown = (await place.client.get(f"/conversations/{number}")).json()
    assert (shown["id"], shown["status"], shown["shown"]) == (
        number,
        "waiting",
        "Zuleide Conceição",
    )
    assert (await place.client.get("/conversations/999")).status_code == 404
    assert (await place.client.get(f"/contacts/{ana.id}")).json()["name"] == saved.name
    assert (await place.client.get("/contacts/999")).status_code == 404


async def test_one_conversation_of_a_chat_is_live() -> None:
    """Another one is neither opened nor reopened, and the live one is named (I4)."""
    place = Place()
    await place.open()
    old = await place.conversation()
    closed = (await place.client.post(f"/conversations/{old}/close")).json()
    assert closed["status"] == "closed"
    again = (await place.client.post(f"/conversations/{old}/reopen")).json()
    assert (again["status"], again["closed_at"]) == ("waiting", None)
    await place.client.post(f"/conversations/{old}/close")
    place.storage._connections["sales"].rules = ConversationRules(reopen_window=0)
    await place.take(external_id="LATER", text="oi", sent_at=int(NOON.timestamp()) + 5)
    rows = (await place.client.get("/conversations", params={"contact": ANA})).json()
    assert [row["status"] for row in rows] == ["waiting", "closed"]
    for order in ("open", "reopen"):
        refused = problem(await place.client.post(f"/conversations/{old}/{order}"))
        assert (refused["status"], refused["type"]) == (409, "urn:zapvisor:live-conversation")
        assert f"conversation {rows[0]['id']} " in refused["detail"]
    for nobody in ("0", "999", str(2**64)):
        missing = problem(await place.client.post(f"/conversations/{nobody}/reopen"))
        assert missing["status"] == 404
