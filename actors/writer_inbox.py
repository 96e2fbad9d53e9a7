"""The writer's mailboxes: a lane for each connection, bounded by number and bytes together."""

import typing as t

from actors.messages import Commit, Drain, Fence, Quarantine, Record, WriterMail
from storage.api import Envelope
from supervisor.fair_mailbox import FairMailbox
from supervisor.fair_queue import Lane

Inbox: t.TypeAlias = FairMailbox[WriterMail]

PLACES: t.Final = 4096
BYTES: t.Final = 64 * 1024 * 1024
ROWS: t.Final = ("rows",)
"""The lane of transitions and statistics, of all connections together: each is a transaction of
its own, so that they are written a few at a time, and nobody waits for them to be posted."""
ROWS_RESERVED: t.Final = 4096


def writer_inbox(places: int = PLACES, total_bytes: int = BYTES) -> Inbox:
    """A mailbox that holds about so many envelopes, and no more than so many bytes of them."""
    place = max(1, total_bytes // places)

    def places_of(mail: WriterMail) -> int:
        match mail:
            case Commit(envelope=envelope) | Quarantine(envelope=envelope):
                return max(1, -(-envelope_size(envelope) // place))
            case _:
                return 1

    return FairMailbox(places, key=lane_of, places=places_of, own={ROWS: ROWS_RESERVED})


def lane_of(mail: WriterMail) -> Lane | None:
    """The connection that mail belongs to, or ``ROWS``; None: it concerns everything."""
    match mail:
        case Commit(envelope=envelope) | Quarantine(envelope=envelope):
            return envelope.connection
        case Record():
            return ROWS
        case Fence(connection=connection):
            return connection
        case Drain():
            return None
        case other:
            t.assert_never(other)


def envelope_size(envelope: Envelope) -> int:
    """Bytes of payload in an envelope, roughly."""
    size = len(envelope.stanza) + sum(len(change.value or b"") for change in envelope.records)
    if (message := envelope.message) is not None:
        size += len(message.raw) + len(message.text or "")
    return size
