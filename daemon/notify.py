"""Tells systemd how far the daemon is; silent where there is no systemd."""

import os
import socket

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


def notify(state: str) -> None:
    """Send one line such as ``READY=1`` to the socket that systemd named, if it did.

    Source: the manual page of sd_notify(3)
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        try:
            sender.connect(address)
            sender.send(state.encode())
        except OSError as error:
            log.warning("daemon.notify_failed", state=state, error=str(error))
