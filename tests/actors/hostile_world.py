"""Two connections and a customer, one of the connections with a server that turns on it."""

import collections.abc as cabc
import contextlib
import typing as t
from unittest import mock

import pytest

from simulator import Account
from tests.actors.conftest import FaultyStorage
from tests.actors.world import World, open_world
from whatsapp.iq import prekeys

NAME: t.Final = "sales"
OTHER: t.Final = "support"
PREKEYS: t.Final = 30  # instead of hundreds, which take long to make
LONGEST: t.Final = 500  # characters that an operator is asked to read

_WAY_UP: t.Final = ("fence", "dialling", "logged_in", "online")


@pytest.fixture
def few_prekeys() -> cabc.Iterator[None]:
    """Pairing is quick."""
    with mock.patch.object(prekeys, "INITIAL_UPLOAD", PREKEYS):
        yield


class Watch:
    """What happened to the connections since it was made."""

    def __init__(self, world: World, storage: FaultyStorage) -> None:
        self.storage = storage
        self.said = {NAME: ["before"], OTHER: ["before"]}
        self._seen = len(storage.recorded)

    def reasons(self, name: str) -> list[str]:
        """Reasons of a connection's events, but those of the way up."""
        events = [
            event for event in self.storage.recorded[self._seen :] if event.connection == name
        ]
        assert all(event.sentence and len(event.sentence) < LONGEST for event in events)
        return [event.reason for event in events if event.reason not in _WAY_UP]

    def texts(self, name: str) -> list[str]:
        """What is stored, in the order of arrival."""
        return [row["text"] or "" for row in self.storage.messages(name) if row["kind"] == "text"]

    def kinds(self, kind: str) -> int:
        """How many messages of a kind the connection has."""
        return sum(row["kind"] == kind for row in self.storage.messages(NAME))


@contextlib.asynccontextmanager
async def hostile_world(
    storage: FaultyStorage, **settings: t.Any
) -> cabc.AsyncIterator[tuple[World, Account, Watch]]:
    """Both connections are online and have heard of the customer."""
    async with open_world(storage, NAME, OTHER, **settings) as world:
        ana = world.simulator.create_account("Ana")
        for each in (NAME, OTHER):
            await ana.phone.send_text(world.accounts[each].pn, "before")
        await world.settled()
        yield world, ana, Watch(world, storage)


async def say(world: World, ana: Account, watch: Watch, text: str) -> None:
    """The customer writes to both."""
    for name in (NAME, OTHER):
        await ana.phone.send_text(world.accounts[name].pn, text)
        watch.said[name].append(text)


async def is_well(world: World, ana: Account, watch: Watch, text: str = "after") -> None:
    """Both connections serve, nothing is lost or doubled, and the other one noticed nothing."""
    await say(world, ana, watch, text)
    await world.until_state(NAME, "online")
    await world.settled()
    for name in (NAME, OTHER):
        assert watch.texts(name) == watch.said[name]
    assert watch.reasons(OTHER) == []
