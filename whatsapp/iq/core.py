"""Requests and their answers: ids, the frame of an iq, results and errors.

Source: docs/protocol.md#iq
"""

from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node, Value


class IqError(RemoteProtocolError):
    """The peer answered a request with an error."""

    def __init__(self, code: int, text: str, backoff: int | None = None) -> None:
        super().__init__(f"{code} {text}".strip())
        self.code = code
        self.text = text
        self.backoff = backoff  # seconds to wait before asking again


class IqIds:
    """Ids for the requests of one connection: a random prefix and a count from 1."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = ".".join(
            str(int.from_bytes(prefix[at : at + 2], "big")) for at in range(0, len(prefix), 2)
        )
        self._count = 0

    def next(self) -> str:
        """An id that was not used before."""
        self._count += 1
        return f"{self._prefix}-{self._count}"


def get(iq_id: str, xmlns: str, *children: Node, to: Jid = SERVER_JID) -> Node:
    """A question."""
    return _request("get", iq_id, xmlns, children, to)


def set_(iq_id: str, xmlns: str, *children: Node, to: Jid = SERVER_JID) -> Node:
    """An order."""
    return _request("set", iq_id, xmlns, children, to)


def _request(kind: str, iq_id: str, xmlns: str, children: tuple[Node, ...], to: Jid) -> Node:
    return Node("iq", {"to": to, "xmlns": xmlns, "type": kind, "id": iq_id}, children or None)


def result(request: Node, *children: Node) -> Node:
    """The answer to a request of the server.

    Raises:
        RemoteProtocolError: the request has no id.
    """
    return Node("iq", {**_return_address(request), "type": "result"}, children or None)


def error(request: Node, code: int, text: str) -> Node:
    """The refusal of a request of the server.

    Raises:
        RemoteProtocolError: the request has no id.
    """
    child = Node("error", {"code": code, "text": text})
    return Node("iq", {**_return_address(request), "type": "error"}, (child,))


def _return_address(request: Node) -> dict[str, Value]:
    return {"to": request.attrs.get("from", SERVER_JID), "id": request.required_text("id")}


def require_result(node: Node) -> Node:
    """The same node, known to be a result.

    Raises:
        IqError: the peer answered with an error.
        RemoteProtocolError: not an answer at all.
    """
    match node.tag, node.text("type"):
        case "iq", "result":
            return node
        case "iq", "error":
            raise parse_error(node.required_child("error"))
        case tag, kind:
            raise RemoteProtocolError(f"<{tag} type={kind}> is not an answer")


def parse_error(node: Node) -> IqError:
    """What an ``<error>`` says; a missing code reads as 0."""
    return IqError(node.integer("code") or 0, node.text("text") or "", node.integer("backoff"))


def parse_number(node: Node, size: int) -> int:
    """A number of ``size`` bytes, big-endian, which is the content of ``node``.

    Raises:
        RemoteProtocolError: another length.
    """
    return int.from_bytes(parse_fixed(node, size), "big")


def parse_fixed(node: Node, size: int) -> bytes:
    """The content of ``node``, which must be ``size`` bytes.

    Raises:
        RemoteProtocolError: another length.
    """
    data = node.data()
    if len(data) != size:
        raise RemoteProtocolError(f"<{node.tag}> of {len(data)} bytes, not {size}")
    return data
