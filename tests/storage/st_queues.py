"""What the tests of the queues share."""

import typing as t

from st_helpers import CUSTOMER, NOW

from storage.api import Envelope, Outcome, Storage
from storage.facts import Delivery, DeliveryStatus, Fact, OutboxStep
from storage.queues import OutboxRequest, OutboxRow

REQUEST = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": "olá"})


async def tell(
    storage: Storage, *facts: Fact, connection: str = "sales", **fields: t.Any
) -> Outcome:
    """Commit facts as one stanza would."""
    [outcome] = await storage.apply([Envelope(connection=connection, facts=facts, **fields)])
    return outcome


async def queued(storage: Storage, key: str = "k1", **fields: t.Any) -> OutboxRow:
    """A message in the outbox; its stanza id is made of its key."""
    connection = fields.pop("connection", "sales")
    request = fields.pop("request", REQUEST)
    external_id = fields.pop("external_id", f"3EB0{key}")
    row, created = await storage.enqueue(connection, key, request, external_id=external_id)
    assert created
    return row


def step(
    row: OutboxRow, state: str, *, after: float = 1.0, reason: str | None = None
) -> OutboxStep:
    """A step of that message, so many seconds after NOW."""
    return OutboxStep(id=row.id, state=state, reason=reason, at=NOW + after)


def receipt(
    *rows: OutboxRow, status: DeliveryStatus = DeliveryStatus.DELIVERED, after: float = 2.0
) -> Delivery:
    """A receipt of the customer for those messages."""
    return Delivery(
        chat=CUSTOMER,
        direct=True,
        ids=tuple(row.external_id for row in rows),
        recipient=CUSTOMER,
        status=status,
        at=NOW + after,
    )
