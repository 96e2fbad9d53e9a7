"""A flood on a slow database, through whole connections: nobody is taken for dead."""

import collections.abc as cabc

import trio
import trio.testing

from storage.api import Envelope, Outcome
from tests.actors.conftest import FaultyStorage
from tests.actors.world import open_world


class SlowStorage(FaultyStorage):
    """Each commit takes a while, once told so."""

    commit: float = 0.0  # seconds

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        await trio.sleep(self.commit)
        return await super().apply(batch)


async def test_a_flood_on_a_slow_database_ends_no_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Answers to pings wait behind what we do not read yet. The socket is not dead, we are slow:
    the connection stays, and so does the quiet one, whose messages are stored meanwhile."""
    storage = SlowStorage()
    async with open_world(storage, "sales", "support", in_flight=1) as world:
        customer = world.simulator.create_account("customer")
        await trio.sleep(130)
        dials, storage.commit = world.dials, 1.0
        for number in range(320):
            await customer.phone.send_text(world.accounts["sales"].pn, f"flood {number}")
        for number in range(4):
            await trio.sleep(10.3)
            await customer.phone.send_text(world.accounts["support"].pn, f"quiet {number}")
            await trio.sleep(3.1)
            assert f"quiet {number}" in _texts(storage, "support")
        await world.settled()
        assert world.dials == dials
        assert [each.state for each in world.fleet.status()] == ["online", "online"]
        assert _texts(storage, "sales") == [f"flood {number}" for number in range(320)]


def _texts(storage: FaultyStorage, name: str) -> list[str]:
    return [row["text"] or "" for row in storage.messages(name) if row["kind"] != "system"]
