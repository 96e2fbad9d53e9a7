"""What a stanza says besides messages: facts that commit in the envelope that carries them.

Every fact may come twice, late, or in any order, and the database ends up the same: facts that
replace something carry their own time, and an older one never undoes a newer one.
"""

import enum
import typing as t

import attrs


@attrs.frozen
class AddressPair:
    """Two addresses, a phone number's and a LID, are one person: their contacts become one."""

    number: str  # bare JID, phone-number form
    lid: str  # bare JID, LID form
    source: str  # where it was learned: "stanza", "usync", "history", "group", …


class NameSource(enum.Enum):
    """Who gave a name; a contact is shown under the first of these that is known."""

    SAVED = "saved"  # in the address book of the phone
    BUSINESS = "business"  # verified business name
    PUSH = "push"  # chosen by the person
    USERNAME = "username"


@attrs.frozen(kw_only=True)
class ContactName:
    """A person's name from one source; an empty one removes it."""

    address: str
    source: NameSource
    name: str = attrs.field(repr=False)
    at: float  # unix seconds; 0 when unknown (never replaces a dated name)


class DeliveryStatus(enum.Enum):
    """How far a message of ours got with one recipient."""

    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"


@attrs.frozen(kw_only=True)
class Delivery:
    """A receipt for messages of ours: each status keeps its earliest time."""

    chat: str
    chat_alt: str | None = None
    direct: bool
    ids: tuple[str, ...]
    recipient: str  # bare
    recipient_alt: str | None = None
    status: DeliveryStatus
    at: float  # unix seconds


@attrs.frozen(kw_only=True)
class GroupMember:
    """One member of a group."""

    address: str  # bare
    alt: str | None = None
    role: str = "member"  # "member", "admin", "superadmin"


@attrs.frozen(kw_only=True)
class GroupSnapshot:
    """All of a group's metadata at one time."""

    group: str
    at: float  # unix seconds: when the server was asked
    subject: str = attrs.field(repr=False)
    description: str | None = attrs.field(default=None, repr=False)
    owner: str | None = None
    created_at: int | None = None  # unix seconds
    announce: bool = False  # only admins write
    locked: bool = False  # only admins edit
    expiration: int = 0  # seconds of disappearing messages; 0: off
    members: tuple[GroupMember, ...] = ()


@attrs.frozen(kw_only=True)
class GroupChange:
    """One change of a group, as the notification told it; None: not part of the change."""

    group: str
    at: float  # unix seconds
    subject: str | None = attrs.field(default=None, repr=False)
    description: str | None = attrs.field(default=None, repr=False)
    announce: bool | None = None
    locked: bool | None = None
    expiration: int | None = None
    joined: tuple[GroupMember, ...] = ()  # new members, or new roles
    left: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ChatSettings:
    """Settings of a chat from the phone; None: not part of the fact. Newest ``at`` wins, each
    setting by itself."""

    chat: str
    direct: bool
    at: float  # unix seconds
    archived: bool | None = None
    muted_until: float | None = None  # unix seconds; 0 not muted, -1 for ever
    pinned: bool | None = None
    unread: bool | None = None
    read_until: float | None = None  # unix seconds of the newest message read on the phone
    expiration: int | None = None  # seconds of disappearing messages; 0 off


@attrs.frozen(kw_only=True)
class Label:
    """A label of a business account."""

    id: str
    name: str = attrs.field(repr=False)
    color: int = 0
    deleted: bool = False
    at: float  # unix seconds


@attrs.frozen(kw_only=True)
class LabelLink:
    """A label on a chat, or on one message of it."""

    label: str
    chat: str
    direct: bool
    message_id: str | None = None
    labelled: bool
    at: float  # unix seconds


@attrs.frozen(kw_only=True)
class HistoryOffered:
    """The phone offers a chunk of history; ``notification`` (HistorySyncNotification bytes, holds
    a media key) is sealed at rest. The same ``key`` again changes nothing."""

    key: str  # stanza id of the offer
    notification: bytes = attrs.field(repr=False)
    sync_type: str  # "initial_bootstrap", "recent", "full", "push_name", "on_demand", …
    chunk_order: int
    progress: int  # percent, as the phone counts
    request_id: str | None = None  # of the on-demand request it answers


@attrs.frozen(kw_only=True)
class HistoryChatCount:
    """Messages of one chat out of one chunk."""

    chat: str
    offered: int = 0
    stored: int = 0
    duplicate: int = 0
    failed: int = 0


@attrs.frozen(kw_only=True)
class HistoryStep:
    """How far the import of a chunk is: everything before ``position`` is committed."""

    key: str
    state: str  # "importing", "done", "failed"
    position: int  # messages of the chunk, counted through all its conversations
    total: int
    counts: tuple[HistoryChatCount, ...] = ()  # what this step adds
    error: str | None = None


@attrs.frozen(kw_only=True)
class AppStateStep:
    """One snapshot or patch of a collection, verified: the new version, hash and index."""

    collection: str
    version: int
    hash: bytes = attrs.field(repr=False)  # 128 bytes
    reset: bool = False  # forget all MACs first: a snapshot
    values: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), repr=False)
    """(index MAC, value MAC) to set."""
    removed: tuple[bytes, ...] = attrs.field(default=(), repr=False)  # index MACs


@attrs.frozen(kw_only=True)
class OutboxStep:
    """A message to send changed its state; a state never goes back (see ``outbox.STATES``)."""

    id: int
    state: str
    reason: str | None = None
    at: float  # unix seconds


@attrs.frozen(kw_only=True)
class PlaceholderVerdict:
    """An undecryptable message will never come: what was tried, for good."""

    chat: str
    direct: bool
    sender: str
    external_id: str
    verdict: str  # "gave_up", "not_on_phone", …


@attrs.frozen(kw_only=True)
class DeviceList:
    """The devices of one account as last heard; an empty tuple: ask again before sending."""

    account: str  # bare
    devices: tuple[int, ...]
    at: float  # unix seconds


Fact: t.TypeAlias = (
    AddressPair
    | ContactName
    | Delivery
    | GroupSnapshot
    | GroupChange
    | ChatSettings
    | Label
    | LabelLink
    | HistoryOffered
    | HistoryStep
    | AppStateStep
    | OutboxStep
    | PlaceholderVerdict
    | DeviceList
)
