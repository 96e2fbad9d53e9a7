"""What a connection is configured with, works with, and counts."""

import collections.abc as cabc
import typing as t

import attrs

from actors.admission import Admission, AdmissionSettings
from actors.errors import ActorError
from actors.hearing_words import DeafSuspicion, HearingSettings
from actors.journal import Journal
from actors.messages import WriterMail
from actors.monitor import Limits
from actors.pacing import Pace
from actors.transport import Dial
from storage.api import Lane, Outcome, ReceivedMessage, Storage, Verdict
from storage.figures import SyncCounts
from supervisor.mailbox import Postbox
from supervisor.wakefulness import Wakefulness
from whatsapp.media_source import MediaSource
from whatsapp.node import Node

Report: t.TypeAlias = cabc.Callable[[str, str, str], None]
"""Called with a state, a reason code and a sentence for the operator."""


class NoFilesError(ActorError):
    """Files can be neither fetched nor uploaded here."""


async def _fetch_nothing(_connection: str, _source: MediaSource, _limit: int) -> bytes:
    raise NoFilesError("files are not served here")


async def _upload_nothing(_connection: str, _file: str, _kind: str) -> MediaSource:
    raise NoFilesError("files are not served here")


def _not_asked(_connection: str, _node: Node) -> None:
    """Nobody asked the phone for a file."""


def _unsuspected() -> DeafSuspicion | None:
    """No life has begun yet."""
    return None


def _all_recorded() -> SyncCounts:
    """No life has begun yet."""
    return SyncCounts()


def _nothing_waits() -> float:
    """There is no life."""
    return 0.0


def _not_awaited(_connection: str) -> None:
    """Nobody waits for a connection."""


@attrs.frozen(kw_only=True)
class Files:
    """How files get to and from WhatsApp's servers, for all connections."""

    fetch: cabc.Callable[[str, MediaSource, int], cabc.Awaitable[bytes]] = _fetch_nothing
    """A small file of a connection, of at most so many bytes, opened and verified."""
    upload: cabc.Callable[[str, str, str], cabc.Awaitable[MediaSource]] = _upload_nothing
    """Takes a connection, a stored file and its kind."""
    answered: cabc.Callable[[str, Node], None] = _not_asked
    """The phone answered a request to upload a file again."""


@attrs.frozen(kw_only=True)
class ConnectionSettings:
    """What the operator may set; times in seconds."""

    version: tuple[int, int, int]
    device_name: str = "zapvisor"
    root_key: bytes
    heartbeat_interval: float = 15.0
    heartbeat_timeout: float = 20.0
    monitor_interval: float = 10.0
    connect_timeout: float = 60.0
    request_timeout: float = 30.0
    in_flight: int = 256
    limits: Limits = attrs.field(factory=Limits)
    hearing: HearingSettings = attrs.field(factory=HearingSettings)
    groups: bool = True
    status_broadcasts: bool = False
    newsletters: bool = False
    pace: Pace = attrs.field(factory=Pace)
    send_timeout: float = 75.0  # for the server to take a message over
    full_history: bool = False  # asked of the phone when it is linked


@attrs.frozen(kw_only=True)
class Tools:
    """The outside world of a connection."""

    storage: Storage
    writer: Postbox[WriterMail]
    dial: Dial
    wall_clock: cabc.Callable[[], float]  # unix seconds
    random: cabc.Callable[[int], bytes]  # secret randomness
    uniform: cabc.Callable[[], float]  # [0, 1), for jitter
    files: Files = attrs.field(factory=Files)
    wakefulness: Wakefulness = attrs.field(factory=Wakefulness)
    """Whether the process ran all the time: deadlines that passed while it did not say nothing."""
    came_online: cabc.Callable[[str], None] = _not_awaited
    """Called with the connection's name whenever it is online again."""
    admission: Admission = attrs.Factory(
        lambda self: Admission(
            AdmissionSettings(), wall_clock=self.wall_clock, uniform=self.uniform
        ),
        takes_self=True,
    )
    """Who may dial, and when; one for the whole fleet."""
    journal: Journal = attrs.Factory(lambda self: Journal(self.writer), takes_self=True)
    """Where transitions of state are noted."""


@attrs.define
class Counts:
    """What one connection took in since the daemon started."""

    stored: int = 0
    duplicates: int = 0
    undecryptable: int = 0  # more placeholders waiting than at the start; may be negative
    quarantined: int = 0
    last_message_at: float | None = None  # unix seconds
    last_heartbeat_at: float | None = None  # unix seconds: when a ping was answered
    logins: int = 0
    ends: dict[str, int] = attrs.field(factory=dict)  # of lives, by reason code
    processed: int = 0  # outcomes of what its sockets delivered, as in the sync statistics
    skipped: int = 0
    errors: int = 0
    in_flight: cabc.Callable[[], int] = lambda: 0
    unrecorded: cabc.Callable[[], SyncCounts] = _all_recorded
    """Of these, what no row of sync statistics holds yet: the minute under way."""
    lag: cabc.Callable[[], float] = _nothing_waits
    """Seconds that the oldest stanza in hand, or sent to the writer, has waited."""
    phone_seen_at: float | None = None  # unix seconds: the newest thing that it sent
    deaf: int = 0  # found to be, and reset
    deaf_suspicion: cabc.Callable[[], DeafSuspicion | None] = _unsuspected

    def phone_seen(self, at: float) -> None:
        """The own phone sent something at a time (unix seconds)."""
        self.phone_seen_at = max(at, self.phone_seen_at or 0.0)

    def ended(self, reason: str) -> None:
        """A life is over."""
        self.ends[reason] = self.ends.get(reason, 0) + 1

    def take(self, message: ReceivedMessage, outcome: Outcome, at: float) -> None:
        """Count a message that is committed, wherever it came from."""
        match outcome.verdict:
            case Verdict.STORED:
                self.stored += 1
                self.undecryptable -= outcome.filled
                if message.lane is Lane.LIVE:
                    self.last_message_at = at
            case Verdict.DUPLICATE:
                self.duplicates += 1
            case Verdict.PLACEHOLDER:
                self.undecryptable += outcome.retries == 1
            case _:
                pass
