"""What a group is and who is in it. Both sides. Source: docs/protocol.md#groups"""

import collections.abc as cabc
import typing as t

import attrs

from whatsapp.iq import core
from whatsapp.jid import GROUP_SERVER, Jid
from whatsapp.node import Node

XMLNS: t.Final = "w:g2"
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


def group_request(iq_id: str, group: Jid) -> Node:
    """Asks for one group."""
    return core.get(iq_id, XMLNS, Node("query", {"request": "interactive"}), to=group)


def groups_request(iq_id: str) -> Node:
    """Asks for all groups the account is in."""
    children = (Node("participants"), Node("description"))
    return core.get(iq_id, XMLNS, Node("participating", {}, children), to=GROUPS_JID)


def parse_group_request(node: Node) -> Jid | None:
    """The group a client asks about; None for any other stanza.

    Raises:
        RemoteProtocolError: it names no group.
    """
    if not core.is_request(node, "get", XMLNS) or node.child("query") is None:
        return None
    return node.required_jid("to")


def is_groups_request(node: Node) -> bool:
    """Whether a client asks for all its groups."""
    return core.is_request(node, "get", XMLNS) and node.child("participating") is not None


def group_response(request: Node, group: Group) -> Node:
    """The server's answer about one group."""
    return core.result(request, group_node(group))


def groups_response(request: Node, groups: cabc.Iterable[Group]) -> Node:
    """The server's answer about all groups."""
    return core.result(request, Node("groups", {}, tuple(group_node(group) for group in groups)))


def group_node(group: Group) -> Node:
    """The description of a group, as answers and notifications hold it."""
    alt_name = "phone_number" if group.lid_addressing else "lid"
    participants = tuple(
        Node("participant", {"jid": member.jid, alt_name: member.alt, "type": member.role})
        for member in group.participants
    )
    return Node(
        "group",
        {
            "id": group.jid.user,
            "subject": group.subject,
            "s_t": group.created_at,
            "creation": group.created_at,
            "creator": group.creator,
            "addressing_mode": "lid" if group.lid_addressing else "pn",
        },
        participants,
    )


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
    jid = node.required_jid("id") if "@" in name else Jid(name, GROUP_SERVER)
    return Group(
        jid=jid,
        subject=node.text("subject") or "",
        participants=tuple(
            _parse_participant(child) for child in node.children_named("participant")
        ),
        lid_addressing=node.text("addressing_mode") == "lid",
        creator=node.jid("creator"),
        created_at=node.integer("creation") or 0,
    )


def _parse_participant(node: Node) -> Participant:
    alt = node.jid("phone_number") or node.jid("lid")
    return Participant(node.required_jid("jid"), alt, node.text("type"))
