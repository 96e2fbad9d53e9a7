"""The plan of a run: which fault strikes when. A pure function of the seed.

Faults come in lanes that do not wait for one another: the daemon's own deaths, the database's,
what the server does, what the network does. Within a lane every kind comes before any comes
again, so that a short run has all of them.
"""

import collections.abc as cabc
import hashlib
import json
import typing as t

import attrs

from simulator.entropy import Entropy
from storage.crash_points import POINTS


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that goes wrong."""

    at: float  # seconds from the first text
    kind: str
    connection: int | None = None  # whose; None: everybody's
    seconds: float = 0.0  # how long, for what lasts
    count: int = 0  # how many stanzas, for what is counted; of a crash: the how-manieth time
    point: str = ""  # of a crash


@attrs.frozen(kw_only=True)
class Lane:
    """Faults that follow one another."""

    name: str
    kinds: cabc.Mapping[str, str]
    pause: tuple[float, float]  # seconds between two, at least and at most


LANES: t.Final = (
    Lane(
        name="daemon",
        kinds={
            "kill": "kill -9 of the daemon, at a random moment",
            "crash": "its death at a crash point",
            "term": "SIGTERM, and a new start",
        },
        pause=(1.0, 3.0),
    ),
    Lane(
        name="database",
        kinds={
            "pg_kill": "kill -9 of PostgreSQL",
            "pg_stop": "PostgreSQL is stopped for seconds",
        },
        pause=(8.0, 20.0),
    ),
    Lane(
        name="server",
        kinds={
            "drop": "sockets are cut by the server",
            "half_open": "the server forgets a client that learns nothing of it",
            "stall": "the server is deaf and silent",
            "slow": "the server takes its time for every stanza",
            "duplicate": "stanzas are delivered twice",
            "reorder": "a stanza overtakes another",
            "lose_acks": "receipts and acknowledgements get lost",
            "corrupt": "ciphertexts are broken",
            "withhold": "messages are withheld from companions",
            "515": "the server asks for a new socket",
            "503": "the server is in trouble",
            "conflict": "another client takes the place of ours",
            "refuse": "the server closes every new connection",
            "restart": "the server restarts",
        },
        pause=(0.8, 3.0),
    ),
    Lane(
        name="network",
        kinds={
            "tcp_cut": "connections are reset",
            "tcp_stall": "nothing gets through for seconds",
            "tcp_delay": "everything is late",
            "tcp_bytes": "bytes come one by one",
            "tcp_refuse": "connections are refused",
        },
        pause=(3.0, 9.0),
    ),
)
KINDS: t.Final[cabc.Mapping[str, str]] = {
    kind: meaning for lane in LANES for kind, meaning in lane.kinds.items()
}
"""Every kind of fault, and what it is."""

NOT_ON_THE_WAY: t.Final = ("pairing.", "prekeys.", "pulse.", "epoch.", "recover.")
"""Points that a run does not come to once its connections are linked, or hardly ever."""
_LASTING: t.Final[cabc.Mapping[str, tuple[float, float]]] = {  # seconds
    "pg_stop": (0.5, 5.0),
    "stall": (0.5, 5.0),
    "slow": (0.5, 2.0),
    "refuse": (0.3, 2.0),
    "restart": (0.2, 1.5),
    "tcp_stall": (0.5, 4.0),
    "tcp_delay": (0.5, 3.0),
    "tcp_bytes": (0.5, 2.0),
    "tcp_refuse": (0.3, 2.5),
}
_COUNTED: t.Final = ("duplicate", "reorder", "lose_acks", "corrupt", "withhold")
_MAX_COUNT: t.Final = 5
_MAX_NTH: t.Final = 4  # how often a run passes a crash point before it dies there
_EVERYBODY: t.Final = 4  # one in so many faults of the server is everybody's
_MILLI: t.Final = 1000


def plan(seed: int, seconds: float, kinds: cabc.Set[str], connections: int) -> tuple[Fault, ...]:
    """The faults of a run, in the order of their times."""
    entropy = Entropy(seed).fork("plan")
    faults = [
        fault
        for lane in LANES
        for fault in _of_lane(lane, seconds, kinds, connections, entropy.fork(lane.name))
    ]
    return tuple(sorted(faults, key=lambda fault: (fault.at, fault.kind)))


def lane_of(fault: Fault) -> str:
    """The name of its lane."""
    return next(lane.name for lane in LANES if fault.kind in lane.kinds)


def as_json(faults: cabc.Iterable[Fault]) -> list[dict[str, t.Any]]:
    """The plan for people and programs."""
    return [attrs.asdict(fault) for fault in faults]


def fingerprint(faults: cabc.Iterable[Fault]) -> str:
    """The SHA-256 of a plan."""
    return hashlib.sha256(json.dumps(as_json(faults), sort_keys=True).encode()).hexdigest()


def _of_lane(
    lane: Lane, seconds: float, kinds: cabc.Set[str], connections: int, entropy: Entropy
) -> cabc.Iterator[Fault]:
    chosen = [kind for kind in lane.kinds if kind in kinds]
    if not chosen:
        return
    bag, points = _Bag(chosen, entropy), _Bag(planned_points(), entropy)
    at = _between(entropy, 0.2, lane.pause[0] + 0.2)
    while at < seconds:
        kind = bag.draw()
        whose = None
        if lane.name == "server" and entropy.below(_EVERYBODY):
            whose = entropy.below(connections)
        yield Fault(
            at=at,
            kind=kind,
            connection=whose,
            seconds=_between(entropy, *_LASTING[kind]) if kind in _LASTING else 0.0,
            count=_count(kind, entropy),
            point=points.draw() if kind == "crash" else "",
        )
        at = round(at + _between(entropy, *lane.pause), 3)


def planned_points() -> list[str]:
    """The crash points that a run strikes."""
    return [name for name in POINTS if not name.startswith(NOT_ON_THE_WAY)]


def _count(kind: str, entropy: Entropy) -> int:
    if kind == "crash":
        return 1 + entropy.below(_MAX_NTH)
    return 1 + entropy.below(_MAX_COUNT) if kind in _COUNTED else 0


def _between(entropy: Entropy, least: float, most: float) -> float:
    steps = round((most - least) * _MILLI)
    return round(least + entropy.below(steps + 1) / _MILLI, 3)


class _Bag:
    """Draws without putting back; full again when it is empty."""

    def __init__(self, items: cabc.Sequence[str], entropy: Entropy) -> None:
        self._items = items
        self._entropy = entropy
        self._left: list[str] = []

    def draw(self) -> str:
        """The next one."""
        if not self._left:
            self._left = list(self._items)
        return self._left.pop(self._entropy.below(len(self._left)))
