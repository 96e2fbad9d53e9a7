"""Reading an archive out: what is in it, in which order, in pages, from a cursor."""

import datetime as dt
import typing as t

import attrs
import pytest
from st_archive import Line, fill, lines_of, read
from st_helpers import ACCOUNT, CUSTOMER, CUSTOMER_LID, DAY, GROUP, NOW, OTHER, Clock, take

from storage import archive_reader
from storage.archive_reader import ArchiveFilter, ArchiveReader, Cursor
from storage.archive_records import Header, Message, decode_record, encode_record
from storage.errors import StorageRejectedError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage


def messages(lines: list[Line]) -> list[str]:
    return [line["external_id"] for line in lines if line["record"] == "message"]


async def test_everything_is_read_in_its_order(
    postgres: PostgresStorage, clock: Clock, dsn: str
) -> None:
    """All kinds of records, header first, end last, and each line reads back as its record."""
    await fill(postgres, clock)
    lines = await lines_of(dsn)
    kinds = [line["record"] for line in lines]
    assert kinds[0] == "header"
    assert kinds[-1] == "end"
    assert lines[-1]["records"] == len(lines) - 1
    assert set(kinds) == {
        "header",
        "connection",
        "label",
        "contact",
        "group",
        "chat",
        "conversation",
        "conversation_merged",
        "message",
        "receipt",
        "label_link",
        "chat_setting",
        "end",
    }
    for record in await read(dsn):
        assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_pages_make_no_difference(
    postgres: PostgresStorage, clock: Clock, dsn: str, size: int
) -> None:
    """Whatever the size of pages, and though each one is read from the former one's cursor."""
    await fill(postgres, clock)
    expected = await read(dsn)
    found: list[t.Any] = []
    cursor: Cursor | None = None
    async with open_maintenance(dsn) as session:
        while not found or found[-1].record != "end":
            page = await anext(ArchiveReader(session, cursor=cursor, page=size))
            found += page.records
            cursor = Cursor.load(page.cursor.dump())
    assert found == expected


async def test_large_messages_make_small_pages(
    postgres: PostgresStorage, clock: Clock, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is bounded in bytes, too, and has one message at least."""
    monkeypatch.setattr(archive_reader, "PAGE_BYTES", 1000)
    sizes = (10, 2000, 10, 995, 10, 10)
    for number, size in enumerate(sizes):
        await take(postgres, f"A{number}", raw=b"x" * size, text=None)
    async with open_maintenance(dsn) as session:
        pages = [
            [len(record.raw) for record in page.records if isinstance(record, Message)]
            async for page in ArchiveReader(session)
        ]
    assert [page for page in pages if page] == [[10, 2000], [10, 995], [10, 10]]


async def test_what_comes_after_the_start_is_left_out(
    postgres: PostgresStorage, clock: Clock, dsn: str
) -> None:
    """An archive ends, however many messages come meanwhile."""
    await fill(postgres, clock)
    before = await read(dsn)
    async with open_maintenance(dsn) as session:
        reader = ArchiveReader(session)
        found = list((await anext(reader)).records)
        for number in range(5):
            await take(postgres, f"later-{number}", chat="15550009999@s.whatsapp.net")
        found += [record async for page in reader for record in page.records]
    assert found == before


async def test_a_period_has_what_belongs_to_it(
    postgres: PostgresStorage, clock: Clock, dsn: str
) -> None:
    """Messages sent within it, their chats and people, and nobody else's."""
    for number, chat in enumerate([CUSTOMER, OTHER, CUSTOMER]):
        await take(postgres, f"A{number}", chat=chat, sent_at=int(NOW) + number * 60)
    start = dt.datetime.fromtimestamp(NOW, dt.UTC)
    minute = dt.timedelta(minutes=1)
    lines = await lines_of(dsn, ArchiveFilter(since=start + minute, until=start + 2 * minute))
    assert messages(lines) == ["A1"]
    assert [line["address"] for line in lines if line["record"] == "chat"] == [OTHER]
    people = [line["addresses"] for line in lines if line["record"] == "contact"]
    assert [each["address"] for address in people for each in address] == [OTHER]


async def test_a_contact_has_their_chat_and_what_they_wrote_in_groups(
    postgres: PostgresStorage, clock: Clock, dsn: str
) -> None:
    """By any address; receipts go with the messages."""
    await fill(postgres, clock)
    lines = await lines_of(dsn, ArchiveFilter(connections=("sales",), contact=CUSTOMER_LID))
    found = [line for line in lines if line["record"] == "message"]
    assert {line["chat"] for line in found} == {CUSTOMER, GROUP}
    assert all(line.get("sender") == CUSTOMER for line in found if line["chat"] == GROUP)
    assert [line["external_id"] for line in lines if line["record"] == "receipt"] == ["mine"]
    assert not any(line.get("chat") == OTHER for line in lines)


async def test_a_conversation_is_read_alone(
    postgres: PostgresStorage, clock: Clock, dsn: str
) -> None:
    """One conversation of a chat, and not the other."""
    first = await take(postgres, "A1")
    assert first.conversation_id is not None
    await postgres.close_conversation(first.conversation_id)
    clock.now += 2 * DAY
    await take(postgres, "A2", sent_at=int(clock.now))
    lines = await lines_of(dsn, ArchiveFilter(conversation=first.conversation_id))
    assert messages(lines) == ["A1"]
    assert [line["status"] for line in lines if line["record"] == "conversation"] == ["closed"]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (ArchiveFilter(connections=("sale",)), "there is no connection 'sale'"),
        (ArchiveFilter(contact="nobody@lid"), "no contact with this address"),
        (ArchiveFilter(conversation=10**6), "there is no conversation 1000000 here"),
    ],
)
async def test_what_is_not_there_is_said(
    postgres: PostgresStorage, dsn: str, filters: ArchiveFilter, said: str
) -> None:
    """A filter that names nothing is refused before a line is written."""
    async with open_maintenance(dsn) as session:
        with pytest.raises(StorageRejectedError, match=said):
            await anext(ArchiveReader(session, filters))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"bounds": [1], "key": []}', "x"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """A damaged cursor says so."""
    with pytest.raises(StorageRejectedError, match="no cursor"):
        Cursor.load(text)


async def test_a_cursor_of_another_filter_is_refused(postgres: PostgresStorage, dsn: str) -> None:
    """Going on would leave things out."""
    async with open_maintenance(dsn) as session:
        reader = ArchiveReader(session)
        await anext(reader)
        cursor = attrs.evolve((await anext(reader)).cursor, connection="gone")
        with pytest.raises(StorageRejectedError, match="another database"):
            await anext(ArchiveReader(session, cursor=cursor))


async def test_the_own_messages_name_no_sender(
    postgres: PostgresStorage, clock: Clock, dsn: str
) -> None:
    """The account is told as itself, whatever its addresses are."""
    await take(postgres, "mine", from_me=True)
    [line] = [line for line in await lines_of(dsn) if line["record"] == "message"]
    assert "sender" not in line
    [own] = [
        line
        for line in await lines_of(dsn)
        if line["record"] == "contact" and line["is_self"] and line["addresses"]
    ]
    assert own["addresses"][0]["address"] == ACCOUNT


def test_the_header_says_what_is_left_out() -> None:
    """Whoever reads it knows that no credentials are in it."""
    assert any("credentials" in what for what in Header().left_out)
