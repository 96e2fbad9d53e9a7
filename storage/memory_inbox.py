"""MemoryStorage: reading the inbox; the rules of ``sql/views.sql``."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from storage.api import Lane, ReceivedMessage
from storage.inbox import (
    ADDON_KINDS,
    PAGE,
    QUOTE_LENGTH,
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
from storage.memory_merge import unmerge
from storage.memory_state import (
    SELF,
    Chat,
    Connection,
    Group,
    MemoryState,
    Merge,
    Message,
    Receipt,
    optional_utc,
    utc,
)
from storage.prepare import prepare_rewrite


class MemoryInbox(MemoryState):
    """See :class:`storage.inbox.Inbox`."""

    async def conversation_messages(
        self, conversation_id: int, *, before: int | None = None, limit: int = 50
    ) -> list[MessageDetail]:
        """See :meth:`storage.inbox.Inbox.conversation_messages`."""
        await trio.lowlevel.checkpoint()
        for connection in self._connections.values():
            own = [
                row
                for row in connection.rows.values()
                if row.conversation.id == conversation_id and not row.side
            ]
            if before is not None:
                last = connection.rows.get(before)
                own = [row for row in own if last is not None and _order(row) < _order(last)]
            if own:
                own.sort(key=_order)
                page = own[-_limit(limit) :] if limit > 0 else []
                return [self._detail(connection, row) for row in page]
        return []

    async def message(self, message_id: int) -> MessageDetail | None:
        """See :meth:`storage.inbox.Inbox.message`."""
        await trio.lowlevel.checkpoint()
        for connection in self._connections.values():
            if (row := connection.rows.get(message_id)) is not None:
                return self._detail(connection, row)
        return None

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        """See :meth:`storage.inbox.Inbox.find_message`."""
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(connection):
            place = None if chat is None else owner.chat_at(chat)
            if chat is not None and place is None:
                return None
            contact = owner.contact_at(author)
            found = [
                row
                for row in owner.rows.values()
                if row.content.external_id == external_id and place in (None, row.chat)
            ]
            if found:
                return stored(owner, min(found, key=lambda row: (row.sender != contact, row.id)))
        return None

    async def oldest_message(self, connection: str, chat: str) -> StoredMessage | None:
        """See :meth:`storage.inbox.Inbox.oldest_message`."""
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(connection):
            place = owner.chat_at(chat)
            found = [
                row
                for row in owner.rows.values()
                if row.chat is place
                and not row.side
                and not row.content.external_id.startswith(("generated-", "hashed-"))
            ]
            if found:
                return stored(owner, min(found, key=_order))
        return None

    async def pending_addons(self, after: int, limit: int) -> list[PendingAddon]:
        """See :meth:`storage.inbox.Inbox.pending_addons`."""
        await trio.lowlevel.checkpoint()
        found: list[PendingAddon] = []
        for owner, row in self._rows(None, after):
            if is_pending(row) and len(found) < _limit(limit):
                targets = sorted(
                    (item for item in _same_chat(owner, row) if means(owner, row, item)),
                    key=lambda item: item.id,
                )
                target = stored(owner, targets[0]) if targets else None
                found.append(PendingAddon(message=stored(owner, row), target=target))
        return found

    async def waiting_placeholders(
        self, connection: str | None, limit: int, *, after: int = 0
    ) -> list[WaitingPlaceholder]:
        """See :meth:`storage.inbox.Inbox.waiting_placeholders`."""
        await trio.lowlevel.checkpoint()
        found = [
            (owner, row)
            for owner, row in self._rows(connection, after)
            if row.placeholder and row.verdict is None
        ]
        return [_waiting(owner, row) for owner, row in found[: _limit(limit)]]

    async def unread_kinds(
        self,
        after: int,
        limit: int,
        *,
        connection: str | None = None,
        kinds: cabc.Sequence[str] | None = ("unknown",),
    ) -> list[StoredMessage]:
        """See :meth:`storage.inbox.Inbox.unread_kinds`."""
        await trio.lowlevel.checkpoint()
        found = [
            stored(owner, row)
            for owner, row in self._rows(connection, after)
            if not row.placeholder and (kinds is None or row.content.kind in kinds)
        ]
        return found[: _limit(limit)]

    async def rewrite(
        self, connection: str, message_id: int, message: ReceivedMessage, *, expected: str
    ) -> bool:
        """See :meth:`storage.inbox.Inbox.rewrite`."""
        new = prepare_rewrite(connection, message, expected, self._clock())
        await trio.lowlevel.checkpoint()
        row = self._connection(connection).rows.get(message_id)
        if row is None or row.placeholder or row.content.kind != expected:
            return False
        lane = Lane.SIDE if new.lane is Lane.SIDE else row.content.lane
        fields = (
            "kind",
            "text",
            "target_id",
            "target_author",
            "quoted_id",
            "quoted_author",
            "mentions",
            "flags",
            "detail",
            "media",
        )
        row.content = attrs.evolve(
            row.content, lane=lane, **{name: getattr(new, name) for name in fields}
        )
        self._add_file(self._connection(connection), row)
        return True

    async def contacts(
        self,
        connection: str | None,
        *,
        query: str | None = None,
        after: int = 0,
        limit: int = 50,
    ) -> list[ContactDetail]:
        """See :meth:`storage.inbox.Inbox.contacts`."""
        await trio.lowlevel.checkpoint()
        found = [
            _contact(owner, row.id)
            for owner in self._chosen(connection)
            for row in owner.contacts.values()
            if row.id > max(after, SELF) and row.merged_into is None
        ]
        if query:
            found = [
                item
                for item in found
                if query.lower() in "\n".join((*item.names.values(), *item.addresses)).lower()
            ]
        found.sort(key=lambda item: (item.id, item.connection))
        return found[: _limit(limit)]

    async def contact(self, connection: str, address: str) -> ContactDetail | None:
        """See :meth:`storage.inbox.Inbox.contact`."""
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(connection):
            if (contact := owner.contact_at(address)) is not None:
                return _contact(owner, contact)
        return None

    async def merges(self, connection: str | None, *, limit: int = 50) -> list[MergeRow]:
        """See :meth:`storage.inbox.Inbox.merges`."""
        await trio.lowlevel.checkpoint()
        found = [(owner, item) for owner in self._chosen(connection) for item in owner.merges]
        found.sort(key=lambda item: item[1].id, reverse=True)
        return [_merge_row(owner, item) for owner, item in found[: _limit(limit)]]

    async def unmerge(self, merge_id: int) -> MergeRow | None:
        """See :meth:`storage.inbox.Inbox.unmerge`."""
        await trio.lowlevel.checkpoint()
        for owner in self._connections.values():
            for item in owner.merges:
                if item.id == merge_id:
                    unmerge(owner, item, self._clock())
                    for message, media in (item.files or {}).items():
                        self._media.setdefault((owner.name, message), media)
                    return _merge_row(owner, item)
        return None

    async def groups(
        self, connection: str, *, after: str = "", limit: int = 50
    ) -> list[GroupDetail]:
        """See :meth:`storage.inbox.Inbox.groups`."""
        await trio.lowlevel.checkpoint()
        found = [
            (owner, group)
            for owner in self._chosen(connection)
            for address, group in sorted(owner.groups.items())
            if address > after
        ]
        return [_group(owner, group, members=False) for owner, group in found[: _limit(limit)]]

    async def group(self, connection: str, address: str) -> GroupDetail | None:
        """See :meth:`storage.inbox.Inbox.group`."""
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(connection):
            if address in owner.groups:
                return _group(owner, owner.groups[address], members=True)
        return None

    async def chat(self, connection: str, address: str) -> ChatDetail | None:
        """See :meth:`storage.inbox.Inbox.chat`."""
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(connection):
            if (chat := owner.chat_at(address)) is not None:
                return _chat(owner, chat)
        return None

    async def labels(self, connection: str) -> list[LabelRow]:
        """See :meth:`storage.inbox.Inbox.labels`."""
        await trio.lowlevel.checkpoint()
        return [row for owner in self._chosen(connection) for row in _labels(owner, None)]

    def _rows(self, connection: str | None, after: int) -> list[tuple[Connection, Message]]:
        return sorted(
            (
                (owner, row)
                for owner in self._chosen(connection)
                for row in owner.rows.values()
                if row.id > after
            ),
            key=lambda item: item[1].id,
        )

    def _detail(self, owner: Connection, row: Message) -> MessageDetail:
        return _message_detail(owner, row, self._media_detail(owner, row))

    def _add_file(self, owner: Connection, row: Message) -> None:
        """The file of a message that is complete now."""
        if row.content.media is not None:
            live = row.content.lane is not Lane.HISTORY
            self._add_media(owner.name, row.id, row.content.media, live=live)

    def _move_files(self, owner: Connection) -> None:
        """Files of messages that became one stay with it, at the better of their states."""
        for merge in owner.merges:
            if merge.files is not None:
                continue
            merge.files = {}
            for loser, keeper in merge.duplicates:
                keys = [(owner.name, loser.id), (owner.name, keeper.id)]
                for key in keys:
                    if key in self._media:
                        merge.files.setdefault(key[1], attrs.evolve(self._media[key]))
                lost, kept = self._media.pop(keys[0], None), self._media.get(keys[1])
                if lost is not None and (
                    kept is None or (lost.state == "stored" and kept.state != "stored")
                ):
                    self._media[keys[1]] = lost

    def _media_detail(self, owner: Connection, row: Message) -> MediaDetail | None:
        media = self._media.get((owner.name, row.id))
        if media is None:
            return None
        return MediaDetail(
            kind=media.file.kind,
            state=media.state,
            mimetype=media.file.mimetype,
            size=media.file.size,
            name=media.file.name,
            blob_sha256=None if media.blob_sha256 is None else media.blob_sha256.hex(),
            error=media.error,
        )


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


def _limit(limit: int) -> int:
    return max(0, min(limit, PAGE))


def _order(row: Message) -> tuple[float, int, int]:
    return row.content.sent_at, row.arrival, row.id


def _newest(row: Message) -> tuple[float, float, str]:
    """Of several changes the greatest by this counts."""
    exact = (row.content.detail or {}).get("sent_at_ms")
    number = isinstance(exact, int | float) and not isinstance(exact, bool)
    return row.content.sent_at, t.cast(float, exact) if number else 0.0, row.content.external_id


def _same_chat(owner: Connection, side: Message) -> list[Message]:
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


def _edits(owner: Connection, row: Message) -> list[Message]:
    return [side for side in _sides(owner, row, "edit") if side.sender == row.sender]


def _current_text(owner: Connection, row: Message) -> str | None:
    return [row, *_edits(owner, row)][-1].content.text


def _person(owner: Connection, contact: int | None, address: str = "") -> Person:
    addresses = (address,) if contact is None else owner.addresses_of(contact)
    return Person(
        contact=contact,
        name=None if contact is None else owner.name_of(contact),
        addresses=addresses,
        shown=shown_address(addresses),
        is_self=contact == SELF,
    )


def _person_at(owner: Connection, address: str) -> Person:
    return _person(owner, owner.contact_at(address), address)


def _message_detail(owner: Connection, row: Message, media: MediaDetail | None) -> MessageDetail:
    content = row.content
    edits = _edits(owner, row)
    receipts = _receipts(owner, row) if content.from_me else ()
    return MessageDetail(
        id=row.id,
        connection=owner.name,
        conversation=row.conversation.id,
        chat=row.chat.address,
        direct=row.chat.direct,
        sender=_person(owner, row.sender),
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
            for item in ([row, *edits] if edits else [])
        ),
        deleted=_deletion(owner, row),
        reactions=tuple(
            Reaction(
                sender=_person(owner, side.sender),
                emoji=side.content.text,
                at=utc(side.content.sent_at),
            )
            for side in _latest(owner, row, "reaction")
            if side.content.text
        ),
        votes=tuple(
            PollVote(
                voter=_person(owner, side.sender),
                options=options,
                at=utc(side.content.sent_at),
            )
            for side in _latest(owner, row, "poll_vote")
            if (options := _options(side))
        ),
        quoted=_quoted(owner, row),
        mentions=tuple(_person_at(owner, address) for address in content.mentions),
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


def _deletion(owner: Connection, row: Message) -> Deletion | None:
    for side in _sides(owner, row, "revoke"):
        by_admin = not row.chat.direct and side.content.target_author is not None
        if side.sender == row.sender or (by_admin and means(owner, side, row)):
            return Deletion(by=_person(owner, side.sender), at=utc(side.content.sent_at))
    return None


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
            author=_person_at(owner, content.quoted_author) if content.quoted_author else None,
            text=None,
            kind=None,
        )
    text = _current_text(owner, found[0])
    return Quoted(
        external_id=content.quoted_id,
        id=found[0].id,
        author=_person(owner, found[0].sender),
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
            recipient=_person_at(owner, address),
            delivered_at=optional_utc(receipt.delivered),
            read_at=optional_utc(receipt.read),
            played_at=optional_utc(receipt.played),
        )
        for address, receipt in sorted(found.values(), key=lambda item: item[0])
    )


def _waiting(owner: Connection, row: Message) -> WaitingPlaceholder:
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


def _contact(owner: Connection, contact: int) -> ContactDetail:
    addresses = owner.addresses_of(contact)
    chat = owner.chats.get(contact)
    names = owner.names_of(contact)
    return ContactDetail(
        id=contact,
        connection=owner.name,
        name=owner.name_of(contact),
        names={source.value: name for source, name in names.items()},
        addresses=addresses,
        shown=shown_address(addresses),
        is_self=contact == SELF,
        chat=None if chat is None else chat.id,
        created_at=utc(owner.contacts[contact].created_at),
    )


def _merge_row(owner: Connection, merge: Merge) -> MergeRow:
    return MergeRow(
        id=merge.id,
        connection=owner.name,
        survivor=merge.survivor,
        merged=merge.merged,
        addresses=tuple(merge.addresses),
        messages=len(merge.messages),
        duplicates=len(merge.duplicates),
        source=merge.source,
        merged_at=utc(merge.merged_at),
        undone_at=optional_utc(merge.undone_at),
    )


def _group(owner: Connection, group: Group, *, members: bool) -> GroupDetail:
    parts = {name: value for name, (_at, value) in group.parts.items()}
    return GroupDetail(
        connection=owner.name,
        address=group.address,
        subject=parts.get("subject"),
        description=parts.get("description"),
        owner=None if group.owner is None else _person_at(owner, group.owner),
        created_at=optional_utc(group.created_at),
        announce=parts.get("announce"),
        locked=parts.get("locked"),
        expiration=parts.get("expiration"),
        members=_members(owner, group) if members else (),
    )


def _members(owner: Connection, group: Group) -> tuple[GroupPerson, ...]:
    """Of a person's addresses the one heard of last tells."""
    last: dict[int | str, tuple[float, bool, str, str]] = {}
    for address, row in group.members.items():
        contact = owner.contact_at(address)
        key = address if contact is None else contact
        state = (row.at, row.present, row.role, address)
        last[key] = max(last.get(key, state), state)
    return tuple(
        GroupPerson(person=_person_at(owner, address), role=role)
        for _at, present, role, address in sorted(last.values(), key=lambda item: item[3])
        if present
    )


def _chat(owner: Connection, chat: Chat) -> ChatDetail:
    addresses = (chat.address,) if chat.contact is None else owner.addresses_of(chat.contact)
    newest: dict[str, tuple[float, t.Any]] = {}
    for (address, name), dated in owner.settings.items():
        if address in addresses:
            newest[name] = max(newest.get(name, dated), dated)
    told: dict[str, t.Any] = {name: value for name, (_at, value) in newest.items()}
    muted = told.get("muted_until")
    return ChatDetail(
        connection=owner.name,
        address=chat.address,
        title=owner.title(chat),
        direct=chat.direct,
        archived=told.get("archived"),
        muted_until=utc(muted) if muted and muted > 0 else None,
        muted=None if muted is None else muted != 0,
        pinned=told.get("pinned"),
        unread=told.get("unread"),
        read_until=optional_utc(told.get("read_until")),
        expiration=told.get("expiration"),
        labels=tuple(_labels(owner, addresses)),
    )


def _labels(owner: Connection, addresses: cabc.Container[str] | None) -> list[LabelRow]:
    """The labels that are not deleted; only those on a chat, when its addresses are given."""
    newest: dict[str, tuple[float, bool]] = {}
    for (chat, label, message), dated in owner.links.items():
        if addresses is not None and not message and chat in addresses:
            newest[label] = max(newest.get(label, dated), dated)
    return [
        LabelRow(id=name, name=text, color=color)
        for name, (_at, deleted, text, color) in sorted(owner.labels.items())
        if not deleted and (addresses is None or newest.get(name, (0, False))[1])
    ]
