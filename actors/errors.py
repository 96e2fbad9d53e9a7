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


class TransportError(ActorError):
    """The network or the WebSocket under a connection failed."""


class ConnectionEndedError(ChildError):
    """A life of a connection is over; its supervisor backs off and tries again."""

    def __init__(self, reason: str, sentence: str, *, state: str = "backoff") -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
        self.state = state
        """What is shown until the next life begins."""


class ConnectionHeldError(ConnectionEndedError):
    """It ended for a reason of ours, such as an absent database: not counted as a failure."""

    counted = False


class ConnectionStoppedError(ConnectionEndedError):
    """It must not come back by itself: a person has to act."""

    counted = False
    final = True
