"""One harness under the fuzzer, in a process of its own: ``python -m fuzz.one NAME ARGUMENTS``.

The arguments go to libFuzzer. Needs atheris; everything else here does without.
"""

import pathlib
import re
import sys
import typing as t

import atheris

with atheris.instrument_imports(include=["whatsapp", "actors.notices", "actors.reading"]):
    from fuzz.targets import TARGETS

from fuzz import fields, trees
from fuzz.harness import Target


def words() -> tuple[str, ...]:
    """The names that the parsers look for: every short text in their sources."""
    sources = pathlib.Path(__file__).parents[1].joinpath("whatsapp").rglob("*.py")
    found: set[str] = set()
    for source in sources:
        if not source.name.endswith("_pb2.py"):
            found.update(re.findall(r'"([a-z][a-z0-9:_-]{0,30})"', source.read_text()))
    return tuple(sorted(found))


def _mutator(target: Target) -> t.Callable[[bytes, int, int], bytes]:
    """Changes the input as what it is, three times out of four."""
    known, skipped = words(), int(target.form == "choice")

    def mutate(data: bytes, limit: int, seed: int) -> bytes:
        changed = None
        if not seed % 4:
            pass
        elif target.form == "node":
            changed = trees.mutate(data, limit, seed, known)
        elif (tail := fields.mutate(data[skipped:], limit - skipped, seed)) is not None:
            changed = data[:skipped] + tail
        return bytes(atheris.Mutate(data, limit)) if changed is None else changed

    return mutate


def main() -> t.NoReturn:
    """Fuzz until an argument or a defect says stop."""
    target = TARGETS[sys.argv.pop(1)]
    options: dict[str, t.Any] = {}
    if target.form != "bytes":
        options["custom_mutator"] = _mutator(target)
    arguments = [sys.argv[0], f"-max_len={target.max_length}", *sys.argv[1:]]
    atheris.Setup(arguments, target.run, **options)
    atheris.Fuzz()
    raise SystemExit


if __name__ == "__main__":
    main()
