"""What could not be stored: the rows, and how it gets out again."""

import datetime as dt
import typing as t

import attrs

if t.TYPE_CHECKING:
    from storage.api import Envelope, Outcome, ReceivedMessage


@attrs.frozen(kw_only=True)
class QuarantineRow:
    """One stanza or message that could not be stored, without what it says."""

    id: int
    connection: str
    chat: str | None  # None: it was never read that far
    sender: str | None
    external_id: str | None
    error: str  # of the newest attempt to store it
    attempts: int
    received_at: dt.datetime
    last_attempt_at: dt.datetime
    stanza_bytes: int
    kept: bool  # the message was read, and is kept as it was read
    opened: bool
    """Its ciphertext was opened, and cannot be a second time: the keys are used."""
    resolved_at: dt.datetime | None
    resolution: str | None  # the verdict with which it was stored
    message_id: int | None  # what it became

    @property
    def way_out(self) -> str:
        """``resolved``; ``message``: store what is kept; ``stanza``: read the stanza again;
        ``none``."""
        if self.resolved_at is not None:
            return "resolved"
        if self.kept:
            return "message"
        return "stanza" if self.stanza_bytes and not self.opened else "none"


@attrs.frozen(kw_only=True)
class QuarantinedStanza:
    """A row with all that was kept."""

    row: QuarantineRow
    stanza: bytes = attrs.field(repr=False)  # encoded node, or a frame that is none
    message: "ReceivedMessage | None"  # as it was read


class Quarantined(t.Protocol):
    """The part of storage that shows and empties the quarantine. Every method may raise
    ``StorageUnavailableError``."""

    async def quarantined(
        self,
        connection: str | None = None,
        *,
        resolved: bool = False,
        before: int | None = None,
        limit: int = 50,
    ) -> list[QuarantineRow]:
        """Rows, the newest first; with ``resolved``, those that got out, too."""
        ...

    async def quarantined_stanza(self, row_id: int) -> QuarantinedStanza | None:
        """One row and what was kept; None: there is none."""
        ...

    async def resolve(self, envelope: "Envelope") -> "Outcome":
        """Apply one envelope, and mark the row ``envelope.resolves`` resolved if it is not, in
        one transaction; ``Outcome.resolved`` tells.

        Raises:
            StorageRejectedError: it cannot be stored this time either; nothing was committed.
        """
        ...
