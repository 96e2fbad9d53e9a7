"""What sending is configured with, and what it needs of storage."""

import typing as t

import attrs

from actors.composition import ContentStorage
from actors.devices import AddressStorage
from actors.pacing import Pace
from storage.queues import OutboxRow, SentMessage


class SentStorage(t.Protocol):
    """Where the messages of the past are."""

    async def sent_message(self, connection: str, external_id: str) -> SentMessage | None:
        """A message of the outbox by its stanza id; None: none of ours."""
        ...


class OutboxStorage(AddressStorage, ContentStorage, SentStorage, t.Protocol):
    """What sending needs of storage."""

    async def outbox_pending(self, connection: str, limit: int) -> list[OutboxRow]:
        """What is queued, in its order."""
        ...

    async def outbox_set_payload(self, connection: str, outbox_id: int, payload: bytes) -> bytes:
        """Keep the plaintext; returns the one that is kept."""
        ...

    async def settle_interrupted(self, connection: str) -> list[OutboxRow]:
        """sending → unknown."""
        ...


@attrs.frozen(kw_only=True)
class SenderSettings:
    """How a connection sends; times in seconds."""

    pace: Pace = attrs.field(factory=Pace)
    ack_timeout: float = attrs.field(default=75.0, validator=attrs.validators.gt(0))
    """For the server to take a message over."""
