"""Changes of alerts as the SQL function ``save_alerts`` takes them, and the events of them."""

import collections.abc as cabc
import datetime as dt
import json
import typing as t

import attrs

from storage.alerts import Alert, AlertChange
from storage.identity import clean_text
from storage.prepare_notifications import encode_notifications

_TIMES: t.Final = frozenset(
    {"since", "fired_at", "last_seen", "resolved_at", "acknowledged_at", "notified_at"}
)


def encode_changes(changes: cabc.Iterable[AlertChange]) -> str:
    """The argument of the SQL function ``save_alerts``."""
    return json.dumps([_change(change) for change in changes])


def _change(change: AlertChange) -> dict[str, t.Any]:
    alert, told = change.alert, change.notification
    notification = None if told is None else json.loads(encode_notifications([told]))[0]
    return {
        "what": change.what,
        **{
            field.name: _told(field.name, getattr(alert, field.name))
            for field in attrs.fields(Alert)
            if field.name != "id"
        },
        "connection": alert.connection,
        "notification": notification,
        "event": event_data(change),
    }


def event_data(change: AlertChange) -> dict[str, t.Any] | None:
    """What the event of a change tells, besides the id of the alert; None: there is none."""
    alert = change.alert
    if change.what == "noted":
        return None
    return {
        "code": alert.rule,
        "state": alert.state,
        "severity": alert.severity,
        "subjects": [clean_text(each) for each in alert.subjects],
        "since": moment(alert.since),
        "fired_at": moment(alert.fired_at),
        "resolved_at": None if alert.resolved_at is None else moment(alert.resolved_at),
        "acknowledged_by": _told("", alert.acknowledged_by),
        "times": alert.times,
        "sentence": clean_text(alert.sentence),
    }


def moment(seconds: float) -> str:
    """RFC 3339, to the microsecond, as PostgreSQL and the stream of events write it."""
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _told(name: str, value: t.Any) -> t.Any:
    match value:
        case str():
            return clean_text(value)
        case tuple():
            return [_told("", each) for each in value]
        case float() if name in _TIMES:
            return moment(value)
        case cabc.Mapping():
            return {clean_text(key): _told("", each) for key, each in value.items()}
        case _:
            return value
