"""MemoryStorage: reading the inbox; the rules of ``sql/views.sql``."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from storage.api import Lane, ReceivedMessage
from storage.inbox import (
    PAGE,
    ChatDetail,
    ContactDetail,
    GroupDetail,
    LabelRow,
    MediaDetail,
    MergeRow,
    MessageDetail,
    PendingAddon,
    StoredMessage,
    WaitingPlaceholder,
)
from storage.memory_details import (
    is_pending,
    means,
    message_detail,
    order,
    same_chat,
    stored,
    waiting,
)
from storage.memory_events import event_time
from storage.memory_merge import unmerge
from storage.memory_people import (
    chat_detail,
    contact_detail,
    group_detail,
    label_rows,
    merge_row,
)
from storage.memory_state import SELF, Connection, MemoryState, Message
from storage.prepare import prepare_rewrite
from storage.queues import MediaState

CHANGES: t.Final = {"edit": "message.edited", "revoke": "message.deleted"}


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
                own = [row for row in own if last is not None and order(row) < order(last)]
            if own:
                own.sort(key=order)
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
                return stored(owner, min(found, key=order))
        return None

    async def pending_addons(self, after: int, limit: int) -> list[PendingAddon]:
        """See :meth:`storage.inbox.Inbox.pending_addons`."""
        await trio.lowlevel.checkpoint()
        found: list[PendingAddon] = []
        for owner, row in self._rows(None, after):
            if is_pending(row) and len(found) < _limit(limit):
                targets = sorted(
                    (item for item in same_chat(owner, row) if means(owner, row, item)),
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
        return [waiting(owner, row) for owner, row in found[: _limit(limit)]]

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
        opened = new.kind in CHANGES and new.kind != expected
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
        if opened:
            self._tell_message(self._connection(connection), row, filled=False)
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
            contact_detail(owner, row.id)
            for owner in self._chosen(connection)
            for row in owner.contacts.values()
            if row.id > max(after, SELF)
            and row.merged_into is None
            and owner.addresses_of(row.id)  # else it was forgotten
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
                return contact_detail(owner, contact)
        return None

    async def contact_by_id(self, contact_id: int) -> ContactDetail | None:
        """See :meth:`storage.inbox.Inbox.contact_by_id`."""
        await trio.lowlevel.checkpoint()
        for owner in self._connections.values():
            row = owner.contacts.get(contact_id)
            if row is not None and row.id != SELF and row.merged_into is None:
                return contact_detail(owner, contact_id)
        return None

    async def merges(
        self, connection: str | None, *, before: int | None = None, limit: int = 50
    ) -> list[MergeRow]:
        """See :meth:`storage.inbox.Inbox.merges`."""
        await trio.lowlevel.checkpoint()
        found = [
            (owner, item)
            for owner in self._chosen(connection)
            for item in owner.merges
            if before is None or item.id < before
        ]
        found.sort(key=lambda item: item[1].id, reverse=True)
        return [merge_row(owner, item) for owner, item in found[: _limit(limit)]]

    async def unmerge(self, merge_id: int) -> MergeRow | None:
        """See :meth:`storage.inbox.Inbox.unmerge`."""
        await trio.lowlevel.checkpoint()
        for owner in self._connections.values():
            for item in owner.merges:
                if item.id == merge_id:
                    before = [(each, each.status) for each, _before in item.conversations]
                    unmerge(owner, item, self._clock())
                    for each, status in before:
                        if each.status != status:
                            self._tell_conversation(owner, each, status)
                    self._put_back_files(owner, item.files or {})
                    return merge_row(owner, item)
        return None

    def _put_back_files(self, owner: Connection, files: cabc.Mapping[int, t.Any]) -> None:
        there = {
            media.blob_sha256 for media in self._media.values() if media.state == MediaState.STORED
        }
        for number, media in files.items():
            if owner.rows[number].erased is not None:
                continue
            if media.state == MediaState.STORED and media.blob_sha256 not in there:
                media.state = MediaState.REMOVED.value  # nobody had it, so it was deleted
            self._media.setdefault((owner.name, number), media)

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
        return [
            group_detail(owner, group, members=False) for owner, group in found[: _limit(limit)]
        ]

    async def group(self, connection: str, address: str) -> GroupDetail | None:
        """See :meth:`storage.inbox.Inbox.group`."""
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(connection):
            if address in owner.groups:
                return group_detail(owner, owner.groups[address], members=True)
        return None

    async def chat(self, connection: str, address: str) -> ChatDetail | None:
        """See :meth:`storage.inbox.Inbox.chat`."""
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(connection):
            if (chat := owner.chat_at(address)) is not None:
                return chat_detail(owner, chat)
        return None

    async def labels(self, connection: str) -> list[LabelRow]:
        """See :meth:`storage.inbox.Inbox.labels`."""
        await trio.lowlevel.checkpoint()
        return [row for owner in self._chosen(connection) for row in label_rows(owner, None)]

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
        return message_detail(owner, row, self._media_detail(owner, row))

    def _tell_message(self, owner: Connection, row: Message, *, filled: bool) -> None:
        """What the stream of events tells of a message that was stored, or filled in."""
        if filled:
            self._tell("message.recovered", owner.name, **_told(row))
        if row.placeholder:
            self._tell("message.undecryptable", owner.name, **_told(row))
        elif row.content.kind in CHANGES:
            self._tell(CHANGES[row.content.kind], owner.name, **_told_change(owner, row))
        elif not filled:
            self._tell("message.stored", owner.name, **_told(row))

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


def _limit(limit: int) -> int:
    return max(0, min(limit, PAGE))


def _told(row: Message) -> dict[str, t.Any]:
    return {
        "message_id": row.id,
        "conversation_id": row.conversation.id,
        "chat": row.chat.address,
        "external_id": row.content.external_id,
        "kind": row.content.kind,
        "from_me": row.content.from_me,
        "sent_at": event_time(row.content.sent_at),
        "target_id": row.content.target_id,
        "verdict": "placeholder" if row.placeholder else "stored",
    }


def _told_change(owner: Connection, row: Message) -> dict[str, t.Any]:
    """Of an edit or a deletion: which message it changes, if that is there."""
    authors = [row.sender]
    if row.content.kind == "revoke":
        named = owner.contact_at(row.content.target_author)
        authors += [] if named is None else [named]
    keys = [(row.chat.id, author, row.content.target_id or "") for author in authors]
    found = [owner.keys[key] for key in keys if key in owner.keys and owner.keys[key] is not row]
    target = found[0] if found else None
    told = _told(row) | {
        "message_id": None if target is None else target.id,
        "conversation_id": (target or row).conversation.id,
        "external_id": row.content.target_id,
        "change_id": row.id,
        "verdict": "stored",
    }
    del told["target_id"]
    return told
