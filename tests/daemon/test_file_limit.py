"""The daemon raises its limit of open files by itself."""

import resource

import pytest

from daemon.file_limit import WANTED, raise_file_limit


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits of a process that is not this one; the last one is in force."""
    kept = [(1024, 524_288)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: kept[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: kept.append(pair))
    return kept


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 524_288), WANTED),
        ((1024, 4096), 4096),
        ((1024, resource.RLIM_INFINITY), WANTED),
        ((65_536, 65_536), 65_536),
    ],
)
def test_up_to_what_is_allowed(
    limits: list[tuple[int, int]], before: tuple[int, int], after: int
) -> None:
    """Never lower than it was, and never above the hard limit, which stays."""
    limits.append(before)
    assert raise_file_limit() == after
    assert limits[-1] == (after, before[1])


def test_where_it_is_refused(
    limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon runs with what there is."""

    def refuse(_which: int, _pair: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit() == 1024
