"""Fixtures of the actor tests: a storage that fails on demand, and envelopes."""

import collections.abc as cabc
import typing as t

import pytest

from storage.api import (
    ChatKind,
    ConversationRules,
    Envelope,
    Outcome,
    ReceivedMessage,
    RecordChange,
    RecordKind,
)
from storage.errors import SealError, StorageRejectedError, StorageUnavailableError
from storage.memory import MemoryStorage

NAME: t.Final = "sales"
CUSTOMER: t.Final = "15550001111@s.whatsapp.net"
START: t.Final = 1_790_000_000


class FaultyStorage(MemoryStorage):
    """A memory storage that is away while told so, and refuses texts that hold a word."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: float(START))
        self.away = False
        self.away_for_readers = False
        self.away_after_commit = 0
        """So many next applies commit, and are reported as if the connection broke."""
        self.refused_word = "poison"
        self.refuse_quarantine = False
        self.batches: list[int] = []
        self.committed: list[str] = []
        self.recorded: list[t.Any] = []
        self.damaged: set[tuple[RecordKind, str]] = set()

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        if self.away:
            raise StorageUnavailableError("the database is away")
        for envelope in batch:
            if envelope.message and self.refused_word in (envelope.message.text or ""):
                raise StorageRejectedError("poison in the batch")
        outcomes = await super().apply(batch)
        self.batches.append(len(batch))
        self.committed += [e.message.external_id or "" for e in batch if e.message]
        if self.away_after_commit:
            self.away_after_commit -= 1
            raise StorageUnavailableError("the answer to the COMMIT was lost")
        return outcomes

    async def resolve(self, envelope: Envelope) -> Outcome:
        if self.away:
            raise StorageUnavailableError("the database is away")
        if envelope.message and self.refused_word in (envelope.message.text or ""):
            raise StorageRejectedError("still poison")
        return await super().resolve(envelope)

    async def quarantine(self, envelope: Envelope, error: str) -> Outcome:
        if self.refuse_quarantine:
            raise StorageRejectedError("not even that")
        return await super().quarantine(envelope, error)

    async def load_records(
        self, connection: str, kind: RecordKind, keys: cabc.Sequence[str]
    ) -> dict[str, bytes]:
        if self.away_for_readers:
            raise StorageUnavailableError("the database system is starting up")
        if any((kind, key) in self.damaged for key in keys):
            raise SealError(f"{kind.value} does not open")
        return await super().load_records(connection, kind, keys)

    async def record_event(self, event: t.Any) -> None:
        if self.away:
            raise StorageUnavailableError("the database is away")
        self.recorded.append(event)
        await super().record_event(event)


@pytest.fixture
async def storage() -> FaultyStorage:
    """An empty storage with the connection in it."""
    storage = FaultyStorage()
    await storage.ensure_connection(NAME, ConversationRules())
    return storage


def make_envelope(
    external_id: str, text: str = "hello", records: tuple[RecordChange, ...] = ()
) -> Envelope:
    """One text of the customer."""
    message = ReceivedMessage(
        chat=CUSTOMER,
        chat_kind=ChatKind.DIRECT,
        sender=CUSTOMER,
        from_me=False,
        external_id=external_id,
        kind="text",
        text=text,
        sent_at=START,
        raw=text.encode(),
    )
    return Envelope(connection=NAME, message=message, records=records, stanza=b"stanza")
