"""What MemoryStorage holds: the rows of the tables as objects, and how they are looked up."""

import collections.abc as cabc
import datetime as dt
import itertools
import typing as t

import attrs

from storage.api import ConnectionEvent, ConversationRules, Lane, RecordKind
from storage.errors import StorageRejectedError
from storage.facts import NameSource
from storage.memory_queues import MemoryQueues
from storage.prepare import PreparedMessage, PreparedQuarantine
from whatsapp.jid import SERVER

SELF: t.Final = 0  # id of the account's own contact

_T = t.TypeVar("_T")


@attrs.define
class Contact:
    id: int
    created_at: float
    merged_into: int | None = None


@attrs.define
class Address:
    contact: int
    created_at: float


@attrs.define(eq=False)
class Chat:
    id: int
    address: str
    contact: int | None  # None: a group
    conversations: list["Conversation"] = attrs.field(factory=list)

    @property
    def direct(self) -> bool:
        return self.contact is not None


@attrs.define(eq=False)
class Conversation:
    id: int
    chat: Chat
    status: str
    opened_at: float
    last_message_at: float
    closed_at: float | None = None
    messages: int = 0
    reopened: int = 0
    merged_into: "Conversation | None" = None

    @property
    def live(self) -> bool:
        return self.status != "closed"


@attrs.define(eq=False)
class Message:
    id: int
    chat: Chat
    sender: int
    conversation: Conversation
    content: PreparedMessage
    arrival: int
    received_at: float
    placeholder: bool
    retries: int = 0
    verdict: str | None = None
    erased: str | None = None  # why it has no content any more

    @property
    def key(self) -> tuple[int, int, str]:
        """Under which it is stored once."""
        return self.chat.id, self.sender, self.content.external_id

    @property
    def side(self) -> bool:
        return self.content.lane is Lane.SIDE


@attrs.define
class Merge:
    """A merge of contacts, and what it changed as it was before."""

    id: int
    survivor: int
    merged: int
    source: str
    merged_at: float
    undone_at: float | None = None
    addresses: list[str] = attrs.field(factory=list)
    chats: list[tuple[Chat, int]] = attrs.field(factory=list)  # with their contacts
    conversations: list[tuple[Conversation, Conversation]] = attrs.field(factory=list)
    messages: list[tuple[Message, Chat, int, Conversation]] = attrs.field(factory=list)
    duplicates: list[tuple[Message, Message]] = attrs.field(factory=list)  # and what they became
    files: dict[int, t.Any] | None = None  # those of both, by message; None: not looked at yet


@attrs.define
class Member:
    present: bool
    role: str
    at: float


@attrs.define
class Group:
    address: str
    parts: dict[str, tuple[float, t.Any]] = attrs.field(factory=dict)  # when and what, by name
    owner: str | None = None
    created_at: int | None = None
    members_at: float | None = None
    members: dict[str, Member] = attrs.field(factory=dict)


@attrs.define
class Receipt:
    delivered: float | None = None
    read: float | None = None
    played: float | None = None


@attrs.define(kw_only=True)
class QuarantinedEntry:
    """What could not be stored, and what became of it."""

    id: int
    row: PreparedQuarantine
    received_at: float
    last_attempt_at: float
    attempts: int = 1
    resolved_at: float | None = None
    resolution: str | None = None
    message_id: int | None = None

    def take(self, row: PreparedQuarantine, now: float) -> None:
        """One more attempt that failed; what is known by now."""
        old = self.row
        self.attempts += 1
        self.last_attempt_at = now
        self.row = attrs.evolve(
            old,
            error=row.error,
            chat=row.chat or old.chat,
            sender=row.sender or old.sender,
            external_id=row.external_id or old.external_id,
            raw=old.raw if row.kept is None else row.raw,
            kept=row.kept or old.kept,
            opened=old.opened or row.opened,
        )


@attrs.frozen
class StoredEvent:
    id: int
    at: float
    event: ConnectionEvent


@attrs.define
class Gap:
    """A row of the gap ledger."""

    id: int
    kind: str
    reason: str
    from_at: float
    login: str | None = None
    login_at: float | None = None
    horizon: float | None = None
    to_at: float | None = None
    interrupted: bool = False
    device_replaced: bool = False
    counted: int = 0
    announced: int | None = None
    announced_messages: int | None = None
    stored: int = 0
    duplicate: int = 0
    undecryptable: int = 0
    quarantined: int = 0
    other: int = 0
    covered: int = 0
    covered_by: int | None = None
    closed_at: float | None = None
    resolution: str | None = None
    accepted_by: str | None = None
    items: set[tuple[str, int | str | None]] = attrs.field(factory=set)

    @property
    def came(self) -> int:
        """Of what was announced."""
        read = self.stored + self.duplicate + self.other
        return read + self.undecryptable + self.quarantined

    @property
    def missing(self) -> int:
        return max(0, (self.announced or 0) - self.came - self.covered)


@attrs.define
class Connection:
    name: str
    rules: ConversationRules
    created_at: float = 0.0
    wanted: bool = True
    jid: str | None = None
    arrivals: int = 0
    messages: int = 0
    duplicates: int = 0
    quarantined: int = 0
    undecryptable: int = 0
    last_message_at: float | None = None
    contacts: dict[int, Contact] = attrs.field(factory=dict)
    addresses: dict[str, Address] = attrs.field(factory=dict)
    names: dict[tuple[str, NameSource], tuple[float, str]] = attrs.field(factory=dict)
    chats: dict[int | str, Chat] = attrs.field(factory=dict)  # by contact id or group
    rows: dict[int, Message] = attrs.field(factory=dict)
    keys: dict[tuple[int, int, str], Message] = attrs.field(factory=dict)
    merges: list[Merge] = attrs.field(factory=list)
    groups: dict[str, Group] = attrs.field(factory=dict)
    settings: dict[tuple[str, str], tuple[float, t.Any]] = attrs.field(factory=dict)
    labels: dict[str, tuple[float, bool, str, int]] = attrs.field(factory=dict)
    links: dict[tuple[str, str, str], tuple[float, bool]] = attrs.field(factory=dict)
    receipts: dict[tuple[str, str, str], Receipt] = attrs.field(factory=dict)
    handled: dict[str, float] = attrs.field(factory=dict)
    quarantine: dict[str, QuarantinedEntry] = attrs.field(factory=dict)  # by fingerprint
    gaps: list[Gap] = attrs.field(factory=list)
    records: dict[RecordKind, dict[str, bytes]] = attrs.field(
        factory=lambda: {kind: {} for kind in RecordKind}
    )
    events: list[StoredEvent] = attrs.field(factory=list)

    def quarantine_row(self, row_id: int | None) -> QuarantinedEntry | None:
        """The row of that number."""
        return next((each for each in self.quarantine.values() if each.id == row_id), None)

    def contact_at(self, address: str | None) -> int | None:
        """The contact behind an address."""
        row = None if address is None else self.addresses.get(address)
        return None if row is None else row.contact

    def chat_at(self, address: str) -> Chat | None:
        """The chat under any of its addresses."""
        group = self.chats.get(address)
        contact = self.contact_at(address)
        return group if group is not None or contact is None else self.chats.get(contact)

    def addresses_of(self, contact: int) -> tuple[str, ...]:
        """All addresses of a contact, the one to show first."""
        found = [
            (not address.endswith("@" + SERVER), -row.created_at, address)
            for address, row in self.addresses.items()
            if row.contact == contact
        ]
        return tuple(address for _other, _at, address in sorted(found))

    def names_of(self, contact: int) -> dict[NameSource, str]:
        """The newest name from each source, the best source first."""
        newest: dict[NameSource, tuple[float, str]] = {}
        for (address, source), dated in self.names.items():
            if self.contact_at(address) == contact:
                newest[source] = max(dated, newest.get(source, dated))
        return {
            source: newest[source][1]
            for source in NameSource
            if source in newest and newest[source][1]
        }

    def name_of(self, contact: int) -> str | None:
        """The name to show."""
        return next(iter(self.names_of(contact).values()), None)

    def title(self, chat: Chat) -> str | None:
        """What a chat is called."""
        if chat.contact is not None:
            return self.name_of(chat.contact)
        group = self.groups.get(chat.address)
        return None if group is None else group.parts.get("subject", (0, None))[1]

    def all_names(self, chat: Chat) -> list[str]:
        """What a chat is called, under any address and by any source."""
        if chat.contact is None:
            return [self.title(chat) or ""]
        return [
            name
            for (address, _source), (_at, name) in self.names.items()
            if self.contact_at(address) == chat.contact
        ]


class MemoryState(MemoryQueues):
    """The connections, and the clock that dates what happens to them."""

    def __init__(self, clock: cabc.Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._connections: dict[str, Connection] = {}
        self._ids = itertools.count(1)

    def _connection(self, name: str) -> Connection:
        try:
            return self._connections[name]
        except KeyError:
            raise StorageRejectedError(f"unknown connection {name!r}") from None

    def _tell_conversation(
        self, owner: Connection, row: Conversation, previous: str | None, *, reopened: bool = False
    ) -> None:
        changed = "conversation.reopened" if reopened else "conversation.status"
        self._tell(
            "conversation.opened" if previous is None else changed,
            owner.name,
            conversation_id=row.id,
            chat=row.chat.address,
            status=row.status,
            previous=previous,
            merged_into=None if row.merged_into is None else row.merged_into.id,
        )

    def _chosen(self, name: str | None) -> list[Connection]:
        """One connection, or all of them."""
        if name is not None:
            return [self._connections[name]] if name in self._connections else []
        return [row for _name, row in sorted(self._connections.items())]


def newer(rows: dict[_T, t.Any], key: _T, dated: tuple[t.Any, ...]) -> None:
    """Keep the greater of two, the time first."""
    if key not in rows or rows[key] < dated:
        rows[key] = dated


def utc(seconds: float) -> dt.datetime:
    """As PostgreSQL would give it back."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def optional_utc(seconds: float | None) -> dt.datetime | None:
    """None stays None."""
    return None if seconds is None else utc(seconds)
