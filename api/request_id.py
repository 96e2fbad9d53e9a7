"""What goes along with the request that a task serves."""

import contextvars
import typing as t

current_request: t.Final[contextvars.ContextVar[str | None]] = contextvars.ContextVar(
    "current_request", default=None
)

PEER_UID: t.Final = "zapvisor.peer_uid"
"""Where the state of a request says who uses a unix socket; None: nobody knows."""
