"""The mail that actors exchange; all of it frozen."""

import typing as t

import attrs
import trio

from storage.api import ConnectionEvent, Envelope, Outcome, SyncRun


@attrs.frozen
class Settled:
    """The writer's answer: the envelope behind ``ticket`` is committed.

    ``outcome`` is None when it could not even be quarantined: then nothing may be acknowledged.
    """

    ticket: int
    outcome: Outcome | None


@attrs.frozen
class Commit:
    """Store an envelope; answered by ``Settled`` after the COMMIT, and never before."""

    envelope: Envelope
    ticket: int
    reply: "trio.MemorySendChannel[Settled]" = attrs.field(repr=False)
    """Has room for every envelope its owner may have under way, so the writer never waits."""


@attrs.frozen
class Quarantine:
    """Keep a stanza that cannot be read at all; answered like ``Commit``."""

    envelope: Envelope
    error: str
    ticket: int
    reply: "trio.MemorySendChannel[Settled]" = attrs.field(repr=False)


@attrs.frozen
class Fence:
    """Set ``passed`` once everything that was posted before is settled."""

    passed: trio.Event
    connection: str | None = None
    """Everything of this connection, that is; None: of all."""


@attrs.frozen
class Record:
    """Append a transition or statistics row; not answered."""

    row: ConnectionEvent | SyncRun


@attrs.frozen
class Drain:
    """Settle everything posted before, then end."""


@attrs.frozen
class Replay:
    """Read a quarantined stanza again, in the order of what arrives on the socket."""

    row: int
    stanza: bytes = attrs.field(repr=False)
    done: trio.Event = attrs.field(factory=trio.Event, eq=False)
    """Set once it is settled, one way or another."""


WriterMail: t.TypeAlias = Commit | Quarantine | Fence | Record | Drain
