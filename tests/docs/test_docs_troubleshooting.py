"""Whatever code an operator may meet is in docs/troubleshooting.md; the code has the lists."""

import ast
import collections.abc as cabc
import functools
import pathlib
import re
import typing as t

import pytest

from actors.incidents import OUTAGE, OUTDATED
from daemon.screen_gaps import OPEN
from storage.queues import MediaState, OutboxState
from whatsapp.lifecycle import EndReason

ROOT: t.Final = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT: t.Final = (ROOT / "docs" / "troubleshooting.md").read_text()

ENDINGS: t.Final = re.compile(r"Connection\w+Error|PairingFailedError")
"""Classes whose first argument is a reason, and whose ``state`` is what is shown."""
REPORTS: t.Final = frozenset({"report", "_report"})  # (state, reason, sentence)
PROBLEMS: t.Final = frozenset({"ProblemError", "Denied", "_known", "problem"})  # (kind, status, …)


Module: t.TypeAlias = tuple[tuple[ast.AST, ...], dict[str, str]]
"""All nodes, and the constants that are texts."""


def modules(*packages: str) -> cabc.Iterator[Module]:
    """The modules of some packages."""
    for package in packages:
        yield from _modules_of(package)


@functools.cache
def _modules_of(package: str) -> tuple[Module, ...]:
    trees = (ast.parse(path.read_text()) for path in sorted((ROOT / package).glob("**/*.py")))
    return tuple((tuple(ast.walk(tree)), dict(_constants(tree))) for tree in trees)


def _constants(tree: ast.Module) -> cabc.Iterator[tuple[str, str]]:
    for node in tree.body:
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text)))
                | ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text)))
            ):
                yield name, text


def calls(*packages: str) -> cabc.Iterator[tuple[str, ast.Call, dict[str, str]]]:
    """Every call in some packages, with the name of what is called."""
    for nodes, constants in modules(*packages):
        for node in nodes:
            if isinstance(node, ast.Call):
                match node.func:
                    case ast.Name(id=name) | ast.Attribute(attr=name):
                        yield name, node, constants


def text_of(node: ast.expr | None, constants: dict[str, str]) -> str | None:
    """A text that is written out, or the constant of that name."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return constants.get(name)
    return None


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The argument of that name."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def reasons() -> set[str]:
    """Every reason code of a state, and of what begins a gap."""
    found = {reason.value for reason in EndReason} | {OUTAGE, OUTDATED}
    for name, call, constants in calls("actors", "daemon", "storage"):
        if ENDINGS.fullmatch(name) and call.args:
            found.add(text_of(call.args[0], constants) or "")
        elif name in REPORTS and len(call.args) >= 2:
            found.add(text_of(call.args[1], constants) or "")
        elif name in ("OutageBegan", "TransportError", "__init__"):
            found.add(text_of(keyword(call, "reason"), constants) or "")
    for nodes, _texts in modules("actors", "daemon"):
        for node in nodes:
            match node:
                # ("removed", "no longer in the configuration; …"): a reason and its sentence
                case ast.Tuple(
                    elts=[ast.Constant(value=str(code)), ast.Constant(value=str(sentence))]
                ) if re.fullmatch("[a-z]+(_[a-z]+)*", code) and len(sentence.split()) > 2:
                    found.add(code)
                case ast.FunctionDef(name="__init__", args=arguments):
                    defaults = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                    found |= {
                        text_of(default, {}) or ""
                        for argument, default in defaults
                        if argument.arg == "reason"
                    }
                case ast.Assign(
                    targets=[ast.Name(id="reason")], value=ast.Constant(value=str(code))
                ) if re.fullmatch("[a-z]+(_[a-z]+)*", code):
                    found.add(code)
    return found - {""}


def states() -> set[str]:
    """Every state that a connection is shown in."""
    found = set()
    for name, call, constants in calls("actors"):
        if name in REPORTS and len(call.args) >= 2:
            found.add(text_of(call.args[0], constants) or "")
        elif ENDINGS.fullmatch(name):
            found.add(text_of(keyword(call, "state"), constants) or "")
    return found - {""}


def problems() -> set[str]:
    """The stable part of every problem that the API answers with."""
    found = set()
    for name, call, constants in calls("api", "daemon"):
        if name in PROBLEMS and call.args:
            found.add(text_of(call.args[0], constants) or "")
    return found - {""}


def error_events() -> set[str]:
    """Every event that is logged as an error."""
    found = set()
    for name, call, constants in calls(
        "actors", "api", "config", "daemon", "storage", "supervisor"
    ):
        if name in ("error", "exception", "critical") and call.args and _is_log(call.func):
            found.add(text_of(call.args[0], constants) or "")
    return found - {""} - {"torture.daemon_ended"}


def _is_log(called: ast.expr) -> bool:
    match called:
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name.strip("_") in ("log", "logger")
    return False


def documented() -> set[str]:
    """What stands in the document as code."""
    return set(re.findall(r"`([^`\n]+)`", DOCUMENT))


def test_the_code_is_read_right() -> None:
    """A few of each kind, so that the lists cannot come out empty."""
    assert {"logged_in", "deaf", "deaf_suspected", "queued", "fence"} <= reasons()
    assert {"dns_failed", "proxy_failed", "network", "keys_unreadable", "crashed"} <= reasons()
    assert {"removed", "reload", "shutdown", "daemon_died", "linked", "unstorable"} <= reasons()
    assert {"stopped", "online", "backoff", "parked", "conflict", "banned"} <= states()
    assert {"database-away", "forbidden", "already-paired", "internal"} <= problems()
    assert {
        "daemon.wrong_key",
        "http.unavailable",
        "media.no_room",
        "child.fatal",
    } <= error_events()


@pytest.mark.parametrize(
    "found",
    [reasons, states, problems, error_events],
    ids=["reasons", "states", "problems", "errors in the log"],
)
def test_every_code_is_explained(found: cabc.Callable[[], set[str]]) -> None:
    """What the code can say is in the document, as code."""
    assert found() - documented() == set()


@pytest.mark.parametrize("names", [MediaState, OutboxState], ids=["files", "sending"])
def test_every_state_of_a_queue_is_explained(names: type[MediaState | OutboxState]) -> None:
    """Files, and messages to send."""
    assert {name.value for name in names} - documented() == set()


def test_what_keeps_a_gap_open_is_explained() -> None:
    """In the very words of the table of gaps."""
    assert set(OPEN.values()) - documented() == set()


def health_words() -> set[str]:
    """What the verdict on the whole can be reasoned with, without its figures."""
    tree = ast.parse((ROOT / "api" / "health.py").read_text())
    found = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in ("judge", "_gaps", "_full"):
            texts = {
                node.value.strip(" :;,()")
                for statement in function.body[1:]  # without the docstring
                for node in ast.walk(statement)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            found |= {text for text in texts if len(text.split()) >= 3}
    return found


def test_every_reason_of_health_is_explained() -> None:
    """In its own words."""
    words = health_words()
    assert "the database does not answer" in words
    assert {each for each in words if each not in DOCUMENT} == set()
