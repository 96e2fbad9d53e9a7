"""The shapes of answers to requests."""

import typing as t

import attrs

from whatsapp.jid import SERVER_JID
from whatsapp.node import Node, Value

Attributes: t.TypeAlias = dict[str, Value | int | None]


@attrs.frozen
class Reply:
    """An answer over HTTP."""

    status: int
    body: bytes = attrs.field(repr=False)
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def result(request: Node, *children: Node) -> Node:
    """A request that worked."""
    return Node("iq", _attributes(request, "result"), children or None)


def error(request: Node, code: int, text: str) -> Node:
    """A request that did not."""
    children = (Node("error", {"code": code, "text": text}),)
    return Node("iq", _attributes(request, "error"), children)


def _attributes(request: Node, kind: str) -> Attributes:
    return {
        "from": request.jid("to") or SERVER_JID,
        "type": kind,
        "id": request.required_text("id"),
    }
