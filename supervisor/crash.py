"""An exception → what the supervisor makes of it; judged by the leaves of nested groups."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from supervisor.errors import ChildError

MAX_TEXT: t.Final = 500  # characters of an error text kept for status and logs


@attrs.frozen(kw_only=True)
class Crash:
    """What one end of a child means for its restart."""

    text: str
    expected: bool = False  # a ChildError: needs no traceback
    counted: bool = True
    at_once: bool = False
    final: bool = False
    after: float | None = None  # seconds


def leaves(error: BaseException) -> cabc.Iterator[BaseException]:
    """The exceptions at the bottom of a possibly nested group, left to right."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def passes_through(error: BaseException) -> bool:
    """Whether this must end the whole process: KeyboardInterrupt, SystemExit and their like."""
    return any(not isinstance(leaf, Exception | trio.Cancelled) for leaf in leaves(error))


def describe(error: BaseException) -> str:
    """One line for status and logs, at most ``MAX_TEXT`` characters."""
    text = " ".join(str(error).split())
    if not (isinstance(error, ChildError) and text):
        name = type(error).__name__
        text = f"{name}: {text}" if text else name
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def judge(error: BaseException) -> Crash:
    """What the supervisor makes of a child that ended with ``error``.

    ``Cancelled`` beside real errors is a consequence of them and says nothing. Alone it is a
    crash: nobody else may cancel a child, so it escaped from a scope that had been left.
    """
    every = list(leaves(error))
    real = [leaf for leaf in every if not isinstance(leaf, trio.Cancelled)] or every
    texts = list(dict.fromkeys(describe(leaf) for leaf in real))
    waits = [after for leaf in real if (after := getattr(leaf, "restart_after", None)) is not None]
    text = "; ".join(texts)
    return Crash(
        text=text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…",
        expected=all(isinstance(leaf, ChildError) for leaf in real),
        counted=any(getattr(leaf, "counted", True) for leaf in real),
        at_once=all(getattr(leaf, "restart_at_once", False) for leaf in real),
        final=any(getattr(leaf, "final", False) for leaf in real),
        after=max(waits, default=None),
    )
