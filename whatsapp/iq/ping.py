"""Signs of life, from both sides. Source: docs/protocol.md#keepalive"""

import typing as t

from whatsapp.iq import core
from whatsapp.node import Node

CLIENT_PING: t.Final = "w:p"
SERVER_PING: t.Final = "urn:xmpp:ping"


def ping_request(iq_id: str) -> Node:
    """Our ping; the server answers with an empty result."""
    return core.get(iq_id, CLIENT_PING)


def is_ping(node: Node) -> bool:
    """Whether the server asks for a sign of life; answer ``core.result``."""
    return (node.tag, node.text("type"), node.text("xmlns")) == ("iq", "get", SERVER_PING)
