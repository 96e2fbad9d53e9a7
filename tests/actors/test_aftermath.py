"""The policies by cause, without a clock: what follows from an ending, and what is read of it."""

import pytest

from actors.aftermath import LONGEST_BAN, Aftermath
from actors.endings import ending_of
from actors.errors import ConnectionEndedError, ConnectionPausedError, ConnectionStoppedError
from whatsapp.lifecycle import EndReason, StreamEnded, parse_end
from whatsapp.node import Node

NOW = 1_790_000_000.0


def make(park_interval: float | None = 900.0, draw: float = 0.0) -> Aftermath:
    return Aftermath(
        "sales",
        park_interval=park_interval,
        stable_after=120.0,
        wall_clock=lambda: NOW,
        uniform=lambda: draw,
    )


def follow(
    aftermath: Aftermath,
    ended: ConnectionEndedError,
    *,
    online_for: float = 0.0,
    innocent: bool = False,
    held: bool = False,
) -> ConnectionEndedError:
    return aftermath.of(ended, online_for=online_for, innocent=innocent, held=held)


def failure(**attributes: int) -> ConnectionEndedError:
    end = parse_end(Node("failure", {key.rstrip("_"): value for key, value in attributes.items()}))
    assert end is not None
    return ending_of(end)


@pytest.mark.parametrize("reason", EndReason)
def test_each_ending_says_what_is_wrong(reason: EndReason) -> None:
    """A sentence with the server's own words in it, and the stable code."""
    ending = ending_of(StreamEnded(reason, 1, "said the server", 60))
    assert ending.reason == reason.value
    assert "said the server" in ending.sentence or reason is EndReason.RESTART_REQUIRED
    if isinstance(ending, ConnectionStoppedError):
        assert ending.state in ("logged_out", "banned")


def test_a_ban_without_an_expiry_is_tried_slowly() -> None:
    """Twice as long each time; without trials it waits for a person."""
    aftermath = make()
    waits = [follow(aftermath, failure(reason=402, code=104)).restart_after for _ in range(6)]
    assert waits == [900, 1800, 3600, 7200, 14_400, 14_400]
    stopped = follow(make(park_interval=None), failure(reason=402))
    assert isinstance(stopped, ConnectionStoppedError)
    assert stopped.state == "banned"


@pytest.mark.parametrize("expire", [10**18, 2**63])
def test_no_expiry_breaks_the_calendar(expire: int) -> None:
    """I9: what a server says of the future is bounded."""
    paused = follow(make(), failure(reason=402, expire=expire))
    assert paused.until == NOW + LONGEST_BAN


def test_a_negative_expiry_is_none() -> None:
    """It is treated like a ban whose end is not known."""
    paused = follow(make(), failure(reason=402, expire=-5))
    assert (paused.restart_after, paused.until) == (900, None)


def test_a_long_interval_is_never_shortened() -> None:
    """Whoever configures trials once a day gets no more of them for a conflict."""
    aftermath = make(park_interval=86_400.0, draw=1.0)
    conflict = ConnectionPausedError("conflict", "replaced", state="conflict")
    waits = [follow(aftermath, conflict).restart_after for _ in range(3)]
    assert waits == [pytest.approx(86_400 * 1.1)] * 3


def test_rate_limits_wait_for_minutes_and_count() -> None:
    """429: it connects too often, so more of the same is no cure."""
    for draw, wait in ((0.0, 60.0), (1.0, 300.0)):
        ended = follow(make(draw=draw), failure(reason=429))
        assert (ended.restart_after, ended.counted) == (wait, True)


def test_in_an_outage_nothing_counts() -> None:
    """Held back, it comes at once to wait with the others; released, it keeps a little distance."""
    held = follow(make(), ConnectionEndedError("network", "broken"), innocent=True, held=True)
    assert (held.counted, held.restart_after, held.state) == (False, 0.0, "backoff")
    free = follow(make(), ConnectionEndedError("network", "broken"), innocent=True, held=False)
    assert free.restart_after is not None
    assert (free.counted, free.restart_after > 0) == (False, True)
    pairing = ConnectionStoppedError("network", "broken", state="stopped")
    assert follow(make(), pairing, innocent=True, held=True) is pairing
    alone = ConnectionEndedError("network", "broken")
    assert follow(make(), alone) is alone
    assert (alone.counted, alone.restart_after) == (True, None)


@pytest.mark.parametrize(
    ("state", "reason", "until", "kind"),
    [
        ("banned", "temporarily_banned", NOW + 60, ConnectionPausedError),
        ("banned", "temporarily_banned", NOW - 1, type(None)),
        ("banned", "temporarily_banned", None, type(None)),
        ("banned", "banned", None, ConnectionStoppedError),
        ("logged_out", "logged_out", None, ConnectionStoppedError),
        ("logged_out", "locked", None, ConnectionStoppedError),
        ("online", "online", None, type(None)),
        ("stopped", "stopped", None, type(None)),
        ("conflict", "conflict", None, type(None)),
    ],
)
def test_what_a_restart_of_the_daemon_takes_up(
    state: str, reason: str, until: float | None, kind: type
) -> None:
    """Bans that last and keys that are dead; all else starts as usual."""
    assert type(make().restored(state, reason, "told", until)) is kind
