"""Notifications of the server that an inbox needs: groups, devices, identities.

Source: docs/protocol.md#notifications
"""

import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import groups
from whatsapp.jid import Jid
from whatsapp.node import Node

MAX_EVENTS: t.Final = 64  # in one notification
MAX_PEOPLE: t.Final = 4096  # in one event

_MEMBERSHIP: t.Final = frozenset({"add", "remove", "promote", "demote", "leave"})
_SWITCHES: t.Final = {
    "announcement": ("announce", True),
    "not_announcement": ("announce", False),
    "locked": ("locked", True),
    "unlocked": ("locked", False),
}


@attrs.frozen(kw_only=True)
class GroupEvent:
    """One change of a group, as its members are told."""

    group: Jid
    id: str  # of the notification; with ``index`` it names the event
    index: int
    at: int  # unix seconds
    actor: Jid | None  # who did it
    actor_alt: Jid | None
    action: str
    """``create``, ``add``, ``remove``, ``leave``, ``promote``, ``demote``, ``subject``,
    ``description``, ``announce``, ``locked``, ``ephemeral``, ``invite``, ``delete``, or the
    server's own word for what is not listed here."""
    people: tuple[groups.Participant, ...] = ()
    text: str | None = attrs.field(default=None, repr=False)  # new subject or description
    switch: bool | None = None  # announce, locked
    expiration: int | None = None  # seconds; 0: messages stay
    snapshot: groups.Group | None = None  # create: the group


@attrs.frozen
class DevicesChanged:
    """The devices of an account changed."""

    account: Jid  # bare
    lid: Jid | None
    devices: tuple[int, ...] | None  # all of them now; None: not told, ask


@attrs.frozen
class IdentityChanged:
    """An account registered anew: its sessions are void."""

    account: Jid  # bare


def parse_group_events(node: Node) -> tuple[GroupEvent, ...]:
    """The changes in a ``w:gp2`` notification, in their order.

    Raises:
        RemoteProtocolError: malformed.
    """
    group = node.required_jid("from")
    if not group.is_group:
        raise RemoteProtocolError("a group notification that is not from a group")
    actor = node.jid("participant")
    actor_alt = node.jid("participant_pn") or node.jid("participant_lid")
    common = {
        "group": group,
        "id": node.required_identifier("id"),
        "at": node.integer("t") or 0,
        "actor": None if actor is None else actor.bare,
        "actor_alt": None if actor_alt is None else actor_alt.bare,
    }
    return tuple(
        GroupEvent(index=index, **common, **_group_change(child, actor))  # type: ignore[arg-type]
        for index, child in enumerate(node.children[:MAX_EVENTS])
    )


def _group_change(node: Node, actor: Jid | None) -> dict[str, t.Any]:
    match node.tag:
        case "create":
            snapshot = groups.parse_group(node.required_child("group"))
            return {"action": "create", "snapshot": snapshot, "people": snapshot.participants}
        case tag if tag in _MEMBERSHIP:
            people = tuple(
                groups.parse_participant(child)
                for child in node.children_named("participant")[:MAX_PEOPLE]
            )
            alone = actor is not None and [item.jid.bare for item in people] == [actor.bare]
            return {"action": "leave" if tag == "remove" and alone else tag, "people": people}
        case "subject":
            return {"action": "subject", "text": node.required_text("subject")}
        case "description":
            body = node.child("body")
            text = "" if body is None else body.data().decode(errors="replace")
            return {"action": "description", "text": text}
        case tag if tag in _SWITCHES:
            action, value = _SWITCHES[tag]
            return {"action": action, "switch": value}
        case "ephemeral" | "not_ephemeral":
            return {"action": "ephemeral", "expiration": max(node.integer("expiration") or 0, 0)}
        case tag:
            return {"action": tag[:32]}


def parse_devices_changed(node: Node) -> DevicesChanged | None:
    """What a ``devices`` or ``account_sync`` notification says of devices; None: nothing.

    Raises:
        RemoteProtocolError: malformed.
    """
    account = node.required_jid("from").bare
    lid = node.jid("lid")
    if node.text("type") == "account_sync":
        devices = node.child("devices")
        return None if devices is None else DevicesChanged(account, lid, _numbers(devices))
    if any(node.child(tag) is not None for tag in ("add", "remove", "update")):
        # An add or a remove tells the difference only: ask for the whole.
        return DevicesChanged(account, None if lid is None else lid.bare, None)
    return None


def _numbers(node: Node) -> tuple[int, ...]:
    numbers = {child.required_jid("jid").device for child in node.children_named("device")}
    return tuple(sorted(numbers))


def parse_identity_changed(node: Node) -> IdentityChanged | None:
    """The account that an ``encrypt`` notification declares new; None: it is about prekeys.

    Raises:
        RemoteProtocolError: malformed.
    """
    if node.child("identity") is None:
        return None
    return IdentityChanged(node.required_jid("from").bare)
