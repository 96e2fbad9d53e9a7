"""What the API asks of the daemon behind it, and no more."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from actors.adoption import Adoption
from storage.api import ConversationRow
from storage.blobs import Blob
from storage.events import EventPage, EventRange
from storage.figures import SyncBucket, SyncCounts, SyncTotals
from storage.gaps import GapRow
from storage.inbox import ContactDetail, GroupDetail, MergeRow, MessageDetail
from storage.quarantine import QuarantinedStanza, QuarantineRow
from storage.queues import HistoryOverview, HistoryProgress, MediaRow, OutboxRequest, OutboxRow
from storage.search import Filter, Found, Hits, Position, Query
from storage.timeline import Transition

TypingState: t.TypeAlias = t.Literal["composing", "recording", "paused"]


class ConnectionFacts(t.Protocol):
    """What a fleet tells about one connection."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str:
        """stopped, pairing, connecting, syncing, online, backoff, parked, conflict,
        logged_out or banned."""
        ...

    @property
    def since(self) -> dt.datetime: ...
    @property
    def reason(self) -> str:
        """A stable code: why it is in that state."""
        ...

    @property
    def sentence(self) -> str:
        """The same for people."""
        ...

    @property
    def retries(self) -> int: ...
    @property
    def paired(self) -> bool: ...
    @property
    def jid(self) -> str | None:
        """Masked for display."""
        ...

    @property
    def last_message_at(self) -> dt.datetime | None: ...
    @property
    def messages(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def undecryptable(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def in_flight(self) -> int:
        """Envelopes the writer has not settled yet."""
        ...

    @property
    def next_attempt_in(self) -> float | None:
        """Seconds until the next try, while there is one to wait for."""
        ...

    @property
    def until(self) -> dt.datetime | None:
        """When the state ends by itself, where that is known: the expiry of a ban."""
        ...

    @property
    def deaf(self) -> int:
        """How often it was found not to hear, and reset, since the daemon started."""
        ...

    @property
    def deaf_suspicion(self) -> "DeafFacts | None": ...
    @property
    def last_heartbeat_at(self) -> dt.datetime | None:
        """When WhatsApp let it in, or answered a ping, last."""
        ...

    @property
    def lag_seconds(self) -> float:
        """How long the oldest stanza that was received has waited, its commit included."""
        ...

    @property
    def logins(self) -> int:
        """How often it logged in since the daemon started."""
        ...

    @property
    def ends(self) -> cabc.Mapping[str, int]:
        """How often its lives ended since the daemon started, by reason code."""
        ...

    @property
    def processed(self) -> int:
        """What its sockets delivered since the daemon started, by outcome: stored,"""
        ...

    @property
    def skipped(self) -> int:
        """duplicates,"""
        ...

    @property
    def errors(self) -> int:
        """and what cannot be read yet, or is in quarantine."""
        ...

    @property
    def unrecorded(self) -> SyncCounts:
        """Of these, what no row of sync statistics holds yet: the minute under way."""
        ...


class DeafFacts(t.Protocol):
    """A connection seems not to hear what is sent to it."""

    @property
    def since(self) -> dt.datetime:
        """When something was heard last."""
        ...

    @property
    def why(self) -> str: ...


class IncidentFacts(t.Protocol):
    """What concerns many connections at once, and is told once for all of them."""

    @property
    def code(self) -> str:
        """Stable: ``outage`` (many connections fail alike) or ``outdated`` (WhatsApp refuses the
        client version)."""
        ...

    @property
    def since(self) -> dt.datetime: ...
    @property
    def sentence(self) -> str: ...
    @property
    def connections(self) -> int:
        """How many it concerns."""
        ...


class PairingFacts(t.Protocol):
    """How far the pairing of a connection is."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int:
        """Grows with every change."""
        ...

    @property
    def state(self) -> str:
        """waiting, code, paired or failed."""
        ...

    @property
    def qr(self) -> str | None:
        """The text to draw while ``state`` is ``code``, unless a number was given."""
        ...

    @property
    def code(self) -> str | None:
        """The code to type on the phone while ``state`` is ``code``, if a number was given."""
        ...

    @property
    def expires_in(self) -> float | None:
        """Seconds until WhatsApp no longer takes that code."""
        ...

    @property
    def sentence(self) -> str: ...


class FleetPort(t.Protocol):
    """All connections. An unknown name raises ``UnknownConnectionError``."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def status(self, name: str | None = None) -> cabc.Sequence[ConnectionFacts]:
        """One connection, or all of them."""
        ...

    def incidents(self) -> cabc.Sequence[IncidentFacts]:
        """What concerns many connections at once, just now."""
        ...

    async def start(self, name: str) -> None:
        """Run it, now and after a restart of the daemon."""
        ...

    async def stop(self, name: str) -> None:
        """Stop it, and leave it stopped after a restart of the daemon."""
        ...

    async def restart(self, name: str) -> None:
        """Stop it when it runs, then start it."""
        ...

    async def pair(self, name: str, *, force: bool = False, phone: str | None = None) -> None:
        """Begin pairing; with ``phone``, a number in international form, by a code to type.

        Raises:
            AlreadyPairedError: it is linked to a phone, and ``force`` is not set.
            LocalProtocolError: ``phone`` is no phone number; nothing was changed.
        """
        ...

    async def adopt(self, name: str, adoption: Adoption, *, force: bool = False) -> None:
        """Give a stopped connection the device of another program; see ``actors.fleet``."""
        ...

    async def logout(self, name: str) -> None:
        """Unlink the device and forget its keys.

        Raises:
            NotOnlineError: WhatsApp can be told only over a live connection; nothing changed.
            IqError: WhatsApp refused; nothing changed.
        """
        ...

    async def wait_pairing(self, name: str, after: int) -> PairingFacts:
        """Wait until the version of the pairing is greater than ``after``."""
        ...


class StoragePort(t.Protocol):
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


class ActionsPort(t.Protocol):
    """What the connections do for the API besides starting and stopping. ``name`` is that of a
    configured connection: the routes have checked it."""

    def message_id(self, name: str) -> str:
        """A stanza id for a new message; never the same twice. The connection may be offline,
        even unpaired."""
        ...

    def outbox_changed(self, name: str) -> None:
        """Something was queued or is to be sent again. Waits for nothing; fine while offline."""
        ...

    async def typing(self, name: str, chat: str, state: TypingState) -> None:
        """Show in a chat (a bare address) that somebody types, records, or has stopped.

        Raises:
            NotOnlineError: there is nobody to show it to.
        """
        ...

    async def older_history(self, name: str, chat: str, count: int) -> str:
        """Ask the phone for up to ``count`` messages older than those known of a chat (a bare
        address); the id of the request. They come later, as a chunk of history.

        Raises:
            NotOnlineError: the phone cannot be asked now.
            NoHistoryError: nothing is known of the chat.
        """
        ...

    def history_changed(self, name: str) -> None:
        """Chunks of history are to be imported again. Waits for nothing."""
        ...

    async def fetch_media(self, connection: str, message_id: int) -> bool:
        """Fetch the file of a message soon, even if it was left out or given up; False when
        there is no such file, or it is stored or removed."""
        ...


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


class HistogramPort(t.Protocol):
    """See ``actors.histogram.Histogram``."""

    @property
    def bounds(self) -> tuple[float, ...]: ...
    @property
    def counts(self) -> cabc.Sequence[int]: ...
    @property
    def total(self) -> float: ...


@attrs.frozen(kw_only=True)
class ReloadFacts:
    """What came of a reload."""

    problems: tuple[str, ...] = ()  # everything that is wrong; then the old one stays in force
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: int = 0  # connections that were not touched
    restart: tuple[str, ...] = ()  # keys whose new values wait for a restart of the daemon


@attrs.frozen(kw_only=True)
class SettingsFacts:
    """What a connection is configured with, passwords left out."""

    origin: str  # "file": the configuration has it; "api": it was made here
    own: cabc.Mapping[str, t.Any]  # None: as for all
    effective: cabc.Mapping[str, t.Any]


class RegistrarPort(t.Protocol):
    """Makes, changes and deletes connections. Orders go on to their end, whoever stops waiting.
    A ``ProblemError`` says what cannot be."""

    def settings(self, name: str) -> SettingsFacts:
        """What a connection is configured with.

        Raises:
            UnknownConnectionError: there is none of that name.
        """
        ...

    async def create(self, values: cabc.Mapping[str, t.Any]) -> str:
        """Make a connection from a ``[[connections]]`` table; its name."""
        ...

    async def change(self, name: str, values: cabc.Mapping[str, t.Any]) -> None:
        """Change settings of one that was made so; None: as for all again."""
        ...

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Stop and forget one that was made so; its messages stay. Its keys go only after a
        confirmed logout, or by ``force``."""
        ...


class ReloadPort(t.Protocol):
    """Puts a changed configuration in force."""

    @property
    def last(self) -> tuple[float, ReloadFacts] | None:
        """When it was reloaded last (unix seconds), and what came of it; None: not yet."""
        ...

    async def reload(self) -> ReloadFacts:
        """Read the configuration anew and apply it. Goes on to its end, whoever stops waiting."""
        ...


class RestorerPort(t.Protocol):
    """Tries what is in quarantine again; see ``actors.restoring.Restorer``."""

    async def retry(self, row_id: int) -> QuarantineRow | None:
        """Try a row once more; how it is afterwards. None: there is no such row.

        Raises:
            NoWayOutError: nothing was kept that could be stored.
            NotOnlineError: its stanza can be opened by its live connection only.
            SlowRetryError: it is under way still.
        """
        ...


@attrs.frozen(kw_only=True)
class ReprocessFacts:
    """How far the reading of stored messages anew is, or how the last one ended."""

    state: str  # "idle", "running", "done", "failed"
    connection: str | None = None  # None: all
    read: int = 0
    changed: int = 0
    still_unknown: int = 0
    rejected: int = 0
    error: str | None = None  # failed: why


class ReprocessPort(t.Protocol):
    """Reads stored messages anew, one run at a time; a run outlives the request that began it."""

    def begin(self, connection: str | None) -> bool:
        """Begin a run over one connection or all; False when one is under way already."""
        ...

    def facts(self) -> ReprocessFacts:
        """The run under way, or the last one; idle: there was none. Counts may be 0 until the
        end."""
        ...

    async def finished(self) -> ReprocessFacts:
        """Wait until no run is under way; the last one."""
        ...
