"""The torture's proof can fail: every kind of disagreement is found, and told in a sentence."""

import collections.abc as cabc
import types
import typing as t

import attrs
import pytest

from daemon.torture.audit import Findings, compare, open_gaps
from daemon.torture.load import Load, Send
from simulator.core import Simulator, open_simulator
from simulator.ledger import Letter, Record
from simulator.letters import Received
from simulator.model import Account
from storage.api import UNDECRYPTABLE, ChatKind, ConversationRules, Envelope, ReceivedMessage
from storage.facts import OutboxStep
from storage.gaps import GapStep, OutageBegan, QueueAnnounced, QueueDrained, QueuedStanza
from storage.memory import MemoryStorage
from storage.queues import OutboxRequest

NAME: t.Final = "sales"
START: t.Final = 1_790_000_000  # unix seconds


@attrs.define
class Scene:
    """One connection and one customer."""

    simulator: Simulator
    storage: MemoryStorage
    connection: Account
    customer: Account
    sends: dict[str, Send] = attrs.field(factory=dict)
    conflicting: list[str] = attrs.field(factory=list)
    _offers: float = 0.0

    def owe(self, message_id: str, *, at: int = 1, offered: float | None = None) -> Record:
        """The simulator owes the connection a text, written at this second."""
        self._offers += 1
        letter = Letter(str(self.customer.pn), self.customer.pn, message_id)
        device = self.connection.pn.with_device(1)
        record = Record(letter, device, self.customer.pn, False, sent_at=START + at, routed_at=at)
        record.first_offered_at = self._offers if offered is None else offered
        self.simulator.ledger.routed(record)
        self.simulator.ledger.read(letter, "text", f"text {message_id}")
        return record

    async def store(
        self, message_id: str, *, at: int = 1, kind: str = "text", text: str | None = None
    ) -> None:
        """The daemon stores a text."""
        await self._store(message_id, at, kind, text or f"text {message_id}", from_me=False)

    async def _store(
        self, message_id: str, at: int, kind: str, text: str | None, *, from_me: bool
    ) -> None:
        message = ReceivedMessage(
            chat=str(self.customer.pn),
            chat_kind=ChatKind.DIRECT,
            sender=str(self.connection.pn if from_me else self.customer.pn),
            from_me=from_me,
            external_id=message_id,
            kind=kind,
            text=None if kind == UNDECRYPTABLE else text,
            sent_at=START + at,
        )
        await self.storage.apply([Envelope(connection=NAME, message=message)])

    async def send(self, key: str, *, state: str = "sent", arrivals: int = 1) -> None:
        """A message of the API's, which arrives so often."""
        message_id, text, to = f"ID{key}", f"answer {key}", self.customer
        request = OutboxRequest(kind="text", chat=str(to.pn), body={"text": text})
        row, _ = await self.storage.enqueue(NAME, key, request, external_id=message_id)
        await self._store(message_id, 1, "text", text, from_me=True)
        step = OutboxStep(id=row.id, state=state, reason="for a reason", at=1.0)
        await self.storage.apply([Envelope(connection=NAME, facts=(step,))])
        self.sends[key] = Send(connection=NAME, to=to.pn, text=text, external_id=message_id)
        own = self.connection.pn
        for _ in range(arrivals):
            to.phone.arrivals.append((own, message_id))
            to.phone.inbox.append(Received(own, own, message_id, "text", text, 1))

    async def compare(self) -> Findings:
        """The findings."""
        load = types.SimpleNamespace(
            sends=self.sends, conflicting=self.conflicting, history={}, customers=[self.customer]
        )
        team = {NAME: self.connection}
        return await compare(self.simulator, self.storage, team, t.cast(Load, load))


@pytest.fixture
async def scene() -> cabc.AsyncIterator[Scene]:
    """Nothing owed, nothing stored."""
    storage = MemoryStorage()
    await storage.ensure_connection(NAME, ConversationRules())
    async with open_simulator(seed=1) as simulator:
        connection = simulator.create_account("Company")
        yield Scene(simulator, storage, connection, simulator.create_account("Ana"))


async def test_agreement(scene: Scene) -> None:
    """Everything is there once, in the order of writing; nothing is told."""
    for message_id, at in (("1", 1), ("2", 1), ("3", 2)):
        scene.owe(message_id, at=at)
        await scene.store(message_id, at=at)
    await scene.send("a")
    await scene.send("b", state="unknown", arrivals=0)
    assert await scene.compare() == Findings(offered=5, stored=5, outbox_unknown=1)


async def test_what_is_lost_is_named(scene: Scene) -> None:
    """Not there, there with another text, there without a content."""
    for message_id in "123":
        scene.owe(message_id)
    await scene.store("2", text="another")
    await scene.store("3", kind=UNDECRYPTABLE)
    found = await scene.compare()
    assert (found.offered, found.stored, found.lost) == (3, 0, 3)
    assert found.undecryptable_left == 1
    assert sum("lost" in each for each in found.discrepancies) == 3


async def test_what_nobody_wrote_is_unexpected(scene: Scene) -> None:
    """A row without a record."""
    await scene.store("1")
    assert (await scene.compare()).unexpected == 1


async def test_order_within_a_second(scene: Scene) -> None:
    """Arrival decides there, so it must be the order of writing."""
    scene.owe("1")
    scene.owe("2")
    await scene.store("2")
    await scene.store("1")
    found = await scene.compare()
    assert (found.out_of_order, found.reordered_by_server) == (1, 0)
    assert len(found.discrepancies) == 1
    assert "out of order" in found.discrepancies[0]


async def test_order_over_seconds(scene: Scene) -> None:
    """WhatsApp's time decides there, whatever the arrival."""
    scene.owe("1", at=1)
    scene.owe("2", at=2)
    await scene.store("2", at=2)
    await scene.store("1", at=1)
    assert (await scene.compare()).out_of_order == 0


async def test_the_server_may_swap_what_is_of_one_second(scene: Scene) -> None:
    """Nobody but the author could know better; over seconds that is no excuse."""
    scene.owe("1", offered=2.0)
    scene.owe("2", offered=1.0)
    await scene.store("2")
    await scene.store("1")
    found = await scene.compare()
    assert (found.out_of_order, found.reordered_by_server) == (0, 1)


@pytest.mark.parametrize(
    ("state", "arrivals", "twice", "lost", "failed"),
    [
        ("sent", 2, 1, 0, 0),
        ("unknown", 2, 1, 0, 0),
        ("delivered", 0, 0, 1, 0),
        ("failed", 0, 0, 0, 1),
    ],
)
async def test_what_the_outbox_says_is_true(
    scene: Scene, state: str, arrivals: int, twice: int, lost: int, failed: int
) -> None:
    """At most once, and there if it says so."""
    await scene.send("a", state=state, arrivals=arrivals)
    found = await scene.compare()
    assert (found.outbox_sent_twice, found.outbox_lost, found.outbox_failed) == (
        twice,
        lost,
        failed,
    )
    assert found.discrepancies


async def test_one_key_is_one_message(scene: Scene) -> None:
    """A key that was answered with two is told."""
    scene.conflicting.append("a")
    assert (await scene.compare()).outbox_sent_twice == 1


async def test_gaps_that_stay_open_are_found(scene: Scene) -> None:
    """Something missing counts; what the quarantine alone keeps open does not, nor what goes on."""
    storage = scene.storage

    async def step(gap: GapStep) -> None:
        await storage.apply([Envelope(connection=NAME, gap=gap)])

    async def outage(login: str, announced: int) -> None:
        await step(OutageBegan(kind="ended", reason="network", at=START))
        await step(
            QueueAnnounced(
                login=login, number=0, at=START, announced=announced, messages=0, horizon=START
            )
        )

    await outage("a", 1)
    queued = QueuedStanza(login="a", number=1, is_message=True)
    await storage.quarantine(Envelope(connection=NAME, gap=queued, stanza=b"nonsense"), "malformed")
    await step(QueueDrained(login="a", number=2, at=START))
    assert (await storage.gap_statistics())["open"] == 1
    assert await open_gaps(storage, {NAME}) == 0
    await outage("b", 1)
    assert await open_gaps(storage, {NAME}) == 0
    await step(QueueDrained(login="b", number=1, at=START))
    assert await open_gaps(storage, {NAME}) == 1
    assert await open_gaps(storage, {"another"}) == 0
