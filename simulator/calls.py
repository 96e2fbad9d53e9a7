"""Calls, as far as their signalling goes; nobody ever speaks.

Source: docs/protocol.md#calls
"""

import typing as t

from simulator.errors import UnknownNameError
from simulator.model import Device
from simulator.replies import Attributes
from simulator.world import World
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Node

_ELSEWHERE: t.Final = {"accept": "accepted_elsewhere", "reject": "rejected_elsewhere"}


def on_call(world: World, device: Device, node: Node) -> Node:
    """Pass one step of a call on to the other side; returns its ack.

    When one of a person's devices takes or refuses a call, the others stop ringing.

    Raises:
        RemoteProtocolError: malformed.
    """
    to = node.required_jid("to")
    if not node.children:
        raise RemoteProtocolError("a call in which nothing happens")
    step = node.children[0]
    failure: int | None = None
    try:
        for other in world.account(to).devices.values():
            if other is not device:
                _owe(world, other, device.address(to.is_lid), device, step)
    except UnknownNameError:
        failure = 404
    if (reason := _ELSEWHERE.get(step.tag)) is not None:
        ended: Attributes = {
            "call-id": step.text("call-id"),
            "call-creator": step.attrs.get("call-creator"),
            "reason": reason,
        }
        for sibling in device.account.devices.values():
            if sibling is not device:
                _owe(world, sibling, to, device, Node("terminate", ended))
    acknowledged: Attributes = {
        "class": "call",
        "id": node.required_text("id"),
        "from": to,
        "type": step.tag,
        "error": failure,
    }
    return Node("ack", acknowledged)


def _owe(world: World, to: Device, sender: Jid, device: Device, step: Node) -> None:
    told: Attributes = {
        "from": sender,
        "id": world.next_id("C"),
        "t": int(world.now()),
        "platform": "android",
        "version": "2.26.1.1",
        "notify": device.account.name if step.tag == "offer" else None,
    }
    world.owe(to, Node("call", told, (step,)))
