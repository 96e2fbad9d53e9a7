"""The words of :mod:`actors.hearing`: what the ear is told, says, and remembers."""

import datetime as dt
import enum
import typing as t

import attrs

DAY: t.Final = 86_400.0  # seconds
LATE: t.Final = 5.0  # seconds from which on the daemon itself is slow
MAX_BACKLOG: t.Final = 32  # stanzas


class Kind(enum.Enum):
    """What arrived."""

    MESSAGE = "message"
    PEER = "peer"  # a message of the own phone that belongs to no chat
    OTHER = "other"  # a receipt, a notification, a call


class Order(enum.Enum):
    """What is to be done now."""

    PROBE = "probe"
    RESET = "reset"


class Stage(enum.Enum):
    """How far a suspicion has come."""

    CALM = "calm"
    SUSPECTS = "suspects"  # a probe is ordered
    WAITS = "waits"  # the probe is under way
    UNDECIDED = "undecided"  # no answer: a reset is due once the odds and the limits say so


@attrs.frozen(kw_only=True)
class HearingSettings:
    """What the operator may set."""

    enabled: bool = True
    shortest: float = 600.0  # seconds of silence before anything is suspected
    resets_per_day: int = 4
    checkup: float = 2 * DAY  # seconds of silence that are looked into in any case


@attrs.frozen(kw_only=True)
class Load:
    """How the daemon itself is doing; times in seconds."""

    loop_lag: float = 0.0  # how much too late the monitor woke up
    backlog: int = 0  # stanzas read and not handled
    busy_for: float = 0.0  # with the stanza in hand
    oldest_in_flight: float = 0.0  # waiting for its commit
    held_back: bool = False  # the reader waits for room

    def trouble(self) -> str | None:
        """What of ours would explain a silence."""
        if self.loop_lag > LATE:
            return "the event loop is late"
        if self.oldest_in_flight > LATE:
            return "the writer is late"
        if self.busy_for > LATE or self.backlog > MAX_BACKLOG or self.held_back:
            return "stanzas wait to be handled"
        return None


@attrs.frozen(kw_only=True)
class DeafSuspicion:
    """A connection seems not to hear."""

    since: dt.datetime  # when something was heard last
    why: str


@attrs.frozen(kw_only=True)
class Signals:
    """What the ear knows of the life under way; ages in seconds, None: nothing yet."""

    stanza_age: float | None
    message_age: float | None
    other_age: float | None  # receipts, notifications and calls
    announced: int
    arrived: int  # of the announced
    drained: bool
    unconfirmed_chats: int
    stage: str


@attrs.define
class Case:
    """A reset whose verdict is not known yet."""

    why: str
    message_at: float  # the last one heard before it
    other_at: float  # the last of any kind
    since: float  # when that socket logged in
    reset_at: float
    ordered: bool  # by us; else the socket ended by itself
    messages: int = 0  # that were sent meanwhile
    others: int = 0  # stanzas
    oldest: int = 0  # unix seconds


@attrs.define
class Tally:
    """What came of all suspicions since the daemon started."""

    suspicions: int = 0
    probes: int = 0
    answered: int = 0
    resets: int = 0
    deaf: int = 0
    false: int = 0
