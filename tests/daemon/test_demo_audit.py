"""The demo's proof can fail: every kind of disagreement between ledger and database is found."""

import collections.abc as cabc

import attrs
import pytest

from daemon.demo.audit import Audit, audit, newest_ids
from daemon.demo.model import DemoOptions, Summary
from daemon.demo.view import verdict
from simulator.core import Simulator, open_simulator
from simulator.ledger import Letter, Record
from simulator.model import Account
from storage.api import ChatKind, ConversationRules, Envelope, ReceivedMessage
from storage.memory import MemoryStorage
from whatsapp.jid import Jid


@attrs.define
class Scene:
    """One connection, one customer, one group; what was owed is up to the test."""

    simulator: Simulator
    storage: MemoryStorage
    connection: Account
    customer: Account

    def owe(self, message_id: str, text: str, chat: Jid | None = None) -> None:
        """The simulator owes the connection a text of the customer."""
        chat = chat or self.customer.pn
        letter = Letter(str(chat), self.customer.pn, message_id)
        device = self.connection.pn.with_device(1)
        record = Record(letter, device, chat, from_me=False, sent_at=1, routed_at=1.0)
        self.simulator.ledger.routed(record)
        self.simulator.ledger.read(letter, "text", text)

    async def store(
        self, message_id: str, text: str, chat: Jid | None = None, sender: Jid | None = None
    ) -> None:
        """The daemon stores a text."""
        chat, sender = chat or self.customer.pn, sender or self.customer.pn
        message = ReceivedMessage(
            chat=str(chat),
            chat_kind=ChatKind.GROUP if chat.is_group else ChatKind.DIRECT,
            sender=str(sender),
            from_me=False,
            external_id=message_id,
            kind="text",
            text=text,
            sent_at=1,
        )
        await self.storage.apply([Envelope(connection="sales", message=message)])

    async def audit(self, skip: int = 0) -> Audit:
        """Compare."""
        accounts = {"sales": self.connection}
        return await audit(self.simulator, self.storage, accounts, {"sales": skip})


@pytest.fixture
async def scene() -> cabc.AsyncIterator[Scene]:
    """Nothing owed, nothing stored."""
    storage = MemoryStorage()
    await storage.ensure_connection("sales", ConversationRules())
    async with open_simulator(seed=1) as simulator:
        connection = simulator.create_account("Company")
        yield Scene(simulator, storage, connection, simulator.create_account("Ana"))


async def test_agreement(scene: Scene) -> None:
    """By phone number or hidden address, alone or in a group: the same message."""
    group = Jid("120363000000000001", "g.us")
    scene.owe("1", "hello")
    scene.owe("2", "hello again")
    scene.owe("3", "everybody", group)
    await scene.store("1", "hello")
    await scene.store("2", "hello again", scene.customer.lid, scene.customer.lid)
    await scene.store("3", "everybody", group, scene.customer.lid)
    found = await scene.audit()
    assert found == Audit(offered=3, stored=3, lost=0, stored_twice=0, unexpected=0)
    assert found.agrees


async def test_what_is_missing_is_lost(scene: Scene) -> None:
    """A message without a row, with another text, or for another author."""
    for number in "123":
        scene.owe(number, "hello")
    await scene.store("2", "hullo")
    await scene.store("3", "hello", sender=scene.connection.pn)
    found = await scene.audit()
    assert (found.stored, found.lost, found.unexpected) == (0, 3, 1)
    assert not found.agrees


async def test_what_is_there_twice_is_counted(scene: Scene) -> None:
    """One message stored under both addresses of its author is stored twice."""
    scene.owe("1", "hello")
    await scene.store("1", "hello")
    await scene.store("1", "hello", scene.customer.lid, scene.customer.lid)
    found = await scene.audit()
    assert (found.stored, found.stored_twice) == (1, 1)
    assert not found.agrees


async def test_what_nobody_sent_is_unexpected(scene: Scene) -> None:
    """Unless it is older than the simulator."""
    await scene.store("1", "hello")
    assert (await scene.audit()).unexpected == 1
    newest = await newest_ids(scene.storage, ["sales"])
    assert (await scene.audit(newest["sales"])).unexpected == 0
    assert not (await scene.audit(newest["sales"])).agrees, "nothing was offered"


def test_verdict() -> None:
    """Success needs something stored, nothing lost, nothing twice."""
    good = Summary(
        offered=5,
        stored=5,
        duplicates_offered=2,
        duplicates_skipped=2,
        lost=0,
        stored_twice=0,
        unexpected=0,
        conversations=1,
        reopened=0,
        restarts=0,
        seconds=61.2,
        messages_per_second=0.1,
    )
    assert good.succeeded
    assert "exactly once" in verdict(good)
    assert "5 of 5 messages stored in 0:01:01" in verdict(good)
    for changes in ({"lost": 1}, {"stored_twice": 1}, {"unexpected": 1}, {"stored": 0}):
        bad = attrs.evolve(good, **changes)
        assert not bad.succeeded
        assert "DISAGREE" in verdict(bad)


def test_names() -> None:
    """As many as asked for, all different."""
    assert DemoOptions(connections=2).names == ("sales", "support")
    assert len(set(DemoOptions(connections=100).names)) == 100
