"""Erasing: rules of retention, and forgetting a person."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

STEP: t.Final = 500  # rows in one step of an erasure
PAGE: t.Final = 200  # rows of a list
PHASES: t.Final = (
    "collect",
    "messages",
    "naming",
    "quarantine",
    "receipts",
    "handled",
    "memberships",
    "settings",
    "devices",
    "sessions",
    "outbox",
    "events",
    "merges",
    "files",
    "done",
)
"""What an erasure goes through, in this order; ``erasure_step`` in ``sql/erasure.sql`` has the
same list."""
UNERASED: t.Final = (
    "backups and exports that were made before",
    "logs, events and webhooks that were sent elsewhere before",
    "pages of the database's files and of its write-ahead log that are free and not overwritten"
    " yet: zapvisor db vacuum --full",
    "the sealed list of who has the key of a group in which the person was, until the group gets a"
    " new one",
    "the messages on WhatsApp's servers and on the phones",
)


@attrs.frozen(kw_only=True)
class Subject:
    """Whom an order to forget means."""

    contact: int | None  # the one that was named; None: an address without a contact
    name: str | None = attrs.field(repr=False)
    addresses: tuple[str, ...] = attrs.field(repr=False)
    connections: tuple[str, ...]  # where something is erased
    known_on: tuple[str, ...]  # where there is a contact
    messages: int
    """In the chats with the person; those in groups are not counted yet."""
    is_self: bool  # the account of one of the connections itself


@attrs.frozen(kw_only=True)
class Erasure:
    """An order to forget a person, and how far it is. Nothing in it is personal."""

    id: int
    requested_by: str
    version: str  # of the program
    requested_at: dt.datetime
    finished_at: dt.datetime | None
    connections: tuple[str, ...]
    subject: tuple[str, ...]
    """HMAC-SHA-256 of each address, in hexadecimal, under a key derived from the secret key."""
    phase: str
    counts: dict[str, int]  # erased so far, by kind


@attrs.frozen(kw_only=True)
class Rule:
    """A rule of retention."""

    kinds: tuple[str, ...] | None  # of messages; None: all
    files_only: bool
    after: float  # seconds since a message was sent
    live: bool  # those in conversations that are not closed, too
    connections: tuple[str, ...]  # by name; empty: all
    text: str  # as an operator reads it


@attrs.frozen(kw_only=True)
class RetentionStep:
    """What one step of a rule came to."""

    last_id: int | None  # the newest message looked at; None: there are no more
    messages: int
    files: int


@attrs.frozen(kw_only=True)
class RetentionRun:
    """What one sweep of a rule removed on one connection."""

    connection: str
    rule: str
    began_at: dt.datetime
    ended_at: dt.datetime
    cutoff: dt.datetime  # what was sent before
    messages: int  # that lost their content
    files: int


class Erasing(t.Protocol):
    """The part of storage that erases; raises as ``Storage`` does."""

    async def erasure_subject(
        self, *, contact: int | None = None, address: str | None = None, connection: str | None
    ) -> Subject | None:
        """Whom a contact's id, or an address, means: a person with all known addresses, on all
        connections or on one. None: nobody is known there."""
        ...

    async def begin_erasure(
        self,
        *,
        contact: int | None = None,
        address: str | None = None,
        connection: str | None,
        by: str,
        version: str,
    ) -> Erasure | None:
        """Forget a person from this moment on; what is stored is erased by
        :meth:`continue_erasure`, over any number of crashes. None: nobody is known there.

        Raises:
            StorageRejectedError: it is the account of a connection.
        """
        ...

    async def continue_erasure(self, erasure_id: int, *, files_gone: bool = False) -> Erasure:
        """One bounded step. In the phase "files" it goes on only with ``files_gone``: then no
        :meth:`erased_blobs` may be left of before.

        Raises:
            StorageRejectedError: there is no such erasure.
        """
        ...

    async def unfinished_erasures(self) -> list[int]:
        """Those that are not done, the oldest first."""
        ...

    async def erasures(self, *, before: int | None = None, limit: int = 50) -> list[Erasure]:
        """The newest first."""
        ...

    async def erasure(self, erasure_id: int) -> Erasure | None:
        """One of them."""
        ...

    async def erased_blobs(self, limit: int) -> list[bytes]:
        """SHA-256 of files that a message lost; others may still have them."""
        ...

    async def blob_erased(self, sha256: bytes) -> None:
        """That file is gone, or others have it: it is not listed any more."""
        ...

    async def is_forgotten(self, connection: str, addresses: cabc.Sequence[str], at: float) -> bool:
        """Whether something of that time (unix seconds), from or to a person with one of these
        addresses, must not be stored; for whoever stores past :meth:`storage.api.Storage.apply`,
        which knows by itself."""
        ...

    async def retain(
        self, connection: str, rule: Rule, *, after: int, window: int, now: float, dry: bool
    ) -> RetentionStep:
        """Look at up to ``window`` messages of a connection with ids above ``after``, and strip,
        or with ``dry`` count, those to which the rule applies."""
        ...

    async def retain_rest(self, cutoff: float, limit: int) -> int:
        """Strip up to ``limit`` of what else holds messages from before (unix seconds); how many.
        Not to be asked for rules about some kinds or connections only."""
        ...

    async def record_retention(self, run: RetentionRun) -> None:
        """Remember what a sweep removed."""
        ...

    async def retention_runs(self, *, limit: int = 50) -> list[RetentionRun]:
        """The newest first."""
        ...
