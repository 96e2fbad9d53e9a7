"""Turning the connection on, and ending the device. Source: docs/protocol.md#login"""

from whatsapp.iq import core
from whatsapp.jid import Jid
from whatsapp.node import Node


def active_request(iq_id: str) -> Node:
    """Asks for the traffic which the server holds back since the login said passive."""
    return core.set_(iq_id, "passive", Node("active"))


def is_active_request(node: Node) -> bool:
    """Whether a client asks for its traffic."""
    return core.is_request(node, "set", "passive") and node.child("active") is not None


def logout_request(iq_id: str, device: Jid) -> Node:
    """Asks to unlink this device; ``device`` is its own JID."""
    child = Node("remove-companion-device", {"jid": device, "reason": "user_initiated"})
    return core.set_(iq_id, "md", child)


def parse_logout_request(node: Node) -> Jid | None:
    """The device a client wants unlinked; None for any other stanza."""
    if not core.is_request(node, "set", "md"):
        return None
    child = node.child("remove-companion-device")
    return None if child is None else child.required_jid("jid")
