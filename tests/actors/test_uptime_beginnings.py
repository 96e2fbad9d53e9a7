"""What the first transition on record means, without the one before it."""

import pytest

from actors.uptime import Change, Kind, add_change


@pytest.mark.parametrize(
    ("previous", "state", "reason", "kind"),
    [
        ("online", "stopped", "shutdown", Kind.DOWN),
        ("online", "stopped", "daemon_died", Kind.DOWN),
        ("backoff", "stopped", "shutdown", Kind.DOWN),
        ("online", "stopped", "stopped", Kind.OFF),
        ("stopped", "stopped", "shutdown", Kind.OFF),
        ("pairing", "stopped", "daemon_died", Kind.OFF),
        ("logged_out", "stopped", "fence", Kind.OFF),
        ("", "stopped", "shutdown", Kind.OFF),
        ("stopped", "pairing", "pairing", Kind.OFF),
        ("stopped", "connecting", "dialling", Kind.DOWN),
        ("connecting", "online", "logged_in", Kind.UP),
    ],
)
def test_the_first_transition(previous: str, state: str, reason: str, kind: Kind) -> None:
    """A daemon that ended while a connection ran left it down; an operator left it off."""
    changes: list[Change] = []
    add_change(changes, 10.0, state, reason, previous)
    assert changes == [Change(10.0, kind)]
