"""What a group is and who is in it. Source: docs/protocol.md#groups"""

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
