"""Every operation does what its description says, whatever it is sent.

All routes are tried, those that come later included: with what their description allows, and with
what it forbids. The requests are the same in every run.
"""

import collections.abc as cabc
import contextlib
import threading
import typing as t
import warnings
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
import schemathesis
import schemathesis.checks
import trio
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from api.app import build_apps
from api.listener import HttpListener
from api.openapi import document
from config.listeners import HttpConfig
from tests.daemon.daemon_fakes import make_control, running

EXAMPLES: t.Final = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 3}  # per operation
CHECKS: t.Final = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
STREAM: t.Final = "text/event-stream"
LONGEST_WAIT: t.Final = 0.01  # seconds: long polls are for news, and here there are none


@contextlib.contextmanager
def daemon(path: Path) -> cabc.Iterator[tuple[int, dict[str, t.Any]]]:
    """The app on the fakes, with all rights, in a thread of its own; its port and description."""
    ready = threading.Event()
    found: dict[str, t.Any] = {}

    async def serve() -> None:
        control = await make_control(path)
        apps = build_apps(control.backend(), HttpConfig())
        listener = HttpListener(apps.control, ("127.0.0.1", 0))
        async with running(control), trio.open_nursery() as nursery:
            await nursery.start(listener.run)
            found["token"] = trio.lowlevel.current_trio_token()
            found.update(port=listener.port, document=document(apps.app), stop=listener.stop)
            ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(30)
    try:
        yield found["port"], found["document"]
    finally:
        found["token"].run_sync_soon(found["stop"])
        thread.join(30)
        assert not thread.is_alive()


def is_stream(operation: t.Any) -> bool:
    """Whether an answer has no end."""
    return any(
        STREAM in answer.get("content", {})
        for answer in operation.definition.raw["responses"].values()
    )


def aim(case: t.Any, data: st.DataObject) -> None:
    """Half of the time at something that there is; and do not wait for long."""
    parameters = case.path_parameters or {}
    for name, known in (("name", "sales"), ("number", 1)):
        if name in parameters and data.draw(st.booleans()):
            parameters[name] = known
    if any(each.name == "wait" for each in case.operation.query):
        wait = case.query.get("wait", LONGEST_WAIT)
        case.query["wait"] = min(wait, LONGEST_WAIT) if isinstance(wait, int | float) else wait


def test_every_operation_does_as_described(tmp_path: Path) -> None:
    """No failure of the daemon, and no answer that the description does not know."""
    failures: list[str] = []
    tried = 0
    with daemon(tmp_path / "control.sock") as (port, description), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = schemathesis.openapi.from_dict(description)
        for result in schema.get_all_operations():
            operation = result.ok()
            if is_stream(operation):
                continue
            tried += 1
            for mode, examples in EXAMPLES.items():
                try:
                    attempt(operation, mode, examples, f"http://127.0.0.1:{port}")
                except hypothesis.errors.Unsatisfiable:
                    continue  # nothing is forbidden to it
                except BaseExceptionGroup as group:
                    failures += [f"{operation.label}: {each}" for each in group.exceptions]
    assert tried >= 50
    if failures:
        pytest.fail("\n\n".join(failures))


def attempt(operation: t.Any, mode: GenerationMode, examples: int, base_url: str) -> None:
    """Send so many requests, and check the answers."""

    @hypothesis.seed(1)
    @hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def ask(case: t.Any, data: st.DataObject) -> None:
        aim(case, data)
        case.call_and_validate(base_url=base_url, checks=CHECKS, timeout=5)

    ask()
