"""Judging a crash by the leaves of what was raised."""

import pytest
import trio

from supervisor.crash import MAX_TEXT, Crash, describe, judge, leaves, passes_through
from supervisor.errors import ChildError, RestartNow, StopForGood


class HeldError(ChildError):
    """Not counted, but not at once either."""

    counted = False


class ForeignError(Exception):
    """Knows the attributes without the base class."""

    counted = False


async def _cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            return error
    raise AssertionError("not cancelled")


def test_leaves_of_nested_groups() -> None:
    """All exceptions at the bottom, left to right."""
    one, two, three = ValueError(1), KeyError(2), OSError(3)
    group = ExceptionGroup("a", [one, ExceptionGroup("b", [two, ExceptionGroup("c", [three])])])
    assert list(leaves(group)) == [one, two, three]
    assert list(leaves(one)) == [one]


def test_a_plain_error_is_counted() -> None:
    """An error nobody announced counts, waits for the backoff and deserves a traceback."""
    crash = judge(ValueError("broken\n  twice"))
    assert crash.text == "ValueError: broken twice"
    assert crash == Crash(text=crash.text)


def test_instructions_are_read_from_the_class() -> None:
    """RestartNow, StopForGood and any class with the attributes."""
    now, held, stop = judge(RestartNow("515")), judge(HeldError("")), judge(StopForGood("out"))
    assert (now.text, now.counted, now.at_once, now.expected) == ("515", False, True, True)
    assert (held.text, held.counted, held.at_once) == ("HeldError", False, False)
    assert (stop.counted, stop.final) == (False, True)
    assert not judge(ForeignError()).counted
    assert not judge(ForeignError()).expected


def test_restart_after_is_the_longest_asked_for() -> None:
    """Two leaves that name a time: the later one holds."""
    early, late = ChildError("a"), ChildError("b")
    early.restart_after, late.restart_after = 3.0, 90.0
    assert judge(ExceptionGroup("", [early, late, ValueError()])).after == 90.0


def test_a_group_is_as_serious_as_its_worst_leaf() -> None:
    """One real error beside RestartNow counts; one final leaf ends it all."""
    mixed = judge(ExceptionGroup("", [RestartNow("515"), ValueError("bug")]))
    assert mixed.counted
    assert not mixed.at_once
    assert not mixed.expected
    assert mixed.text == "515; ValueError: bug"
    assert judge(ExceptionGroup("", [StopForGood("out"), ValueError("bug")])).final
    assert judge(ExceptionGroup("", [RestartNow("a"), RestartNow("a")])).text == "a"


async def test_cancelled_beside_an_error_says_nothing() -> None:
    """A sibling cancelled by the failing task does not change the verdict."""
    crash = judge(BaseExceptionGroup("", [await _cancelled(), RestartNow("515")]))
    assert (crash.text, crash.counted, crash.at_once) == ("515", False, True)


async def test_cancelled_alone_is_a_crash() -> None:
    """It escaped from a scope; the supervisor does not die of it."""
    crash = judge(await _cancelled())
    assert crash.text.startswith("Cancelled")
    assert crash.counted
    assert not passes_through(await _cancelled())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_what_ends_the_process_passes_through(error: BaseException) -> None:
    """Alone or deep in a group beside ordinary errors."""
    assert passes_through(error)
    assert passes_through(BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [error])]))
    assert not passes_through(ExceptionGroup("", [ValueError()]))


def test_texts_are_short() -> None:
    """Neither one error nor many fill the log."""
    assert len(describe(ValueError("x" * 10_000))) == MAX_TEXT
    many = ExceptionGroup("", [ValueError(str(number) * 50) for number in range(100)])
    assert len(judge(many).text) == MAX_TEXT
