"""From what ended a connection to what its supervisor shall do, and what the operator reads.

Source: docs/protocol.md#failures
"""

import typing as t

import trio

from actors.errors import (
    ConnectionEndedError,
    ConnectionHeldError,
    ConnectionPausedError,
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
            return ConnectionRestartError(reason, "WhatsApp asked for a new connection")
        case EndReason.LOGGED_OUT:
            return ConnectionStoppedError(
                reason,
                f"the phone or WhatsApp unlinked this device ({detail}); its keys are kept;"
                " look at Linked devices on the phone, then pair again",
                state="logged_out",
            )
        case EndReason.LOCKED:
            return ConnectionStoppedError(
                reason,
                f"WhatsApp has locked this account, or it is gone ({detail}); its keys are kept;"
                " open WhatsApp on the phone and do what it asks, then pair again",
                state="logged_out",
            )
        case EndReason.CONFLICT:
            return ConnectionPausedError(
                reason, f"another program uses this device's keys ({detail})", state="conflict"
            )
        case EndReason.TEMPORARILY_BANNED:
            return ConnectionPausedError(
                reason,
                f"WhatsApp has banned this number for a time ({detail})",
                state="banned",
                expires=end.expires,
            )
        case EndReason.BANNED:
            return ConnectionStoppedError(
                reason,
                f"WhatsApp has banned this number for good ({detail}); its keys are kept; ask for a"
                " review in WhatsApp on the phone, and start the connection once it is granted",
                state="banned",
            )
        case EndReason.OUTDATED:
            return ConnectionPausedError(
                reason,
                f"WhatsApp refuses this client version as outdated ({detail}); set a newer"
                " whatsapp.version in the configuration, then run: zapvisor reload",
                state="parked",
            )
        case EndReason.REFUSED:
            return ConnectionEndedError(
                reason,
                f"WhatsApp does not accept the login ({detail}); if it stays like this, compare"
                " whatsapp.version with the current one, or pair again",
            )
        case EndReason.NOT_MULTI_DEVICE:
            return ConnectionEndedError(
                reason, f"{detail}; update WhatsApp on the phone, then pair again"
            )
        case EndReason.RATE_LIMITED:
            return ConnectionEndedError(
                reason, f"WhatsApp finds that this connects too often ({detail}); it waits longer"
            )
        case EndReason.UNAVAILABLE | EndReason.SERVER_ERROR:
            return ConnectionEndedError(
                reason, f"WhatsApp's server has a problem of its own ({detail})"
            )
        case EndReason.BAD_STANZA:
            return ConnectionEndedError(
                reason,
                f"WhatsApp could not read what it was sent ({detail}); a defect of zapvisor"
                " if it happens again",
            )
        case EndReason.STREAM_ENDED:
            return ConnectionEndedError(reason, f"WhatsApp closed the connection ({detail})")
        case other:
            t.assert_never(other)


def collapse(error: BaseException) -> BaseException:
    """The one ending behind an error, or behind a group of them from several tasks.

    Cancellations and bugs come back as they are; a verdict (stop, hold, restart) outranks the
    broken sockets and deadlines that follow from it.
    """
    found = list(leaves(error))
    if any(isinstance(leaf, trio.Cancelled) for leaf in found):
        return error
    for kind in (
        ConnectionStoppedError,
        ConnectionPausedError,
        ConnectionRestartError,
        ConnectionHeldError,
    ):
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
            return ConnectionEndedError(leaf.reason, f"the network failed: {leaf}")
        case StorageUnavailableError():
            return ConnectionHeldError("storage_unavailable", f"the database is away: {leaf}")
        case _:
            return ConnectionEndedError(
                "protocol_error",
                f"what came from WhatsApp is unreadable or not genuine: {leaf}; if it stays like"
                " this, look at the proxies between this machine and the Internet",
            )
