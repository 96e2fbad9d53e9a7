"""``[export]``: exports as files, on a schedule and on order."""

import datetime as dt
import enum
import re
import typing as t

import attrs

from config import s3
from config.errors import BadValueError
from config.kinds import (
    Count,
    Duration,
    FilePath,
    Secret,
    TimeOfDay,
    TimeZone,
    show,
)


class ExportForm(enum.Enum):
    """How messages are written."""

    JSONL = "jsonl"
    HTML = "html"
    CSV = "csv"
    WHATSAPP = "whatsapp"
    WHATSAPP_IOS = "whatsapp-ios"


class ExportPeriod(enum.Enum):
    """What an export of the schedule holds."""

    DAY = "day"
    ALL = "all"


@attrs.frozen
class Keys:
    """Public keys of age or ssh, each once; whether they are good is seen when they are used."""

    def read(self, value: object) -> tuple[str, ...]:
        expected = 'an array of keys such as "age1…" or "ssh-ed25519 …"'
        if isinstance(value, str):
            value = [part for part in (each.strip() for each in value.split(",")) if part]
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise BadValueError(f"{show(value)} is not an array of texts", expected)
        for key in value:
            if key.upper().startswith("AGE-SECRET-KEY"):
                raise BadValueError(
                    "a secret key does not belong here; use its public part (age-keygen -y)",
                    expected,
                )
            if not re.fullmatch(r"age1[a-z0-9]{20,2000}|ssh-[a-z0-9-]+ [!-~ ]{20,2000}", key):
                raise BadValueError(f"{show(key)} is none", expected)
        return tuple(dict.fromkeys(value))


@attrs.frozen(kw_only=True)
class ExportConfig:
    """``[export]``"""

    enabled: bool = False
    """The schedule; exports on order always work."""
    time: t.Annotated[str, TimeOfDay()] = "03:30"
    timezone: t.Annotated[str, TimeZone(allow_empty=True)] = ""
    """Empty: the system's own."""
    period: ExportPeriod = ExportPeriod.DAY
    format: ExportForm = ExportForm.JSONL
    media: bool = False
    recipients: t.Annotated[tuple[str, ...], Keys()] = ()
    directory: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; ``Config.export_directory`` is absolute."""
    keep: t.Annotated[float, Duration(at_least=0, at_most=3650 * 86400)] = 0.0
    """Seconds; 0 keeps exports for ever."""
    keep_count: t.Annotated[int, Count(0, 100_000)] = 0
    """0: all."""
    s3_bucket: s3.Bucket = ""
    s3_prefix: s3.Prefix = ""
    s3_endpoint: s3.Endpoint = ""
    s3_region: s3.Region = ""
    s3_access_key: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    s3_secret_key: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    ca_file: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; ``Config.export_ca_file`` is absolute."""

    @property
    def time_of_day(self) -> dt.time:
        """When the schedule begins an export."""
        return dt.time.fromisoformat(self.time)
