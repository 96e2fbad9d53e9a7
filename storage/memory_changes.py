"""Changes of messages in MemoryStorage: see :class:`storage.changes.Changes`."""

import collections.abc as cabc
import itertools

import attrs
import trio

from storage.changes import Access, AccessRow, Change, ChangeFilter, ChangeKind
from storage.inbox import PAGE
from storage.memory_details import changes_of, deletion, edits, person
from storage.memory_inbox import MemoryInbox
from storage.memory_state import SELF, Chat, Connection, Message, utc
from storage.search import Position

_KINDS = {"edit": ChangeKind.EDITED.value, "revoke": ChangeKind.DELETED.value}


class MemoryChanges(MemoryInbox):
    """The part of MemoryStorage that knows of changes."""

    def __init__(self, clock: cabc.Callable[[], float]) -> None:
        super().__init__(clock)
        self._accesses: list[AccessRow] = []
        self._access_ids = itertools.count(1)

    async def changes(
        self,
        wanted: ChangeFilter,
        *,
        content: bool = False,
        before: Position | None = None,
        limit: int = 50,
    ) -> list[Change]:
        """See :meth:`storage.changes.Changes.changes`."""
        await trio.lowlevel.checkpoint()
        found = [
            self._change(owner, row, side, content=content)
            for owner in self._chosen(wanted.connection)
            for row in owner.rows.values()
            if _is_wanted(owner, row.chat, wanted)
            for side in changes_of(owner, row)
        ]
        found = [
            each
            for each in found
            if wanted.kind in (None, each.kind)
            and (wanted.since is None or each.at >= wanted.since)
            and (wanted.until is None or each.at < wanted.until)
            and (before is None or (each.at, each.change) < before)
        ]
        found.sort(key=lambda each: (each.at, each.change), reverse=True)
        return found[: max(0, min(limit, PAGE))]

    async def changes_of(self, message_id: int) -> list[Change]:
        """See :meth:`storage.changes.Changes.changes_of`."""
        await trio.lowlevel.checkpoint()
        return [
            self._change(owner, owner.rows[message_id], side, content=False)
            for owner in self._chosen(None)
            if message_id in owner.rows
            for side in changes_of(owner, owner.rows[message_id])
        ]

    def _change(self, owner: Connection, row: Message, side: Message, *, content: bool) -> Change:
        texts = [row, *edits(owner, row)]
        if side in texts:
            texts = texts[: texts.index(side)]
        return Change(
            change=side.id,
            kind=_KINDS[side.content.kind],
            at=utc(side.content.sent_at),
            by=person(owner, side.sender),
            connection=owner.name,
            conversation=row.conversation.id,
            chat=row.chat.address,
            title=owner.title(row.chat),
            message=row.id,
            external_id=row.content.external_id,
            message_kind=row.content.kind,
            from_me=row.content.from_me,
            author=person(owner, row.sender),
            sent_at=utc(row.content.sent_at),
            has_file=self._media_detail(owner, row) is not None,
            former=texts[-1].content.text if content else None,
        )

    async def deleted_among(self, message_ids: cabc.Collection[int]) -> frozenset[int]:
        """See :meth:`storage.changes.Changes.deleted_among`."""
        await trio.lowlevel.checkpoint()
        return frozenset(
            number
            for owner in self._chosen(None)
            for number in message_ids
            if number in owner.rows and deletion(owner, owner.rows[number]) is not None
        )

    async def outdated_outbox(self, outbox_ids: cabc.Collection[int]) -> frozenset[int]:
        """See :meth:`storage.changes.Changes.outdated_outbox`."""
        found: set[int] = set()
        for number in outbox_ids:
            row = await self.outbox_row(None, number)
            if row is None:
                continue
            owner = self._connections[row.connection]
            wanted = row.body.get("target") if row.kind == "edit" else row.external_id
            chat = owner.chat_at(row.chat)
            for message in owner.rows.values():
                if (message.chat, message.sender) != (chat, SELF):
                    continue
                if message.content.external_id == wanted:
                    last = [each.content.external_id for each in edits(owner, message)][-1:]
                    if deletion(owner, message) or (last and last[0] != row.external_id):
                        found.add(number)
        return frozenset(found)

    async def record_access(self, access: Access) -> int:
        """See :meth:`storage.changes.Changes.record_access`."""
        await trio.lowlevel.checkpoint()
        facts = attrs.asdict(access, recurse=False) | {"what": access.what.value}
        row = AccessRow(id=next(self._access_ids), at=utc(self._clock()), **facts)
        self._accesses.append(row)
        return row.id

    async def history_accesses(
        self, *, message: int | None = None, before: int | None = None, limit: int = 50
    ) -> list[AccessRow]:
        """See :meth:`storage.changes.Changes.history_accesses`."""
        await trio.lowlevel.checkpoint()
        found = [
            row
            for row in reversed(self._accesses)
            if (before is None or row.id < before) and (message is None or message in row.messages)
        ]
        return found[: max(0, min(limit, PAGE))]

    async def forget_accesses(self, before: float, limit: int) -> int:
        """See :meth:`storage.changes.Changes.forget_accesses`."""
        await trio.lowlevel.checkpoint()
        old = [row for row in self._accesses if row.at.timestamp() < before][:limit]
        for row in old:
            self._accesses.remove(row)
        return len(old)


def _is_wanted(owner: Connection, chat: Chat, wanted: ChangeFilter) -> bool:
    if wanted.contact is None and wanted.address is None:
        return True
    by_id = wanted.contact is not None and wanted.contact != SELF and chat.contact == wanted.contact
    return by_id or (wanted.address is not None and owner.chat_at(wanted.address) is chat)
