"""How a connection begins to work and how it ends, as typed events.

Source: docs/protocol.md#failures
"""

import enum
import typing as t

import attrs

from whatsapp.jid import Jid
from whatsapp.node import Node


@attrs.frozen
class Success:
    """The server let the device in."""

    timestamp: int | None  # the server's clock, unix seconds
    lid: Jid | None  # own device, hidden form


def parse_success(node: Node) -> Success:
    """Read ``<success>``; every attribute is optional.

    Raises:
        RemoteProtocolError: an attribute is malformed.
    """
    return Success(node.integer("t"), node.jid("lid"))


class Cure(enum.Enum):
    """What to do about an end."""

    RECONNECT = "reconnect"  # at once
    BACK_OFF = "back off"  # then reconnect
    WAIT = "wait"  # do not fight for it; try slowly, tell someone
    PAIR_AGAIN = "pair again"  # the credentials are dead
    UPDATE = "update"  # claim a newer client version


class EndReason(enum.Enum):
    """Why a connection ended; the value is the stable code."""

    RESTART_REQUIRED = "restart_required"  # always after pairing
    LOGGED_OUT = "logged_out"
    CONFLICT = "conflict"  # the same credentials connected elsewhere
    BANNED = "banned"  # for good
    TEMPORARILY_BANNED = "temporarily_banned"
    LOCKED = "locked"  # the account is locked or gone
    OUTDATED = "outdated"
    REFUSED = "refused"  # the server does not like what we said
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    STREAM_ENDED = "stream_ended"  # by the server, or the socket closed without a word
    BAD_STANZA = "bad_stanza"  # we sent something the server could not accept
    NOT_MULTI_DEVICE = "not_multi_device"

    @property
    def cure(self) -> Cure:
        """What to do about it."""
        return _CURES.get(self, Cure.BACK_OFF)

    @property
    def permanent(self) -> bool:
        """Whether the credentials will never work again."""
        return self.cure is Cure.PAIR_AGAIN


_CURES: t.Final = {
    EndReason.RESTART_REQUIRED: Cure.RECONNECT,
    EndReason.STREAM_ENDED: Cure.RECONNECT,
    EndReason.LOGGED_OUT: Cure.PAIR_AGAIN,
    EndReason.BANNED: Cure.PAIR_AGAIN,
    EndReason.LOCKED: Cure.PAIR_AGAIN,
    EndReason.CONFLICT: Cure.WAIT,
    EndReason.TEMPORARILY_BANNED: Cure.WAIT,
    EndReason.REFUSED: Cure.WAIT,
    EndReason.NOT_MULTI_DEVICE: Cure.WAIT,
    EndReason.OUTDATED: Cure.UPDATE,
}


@attrs.frozen
class StreamEnded:
    """The server said that, and why, this connection is over."""

    reason: EndReason
    code: int | None
    detail: str  # for people; it holds no secrets
    expires: int | None = None  # seconds from now, temporary bans only

    @property
    def permanent(self) -> bool:
        """Whether the credentials will never work again."""
        return self.reason.permanent


_FAILURES: t.Final = {
    401: EndReason.LOGGED_OUT,
    402: EndReason.TEMPORARILY_BANNED,
    403: EndReason.LOCKED,
    405: EndReason.OUTDATED,
    406: EndReason.BANNED,
    429: EndReason.RATE_LIMITED,
    503: EndReason.UNAVAILABLE,
}

_BANS: t.Final = {
    101: "too many messages to people without you in their contacts",
    102: "blocked by too many people",
    103: "too many groups with strangers",
    104: "the same message to too many people",
    106: "too many messages to broadcast lists",
}

_STREAM_ERRORS: t.Final = {
    401: EndReason.LOGGED_OUT,
    409: EndReason.CONFLICT,
    429: EndReason.RATE_LIMITED,
    503: EndReason.UNAVAILABLE,
    515: EndReason.RESTART_REQUIRED,
    516: EndReason.LOGGED_OUT,
}


def parse_end(node: Node) -> StreamEnded | None:
    """Read any stanza that ends the connection; None for all others.

    Raises:
        RemoteProtocolError: an attribute is malformed.
    """
    match node.tag:
        case "failure":
            return parse_failure(node)
        case "stream:error":
            return parse_stream_error(node)
        case "xmlstreamend":
            return StreamEnded(EndReason.STREAM_ENDED, None, "the server ended the stream")
        case "ib" if node.child("downgrade_webclient") is not None:
            return StreamEnded(
                EndReason.NOT_MULTI_DEVICE, None, "the phone does not support linked devices"
            )
        case _:
            return None


def parse_failure(node: Node) -> StreamEnded:
    """Read ``<failure>``, which comes in the place of ``<success>``.

    Raises:
        RemoteProtocolError: an attribute is malformed.
    """
    code = node.integer("reason")
    reason = _FAILURES.get(code or 0)
    if reason is None:
        refused = code is not None and 400 <= code < 500
        reason = EndReason.REFUSED if refused else EndReason.SERVER_ERROR
    words = [f"login failed with {'no reason' if code is None else code}"]
    if message := node.text("message"):
        words.append(message[:200])
    if reason is EndReason.TEMPORARILY_BANNED:
        ban = node.integer("code")
        words.append(_BANS.get(ban or 0, f"ban code {ban}"))
        return StreamEnded(reason, code, ": ".join(words), node.integer("expire") or None)
    return StreamEnded(reason, code, ": ".join(words))


def parse_stream_error(node: Node) -> StreamEnded:
    """Read ``<stream:error>``.

    Raises:
        RemoteProtocolError: an attribute is malformed.
    """
    code = node.integer("code")
    conflict = node.child("conflict")
    if conflict is not None:
        kind = conflict.text("type")
        reason = EndReason.LOGGED_OUT if kind == "device_removed" else EndReason.CONFLICT
        return StreamEnded(reason, code, f"conflict: {(kind or 'unknown')[:50]}")
    if code is not None:
        reason = _STREAM_ERRORS.get(code, EndReason.SERVER_ERROR)
        return StreamEnded(reason, code, f"stream error {code}")
    names = ", ".join(child.tag[:50] for child in node.children[:3]) or "nothing said"
    if node.child("xml-not-well-formed") is not None or node.child("ack") is not None:
        return StreamEnded(EndReason.BAD_STANZA, None, f"the server did not accept: {names}")
    return StreamEnded(EndReason.SERVER_ERROR, None, f"stream error: {names}")
