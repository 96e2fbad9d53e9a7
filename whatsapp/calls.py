"""Calls, as far as an inbox shows them. Source: docs/protocol.md#calls"""

import typing as t

import attrs

from whatsapp.jid import Jid
from whatsapp.node import Node

_EVENTS: t.Final = frozenset({"offer", "offer_notice", "accept", "reject", "terminate"})


@attrs.frozen(kw_only=True)
class CallEvent:
    """One event of a call."""

    call_id: str
    event: str  # "offer", "accept", "reject" or "terminate"
    caller: Jid  # bare; who began the call
    caller_alt: Jid | None
    sender: Jid  # bare; whose event it is
    group: Jid | None
    video: bool
    reason: str | None  # terminate: "timeout", …
    at: int  # unix seconds
    push_name: str | None


def parse_call(node: Node) -> CallEvent | None:
    """Read a ``<call>``; None: signalling that changes nothing for an inbox.

    Raises:
        RemoteProtocolError: malformed.
    """
    child = next((item for item in node.children if item.tag in _EVENTS), None)
    if child is None:
        return None
    sender = node.required_jid("from").bare
    creator = child.jid("call-creator")
    caller = sender if creator is None or not creator.user else creator.bare
    number = child.jid("caller_pn")
    return CallEvent(
        call_id=child.required_identifier("call-id"),
        event="offer" if child.tag == "offer_notice" else child.tag,
        caller=caller,
        caller_alt=None if number is None or not caller.is_lid else number.bare,
        sender=sender,
        group=child.jid("group-jid"),
        video=child.child("video") is not None or child.text("media") == "video",
        reason=child.text("reason"),
        at=node.integer("t") or 0,
        push_name=node.text("notify") or None,
    )
