"""From what ended a connection to what its supervisor shall do, and what the operator reads.

Source: docs/protocol.md#failures
"""

import trio

from actors.errors import (
    ConnectionEndedError,
    ConnectionHeldError,
    ConnectionStoppedError,
    TransportError,
)
from storage.errors import StorageUnavailableError
from supervisor.crash import leaves
from whatsapp.errors import RemoteProtocolError
from whatsapp.lifecycle import EndReason, StreamEnded


class ConnectionRestartError(ConnectionEndedError):
    """WhatsApp asked for a new socket: at once, and no failure."""

    counted = False
    restart_at_once = True


def ending_of(end: StreamEnded) -> ConnectionEndedError:
    """The ending that a stream end amounts to."""
    reason, detail = end.reason.value, end.detail
    match end.reason:
        case EndReason.RESTART_REQUIRED:
            return ConnectionRestartError(reason, "WhatsApp asked to reconnect")
        case EndReason.LOGGED_OUT | EndReason.LOCKED:
            return ConnectionStoppedError(
                reason,
                f"WhatsApp logged this device out ({detail}); its keys are kept;"
                " look at Linked devices on the phone, then pair again",
                state="logged_out",
            )
        case EndReason.CONFLICT:
            return ConnectionStoppedError(
                reason,
                f"another program uses this device's keys ({detail});"
                " stop it, then start this connection",
                state="conflict",
            )
        case EndReason.BANNED | EndReason.TEMPORARILY_BANNED:
            until = "" if end.expires is None else f" for {end.expires} s"
            return ConnectionStoppedError(
                reason, f"WhatsApp has banned this number{until} ({detail})", state="banned"
            )
        case EndReason.OUTDATED:
            return ConnectionStoppedError(
                reason,
                f"WhatsApp refuses this client version ({detail}); set a newer whatsapp.version"
                " in the configuration, then restart the daemon",
                state="parked",
            )
        case _:
            return ConnectionEndedError(reason, f"WhatsApp ended the stream: {detail}")


def collapse(error: BaseException) -> BaseException:
    """The one ending behind an error, or behind a group of them from several tasks.

    Cancellations and bugs come back as they are; a verdict (stop, hold, restart) outranks the
    broken sockets and deadlines that follow from it.
    """
    found = list(leaves(error))
    if any(isinstance(leaf, trio.Cancelled) for leaf in found):
        return error
    for kind in (ConnectionStoppedError, ConnectionRestartError, ConnectionHeldError):
        for leaf in found:
            if isinstance(leaf, kind):
                return leaf
    expected = (
        ConnectionEndedError,
        TransportError,
        RemoteProtocolError,
        StorageUnavailableError,
    )
    if any(not isinstance(leaf, expected) for leaf in found):
        return error
    return _as_ending(found[0])


def _as_ending(leaf: BaseException) -> ConnectionEndedError:
    match leaf:
        case ConnectionEndedError():
            return leaf
        case TransportError():
            return ConnectionEndedError("network", f"the connection broke: {leaf}")
        case StorageUnavailableError():
            return ConnectionHeldError("storage_unavailable", f"the database is away: {leaf}")
        case _:
            return ConnectionEndedError("protocol_error", f"unreadable bytes from WhatsApp: {leaf}")
