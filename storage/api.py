"""What the daemon asks of storage: the batch types and the ``Storage`` protocol."""

import collections.abc as cabc
import datetime as dt
import enum
import typing as t

import attrs

from storage.alerts import Alerts
from storage.changes import Changes
from storage.epochs import Epochs
from storage.erasure import Erasing
from storage.events import EventStream
from storage.exports.ledger import ExportLedger
from storage.facts import Fact
from storage.figures import Figures
from storage.gaps import Gaps, GapStep
from storage.inbox import Inbox
from storage.made import Made
from storage.notifications import Notifications
from storage.quarantine import Quarantined
from storage.queues import Queues
from storage.reports import Reports
from storage.search import Search
from storage.timeline import Timeline
from storage.tokens import Tokens


class RecordKind(enum.Enum):
    """The kinds of sealed records; each has a table of its own."""

    DEVICE = "device"  # key "": the DeviceRecord of the connection
    SESSION = "session"  # key: Signal address of the remote device
    IDENTITY = "identity"  # key: Signal address; value: 33-byte public key
    PREKEY = "prekey"  # key: decimal id; value: 32-byte private key
    SENDER_KEY = "sender_key"  # key: "group::Signal address"
    PEER = "peer"  # key: stanza id; value: what the own phone told this device, as received
    APP_STATE_KEY = "app_state_key"  # key: hex of the key id; value: AppStateSyncKeyData bytes


@attrs.frozen
class RecordChange:
    """One record to write, or to delete when ``value`` is None."""

    kind: RecordKind
    key: str
    value: bytes | None = attrs.field(repr=False)


class ChatKind(enum.Enum):
    """What a chat is."""

    DIRECT = "direct"
    GROUP = "group"


class Lane(enum.Enum):
    """How a message reached us; only live ones may open, reopen or move a conversation."""

    LIVE = "live"
    HISTORY = "history"
    SIDE = "side"  # changes or answers another message, such as a reaction or an edit


@attrs.frozen(kw_only=True)
class MediaFile:
    """The file that a message carries. How to fetch and open it stands in the message's raw
    bytes; these are the facts to show and to find it by."""

    kind: str  # "image", "video", "audio", "document", "sticker", …: selects the keys
    mimetype: str | None = None
    size: int | None = None  # bytes, as claimed by the sender
    name: str | None = attrs.field(default=None, repr=False)
    sha256: bytes = b""  # of the plaintext; empty: not told


@attrs.frozen(kw_only=True)
class ReceivedMessage:
    """One message as WhatsApp gave it; nothing in it has been checked or cleaned.

    Text may hold NUL characters and times may be absurd: storage makes them storable and
    keeps ``raw`` byte for byte.
    """

    chat: str  # bare JID of the chat
    chat_alt: str | None = None  # the other address of the same person, direct chats only
    chat_kind: ChatKind
    sender: str  # bare JID of the author
    sender_alt: str | None = None
    sender_name: str | None = None  # push name
    from_me: bool  # sent by the team: the phone or another device of the account
    external_id: str | None  # WhatsApp's id; one is derived when missing or empty
    kind: str  # "text", "image", …, "unknown", "undecryptable"
    text: str | None = attrs.field(default=None, repr=False)
    sent_at: int  # unix seconds, WhatsApp's time
    raw: bytes = attrs.field(default=b"", repr=False)  # the plaintext protobuf
    target_id: str | None = None  # side messages: the id of the message they change or answer
    target_author: str | None = None  # bare address of that message's author; None: not told
    quoted_id: str | None = None
    quoted_author: str | None = None
    mentions: tuple[str, ...] = ()  # bare addresses
    flags: tuple[str, ...] = ()  # "ephemeral", "view_once", "forwarded", …
    detail: cabc.Mapping[str, t.Any] = attrs.field(factory=dict, repr=False)
    """What the kind has besides text, ready for JSON: coordinates, cards, options, …"""
    media: MediaFile | None = None
    lane: Lane = Lane.LIVE
    reason: str | None = None  # undecryptable only: why
    ordinal: int = 0
    """Counts messages without an id that are alike (chat, sender, second, content), from 0, in
    the order of their delivery; the caller sees that order whole, storage sees batches."""


UNDECRYPTABLE: t.Final = "undecryptable"


@attrs.frozen(kw_only=True)
class Envelope:
    """What one stanza changes: at most one message, and the records that go with it.

    Everything in it commits in one transaction or not at all.
    """

    connection: str
    message: ReceivedMessage | None = None
    handled: str | None = None
    """Key of a stanza that carried no message (protocol content), remembered for 14 days so
    that its redelivery is known: ``chat sender id`` as built by :func:`handled_key`."""
    records: tuple[RecordChange, ...] = ()
    facts: tuple[Fact, ...] = ()
    """What else is now known, applied in order after the messages of the batch; but addresses
    that turn out to be one person's are joined before them."""
    reset_records: bool = False
    """Delete all records of the connection first: a new device takes the place of the old."""
    stanza: bytes = attrs.field(default=b"", repr=False)  # encoded node, for the quarantine
    gap: GapStep | None = None
    """What the envelope means to the gap ledger; applied in order, after all else."""
    resolves: int | None = None  # the quarantined row that is tried again with this
    quiet: bool = False
    """The stream of events does not tell of the message: it comes from an import of history.

    A message of the lane ``HISTORY`` that is not quiet, such as a notice, must never come live:
    the stream tells of what comes live then, whatever it told before, and so would tell twice."""


class Verdict(enum.Enum):
    """What became of an envelope."""

    STORED = "stored"  # a new row, or a placeholder filled in
    DUPLICATE = "duplicate"  # the message was there already
    PLACEHOLDER = "placeholder"  # an undecryptable message: a row awaits the retry
    RECORDED = "recorded"  # no message in it: records and handled key committed
    QUARANTINED = "quarantined"  # the message could not be stored: raw bytes and error kept
    FORGOTTEN = "forgotten"  # of a person who was forgotten since: not stored, records committed


@attrs.frozen(kw_only=True)
class Outcome:
    """The committed fate of one envelope."""

    verdict: Verdict
    message_id: int | None = None
    conversation_id: int | None = None
    opened: bool = False  # the message opened a conversation
    reopened: bool = False  # the message reopened a closed one
    filled: bool = False  # the message took the place of its placeholder
    retries: int = 0  # PLACEHOLDER: how often this message has failed to decrypt, from 1
    error: str | None = None  # QUARANTINED
    resolved: bool = False  # the row that ``Envelope.resolves`` names has left the quarantine


@attrs.frozen(kw_only=True)
class ConnectionEvent:
    """One transition of a connection's state."""

    connection: str
    previous: str
    state: str
    reason: str  # stable code, such as "stream_ended"
    sentence: str  # for the operator
    retry: int = 0
    at: float | None = None  # unix seconds; None: when it is stored
    until: float | None = None  # unix seconds: when that state ends by itself, if that is known


@attrs.frozen(kw_only=True)
class SyncRun:
    """What one connection took in between two points in time."""

    connection: str
    total: int
    processed: int
    skipped: int
    errors: int
    at: float | None = None  # unix seconds; None: when it is stored


TRAFFIC_KEPT: t.Final = 35 * 24  # hours


@attrs.frozen
class TrafficHour:
    """How busy one hour of one connection was."""

    hour: int  # unix seconds // 3600
    active: int  # minutes in which a message came
    minutes: float  # that were listened to


@attrs.frozen(kw_only=True)
class ConnectionRow:
    """A connection as stored: counts for status."""

    name: str
    wanted: bool  # an operator has not stopped it
    paired: bool
    jid: str | None
    last_message_at: dt.datetime | None
    messages: int
    duplicates: int
    quarantined: int
    undecryptable: int
    state: str | None = None  # the newest transition, that of the daemon's end left aside
    reason: str = ""
    sentence: str = ""
    until: dt.datetime | None = None
    alive_at: dt.datetime | None = None
    """When it was last surely online: the end of that time, or while it is the newest mark of
    the daemon, which is less than a minute old. None: it never was."""


@attrs.frozen(kw_only=True)
class ConversationRow:
    """A conversation for lists."""

    id: int
    connection: str
    chat: str
    title: str | None
    status: str
    messages: int
    opened_at: dt.datetime
    last_message_at: dt.datetime
    closed_at: dt.datetime | None
    reopened: int
    merged_into: int | None = None  # the conversation that has its messages now
    possible_hole: bool = False
    """Messages may be missing: see :mod:`storage.gaps`; or one in it cannot be read yet."""


@attrs.frozen(kw_only=True)
class MessageRow:
    """A message as stored."""

    id: int
    connection: str
    conversation: int
    chat: str
    senders: tuple[str, ...]  # every known address of its author
    external_id: str
    kind: str
    text: str | None = attrs.field(repr=False)
    from_me: bool
    sent_at: dt.datetime


class ReopenFrom(enum.Enum):
    """The point in time from which the reopen window counts."""

    CLOSED_AT = "closed_at"
    LAST_MESSAGE = "last_message"


@attrs.frozen(kw_only=True)
class ConversationRules:
    """How messages find their conversation, per connection."""

    reopen_window: float = 86_400.0  # seconds
    reopen_from: ReopenFrom = ReopenFrom.CLOSED_AT
    team_reopens: bool = False


class Storage(
    Inbox,
    Queues,
    Gaps,
    Timeline,
    Quarantined,
    Tokens,
    Figures,
    EventStream,
    Search,
    Made,
    Reports,
    Notifications,
    Changes,
    Epochs,
    Alerts,
    Erasing,
    ExportLedger,
    t.Protocol,
):
    """The whole of persistence. Every method may raise ``StorageUnavailableError``
    (retry later) or ``StorageRejectedError`` (this will never work)."""

    async def ensure_connection(self, name: str, rules: ConversationRules) -> None:
        """Create the row of a connection, or bring its rules up to date."""
        ...

    async def set_wanted(self, name: str, wanted: bool) -> None:
        """Remember whether the connection should run after a restart."""
        ...

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        """Commit a batch in one transaction, in order; the outcomes match it by position.

        Cancellation leaves the outcome unknown; applying the same batch again is safe.

        Raises:
            StorageRejectedError: some envelope cannot be stored; nothing was committed.
        """
        ...

    async def quarantine(self, envelope: Envelope, error: str) -> Outcome:
        """Commit a message that ``apply`` rejects as a quarantine row, with its records; a row
        that was tried again (``envelope.resolves``) counts one more attempt, with the error."""
        ...

    async def record_event(self, event: ConnectionEvent) -> None:
        """Append one row to ``connection_events``."""
        ...

    async def record_sync(self, run: SyncRun) -> None:
        """Append one row of sync statistics, and add it to its quarter of an hour."""
        ...

    async def save_traffic(self, connection: str, hours: cabc.Sequence[TrafficHour]) -> None:
        """Keep how busy these hours were; what is known of the same hour is added to, and what is
        older than :data:`TRAFFIC_KEPT` before the newest of them is forgotten."""
        ...

    async def load_traffic(self, connection: str) -> list[TrafficHour]:
        """How busy the hours were that are kept, the oldest first."""
        ...

    async def load_records(
        self, connection: str, kind: RecordKind, keys: cabc.Sequence[str]
    ) -> dict[str, bytes]:
        """The values of the records that exist, opened.

        Raises:
            SealError: a record does not open under our key.
        """
        ...

    async def has_app_state_keys(self, connection: str) -> bool:
        """Whether the phone has ever shared keys of the app state with this device."""
        ...

    async def connections(self) -> list[ConnectionRow]:
        """Every connection, with its counts."""
        ...

    async def events(self, connection: str, limit: int) -> list[dict[str, t.Any]]:
        """The newest transitions, newest first."""
        ...

    async def conversations(
        self, *, status: str | None, connection: str | None, limit: int
    ) -> list[ConversationRow]:
        """Conversations, the most recently active first."""
        ...

    async def open_conversation(self, conversation_id: int) -> ConversationRow | None:
        """waiting or closed → open. None when there is no such conversation.

        Raises:
            StorageRejectedError: another conversation of the chat is live.
        """
        ...

    async def close_conversation(self, conversation_id: int) -> ConversationRow | None:
        """waiting or open → closed. None when there is no such conversation."""
        ...

    async def list_messages(self, connection: str, *, after: int, limit: int) -> list[MessageRow]:
        """Messages whose id is above ``after``, in the order of ids: page by page, all of them."""
        ...

    async def statistics(self) -> dict[str, t.Any]:
        """Counts for ``zapvisor health``: messages, duplicates, conversations by status,
        quarantine, undecryptable, gaps (as ``gap_statistics``), the newest sync run."""
        ...

    async def ping(self) -> float:
        """Seconds one round trip to the database took."""
        ...


def handled_key(chat: str, sender: str, external_id: str) -> str:
    """The key under which a stanza without a message is remembered."""
    return f"{chat} {sender} {external_id}"
