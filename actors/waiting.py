"""Messages that could not be read and may still come: what each waits for. Pure."""

import collections
import enum
import math
import typing as t

import attrs

from actors.reading import Origin
from actors.rereading import origin_of_row
from storage.inbox import WaitingPlaceholder
from whatsapp.content import TargetKey
from whatsapp.jid import Jid
from whatsapp.stanzas import MessageStanza

MAX_WAITING: t.Final = 4096  # messages remembered; more are found again in storage
DERIVED_IDS: t.Final = ("generated-", "hashed-")  # are ours, not WhatsApp's

Name: t.TypeAlias = tuple[str, str]  # id, an address of the author


class Phase(enum.Enum):
    """What a message waits for."""

    TO_ASK = enum.auto()  # its turn to be asked for
    ASKED = enum.auto()  # the phone
    LEFT_TO_SENDER = enum.auto()


@attrs.define(eq=False)
class Waiting:
    """A message that is not here yet."""

    origin: Origin
    retries: int  # failures so far, each of which asked the sender
    withheld: bool  # there is no ciphertext, and the sender is not asked
    phase: Phase = Phase.TO_ASK
    due_at: float = math.inf  # trio clock: when the wait is over
    verdict: str = "gave_up"  # what it will be unless the message comes

    @property
    def names(self) -> tuple[Name, ...]:
        """Its id with each address of its author."""
        origin = self.origin
        authors = origin.own if origin.from_me else (origin.sender, origin.sender_alt)
        return tuple((origin.id or "", str(jid)) for jid in authors if jid is not None)

    @property
    def key(self) -> TargetKey:
        """The message, as the phone knows it."""
        origin = self.origin
        named = not origin.direct and not origin.from_me
        return TargetKey(
            remote_jid=str(origin.chat),
            from_me=origin.from_me,
            id=origin.id or "",
            participant=str(origin.sender) if named else None,
        )


class WaitingList:
    """Bounded; remembers for a while what was settled, so that it is not taken in again."""

    def __init__(self) -> None:
        self._items: dict[Waiting, None] = {}  # in the order of their coming
        self._names: dict[Name, Waiting] = {}
        self._settled: collections.OrderedDict[Name, None] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: Waiting) -> bool:
        return item in self._items

    def add(self, item: Waiting) -> bool:
        """Take one in; False: there is no room, or it was settled before."""
        if len(self._items) >= MAX_WAITING or any(name in self._settled for name in item.names):
            return False
        self._items[item] = None
        self._names |= dict.fromkeys(item.names, item)
        return True

    def same(self, item: Waiting) -> Waiting | None:
        """The one that waits for the same message, under whichever address of its author."""
        return next((self._names[name] for name in item.names if name in self._names), None)

    def with_id(self, message_id: str) -> list[Waiting]:
        """Those with that id; there are several only if authors chose alike."""
        return [item for item in self._items if item.origin.id == message_id]

    def settle(self, item: Waiting) -> None:
        """It waits no more."""
        self._items.pop(item, None)
        for name in item.names:
            self._names.pop(name, None)
            self._settled[name] = None
        while len(self._settled) > MAX_WAITING:
            self._settled.popitem(last=False)

    def due(self, now: float) -> list[Waiting]:
        """Those whose wait is over."""
        return [item for item in self._items if item.due_at <= now]

    def next_due(self) -> float:
        """When the next wait is over."""
        return min((item.due_at for item in self._items), default=math.inf)


def origin_of_stanza(stanza: MessageStanza, own: tuple[Jid, ...]) -> Origin:
    """Where the message of a stanza belongs; ``own`` are the account's bare addresses."""
    return Origin(
        chat=stanza.chat.bare,
        chat_alt=None if stanza.chat_alt is None else stanza.chat_alt.bare,
        sender=stanza.sender.bare,
        sender_alt=None if stanza.sender_alt is None else stanza.sender_alt.bare,
        from_me=stanza.from_me,
        own=own,
        id=stanza.id,
        timestamp=stanza.timestamp,
        push_name=stanza.push_name,
    )


def origin_of_placeholder(row: WaitingPlaceholder, own: tuple[Jid, ...]) -> Origin | None:
    """The same from a row; None for what the phone cannot know by its id or its addresses."""
    if row.external_id.startswith(DERIVED_IDS):
        return None
    return origin_of_row(row, own)
