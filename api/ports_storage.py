"""What the API asks of the database and of the store of files."""

import collections.abc as cabc
import datetime as dt
import typing as t

from api.ports_changes import ChangesPort
from storage.alerts import Alert, Silence
from storage.api import ConversationRow
from storage.blobs import Blob
from storage.erasure import Erasure
from storage.events import EventPage, EventRange
from storage.figures import SyncBucket, SyncTotals
from storage.gaps import GapRow
from storage.inbox import ContactDetail, GroupDetail, MergeRow, MessageDetail
from storage.quarantine import QuarantinedStanza, QuarantineRow
from storage.queues import HistoryOverview, HistoryProgress, MediaRow, OutboxRequest, OutboxRow
from storage.search import Filter, Found, Hits, Position, Query
from storage.timeline import Transition


class StoragePort(ChangesPort, t.Protocol):
    """The part of storage that the API reads and orders; see ``storage.api.Storage``,
    ``storage.inbox.Inbox``, ``storage.queues.Queues``, ``storage.timeline.Timeline``,
    ``storage.gaps.Gaps``, ``storage.quarantine.Quarantined``, ``storage.figures.Figures``
    and ``storage.search.Search``."""

    async def events_after(
        self,
        after: int,
        *,
        limit: int = 500,
        connection: str | None = None,
        types: cabc.Collection[str] | None = None,
    ) -> EventPage: ...

    async def event_range(self) -> EventRange: ...

    async def timeline(
        self, connection: str, *, after: int = 0, limit: int = 50
    ) -> list[Transition]: ...

    async def timeline_start(self, connection: str, since: dt.datetime) -> int: ...

    async def quarantined(
        self,
        connection: str | None = None,
        *,
        resolved: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[QuarantineRow]: ...

    async def quarantined_stanza(self, row_id: int) -> QuarantinedStanza | None: ...

    async def find_conversations(
        self,
        wanted: Filter,
        *,
        query: Query | None = None,
        before: Position | None = None,
        limit: int = 50,
    ) -> Found: ...

    async def conversation(self, conversation_id: int) -> ConversationRow | None: ...

    async def reopen_conversation(self, conversation_id: int) -> ConversationRow | None: ...

    async def live_conversation(self, conversation_id: int) -> int | None: ...

    async def search_messages(
        self, query: Query, wanted: Filter, *, before: Position | None = None, limit: int = 50
    ) -> Hits: ...

    async def search_complete(self) -> bool: ...

    async def open_conversation(self, conversation_id: int) -> ConversationRow | None: ...

    async def close_conversation(self, conversation_id: int) -> ConversationRow | None: ...

    async def statistics(self) -> dict[str, t.Any]: ...

    async def ping(self) -> float: ...

    async def sync_buckets(
        self,
        edges: cabc.Sequence[dt.datetime],
        *,
        connection: str | None = None,
        by_connection: bool = False,
    ) -> list[SyncBucket]: ...

    async def sync_totals(self) -> SyncTotals: ...

    async def outbox_unsettled(self) -> dict[str, int]: ...

    async def database_size(self) -> int: ...

    async def gaps(
        self,
        connection: str | None,
        *,
        open_only: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[GapRow]: ...

    async def accept_gap(self, gap_id: int, by: str) -> GapRow | None: ...

    async def conversation_messages(
        self, conversation_id: int, *, before: int | None = None, limit: int = 50
    ) -> list[MessageDetail]: ...

    async def message(self, message_id: int) -> MessageDetail | None: ...

    async def contacts(
        self,
        connection: str | None,
        *,
        query: str | None = None,
        after: int = 0,
        limit: int = 50,
    ) -> list[ContactDetail]: ...

    async def contact_by_id(self, contact_id: int) -> ContactDetail | None: ...

    async def merges(
        self, connection: str | None, *, before: int | None = None, limit: int = 50
    ) -> list[MergeRow]: ...

    async def unmerge(self, merge_id: int) -> MergeRow | None: ...

    async def groups(
        self, connection: str, *, after: str = "", limit: int = 50
    ) -> list[GroupDetail]: ...

    async def group(self, connection: str, address: str) -> GroupDetail | None: ...

    async def enqueue(
        self, connection: str, key: str, request: OutboxRequest, *, external_id: str
    ) -> tuple[OutboxRow, bool]: ...

    async def outbox_row(self, connection: str | None, outbox_id: int) -> OutboxRow | None: ...

    async def outbox_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[OutboxRow]: ...

    async def outbox_retry(self, connection: str | None, outbox_id: int) -> OutboxRow | None: ...

    async def media_file(self, message_id: int) -> MediaRow | None: ...

    async def media_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[MediaRow]: ...

    async def history_progress(self, connection: str) -> HistoryProgress: ...

    async def history_overview(self) -> list[HistoryOverview]: ...

    async def history_retry(self, connection: str) -> int: ...

    async def past_alerts(self, *, before: int | None = None, limit: int = 50) -> list[Alert]: ...

    async def alert(self, alert_id: int) -> Alert | None: ...

    async def silences(self, *, since: float, limit: int = 200) -> list[Silence]: ...
    async def erasures(self, *, before: int | None = None, limit: int = 50) -> list[Erasure]: ...

    async def erasure(self, erasure_id: int) -> Erasure | None: ...


class FilesPort(t.Protocol):
    """Where files are; see ``storage.blobs.Blobs``. May raise ``StorageUnavailableError``."""

    async def put(self, chunks: cabc.AsyncIterable[bytes]) -> Blob:
        """Store what the iterator yields, whole or not at all; its errors pass through."""
        ...

    async def size(self, sha256: bytes) -> int | None:
        """Bytes of a file; None: it is not there."""
        ...

    def open(
        self, sha256: bytes, start: int = 0, end: int | None = None
    ) -> cabc.AsyncIterator[bytes]:
        """Its bytes from ``start`` up to ``end``, in pieces; ``BlobMissingError`` out of the
        iterator when it is not there."""
        ...
