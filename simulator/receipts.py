"""What devices answer: which stanzas that settles, and who else hears of it.

Source: docs/protocol.md#server-receipts
"""

import contextlib
import typing as t

import attrs

from simulator.errors import UnknownNameError
from simulator.ledger import Letter
from simulator.model import PHONE, Device
from simulator.queue import Entry
from simulator.replies import Attributes
from simulator.world import World
from whatsapp.jid import Jid
from whatsapp.node import Node, Value

_TO_AUTHOR: t.Final = (None, "inactive", "read", "played")
_TO_SIBLINGS: t.Final = ("read", "read-self", "played", "played-self")
_TO_PHONE: t.Final = ("peer_msg", "hist_sync", "server-error")


def on_ack(world: World, device: Device, node: Node) -> None:
    """An ``<ack>`` settles the stanza of its class and id."""
    kind = node.text("class") or "message"
    _settle(world, device, kind, node.required_text("id"), node)


def on_receipt(world: World, device: Device, node: Node) -> Node:
    """A receipt settles messages, unless it asks for a retry, and is passed on; returns its ack."""
    kind = node.text("type")
    if kind != "retry":
        for stanza_id in receipt_ids(node):
            _settle(world, device, "message", stanza_id, node)
    with contextlib.suppress(UnknownNameError):  # an author who is gone hears nothing
        _pass_on(world, device, node, kind)
    return Node(
        "ack",
        {
            "class": "receipt",
            "id": node.required_text("id"),
            "from": node.jid("to") or device.account.pn,
            "type": kind,
        },
    )


def receipt_ids(node: Node) -> tuple[str, ...]:
    """Every message id a receipt names, the attribute's first."""
    items = node.child("list")
    more = () if items is None else items.children_named("item")
    return (node.required_text("id"), *(item.required_text("id") for item in more))


def _settle(world: World, device: Device, kind: str, stanza_id: str, answer: Node) -> None:
    for entry in device.queue.find(kind, stanza_id):
        if not entry.offered or not _same_person(world, entry, answer):
            continue
        if kind == "receipt" and entry.node.text("type") != answer.text("type"):
            continue  # delivered and read bear the same id, and are acknowledged one by one
        device.queue.remove(entry)
        if entry.record is not None and entry.record.acknowledged_at is None:
            entry.record.acknowledged_at = world.now()


def _same_person(world: World, entry: Entry, answer: Node) -> bool:
    """Clients echo the device, the bare chat or the other address family, or leave ``to`` out."""
    to, recipient = answer.jid("to"), entry.node.jid("recipient")
    if to is not None:
        meant = {_person(world, jid) for jid in (entry.sender, recipient) if jid is not None}
        if _person(world, to) not in meant:
            return False
    author, named = entry.participant, answer.jid("participant")
    return author is None or named is None or _person(world, author) == _person(world, named)


def _person(world: World, jid: Jid) -> Jid:
    try:
        return world.account(jid).pn
    except UnknownNameError:
        return jid.bare


def ledger_name(world: World, device: Device, message: Node) -> Letter | None:
    """The ledger's name of a message as ``device`` was offered it; None for peer messages."""
    if message.text("category") == "peer":
        return None
    sender, stanza_id = message.required_jid("from"), message.required_text("id")
    if sender.is_group:
        author = world.account(message.required_jid("participant"))
        return Letter(str(sender), author.pn, stanza_id)
    author = world.account(sender)
    peer = message.jid("recipient")
    other = device.account if peer is None else world.account(peer)
    pair = ",".join(sorted((author.pn.user, other.pn.user)))
    return Letter(pair, author.pn, stanza_id)


def _pass_on(world: World, device: Device, node: Node, kind: str | None) -> None:
    to = node.jid("to")
    if kind == "peer_msg" and device.is_phone and to is not None:
        world.owe(world.device(to), _copy(world, device, node, device.pn, device.pn))
        return
    if kind in _TO_PHONE:
        world.owe(device.account.devices[PHONE], _copy(world, device, node, device.pn, device.pn))
        return
    if to is None:
        return
    author = node.jid("participant") if to.is_group else to
    if author is None:
        return
    if kind == "retry":
        _owe(world, world.device(author), device, node, to)
        return
    writer = world.account(author)
    if kind == "sender" and writer is device.account and author.device != device.number:
        recipient = {"recipient": node.attrs.get("recipient")}
        _owe(world, world.device(author), device, node, to, recipient)
    if kind in _TO_AUTHOR and writer is not device.account:
        for target in writer.devices.values():
            _owe(world, target, device, node, to)
    if kind in _TO_SIBLINGS:
        chat = {"recipient": author.bare if to.is_group else to.bare}
        for target in device.account.devices.values():
            if target is not device:
                _owe(world, target, device, node, to, chat)


def _owe(
    world: World,
    target: Device,
    device: Device,
    node: Node,
    to: Jid,
    more: t.Mapping[str, Value | None] | None = None,
) -> None:
    aggregated = world.settings.aggregate_group_receipts and node.text("type") != "retry"
    if to.is_group and aggregated and target.account is not device.account:
        _aggregate(world, target, device, node, to)
        return
    lid = world.group(to).lid_addressing if to.is_group else to.is_lid
    sender = to if to.is_group else device.address(lid)
    world.owe(target, _copy(world, device, node, sender, device.address(lid), more))


def _aggregate(world: World, target: Device, device: Device, node: Node, group: Jid) -> None:
    """One receipt for all members; it grows until it is written."""
    lid = world.group(group).lid_addressing
    kind = node.text("type")
    for stanza_id in receipt_ids(node):
        user = Node("user", {"jid": device.address(lid), "t": int(world.now())})
        for entry in target.queue.find("receipt", stanza_id):
            growing = entry.node.child("participants")
            if entry.offered or growing is None or entry.node.text("type") != kind:
                continue
            grown = attrs.evolve(growing, content=(*growing.children, user))
            entry.node = attrs.evolve(entry.node, content=(grown,))
            break
        else:
            told: Attributes = {
                "from": group,
                "id": stanza_id,
                "t": int(world.now()),
                "type": kind,
            }
            users = Node("participants", {"key": stanza_id}, (user,))
            world.owe(target, Node("receipt", told, (users,)))


def _copy(
    world: World,
    device: Device,
    node: Node,
    sender: Jid,
    participant: Jid,
    more: t.Mapping[str, Value | None] | None = None,
) -> Node:
    attributes: Attributes = {
        "from": sender,
        "id": node.required_text("id"),
        "t": int(world.now()),
        "type": node.text("type"),
        "participant": participant if sender.is_group else None,
        "recipient": node.attrs.get("recipient") if node.text("type") == "retry" else None,
        "category": node.text("category"),
        **(more or {}),
    }
    return Node("receipt", attributes, node.content)
