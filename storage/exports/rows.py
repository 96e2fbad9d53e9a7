"""Messages as people read them, out of the database, page by page in a stable order.

Conversations come by connection, chat and time; their messages by time. Pages are bounded, small
conversations share one, and nothing is held open between two: no transaction, no cursor of the
server. What arrived after the beginning is left out by its number, so it ends.
"""

import collections.abc as cabc
import datetime as dt
import json
import typing as t

import attrs

from storage.errors import StorageRejectedError
from storage.exports.model import Start
from storage.inbox import shown_address

PAGE: t.Final = 1000  # messages that are read at once
CONVERSATIONS: t.Final = 200  # the same
REMOVED: t.Final = "removed"  # what stands for content, and for people, that were erased
EPOCH: t.Final = dt.datetime.min.replace(tzinfo=dt.UTC)

Row: t.TypeAlias = cabc.Mapping[str, t.Any]


class Session(t.Protocol):
    """A session on the database: see ``storage.maintenance``."""

    async def fetch(self, query: str, *arguments: t.Any) -> list[t.Any]:
        """The rows of a named query."""
        ...


@attrs.frozen(kw_only=True)
class Place:
    """Behind which conversation, or inside which."""

    connection: int = 0
    chat: int = 0
    opened_at: dt.datetime = EPOCH
    conversation: int = 0
    message: tuple[dt.datetime, int, int] | None = None
    """Of the last one that is done with (sent_at, arrival, id); None: all of the conversation."""

    def as_json(self) -> list[t.Any]:
        """For a cursor."""
        head = [self.connection, self.chat, self.opened_at.isoformat(), self.conversation]
        if self.message is None:
            return head
        sent_at, arrival, number = self.message
        return [*head, sent_at.isoformat(), arrival, number]

    @classmethod
    def from_json(cls, facts: list[t.Any]) -> t.Self:
        """The reverse."""
        message = None
        if len(facts) > 4:
            message = (dt.datetime.fromisoformat(facts[4]), int(facts[5]), int(facts[6]))
        return cls(
            connection=int(facts[0]),
            chat=int(facts[1]),
            opened_at=dt.datetime.fromisoformat(facts[2]),
            conversation=int(facts[3]),
            message=message,
        )


@attrs.frozen(kw_only=True)
class Conversation:
    """A conversation that messages are of."""

    id: int
    connection_id: int
    connection: str
    chat_id: int
    direct: bool
    name: str | None = attrs.field(repr=False)  # of the person, or the subject of the group
    address: str = attrs.field(repr=False)
    status: str
    opened_at: dt.datetime
    last_message_at: dt.datetime
    closed_at: dt.datetime | None
    messages: int  # that it has; an export may hold fewer

    @property
    def title(self) -> str:
        """For people."""
        return self.name or shown_address([self.address])

    @property
    def done(self) -> Place:
        """Behind it."""
        return Place(
            connection=self.connection_id,
            chat=self.chat_id,
            opened_at=self.opened_at,
            conversation=self.id,
        )

    def behind(self, message: "Message") -> Place:
        """Inside it."""
        return attrs.evolve(self.done, message=(message.sent_at, message.arrival, message.id))


@attrs.frozen(kw_only=True)
class Attachment:
    """The file of a message, as its sender claims it."""

    kind: str
    type: str | None
    name: str | None = attrs.field(repr=False)
    size: int | None  # bytes
    blob: bytes | None = attrs.field(repr=False)  # SHA-256, if the file is stored


@attrs.frozen(kw_only=True)
class Message:
    """A message as it looks now."""

    id: int
    arrival: int
    sent_at: dt.datetime
    external_id: str
    kind: str
    from_me: bool
    sender: str = attrs.field(repr=False)  # an address
    sender_name: str | None = attrs.field(repr=False)
    text: str | None = attrs.field(repr=False)
    edited: bool = False
    deleted_at: dt.datetime | None = None
    quoted_id: str | None = None
    quoted_text: str | None = attrs.field(default=None, repr=False)
    detail: t.Any = attrs.field(default=None, repr=False)
    flags: tuple[str, ...] = ()
    file: Attachment | None = None
    reactions: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    """Sign and name of who reacts with it."""
    removed: str | None = None
    """Why it has no content any more: "retention" or "forgotten"."""

    @property
    def author(self) -> str:
        """For people."""
        return self.sender_name or (shown_address([self.sender]) if self.sender else REMOVED)

    @property
    def empty(self) -> bool:
        """Whether nothing of it is left to show."""
        return self.removed is not None and not self.text


@attrs.frozen(kw_only=True)
class Stretch:
    """Messages of one conversation that follow each other."""

    conversation: Conversation
    messages: tuple[Message, ...]
    ends: bool  # there are no more of the conversation


async def check_scope(session: Session, start: Start) -> None:
    """See that the filters mean something.

    Raises:
        StorageRejectedError: one names what is not there.
    """
    request = start.request
    [found] = await session.fetch(
        "export_scope", request.connection, request.contact, request.conversation
    )
    if not found["connection"]:
        what = f"no connection {request.connection}" if request.connection else "no connection yet"
        raise StorageRejectedError(f"there is {what}; zapvisor status lists them")
    if request.contact is not None and not found["contact"]:
        raise StorageRejectedError(
            "there is no chat with that contact; zapvisor contacts lists the addresses"
        )
    if request.conversation is not None and not found["conversation"]:
        raise StorageRejectedError(
            f"there is no conversation {request.conversation}"
            + (f" of {request.connection}" if request.connection else "")
            + "; zapvisor conversations lists them"
        )


async def stretches(
    session: Session, start: Start, place: Place, *, page: int = PAGE
) -> cabc.AsyncGenerator[Stretch, None]:
    """All there is behind a place; to be closed when it is left early."""
    inside = place if place.message is not None else None
    if inside is not None:  # that conversation itself once more
        place = attrs.evolve(place, conversation=place.conversation - 1, message=None)
    while found := await conversations(session, start, place):
        place = found[-1].done
        while found:
            batch = _batch(found, page)
            after: list[Place | None] = [None] * len(batch)
            if inside is not None and batch[0].id == inside.conversation:
                after[0] = inside
            inside = None
            rows = await _messages(session, start, batch, after, page)
            full = len(rows) == page
            last = rows[-1]["ord"] if full else len(batch)
            for stretch in _grouped(batch, rows, last, full):
                yield stretch
            if full:
                inside = batch[last - 1].behind(_message(rows[-1]))
                found = found[last - 1 :]
            else:
                found = found[len(batch) :]


async def conversations(
    session: Session, start: Start, place: Place, *, limit: int = CONVERSATIONS
) -> list[Conversation]:
    """The next conversations behind a place that have messages in the export."""
    request = start.request
    rows = await session.fetch(
        "export_conversations",
        place.connection,
        place.chat,
        place.opened_at,
        place.conversation,
        request.connection,
        request.contact,
        request.conversation,
        start.bound,
        request.since,
        request.until,
        limit,
    )
    return [_conversation(row) for row in rows]


def _batch(found: list[Conversation], page: int) -> list[Conversation]:
    """The first ones, as many as about fill a page."""
    total = count = 0
    for each in found:
        total += max(1, each.messages)
        count += 1
        if total >= page:
            break
    return found[:count]


async def _messages(
    session: Session,
    start: Start,
    batch: list[Conversation],
    after: list[Place | None],
    page: int,
) -> list[Row]:
    places = [(EPOCH, 0, 0) if each is None else each.message or (EPOCH, 0, 0) for each in after]
    request = start.request
    return await session.fetch(
        "export_messages",
        [each.connection_id for each in batch],
        [each.id for each in batch],
        [each[0] for each in places],
        [each[1] for each in places],
        [each[2] for each in places],
        start.bound,
        request.since,
        request.until,
        page,
    )


def _grouped(
    batch: list[Conversation], rows: list[Row], last: int, full: bool
) -> cabc.Iterator[Stretch]:
    """The rows by conversation; those up to ``last`` were looked at, it perhaps not to its end."""
    by_number: dict[int, list[Message]] = {}
    for row in rows:
        by_number.setdefault(row["ord"], []).append(_message(row))
    for number in range(1, last + 1):
        messages = by_number.get(number, [])
        ends = not (full and number == last)
        yield Stretch(conversation=batch[number - 1], messages=tuple(messages), ends=ends)


def _conversation(row: Row) -> Conversation:
    return Conversation(
        id=row["id"],
        connection_id=row["connection_id"],
        connection=row["connection"],
        chat_id=row["chat_id"],
        direct=row["chat_kind"] == "direct",
        name=row["name"],
        address=row["address"] or row["chat"],
        status=row["status"],
        opened_at=row["opened_at"],
        last_message_at=row["last_message_at"],
        closed_at=row["closed_at"],
        messages=row["messages"],
    )


def _message(row: Row) -> Message:
    file = None
    if row["file_kind"] is not None:
        file = Attachment(
            kind=row["file_kind"],
            type=row["file_type"],
            name=row["file_name"],
            size=row["file_size"],
            blob=row["blob"],
        )
    return Message(
        id=row["id"],
        arrival=row["arrival"],
        sent_at=row["sent_at"],
        external_id=row["external_id"],
        kind=row["kind"],
        from_me=row["from_me"],
        sender=row["sender"] or "",
        sender_name=row["sender_name"],
        text=row["text"],
        edited=row["edited"],
        deleted_at=row["deleted_at"],
        quoted_id=row["quoted_id"],
        quoted_text=row["quoted_text"],
        detail=_json(row["detail"]),
        flags=tuple(row["flags"] or ()),
        file=file,
        removed=row["removed"],
        reactions=tuple((emoji, who or "") for emoji, who in _json(row["reactions"]) or ()),
    )


def _json(value: t.Any) -> t.Any:
    return json.loads(value) if isinstance(value, str) else value
