"""Why a connection ends, and what is asked wrongly of the fleet."""

import typing as t

from supervisor.errors import ChildError


class ActorError(Exception):
    """Base of what this package raises towards its callers."""


class UnknownConnectionError(ActorError):
    """No connection of that name is configured."""

    def __init__(self, name: str, known: t.Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        names = ", ".join(self.known) or "none"
        super().__init__(f"no connection is called {name!r}; configured: {names}")


class AlreadyPairedError(ActorError):
    """Pairing again would replace a device that is linked already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"connection {name!r} is paired already; --force links it anew"
            " (the old device stays listed on the phone until it is removed there)"
        )


class NoReportError(ActorError):
    """There can be no report of that day."""


class NoChannelError(ActorError):
    """No channel takes reports."""

    def __init__(self) -> None:
        super().__init__(
            "no channel takes reports: add a [[channels]] table whose kinds hold report,"
            " then restart the daemon"
        )


class StillRunningError(ActorError):
    """A connection has to be stopped before its keys are replaced."""

    def __init__(self, name: str, state: str) -> None:
        self.name = name
        super().__init__(f"connection {name!r} is {state}; stop it first: zapvisor stop {name}")


class TransportError(ActorError):
    """The network or the WebSocket under a connection failed.

    ``reason`` is the stable code: ``network``, ``dns_failed``, ``tls_failed`` or ``proxy_failed``.
    """

    def __init__(self, text: str, *, reason: str = "network") -> None:
        super().__init__(text)
        self.reason = reason


class ConnectionEndedError(ChildError):
    """A life of a connection is over; its supervisor backs off and tries again."""

    def __init__(
        self,
        reason: str,
        sentence: str,
        *,
        state: str = "backoff",
        expires: float | None = None,
        until: float | None = None,
    ) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
        self.state = state
        """What is shown until the next life begins."""
        self.expires = expires
        """Seconds after which WhatsApp will let it in again, as WhatsApp says."""
        self.until = until
        """The same as unix seconds, once somebody has looked at the clock."""


class ConnectionHeldError(ConnectionEndedError):
    """It ended for a reason of ours, such as an absent database: not counted as a failure."""

    counted = False


class ConnectionPausedError(ConnectionEndedError):
    """It comes back by itself, but not soon, and it was no failure: its policy says when."""

    counted = False

    def after(
        self, seconds: float, sentence: str, *, until: float | None = None
    ) -> "ConnectionPausedError":
        """The same with the time to wait, and with what an operator reads."""
        paused = ConnectionPausedError(self.reason, sentence, state=self.state, until=until)
        paused.restart_after = seconds
        return paused


class PairingFailedError(ConnectionEndedError):
    """Nothing came of a pairing; the device that was linked before is as it was."""

    counted = False


class ConnectionStoppedError(ConnectionEndedError):
    """It must not come back by itself: a person has to act."""

    counted = False
    final = True
