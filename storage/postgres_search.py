"""Search in PostgreSQL: see :class:`storage.search.Search`; the words are made in
``sql/search.sql``."""

import abc
import json
import typing as t

from storage.api import ConversationRow
from storage.identity import clean_text
from storage.inbox import PAGE
from storage.postgres_inbox import person_of
from storage.search import (
    CANDIDATES,
    WAITING_COUNTED,
    Filter,
    Found,
    Hit,
    Hits,
    IndexStep,
    Position,
    Query,
)

_INT64_MAX: t.Final = 2**63 - 1


class PostgresSearch(abc.ABC):
    """The part of PostgresStorage that finds."""

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def find_conversations(
        self,
        wanted: Filter,
        *,
        query: Query | None = None,
        before: Position | None = None,
        limit: int = 50,
    ) -> Found:
        """See :meth:`storage.search.Search.find_conversations`."""
        among, cut = None, False
        if query is not None:
            [(among, candidates)] = await self._fetch(
                "conversations_with",
                *_terms(query),
                wanted.connection,
                *_place(wanted),
                CANDIDATES,
                wanted.former,
                wanted.deleted,
            )
            [(named, names)] = await self._fetch(
                "conversations_named",
                *_terms(query),
                wanted.connection,
                *_place(wanted),
                CANDIDATES,
            )
            cut = CANDIDATES in (candidates, names)
            among = [*among, *named]
        rows = await self._fetch(
            "find_conversations",
            wanted.connection,
            wanted.status,
            *_place(wanted),
            wanted.since,
            wanted.until,
            *(before or (None, None)),
            among,
            _limit(limit),
        )
        return Found(tuple(ConversationRow(**row) for row in rows), cut)

    async def conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.search.Search.conversation`."""
        rows = await self._fetch("conversation", conversation_id)
        return ConversationRow(**rows[0]) if rows else None

    async def reopen_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.search.Search.reopen_conversation`."""
        await self._fetch("reopen_conversation", conversation_id)
        return await self.conversation(conversation_id)

    async def live_conversation(self, conversation_id: int) -> int | None:
        """See :meth:`storage.search.Search.live_conversation`."""
        rows = await self._fetch("live_conversation", conversation_id)
        return rows[0]["id"] if rows else None

    async def search_messages(
        self, query: Query, wanted: Filter, *, before: Position | None = None, limit: int = 50
    ) -> Hits:
        """See :meth:`storage.search.Search.search_messages`."""
        rows = await self._fetch(
            "search_messages",
            *_terms(query),
            wanted.connection,
            *_place(wanted),
            wanted.since,
            wanted.until,
            *(before or (None, None)),
            CANDIDATES,
            wanted.former,
            wanted.deleted,
            _limit(limit) + 1,
        )
        hits = [_hit(row) for row in rows if row["message"] is not None]
        if len(hits) > _limit(limit):
            del hits[_limit(limit) :]
            return Hits(tuple(hits), (hits[-1].at, hits[-1].version) if hits else before)
        edge = rows[0]
        more = edge["candidates"] == CANDIDATES
        return Hits(tuple(hits), (edge["last_at"], edge["last_id"]) if more else None)

    async def index_messages(self, limit: int) -> IndexStep:
        """See :meth:`storage.search.Search.index_messages`."""
        [row] = await self._fetch("index_messages", limit)
        return IndexStep(*row)

    async def search_complete(self) -> bool:
        """See :meth:`storage.search.Search.search_complete`."""
        [[complete]] = await self._fetch("search_complete")
        return bool(complete)

    async def search_waiting(self) -> int:
        """See :meth:`storage.search.Search.search_waiting`."""
        [[waiting]] = await self._fetch("search_waiting", WAITING_COUNTED)
        return int(waiting)


def _terms(query: Query) -> tuple[list[str], list[str], list[str]]:
    parts = (query.words, query.beginnings, query.without)
    words, beginnings, without = ([clean_text(term) for term in terms] for terms in parts)
    return words, beginnings, without


def _place(wanted: Filter) -> tuple[int | None, str | None]:
    contact = wanted.contact
    known = contact if contact is None or 0 < contact <= _INT64_MAX else 0
    return known, None if wanted.address is None else clean_text(wanted.address)


def _limit(limit: int) -> int:
    return max(0, min(limit, PAGE))


def _hit(row: t.Any) -> Hit:
    names = ("message", "version", "connection", "conversation", "chat", "title", "from_me")
    more = ("kind", "at", "current", "deleted", "text")
    return Hit(
        **{name: row[name] for name in (*names, *more)}, sender=person_of(json.loads(row["sender"]))
    )
