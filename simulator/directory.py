"""Who has which devices: answers to usync, and news of a changed list.

Source: docs/protocol.md#device-lists
"""

import typing as t

from simulator.errors import UnknownNameError
from simulator.model import Account, Device
from simulator.replies import error, result
from simulator.world import World, device_hash
from whatsapp.jid import SERVER, Jid
from whatsapp.node import Node

MAX_USERS: t.Final = 2000


def answer_usync(world: World, device: Device, node: Node) -> Node:
    """Answer one query for any number of users; what is not understood is left out."""
    usync = node.required_child("usync")
    asked = {child.tag for child in usync.required_child("query").children}
    users = usync.required_child("list").children_named("user")
    if len(users) > MAX_USERS:
        return error(node, 406, "not-acceptable")
    found = tuple(_user(world, device, user, asked) for user in users)
    attributes = {
        key: usync.attrs[key]
        for key in ("sid", "mode", "last", "index", "context")
        if key in usync.attrs
    }
    protocols = tuple(Node(tag) for tag in ("devices", "lid", "contact") if tag in asked)
    return result(
        node,
        Node("usync", attributes, (Node("result", {}, protocols), Node("list", {}, found))),
    )


def unlink(world: World, device: Device) -> None:
    """A companion is one no more."""
    world.remove_device(device)
    announce(world, device, "remove")


def announce(world: World, device: Device, what: t.Literal["add", "remove"] = "add") -> None:
    """Tell the account's contacts and its other devices that a device came or went."""
    account = device.account
    keys = Node("key-index-list", {"ts": int(world.now())}, account.phone.key_index_list())
    for watcher in account.watchers.values():
        if watcher is device:
            continue
        for lid in (False, True):
            new = Node(
                "device",
                {
                    "jid": device.address(lid),
                    "lid": None if lid else device.lid,
                    "key-index": device.key_index,
                },
            )
            change = Node(what, {"device_hash": device_hash(account)}, (new, keys))
            other = None if lid else account.lid
            world.notify(watcher, "devices", account.address(lid), change, lid=other)
    for sibling in account.companions:
        if sibling is not device:
            listed = tuple(
                Node("device", {"jid": other.pn, "key-index": other.key_index or None})
                for other in account.devices.values()
            )
            change = Node("devices", {"dhash": device_hash(account)}, (*listed, keys))
            world.notify(sibling, "account_sync", account.pn, change)


def _user(world: World, asking: Device, user: Node, asked: set[str]) -> Node:
    jid, contact = _who(user)
    try:
        account = world.account(jid)
    except UnknownNameError:
        absent = (Node("contact", {"type": "out"}),) if contact else ()
        return Node("user", {"jid": jid}, absent)
    children: list[Node] = []
    if contact:
        children.append(Node("contact", {"type": "in"}))
    if "devices" in asked:
        account.watchers[asking.lid] = asking
        children.append(_devices(world, account))
    if "lid" in asked:
        children.append(Node("lid", {"val": account.lid}))
    pn = account.pn if jid.is_lid else None
    return Node("user", {"jid": jid.bare, "pn_jid": pn}, tuple(children))


def _who(user: Node) -> tuple[Jid, bool]:
    if (contact := user.child("contact")) is not None and user.jid("jid") is None:
        number = contact.data().decode("ascii", "replace").removeprefix("+")
        return Jid(number, SERVER), True
    return user.required_jid("jid"), contact is not None


def _devices(world: World, account: Account) -> Node:
    listed = tuple(
        Node("device", {"id": device.number, "key-index": device.key_index or None})
        for device in account.devices.values()
    )
    keys = Node("key-index-list", {"ts": int(world.now())}, account.phone.key_index_list())
    return Node("devices", {}, (Node("device-list", {"hash": device_hash(account)}, listed), keys))
