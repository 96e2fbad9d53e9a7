"""The configurations that ship the log: what they name exists, in them and in the log's schema.

Neither Vector nor Alloy runs here: their own `validate` has to be said where they are.
"""

import json
import pathlib
import re
import typing as t

import jsonschema
import pytest
import yaml

from daemon.logs.journald import PREFIX, field_name

ROOT: t.Final = pathlib.Path(__file__).parents[2]
FIELDS: t.Final = frozenset(
    json.loads((ROOT / "docs" / "log.schema.json").read_text())["properties"]
)
VECTOR: t.Final = yaml.safe_load((ROOT / "deploy" / "vector" / "zapvisor.yaml").read_text())
ALLOY: t.Final = (ROOT / "deploy" / "alloy" / "zapvisor.alloy").read_text()
OF_SOURCES: t.Final = frozenset({"timestamp", "message", "PRIORITY"})
"""Fields that Vector's own sources make."""


def _kinds(**kinds: tuple[str, ...]) -> dict[str, t.Any]:
    """Components of these types; of each the options that it needs, with a star: may have."""
    return {
        "type": "object",
        "additionalProperties": {
            "oneOf": [
                {
                    "properties": {
                        "type": {"const": kind},
                        **{option.strip("*"): True for option in options},
                    },
                    "required": ["type", *(each for each in options if "*" not in each)],
                    "additionalProperties": False,
                }
                for kind, options in kinds.items()
            ]
        },
    }


SHAPE: t.Final = {
    "type": "object",
    "properties": {
        "data_dir": {"type": "string"},
        "sources": _kinds(
            journald=("include_units", "current_boot_only*"),
            file=("include", "read_from*"),
            docker_logs=("include_containers",),
        ),
        "transforms": _kinds(remap=("inputs", "source"), filter=("inputs", "condition")),
        "sinks": _kinds(
            loki=("inputs", "endpoint", "encoding", "labels", "buffer*"),
            elasticsearch=("inputs", "endpoints", "bulk*"),
            console=("inputs", "encoding"),
        ),
    },
    "required": ["sources", "transforms", "sinks"],
    "additionalProperties": False,
}


def named(program: str) -> set[str]:
    """The fields of an event that a program in VRL names, texts and comments left aside."""
    bare = re.sub(r'"[^"\n]*"|#.*', "", program)
    return set(re.findall(r"(?<![\w)\]])\.([A-Za-z_]\w*)", bare))


def test_vector_is_put_together_right() -> None:
    """Known kinds with their options; every input exists, and everything is used."""
    jsonschema.Draft202012Validator(SHAPE).validate(VECTOR)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**VECTOR, "sinks": {"x": {"type": "loki"}}}, SHAPE)
    made = [*VECTOR["sources"], *VECTOR["transforms"]]
    used = [
        name
        for part in (VECTOR["transforms"], VECTOR["sinks"])
        for each in part.values()
        for name in each["inputs"]
    ]
    assert set(used) == set(made)


def test_vector_names_fields_that_exist() -> None:
    """In its programs, its condition and its labels; those are few, and of few values."""
    programs = [each.get("source") or each["condition"] for each in VECTOR["transforms"].values()]
    for program in programs:
        assert named(program) <= FIELDS | OF_SOURCES, program
        for opening, closing in ("{}", "()", "[]"):
            assert program.count(opening) == program.count(closing)
    assert named('.level == "x.y" || .other # .comment') == {"level", "other"}
    labels = VECTOR["sinks"]["loki"]["labels"]
    for name, value in labels.items():
        assert name == "job" or value == f"{{{{ {name} }}}}"
    assert set(labels) == {"job", "level", "event", "connection"}
    assert f'starts_with(name, "{PREFIX}")' in VECTOR["transforms"]["from_journal"]["source"]


def test_alloy_is_put_together_right() -> None:
    """Brackets match, and every component that is named is there."""
    bare = re.sub(r'"[^"\n]*"|//.*', '""', ALLOY)
    for opening, closing in ("{}", "[]", "()"):
        assert bare.count(opening) == bare.count(closing)
    made = {
        f"{kind}.{name}"
        for kind, name in re.findall(r'^([a-z_.]+) "([a-z_]+)" \{$', ALLOY, re.MULTILINE)
    }
    wanted = re.findall(r"\b([a-z_.]+\.[a-z_]+)\.(?:receiver|rules|targets)\b", bare)
    assert set(wanted) == made - {"loki.source.journal.zapvisor", "loki.source.file.zapvisor"}
    assert "\t" in ALLOY
    assert "  rule" not in ALLOY  # indented by tabs, as `alloy fmt` does


def test_alloy_names_fields_that_exist() -> None:
    """Those of the JSON, and those of the journal under the names that Alloy gives them."""
    (expressions,) = re.findall(r"expressions = \{(.*?)\}", ALLOY, re.DOTALL)
    assert set(re.findall(r'= "(\w+)"', expressions)) <= FIELDS
    (labels,) = re.findall(r"values = \{(.*?)\}", ALLOY, re.DOTALL)
    assert set(re.findall(r"(\w+)\s+= \"\"", labels)) <= set(re.findall(r"(\w+)\s+=", expressions))
    journal = set(re.findall(r'"__journal_(zapvisor_\w+)"', ALLOY))
    assert journal == {field_name(name).lower() for name in ("event", "connection")}
