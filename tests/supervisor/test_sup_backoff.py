"""Backoff: exponential, bounded, with full jitter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.backoff import Backoff

backoffs = st.builds(
    Backoff,
    initial=st.floats(0, 1e6),
    maximum=st.floats(0, 1e6),
    factor=st.floats(1, 1e3),
)


def test_bounds_double_from_initial_to_maximum() -> None:
    """The default: 1, 2, 4 … 32, then 60 seconds."""
    assert [Backoff().bound(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@settings(deadline=None)
@given(backoffs, st.integers(1, 10**9), st.floats(0, 1))
def test_delay_lies_between_zero_and_the_bound(
    backoff: Backoff, failures: int, uniform: float
) -> None:
    """Whatever is drawn, the delay is not negative and never above the maximum."""
    delay = backoff.delay(failures, uniform)
    assert 0 <= delay <= backoff.bound(failures) <= backoff.maximum


@settings(deadline=None)
@given(backoffs, st.integers(1, 10**6))
def test_bound_never_shrinks(backoff: Backoff, failures: int) -> None:
    """One more failure never makes the wait shorter."""
    assert backoff.bound(failures) <= backoff.bound(failures + 1)


@settings(deadline=None)
@given(backoffs, st.integers(1, 100))
def test_jitter_is_full(backoff: Backoff, failures: int) -> None:
    """The draw alone decides, from no delay at all to the whole bound."""
    assert backoff.delay(failures, 0) == 0
    assert backoff.delay(failures, 1) == backoff.bound(failures)


@pytest.mark.parametrize(("failures", "uniform"), [(0, 0.5), (1, -0.1), (1, 1.1)])
def test_senseless_arguments_are_refused(failures: int, uniform: float) -> None:
    """Neither a delay before the first failure nor a draw outside 0 to 1."""
    with pytest.raises(ValueError, match=r"failure|uniform01"):
        Backoff().delay(failures, uniform)


@pytest.mark.parametrize("changes", [{"initial": -1}, {"maximum": -1}, {"factor": 0.5}])
def test_senseless_settings_are_refused(changes: dict[str, float]) -> None:
    """A negative delay or a shrinking one cannot be configured."""
    with pytest.raises(ValueError, match="must be"):
        Backoff(**changes)
