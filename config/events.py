"""``[events]``, ``[nats]`` and ``[[webhooks]]``: the stream of events and who follows it."""

import re
import typing as t

import attrs

from config.kinds import (
    ConnectionName,
    ConnectionNames,
    Count,
    Duration,
    FilePath,
    Names,
    Secret,
    SecretUrl,
    Text,
)

EVENT_TYPES: t.Final = (
    "connection.state",
    "message.stored",
    "message.edited",
    "message.deleted",
    "message.undecryptable",
    "message.recovered",
    "message.quarantined",
    "conversation.opened",
    "conversation.reopened",
    "conversation.status",
    "gap.opened",
    "gap.closed",
    "outbox.state",
    "daemon.started",
    "incident.begun",
    "incident.ended",
    "alert.fired",
    "alert.repeated",
    "alert.acknowledged",
    "alert.resolved",
    "export.finished",
    "export.failed",
)
_EVENT_GROUPS: t.Final = tuple(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in EVENT_TYPES))
_EventTypes: t.TypeAlias = t.Annotated[
    tuple[str, ...],
    Names(
        f"some of {', '.join(EVENT_TYPES)}; or groups such as message.*; or *",
        "|".join(re.escape(name) for name in (*EVENT_TYPES, *_EVENT_GROUPS, "*")),
    ),
]


@attrs.frozen(kw_only=True)
class EventsConfig:
    """``[events]``"""

    keep: t.Annotated[float, Duration(3600, 3650 * 86400)] = 1_209_600.0  # seconds
    clients: t.Annotated[int, Count(1, 10_000)] = 100  # that follow at a time


@attrs.frozen(kw_only=True)
class NatsConfig:
    """``[nats]``"""

    url: t.Annotated[str, SecretUrl(("nats", "tls"), allow_empty=True)] = attrs.field(
        default="", repr=False
    )
    """Empty: nothing is published."""
    user: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    password: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    token: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    ca_file: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; ``Config.nats_ca_file`` is absolute."""
    subject: t.Annotated[
        str, Text("names with dots between", r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", at_most=128)
    ] = "zapvisor.events"
    types: _EventTypes = ("*",)
    stream: t.Annotated[
        str, Text("the name of a stream, or empty", r"[A-Za-z0-9_-]{1,64}", allow_empty=True)
    ] = ""
    """Made when there is none; empty: an operator has made it."""


@attrs.frozen(kw_only=True)
class WebhookConfig:
    """One ``[[webhooks]]`` table."""

    name: t.Annotated[str, ConnectionName()]
    url: t.Annotated[str, SecretUrl(("https", "http"))] = attrs.field(repr=False)
    secret: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    secret_file: t.Annotated[str, FilePath(allow_empty=True)] = ""
    types: _EventTypes = ("*",)
    connections: ConnectionNames = ()
    """Empty: all."""
    timeout: t.Annotated[float, Duration(0.1, 120)] = 15.0  # seconds
    attempts: t.Annotated[int, Count(1, 100)] = 15
    concurrency: t.Annotated[int, Count(1, 64)] = 4
