"""From receipts, notifications and calls to what they change. Pure."""

import collections
import collections.abc as cabc
import typing as t

import attrs

from actors.reading import Origin, bare_message, is_direct
from storage.api import Lane, ReceivedMessage
from storage.facts import (
    AddressPair,
    ChatSettings,
    Delivery,
    DeliveryStatus,
    Fact,
    GroupChange,
    GroupMember,
    GroupSnapshot,
)
from whatsapp.calls import CallEvent
from whatsapp.iq.groups import Group, Participant
from whatsapp.jid import Jid
from whatsapp.notifications import GroupEvent
from whatsapp.stanzas import ReceiptStanza

SYSTEM: t.Final = "system"  # kind of a message that WhatsApp itself writes into a chat
CALL: t.Final = "call"
MAX_CALLS: t.Final = 256  # remembered at once
MOMENTS: t.Final = 10_000  # told apart in one second
MAX_MOMENTS: t.Final = 256  # remembered
CLOCK_SKEW: t.Final = 60.0  # seconds between our clock and the server's, at most

_STATUSES: t.Final[dict[str | None, DeliveryStatus]] = {
    None: DeliveryStatus.DELIVERED,
    "inactive": DeliveryStatus.DELIVERED,
    "read": DeliveryStatus.READ,
    "played": DeliveryStatus.PLAYED,
}
_ELSEWHERE: t.Final = {"accepted_elsewhere": "terminated", "rejected_elsewhere": "rejected"}
"""Reasons for which a call ends on this device because another own device took or refused it."""
_SEEN_ELSEWHERE: t.Final = frozenset({"read", "read-self", "played", "played-self"})


# ---- receipts


def receipt_facts(receipt: ReceiptStanza, own: cabc.Collection[Jid]) -> tuple[Fact, ...]:
    """What a receipt says of our messages, or of what was read on another own device."""
    chat, sender = receipt.chat, receipt.sender
    if chat is None or sender is None:
        return ()
    if sender.bare in own:
        if receipt.type not in _SEEN_ELSEWHERE:
            return ()
        return (
            ChatSettings(
                chat=str(chat.bare), direct=is_direct(chat), at=receipt.timestamp, unread=False
            ),
        )
    status = _STATUSES.get(receipt.type)
    if status is None:
        return ()
    readers = [(reader.jid, reader.timestamp) for reader in receipt.readers]
    return tuple(
        Delivery(
            chat=str(chat.bare),
            direct=is_direct(chat),
            ids=receipt.ids,
            recipient=str(jid.bare),
            status=status,
            at=at or receipt.timestamp,
        )
        for jid, at in readers or [(sender, receipt.timestamp)]
    )


# ---- groups


def group_snapshot(group: Group, at: float) -> tuple[Fact, ...]:
    """A group's metadata, with the address pairs that it tells."""
    return (
        *_pairs(group.participants),
        GroupSnapshot(
            group=str(group.jid),
            at=at,
            subject=group.subject,
            description=group.description,
            owner=None if group.creator is None else str(group.creator.bare),
            created_at=group.created_at or None,
            announce=group.announce,
            locked=group.locked,
            expiration=group.expiration,
            members=tuple(_member(item) for item in group.participants),
        ),
    )


def asked_snapshot(group: Group, now: float) -> tuple[Fact, ...]:
    """The same as the answer to a question of ours.

    Changes carry the server's time in whole seconds, the answer has ours: changes that are about
    as old outrank it, or one that came just after it would be taken for an older one.
    """
    return group_snapshot(group, now - CLOCK_SKEW)


class Moments:
    """When things happened that the server dates by the second.

    It tells them in their order, so within a second the later one is a little later; one that is
    told again keeps its moment.
    """

    def __init__(self) -> None:
        self._known: collections.OrderedDict[tuple[str, str, int], float] = (
            collections.OrderedDict()
        )
        self._second = 0
        self._count = 0

    def of(self, event: GroupEvent) -> float:
        """Unix seconds."""
        key = (str(event.group), event.id, event.index)
        if (known := self._known.get(key)) is not None:
            return known
        self._count = min(self._count + 1, MOMENTS - 1) if event.at == self._second else 0
        self._second = event.at
        moment = self._known[key] = event.at + self._count / MOMENTS
        if len(self._known) > MAX_MOMENTS:
            self._known.popitem(last=False)
        return moment


def group_facts(event: GroupEvent, at: float) -> tuple[Fact, ...]:
    """What a change of a group changes, at that moment (unix seconds)."""
    if event.snapshot is not None:
        return group_snapshot(event.snapshot, at)
    change = GroupChange(group=str(event.group), at=at)
    match event.action:
        case "subject":
            change = attrs.evolve(change, subject=event.text)
        case "description":
            change = attrs.evolve(change, description=event.text)
        case "announce":
            change = attrs.evolve(change, announce=event.switch)
        case "locked":
            change = attrs.evolve(change, locked=event.switch)
        case "ephemeral":
            change = attrs.evolve(change, expiration=event.expiration)
        case "add" | "demote":
            change = attrs.evolve(change, joined=tuple(_member(item) for item in event.people))
        case "promote":
            people = (attrs.evolve(item, role=item.role or "admin") for item in event.people)
            change = attrs.evolve(change, joined=tuple(_member(item) for item in people))
        case "remove" | "leave":
            change = attrs.evolve(change, left=tuple(str(item.jid.bare) for item in event.people))
        case _:
            return _pairs(event.people)
    return (*_pairs(event.people), change)


def group_message(event: GroupEvent, own: tuple[Jid, ...]) -> ReceivedMessage:
    """The line that a change of a group leaves in its conversation."""
    actor = event.actor or event.group
    origin = Origin(
        chat=event.group,
        sender=actor,
        sender_alt=event.actor_alt,
        from_me=actor in own,
        own=own,
        id=f"system-{event.id}-{event.index}",
        timestamp=event.at,
        lane=Lane.HISTORY,  # told, but no reason to open a conversation
    )
    detail: dict[str, t.Any] = {"action": event.action}
    if event.people:
        detail["people"] = [str(item.jid.bare) for item in event.people]
    if event.switch is not None:
        detail["on"] = event.switch
    if event.expiration is not None:
        detail["expiration"] = event.expiration
    text = event.snapshot.subject if event.snapshot is not None else event.text
    return attrs.evolve(bare_message(origin), kind=SYSTEM, text=text, detail=detail)


def _pairs(people: cabc.Iterable[Participant]) -> tuple[AddressPair, ...]:
    return tuple(
        pair for item in people if (pair := address_pair(item.jid, item.alt, "group")) is not None
    )


def address_pair(first: Jid, second: Jid | None, source: str) -> AddressPair | None:
    """One person's two addresses, whichever comes first; None unless they are a pair."""
    if second is None or not (first.is_person and second.is_person and second.user):
        return None
    if first.is_lid == second.is_lid:
        return None
    lid, number = (first, second) if first.is_lid else (second, first)
    return AddressPair(str(number.bare), str(lid.bare), source)


def _member(item: Participant) -> GroupMember:
    alt = None if item.alt is None else str(item.alt.bare)
    return GroupMember(address=str(item.jid.bare), alt=alt, role=item.role or "member")


# ---- calls


@attrs.define
class _Known:
    video: bool
    answered: bool = False


class Calls:
    """Tells missed calls from answered ones; remembers the latest few."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}  # by call id

    def message(self, event: CallEvent, own: tuple[Jid, ...]) -> ReceivedMessage | None:
        """The message that an event of a call leaves; None: nothing to show."""
        known = self._known.get(event.call_id)
        outcome = self._outcome(event)
        if outcome is None:
            return None
        chat = event.group or event.caller
        offer = outcome == "offer"
        origin = Origin(
            chat=chat,
            chat_alt=None if event.group is not None else event.caller_alt,
            sender=event.caller,
            sender_alt=event.caller_alt,
            from_me=event.caller in own,
            own=own,
            id=f"call-{'offer' if offer else 'end'}-{event.call_id}",
            timestamp=event.at,
            push_name=event.push_name if offer else None,
            lane=Lane.LIVE if offer else Lane.HISTORY,
        )
        detail: dict[str, t.Any] = {
            "event": outcome,
            "call_id": event.call_id,
            "video": event.video or (known is not None and known.video),
        }
        if event.reason is not None:
            detail["reason"] = event.reason
        return attrs.evolve(bare_message(origin), kind=CALL, detail=detail)

    def _outcome(self, event: CallEvent) -> str | None:
        match event.event:
            case "offer":
                self._remembered(event)
                return "offer"
            case "accept":
                self._remembered(event).answered = True
                return None
            case "reject":
                self._known.pop(event.call_id, None)
                return "rejected"
            case _:
                known = self._known.pop(event.call_id, None)
                if event.reason in _ELSEWHERE:
                    return _ELSEWHERE[event.reason]
                return "missed" if known is not None and not known.answered else "terminated"

    def _remembered(self, event: CallEvent) -> _Known:
        known = self._known.setdefault(event.call_id, _Known(event.video))
        while len(self._known) > MAX_CALLS:
            del self._known[next(iter(self._known))]
        return known
