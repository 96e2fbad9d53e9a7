"""Reads an archive out of a database: pages of records, in an order that stays.

Each page is one statement from behind a key, so memory stays flat and nobody else is held up. What
came after the start is left out: the reader remembers the newest rows of then, so it ends however
much comes meanwhile, and so does one that goes on from a cursor. Rows that change meanwhile (a
conversation is closed) are read as they are then; whoever wants one moment reads within
``Maintenance.frozen()``.
"""

import collections.abc as cabc
import datetime as dt
import json
import typing as t

import attrs

from storage import archive_rows as rows
from storage.archive_records import Connection, End, Header, Record
from storage.errors import StorageRejectedError
from storage.maintenance import Maintenance

PAGE: t.Final = 1_000  # rows
PAGE_BYTES: t.Final = 4 * 1024 * 1024  # of messages, after which a page takes no more of them

_CUSTOM_PLANS: t.Final = "SET plan_cache_mode = force_custom_plan"
"""Filters that are not set cost nothing then."""


@attrs.frozen(kw_only=True)
class ArchiveFilter:
    """What is read; an extract has only what its messages belong to. All labels are in any."""

    connections: tuple[str, ...] = ()  # empty: all
    contact: str | None = None
    """Any address of a person: the chat with them, and what they wrote in groups."""
    conversation: int | None = None  # its number
    since: dt.datetime | None = None  # the messages sent from then
    until: dt.datetime | None = None  # until before then

    @property
    def extracts(self) -> bool:
        """Whether it leaves out messages of the connections that it names."""
        parts = (self.contact, self.conversation, self.since, self.until)
        return any(part is not None for part in parts)


Bounds: t.TypeAlias = tuple[int, int, int, int]


@attrs.frozen(kw_only=True)
class Cursor:
    """A place behind a page. It is good for the database, the filter of its page."""

    bounds: Bounds  # newest contact, chat, conversation, message
    connection: str = ""  # empty: before the first one
    section: str = ""  # of that connection; empty: before the first one
    key: tuple[t.Any, ...] = ()  # of the last row; empty: before the first one
    records: int = 0  # so far

    def dump(self) -> str:
        """As text: JSON."""
        return json.dumps(attrs.asdict(self), default=lambda moment: {"at": moment.isoformat()})

    @classmethod
    def load(cls, text: str) -> "Cursor":
        """The cursor that ``dump`` made a text of.

        Raises:
            StorageRejectedError: it is no such text.
        """
        try:
            parts = json.loads(text, object_hook=_moment)
            first, second, third, fourth = (int(part) for part in parts.pop("bounds"))
            key = tuple(parts.pop("key"))
            return cls(bounds=(first, second, third, fourth), key=key, **parts)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise StorageRejectedError("this is no cursor of an archive") from None


def _moment(found: dict[str, t.Any]) -> t.Any:
    return dt.datetime.fromisoformat(found["at"]) if found.keys() == {"at"} else found


@attrs.frozen
class Page:
    """Some records, and the place behind them."""

    records: tuple[Record, ...] = attrs.field(repr=False)
    cursor: Cursor


@attrs.frozen(kw_only=True)
class _Place:
    """A connection that is read, with what an extract takes of it; None: all."""

    id: int
    record: Connection
    contact: int | None = None
    chat: int | None = None  # that of the contact
    contacts: list[int] | None = None
    chats: list[int] | None = None
    conversations: list[int] | None = None


_Key: t.TypeAlias = tuple[t.Any, ...]


@attrs.frozen
class _Section:
    """One kind of record of a connection, page by page."""

    name: str
    key: tuple[str, ...]  # columns
    query: str = ""
    record: cabc.Callable[[str, rows.Row], Record] | None = None


_CONNECTION: t.Final = _Section("connection", ("id",))
_LABELS: t.Final = _Section("label", ("id",), "archive_labels", rows.label_of)
_CONTACTS: t.Final = _Section("contact", ("id",), "archive_contacts", rows.contact_of)
_GROUPS: t.Final = _Section("group", ("address",), "archive_groups", rows.group_of)
_CHATS: t.Final = _Section("chat", ("id",), "archive_chats", rows.chat_of)
_CONVERSATIONS: t.Final = _Section(
    "conversation", ("chat_id", "opened_at", "id"), "archive_conversations", rows.conversation_of
)
_MERGED: t.Final = _Section(
    "conversation_merged",
    ("chat_id", "opened_at", "id"),
    "archive_conversations_merged",
    rows.conversation_merged_of,
)
_MESSAGES: t.Final = _Section("message", ("id",), "archive_messages", rows.message_of)
_RECEIPTS: t.Final = _Section(
    "receipt", ("external_id", "chat", "recipient"), "archive_receipts", rows.receipt_of
)
_LINKS: t.Final = _Section(
    "label_link", ("chat", "label", "message_id"), "archive_label_links", rows.label_link_of
)
_SETTINGS: t.Final = _Section(
    "chat_setting", ("address", "setting"), "archive_chat_settings", rows.chat_setting_of
)
_SECTIONS: t.Final = (
    _CONNECTION,
    _LABELS,
    _CONTACTS,
    _GROUPS,
    _CHATS,
    _CONVERSATIONS,
    _MERGED,
    _MESSAGES,
    _RECEIPTS,
    _LINKS,
    _SETTINGS,
)


class ArchiveReader:
    """An asynchronous iterator of pages; it may be left at any time, and holds nothing open.

    The first record is a ``Header``, the last one an ``End``, which counts those before it.
    """

    def __init__(
        self,
        session: Maintenance,
        filters: ArchiveFilter | None = None,
        *,
        cursor: Cursor | None = None,
        page: int = PAGE,
    ) -> None:
        """``cursor``: go on behind that page, with the same filters as before."""
        self._session = session
        self._filters = filters or ArchiveFilter()
        self._cursor = cursor
        self._page = page
        self._places: list[_Place] | None = None  # those that are left, the current one first
        self._section = 0
        self._ended = False

    def __aiter__(self) -> t.Self:
        return self

    async def __anext__(self) -> Page:
        """The next page.

        Raises:
            StorageRejectedError: there is no such connection, contact or conversation.
            StorageUnavailableError: the database fails; go on from the last page's cursor.
        """
        if self._ended:
            raise StopAsyncIteration
        if self._places is None:
            self._places = await self._begin()
        if self._cursor is None:
            bounds = await self._session.fetch_one("archive_bounds")
            self._cursor = Cursor(bounds=tuple(bounds.values()))
            return self._turn(self._cursor, (Header(),))
        cursor = self._cursor
        while self._places:
            section = _SECTIONS[self._section]
            place = self._places[0]
            if place.contacts is None and self._filters.extracts:
                self._places[0] = place = await self._take(place, cursor.bounds)
            cursor = attrs.evolve(cursor, connection=place.record.connection, section=section.name)
            found = await self._read(place, section, cursor)
            if found is not None:
                records, key = found
                return self._turn(attrs.evolve(cursor, key=key), records)
            cursor = attrs.evolve(cursor, key=())
            self._section += 1
            if self._section == len(_SECTIONS):
                self._section = 0
                self._places.pop(0)
        self._ended = True
        return self._turn(cursor, (End(records=cursor.records),))

    def _turn(self, cursor: Cursor, records: tuple[Record, ...]) -> Page:
        self._cursor = attrs.evolve(cursor, records=cursor.records + len(records))
        return Page(records, self._cursor)

    async def _begin(self) -> list[_Place]:
        """The connections to read, from that of the cursor."""
        await self._session.run(_CUSTOM_PLANS)
        found = await self._session.fetch("archive_connections")
        places = [_Place(id=row["id"], record=rows.connection_of(row)) for row in found]
        names = [place.record.connection for place in places]
        if unknown := sorted(set(self._filters.connections) - set(names)):
            raise StorageRejectedError(f"there is no connection {unknown[0]!r}")
        if wanted := self._filters.connections:
            places = [place for place in places if place.record.connection in wanted]
        places = await self._with_contact(await self._with_conversation(places))
        if self._cursor is None or not self._cursor.connection:
            return places
        at = [place.record.connection for place in places]
        sections = [section.name for section in _SECTIONS]
        if self._cursor.connection not in at or self._cursor.section not in sections:
            raise StorageRejectedError("the cursor belongs to another database or filter")
        self._section = sections.index(self._cursor.section)
        return places[at.index(self._cursor.connection) :]

    async def _with_conversation(self, places: list[_Place]) -> list[_Place]:
        if (number := self._filters.conversation) is None:
            return places
        found = await self._session.fetch("archive_conversation", number)
        left = [place for place in places if [place.id] == [row["connection_id"] for row in found]]
        if not left:
            raise StorageRejectedError(f"there is no conversation {number} here")
        return left

    async def _with_contact(self, places: list[_Place]) -> list[_Place]:
        if (address := self._filters.contact) is None:
            return places
        left: list[_Place] = []
        for place in places:
            left += [
                attrs.evolve(place, contact=row["contact_id"], chat=row["chat_id"])
                for row in await self._session.fetch("archive_contact", place.id, address)
            ]
        if not left:
            raise StorageRejectedError("there is no contact with this address here")
        return left

    async def _take(self, place: _Place, bounds: Bounds) -> _Place:
        """What the messages of the extract belong to: it grows with conversations, not messages."""
        row = await self._session.fetch_one(
            "archive_relevant", place.id, bounds[3], *self._choice(place)
        )
        return attrs.evolve(place, **row)

    def _choice(self, place: _Place) -> tuple[t.Any, ...]:
        filters = self._filters
        return place.contact, place.chat, filters.conversation, filters.since, filters.until

    async def _read(
        self, place: _Place, section: _Section, cursor: Cursor
    ) -> tuple[tuple[Record, ...], _Key] | None:
        """The records behind the cursor's key and the key of the last one; None: no more."""
        if section.record is None:
            return None if cursor.key else ((place.record,), (place.id,))
        found = await self._session.fetch(section.query, *self._arguments(place, section, cursor))
        if not found:
            return None
        name = place.record.connection
        records = tuple(section.record(name, row) for row in found)
        return records, tuple(found[-1][column] for column in section.key)

    def _arguments(self, place: _Place, section: _Section, cursor: Cursor) -> tuple[t.Any, ...]:
        """The parameters of the section's statement; the last one is the size of a page."""
        contacts, chats, conversations, messages = cursor.bounds
        key = cursor.key or (None,) * len(section.key)
        choice = self._choice(place)
        if section is _RECEIPTS:
            return place.id, messages, *choice, *key, self._page, self._filters.extracts
        before: dict[_Section, tuple[t.Any, ...]] = {
            _LABELS: (*key,),
            _CONTACTS: (cursor.key[0] if cursor.key else 0, contacts, place.contacts),
            _GROUPS: (*key, place.chats),
            _CHATS: (cursor.key[0] if cursor.key else 0, chats, place.chats),
            _CONVERSATIONS: (conversations, place.conversations, *key),
            _MERGED: (conversations, place.conversations, *key),
            _MESSAGES: (messages, *choice, cursor.key[0] if cursor.key else 0, PAGE_BYTES),
            _LINKS: (*key, place.chats),
            _SETTINGS: (*key, place.chats),
        }
        return place.id, *before[section], self._page
