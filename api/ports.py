"""What the API asks of the daemon behind it, and no more."""

import collections.abc as cabc
import datetime as dt
import typing as t

from storage.api import ConversationRow


class ConnectionFacts(t.Protocol):
    """What a fleet tells about one connection."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str:
        """stopped, pairing, connecting, syncing, online, backoff, parked, conflict,
        logged_out or banned."""
        ...

    @property
    def since(self) -> dt.datetime: ...
    @property
    def reason(self) -> str:
        """A stable code: why it is in that state."""
        ...

    @property
    def sentence(self) -> str:
        """The same for people."""
        ...

    @property
    def retries(self) -> int: ...
    @property
    def paired(self) -> bool: ...
    @property
    def jid(self) -> str | None:
        """Masked for display."""
        ...

    @property
    def last_message_at(self) -> dt.datetime | None: ...
    @property
    def messages(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def undecryptable(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def in_flight(self) -> int:
        """Envelopes the writer has not settled yet."""
        ...

    @property
    def next_attempt_in(self) -> float | None:
        """Seconds until the next try, while there is one to wait for."""
        ...


class PairingFacts(t.Protocol):
    """How far the pairing of a connection is."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int:
        """Grows with every change."""
        ...

    @property
    def state(self) -> str:
        """waiting, code, paired or failed."""
        ...

    @property
    def qr(self) -> str | None:
        """The text to draw while ``state`` is ``code``."""
        ...

    @property
    def expires_in(self) -> float | None:
        """Seconds until WhatsApp no longer takes that code."""
        ...

    @property
    def sentence(self) -> str: ...


class FleetPort(t.Protocol):
    """All connections. An unknown name raises ``UnknownConnectionError``."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def status(self, name: str | None = None) -> cabc.Sequence[ConnectionFacts]:
        """One connection, or all of them."""
        ...

    async def start(self, name: str) -> None:
        """Run it, now and after a restart of the daemon."""
        ...

    async def stop(self, name: str) -> None:
        """Stop it, and leave it stopped after a restart of the daemon."""
        ...

    async def restart(self, name: str) -> None:
        """Stop it when it runs, then start it."""
        ...

    async def pair(self, name: str, *, force: bool = False) -> None:
        """Begin pairing.

        Raises:
            AlreadyPairedError: it is linked to a phone, and ``force`` is not set.
        """
        ...

    async def wait_pairing(self, name: str, after: int) -> PairingFacts:
        """Wait until the version of the pairing is greater than ``after``."""
        ...


class StoragePort(t.Protocol):
    """The part of storage that the API reads and orders; see ``storage.api.Storage``."""

    async def events(self, connection: str, limit: int) -> list[dict[str, t.Any]]: ...

    async def conversations(
        self, *, status: str | None, connection: str | None, limit: int
    ) -> list[ConversationRow]: ...

    async def open_conversation(self, conversation_id: int) -> ConversationRow | None: ...

    async def close_conversation(self, conversation_id: int) -> ConversationRow | None: ...

    async def statistics(self) -> dict[str, t.Any]: ...

    async def ping(self) -> float: ...
