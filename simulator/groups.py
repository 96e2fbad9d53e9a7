"""Group requests, and what members are told of changes.

Source: docs/protocol.md#groups
"""

import typing as t

from simulator import group_changes
from simulator.errors import RefusedError, UnknownNameError
from simulator.model import Account, Device, Group
from simulator.replies import Attributes, error, result
from simulator.world import World
from whatsapp.node import Node, Value

_TO_ALL: t.Final = ("create", "participating", "leave")


def answer_groups(world: World, device: Device, node: Node) -> Node:
    """Answer a request of the namespace ``w:g2``.

    Raises:
        RemoteProtocolError: a malformed request.
    """
    try:
        for child in node.children:
            if child.tag in _TO_ALL or not node.required_jid("to").user:
                return _of_the_server(world, device, node, child)
            group = world.group(node.required_jid("to"))
            return _of_a_group(world, device, node, child, group)
    except UnknownNameError:
        return error(node, 404, "item-not-found")
    except RefusedError as refusal:
        return error(node, refusal.code, str(refusal))
    return error(node, 501, "feature-not-implemented")


def _of_the_server(world: World, device: Device, node: Node, child: Node) -> Node:
    match child.tag:
        case "create":
            return _create(world, device, node, child)
        case "participating":
            own = (g for g in world.groups.values() if device.account.lid in g.members)
            return result(node, Node("groups", {}, tuple(describe(group) for group in own)))
        case "leave":
            for named in child.children_named("group"):
                group = world.group(named.required_jid("id"))
                group_changes.leave(group, device.account)
                left = Node("remove", {}, (group_changes.member(group, device.account),))
                tell_all(world, group, device.account, left, more=(device.account,))
            return result(node, Node("leave", {}, child.children_named("group")))
        case "invite" if node.text("type") == "get":
            return result(node, describe(group_changes.invited(world, child)))
        case "invite":
            group = group_changes.invited(world, child)
            if group_changes.join(group, device.account):
                joined = group_changes.added(world, group, (device.account,), "invite")
                tell_of_creation(world, group, (device.account,))
                tell_all(world, group, device.account, joined)
                return result(node, Node("group", {"jid": group.jid}))
            request = Node("membership_approval_request", {"jid": group.jid})
            _tell_of_request(world, group, device.account)
            return result(node, request)
    return error(node, 501, "feature-not-implemented")


def _of_a_group(world: World, device: Device, node: Node, child: Node, group: Group) -> Node:
    account = device.account
    if account.lid not in group.members:
        return error(node, 403, "forbidden")
    match child.tag, node.text("type"):
        case "query", _:
            return result(node, describe(group))
        case "invite", "get":
            group_changes.require_admin(group, account)
            return result(node, Node("invite", {"code": group.invite_code}))
        case "membership_approval_requests", _:
            group_changes.require_admin(group, account)
            waiting = tuple(
                Node("membership_approval_request", {"jid": other.lid, "phone_number": other.pn})
                for other in group.waiting.values()
            )
            return result(node, Node("membership_approval_requests", {}, waiting))
    before = set(group.members)
    change = group_changes.change(world, group, account, child)
    fresh = [other for lid, other in group.members.items() if lid not in before]
    tell_of_creation(world, group, fresh, account)
    for told in change.told:
        tell_all(world, group, account, told, more=change.removed)
    return result(node, *change.answer)


def describe(group: Group) -> Node:
    """The group with its members."""
    members = tuple(
        Node(
            "participant",
            {**group_changes.member(group, account).attrs, "type": group.role(account)},
        )
        for account in group.members.values()
    )
    attributes: Attributes = {
        "id": group.jid.user,
        "addressing_mode": "lid" if group.lid_addressing else "pn",
        "subject": group.subject,
        "s_t": group.subject_at,
        "s_o": group.subject_by.address(group.lid_addressing),
        "s_o_pn": group.subject_by.pn,
        "creation": group.created_at,
        "creator": group.creator.address(group.lid_addressing),
        "creator_pn": group.creator.pn,
        "size": len(members),
    }
    return Node("group", attributes, (*members, *_settings(group)))


def _settings(group: Group) -> t.Iterator[Node]:
    if group.description is not None:
        told: Attributes = {
            "id": group.description.id,
            "participant": group.description.by.address(group.lid_addressing),
            "t": group.description.at,
        }
        body = Node("body", {}, group.description.text.encode())
        yield Node("description", told, (body,))
    if group.announce:
        yield Node("announcement")
    if group.locked:
        yield Node("locked")
    if group.expiration:
        yield Node("ephemeral", {"expiration": group.expiration})
    yield Node("member_add_mode", {}, group.member_add_mode.encode())
    if group.approval:
        yield Node("membership_approval_mode", {}, (Node("group_join", {"state": "on"}),))


def tell_of_creation(
    world: World,
    group: Group,
    members: t.Iterable[Account] | None = None,
    actor: Account | None = None,
) -> None:
    """Send the group's description to the devices of its members, or of some of them."""
    for account in group.members.values() if members is None else members:
        for device in account.devices.values():
            news = Node("create", {}, (describe(group),))
            _tell(world, device, group, actor or group.creator, news)


def tell_all(
    world: World,
    group: Group,
    actor: Account,
    change: Node,
    more: t.Iterable[Account] = (),
) -> None:
    """Send a change to every device of every member, and of those who just ceased to be one."""
    for account in (*group.members.values(), *more):
        for device in account.devices.values():
            _tell(world, device, group, actor, change)


def _create(world: World, device: Device, node: Node, create: Node) -> Node:
    subject = create.text("subject") or ""
    named = [world.account(child.required_jid("jid")) for child in _people(create)]
    members = [other for other in named if other is not device.account]
    group_changes.check_size(subject, len(members) + 1)
    group = world.create_group(subject, device.account, members)
    tell_of_creation(world, group)
    return result(node, describe(group))


def _people(node: Node) -> tuple[Node, ...]:
    return node.children_named("participant")


def _tell_of_request(world: World, group: Group, account: Account) -> None:
    news = Node(
        "created_membership_requests",
        {"request_method": "invite_link"},
        (group_changes.member(group, account),),
    )
    for other in group.members.values():
        if other.lid in group.admins:
            for device in other.devices.values():
                _tell(world, device, group, account, news)


def _tell(world: World, device: Device, group: Group, actor: Account, change: Node) -> None:
    lid = group.lid_addressing
    more: dict[str, Value] = {
        "participant": actor.address(lid),
        "participant_pn" if lid else "participant_lid": actor.address(not lid),
        "notify": actor.name,
        "addressing_mode": "lid" if lid else "pn",
    }
    world.notify(device, "w:gp2", group.jid, change, **more)
