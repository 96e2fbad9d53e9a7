"""From bytes to the inbox: what storage shows of messages, answers and their later reading."""

import json
import pathlib
import typing as t

import attrs
import pytest
import trio
from stored_rows import CUSTOMER, NAME, OWN, START
from trio.testing import MockClock

from actors.addons import AddonResolver
from actors.reading import Origin, message_of
from actors.reprocess import ReprocessReport, reprocess
from storage.api import (
    ConversationRules,
    Envelope,
    RecordChange,
    RecordKind,
    Verdict,
)
from storage.facts import AddressPair
from storage.memory import MemoryStorage
from whatsapp import addons, compose
from whatsapp.content import TargetKey, read_content
from whatsapp.jid import Jid
from whatsapp.proto.records_pb2 import DeviceRecord

VECTORS = json.loads(
    (
        pathlib.Path(__file__).parents[1] / "whatsapp" / "vectors" / "message_vectors.json"
    ).read_text()
)
POLL: t.Final = compose.poll("Lunch?", ["Tea", "Café"], selectable=1, secret=b"s" * 32)
KEY: t.Final = TargetKey(remote_jid=OWN[0], from_me=False, id="POLL")


def envelope(raw: bytes, external_id: str, *, from_me: bool = False) -> Envelope:
    """A message between the customer and us."""
    origin = Origin(
        chat=Jid.parse(CUSTOMER[0]),
        sender=Jid.parse(OWN[0] if from_me else CUSTOMER[0]),
        from_me=from_me,
        own=tuple(Jid.parse(jid) for jid in OWN),
        id=external_id,
        timestamp=START,
    )
    return Envelope(connection=NAME, message=message_of(read_content(raw), origin))


@pytest.fixture
async def storage() -> MemoryStorage:
    """A paired connection, and a customer known under both addresses."""
    storage = MemoryStorage(clock=lambda: float(START))
    await storage.ensure_connection(NAME, ConversationRules())
    device = DeviceRecord(jid=OWN[0], lid=OWN[1]).SerializeToString()
    record = RecordChange(RecordKind.DEVICE, "", device)
    pair = AddressPair(CUSTOMER[0], CUSTOMER[1], "usync")
    await storage.apply([Envelope(connection=NAME, records=(record,), facts=(pair,))])
    return storage


async def test_a_vote_shows_in_the_inbox_whenever_its_poll_comes(
    autojump_clock: MockClock, nursery: trio.Nursery, storage: MemoryStorage
) -> None:
    """Sent under LIDs, before the poll is here: afterwards the poll tells who chose what."""
    parent = addons.Parent(id="POLL", authors=(OWN[1],), raw=POLL)
    vote = addons.encrypt_vote(["Café"], parent, CUSTOMER[1], b"i" * 12)
    resolver = AddonResolver(storage, lambda _name: tuple(Jid.parse(jid) for jid in OWN))
    await nursery.start(resolver.run)
    await storage.apply([envelope(compose.poll_vote(KEY, vote, 5), "VOTE")])
    resolver.wake()
    await trio.sleep(5)
    (poll,) = await storage.apply([envelope(POLL, "POLL", from_me=True)])
    resolver.wake()
    await trio.sleep(5)
    assert poll.message_id is not None
    shown = await storage.message(poll.message_id)
    assert shown is not None
    assert [(vote.voter.addresses, vote.options) for vote in shown.votes] == [(CUSTOMER, ("Café",))]
    assert await storage.pending_addons(0, 10) == []
    nursery.cancel_scope.cancel()


async def test_every_kind_is_stored_and_reads_the_same_again(storage: MemoryStorage) -> None:
    """Nothing that a reading gives is changed on its way through storage."""
    messages = [bytes.fromhex(data) for data in VECTORS["messages"].values()]
    batch = [envelope(raw, f"M{number}") for number, raw in enumerate(messages)]
    outcomes = await storage.apply(batch)
    assert {outcome.verdict for outcome in outcomes} == {Verdict.STORED}
    assert await reprocess(storage, NAME) == ReprocessReport(read=len(batch))


async def test_unknown_messages_are_read_in_place(storage: MemoryStorage) -> None:
    """Row, conversation and time stay; kind, text and file are those of today."""
    plain = envelope(bytes.fromhex(VECTORS["messages"]["image"]), "IMAGE")
    assert plain.message is not None
    older = {"kind": "unknown", "text": None, "detail": {}, "media": None}
    unread = Envelope(connection=NAME, message=attrs.evolve(plain.message, **older))
    (outcome,) = await storage.apply([unread])
    assert outcome.message_id is not None
    assert await reprocess(storage) == ReprocessReport(read=1, changed=1)
    shown = await storage.message(outcome.message_id)
    assert shown is not None
    assert (shown.kind, shown.text, shown.conversation) == (
        "image",
        "look",
        outcome.conversation_id,
    )
    assert shown.media is not None
    assert shown.media.mimetype == "image/jpeg"


async def test_a_file_that_was_not_seen_is_added(storage: MemoryStorage) -> None:
    """Even where nothing else reads differently."""
    plain = envelope(bytes.fromhex(VECTORS["messages"]["gif"]), "GIF")
    assert plain.message is not None
    (outcome,) = await storage.apply(
        [Envelope(connection=NAME, message=attrs.evolve(plain.message, media=None))]
    )
    assert await reprocess(storage) == ReprocessReport(read=1, changed=1)
    assert outcome.message_id is not None
    shown = await storage.message(outcome.message_id)
    assert shown is not None
    assert shown.media is not None
    assert await reprocess(storage) == ReprocessReport(read=1)
