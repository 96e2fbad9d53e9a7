"""``[[retention]]``: how long what was received stays."""

import enum
import typing as t

import attrs

from config.durations import format_duration
from config.kinds import ConnectionNames, Duration, Names
from whatsapp.content_kinds import STORED_KINDS


class RetentionWhat(enum.Enum):
    """What a rule of retention removes."""

    CONTENT = "content"  # text, files, and all that was received with them
    MEDIA = "media"  # files alone


@attrs.frozen(kw_only=True)
class RetentionConfig:
    """One ``[[retention]]`` table."""

    after: t.Annotated[float, Duration(86400, 36500 * 86400)]
    """Seconds since a message was sent."""
    kinds: t.Annotated[
        tuple[str, ...], Names("kinds of messages, or *", known=STORED_KINDS | {"*"})
    ] = ("*",)
    what: RetentionWhat = RetentionWhat.CONTENT
    connections: ConnectionNames = ()
    """Empty: all."""
    live: bool = False
    """Whether conversations that are not closed are touched."""

    @property
    def text(self) -> str:
        """The rule in a line."""
        whose = f" of {', '.join(self.connections)}" if self.connections else ""
        kinds = "every kind" if "*" in self.kinds else ", ".join(self.kinds)
        live = ", live conversations too" if self.live else ""
        return f"{self.what.value} of {kinds}{whose} after {format_duration(self.after)}{live}"
