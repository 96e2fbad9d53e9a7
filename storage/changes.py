"""What was deleted or changed, by whom and when; and who looked at what was said before.

The former content is in the rows themselves, see ``storage.inbox``. Here is what lists the
changes, and the record of every access to former content, which is only ever added to.
"""

import collections.abc as cabc
import datetime as dt
import enum
import typing as t

import attrs

from storage.inbox import Person
from storage.search import Position


class ChangeKind(enum.StrEnum):
    """What was done to a message."""

    DELETED = "deleted"  # for everyone
    EDITED = "edited"


class AccessKind(enum.StrEnum):
    """What somebody looked at."""

    MESSAGE = "message"  # all that a message ever said
    MEDIA = "media"  # the file of a deleted message
    CHANGES = "changes"  # the list of changes, with what was said before
    SEARCH = "search"  # a search among what was said before
    EXPORT = "export"  # messages as files, with what was said before


@attrs.frozen(kw_only=True)
class Change:
    """One deletion or edit."""

    change: int  # id of the row that did it
    kind: str  # "deleted", "edited"
    at: dt.datetime
    by: Person
    connection: str
    conversation: int
    chat: str
    title: str | None = attrs.field(repr=False)  # of the chat
    message: int  # that was changed
    external_id: str  # of that
    message_kind: str
    from_me: bool
    author: Person  # of that message
    sent_at: dt.datetime  # that message
    has_file: bool
    former: str | None = attrs.field(repr=False)
    """What the message said before; None: nothing, or it was not asked for."""


@attrs.frozen(kw_only=True)
class ChangeFilter:
    """Which changes; None: any."""

    connection: str | None = None
    contact: int | None = None  # a contact's id
    address: str | None = None  # of a contact or a group; with ``contact``: either will do
    kind: ChangeKind | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None  # done in [since, until)


@attrs.frozen(kw_only=True)
class Viewer:
    """Who is about to see former content."""

    who: str  # the name of a token, or "control socket", "command line", "schedule"
    token_id: str | None = None
    uid: int | None = None  # of who uses the control socket or the command line
    request_id: str | None = None


@attrs.frozen(kw_only=True)
class Access(Viewer):
    """Somebody is about to see former content."""

    what: AccessKind
    query: str | None = attrs.field(default=None, repr=False)  # of a search, or an export's name
    connection: str | None = None  # None: of several
    conversations: tuple[int, ...] = ()
    messages: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class AccessRow:
    """An access on record."""

    id: int
    at: dt.datetime
    who: str
    token_id: str | None
    uid: int | None
    what: str
    query: str | None = attrs.field(repr=False)
    connection: str | None
    conversations: tuple[int, ...]
    messages: tuple[int, ...]
    request_id: str | None


class Changes(t.Protocol):
    """The part of storage that knows of changes; raises as ``Storage`` does."""

    async def changes(
        self,
        wanted: ChangeFilter,
        *,
        content: bool = False,
        before: Position | None = None,
        limit: int = 50,
    ) -> list[Change]:
        """Changes by ``(at, change)``, the greatest first, from below ``before``; ``content``:
        with what was said before. Changes to messages that are not stored are left out."""
        ...

    async def changes_of(self, message_id: int) -> list[Change]:
        """All changes to one message, the oldest first, without what was said."""
        ...

    async def deleted_among(self, message_ids: cabc.Collection[int]) -> frozenset[int]:
        """Those of these messages that were deleted for everyone."""
        ...

    async def outdated_outbox(self, outbox_ids: cabc.Collection[int]) -> frozenset[int]:
        """Those of these rows of the outbox whose message was deleted or changed since."""
        ...

    async def record_access(self, access: Access) -> int:
        """Put an access on record; it is committed when this returns. Its id."""
        ...

    async def history_accesses(
        self, *, message: int | None = None, before: int | None = None, limit: int = 50
    ) -> list[AccessRow]:
        """Accesses with ids below ``before``, those to one message or all, the newest first."""
        ...

    async def forget_accesses(self, before: float, limit: int) -> int:
        """Delete accesses of before ``before`` (unix seconds), at most ``limit``; how many went.

        Raises:
            StorageRejectedError: some are of the last 29 days.
        """
        ...
