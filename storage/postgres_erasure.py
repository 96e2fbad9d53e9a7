"""Erasing in PostgreSQL: see :class:`storage.erasure.Erasing`, and ``sql/erasure.sql``."""

import abc
import collections.abc as cabc
import contextlib
import datetime as dt
import json
import typing as t

import trio

from storage.api import Envelope
from storage.erasure import (
    PAGE,
    STEP,
    Erasure,
    RetentionRun,
    RetentionStep,
    Rule,
    Subject,
)
from storage.errors import StorageRejectedError
from storage.tombstones import Sifted, StoneRow, Tombstones
from whatsapp.binary import codec
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.redaction import redact, redact_json, redact_text, users_of

CARDS: t.Final = frozenset({"contact", "contacts"})
"""Kinds of messages that are about the people whom they name, and nothing else."""
_QUARANTINED: t.Final = 100  # rows of the quarantine looked at in one step
_INT64_MAX: t.Final = 2**63 - 1


class PostgresErasure(abc.ABC):
    """The part of PostgresStorage that erases."""

    _clock: cabc.Callable[[], float]
    _tombstones: Tombstones
    _tombstones_known: bool
    """Whether they are as the database has them."""
    _batches: trio.Lock
    """Held from the sifting of a batch to its commit, and while a person is being forgotten."""

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    @abc.abstractmethod
    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named statement that is not to be cancelled half way."""

    async def erasure_subject(
        self, *, contact: int | None = None, address: str | None = None, connection: str | None
    ) -> Subject | None:
        """See :meth:`storage.erasure.Erasing.erasure_subject`."""
        found = await self._find(contact, address, connection)
        return None if found is None else found[0]

    async def _find(
        self, contact: int | None, address: str | None, connection: str | None
    ) -> tuple[Subject, list[dict[str, t.Any]]] | None:
        if contact is not None and not 0 < contact <= _INT64_MAX:
            return None
        rows = await self._fetch("known_addresses", contact, address)
        addresses = [row["address"] for row in rows]
        if not addresses:
            return None
        targets = await self._fetch("erasure_targets", addresses, connection)
        if not any(row["contacts"] or row["is_member"] for row in targets):
            return None
        subject = Subject(
            contact=contact,
            name=next((row["name"] for row in targets if row["name"]), None),
            addresses=tuple(addresses),
            connections=tuple(row["connection"] for row in targets),
            known_on=tuple(row["connection"] for row in targets if row["contacts"]),
            messages=sum(row["messages"] for row in targets),
            is_self=any(row["is_self"] for row in targets),
        )
        hashes = [self._tombstones.hash(each).hex() for each in addresses]
        work = [
            {
                "connection_id": row["connection_id"],
                "contacts": list(row["contacts"]),
                "addresses": addresses,
                "hashes": hashes,
            }
            for row in targets
        ]
        return subject, work

    async def begin_erasure(
        self,
        *,
        contact: int | None = None,
        address: str | None = None,
        connection: str | None,
        by: str,
        version: str,
    ) -> Erasure | None:
        """See :meth:`storage.erasure.Erasing.begin_erasure`."""
        async with self._batches:
            found = await self._find(contact, address, connection)
            if found is None:
                return None
            subject, work = found
            if subject.is_self:
                raise StorageRejectedError(
                    "that is the account of a connection itself, which cannot be forgotten"
                )
            now = self._clock()
            # Until all of it is known, no batch may be sifted by what was known before.
            self._tombstones_known = False
            [row] = await self._write("begin_erasure", json.dumps(work), by, version, _moment(now))
            await self._load_tombstones()
        return await self.erasure(row["id"])

    async def _load_tombstones(self) -> None:
        """Know them all."""
        if not self._tombstones_known:
            rows = await self._fetch("tombstones")
            self._tombstones.load(StoneRow(*row) for row in rows)
            self._tombstones_known = True

    @contextlib.asynccontextmanager
    async def _sifted(
        self, batch: cabc.Sequence[Envelope], now: float
    ) -> cabc.AsyncIterator[Sifted]:
        """A batch without what is forgotten, to be committed while this lasts. If it is not, what
        its sifting told of tombstones is not so."""
        async with self._batches:
            await self._load_tombstones()
            sifted = self._tombstones.sift(batch, now)
            try:
                yield sifted
            except BaseException:
                self._tombstones_known = self._tombstones_known and sifted.notes is None
                raise

    async def continue_erasure(self, erasure_id: int, *, files_gone: bool = False) -> Erasure:
        """See :meth:`storage.erasure.Erasing.continue_erasure`."""
        row = await self.erasure(erasure_id)
        if row is None:
            raise StorageRejectedError(f"there is no erasure {erasure_id}")
        advance = False
        match row.phase:
            case "naming":
                advance = not await self._redact(erasure_id)
            case "quarantine":
                advance = not await self._erase_quarantined(erasure_id)
            case "files":
                advance = files_gone
        await self._fetch("erasure_step", erasure_id, STEP, self._moment(), advance)
        changed = await self.erasure(erasure_id)
        return changed or row

    async def _redact(self, erasure_id: int) -> bool:
        """Some messages of others that name the person; False: there were none."""
        [work] = await self._fetch("erasure_work", erasure_id)
        connection, addresses = work["connection_id"], tuple(work["addresses"])
        rows = await self._fetch("naming_messages", erasure_id, connection, STEP)
        if not rows:
            return False
        whole = [row["id"] for row in rows if row["kind"] in CARDS]
        others = [row for row in rows if row["kind"] not in CARDS]
        await self._fetch(
            "redact_messages",
            erasure_id,
            connection,
            whole,
            self._moment(),
            json.dumps([_redacted(row, addresses) for row in others]),
            [redact(row["raw"], addresses) for row in others],
        )
        return True

    async def _erase_quarantined(self, erasure_id: int) -> bool:
        """A page of the quarantine; False: there was none."""
        [work] = await self._fetch("erasure_work", erasure_id)
        page = await self._fetch(
            "quarantine_page",
            work["connection_id"],
            work["position"],
            work["requested_at"],
            _QUARANTINED,
        )
        if not page:
            return False
        addresses = tuple(work["addresses"])
        gone = [row["id"] for row in page if _is_theirs(row, addresses)]
        await self._fetch(
            "erase_quarantined", erasure_id, work["connection_id"], gone, page[-1]["id"]
        )
        return True

    async def unfinished_erasures(self) -> list[int]:
        """See :meth:`storage.erasure.Erasing.unfinished_erasures`."""
        return [row["id"] for row in await self._fetch("unfinished_erasures")]

    async def erasures(self, *, before: int | None = None, limit: int = 50) -> list[Erasure]:
        """See :meth:`storage.erasure.Erasing.erasures`."""
        rows = await self._fetch("erasures", before, max(0, min(limit, PAGE + 1)))
        return [_erasure(row) for row in rows]

    async def erasure(self, erasure_id: int) -> Erasure | None:
        """See :meth:`storage.erasure.Erasing.erasure`."""
        if not 0 < erasure_id <= _INT64_MAX:
            return None
        rows = await self._fetch("erasure", erasure_id)
        return _erasure(rows[0]) if rows else None

    async def erased_blobs(self, limit: int) -> list[bytes]:
        """See :meth:`storage.erasure.Erasing.erased_blobs`."""
        return [row["sha256"] for row in await self._fetch("erased_blobs", limit)]

    async def blob_erased(self, sha256: bytes) -> None:
        """See :meth:`storage.erasure.Erasing.blob_erased`."""
        await self._fetch("blob_erased", sha256)

    async def is_forgotten(self, connection: str, addresses: cabc.Sequence[str], at: float) -> bool:
        """See :meth:`storage.erasure.Erasing.is_forgotten`."""
        async with self._batches:
            await self._load_tombstones()
            return self._tombstones.forgets(connection, addresses, at)

    async def retain(
        self, connection: str, rule: Rule, *, after: int, window: int, now: float, dry: bool
    ) -> RetentionStep:
        """See :meth:`storage.erasure.Erasing.retain`."""
        rows = await self._fetch(
            "retain_step",
            connection,
            after,
            window,
            _moment(now - rule.after),
            None if rule.kinds is None else list(rule.kinds),
            rule.files_only,
            rule.live,
            dry,
            _moment(now),
        )
        return (
            RetentionStep(**rows[0]) if rows else RetentionStep(last_id=None, messages=0, files=0)
        )

    async def retain_rest(self, cutoff: float, limit: int) -> int:
        """See :meth:`storage.erasure.Erasing.retain_rest`."""
        [row] = await self._fetch("retain_rest", _moment(cutoff), limit, self._moment())
        return int(row["rows"])

    async def record_retention(self, run: RetentionRun) -> None:
        """See :meth:`storage.erasure.Erasing.record_retention`."""
        await self._fetch(
            "record_retention",
            run.connection,
            run.rule,
            run.began_at,
            run.ended_at,
            run.cutoff,
            run.messages,
            run.files,
        )

    async def retention_runs(self, *, limit: int = 50) -> list[RetentionRun]:
        """See :meth:`storage.erasure.Erasing.retention_runs`."""
        rows = await self._fetch("retention_runs", max(0, min(limit, PAGE)))
        return [RetentionRun(**row) for row in rows]

    def _moment(self) -> dt.datetime:
        return _moment(self._clock())


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _erasure(row: cabc.Mapping[str, t.Any]) -> Erasure:
    return Erasure(
        **{
            **row,
            "connections": tuple(row["connections"]),
            "subject": tuple(row["subject"]),
            "counts": json.loads(row["counts"]),
        }
    )


def _redacted(row: cabc.Mapping[str, t.Any], addresses: tuple[str, ...]) -> dict[str, t.Any]:
    """A message of somebody else without the person, its raw bytes aside."""
    users = users_of(addresses)
    quotes = row["quoted_author"] in addresses
    mentions = [each for each in row["mentions"] or () if each not in addresses]
    detail = None if row["detail"] is None else json.loads(row["detail"])
    return {
        "id": row["id"],
        "version": row["version"],
        "text": redact_text(row["text"], users),
        "detail": redact_json(detail, users),
        "quoted_id": None if quotes else row["quoted_id"],
        "quoted_author": None if quotes else row["quoted_author"],
        "target_author": None if row["target_author"] in addresses else row["target_author"],
        "mentions": mentions or None,
    }


def _is_theirs(row: cabc.Mapping[str, t.Any], addresses: tuple[str, ...]) -> bool:
    """Whether a quarantined stanza is of the person, or names them."""
    if row["chat"] in addresses or row["sender"] in addresses:
        return True
    users = [user.encode() for user in users_of(addresses)]
    if any(user in part for user in users for part in (row["raw"], row["kept"] or b"")):
        return True
    try:
        node = codec.decode(row["stanza"])
    except RemoteProtocolError:
        return any(user in row["stanza"] for user in users)
    return _names(node, frozenset(addresses))


def _names(node: Node, addresses: frozenset[str]) -> bool:
    """Whether a node, or one in it, has one of the addresses as an attribute."""
    for value in node.attrs.values():
        if isinstance(value, Jid):
            if str(value.bare) in addresses:
                return True
        elif str(value) in addresses:
            return True
    return any(_names(each, addresses) for each in node.children)
