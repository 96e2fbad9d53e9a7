"""Steps of the gap ledger made storable, and as arguments of ``apply_gaps``."""

import math
import typing as t

import attrs

from storage.errors import StorageRejectedError
from storage.gaps import (
    KINDS,
    MARGIN,
    DeviceReplaced,
    GapRow,
    GapStep,
    OutageBegan,
    QueueAnnounced,
    QueueDrained,
    QueuedStanza,
)
from storage.identity import clean_text

if t.TYPE_CHECKING:
    from storage.prepare import PreparedBatch

MAX_COUNT: t.Final = 1_000_000_000  # of stanzas, however many a peer announces
MAX_TOKEN: t.Final = 64  # characters of a login or reason
MAX_NAME: t.Final = 200  # characters of who accepts


@attrs.frozen
class PreparedStep:
    """A step whose every field fits its column, and the place of its envelope in the batch."""

    connection: str
    position: int
    step: GapStep


def prepare_step(connection: str, position: int, step: GapStep, now: float) -> PreparedStep:
    """Make a step storable: no count or time that a peer gives makes it fail."""
    match step:
        case OutageBegan():
            step = _began(step, now)
        case QueueAnnounced():
            step = attrs.evolve(
                step,
                login=_token(step.login),
                at=_time(step.at, now),
                announced=_count(step.announced),
                messages=_count(step.messages),
                horizon=None if step.horizon is None else _time(step.horizon, now),
                began=None if step.began is None else _began(step.began, now),
            )
        case QueuedStanza():
            step = attrs.evolve(step, login=_token(step.login), others=_count(step.others) or 0)
        case QueueDrained():
            step = attrs.evolve(
                step,
                login=_token(step.login),
                at=_time(step.at, now),
                others=_count(step.others) or 0,
            )
        case DeviceReplaced():
            pass
        case other:
            t.assert_never(other)
    return PreparedStep(connection, position, step)


def accepting_name(by: str) -> str:
    """Who accepts, storable.

    Raises:
        StorageRejectedError: nobody.
    """
    name = clean_text(by).strip()[:MAX_NAME]
    if not name:
        raise StorageRejectedError("somebody has to accept a gap: a name is missing")
    return name


def not_acceptable(row: GapRow) -> StorageRejectedError:
    """Why a gap cannot be accepted."""
    if row.state == "closed":
        return StorageRejectedError(f"gap {row.id} is closed already ({row.resolution})")
    return StorageRejectedError(
        f"gap {row.id} goes on: what is missing is known once the connection has caught up"
    )


def encode_steps(batch: "PreparedBatch") -> list[dict[str, t.Any]]:
    """The steps for ``apply_gaps``, in the order of each connection; those that count for one
    login in a row are one.

    A message is named by its number among the messages of the batch.
    """
    numbers: dict[int, int] = {}
    for position, message in enumerate(batch.messages):
        if message is not None:
            numbers[position] = len(numbers) + 1
    encoded: list[dict[str, t.Any]] = []
    last: dict[str, dict[str, t.Any]] = {}  # of each connection
    for item in batch.gaps:
        step = item.step
        document: dict[str, t.Any] = {"connection": item.connection}
        match step:
            case OutageBegan():
                document |= {"type": "began", **attrs.asdict(step)}
            case QueueAnnounced():
                document |= {"type": "announced", **attrs.asdict(step)}
            case QueuedStanza():
                document |= {"type": "queued", "login": step.login}
                known = last.get(item.connection, {})
                if {key: known.get(key) for key in document} == document:
                    document = known
                else:
                    document["entries"] = []
                document["entries"].append(
                    {
                        "number": step.number,
                        "ord": numbers.get(item.position) if step.is_message else None,
                        "quarantined": step.quarantined,
                        "others": step.others,
                    }
                )
            case QueueDrained():
                document |= {"type": "drained", **attrs.asdict(step)}
            case DeviceReplaced():
                document |= {"type": "replaced"}
            case other:
                t.assert_never(other)
        if last.get(item.connection) is not document:
            encoded.append(document)
            last[item.connection] = document
    return encoded


def _began(step: OutageBegan, now: float) -> OutageBegan:
    return OutageBegan(
        kind=step.kind if step.kind in KINDS else "ended",
        reason=_token(step.reason),
        at=None if step.at is None else _time(step.at, now),
    )


def _count(value: int | None) -> int | None:
    return None if value is None else max(0, min(value, MAX_COUNT))


def _time(at: float, now: float) -> float:
    """Absurd times are now."""
    return at if math.isfinite(at) and 0 <= at <= now + MARGIN else now


def _token(value: str) -> str:
    return clean_text(value)[:MAX_TOKEN]
