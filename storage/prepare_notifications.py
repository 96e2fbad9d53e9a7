"""Notifications as the SQL function ``enqueue_notifications`` takes them."""

import collections.abc as cabc
import json
import typing as t

import attrs

from storage.identity import clean_text
from storage.notifications import Notification


def encode_notifications(notifications: cabc.Iterable[Notification]) -> str:
    """The argument of the SQL function ``enqueue_notifications``."""
    return json.dumps([_clean(_encode(each)) for each in notifications])


def _encode(notification: Notification) -> dict[str, t.Any]:
    return {
        "key": notification.key,
        "kind": notification.kind.value,
        "connection": notification.connection,
        "whom": notification.whom or None,
        "severity": notification.severity.value,
        "subject": notification.subject,
        "text": notification.text,
        "html": notification.html,
        "translations": {
            language: attrs.asdict(content)
            for language, content in notification.translations.items()
        },
        "data": dict(notification.data),
        "channels": notification.channels,
        "told": notification.told,
    }


def _clean(value: t.Any) -> t.Any:
    """As PostgreSQL can store it."""
    match value:
        case str():
            return clean_text(value)
        case dict():
            return {clean_text(str(key)): _clean(each) for key, each in value.items()}
        case list() | tuple():
            return [_clean(each) for each in value]
        case _:
            return value
