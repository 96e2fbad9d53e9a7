"""Turning the connection on, and ending the device. Source: docs/protocol.md#login"""

from whatsapp.iq import core
from whatsapp.jid import Jid
from whatsapp.node import Node


def active_request(iq_id: str) -> Node:
    """Asks for the traffic which the server holds back since the login said passive."""
    return core.set_(iq_id, "passive", Node("active"))


def logout_request(iq_id: str, device: Jid) -> Node:
    """Asks to unlink this device; ``device`` is its own JID."""
    child = Node("remove-companion-device", {"jid": device, "reason": "user_initiated"})
    return core.set_(iq_id, "md", child)
