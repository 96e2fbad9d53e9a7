"""Search in MemoryStorage: see :class:`storage.search.Search`. It reads all texts every time."""

import collections.abc as cabc

import trio

from storage.api import ConversationRow
from storage.errors import StorageRejectedError
from storage.inbox import PAGE
from storage.memory_details import deletion, edits, person
from storage.memory_gaps import MemoryGaps, possible_hole
from storage.memory_state import SELF, Chat, Connection, Conversation, Message, optional_utc, utc
from storage.search import (
    MAX_NAME,
    Filter,
    Found,
    Hit,
    Hits,
    IndexStep,
    Position,
    Query,
    words_of,
)


class MemorySearch(MemoryGaps):
    """The part of MemoryStorage that finds."""

    async def find_conversations(
        self,
        wanted: Filter,
        *,
        query: Query | None = None,
        before: Position | None = None,
        limit: int = 50,
    ) -> Found:
        """See :meth:`storage.search.Search.find_conversations`."""
        await trio.lowlevel.checkpoint()
        rows = [
            conversation_row(owner, item)
            for owner in self._chosen(wanted.connection)
            for chat in owner.chats.values()
            if _is_wanted(owner, chat, wanted)
            for item in chat.conversations
            if item.merged_into is None and wanted.status in (None, item.status)
        ]
        if query is not None:
            among = {hit.conversation for hit in self._hits(query, wanted)}
            among |= {
                item.id
                for owner in self._chosen(wanted.connection)
                for chat in owner.chats.values()
                if any(query.fits(words_of(name[:MAX_NAME])) for name in owner.all_names(chat))
                for item in chat.conversations
            }
            rows = [row for row in rows if row.id in among]
        since, until = wanted.since, wanted.until
        rows = [
            row
            for row in rows
            if (since is None or row.last_message_at >= since)
            and (until is None or row.opened_at < until)
            and (before is None or (row.last_message_at, row.id) < before)
        ]
        rows.sort(key=lambda row: (row.last_message_at, row.id), reverse=True)
        return Found(tuple(rows[: _limit(limit)]))

    async def conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.search.Search.conversation`."""
        await trio.lowlevel.checkpoint()
        found = self._find_conversation(conversation_id)
        return None if found is None else conversation_row(*found)

    async def reopen_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.search.Search.reopen_conversation`."""
        await trio.lowlevel.checkpoint()
        found = self._find_conversation(conversation_id)
        if found is None:
            return None
        owner, conversation = found
        if conversation.merged_into is not None:
            raise StorageRejectedError(f"conversation {conversation_id} went into another one")
        live = next((item for item in conversation.chat.conversations if item.live), None)
        if live is None:
            previous = conversation.status
            conversation.status, conversation.closed_at = "waiting", None
            self._tell_conversation(owner, conversation, previous)
        elif live is not conversation:
            raise StorageRejectedError(f"conversation {live.id} of the same chat is live")
        return conversation_row(*found)

    async def live_conversation(self, conversation_id: int) -> int | None:
        """See :meth:`storage.search.Search.live_conversation`."""
        await trio.lowlevel.checkpoint()
        found = self._find_conversation(conversation_id)
        if found is None:
            return None
        return next((item.id for item in found[1].chat.conversations if item.live), None)

    async def search_messages(
        self, query: Query, wanted: Filter, *, before: Position | None = None, limit: int = 50
    ) -> Hits:
        """See :meth:`storage.search.Search.search_messages`."""
        await trio.lowlevel.checkpoint()
        since, until = wanted.since, wanted.until
        hits = [
            hit
            for hit in self._hits(query, wanted)
            if (since is None or hit.at >= since)
            and (until is None or hit.at < until)
            and (before is None or (hit.at, hit.version) < before)
        ]
        hits.sort(key=lambda hit: (hit.at, hit.version), reverse=True)
        page = tuple(hits[: _limit(limit)])
        if len(hits) <= len(page):
            return Hits(page, None)
        return Hits(page, (page[-1].at, page[-1].version) if page else before)

    async def index_messages(self, limit: int) -> IndexStep:
        """See :meth:`storage.search.Search.index_messages`: there is no index to make."""
        await trio.lowlevel.checkpoint()
        return IndexStep(0, behind=False, filling=False)

    async def search_complete(self) -> bool:
        """See :meth:`storage.search.Search.search_complete`."""
        await trio.lowlevel.checkpoint()
        return True

    async def search_waiting(self) -> int:
        """See :meth:`storage.search.Search.search_waiting`: all is found at once."""
        await trio.lowlevel.checkpoint()
        return 0

    def _find_conversation(self, conversation_id: int) -> tuple[Connection, Conversation] | None:
        for owner in self._connections.values():
            for chat in owner.chats.values():
                for item in chat.conversations:
                    if item.id == conversation_id:
                        return owner, item
        return None

    def _hits(self, query: Query, wanted: Filter) -> list[Hit]:
        return [
            hit
            for owner in self._chosen(wanted.connection)
            for row in owner.rows.values()
            if not row.side and not row.placeholder and _is_wanted(owner, row.chat, wanted)
            for hit in _versions(owner, row)
            if query.fits(words_of(hit.text))
            and (hit.current or wanted.former)
            and (not hit.deleted or wanted.deleted)
        ]


def _versions(owner: Connection, row: Message) -> cabc.Iterator[Hit]:
    """All texts of a message."""
    texts = [row, *edits(owner, row)]
    deleted = deletion(owner, row) is not None
    for item in texts:
        if item.content.text is not None:
            yield Hit(
                message=row.id,
                version=item.id,
                connection=owner.name,
                conversation=row.conversation.id,
                chat=row.chat.address,
                title=owner.title(row.chat),
                sender=person(owner, row.sender),
                from_me=row.content.from_me,
                kind=row.content.kind,
                at=utc(item.content.sent_at),
                current=item is texts[-1],
                deleted=deleted,
                text=item.content.text,
            )


def _is_wanted(owner: Connection, chat: Chat, wanted: Filter) -> bool:
    if wanted.contact is None and wanted.address is None:
        return True
    by_id = wanted.contact is not None and wanted.contact != SELF and chat.contact == wanted.contact
    return by_id or (wanted.address is not None and owner.chat_at(wanted.address) is chat)


def _limit(limit: int) -> int:
    return max(0, min(limit, PAGE))


def conversation_row(connection: Connection, conversation: Conversation) -> ConversationRow:
    """A conversation for lists."""
    into = conversation.merged_into
    return ConversationRow(
        id=conversation.id,
        connection=connection.name,
        chat=conversation.chat.address,
        title=connection.title(conversation.chat),
        status=conversation.status,
        messages=conversation.messages,
        opened_at=utc(conversation.opened_at),
        last_message_at=utc(conversation.last_message_at),
        closed_at=optional_utc(conversation.closed_at),
        reopened=conversation.reopened,
        merged_into=None if into is None else into.id,
        possible_hole=possible_hole(connection, conversation),
    )
