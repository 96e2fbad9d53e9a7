"""How connections begin and end, row by row of docs/protocol.md#failures."""

import pytest

from whatsapp import lifecycle
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.lifecycle import Cure, EndReason, StreamEnded
from whatsapp.node import Node


def _conflict(kind: str | None) -> tuple[Node, ...]:
    return (Node("conflict", {"type": kind}),)


@pytest.mark.parametrize(
    ("reason", "expected", "cure"),
    [
        (400, EndReason.REFUSED, Cure.WAIT),
        (401, EndReason.LOGGED_OUT, Cure.PAIR_AGAIN),
        (403, EndReason.LOCKED, Cure.PAIR_AGAIN),
        (405, EndReason.OUTDATED, Cure.UPDATE),
        (406, EndReason.BANNED, Cure.PAIR_AGAIN),
        (409, EndReason.REFUSED, Cure.WAIT),
        (415, EndReason.REFUSED, Cure.WAIT),
        (418, EndReason.REFUSED, Cure.WAIT),
        (500, EndReason.SERVER_ERROR, Cure.BACK_OFF),
        (501, EndReason.SERVER_ERROR, Cure.BACK_OFF),
        (503, EndReason.UNAVAILABLE, Cure.BACK_OFF),
        (None, EndReason.SERVER_ERROR, Cure.BACK_OFF),
    ],
)
def test_failures(reason: int | None, expected: EndReason, cure: Cure) -> None:
    """What the server says in the place of success."""
    end = lifecycle.parse_end(Node("failure", {"reason": reason, "location": "cln"}))
    assert end is not None
    assert (end.reason, end.code, end.reason.cure) == (expected, reason, cure)
    assert end.permanent is (cure is Cure.PAIR_AGAIN)


def test_temporary_ban() -> None:
    """It says why and for how long; an expiry of 0 is none."""
    end = lifecycle.parse_failure(Node("failure", {"reason": 402, "code": 104, "expire": 3600}))
    assert (end.reason, end.expires, end.permanent) == (EndReason.TEMPORARILY_BANNED, 3600, False)
    assert "same message to too many people" in end.detail
    end = lifecycle.parse_failure(Node("failure", {"reason": 402, "code": 999, "expire": 0}))
    assert end.expires is None
    assert "999" in end.detail


@pytest.mark.parametrize(
    ("code", "children", "expected"),
    [
        (401, _conflict("device_removed"), EndReason.LOGGED_OUT),
        (None, _conflict("device_removed"), EndReason.LOGGED_OUT),
        (401, (), EndReason.LOGGED_OUT),
        (None, _conflict("replaced"), EndReason.CONFLICT),
        (409, (), EndReason.CONFLICT),
        (None, _conflict(None), EndReason.CONFLICT),
        (515, (), EndReason.RESTART_REQUIRED),
        (516, (), EndReason.LOGGED_OUT),
        (503, (), EndReason.UNAVAILABLE),
        (429, (), EndReason.RATE_LIMITED),
        (500, (), EndReason.SERVER_ERROR),
        (None, (), EndReason.SERVER_ERROR),
        (None, (Node("xml-not-well-formed"),), EndReason.BAD_STANZA),
        (None, (Node("ack", {"class": "receipt"}),), EndReason.BAD_STANZA),
    ],
)
def test_stream_errors(code: int | None, children: tuple[Node, ...], expected: EndReason) -> None:
    """What the server says before it closes a working stream."""
    end = lifecycle.parse_end(Node("stream:error", {"code": code}, children))
    assert end is not None
    assert (end.reason, end.code) == (expected, code)


def test_other_ends_and_everything_else() -> None:
    """A polite end, a phone without linked devices; other stanzas end nothing."""
    end = lifecycle.parse_end(Node("xmlstreamend"))
    assert end == StreamEnded(EndReason.STREAM_ENDED, None, "the server ended the stream")
    downgrade = lifecycle.parse_end(Node("ib", {}, (Node("downgrade_webclient"),)))
    assert downgrade is not None
    assert downgrade.reason is EndReason.NOT_MULTI_DEVICE
    for node in (Node("ib", {}, (Node("offline"),)), Node("message"), Node("success")):
        assert lifecycle.parse_end(node) is None


def test_every_reason_has_a_cure() -> None:
    """Only a restart asked for, and a polite end, mean at once."""
    at_once = {reason for reason in EndReason if reason.cure is Cure.RECONNECT}
    assert at_once == {EndReason.RESTART_REQUIRED, EndReason.STREAM_ENDED}


def test_success() -> None:
    """Every attribute is optional; malformed ones are refused."""
    full = lifecycle.parse_success(Node("success", {"t": 1_800_000_000, "lid": "1:2@lid"}))
    assert full == lifecycle.Success(1_800_000_000, Jid("1", "lid", 2))
    assert lifecycle.parse_success(Node("success")) == lifecycle.Success(None, None)
    with pytest.raises(RemoteProtocolError):
        lifecycle.parse_success(Node("success", {"t": "soon"}))


def test_malformed_numbers_are_refused() -> None:
    """A reason that is no number is no reason."""
    with pytest.raises(RemoteProtocolError):
        lifecycle.parse_end(Node("failure", {"reason": "x"}))
    with pytest.raises(RemoteProtocolError):
        lifecycle.parse_end(Node("stream:error", {"code": "x"}))
