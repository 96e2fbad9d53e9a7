"""The plan of a torture run: the same seed gives the same one, and short ones have everything."""

import json
import typing as t

import pytest

from daemon.__main__ import execute
from daemon.torture.plan import KINDS, LANES, fingerprint, lane_of, plan, planned_points
from daemon.torture.walk import LEADS, WALKED
from storage.crash_points import POINTS

ALL: t.Final = frozenset(KINDS)


def test_a_plan_is_a_function_of_its_seed() -> None:
    """The fingerprint says so for readers; another seed, length or choice gives another plan."""
    first = plan(7, 60, ALL, 3)
    assert plan(7, 60, ALL, 3) == first
    assert fingerprint(first) == fingerprint(plan(7, 60, ALL, 3))
    others = [plan(8, 60, ALL, 3), plan(7, 120, ALL, 3), plan(7, 60, ALL - {"kill"}, 3)]
    assert len({fingerprint(each) for each in (first, *others)}) == 4


def test_a_choice_leaves_the_other_lanes_as_they_were() -> None:
    """Lanes draw from streams of their own."""
    everything = plan(7, 60, ALL, 3)
    some = plan(7, 60, ALL - set(LANES[0].kinds), 3)
    assert list(some) == [fault for fault in everything if lane_of(fault) != "daemon"]


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_of_a_minute_has_every_kind(seed: int) -> None:
    """Nothing repeats within a lane before everything was there; times are in order."""
    faults = plan(seed, 60, ALL, 3)
    assert {fault.kind for fault in faults} == ALL
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert all(0 <= fault.at < 60 for fault in faults)
    assert all(fault.connection in (None, 0, 1, 2) for fault in faults)


def test_a_long_plan_has_every_crash_point() -> None:
    """Those on the way of a linked connection, each many times."""
    points = [fault.point for fault in plan(1, 3600, ALL, 3) if fault.kind == "crash"]
    assert set(points) == set(planned_points()) < set(POINTS)
    assert min(points.count(point) for point in set(points)) >= 5


def test_the_command_prints_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """``--plan`` runs nothing."""
    assert execute(["torture", "--plan", "--seed", "7", "--for", "60s"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schedule_sha256"] == fingerprint(plan(7, 60, ALL, 3))
    assert len(printed["faults"]) == len(plan(7, 60, ALL, 3))


@pytest.mark.parametrize(
    "options",
    [["--for", "soon"], ["--faults", "kill,rain"], ["--connections", "0"], ["--rate", "0"]],
)
def test_wrong_options_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2, and a sentence that names the option."""
    assert execute(["torture", "--plan", *options]) == 2
    assert options[0] in capsys.readouterr().err


def test_a_walk_knows_the_way_to_every_point() -> None:
    """A point that is added has something that leads to it."""
    assert {point.partition(".")[0] for point in WALKED} <= set(LEADS)
