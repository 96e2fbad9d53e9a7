"""What a torture run is asked for, and what it ends with."""

import typing as t
from pathlib import Path

import attrs

NAMES: t.Final = ("sales", "support", "billing", "shipping", "returns")
MAX_CONNECTIONS: t.Final = 20


@attrs.frozen(kw_only=True)
class TortureOptions:
    """What the command line asks for."""

    seconds: float = 60.0  # of faults
    seed: int
    kinds: frozenset[str]
    """Of faults, see ``plan.KINDS``."""
    connections: int = 3
    rate: float = 25.0  # things that people do, per second
    settle: float = 300.0  # seconds for everything to settle after the last fault
    data_dir: Path | None = None
    """Kept; None: a temporary one, which is kept only when the run fails."""

    @property
    def names(self) -> tuple[str, ...]:
        """The connections' names."""
        more = (f"line-{number + 1}" for number in range(len(NAMES), self.connections))
        return (*NAMES[: self.connections], *more)


@attrs.frozen(kw_only=True)
class Spread:
    """How a duration was spread over many times."""

    count: int = 0
    p50: float | None = None
    p99: float | None = None
    longest: float | None = None

    @classmethod
    def of(cls, values: t.Iterable[float]) -> "Spread":
        """The spread of these, in seconds."""
        ordered = sorted(values)
        if not ordered:
            return cls()

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

        return cls(count=len(ordered), p50=at(0.5), p99=at(0.99), longest=round(ordered[-1], 3))


@attrs.frozen(kw_only=True)
class Summary:
    """The last line of a run."""

    seed: int
    schedule_sha256: str
    seconds: float  # from the first fault to the audit
    settled: bool
    """Whether everything came to rest in time after the last fault."""
    kills: int  # deaths of the daemon by SIGKILL, its own at crash points among them
    kills_by_point: dict[str, int]
    points_not_reached: list[str]
    stops: int  # orderly, by SIGTERM
    faults: dict[str, int]  # carried out, by kind
    faults_late: int  # planned, and left out because those before them took too long
    offered: int  # messages that the server owed to connections
    stored: int
    lost: int
    stored_twice: int
    out_of_order: int
    reordered_by_server: int  # pairs that only the server's own order of delivery explains
    unexpected: int
    undecryptable_left: int
    quarantined: int
    malformed: int  # offered, each of them to be quarantined
    duplicates_offered: int
    sends: int  # asked for through the API, each with an idempotency key
    outbox_sent_twice: int
    outbox_lost: int  # said to be sent, and never arrived
    outbox_waiting: int  # taken in, and not yet sent when all had to be settled
    outbox_unknown: int  # may have left when something died; never sent again by themselves
    outbox_failed: int  # given up, with a reason
    unexplained_restarts: int
    unexplained: list[str]
    errors_logged: dict[str, int]  # by event
    gaps_open: int  # outages of which something is missing or waited for to the end
    recovery_seconds: Spread
    evidence: str | None = None
    """Where everything is kept, after a run that failed."""
    discrepancies: list[str] = attrs.field(factory=list)
    """The first of them; all are among the evidence."""

    @property
    def failures(self) -> list[str]:
        """What is not as it must be."""
        counts = {
            "messages lost": self.lost,
            "stored twice": self.stored_twice,
            "out of order": self.out_of_order,
            "unexpected": self.unexpected,
            "sent twice": self.outbox_sent_twice,
            "said to be sent and not there": self.outbox_lost,
            "sends given up": self.outbox_failed,
            "unexplained restarts": self.unexplained_restarts,
            "gaps that stay open": self.gaps_open,
            "malformed stanzas that left no trace": max(0, self.malformed - self.quarantined),
        }
        wrong = [f"{count} {what}" for what, count in counts.items() if count]
        if not self.stored:
            wrong.append("nothing stored")
        if not self.settled:
            wrong.append("not settled in time")
        return wrong

    @property
    def succeeded(self) -> bool:
        """Whether the promise was kept."""
        return not self.failures
