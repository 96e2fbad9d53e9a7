"""The notifications of MemoryStorage: see :class:`storage.notifications.Notifications`."""

import abc
import collections.abc as cabc
import datetime as dt
import itertools
import typing as t

import attrs
import trio

from storage.notifications import (
    CHANNEL_GONE,
    INTERRUPTED,
    TOO_OLD,
    ChannelRow,
    ChannelRule,
    ClaimedNotification,
    Notification,
)
from storage.queues import FARTHEST

_OPEN = frozenset({"pending", "sending", "failed"})


@attrs.define(kw_only=True)
class _Delivery:
    state: str
    attempts: int = 0
    next_attempt_at: float | None = None
    error: str | None = None


class MemoryNotifications(abc.ABC):
    """The part of MemoryStorage that keeps what is to be told."""

    _clock: cabc.Callable[[], float]

    def __init__(self) -> None:
        super().__init__()
        self._notifications: dict[int, tuple[dt.datetime, Notification]] = {}
        self._notification_ids = itertools.count(1)
        self._channels: dict[str, tuple[ChannelRule, ChannelRow]] = {}
        self._told: dict[tuple[str, int], _Delivery] = {}

    def queue_notifications(self, notifications: cabc.Iterable[Notification]) -> int:
        """What the SQL function ``enqueue_notifications`` does, within another change."""
        known = {each.key for _at, each in self._notifications.values()}
        new = 0
        for each in notifications:
            if each.key in known:
                continue
            known.add(each.key)
            new += 1
            number = next(self._notification_ids)
            kept = attrs.evolve(each, channels=None, told=())
            self._notifications[number] = (_time(self._clock()), kept)
            for rule, row in self._channels.values():
                if row.active and rule.takes(each):
                    told = rule.name in each.told
                    self._told[rule.name, number] = _Delivery(
                        state="sent" if told else "pending", attempts=int(told)
                    )
        return new

    async def enqueue_notifications(self, notifications: cabc.Sequence[Notification]) -> int:
        """See :meth:`storage.notifications.Notifications.enqueue_notifications`."""
        await trio.lowlevel.checkpoint()
        return self.queue_notifications(notifications)

    async def set_channels(self, rules: cabc.Sequence[ChannelRule], *, stale_before: float) -> int:
        """See :meth:`storage.notifications.Notifications.set_channels`."""
        await trio.lowlevel.checkpoint()
        for name, (rule, row) in self._channels.items():
            self._channels[name] = (rule, attrs.evolve(row, active=False))
        for rule in rules:
            known = self._channels.get(rule.name)
            row = _new_row(rule.name) if known is None else known[1]
            self._channels[rule.name] = (rule, attrs.evolve(row, active=True))
        for delivery in self._told.values():
            if delivery.state == "sending":
                delivery.state, delivery.next_attempt_at = "failed", None
                delivery.error = INTERRUPTED
        given_up = 0
        for (channel, number), delivery in self._told.items():
            active = self._channels[channel][1].active
            stale = self._notifications[number][0] < _time(stale_before)
            if delivery.state in _OPEN and (not active or stale):
                delivery.state, delivery.next_attempt_at = "given_up", None
                delivery.error = TOO_OLD if active else CHANNEL_GONE
                self._add(channel, given_up=1)
                given_up += 1
        return given_up

    def _add(self, channel: str, error: str | None = None, **counts: int) -> None:
        rule, row = self._channels[channel]
        now = _time(self._clock())
        changes: dict[str, t.Any] = {
            name: getattr(row, name) + count for name, count in counts.items()
        }
        if counts.get("sent"):
            changes |= {"sent_at": now, "failing_since": None}
        if counts.get("failed"):
            since = row.failing_since or now
            changes |= {"failed_at": now, "failing_since": since, "error": error}
        self._channels[channel] = (rule, attrs.evolve(row, **changes))

    def _waiting(self, channel: str) -> dict[int, _Delivery]:
        return {
            number: delivery
            for (name, number), delivery in sorted(self._told.items())
            if name == channel and delivery.state in _OPEN
        }

    async def claim_notification(self, channel: str, deadline: float) -> ClaimedNotification | None:
        """See :meth:`storage.notifications.Notifications.claim_notification`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        for number, delivery in self._waiting(channel).items():
            due = delivery.next_attempt_at or now
            if now < due <= now + FARTHEST:
                return None
            delivery.state, delivery.next_attempt_at = "sending", deadline
            delivery.attempts += 1
            at, notification = self._notifications[number]
            return ClaimedNotification(
                id=number, attempt=delivery.attempts, created_at=at, notification=notification
            )
        return None

    async def settle_notification(
        self,
        channel: str,
        claimed: ClaimedNotification,
        error: str | None = None,
        retry_at: float | None = None,
    ) -> None:
        """See :meth:`storage.notifications.Notifications.settle_notification`."""
        await trio.lowlevel.checkpoint()
        delivery = self._told.get((channel, claimed.id))
        if delivery is None or (delivery.state, delivery.attempts) != ("sending", claimed.attempt):
            return
        delivery.error, delivery.next_attempt_at = error, None
        if error is None:
            delivery.state = "sent"
            self._add(channel, sent=1)
        elif retry_at is None:
            delivery.state = "given_up"
            self._add(channel, error, failed=1, given_up=1)
        else:
            delivery.state, delivery.next_attempt_at = "failed", retry_at
            self._add(channel, error, failed=1)

    async def count_sent(self, channel: str, error: str | None = None) -> None:
        """See :meth:`storage.notifications.Notifications.count_sent`."""
        await trio.lowlevel.checkpoint()
        if channel in self._channels:
            self._add(channel, error, **{"sent" if error is None else "failed": 1})

    async def hurry_notifications(self, channel: str) -> None:
        """See :meth:`storage.notifications.Notifications.hurry_notifications`."""
        await trio.lowlevel.checkpoint()
        for delivery in self._waiting(channel).values():
            if delivery.state == "failed":
                delivery.next_attempt_at = None

    async def channels(self) -> list[ChannelRow]:
        """See :meth:`storage.notifications.Notifications.channels`."""
        await trio.lowlevel.checkpoint()
        return [self._row(name) for name in sorted(self._channels)]

    def _row(self, channel: str) -> ChannelRow:
        waiting = self._waiting(channel)
        failed = [each for each in waiting.values() if each.state == "failed"]
        moments = [each.next_attempt_at for each in failed if each.next_attempt_at is not None]
        return attrs.evolve(
            self._channels[channel][1],
            pending=len(waiting),
            retrying=len(failed),
            oldest_at=min((self._notifications[number][0] for number in waiting), default=None),
            next_attempt_at=_time(min(moments)) if moments else None,
        )

    async def trim_notifications(self, before: float, limit: int) -> int:
        """See :meth:`storage.notifications.Notifications.trim_notifications`."""
        await trio.lowlevel.checkpoint()
        old = [number for number, (at, _each) in self._notifications.items() if at < _time(before)][
            :limit
        ]
        for number in old:
            del self._notifications[number]
        self._told = {key: each for key, each in self._told.items() if key[1] not in old}
        return len(old)


def _new_row(name: str) -> ChannelRow:
    return ChannelRow(
        name=name,
        active=True,
        sent=0,
        failed=0,
        given_up=0,
        sent_at=None,
        failed_at=None,
        failing_since=None,
        error=None,
        pending=0,
        retrying=0,
        oldest_at=None,
        next_attempt_at=None,
    )


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
