"""Who is there, and who is typing: told to those who are connected, kept for nobody.

Source: docs/protocol.md#presence
"""

from simulator.errors import UnknownNameError
from simulator.model import Account, Device
from simulator.replies import Attributes
from simulator.world import World
from whatsapp.node import Node


def on_presence(world: World, device: Device, node: Node) -> None:
    """A device comes, goes, or wants to hear of somebody.

    Raises:
        RemoteProtocolError: malformed.
        UnknownNameError: nobody has the address.
    """
    match node.text("type"):
        case "subscribe":
            to = node.required_jid("to")
            account = world.account(to)
            account.subscribers[device.lid] = (device, to.is_lid)
            _tell(world, account, device, to.is_lid)
        case "available":
            set_available(world, device, True)
        case "unavailable":
            set_available(world, device, False)


def set_available(world: World, device: Device, available: bool) -> None:
    """A device is in use or not; who asked hears of it when that changes the account's state."""
    account = device.account
    before = account.available
    device.available = available
    if before and not account.available:
        account.last_seen = int(world.now())
    if before is not account.available:
        for other, lid in tuple(account.subscribers.values()):
            _tell(world, account, other, lid)


def on_chatstate(world: World, device: Device, node: Node) -> None:
    """A device writes something, or does so no more: told to the other side of the chat.

    Raises:
        RemoteProtocolError: malformed.
        UnknownNameError: no such chat.
    """
    to = node.required_jid("to")
    if to.is_group:
        group = world.group(to)
        if device.account.lid not in group.members:
            raise UnknownNameError(f"not a member of {to}")
        told: Attributes = {
            "from": to,
            "participant": device.account.address(group.lid_addressing),
        }
        readers = tuple(group.members.values())
    else:
        told = {"from": device.account.address(to.is_lid)}
        readers = (world.account(to),)
    for account in readers:
        if account is not device.account:
            for reader in account.devices.values():
                world.push(reader, Node("chatstate", told, node.children))


def _tell(world: World, account: Account, device: Device, lid: bool) -> None:
    told: Attributes = {"from": account.address(lid)}
    if not account.available:
        told |= {"type": "unavailable", "last": account.last_seen or "deny"}
    world.push(device, Node("presence", told))
