"""Channels: how those are that carry notifications, and trying them out."""

import typing as t

from litestar import get, post
from litestar.params import FromPath

from actors.channel_views import ChannelTest, ChannelView
from api.backend import Backend, required
from api.ports_channels import ChannelsPort
from api.problems import ProblemError


def channel_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    def known(name: str | None = None) -> ChannelsPort:
        found = required(backend.channels, "channels")
        if name is not None and name not in found.names:
            there = ", ".join(found.names) or "none is configured"
            raise ProblemError("unknown-channel", 404, f"there is no channel {name!r}: {there}")
        return found

    @get("/channels", tags=["channels"], summary="All channels, and what they have to tell")
    async def channels() -> list[ChannelView]:
        return await known().views()

    @get("/channels/{name:str}", tags=["channels"], summary="One channel")
    async def channel(name: FromPath[str]) -> ChannelView:
        return await known(name).view(name)

    @post(
        "/channels/{name:str}/test",
        tags=["channels"],
        status_code=200,
        summary="Send a test notification, and what came of it",
        description="It is sent at once, past what waits. When the channel takes it, what has"
        " failed before is tried again at once. The answer may take 25 seconds.",
    )
    async def test(name: FromPath[str]) -> ChannelTest:
        return await known(name).test(name)

    return [channels, channel, test]
