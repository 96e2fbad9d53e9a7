"""Reading the inbox in PostgreSQL: see :class:`storage.inbox.Inbox` for what each method
promises; the rules are in ``sql/views.sql``."""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

import attrs

from storage.api import Lane, ReceivedMessage
from storage.facts import NameSource
from storage.identity import clean_text
from storage.inbox import (
    PAGE,
    ChatDetail,
    ContactDetail,
    Deletion,
    GroupDetail,
    GroupPerson,
    LabelRow,
    MediaDetail,
    MergeRow,
    MessageDetail,
    MessageReceipt,
    PendingAddon,
    Person,
    PollVote,
    Quoted,
    Reaction,
    StoredMessage,
    Version,
    WaitingPlaceholder,
    furthest,
    shown_address,
)
from storage.prepare import prepare_rewrite

_INT64_MAX: t.Final = 2**63 - 1
_STORED: t.Final = tuple(field.name for field in attrs.fields(StoredMessage))
_WAITING: t.Final = tuple(field.name for field in attrs.fields(WaitingPlaceholder))


class PostgresInbox(abc.ABC):
    """The part of PostgresStorage that reads."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    @abc.abstractmethod
    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named statement that is not to be cancelled half way."""

    async def conversation_messages(
        self, conversation_id: int, *, before: int | None = None, limit: int = 50
    ) -> list[MessageDetail]:
        """See :meth:`storage.inbox.Inbox.conversation_messages`."""
        if not (_is_id(conversation_id) and (before is None or _is_id(before))):
            return []
        rows = await self._fetch("conversation_messages", conversation_id, before, _limit(limit))
        return [_detail(row) for row in rows]

    async def message(self, message_id: int) -> MessageDetail | None:
        """See :meth:`storage.inbox.Inbox.message`."""
        rows = await self._fetch("message", message_id) if _is_id(message_id) else []
        return _detail(rows[0]) if rows else None

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        """See :meth:`storage.inbox.Inbox.find_message`."""
        wanted = (clean_text(external_id), None if author is None else clean_text(author))
        if chat is None:
            rows = await self._fetch("find_message_anywhere", connection, *wanted)
        else:
            rows = await self._fetch("find_message", connection, clean_text(chat), *wanted)
        return _stored(rows[0]) if rows else None

    async def oldest_message(self, connection: str, chat: str) -> StoredMessage | None:
        """See :meth:`storage.inbox.Inbox.oldest_message`."""
        rows = await self._fetch("oldest_message", connection, clean_text(chat))
        return _stored(rows[0]) if rows else None

    async def pending_addons(self, after: int, limit: int) -> list[PendingAddon]:
        """See :meth:`storage.inbox.Inbox.pending_addons`."""
        rows = await self._fetch("pending_addons", _after(after), _limit(limit))
        wanted = sorted({row["target_message"] for row in rows} - {None})
        targets = await self._fetch("stored_messages", wanted) if wanted else []
        by_id = {row["id"]: _stored(row) for row in targets}
        return [
            PendingAddon(message=_stored(row), target=by_id.get(row["target_message"]))
            for row in rows
        ]

    async def waiting_placeholders(
        self, connection: str | None, limit: int, *, after: int = 0
    ) -> list[WaitingPlaceholder]:
        """See :meth:`storage.inbox.Inbox.waiting_placeholders`."""
        rows = await self._fetch("waiting_placeholders", connection, _after(after), _limit(limit))
        return [
            WaitingPlaceholder(
                **{**{name: row[name] for name in _WAITING}, "senders": tuple(row["senders"])}
            )
            for row in rows
        ]

    async def unread_kinds(
        self,
        after: int,
        limit: int,
        *,
        connection: str | None = None,
        kinds: cabc.Sequence[str] | None = ("unknown",),
    ) -> list[StoredMessage]:
        """See :meth:`storage.inbox.Inbox.unread_kinds`."""
        arguments = (_after(after), connection, _limit(limit))
        if kinds is not None and list(kinds) == ["unknown"]:
            rows = await self._fetch("unread_unknown", *arguments)
        else:
            chosen = None if kinds is None else [clean_text(kind) for kind in kinds]
            rows = await self._fetch("unread_kinds", *arguments, chosen)
        return [_stored(row) for row in rows]

    async def rewrite(
        self, connection: str, message_id: int, message: ReceivedMessage, *, expected: str
    ) -> bool:
        """See :meth:`storage.inbox.Inbox.rewrite`."""
        new = prepare_rewrite(connection, message, expected, self._clock())
        media = new.media
        rows = await self._write(
            "rewrite",
            connection,
            message_id if _is_id(message_id) else 0,
            clean_text(expected),
            new.kind,
            new.text,
            new.target_id,
            new.target_author,
            new.quoted_id,
            new.quoted_author,
            list(new.mentions) or None,
            list(new.flags) or None,
            None if new.detail is None else json.dumps(new.detail, ensure_ascii=False),
            new.lane is Lane.SIDE,
            json.dumps(
                {} if media is None else {**attrs.asdict(media), "sha256": media.sha256.hex()}
            ),
        )
        return bool(rows)

    async def contacts(
        self,
        connection: str | None,
        *,
        query: str | None = None,
        after: int = 0,
        limit: int = 50,
    ) -> list[ContactDetail]:
        """See :meth:`storage.inbox.Inbox.contacts`."""
        wanted = clean_text(query) if query else None
        rows = await self._fetch("contacts", connection, wanted, _after(after), _limit(limit))
        return [_contact(row) for row in rows]

    async def contact(self, connection: str, address: str) -> ContactDetail | None:
        """See :meth:`storage.inbox.Inbox.contact`."""
        rows = await self._fetch("contact", connection, clean_text(address))
        return _contact(rows[0]) if rows else None

    async def contact_by_id(self, contact_id: int) -> ContactDetail | None:
        """See :meth:`storage.inbox.Inbox.contact_by_id`."""
        rows = await self._fetch("contact_by_id", contact_id) if _is_id(contact_id) else []
        return _contact(rows[0]) if rows else None

    async def merges(
        self, connection: str | None, *, before: int | None = None, limit: int = 50
    ) -> list[MergeRow]:
        """See :meth:`storage.inbox.Inbox.merges`."""
        below = None if before is None else _after(before)
        rows = await self._fetch("merges", connection, below, _limit(limit))
        return [_merge(row) for row in rows]

    async def unmerge(self, merge_id: int) -> MergeRow | None:
        """See :meth:`storage.inbox.Inbox.unmerge`."""
        if not _is_id(merge_id):
            return None
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        rows = await self._write("unmerge", merge_id, now)
        return _merge(rows[0]) if rows else None

    async def groups(
        self, connection: str, *, after: str = "", limit: int = 50
    ) -> list[GroupDetail]:
        """See :meth:`storage.inbox.Inbox.groups`."""
        rows = await self._fetch("groups", connection, clean_text(after), _limit(limit))
        return [_group(row) for row in rows]

    async def group(self, connection: str, address: str) -> GroupDetail | None:
        """See :meth:`storage.inbox.Inbox.group`."""
        rows = await self._fetch("group", connection, clean_text(address))
        return _group(rows[0]) if rows else None

    async def chat(self, connection: str, address: str) -> ChatDetail | None:
        """See :meth:`storage.inbox.Inbox.chat`."""
        rows = await self._fetch("chat", connection, clean_text(address))
        return _chat(rows[0]) if rows else None

    async def labels(self, connection: str) -> list[LabelRow]:
        """See :meth:`storage.inbox.Inbox.labels`."""
        return [LabelRow(**row) for row in await self._fetch("labels", connection)]


def _is_id(value: int) -> bool:
    return 0 < value <= _INT64_MAX


def _after(value: int) -> int:
    return max(0, min(value, _INT64_MAX))


def _limit(limit: int) -> int:
    return max(0, min(limit, PAGE))


def _json(text: str | None) -> t.Any:
    return None if text is None else json.loads(text)


def _at(text: str | None) -> t.Any:
    """A time out of jsonb, in UTC as times in columns are."""
    return None if text is None else dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def person_of(found: cabc.Mapping[str, t.Any]) -> Person:
    """A person out of jsonb."""
    addresses = tuple(found["addresses"])
    return Person(
        contact=found["contact"],
        name=found["name"],
        addresses=addresses,
        shown=shown_address(addresses),
        is_self=found["is_self"],
    )


def _stored(row: t.Any) -> StoredMessage:
    fields = {name: row[name] for name in _STORED}
    for name in ("senders", "mentions", "flags"):
        fields[name] = tuple(row[name] or ())
    return StoredMessage(**{**fields, "detail": _json(row["detail"]) or {}})


def _detail(row: t.Any) -> MessageDetail:
    edits = _json(row["edits"]) or []
    original = {
        "text": row["original_text"],
        "at": row["sent_at"].isoformat(),
        "external_id": row["external_id"],
    }
    deleted, quoted, media = (_json(row[name]) for name in ("deleted", "quoted", "media"))
    receipts = tuple(
        MessageReceipt(
            recipient=person_of(item["recipient"]),
            delivered_at=_at(item["delivered_at"]),
            read_at=_at(item["read_at"]),
            played_at=_at(item["played_at"]),
        )
        for item in _json(row["receipts"]) or ()
    )
    return MessageDetail(
        **{name: row[name] for name in _PLAIN},
        sender=person_of(_json(row["sender"])),
        versions=tuple(
            Version(text=item["text"], at=_at(item["at"]), external_id=item["external_id"])
            for item in ([original, *edits] if edits else [])
        ),
        deleted=Deletion(by=person_of(deleted["by"]), at=_at(deleted["at"])) if deleted else None,
        reactions=tuple(
            Reaction(sender=person_of(item["sender"]), emoji=item["emoji"], at=_at(item["at"]))
            for item in _json(row["reactions"]) or ()
        ),
        votes=tuple(
            PollVote(
                voter=person_of(item["voter"]), options=tuple(item["options"]), at=_at(item["at"])
            )
            for item in _json(row["votes"]) or ()
        ),
        quoted=_quoted(quoted) if quoted else None,
        mentions=tuple(person_of(item) for item in _json(row["mentions"]) or ()),
        flags=tuple(row["flags"] or ()),
        detail=_json(row["detail"]) or {},
        media=MediaDetail(**media) if media else None,
        receipts=receipts,
        status=furthest(receipts) if row["from_me"] else None,
    )


_PLAIN: t.Final = (
    "id",
    "connection",
    "conversation",
    "chat",
    "direct",
    "from_me",
    "external_id",
    "kind",
    "state",
    "lane",
    "text",
    "original_text",
    "target_id",
    "reason",
    "verdict",
    "removed",
    "retries",
    "sent_at",
    "received_at",
)


def _quoted(found: cabc.Mapping[str, t.Any]) -> Quoted:
    author = found["author"]
    return Quoted(**{**found, "author": None if author is None else person_of(author)})


def _contact(row: t.Any) -> ContactDetail:
    addresses, names = tuple(row["addresses"]), _json(row["names"])
    return ContactDetail(
        id=row["id"],
        connection=row["connection"],
        name=row["name"],
        names={source.value: names[source.value] for source in NameSource if source.value in names},
        addresses=addresses,
        shown=shown_address(addresses),
        is_self=row["is_self"],
        chat=row["chat"],
        created_at=row["created_at"],
    )


def _merge(row: t.Any) -> MergeRow:
    return MergeRow(**{**row, "addresses": tuple(row["addresses"])})


def _group(row: t.Any) -> GroupDetail:
    owner = _json(row["owner"])
    return GroupDetail(
        **{
            **row,
            "owner": None if owner is None else person_of(owner),
            "members": tuple(
                GroupPerson(person=person_of(item["person"]), role=item["role"])
                for item in _json(row["members"]) or ()
            ),
        }
    )


def _chat(row: t.Any) -> ChatDetail:
    told = _json(row["settings"]) or {}
    muted, read = told.get("muted_until"), told.get("read_until")
    return ChatDetail(
        connection=row["connection"],
        address=row["address"],
        title=row["title"],
        direct=row["direct"],
        archived=told.get("archived"),
        muted_until=_moment(muted) if muted and muted > 0 else None,
        muted=None if muted is None else muted != 0,
        pinned=told.get("pinned"),
        unread=told.get("unread"),
        read_until=None if read is None else _moment(read),
        expiration=told.get("expiration"),
        labels=tuple(LabelRow(**item) for item in _json(row["labels"]) or ()),
    )


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
