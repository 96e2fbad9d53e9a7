"""The gap ledger: each outage of a connection is a row, closed only when its counts match.

Theory of operation. While a connection does not receive, WhatsApp keeps what it owes in an offline
queue; on the next login it announces how much that is, sends it, and says when it has sent all.
A row follows one outage through this: ``out`` (it goes on), ``draining`` (the queue comes in),
``open`` (the end marker came, or the next outage did, and the counts do not match yet), ``closed``.

The steps below travel in the envelopes of the stanzas that they count, and commit with them, in
their order. So whatever a crash leaves behind is right: what is counted is stored, and what is
stored from the queue is counted. Every step of a login has a number and counts once, however often
its batch is applied.
"""

import datetime as dt
import typing as t

import attrs

KINDS: t.Final = ("ended", "silent", "died", "stopped", "linked")
"""``ended``: the connection broke or was ended; ``silent``: it was open, and nothing came;
``died``: the daemon was gone; ``stopped``: nobody wanted it to run; ``linked``: its first login."""

MARGIN: t.Final = 86_400.0  # seconds before a gap in which a chat must have been active
PAGE: t.Final = 500  # rows that one call gives at most


@attrs.frozen(kw_only=True)
class OutageBegan:
    """From now on nothing is received. Changes nothing while an outage goes on already; a queue
    that was still draining is interrupted."""

    kind: str  # one of :data:`KINDS`
    reason: str  # stable code, such as "network"
    at: float | None  # unix seconds; None: the last moment at which rows show it alive


@attrs.frozen(kw_only=True)
class QueueAnnounced:
    """The login after an outage: WhatsApp said what waits. Of several for a login the greatest
    counts hold."""

    login: str  # names the life of the connection
    number: int
    at: float  # unix seconds
    announced: int | None  # stanzas; None: not told
    messages: int | None  # of those
    horizon: float | None  # unix seconds by WhatsApp's clock: what is older was in the queue
    began: OutageBegan | None = None
    """The outage before this login, for when its own step was lost; None: there was none."""


@attrs.frozen(kw_only=True)
class QueuedStanza:
    """The envelope's stanza came from the offline queue; what became of it is counted."""

    login: str
    number: int
    is_message: bool  # else a receipt, a notification or a call
    others: int = 0  # stanzas that came before it and needed no envelope
    quarantined: str | None = None  # fingerprint of its quarantine row; set by storage


@attrs.frozen(kw_only=True)
class QueueDrained:
    """The queue has ended, and everything that came of it is in the steps before this one."""

    login: str
    number: int
    at: float  # unix seconds
    others: int = 0


@attrs.frozen
class DeviceReplaced:
    """A new device takes the place of the old, whose queue nobody will ever see."""


GapStep: t.TypeAlias = OutageBegan | QueueAnnounced | QueuedStanza | QueueDrained | DeviceReplaced


@attrs.frozen(kw_only=True)
class GapRow:
    """One outage. ``announced`` is the sum of what became of it, ``covered`` and ``missing``."""

    id: int
    connection: str
    kind: str
    reason: str
    state: str  # "out", "draining", "open", "closed"
    from_at: dt.datetime
    login_at: dt.datetime | None
    to_at: dt.datetime | None  # the queue had ended; or the next outage began
    interrupted: bool  # the next outage began before the queue had ended
    device_replaced: bool  # another device was linked: what the old one was owed is unknown
    announced: int | None  # stanzas; None: nothing was announced
    announced_messages: int | None
    stored: int  # messages, new here
    duplicate: int  # messages that were here already
    undecryptable: int  # messages that came unreadable
    quarantined: int  # messages that could not be stored
    other: int  # receipts, notifications, calls, and messages that carry none
    covered: int  # came in a later drain
    missing: int
    waiting: int  # of the undecryptable ones: may still come
    given_up: int  # of the undecryptable ones: will never come
    in_quarantine: int  # of the quarantined ones: still there
    covered_by: int | None  # the gap in whose drain the rest came
    resolution: str | None  # closed: "complete", "covered", "given_up", "accepted"
    closed_at: dt.datetime | None
    accepted_by: str | None


class Gaps(t.Protocol):
    """The gap ledger of storage; raises as ``Storage`` does."""

    async def gaps(
        self,
        connection: str | None,
        *,
        open_only: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[GapRow]:
        """Gaps with ids below ``before``, the newest first; those that are not closed, or all."""
        ...

    async def accept_gap(self, gap_id: int, by: str) -> GapRow | None:
        """Close a gap as it is: what is missing stays counted, with who accepted it and when.
        None when there is no such gap.

        Raises:
            StorageRejectedError: it is closed already, or its outage is not over.
        """
        ...

    async def forget_gaps(self, before: float, limit: int) -> int:
        """Delete up to ``limit`` gaps that closed before (unix seconds) and as many of their items;
        how many rows. Open ones stay, and the newest of each connection."""
        ...

    async def gap_statistics(self) -> dict[str, int]:
        """``open`` gaps whose outage is over, how much is ``missing``, ``waiting`` (unreadable)
        and ``in_quarantine`` in them, how many have a ``device_replaced``; outages ``ongoing``."""
        ...
