"""A running connection and the sessions of a person who is forgotten."""

import trio.testing

from storage.api import RecordKind
from tests.actors.conftest import NAME, FaultyStorage
from tests.actors.world import open_world, wall_clock


class Timed(FaultyStorage):
    """By the clock of the world."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = wall_clock


async def test_what_is_in_memory_is_not_stored_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A message of before the order, decrypted before and committed after it, is dropped with its
    session; the connection lets go of what it holds, and whoever writes later is understood: the
    first message is asked for again, with a new session."""
    storage = Timed()
    async with open_world(storage, NAME) as world:
        team, customer = world.accounts[NAME].pn, world.simulator.create_account("customer")

        async def kept() -> dict[str, bytes]:
            keys = [each.signal_address for each in (customer.pn, customer.lid) if each]
            return await storage.load_records(NAME, RecordKind.SESSION, keys)

        await customer.phone.send_text(team, "of before")
        await world.settled()
        assert await kept()
        storage.away = True
        await customer.phone.send_text(team, "of before, too")
        await trio.sleep(5)
        row = await storage.begin_erasure(
            address=str(customer.pn), connection=None, by="dpo", version="1"
        )
        assert row is not None
        storage.away = False
        await world.settled()
        assert await kept() == {}
        await world.fleet.release_records([*row.connections, "gone"])
        await trio.sleep(60)
        await customer.phone.send_text(team, "of later")
        await world.settled()
        await world.until(lambda: storage.messages(NAME)[-1]["text"] == "of later", "it is read")
        assert storage.messages(NAME)[-1]["retries"] == 1
        assert await kept()
        texts = [each["text"] for each in storage.messages(NAME) if each["kind"] == "text"]
        assert texts == [None, "of later"]
