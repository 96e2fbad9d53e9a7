"""The gap ledger of MemoryStorage: the rules of ``sql/gaps.sql``."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from storage.api import Outcome, Verdict
from storage.gaps import (
    MARGIN,
    PAGE,
    DeviceReplaced,
    GapRow,
    OutageBegan,
    QueueAnnounced,
    QueueDrained,
    QueuedStanza,
)
from storage.memory_events import event_time
from storage.memory_inbox import MemoryInbox
from storage.memory_state import Connection, Conversation, Gap, optional_utc, utc
from storage.prepare import PreparedBatch
from storage.prepare_gaps import PreparedStep, accepting_name, not_acceptable

LOGGED_IN: t.Final = frozenset({"syncing", "online"})


class MemoryGaps(MemoryInbox):
    """See :class:`storage.gaps.Gaps`."""

    async def gaps(
        self,
        connection: str | None,
        *,
        open_only: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[GapRow]:
        """See :meth:`storage.gaps.Gaps.gaps`."""
        await trio.lowlevel.checkpoint()
        found = [
            (owner, gap)
            for owner in self._chosen(connection)
            for gap in owner.gaps
            if (before is None or gap.id < before) and not (open_only and gap.closed_at)
        ]
        found.sort(key=lambda item: item[1].id, reverse=True)
        return [_row(owner, gap) for owner, gap in found[: max(0, min(limit, PAGE))]]

    async def accept_gap(self, gap_id: int, by: str) -> GapRow | None:
        """See :meth:`storage.gaps.Gaps.accept_gap`."""
        name = accepting_name(by)
        await trio.lowlevel.checkpoint()
        for owner in self._chosen(None):
            for gap in owner.gaps:
                if gap.id == gap_id:
                    if gap.to_at is None or gap.closed_at is not None:
                        raise not_acceptable(_row(owner, gap))
                    gap.closed_at, gap.resolution = self._clock(), "accepted"
                    gap.accepted_by = name
                    self._tell_gap("gap.closed", owner, gap)
                    return _row(owner, gap)
        return None

    async def forget_gaps(self, before: float, limit: int) -> int:
        """See :meth:`storage.gaps.Gaps.forget_gaps`."""
        await trio.lowlevel.checkpoint()
        gone = 0
        for owner in self._chosen(None):
            old = [each for each in owner.gaps[:-1] if (each.closed_at or before) < before]
            for gap in old[: limit - gone]:
                owner.gaps.remove(gap)
                gone += 1
        return gone

    async def gap_statistics(self) -> dict[str, int]:
        """See :meth:`storage.gaps.Gaps.gap_statistics`."""
        rows = await self.gaps(None, open_only=True, limit=PAGE)
        over = [row for row in rows if row.to_at is not None]
        return {
            "open": len(over),
            "missing": sum(row.missing for row in over),
            "waiting": sum(row.waiting for row in over),
            "in_quarantine": sum(row.in_quarantine for row in over),
            "device_replaced": sum(row.device_replaced for row in over),
            "ongoing": len(rows) - len(over),
        }

    def _apply_gaps(
        self, prepared: PreparedBatch, outcomes: cabc.Sequence[Outcome], now: float
    ) -> None:
        """Take the steps of a batch, then close what can be closed."""
        for item in prepared.gaps:
            owner = self._connection(item.connection)
            match item.step:
                case OutageBegan() as began:
                    self._begin(owner, began, now)
                case QueueAnnounced() as announced:
                    self._announce(owner, announced, now)
                case QueuedStanza():
                    _count(owner, item, item.step, prepared, outcomes)
                case QueueDrained(login=login, number=number, at=at, others=others):
                    gap = _of_login(owner, login)
                    if gap is not None and gap.to_at is None and gap.counted < number:
                        gap.to_at = max(gap.from_at, at)
                        gap.other += others
                        gap.counted = number
                        gap.announced = gap.came if gap.announced is None else gap.announced
                case DeviceReplaced():
                    for gap in owner.gaps:
                        rest = gap.interrupted and gap.covered_by is None
                        if gap.closed_at is None and (gap.to_at is None or rest):
                            gap.device_replaced = True
                case other:
                    t.assert_never(other)
        for name in dict.fromkeys(prepared.connections):
            owner = self._connection(name)
            waiting = [gap for gap in owner.gaps if gap.closed_at is None]
            _close(owner, now)
            for gap in waiting:
                if gap.closed_at is not None:
                    self._tell_gap("gap.closed", owner, gap)

    def _begin(self, owner: Connection, began: OutageBegan, now: float) -> None:
        at = began.at
        if at is None:
            alive = _last_alive(owner)
            at = now if alive is None else min(alive, now)
        current = _current(owner)
        if current is not None:
            if current.login is None:
                return
            current.to_at, current.interrupted = max(at, current.from_at), True
        owner.gaps.append(Gap(next(self._ids), began.kind, began.reason, at))
        self._tell_gap("gap.opened", owner, owner.gaps[-1])

    def _tell_gap(self, type_: str, owner: Connection, gap: Gap) -> None:
        self._tell(
            type_,
            owner.name,
            gap_id=gap.id,
            kind=gap.kind,
            reason=gap.reason,
            **{"from": event_time(gap.from_at), "to": event_time(gap.to_at)},
            missing=gap.missing,
            resolution=gap.resolution,
        )

    def _announce(self, owner: Connection, step: QueueAnnounced, now: float) -> None:
        gap = _of_login(owner, step.login)
        if gap is not None:
            gap.announced = _greater(gap.announced, step.announced)
            gap.announced_messages = _greater(gap.announced_messages, step.messages)
            return
        current = _current(owner)
        if current is None or current.login is not None:
            linked = OutageBegan(kind="linked", reason="linked", at=step.at)
            unknown = OutageBegan(kind="ended", reason="unknown", at=None)
            default = linked if current is None else unknown
            self._begin(owner, step.began or default, now)
        gap = owner.gaps[-1]
        gap.login, gap.login_at, gap.horizon = step.login, step.at, step.horizon
        gap.announced, gap.announced_messages = step.announced, step.messages


def possible_hole(owner: Connection, conversation: Conversation) -> bool:
    """Whether messages of a conversation may be missing."""
    if any(
        gap.closed_at is None
        and (gap.missing or gap.device_replaced)
        and gap.from_at - MARGIN <= conversation.last_message_at
        for gap in owner.gaps
    ):
        return True
    return any(
        row.conversation is conversation and row.placeholder and row.verdict is None
        for row in owner.rows.values()
    )


def _count(
    owner: Connection,
    item: PreparedStep,
    step: QueuedStanza,
    prepared: PreparedBatch,
    outcomes: cabc.Sequence[Outcome],
) -> None:
    gap = _of_login(owner, step.login)
    if gap is None or gap.counted >= step.number:
        return
    gap.counted = step.number
    gap.other += step.others
    message, outcome = prepared.messages[item.position], outcomes[item.position]
    if step.quarantined in owner.quarantine:
        if owner.quarantine[step.quarantined].attempts > 1:
            gap.duplicate += 1
        else:
            gap.quarantined += 1
            gap.items.add(("quarantine", step.quarantined))
    elif message is None or not step.is_message:
        gap.other += 1
    elif outcome.verdict is Verdict.DUPLICATE:
        gap.duplicate += 1
    elif outcome.verdict is Verdict.PLACEHOLDER:
        gap.undecryptable += 1
        gap.items.add(("message", outcome.message_id))
    else:
        gap.stored += 1
        if not outcome.filled:
            _credit(owner, gap, message.sent_at)


def _credit(owner: Connection, gap: Gap, sent_at: float) -> None:
    """A new message from before an earlier login that lacked some: one of those."""
    for short in owner.gaps:
        if (
            short.closed_at is None
            and short.id < gap.id
            and not short.interrupted
            and short.missing
            and short.horizon is not None
            and sent_at < short.horizon
        ):
            short.covered += 1
            short.covered_by = gap.id
            return


def _close(owner: Connection, now: float) -> None:
    complete = [
        gap.id
        for gap in owner.gaps
        if gap.to_at is not None
        and not gap.interrupted
        and (not gap.missing or gap.resolution == "accepted")
    ]
    for gap in owner.gaps:
        rest = gap.interrupted and gap.covered_by is None and not gap.device_replaced
        if rest and gap.closed_at is None and gap.id < max(complete, default=0):
            gap.covered += gap.missing
            gap.covered_by = complete[-1]
        if (
            gap.closed_at is None
            and gap.to_at is not None
            and not gap.missing
            and not gap.device_replaced
            and not (gap.interrupted and gap.covered_by is None)
            and not _waiting(owner, gap)
            and not _in_quarantine(owner, gap)
        ):
            gap.closed_at = now
            covered = "complete" if gap.covered_by is None else "covered"
            gap.resolution = "given_up" if _given_up(owner, gap) else covered


def _last_alive(owner: Connection) -> float | None:
    newest = max(owner.rows.values(), key=lambda row: row.id, default=None)
    signs = [] if newest is None else [newest.received_at]
    logins = [row.at for row in owner.events if LOGGED_IN & {row.event.state, row.event.previous}]
    return max(signs + logins[-1:], default=None)


def _current(owner: Connection) -> Gap | None:
    return next((gap for gap in owner.gaps if gap.to_at is None), None)


def _of_login(owner: Connection, login: str) -> Gap | None:
    return next((gap for gap in owner.gaps if gap.login == login), None)


def _greater(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _placeholders(owner: Connection, gap: Gap) -> list[str | None]:
    """The verdicts of those that are still placeholders."""
    rows = [owner.rows.get(t.cast("int", item)) for kind, item in gap.items if kind == "message"]
    return [row.verdict for row in rows if row is not None and row.placeholder]


def _waiting(owner: Connection, gap: Gap) -> int:
    return sum(verdict is None for verdict in _placeholders(owner, gap))


def _given_up(owner: Connection, gap: Gap) -> int:
    return sum(verdict is not None for verdict in _placeholders(owner, gap))


def _in_quarantine(owner: Connection, gap: Gap) -> int:
    return sum(
        kind == "quarantine" and owner.quarantine[t.cast("str", item)].resolved_at is None
        for kind, item in gap.items
    )


def _row(owner: Connection, gap: Gap) -> GapRow:
    own = attrs.asdict(gap, filter=lambda field, _value: field.name in _SAME)
    return GapRow(
        **own,
        connection=owner.name,
        state=_state(gap),
        missing=gap.missing,
        waiting=_waiting(owner, gap),
        given_up=_given_up(owner, gap),
        in_quarantine=_in_quarantine(owner, gap),
        from_at=utc(gap.from_at),
        login_at=optional_utc(gap.login_at),
        to_at=optional_utc(gap.to_at),
        closed_at=optional_utc(gap.closed_at),
    )


def _state(gap: Gap) -> str:
    if gap.to_at is not None:
        return "open" if gap.closed_at is None else "closed"
    return "out" if gap.login is None else "draining"


_SAME: t.Final = {field.name for field in attrs.fields(GapRow)} - {
    "from_at",
    "login_at",
    "to_at",
    "closed_at",
}
