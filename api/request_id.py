"""The id of the request that a task serves."""

import contextvars
import typing as t

current_request: t.Final[contextvars.ContextVar[str | None]] = contextvars.ContextVar(
    "current_request", default=None
)
