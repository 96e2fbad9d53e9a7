"""What is in quarantine is tried again with the code of now."""

import collections.abc as cabc

import attrs
import pytest
import trio
import trio.testing

from actors import intake
from actors.line import NotOnlineError
from actors.restoring import NoWayOutError, Restorer
from storage.api import Envelope
from storage.quarantine import QuarantineRow
from tests.actors.conftest import NAME, FaultyStorage
from tests.actors.world import World, open_world
from whatsapp.binary import codec
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.stanzas import MessageStanza

Clock = trio.testing.MockClock


def restorer(world: World) -> Restorer:
    """Over the world's daemon."""
    return Restorer(world.storage, world.writer.inbox, world.fleet)


async def only_row(storage: FaultyStorage) -> QuarantineRow:
    """The one row there is, resolved or not."""
    [row] = await storage.quarantined(resolved=True)
    return row


def texts(storage: FaultyStorage) -> list[str | None]:
    """What is stored."""
    return [row["text"] for row in storage.messages(NAME)]


async def quarantined(world: World, count: int = 1) -> None:
    """Wait until so much is in quarantine."""
    await world.until(
        lambda: world.fleet.status(NAME)[0].quarantined == count, f"{count} quarantined"
    )


async def test_a_message_that_the_database_refused(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The rest of its batch is stored; it is stored from what was kept, once the cause is gone;
    its keys are used all the while, and the next message of the same sender opens."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        for text in ("one", "poison", "three"):
            await customer.phone.send_text(world.accounts[NAME].pn, text)
        await quarantined(world)
        assert texts(storage) == ["one", "three"]
        refused = await restorer(world).retry((await only_row(storage)).id)
        assert refused is not None
        assert (refused.way_out, refused.attempts, refused.error) == ("message", 2, "still poison")
        await quarantined(world)
        storage.refused_word = "cured"
        row = await restorer(world).retry(refused.id)
        assert row is not None
        assert (row.way_out, row.resolution, row.attempts) == ("resolved", "stored", 3)
        assert texts(storage) == ["one", "three", "poison"]
        assert world.fleet.status(NAME)[0].quarantined == 0
        assert await restorer(world).retry(row.id) == row  # and nothing happens
        await customer.phone.send_text(world.accounts[NAME].pn, "four")
        await world.until(lambda: texts(storage)[-1] == "four", "the session goes on")


async def test_after_a_restart_and_a_redelivery(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """What is kept needs no connection; a new daemon counts what is left."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.accounts[NAME].pn, "poison")
        await quarantined(world)
        await world.kill_daemon()
        await world.start_daemon()
        await world.fleet.stop(NAME)
        storage.refused_word = "cured"
        row = await only_row(storage)
        async with trio.open_nursery() as nursery:  # twice at once
            for _ in range(2):
                nursery.start_soon(restorer(world).retry, row.id)
        assert texts(storage) == ["poison"]
        assert world.fleet.status(NAME)[0].quarantined == 0


async def test_the_database_is_away(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """The attempt goes on when it is back."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.accounts[NAME].pn, "poison")
        await quarantined(world)
        row = await only_row(storage)
        storage.refused_word, storage.away = "cured", True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(restorer(world).retry, row.id)
            await trio.sleep(5)
            assert (await only_row(storage)).resolved_at is None
            storage.away = False
        assert texts(storage) == ["poison"]


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> cabc.Callable[[bool], None]:
    """Makes the code one that cannot read messages, and one that can again."""
    real = intake.parse_message

    def refuse(*_args: object) -> MessageStanza:
        raise RemoteProtocolError("an attribute that nobody knows")

    def switch(on: bool) -> None:
        monkeypatch.setattr(intake, "parse_message", refuse if on else real)

    return switch


async def test_a_stanza_that_could_not_be_read(
    autojump_clock: Clock, storage: FaultyStorage, blind: cabc.Callable[[bool], None]
) -> None:
    """It was never opened: the live connection does it, in turn with what arrives."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.accounts[NAME].pn, "hello")
        await world.until(lambda: texts(storage) == ["hello"], "a session")
        blind(True)
        await customer.phone.send_text(world.accounts[NAME].pn, "strange")
        await quarantined(world)
        row = await only_row(storage)
        assert (row.way_out, row.opened) == ("stanza", False)
        again = await restorer(world).retry(row.id)
        assert again is not None
        assert again.attempts == 2
        assert again.error == "still malformed: an attribute that nobody knows"
        await quarantined(world)
        blind(False)
        await customer.phone.send_text(world.accounts[NAME].pn, "normal")
        await world.until(lambda: texts(storage)[-1] == "normal", "out of order")
        done = await restorer(world).retry(row.id)
        assert done is not None
        assert (done.way_out, done.resolution) == ("resolved", "stored")
        assert texts(storage) == ["hello", "normal", "strange"]
        assert world.fleet.status(NAME)[0].quarantined == 0


async def test_a_stanza_needs_its_connection(
    autojump_clock: Clock, storage: FaultyStorage, blind: cabc.Callable[[bool], None]
) -> None:
    """Without it nothing changes, and it is said what to do."""
    async with open_world(storage, NAME) as world:
        customer = world.simulator.create_account("customer")
        blind(True)
        await customer.phone.send_text(world.accounts[NAME].pn, "strange")
        await quarantined(world)
        blind(False)
        row = await only_row(storage)
        await world.fleet.stop(NAME)
        with pytest.raises(NotOnlineError, match="start sales, then try again"):
            await restorer(world).retry(row.id)
        assert await only_row(storage) == row


async def test_a_frame_that_holds_nothing_to_store(
    autojump_clock: Clock, storage: FaultyStorage, blind: cabc.Callable[[bool], None]
) -> None:
    """A stream's end out of the quarantine ends nothing; the row is done with."""
    async with open_world(storage, NAME) as world:
        blind(True)
        [session] = world.simulator._sessions
        node = Node("message", {"from": Jid.parse("1@s.whatsapp.net"), "id": "X", "t": 1})
        await session._transport.send(session._stream.send(node))
        await quarantined(world)
        [entry] = storage._connections[NAME].quarantine.values()
        ending = Node("stream:error", {"code": "401"})
        entry.row = attrs.evolve(entry.row, stanza=codec.encode(ending))
        done = await restorer(world).retry(entry.id)
        assert done is not None
        assert done.resolution == "recorded"
        assert world.fleet.status(NAME)[0].state == "online"


async def test_no_way_out(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """What was opened and kept nothing is said to be lost; an unknown row is nobody's."""
    async with open_world(storage, NAME) as world:
        await storage.quarantine(
            Envelope(connection=NAME, handled="x y z", stanza=b"node"), "its facts are refused"
        )
        row = await only_row(storage)
        with pytest.raises(NoWayOutError, match="its keys are used"):
            await restorer(world).retry(row.id)
        assert await restorer(world).retry(row.id + 1) is None
