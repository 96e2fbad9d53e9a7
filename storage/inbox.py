"""Reading the inbox: messages as they look now, people, chats and groups; and mending rows.

A message row never changes when somebody edits, deletes, answers or reads it: that is what other
rows say. What it looks like *now* is put together on reading, so the order in which those rows
arrived makes no difference.
"""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from whatsapp.jid import LID_SERVER, SERVER

if t.TYPE_CHECKING:
    from storage.api import ReceivedMessage

PAGE: t.Final = 500  # rows that one call gives at most, whatever its limit
QUOTE_LENGTH: t.Final = 300  # characters of a quoted message's text
ADDON_KINDS: t.Final = (
    "encrypted_reaction",
    "encrypted_comment",
    "secret_encrypted",
    "poll_vote",  # until its detail has "options"
    "event_response",  # until its detail has "response"
)


@attrs.frozen(kw_only=True)
class Person:
    """A contact as the author or the receiver of something."""

    contact: int | None  # None: only the address is known
    name: str | None = attrs.field(repr=False)
    addresses: tuple[str, ...]  # bare JIDs, the phone number's first
    shown: str  # see :func:`shown_address`
    is_self: bool  # the account itself, that is, the team


@attrs.frozen(kw_only=True)
class Version:
    """One text that a message had: the first is the original, the last the present one."""

    text: str | None = attrs.field(repr=False)
    at: dt.datetime
    external_id: str  # of the message that brought it


@attrs.frozen(kw_only=True)
class Deletion:
    """The message was deleted for everyone; its content is kept."""

    by: Person
    at: dt.datetime


@attrs.frozen(kw_only=True)
class Reaction:
    """What one person reacts with at present."""

    sender: Person
    emoji: str
    at: dt.datetime


@attrs.frozen(kw_only=True)
class PollVote:
    """What one person votes for at present."""

    voter: Person
    options: tuple[str, ...]
    at: dt.datetime


@attrs.frozen(kw_only=True)
class Quoted:
    """The message that is answered, as far as it is known here."""

    external_id: str
    id: int | None  # None: not stored
    author: Person | None
    text: str | None = attrs.field(repr=False)  # the beginning of what it says now
    kind: str | None


@attrs.frozen(kw_only=True)
class MediaDetail:
    """The file of a message."""

    kind: str
    state: str  # "pending", "stored", "expired", "failed", "skipped", "removed"
    mimetype: str | None
    size: int | None
    name: str | None = attrs.field(repr=False)
    blob_sha256: str | None  # hex; where the blob store has it
    error: str | None


@attrs.frozen(kw_only=True)
class MessageReceipt:
    """How far a message of ours got with one person."""

    recipient: Person
    delivered_at: dt.datetime | None
    read_at: dt.datetime | None
    played_at: dt.datetime | None


@attrs.frozen(kw_only=True)
class MessageDetail:
    """Everything there is to show of a message."""

    id: int
    connection: str
    conversation: int
    chat: str  # the chat's address
    direct: bool
    sender: Person
    from_me: bool
    external_id: str
    kind: str
    state: str  # "stored", "undecryptable"
    lane: str  # "live", "history", "side"
    text: str | None = attrs.field(repr=False)  # as it reads now
    original_text: str | None = attrs.field(repr=False)
    versions: tuple[Version, ...]
    """All texts, the original first; empty when it was never edited."""
    deleted: Deletion | None
    reactions: tuple[Reaction, ...]
    votes: tuple[PollVote, ...]
    quoted: Quoted | None
    mentions: tuple[Person, ...]
    flags: tuple[str, ...]
    detail: dict[str, t.Any] = attrs.field(repr=False)
    media: MediaDetail | None
    receipts: tuple[MessageReceipt, ...]
    status: str | None
    """Of messages of ours: "sent", "delivered", "read" or "played", the furthest it got."""
    target_id: str | None  # side messages: what they change or answer
    reason: str | None  # undecryptable: why
    verdict: str | None  # undecryptable: it will never come, and what was tried
    retries: int
    sent_at: dt.datetime
    received_at: dt.datetime
    withheld: bool = False
    """Former content is left out: what it said before it was deleted or edited."""
    removed: str | None = None
    """Why it has no content any more: "retention" or "forgotten"."""


@attrs.frozen(kw_only=True)
class StoredMessage:
    """A message as the workers need it: its bytes, and the addresses to open them with."""

    id: int
    connection: str
    conversation: int
    chat: str  # bare JID
    chat_alt: str | None  # direct chats: the other address of the same person
    direct: bool
    senders: tuple[str, ...]  # every known address of the author, the phone number's first
    from_me: bool
    external_id: str
    kind: str
    state: str
    lane: str
    text: str | None = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)
    target_id: str | None
    target_author: str | None
    quoted_id: str | None
    quoted_author: str | None
    mentions: tuple[str, ...]
    flags: tuple[str, ...]
    detail: dict[str, t.Any] = attrs.field(repr=False)
    sent_at: dt.datetime


@attrs.frozen(kw_only=True)
class PendingAddon:
    """An encrypted side message, and the message it belongs to where that is stored."""

    message: StoredMessage
    target: StoredMessage | None


@attrs.frozen(kw_only=True)
class WaitingPlaceholder:
    """A message that could not be decrypted and may still come."""

    id: int
    connection: str
    chat: str
    chat_alt: str | None
    direct: bool
    senders: tuple[str, ...]
    from_me: bool
    external_id: str
    retries: int
    reason: str | None
    sent_at: dt.datetime
    received_at: dt.datetime


@attrs.frozen(kw_only=True)
class ContactDetail:
    """A person."""

    id: int
    connection: str
    name: str | None = attrs.field(repr=False)  # the first that is known, in NameSource's order
    names: dict[str, str] = attrs.field(repr=False)  # by source
    addresses: tuple[str, ...]
    shown: str
    is_self: bool
    chat: int | None  # id of the direct chat, where there is one
    created_at: dt.datetime


@attrs.frozen(kw_only=True)
class GroupPerson:
    """A member of a group."""

    person: Person
    role: str  # "member", "admin", "superadmin"


@attrs.frozen(kw_only=True)
class GroupDetail:
    """A group as last heard; what was never told is None."""

    connection: str
    address: str
    subject: str | None = attrs.field(repr=False)
    description: str | None = attrs.field(repr=False)
    owner: Person | None
    created_at: dt.datetime | None
    announce: bool | None
    locked: bool | None
    expiration: int | None  # seconds of disappearing messages; 0: off
    members: tuple[GroupPerson, ...]


@attrs.frozen(kw_only=True)
class LabelRow:
    """A label of a business account."""

    id: str
    name: str = attrs.field(repr=False)
    color: int


@attrs.frozen(kw_only=True)
class ChatDetail:
    """A chat with its settings on the phone; None: never told."""

    connection: str
    address: str
    title: str | None = attrs.field(repr=False)
    direct: bool
    archived: bool | None
    muted_until: dt.datetime | None
    muted: bool | None
    pinned: bool | None
    unread: bool | None
    read_until: dt.datetime | None
    expiration: int | None  # seconds
    labels: tuple[LabelRow, ...]


@attrs.frozen(kw_only=True)
class MergeRow:
    """Two contacts that were found to be one person."""

    id: int
    connection: str
    survivor: int
    merged: int  # the contact that is no more
    addresses: tuple[str, ...]  # that moved
    messages: int  # that moved
    duplicates: int  # stored under both identities, now once
    source: str  # where it was learned
    merged_at: dt.datetime
    undone_at: dt.datetime | None


class Inbox(t.Protocol):
    """The reading half of storage. Every method may raise ``StorageUnavailableError`` (retry
    later) or ``StorageRejectedError`` (this will never work). A limit is cut to :data:`PAGE`."""

    async def conversation_messages(
        self, conversation_id: int, *, before: int | None = None, limit: int = 50
    ) -> list[MessageDetail]:
        """The newest ``limit`` messages, or those before the message with the id ``before``;
        oldest first. Side messages show as what they do to others, not by themselves."""
        ...

    async def message(self, message_id: int) -> MessageDetail | None:
        """One message, side messages too."""
        ...

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        """The message with that id, in a chat (under any of its addresses) or anywhere.

        Where several have it: the one of ``author``, else the one stored first.
        """
        ...

    async def oldest_message(self, connection: str, chat: str) -> StoredMessage | None:
        """The first message of a chat that has an id of WhatsApp's: where older history begins."""
        ...

    async def pending_addons(self, after: int, limit: int) -> list[PendingAddon]:
        """Encrypted side messages (:data:`ADDON_KINDS`) with ids above ``after``, by id."""
        ...

    async def waiting_placeholders(
        self, connection: str | None, limit: int, *, after: int = 0
    ) -> list[WaitingPlaceholder]:
        """Undecryptable messages without a verdict, with ids above ``after``, by id."""
        ...

    async def unread_kinds(
        self,
        after: int,
        limit: int,
        *,
        connection: str | None = None,
        kinds: cabc.Sequence[str] | None = ("unknown",),
    ) -> list[StoredMessage]:
        """Messages of some kinds (None: of all) with ids above ``after``, by id; placeholders
        are left out: there is nothing to read in them."""
        ...

    async def rewrite(
        self, connection: str, message_id: int, message: "ReceivedMessage", *, expected: str
    ) -> bool:
        """Read a stored message anew, in place: kind, text, target, quote, mentions, flags,
        detail, file, and the side lane are those of ``message``; its identity, time and raw
        bytes stay as they are.

        False, and nothing changes, unless the row still has the kind ``expected``.

        Raises:
            StorageRejectedError: a placeholder cannot be read anew; the kind is no kind.
        """
        ...

    async def contacts(
        self,
        connection: str | None,
        *,
        query: str | None = None,
        after: int = 0,
        limit: int = 50,
    ) -> list[ContactDetail]:
        """Contacts with ids above ``after``, by id, the account itself left out; ``query`` is
        part of a name or address."""
        ...

    async def contact(self, connection: str, address: str) -> ContactDetail | None:
        """The person behind an address."""
        ...

    async def contact_by_id(self, contact_id: int) -> ContactDetail | None:
        """One person; None, too, when it turned out to be another one."""
        ...

    async def merges(
        self, connection: str | None, *, before: int | None = None, limit: int = 50
    ) -> list[MergeRow]:
        """Merges of contacts with ids below ``before``, undone ones too, the newest first."""
        ...

    async def unmerge(self, merge_id: int) -> MergeRow | None:
        """Make two contacts of one again: addresses, chat, conversations and messages that moved
        go back, messages that became one are two again. What came after the merge stays with
        the survivor. None when there is no such merge; one undone before stays undone.

        Two contacts that were told apart like this are not merged again by themselves.

        Raises:
            StorageRejectedError: a later merge took part of the same contact: undo that first.
        """
        ...

    async def groups(
        self, connection: str, *, after: str = "", limit: int = 50
    ) -> list[GroupDetail]:
        """Groups with addresses above ``after``, by address; members are left out."""
        ...

    async def group(self, connection: str, address: str) -> GroupDetail | None:
        """One group with its members."""
        ...

    async def chat(self, connection: str, address: str) -> ChatDetail | None:
        """A chat under any of its addresses."""
        ...

    async def labels(self, connection: str) -> list[LabelRow]:
        """The labels that are not deleted."""
        ...


def furthest(receipts: cabc.Iterable[MessageReceipt]) -> str:
    """How far a message of ours got, with anybody."""
    found = tuple(receipts)
    if any(receipt.played_at for receipt in found):
        return "played"
    if any(receipt.read_at for receipt in found):
        return "read"
    return "delivered" if found else "sent"


def shown_address(addresses: cabc.Sequence[str]) -> str:
    """How a person without a name is called: ``+15550001111``; ``lid:9000…`` where the phone
    number is unknown, for a LID must never look like one; else the address as it is."""
    if not addresses:
        return "?"
    user, _at, server = addresses[0].rpartition("@")
    if server == SERVER and user.isascii() and user.isdigit():
        return "+" + user
    return f"lid:{user}" if server == LID_SERVER else addresses[0]
