"""How many files and sockets the daemon may have open."""

import resource
import typing as t

import structlog

WANTED: t.Final = 16_384

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


def raise_file_limit() -> int:
    """Raise the limit of this process as far as it is allowed to, or to ``WANTED``; the limit.

    Each connection and each client of the API takes a descriptor. The usual soft limit of 1024 is
    for programs that use ``select``; clients must not take the last ones away from connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("daemon.file_limit", limit=soft, wanted=wanted, error=str(error))
        return soft
    return wanted
