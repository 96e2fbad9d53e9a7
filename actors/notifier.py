"""The notifier: all channels of the configuration, for the tree, the API and who has news."""

import collections.abc as cabc
import functools
import itertools
import typing as t

import attrs
import structlog
import trio

from actors.channel_sending import Channel
from actors.channel_views import ChannelTest, ChannelView
from actors.channels import Carrier, ChannelSettings, Outcome
from actors.endurance import endure
from storage.errors import StorageError
from storage.notifications import (
    ChannelRow,
    Content,
    Notification,
    NotificationKind,
    Notifications,
    Severity,
)
from supervisor.spec import ChildSpec

TEST_PATIENCE: t.Final = 25.0  # seconds; the API waits no longer
STALE: t.Final = 2 * 86_400.0  # seconds; what is older when the daemon starts is no longer news

log: structlog.stdlib.BoundLogger = structlog.get_logger("channels")

TEST: t.Final = Content(
    subject="zapvisor: this is a test",
    text="This channel works: what zapvisor has to tell arrives here. Nothing is to be done.",
)
TESTS: t.Final[cabc.Mapping[str, Content]] = {
    "pt-BR": Content(
        subject="zapvisor: isto é um teste",
        text="Este canal funciona: o que o zapvisor tiver a avisar chega aqui. Nada a fazer.",
    )
}


class Notifier:
    """All channels. Unknown names raise ``KeyError``."""

    def __init__(
        self,
        channels: cabc.Iterable[tuple[ChannelSettings, Carrier]],
        storage: Notifications,
        *,
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
    ) -> None:
        self._channels = {
            settings.name: Channel(
                settings, carrier, storage, wall_clock=wall_clock, uniform=uniform
            )
            for settings, carrier in channels
        }
        self._storage = storage
        self._wall_clock = wall_clock
        self._tests = itertools.count()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the channels, in the order of the configuration."""
        return tuple(self._channels)

    async def begin(self) -> None:
        """Tell the database which channels there are, before anybody has news for them."""
        rules = [channel.settings.rule for channel in self._channels.values()]
        stale_before = self._wall_clock() - STALE
        given_up = await self._storage.set_channels(rules, stale_before=stale_before)
        if given_up:
            log.warning("channels.outdated", notifications=given_up)

    def children(self) -> list[ChildSpec]:
        """One child of the daemon's tree for each channel."""
        return [
            ChildSpec(
                id=f"channel-{name}",
                start=functools.partial(endure, f"channel-{name}", channel.run),
            )
            for name, channel in self._channels.items()
        ]

    def wake(self) -> None:
        """Notifications have been queued; without this they wait a few seconds."""
        for channel in self._channels.values():
            channel.wake()

    async def notify(self, notifications: cabc.Sequence[Notification]) -> int:
        """Queue notifications that belong to no other change; how many are new."""
        new = await self._storage.enqueue_notifications(notifications)
        self.wake()
        return new

    async def send_now(self, notification: Notification, within: float) -> dict[str, Outcome]:
        """Send one past the queue to all channels that take it, as when the database is away, and
        what came of it; channels that have no outcome ``within`` so many seconds are left out.
        Those without an error are to be ``told`` when it is queued later."""
        outcomes: dict[str, Outcome] = {}

        async def send(channel: Channel) -> None:
            outcome = outcomes[channel.settings.name] = await channel.send_now(notification)
            await channel.count(outcome)

        with trio.move_on_after(within):
            async with trio.open_nursery() as nursery:
                for channel in self._channels.values():
                    if channel.settings.rule.takes(notification):
                        nursery.start_soon(send, channel)
        return outcomes

    async def test(self, name: str) -> ChannelTest:
        """Send a test past the queue; when it arrives, what has failed is tried at once."""
        channel = self._channels[name]
        begun = trio.current_time()
        test = Notification(
            key=f"test:{name}:{self._wall_clock():.3f}:{next(self._tests)}",
            kind=NotificationKind.TEST,
            severity=Severity.INFO,
            **attrs.asdict(TEST),
            translations=TESTS,
            channels=(name,),
        )
        outcome = Outcome(error=f"no outcome within {TEST_PATIENCE:g} s")
        with trio.move_on_after(TEST_PATIENCE):
            outcome = await channel.send_now(test)
            await channel.count(outcome)
        error = outcome.error or outcome.refused
        if outcome.error is None:
            try:
                await self._storage.enqueue_notifications([attrs.evolve(test, told=(name,))])
                await self._storage.hurry_notifications(name)
            except StorageError as failure:
                log.debug("channel.not_counted", channel=name, error=str(failure))
            channel.wake()
        return ChannelTest(ok=error is None, error=error, seconds=trio.current_time() - begun)

    async def views(self) -> list[ChannelView]:
        """All of them, as they are now."""
        if not self._channels:
            return []
        rows = {row.name: row for row in await self._storage.channels()}
        return [
            _view(channel, rows[name]) for name, channel in self._channels.items() if name in rows
        ]

    async def view(self, name: str) -> ChannelView:
        """One of them."""
        channel = self._channels[name]
        [row] = [row for row in await self._storage.channels() if row.name == name]
        return _view(channel, row)


def _view(channel: Channel, row: ChannelRow) -> ChannelView:
    rule = channel.settings.rule
    figures = attrs.asdict(row)
    del figures["active"]
    return ChannelView(
        service=channel.carrier.service,
        kinds=tuple(sorted(kind.value for kind in rule.kinds)),
        severity=rule.severity.value,
        connections=tuple(sorted(rule.connections or ())),
        language=channel.settings.language,
        state="active" if row.failing_since is None else "failing",
        hanging=channel.hanging,
        **figures,
    )
