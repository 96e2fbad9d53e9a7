"""What the API asks of the channels that carry notifications."""

import typing as t

from actors.channel_views import ChannelTest, ChannelView

__all__ = ["ChannelTest", "ChannelView", "ChannelsPort"]


class ChannelsPort(t.Protocol):
    """The channels of the configuration. A name that there is not raises ``KeyError``."""

    @property
    def names(self) -> tuple[str, ...]: ...

    async def views(self) -> list[ChannelView]:
        """All of them."""
        ...

    async def view(self, name: str) -> ChannelView: ...

    async def test(self, name: str) -> ChannelTest:
        """Send a test notification now, and wait for what comes of it."""
        ...
