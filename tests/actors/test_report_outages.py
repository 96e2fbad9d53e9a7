"""What is an outage of a day."""

from actors.report_uptime import BRIEF, outages_of
from actors.uptime import Kind, Span


def test_a_new_socket_is_no_outage() -> None:
    """Only what lasts is one; what began before the day counts with all that it lasted."""
    spans = [
        Span(since=990.0, until=1001.0, kind=Kind.DOWN, reason="network"),
        Span(since=1500.0, until=1500.0 + BRIEF - 0.1, kind=Kind.DOWN, reason="stream_ended"),
        Span(since=1600.0, until=1700.0, kind=Kind.UP, reason=""),
        Span(since=1700.0, until=1700.0 + BRIEF, kind=Kind.DOWN, reason="silent"),
    ]
    found = outages_of(spans, 1000.0, 2000.0)
    assert [(each.reason, each.seconds) for each in found] == [("network", 1.0), ("silent", BRIEF)]
