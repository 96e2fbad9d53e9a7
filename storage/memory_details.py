"""MemoryStorage: a message as it reads now; the rules of ``sql/views.sql``."""

import typing as t

from storage.inbox import (
    ADDON_KINDS,
    QUOTE_LENGTH,
    Deletion,
    MediaDetail,
    MessageDetail,
    MessageReceipt,
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
from storage.memory_state import SELF, Chat, Connection, Message, Receipt, optional_utc, utc


def stored(owner: Connection, row: Message) -> StoredMessage:
    """A message as the workers see it."""
    content = row.content
    return StoredMessage(
        id=row.id,
        connection=owner.name,
        conversation=row.conversation.id,
        chat=row.chat.address,
        chat_alt=_other_address(owner, row.chat),
        direct=row.chat.direct,
        senders=owner.addresses_of(row.sender),
        from_me=content.from_me,
        external_id=content.external_id,
        kind=content.kind,
        state="undecryptable" if row.placeholder else "stored",
        lane=content.lane.value,
        text=content.text,
        raw=content.raw,
        target_id=content.target_id,
        target_author=content.target_author,
        quoted_id=content.quoted_id,
        quoted_author=content.quoted_author,
        mentions=content.mentions,
        flags=content.flags,
        detail=content.detail or {},
        sent_at=utc(content.sent_at),
    )


def is_pending(row: Message) -> bool:
    """Whether it is an encrypted side message that is not opened yet."""
    kind, detail = row.content.kind, row.content.detail or {}
    opened = {"poll_vote": "options", "event_response": "response"}.get(kind)
    return kind in ADDON_KINDS and (opened is None or opened not in detail)


def means(owner: Connection, side: Message, row: Message) -> bool:
    """Whether a side message is about that message, as far as it names an author."""
    author = owner.contact_at(side.content.target_author)
    if author is None or author == row.sender:
        return True
    return row.chat.direct and author != SELF and not row.content.from_me


def order(row: Message) -> tuple[float, int, int]:
    return row.content.sent_at, row.arrival, row.id


def _newest(row: Message) -> tuple[float, float, str]:
    """Of several changes the greatest by this counts."""
    exact = (row.content.detail or {}).get("sent_at_ms")
    number = isinstance(exact, int | float) and not isinstance(exact, bool)
    return row.content.sent_at, t.cast(float, exact) if number else 0.0, row.content.external_id


def same_chat(owner: Connection, side: Message) -> list[Message]:
    """The messages of the chat that have the id a side message names."""
    return [
        row
        for row in owner.rows.values()
        if row.chat is side.chat
        and row.content.external_id == side.content.target_id
        and row is not side
    ]


def _sides(owner: Connection, row: Message, kind: str) -> list[Message]:
    """The side messages of one kind that name a message, oldest first."""
    return sorted(
        (
            side
            for side in owner.rows.values()
            if side.chat is row.chat
            and side is not row
            and side.content.kind == kind
            and side.content.target_id == row.content.external_id
        ),
        key=_newest,
    )


def edits(owner: Connection, row: Message) -> list[Message]:
    return [side for side in _sides(owner, row, "edit") if side.sender == row.sender]


def _current_text(owner: Connection, row: Message) -> str | None:
    return [row, *edits(owner, row)][-1].content.text


def person(owner: Connection, contact: int | None, address: str = "") -> Person:
    addresses = (address,) if contact is None else owner.addresses_of(contact)
    return Person(
        contact=contact,
        name=None if contact is None else owner.name_of(contact),
        addresses=addresses,
        shown=shown_address(addresses),
        is_self=contact == SELF,
    )


def person_at(owner: Connection, address: str) -> Person:
    return person(owner, owner.contact_at(address), address)


def message_detail(owner: Connection, row: Message, media: MediaDetail | None) -> MessageDetail:
    content = row.content
    changes = edits(owner, row)
    receipts = _receipts(owner, row) if content.from_me else ()
    return MessageDetail(
        id=row.id,
        connection=owner.name,
        conversation=row.conversation.id,
        chat=row.chat.address,
        direct=row.chat.direct,
        sender=person(owner, row.sender),
        from_me=content.from_me,
        external_id=content.external_id,
        kind=content.kind,
        state="undecryptable" if row.placeholder else "stored",
        lane=content.lane.value,
        text=_current_text(owner, row),
        original_text=content.text,
        versions=tuple(
            Version(
                text=item.content.text,
                at=utc(item.content.sent_at),
                external_id=item.content.external_id,
            )
            for item in ([row, *changes] if changes else [])
        ),
        deleted=deletion(owner, row),
        reactions=tuple(
            Reaction(
                sender=person(owner, side.sender),
                emoji=side.content.text,
                at=utc(side.content.sent_at),
            )
            for side in _latest(owner, row, "reaction")
            if side.content.text
        ),
        votes=tuple(
            PollVote(
                voter=person(owner, side.sender),
                options=options,
                at=utc(side.content.sent_at),
            )
            for side in _latest(owner, row, "poll_vote")
            if (options := _options(side))
        ),
        quoted=_quoted(owner, row),
        mentions=tuple(person_at(owner, address) for address in content.mentions),
        flags=content.flags,
        detail=content.detail or {},
        media=media,
        receipts=receipts,
        status=furthest(receipts) if content.from_me else None,
        target_id=content.target_id,
        reason=content.reason if row.placeholder else None,
        verdict=row.verdict,
        retries=row.retries,
        sent_at=utc(content.sent_at),
        received_at=utc(row.received_at),
        removed=row.erased,
    )


def _latest(owner: Connection, row: Message, kind: str) -> list[Message]:
    """The newest of everybody, in the order of time."""
    found = {
        side.sender: side
        for side in _sides(owner, row, kind)
        if means(owner, side, row) and (kind != "poll_vote" or _options(side) is not None)
    }
    return sorted(found.values(), key=_newest)


def _options(side: Message) -> tuple[str, ...] | None:
    options = (side.content.detail or {}).get("options")
    if not isinstance(options, list):
        return None
    return tuple(item for item in options if isinstance(item, str))


def deletion(owner: Connection, row: Message) -> Deletion | None:
    for side in _deletions(owner, row):
        return Deletion(by=person(owner, side.sender), at=utc(side.content.sent_at))
    return None


def _deletions(owner: Connection, row: Message) -> list[Message]:
    return [
        side
        for side in _sides(owner, row, "revoke")
        if side.sender == row.sender or (_by_admin(side) and means(owner, side, row))
    ]


def _by_admin(side: Message) -> bool:
    return not side.chat.direct and side.content.target_author is not None


def changes_of(owner: Connection, row: Message) -> list[Message]:
    """All edits and deletions of a message, the oldest first."""
    return sorted([*edits(owner, row), *_deletions(owner, row)], key=_newest)


def _quoted(owner: Connection, row: Message) -> Quoted | None:
    content = row.content
    if content.quoted_id is None:
        return None
    author = owner.contact_at(content.quoted_author)
    found = sorted(
        (
            item
            for item in owner.rows.values()
            if item.chat is row.chat and item.content.external_id == content.quoted_id
        ),
        key=lambda item: (author is None or item.sender != author, item.id),
    )
    if not found:
        return Quoted(
            external_id=content.quoted_id,
            id=None,
            author=person_at(owner, content.quoted_author) if content.quoted_author else None,
            text=None,
            kind=None,
        )
    text = _current_text(owner, found[0])
    return Quoted(
        external_id=content.quoted_id,
        id=found[0].id,
        author=person(owner, found[0].sender),
        text=None if text is None else text[:QUOTE_LENGTH],
        kind=found[0].content.kind,
    )


def _receipts(owner: Connection, row: Message) -> tuple[MessageReceipt, ...]:
    found: dict[int | str, tuple[str, Receipt]] = {}
    for (name, chat, recipient), receipt in sorted(owner.receipts.items()):
        if name != row.content.external_id or owner.chat_at(chat) is not row.chat:
            continue
        contact = owner.contact_at(recipient)
        if contact == SELF:
            continue
        _address, total = found.setdefault(
            recipient if contact is None else contact, (recipient, Receipt())
        )
        for status in ("delivered", "read", "played"):
            times = [getattr(item, status) for item in (total, receipt)]
            setattr(total, status, min((at for at in times if at is not None), default=None))
    return tuple(
        MessageReceipt(
            recipient=person_at(owner, address),
            delivered_at=optional_utc(receipt.delivered),
            read_at=optional_utc(receipt.read),
            played_at=optional_utc(receipt.played),
        )
        for address, receipt in sorted(found.values(), key=lambda item: item[0])
    )


def waiting(owner: Connection, row: Message) -> WaitingPlaceholder:
    return WaitingPlaceholder(
        id=row.id,
        connection=owner.name,
        chat=row.chat.address,
        chat_alt=_other_address(owner, row.chat),
        direct=row.chat.direct,
        senders=owner.addresses_of(row.sender),
        from_me=row.content.from_me,
        external_id=row.content.external_id,
        retries=row.retries,
        reason=row.content.reason,
        sent_at=utc(row.content.sent_at),
        received_at=utc(row.received_at),
    )


def _other_address(owner: Connection, chat: Chat) -> str | None:
    if chat.contact is None:
        return None
    return next((item for item in owner.addresses_of(chat.contact) if item != chat.address), None)
