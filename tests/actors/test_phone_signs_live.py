"""Signs of the phone, from a real connection to a phone of the simulator."""

import pathlib

import trio
import trio.testing

from actors.phones import Phones
from tests.actors.conftest import NAME
from tests.actors.whole_world import open_whole, wall_clock


async def test_a_phone_shows_itself_by_writing_and_by_answering(
    autojump_clock: trio.testing.MockClock, tmp_path: pathlib.Path
) -> None:
    """A customer's message is no sign; one that is written on the phone is, and so is its answer
    when it is asked. A phone that is off gives none."""
    async with open_whole(tmp_path) as world:
        customer = world.simulator.create_account("customer")
        await world.settled()
        await trio.sleep(1000)

        def seen() -> float | None:
            [status] = world.fleet.status(NAME)
            return status.phone_seen_at

        before = seen()
        await customer.phone.send_text(world.team.pn, "from a customer")
        await world.settled()
        assert seen() == before
        await world.phone.send_text(customer.pn, "from the team's phone")
        await world.settled()
        written = seen()
        assert written is not None
        assert abs(written - wall_clock()) < 5
        await trio.sleep(1000)
        await world.fleet.ask_phone(NAME)
        await trio.sleep(60)
        await world.settled()
        answered = seen()
        assert answered is not None
        assert answered - written > 900
        world.phone.answers = False
        await trio.sleep(1000)
        phones = Phones(world.storage, world.fleet, wall_clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(phones.run)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        assert phones.seen_at(NAME) == answered
        assert (await world.storage.phone_signs())[NAME] == answered
