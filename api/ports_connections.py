"""What the API asks of the connections, and what they tell."""

import collections.abc as cabc
import datetime as dt
import typing as t

from actors.adoption import Adoption
from storage.figures import SyncCounts

TypingState: t.TypeAlias = t.Literal["composing", "recording", "paused"]


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

    @property
    def until(self) -> dt.datetime | None:
        """When the state ends by itself, where that is known: the expiry of a ban."""
        ...

    @property
    def deaf(self) -> int:
        """How often it was found not to hear, and reset, since the daemon started."""
        ...

    @property
    def deaf_suspicion(self) -> "DeafFacts | None": ...
    @property
    def last_heartbeat_at(self) -> dt.datetime | None:
        """When WhatsApp let it in, or answered a ping, last."""
        ...

    @property
    def lag_seconds(self) -> float:
        """How long the oldest stanza that was received has waited, its commit included."""
        ...

    @property
    def logins(self) -> int:
        """How often it logged in since the daemon started."""
        ...

    @property
    def ends(self) -> cabc.Mapping[str, int]:
        """How often its lives ended since the daemon started, by reason code."""
        ...

    @property
    def processed(self) -> int:
        """What its sockets delivered since the daemon started, by outcome: stored,"""
        ...

    @property
    def skipped(self) -> int:
        """duplicates,"""
        ...

    @property
    def errors(self) -> int:
        """and what cannot be read yet, or is in quarantine."""
        ...

    @property
    def unrecorded(self) -> SyncCounts:
        """Of these, what no row of sync statistics holds yet: the minute under way."""
        ...


class DeafFacts(t.Protocol):
    """A connection seems not to hear what is sent to it."""

    @property
    def since(self) -> dt.datetime:
        """When something was heard last."""
        ...

    @property
    def why(self) -> str: ...


class IncidentFacts(t.Protocol):
    """What concerns many connections at once, and is told once for all of them."""

    @property
    def code(self) -> str:
        """Stable: ``outage`` (many connections fail alike) or ``outdated`` (WhatsApp refuses the
        client version)."""
        ...

    @property
    def since(self) -> dt.datetime: ...
    @property
    def sentence(self) -> str: ...
    @property
    def connections(self) -> int:
        """How many it concerns."""
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
        """The text to draw while ``state`` is ``code``, unless a number was given."""
        ...

    @property
    def code(self) -> str | None:
        """The code to type on the phone while ``state`` is ``code``, if a number was given."""
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

    def incidents(self) -> cabc.Sequence[IncidentFacts]:
        """What concerns many connections at once, just now."""
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

    async def pair(self, name: str, *, force: bool = False, phone: str | None = None) -> None:
        """Begin pairing; with ``phone``, a number in international form, by a code to type.

        Raises:
            AlreadyPairedError: it is linked to a phone, and ``force`` is not set.
            LocalProtocolError: ``phone`` is no phone number; nothing was changed.
        """
        ...

    async def adopt(self, name: str, adoption: Adoption, *, force: bool = False) -> None:
        """Give a stopped connection the device of another program; see ``actors.fleet``."""
        ...

    async def recover(self, name: str) -> None:
        """Accept that its keys are older than what was seen of them, and start it; see
        ``actors.fleet``."""
        ...

    async def logout(self, name: str) -> None:
        """Unlink the device and forget its keys.

        Raises:
            NotOnlineError: WhatsApp can be told only over a live connection; nothing changed.
            IqError: WhatsApp refused; nothing changed.
        """
        ...

    async def wait_pairing(self, name: str, after: int) -> PairingFacts:
        """Wait until the version of the pairing is greater than ``after``."""
        ...


class ActionsPort(t.Protocol):
    """What the connections do for the API besides starting and stopping. ``name`` is that of a
    configured connection: the routes have checked it."""

    def message_id(self, name: str) -> str:
        """A stanza id for a new message; never the same twice. The connection may be offline,
        even unpaired."""
        ...

    def outbox_changed(self, name: str) -> None:
        """Something was queued or is to be sent again. Waits for nothing; fine while offline."""
        ...

    async def typing(self, name: str, chat: str, state: TypingState) -> None:
        """Show in a chat (a bare address) that somebody types, records, or has stopped.

        Raises:
            NotOnlineError: there is nobody to show it to.
        """
        ...

    async def older_history(self, name: str, chat: str, count: int) -> str:
        """Ask the phone for up to ``count`` messages older than those known of a chat (a bare
        address); the id of the request. They come later, as a chunk of history.

        Raises:
            NotOnlineError: the phone cannot be asked now.
            NoHistoryError: nothing is known of the chat.
        """
        ...

    def history_changed(self, name: str) -> None:
        """Chunks of history are to be imported again. Waits for nothing."""
        ...

    async def fetch_media(self, connection: str, message_id: int) -> bool:
        """Fetch the file of a message soon, even if it was left out or given up; False when
        there is no such file, or it is stored or removed."""
        ...
