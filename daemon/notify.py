"""Tells systemd how far the daemon is; silent where there is no systemd.

Source: the manual pages of sd_notify(3) and sd_watchdog_enabled(3)
"""

import os
import socket
import time

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


def notify(state: str) -> bool:
    """Send a state such as ``READY=1`` to the socket that systemd named, if it did; False: there
    is one, and it could not be told now."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return True
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.connect(address)
            sender.send(state.encode())
        except OSError as error:
            log.warning("daemon.notify_failed", state=state, error=str(error))
            return False
    return True


def notify_reloading() -> None:
    """The configuration is being read again; to be followed by ``READY=1``, however it ends."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def notify_status(sentence: str) -> bool:
    """What ``systemctl status`` shows; False: it could not be told now."""
    return notify(f"STATUS={sentence.replace(chr(10), ' ')}")


def extend_timeout(seconds: float) -> None:
    """Starting or stopping goes on for so long from now; longer than the unit says, perhaps."""
    notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")


def watchdog_interval() -> float | None:
    """Seconds within which systemd wants to hear ``WATCHDOG=1``; None: it does not ask for it."""
    pid = os.environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdigit() and int(text) else None
