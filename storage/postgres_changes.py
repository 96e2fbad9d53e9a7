"""Changes of messages in PostgreSQL: see :class:`storage.changes.Changes`."""

import abc
import collections.abc as cabc
import datetime as dt
import json
import typing as t

from storage.changes import Access, AccessRow, Change, ChangeFilter
from storage.identity import clean_text
from storage.inbox import PAGE
from storage.postgres_inbox import person_of
from storage.search import Position

_INT64_MAX: t.Final = 2**63 - 1


class PostgresChanges(abc.ABC):
    """The part of PostgresStorage that knows of changes."""

    _clock: cabc.Callable[[], float]

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def changes(
        self,
        wanted: ChangeFilter,
        *,
        content: bool = False,
        before: Position | None = None,
        limit: int = 50,
    ) -> list[Change]:
        """See :meth:`storage.changes.Changes.changes`."""
        contact = wanted.contact
        rows = await self._fetch(
            "changes",
            wanted.connection,
            contact if contact is None or _is_id(contact) else 0,
            None if wanted.address is None else clean_text(wanted.address),
            None if wanted.kind is None else wanted.kind.value,
            wanted.since,
            wanted.until,
            *(before or (None, None)),
            content,
            _limit(limit),
        )
        return [_change(row) for row in rows]

    async def changes_of(self, message_id: int) -> list[Change]:
        """See :meth:`storage.changes.Changes.changes_of`."""
        rows = await self._fetch("changes_of", message_id) if _is_id(message_id) else []
        return [_change(row) for row in rows]

    async def deleted_among(self, message_ids: cabc.Collection[int]) -> frozenset[int]:
        """See :meth:`storage.changes.Changes.deleted_among`."""
        return await self._among("deleted_among", message_ids)

    async def outdated_outbox(self, outbox_ids: cabc.Collection[int]) -> frozenset[int]:
        """See :meth:`storage.changes.Changes.outdated_outbox`."""
        return await self._among("outdated_outbox", outbox_ids)

    async def _among(self, query: str, ids: cabc.Collection[int]) -> frozenset[int]:
        known = [each for each in ids if _is_id(each)]
        rows = await self._fetch(query, known) if known else []
        return frozenset(row["id"] for row in rows)

    async def record_access(self, access: Access) -> int:
        """See :meth:`storage.changes.Changes.record_access`."""
        [row] = await self._fetch(
            "record_access",
            dt.datetime.fromtimestamp(self._clock(), dt.UTC),
            access.who,
            access.token_id,
            access.uid,
            access.what.value,
            None if access.query is None else clean_text(access.query),
            access.connection,
            list(access.conversations),
            list(access.messages),
            access.request_id,
        )
        return int(row["id"])

    async def history_accesses(
        self, *, message: int | None = None, before: int | None = None, limit: int = 50
    ) -> list[AccessRow]:
        """See :meth:`storage.changes.Changes.history_accesses`."""
        if message is not None and not _is_id(message):
            return []
        rows = await self._fetch("history_accesses", before, message, _limit(limit))
        return [
            AccessRow(
                **{
                    **row,
                    "conversations": tuple(row["conversations"]),
                    "messages": tuple(row["messages"]),
                }
            )
            for row in rows
        ]

    async def forget_accesses(self, before: float, limit: int) -> int:
        """See :meth:`storage.changes.Changes.forget_accesses`."""
        moment = dt.datetime.fromtimestamp(before, dt.UTC)
        return len(await self._fetch("forget_accesses", moment, limit))


def _change(row: t.Any) -> Change:
    by, author = (person_of(json.loads(row[name])) for name in ("by", "author"))
    return Change(**{**row, "by": by, "author": author})


def _is_id(number: int) -> bool:
    return 0 < number <= _INT64_MAX


def _limit(limit: int) -> int:
    return max(0, min(limit, PAGE))
