"""What carries notifications: a channel's settings, what it is given, what came of it."""

import collections.abc as cabc
import datetime as dt
import threading
import typing as t
from pathlib import Path

import attrs

from storage.notifications import ChannelRule, Content, NotificationKind, Severity

HIDDEN: t.Final = "***"
ERROR_LENGTH: t.Final = 500  # characters of an error that are kept


class ChannelError(ValueError):
    """A channel cannot be used as it is configured; says why, and nothing that is secret."""


@attrs.frozen(kw_only=True)
class ChannelSettings:
    """One channel of the configuration."""

    rule: ChannelRule
    url: str = attrs.field(repr=False)  # with its secrets
    language: str = "en"
    timeout: float = 30.0  # seconds for one attempt
    attempts: int = 30  # then a notification is given up
    ca_file: Path | None = None  # more certificates to trust

    @property
    def name(self) -> str:
        """As in the configuration."""
        return self.rule.name


@attrs.frozen(kw_only=True)
class Letter:
    """What a channel is to carry, in its language."""

    content: Content
    kind: NotificationKind
    severity: Severity
    identity: str  # the same for each attempt
    written_at: dt.datetime


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of an attempt; ``error`` None: the service has taken it."""

    error: str | None = None
    hopeless: bool = False  # the service will not take this one, whenever it is asked
    refused: str | None = None  # who will not get it, although the service has taken it


class Attempt:
    """One attempt, as both threads see it: the one that sends, and the loop that has enough."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout  # seconds
        self._abandoned = threading.Event()
        self._undo: cabc.Callable[[], None] | None = None
        self._lock = threading.Lock()

    @property
    def abandoned(self) -> bool:
        """Nobody waits for it any more: nothing may be sent from here on."""
        return self._abandoned.is_set()

    def ends_by(self, undo: cabc.Callable[[], None]) -> None:
        """What to call, from another thread, when nobody waits any more."""
        with self._lock:
            self._undo = undo
            if self.abandoned:
                undo()

    def abandon(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._abandoned.set()
            if self._undo is not None:
                self._undo()


class Carrier(t.Protocol):
    """A service that a channel sends through. It is called in a thread, one call at a time."""

    @property
    def service(self) -> str:
        """What it is, for people; nothing secret."""
        ...

    def send(self, letter: Letter, attempt: Attempt) -> Outcome:
        """Send it; never raises but for a bug."""
        ...


def hide(text: str, secrets: cabc.Iterable[str]) -> str:
    """An error without what is secret, and not too long."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= ERROR_LENGTH else f"{text[: ERROR_LENGTH - 1]}…"
