"""``[[channels]]`` and ``[report]``: whom alerts and reports go to, and when reports do."""

import enum
import typing as t

import attrs

from config.alerts import Severity
from config.kinds import (
    ChannelUrl,
    ConnectionName,
    ConnectionNames,
    Count,
    Duration,
    FilePath,
    Names,
    Text,
    TimeOfDay,
    TimeZone,
)


class Language(enum.Enum):
    """What people are written in."""

    ENGLISH = "en"
    PORTUGUESE = "pt-BR"


@attrs.frozen(kw_only=True)
class ChannelConfig:
    """One ``[[channels]]`` table. What its URL means is not known here: see actors.channels."""

    name: t.Annotated[str, ConnectionName()]
    url: t.Annotated[str, ChannelUrl()] = attrs.field(default="", repr=False)
    url_file: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; see ``Config.channel_url_file``."""
    url_variable: t.Annotated[
        str,
        Text("the name of an environment variable", r"[A-Za-z_][A-Za-z0-9_]*", allow_empty=True),
    ] = ""
    kinds: t.Annotated[
        tuple[str, ...], Names("some of alert, report", "alert|report", allow_empty=True)
    ] = ("alert", "report")
    severity: Severity = Severity.WARNING
    connections: ConnectionNames = ()
    """Empty: all."""
    language: Language = Language.ENGLISH
    timeout: t.Annotated[float, Duration(1, 300)] = 30.0  # seconds for one attempt
    attempts: t.Annotated[int, Count(1, 1000)] = 30
    ca_file: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; see ``Config.channel_ca_file``."""


@attrs.frozen(kw_only=True)
class ReportConfig:
    """``[report]``"""

    enabled: bool = True
    time: t.Annotated[str, TimeOfDay()] = "08:00"
    timezone: t.Annotated[str, TimeZone(allow_empty=True)] = ""
    """Empty: the system's."""
