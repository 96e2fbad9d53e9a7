"""Group requests, and what members are told of changes.

Source: docs/protocol.md#groups
"""

import typing as t

from simulator.errors import UnknownNameError
from simulator.model import Account, Device, Group
from simulator.replies import Attributes, error, result
from simulator.world import World
from whatsapp.node import Node, Value

MAX_MEMBERS: t.Final = 1024
_CHANGES: t.Final = ("add", "remove", "promote", "demote")


def answer_groups(world: World, device: Device, node: Node) -> Node:
    """Answer a request of the namespace ``w:g2``."""
    for child in node.children:
        if child.tag == "create":
            return _create(world, device, node, child)
        if child.tag == "participating":
            own = (g for g in world.groups.values() if device.account.lid in g.members)
            return result(node, Node("groups", {}, tuple(describe(group) for group in own)))
        if child.tag == "leave":
            return _leave(world, device, node, child)
        try:
            group = world.group(node.required_jid("to"))
        except UnknownNameError:
            return error(node, 404, "item-not-found")
        if device.account.lid not in group.members:
            return error(node, 403, "forbidden")
        if child.tag == "query":
            return result(node, describe(group))
        if child.tag in _CHANGES:
            return _change(world, device, node, child, group)
        if child.tag == "subject":
            return _subject(world, device, node, child, group)
    return error(node, 501, "feature-not-implemented")


def describe(group: Group) -> Node:
    """The group with its members."""
    members = tuple(
        Node(
            "participant",
            {
                "jid": account.lid,
                "phone_number": account.pn,
                "type": "superadmin" if account is group.creator else _role(group, account),
            },
        )
        for account in group.members.values()
    )
    attributes: Attributes = {
        "id": group.jid.user,
        "addressing_mode": "lid",
        "subject": group.subject,
        "s_t": group.created_at,
        "s_o": group.creator.lid,
        "s_o_pn": group.creator.pn,
        "creation": group.created_at,
        "creator": group.creator.lid,
        "creator_pn": group.creator.pn,
        "size": len(members),
    }
    return Node("group", attributes, members)


def tell_of_creation(
    world: World, group: Group, members: t.Iterable[Account] | None = None
) -> None:
    """Send the group's description to the devices of its members, or of some of them."""
    for account in group.members.values() if members is None else members:
        for device in account.companions:
            _tell(world, device, group, group.creator, Node("create", {}, (describe(group),)))


def _create(world: World, device: Device, node: Node, create: Node) -> Node:
    wanted = create.children_named("participant")
    if len(wanted) > MAX_MEMBERS:
        return error(node, 406, "not-acceptable")
    try:
        members = [world.account(child.required_jid("jid")) for child in wanted]
    except UnknownNameError:
        return error(node, 404, "item-not-found")
    group = world.create_group(create.text("subject") or "", device.account, members)
    tell_of_creation(world, group)
    return result(node, describe(group))


def _leave(world: World, device: Device, node: Node, leave: Node) -> Node:
    for child in leave.children_named("group"):
        try:
            group = world.group(child.required_jid("id"))
        except UnknownNameError:
            return error(node, 404, "item-not-found")
        _tell_all(world, group, device.account, Node("remove", {}, (_member(device.account),)))
        group.members.pop(device.account.lid, None)
    return result(node, Node("leave", {}, leave.children_named("group")))


def _change(world: World, device: Device, node: Node, change: Node, group: Group) -> Node:
    named = change.children_named("participant")
    try:
        accounts = [world.account(child.required_jid("jid")) for child in named]
    except UnknownNameError:
        return error(node, 404, "item-not-found")
    if change.tag == "add":
        before = set(group.members)
        group.members.update({account.lid: account for account in accounts})
        tell_of_creation(world, group, [a for a in accounts if a.lid not in before])
    done = Node(change.tag, {}, tuple(_member(account) for account in accounts))
    _tell_all(world, group, device.account, done)
    for account in accounts:
        if change.tag == "remove":
            group.members.pop(account.lid, None)
        if change.tag in ("remove", "demote"):
            group.admins.discard(account.lid)
        if change.tag == "promote":
            group.admins.add(account.lid)
    return result(node, done)


def _subject(world: World, device: Device, node: Node, subject: Node, group: Group) -> Node:
    group.subject = subject.data().decode(errors="replace")
    told: Attributes = {
        "subject": group.subject,
        "s_t": int(world.now()),
        "s_o": device.account.lid,
    }
    _tell_all(world, group, device.account, Node("subject", told))
    return result(node)


def _tell_all(world: World, group: Group, actor: Account, change: Node) -> None:
    for account in group.members.values():
        for device in account.companions:
            _tell(world, device, group, actor, change)


def _tell(world: World, device: Device, group: Group, actor: Account, change: Node) -> None:
    more: dict[str, Value] = {
        "participant": actor.lid,
        "participant_pn": actor.pn,
        "notify": actor.name,
    }
    world.notify(device, "w:gp2", group.jid, change, **more)


def _member(account: Account) -> Node:
    return Node("participant", {"jid": account.lid, "phone_number": account.pn})


def _role(group: Group, account: Account) -> str | None:
    return "admin" if account.lid in group.admins else None
