"""docs/logs.md and its schema tell the truth about every event that the source logs."""

import json
import pathlib
import subprocess
import sys
import typing as t

import jsonschema
import pytest

ROOT: t.Final = pathlib.Path(__file__).parents[2]
PAGE: t.Final = (ROOT / "docs" / "logs.md").read_text()
SCHEMA: t.Final = json.loads((ROOT / "docs" / "log.schema.json").read_text())


def test_every_event_is_documented_and_every_documented_event_exists() -> None:
    """After a change: python scripts/log_events.py --write, and write what is new means."""
    script = ROOT / "scripts" / "log_events.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_event_that_is_not_documented_is_found(tmp_path: pathlib.Path) -> None:
    """The scan sees literals, choices, parameters and variables for methods; else it refuses."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import log_events
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    package = tmp_path / "daemon"
    package.mkdir()
    (package / "x.py").write_text(
        "def f(self, event, facts):\n"
        "    self._log.info(event, one=1, **facts)\n"
        "def g(self, x):\n"
        "    self.f('a.first', {})\n"
        "    log.bind(x=1).warning('a.second' if x else 'a.third', two=2)\n"
        "    tell = log.error if x else log.debug\n"
        "    tell('a.fourth', exc_info=True)\n"
        "    shown.error('not a log')\n"
        "    self._log = log.bind(hook=x, connection=x)\n"
        "    self._log.info('a.fifth', five=5)\n"
    )
    found = log_events.events(tmp_path)
    assert {name: event.levels for name, event in found.items() if name.startswith("a.")} == {
        "a.first": {"info"},
        "a.second": {"warning"},
        "a.third": {"warning"},
        "a.fourth": {"error", "debug"},
        "a.fifth": {"info"},
    }
    assert found["a.first"].open
    assert found["a.third"].fields == {"two", "x"}
    assert found["a.fifth"].fields == {"five", "hook"}
    assert found["a.fourth"].fields == {"exception"}
    page = log_events.page_of(f"{log_events.BEGIN}\n{log_events.END}", found)
    assert log_events.meanings(page)["a.first"] == "?"
    (package / "x.py").write_text("log.info(f'a.{x}')\n")
    with pytest.raises(SystemExit, match=r"x.py:1: the name of an event must be a literal"):
        log_events.events(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        {"event": "Message saved", "connection": "sales", "message": 1, "kind": "text"},
        {"event": "no.such.event"},
        {"event": "daemon.stopped", "surprise": 1},
        {"event": "daemon.stopped", "level": "error"},
        {"event": "daemon.stopped", "timestamp": "yesterday"},
    ],
)
def test_the_schema_refuses_what_it_does_not_describe(line: dict[str, t.Any]) -> None:
    """A phrase without its fields, an unknown event or field, another level or form."""
    stamped = {"timestamp": "2026-01-01T00:00:00.000001Z", "level": "info"}
    jsonschema.validate(stamped | {"event": "daemon.stopped"}, SCHEMA)
    jsonschema.validate(stamped | {"event": "anything", "logger": "asyncio"}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stamped | line, SCHEMA)


@pytest.mark.parametrize(
    "phrase",
    [
        "Message saved",
        "Message already exists, skipping duplicate",
        "Reopening closed conversation",
        "Sync stats",
    ],
)
def test_the_four_phrases_stand_in_the_page_and_the_schema(phrase: str) -> None:
    """Operators search for them: with the fields that they always have."""
    (rule,) = [
        each
        for each in SCHEMA["then"]["allOf"]
        if each["if"]["properties"]["event"]["const"] == phrase
    ]
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{phrase}` | `connection`")]
    assert all(f"`{field}`" in row for field in rule["then"]["required"])
