"""Fuzz every parser, one after the other: ``python -m fuzz [NAME ...] [--for 60s] [--json]``.

Each harness runs in a process of its own with bounded memory and time for an input. New inputs
that reach something are kept in ``.fuzz/`` for the next run; what breaks a harness lies in
``.fuzz/found``. The exit code is 0 if nothing did.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import types
import typing as t

import attrs

from fuzz.harness import Run

HERE: t.Final = pathlib.Path(__file__).parent
CORPUS: t.Final = HERE / "corpus"
WORK: t.Final = HERE.parent / ".fuzz"
MEMORY: t.Final = 2048  # MiB that a harness may take
PATIENCE: t.Final = 10  # seconds for one input
GRACE: t.Final = 120  # seconds beyond its time that a harness gets to end

_UNITS: t.Final = {"s": 1, "m": 60, "h": 3600}
_STATISTIC: t.Final = re.compile(r"stat::(\w+):\s+(\d+)")
_COVERAGE: t.Final = re.compile(r"cov: (\d+) ft: (\d+)")


@attrs.frozen(kw_only=True)
class Result:
    """What one harness did."""

    harness: str
    seconds: float
    executions: int
    features: int
    corpus: int  # inputs that reach something of their own
    slowest: int  # whole seconds of the slowest input
    memory: int  # MiB at the most
    found: tuple[str, ...]  # files that break it


def run(name: str, seconds: int) -> Result:
    """Fuzz one harness for that long, or until it breaks."""
    kept, found = WORK / "corpus" / name, WORK / "found" / name
    for directory in (kept, found):
        directory.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    arguments = [
        *(sys.executable, "-m", "fuzz.one", name),
        *(
            str(kept),
            *(str(path) for path in (CORPUS / name, WORK / "seeds" / name) if path.exists()),
        ),
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY}",
        f"-timeout={PATIENCE}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    began = time.monotonic()
    done = subprocess.run(
        arguments,
        cwd=HERE.parent,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + GRACE,
        check=False,
    )
    WORK.joinpath("found", f"{name}.log").write_text(done.stdout + done.stderr)
    new = sorted(str(path.relative_to(HERE.parent)) for path in set(found.iterdir()) - before)
    if done.returncode and not new:
        new = [f"exit code {done.returncode}: see {WORK / 'found' / name}.log"]
    told = {key: int(value) for key, value in _STATISTIC.findall(done.stderr)}
    covered = _COVERAGE.findall(done.stderr)
    return Result(
        harness=name,
        seconds=round(time.monotonic() - began, 1),
        executions=told.get("number_of_executed_units", 0),
        features=max((int(features) for _edges, features in covered), default=0),
        corpus=len(list(kept.iterdir())),
        slowest=told.get("slowest_unit_time_sec", 0),
        memory=told.get("peak_rss_mb", 0),
        found=tuple(new),
    )


def minimise(name: str) -> None:
    """Make the kept corpus of a harness the shortest inputs that reach every step of the code that
    the seeds, the fuzzer's finds and the corpus so far reach. Needs no fuzzer."""
    from fuzz.targets import TARGETS

    places = [CORPUS / name, WORK / "seeds" / name, WORK / "corpus" / name]
    files = [path for place in places if place.is_dir() for path in place.iterdir()]
    found = {path.read_bytes() for path in files if path.name.startswith("found-")}
    steps = Steps()
    inputs = sorted({path.read_bytes() for path in files} - found, key=lambda d: (len(d), d))
    kept = [data for data in inputs if steps.adds(TARGETS[name].run, data)]
    places[0].mkdir(parents=True, exist_ok=True)
    for old in places[0].iterdir():
        if not old.name.startswith("found-"):
            old.unlink()
    for data in kept:
        places[0].joinpath(hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


class Steps:
    """From which line to which line of ``whatsapp/`` inputs have led so far."""

    def __init__(self) -> None:
        self._known: set[tuple[types.CodeType, int, int]] = set()
        self._new = False

    def adds(self, run: Run, data: bytes) -> bool:
        """Whether this input leads somewhere else."""
        self._new = False
        sys.settrace(self._enter)
        try:
            run(data)
        finally:
            sys.settrace(None)
        return self._new

    def _enter(self, frame: types.FrameType, _event: str, _argument: object) -> t.Any:
        code = frame.f_code
        if "/whatsapp/" not in code.co_filename:
            return None
        last = 0

        def step(frame: types.FrameType, _event: str, _argument: object) -> t.Any:
            nonlocal last
            arc = (code, last, frame.f_lineno)
            last = frame.f_lineno
            if arc not in self._known:
                self._known.add(arc)
                self._new = True
            return step

        return step


def _duration(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError("a number of s, m or h, such as 60s")
    return int(match[1]) * _UNITS[match[2] or "s"]


def _table(results: t.Sequence[Result]) -> str:
    names = ("harness", "executions", "features", "corpus", "slowest", "memory", "found")
    rows = [
        names,
        *(
            (
                result.harness,
                f"{result.executions:,}",
                f"{result.features:,}",
                f"{result.corpus}",
                f"{result.slowest} s",
                f"{result.memory} MiB",
                ", ".join(result.found) or "-",
            )
            for result in results
        ),
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(names))]
    lines = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    """Run the harnesses that were asked for."""
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--for", dest="seconds", type=_duration, default=60, help="of each harness")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    parser.add_argument("--minimise", action="store_true", help="make the kept corpus small")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(TARGETS)):
        parser.error(f"no harness called {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    names = asked.names or list(TARGETS)
    if asked.minimise:
        for name in names:
            minimise(name)
        return 0
    results = []
    for name in names:
        results.append(run(name, asked.seconds))
        if not asked.json:
            print(
                _table(results[-1:]).splitlines()[1] if len(results) > 1 else _table(results),
                flush=True,
            )
    total = sum(result.executions for result in results)
    if asked.json:
        print(json.dumps({"executions": total, "harnesses": [attrs.asdict(r) for r in results]}))
    else:
        print(f"{total:,} inputs")
    return 1 if any(result.found for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
