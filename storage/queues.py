"""The durable queues: files to fetch, messages to send, history to import, and what they need.

Everything here is rows: a worker that dies finds its work again when it asks. Facts that commit
with a stanza (``storage.facts``) move the same rows; see :data:`OUTBOX_RANK` for the one rule of
the outbox.
"""

import collections.abc as cabc
import datetime as dt
import enum
import types
import typing as t

import attrs

from storage.facts import HistoryChatCount

CLAIM_LEASE: t.Final = 300.0  # seconds a claimed file stays with its worker
FARTHEST: t.Final = 86_400.0  # seconds; no file is put off for longer


class MediaState(enum.StrEnum):
    """How far the fetching of a file is."""

    PENDING = "pending"  # to be fetched, at once or when its next attempt is due
    STORED = "stored"
    EXPIRED = "expired"  # no longer on WhatsApp's servers, nor on the phone
    FAILED = "failed"  # it will not come: see the error
    SKIPPED = "skipped"  # too large, or not wanted
    REMOVED = "removed"  # was stored; its time of keeping is over


@attrs.frozen(kw_only=True)
class MediaJob:
    """A file to fetch, claimed by the caller until it is finished or the lease ends."""

    connection: str
    message_id: int
    external_id: str
    chat: str  # the chat's address to show
    chat_addresses: tuple[str, ...]  # every known address of a direct chat; of a group its own
    from_me: bool
    sender: str  # the author: the phone number's address where it is known
    senders: tuple[str, ...]  # every known address of the author
    kind: str  # of the file: selects the keys
    size: int | None  # bytes, as claimed by the sender
    raw: bytes = attrs.field(repr=False)  # the message's plaintext: where the file lies
    direct_path: str | None = attrs.field(repr=False)
    """Where it lies instead, since the phone uploaded it again."""
    attempts: int  # this one included


@attrs.frozen(kw_only=True)
class MediaResult:
    """What became of a file: the next state, and what goes with it."""

    state: MediaState
    error: str | None = None
    retry_at: float | None = None
    """PENDING: unix seconds of the next attempt; None: at once."""
    direct_path: str | None = attrs.field(default=None, repr=False)
    """PENDING: the new place of the file; None keeps the one that is known."""
    blob_sha256: bytes | None = None  # STORED: SHA-256 of the plaintext, 32 bytes
    blob_size: int | None = None  # STORED: bytes


@attrs.frozen(kw_only=True)
class MediaRow:
    """A file of a message, as it stands."""

    connection: str
    message_id: int
    kind: str
    mimetype: str | None  # as claimed by the sender
    name: str | None = attrs.field(repr=False)  # as claimed by the sender
    size: int | None  # as claimed by the sender
    sha256: bytes  # as claimed by the sender; empty: not told
    state: str
    attempts: int
    next_attempt_at: dt.datetime | None  # None: not waiting for one
    blob_sha256: bytes | None
    blob_size: int | None
    error: str | None
    stored_at: dt.datetime | None


class OutboxState(enum.StrEnum):
    """How far a message to send is."""

    QUEUED = "queued"
    SENDING = "sending"  # committed before its first byte leaves: from here on it may have left
    UNKNOWN = "unknown"  # a crash or a lost connection leaves open whether it left
    FAILED = "failed"  # refused: see the reason
    SENT = "sent"  # the server has it
    DELIVERED = "delivered"  # to one recipient at least
    READ = "read"  # by one recipient at least
    PLAYED = "played"


OUTBOX_RANK: t.Final[cabc.Mapping[str, int]] = types.MappingProxyType(
    {state.value: rank for rank, state in enumerate(OutboxState)}
)
"""The one table of moves. A row moves to a state of a higher rank and never back: what proves
that the message left outweighs every doubt and every refusal, in whatever order they come. Of
two facts of one rank the earlier one stays. The only way back is an operator's
:meth:`Queues.outbox_retry`, from ``unknown`` to ``queued``."""


@attrs.frozen(kw_only=True)
class OutboxRequest:
    """What somebody wants sent: composed into a message only when its turn comes."""

    kind: str  # "text", "reply", "reaction", "edit", "revoke", "media", "read", …
    chat: str  # bare address of the chat, as asked for
    body: cabc.Mapping[str, t.Any] = attrs.field(factory=dict, repr=False)
    """What the kind needs, as JSON: text, quoted id, emoji, hash of the file, …"""


@attrs.frozen(kw_only=True)
class OutboxRow:
    """A message to send, as it stands."""

    id: int
    connection: str
    key: str  # the idempotency key
    external_id: str  # the stanza id under which it is sent, every time
    kind: str
    chat: str
    body: dict[str, t.Any] = attrs.field(repr=False)
    state: str
    reason: str | None
    created_at: dt.datetime
    updated_at: dt.datetime  # when it came into its state
    sent_at: dt.datetime | None  # when the server took it, where that is known

    @property
    def request(self) -> OutboxRequest:
        """What was asked for."""
        return OutboxRequest(kind=self.kind, chat=self.chat, body=self.body)


@attrs.frozen(kw_only=True)
class SentMessage:
    """A message of ours by its stanza id: to send it once more to whom it did not reach."""

    id: int  # in the outbox
    external_id: str
    kind: str
    chat: str
    state: str
    payload: bytes | None = attrs.field(repr=False)
    """The plaintext; None: never composed, or forgotten after its time."""
    created_at: dt.datetime


@attrs.frozen(kw_only=True)
class PendingHistory:
    """A chunk of history that is not imported, or not to its end."""

    connection: str
    key: str
    notification: bytes = attrs.field(repr=False)  # HistorySyncNotification bytes, opened
    sync_type: str
    chunk_order: int
    progress: int
    request_id: str | None
    state: str  # "pending", "importing"
    position: int  # continue with the message of this number
    offered_at: dt.datetime


@attrs.frozen(kw_only=True)
class HistoryProgress:
    """How far the import of a connection's history is."""

    connection: str
    percent: int | None
    """As the phone counts, of the chunks that are done; None: none is."""
    position: int  # messages taken in
    total: int  # messages of the chunks that have been opened
    chunks: dict[str, int]  # "pending", "importing", "done", "failed": how many, none left out
    chats: tuple[HistoryChatCount, ...]  # by address
    errors: tuple[str, ...]  # of failed chunks, the newest first, 10 at most


@attrs.frozen(kw_only=True)
class HistoryOverview:
    """The import of one connection's history in a line."""

    connection: str
    percent: int | None  # see HistoryProgress
    messages: int  # taken in
    waiting: int  # chunks that are not done
    failed: int  # chunks


CHUNK_STATES: t.Final = ("pending", "importing", "done", "failed")


class Queues(t.Protocol):
    """What the workers ask of storage. Every method may raise ``StorageUnavailableError``
    (retry later) or ``StorageRejectedError`` (this will never work). All of them may be
    cancelled; whether the change was made is then unknown, and asking again is safe."""

    # Files.

    async def claim_media(self, limit: int, *, lease: float = CLAIM_LEASE) -> list[MediaJob]:
        """Take up to ``limit`` files that are due, those of live messages first.

        Nobody else gets them until they are finished or ``lease`` seconds have passed; each
        claim counts as an attempt.
        """
        ...

    async def release_media(self) -> int:
        """End all claims, for a worker that starts after a crash; how many there were."""
        ...

    async def next_media_at(self) -> float | None:
        """Unix seconds when the next file is due (maybe in the past); None: nothing waits."""
        ...

    async def finish_media(self, connection: str, message_id: int, result: MediaResult) -> bool:
        """Record what became of a file, whoever tried, and end its claim.

        PENDING plans the next attempt and takes an expired, failed or skipped file up again (the
        phone has uploaded it once more, an operator retries). What is stored or removed stays so.
        False when there is no such row, or it stays as it is.
        """
        ...

    async def media_file(self, message_id: int) -> MediaRow | None:
        """The file of a message, whatever its state."""
        ...

    async def media_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[MediaRow]:
        """Files of messages with ids below ``before``, those of the newest messages first."""
        ...

    async def media_counts(self, connection: str | None = None) -> dict[str, int]:
        """Files by state, of one connection or of all; states without files are left out."""
        ...

    async def media_to_expire(self, before: float, limit: int) -> list[MediaRow]:
        """Files stored before that time (unix seconds), the oldest first."""
        ...

    async def blob_users(self, blob_sha256: bytes) -> int:
        """How many messages of all connections have this file stored, or wait to be sent with it.

        To give up a file: when its row is the only user, delete the blob, then
        :meth:`forget_media`; a crash between the two lists it again. Nothing may store the same
        blob meanwhile: hold a lock around this, as around putting a blob and finishing its row.
        """
        ...

    async def forget_media(self, connection: str, message_id: int) -> bool:
        """stored → removed; False when it was not stored."""
        ...

    # Messages to send.

    async def enqueue(
        self, connection: str, key: str, request: OutboxRequest, *, external_id: str
    ) -> tuple[OutboxRow, bool]:
        """Queue a message durably; the row, and whether it was made now.

        The same key with an equal request gives the row of the first time, with its own
        external id and in its present state.

        Raises:
            StorageRejectedError: the key was used for another request; the external id was used
                before; the request is no JSON or too large; no such connection.
        """
        ...

    async def outbox_pending(self, connection: str, limit: int) -> list[OutboxRow]:
        """What is queued, in the order in which it was asked for."""
        ...

    async def outbox_row(self, connection: str | None, outbox_id: int) -> OutboxRow | None:
        """One row; with a connection, only if it is that connection's."""
        ...

    async def outbox_list(
        self,
        connection: str | None = None,
        *,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[OutboxRow]:
        """The newest rows, newest first; ``before`` is the id where the last page ended."""
        ...

    async def outbox_counts(self, connection: str | None = None) -> dict[str, int]:
        """Rows by state; states without rows are left out."""
        ...

    async def outbox_set_payload(self, connection: str, outbox_id: int, payload: bytes) -> bytes:
        """Keep the composed plaintext; returns what is kept: the first one stays, so that every
        attempt sends the same bytes.

        Raises:
            StorageRejectedError: no such row.
        """
        ...

    async def settle_interrupted(self, connection: str) -> list[OutboxRow]:
        """sending → unknown, for a sender that starts: call it behind the fence, when nothing of
        the connection is with the writer. Returns the rows it changed."""
        ...

    async def outbox_retry(self, connection: str | None, outbox_id: int) -> OutboxRow | None:
        """unknown → queued, on an operator's order: it may be sent twice. None: no such row.

        Raises:
            StorageRejectedError: it is in another state, which the text names.
        """
        ...

    async def sent_message(self, connection: str, external_id: str) -> SentMessage | None:
        """A message of the outbox by its stanza id; None: none of ours."""
        ...

    async def forget_payloads(self, before: float) -> int:
        """Drop the plaintext of messages asked for before that time (unix seconds) that are
        neither queued nor being sent; how many, 1,000 at most per call."""
        ...

    # History.

    async def history_pending(self, connection: str | None, limit: int) -> list[PendingHistory]:
        """Chunks to import, of one connection or of all: those on demand first, then in the
        order in which they were offered.

        Raises:
            SealError: a notification does not open under our key.
        """
        ...

    async def history_progress(self, connection: str) -> HistoryProgress:
        """How far the import is; all zero for a connection without history."""
        ...

    async def history_overview(self) -> list[HistoryOverview]:
        """The imports of all connections that were offered any history, by name."""
        ...

    async def history_retry(self, connection: str) -> int:
        """failed → pending for all chunks of a connection; they go on where they stopped."""
        ...

    # App state and devices.

    async def app_state(self, connection: str, collection: str) -> tuple[int, bytes] | None:
        """Version and hash of a collection; None: never synchronised."""
        ...

    async def app_state_values(
        self, connection: str, collection: str, index_macs: cabc.Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """The value MACs of those index MACs that are known."""
        ...

    async def device_lists(
        self, connection: str, accounts: cabc.Sequence[str]
    ) -> dict[str, tuple[int, ...]]:
        """The devices of those accounts that are known, under the addresses asked for; an empty
        tuple: known to have changed, ask again."""
        ...
