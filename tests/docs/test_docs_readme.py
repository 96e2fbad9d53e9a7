"""The README tells of every command, tells of none that is not there, and is the same in both
languages."""

import pathlib
import re
import typing as t

import pytest
from cyclopts import App

from daemon.cli import app

ROOT: t.Final = pathlib.Path(__file__).resolve().parents[2]
ENGLISH: t.Final = ROOT / "README.md"
PORTUGUESE: t.Final = ROOT / "README.pt-BR.md"
OTHERS: t.Final = sorted((ROOT / "docs").glob("*.md"))


def commands(of: App = app, before: str = "zapvisor") -> set[str]:
    """Every command that the program has, in full: ``zapvisor gaps accept``."""
    found = set()
    for name in of:
        if not name.startswith("-"):
            found |= {f"{before} {name}"} | commands(of[name], f"{before} {name}")
    return found


def unknown(text: str) -> set[str]:
    """What is told of and no command."""
    known = commands()
    groups = {name.rpartition(" ")[0] for name in known} - {"zapvisor"}
    wrong = set()
    fenced = "\n".join(re.findall("^```.*?^```", text, re.DOTALL | re.MULTILINE))
    orders = re.findall(r"`(zapvisor [^`\n]+)`", text)
    # In a block, two blanks or a # are the end of a command, and what follows explains it.
    orders += re.findall(r"^(?:\$ )?(zapvisor .*?)(?:  .*| *#.*)?$", fenced, re.MULTILINE)
    for words in map(str.split, orders):
        name = " ".join(words[:2])
        if words[1].startswith("-"):
            continue
        if name not in known:
            wrong.add(name)
        elif name in groups and len(words) > 2 and re.fullmatch("[a-z-]+", words[2]):
            deeper = " ".join(words[:3])
            if deeper not in known and not words[2].startswith("-"):
                wrong.add(deeper)
    return wrong


def outline(text: str) -> list[str]:
    """The skeleton of a document: what must be the same in every language."""
    found = []
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            found.append("```")
        elif fenced:
            found.append(re.sub(r" *# .*", "", line))  # comments are in the reader's language
        elif heading := re.match("#+ ", line):
            found.append(heading[0])
        elif line.startswith("|"):
            first = re.findall("`[^`]+`", line.split("|")[1])
            found.append(f"row {line.count('|')} {' '.join(first)}")
        elif line.startswith("- "):
            found.append("item")
    return found


def targets(text: str) -> list[str]:
    """Where a document leads, but for the other language."""
    return sorted(set(re.findall(r"\]\(([^)\s]+)\)", text)) - {"README.md", "README.pt-BR.md"})


def code(text: str) -> list[str]:
    """All that stands as code in the prose."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return sorted(re.findall(r"`[^`\n]+`", prose))


def test_every_command_is_told() -> None:
    """In the table of commands, which names subcommands after the first."""
    text = ENGLISH.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `zapvisor ")]
    words = set(
        re.findall("[a-z][a-z-]+", " ".join(" ".join(re.findall("`[^`]+`", r)) for r in rows))
    )
    missing = {name for name in commands() if name.split()[1] not in words}
    assert missing == set()


@pytest.mark.parametrize(
    "path", [ENGLISH, PORTUGUESE, *OTHERS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_command_is_made_up(path: pathlib.Path) -> None:
    """What a document has people run exists."""
    assert unknown(path.read_text()) == set()


def test_both_languages_say_the_same() -> None:
    """The same headings, tables, commands, code and links, in the same order."""
    english, portuguese = ENGLISH.read_text(), PORTUGUESE.read_text()
    assert outline(portuguese) == outline(english)
    assert targets(portuguese) == targets(english)
    assert code(portuguese) == code(english)


def test_a_difference_is_found() -> None:
    """The tests can fail."""
    assert unknown("`zapvisor fly`\n```\n$ zapvisor gaps fly 1\n```") == {
        "zapvisor fly",
        "zapvisor gaps fly",
    }
    assert outline("# A\n| `x` | y |\n") != outline("# A\n| `z` | y |\n")
    assert outline("```\nrun  # now\n```") == outline("```\nrun  # já\n```")
    assert outline("```\nrun a\n```") != outline("```\nrun b\n```")
