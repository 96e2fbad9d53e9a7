"""What a group is and who is in it. Source: docs/protocol.md#groups"""

import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.jid import GROUP_SERVER, Jid
from whatsapp.node import Node

XMLNS: t.Final = "w:g2"
MAX_MEMBERS: t.Final = 1 << 14  # of one group; 1024 in practice, a few thousand in communities
GROUPS_JID: t.Final = Jid("", GROUP_SERVER)


@attrs.frozen
class Participant:
    """One member."""

    jid: Jid  # in the group's addressing mode
    alt: Jid | None = None  # the other address of the same person
    role: str | None = None  # "admin" or "superadmin"


@attrs.frozen(kw_only=True)
class Group:
    """A group, as far as an inbox needs it."""

    jid: Jid
    subject: str
    participants: tuple[Participant, ...]
    lid_addressing: bool = False
    creator: Jid | None = None
    created_at: int = 0  # unix seconds
    description: str | None = None
    announce: bool = False  # only admins write
    locked: bool = False  # only admins edit
    expiration: int = 0  # seconds after which messages disappear; 0: never


def group_request(iq_id: str, group: Jid) -> Node:
    """Asks for one group."""
    return core.get(iq_id, XMLNS, Node("query", {"request": "interactive"}), to=group)


def groups_request(iq_id: str) -> Node:
    """Asks for all groups the account is in."""
    children = (Node("participants"), Node("description"))
    return core.get(iq_id, XMLNS, Node("participating", {}, children), to=GROUPS_JID)


def parse_group_response(node: Node) -> Group:
    """The group that was asked for.

    Raises:
        IqError: refused: 403 when not a member, 404 when there is none.
        RemoteProtocolError: malformed.
    """
    return parse_group(core.require_result(node).required_child("group"))


def parse_groups_response(node: Node) -> tuple[Group, ...]:
    """All groups of the account.

    Raises:
        IqError: refused.
        RemoteProtocolError: malformed.
    """
    groups = core.require_result(node).required_child("groups")
    return tuple(parse_group(child) for child in groups.children_named("group"))


def parse_group(node: Node) -> Group:
    """A ``<group>``; its id may or may not be a whole JID.

    Raises:
        RemoteProtocolError: malformed.
    """
    name = node.required_text("id")
    members = node.children_named("participant")
    if len(members) > MAX_MEMBERS:
        raise RemoteProtocolError(f"a group of {len(members)} members")
    jid = node.required_jid("id") if "@" in name else Jid.parse(f"{name}@{GROUP_SERVER}")
    return Group(
        jid=jid,
        subject=node.text("subject") or "",
        participants=tuple(parse_participant(child) for child in members),
        lid_addressing=node.text("addressing_mode") == "lid",
        creator=node.jid("creator"),
        created_at=node.integer("creation") or 0,
        description=parse_description(node),
        announce=node.child("announcement") is not None,
        locked=node.child("locked") is not None,
        expiration=parse_expiration(node),
    )


def parse_description(node: Node) -> str | None:
    """The text of a ``<description>`` child; None when there is none."""
    description = node.child("description")
    body = None if description is None else description.child("body")
    return None if body is None else body.data().decode(errors="replace")


def parse_expiration(node: Node) -> int:
    """The seconds of an ``<ephemeral>`` child."""
    ephemeral = node.child("ephemeral")
    return 0 if ephemeral is None else max(ephemeral.integer("expiration") or 0, 0)


def parse_participant(node: Node) -> Participant:
    """A ``<participant>``.

    Raises:
        RemoteProtocolError: malformed.
    """
    alt = node.jid("phone_number") or node.jid("lid")
    return Participant(node.required_jid("jid"), alt, node.text("type"))
