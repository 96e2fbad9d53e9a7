"""A chunk of history: its parts, before and after they are decoded.

Source: docs/protocol.md#history-sync
"""

import array
import collections.abc as cabc
import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.web_message import HistoryMessage

SYNC_TYPES: t.Final = (
    "initial_bootstrap",
    "initial_status_v3",
    "full",
    "recent",
    "push_name",
    "non_blocking_data",
    "on_demand",
    "no_history",
    "message_access_status",
)
ROLES: t.Final = ("member", "admin", "superadmin")

T = t.TypeVar("T")


class Slices(cabc.Sequence[T]):
    """Items of a message, still encoded: each is decoded when it is asked for."""

    def __init__(self, data: bytes | bytearray, read: cabc.Callable[[bytes], T]) -> None:
        self._data = data
        self._read = read
        self._bounds = array.array("Q")

    def note(self, begin: int, end: int) -> None:
        """Add ``data[begin:end]`` as the last item."""
        self._bounds.append(begin)
        self._bounds.append(end)

    def raw(self, index: int) -> bytes:
        """The bytes of an item."""
        begin, end = self._bounds[2 * index : 2 * index + 2]
        return bytes(self._data[begin:end])

    def __len__(self) -> int:
        return len(self._bounds) // 2

    @t.overload
    def __getitem__(self, index: int) -> T: ...

    @t.overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...

    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        """Decode.

        Raises:
            RemoteProtocolError: this item cannot be read; the others may.
        """
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._read(self.raw(index % len(self)))


@attrs.frozen(kw_only=True)
class Member:
    """A member of a group."""

    address: str
    role: str  # "member", "admin", "superadmin"


@attrs.frozen(kw_only=True)
class HistoryConversation:
    """A chat, with the messages of it that the chunk holds. None: not told."""

    chat: str
    number: str | None = None  # the person's addresses, of a direct chat
    lid: str | None = None
    name: str | None = attrs.field(default=None, repr=False)
    """The subject of a group; of a person, the name in the phone's address book."""
    username: str | None = attrs.field(default=None, repr=False)
    description: str | None = attrs.field(default=None, repr=False)
    last_message_at: int = 0  # unix seconds, like all of these
    conversation_at: int = 0
    created_at: int = 0
    created_by: str | None = None
    members: tuple[Member, ...] = ()
    archived: bool | None = None
    pinned_at: int | None = None  # 0: not pinned
    muted_until: int | None = None  # 0: not muted, -1: for ever
    marked_unread: bool | None = None
    unread: int | None = None  # messages
    expiration: int | None = None  # seconds of disappearing messages
    expiration_at: int = 0
    end: int | None = None  # 1: the phone has no older messages
    messages: cabc.Sequence[HistoryMessage] = attrs.field(default=(), repr=False)
    """Newest first, as phones send them; decoded one by one (see :class:`Slices`)."""

    def oldest_first(self) -> range:
        """The indexes of ``messages`` from the oldest to the newest, by its two ends."""
        count = len(self.messages)
        forward, backward = range(count), range(count - 1, -1, -1)
        if count < 2:
            return forward
        try:
            first, last = self.messages[0], self.messages[count - 1]
        except RemoteProtocolError:
            return backward
        by_time = first.timestamp < last.timestamp
        if first.order is None or last.order is None or first.timestamp != last.timestamp:
            return forward if by_time else backward
        return forward if first.order < last.order else backward


@attrs.frozen(kw_only=True)
class InlineContact:
    """A person, as the phone knows them."""

    number: str | None = None
    lid: str | None = None
    full_name: str | None = attrs.field(default=None, repr=False)
    first_name: str | None = attrs.field(default=None, repr=False)
    username: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class HistoryChunk:
    """One chunk. Conversations come in the order of the bytes, which never changes."""

    sync_type: str
    chunk_order: int
    progress: int
    conversations: tuple[HistoryConversation, ...]
    status_messages: cabc.Sequence[HistoryMessage]
    push_names: tuple[tuple[str, str], ...] = attrs.field(repr=False)  # address, name
    address_pairs: tuple[tuple[str, str], ...] = attrs.field(repr=False)  # number, LID
    contacts: tuple[InlineContact, ...] = attrs.field(repr=False)
    calls: int  # records of the call log, which are not read

    @property
    def total(self) -> int:
        """How many messages there are, of conversations and statuses."""
        return sum(len(item.messages) for item in self.conversations) + len(self.status_messages)
