"""What concerns the whole fleet at a moment: for health checks, screens and alerts."""

import datetime as dt
import typing as t

import attrs

OUTAGE: t.Final = "outage"
OUTDATED: t.Final = "outdated"


@attrs.frozen(kw_only=True)
class Incident:
    """Something that holds many connections back at once, and is told once for all of them."""

    code: str  # stable: "outage" or "outdated"
    since: dt.datetime
    sentence: str  # for the operator: what is wrong, what happens next, what to do
    connections: int  # that it concerns
