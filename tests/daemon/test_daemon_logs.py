"""Log lines: their form, and what must never be in them."""

import collections.abc as cabc
import io
import json
import logging
import typing as t
import warnings

import pytest
import structlog

from daemon.logs import LineSink, configure_logs, mask_phones, redact


@pytest.fixture(autouse=True)
def untouched_logging() -> cabc.Iterator[None]:
    """Logging is process-wide: put back what a test changed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, t.Any]]:
    """The JSON objects written so far."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_there_is_no_terminal() -> None:
    """One JSON object per line, with time, level and event first."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    structlog.get_logger("writer").info("Message saved", connection="sales", message=7)
    assert [*lines(stream)[0]][:3] == ["timestamp", "level", "event"]
    assert lines(stream)[0] | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "Message saved",
        "connection": "sales",
        "message": 7,
    }


def test_coloured_text_on_a_terminal() -> None:
    """People see text, with the phrase as it is."""
    stream = Terminal()
    configure_logs(stream=stream)
    structlog.get_logger().warning("Message saved", connection="sales")
    assert "Message saved" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_the_form_can_be_forced() -> None:
    """``json`` wins on a terminal, ``text`` without one, and then without colours."""
    terminal, pipe = Terminal(), io.StringIO()
    configure_logs(form="json", stream=terminal)
    structlog.get_logger().info("a")
    assert lines(terminal)
    configure_logs(form="text", stream=pipe)
    structlog.get_logger().info("b")
    assert "\x1b[" not in pipe.getvalue()
    assert not pipe.getvalue().startswith("{")


def test_level() -> None:
    """Lines below the level are not written; an unknown level is refused."""
    stream = io.StringIO()
    configure_logs(level="warning", stream=stream)
    structlog.get_logger().info("a")
    logging.getLogger("some").info("b")
    structlog.get_logger().error("c")
    assert [line["event"] for line in lines(stream)] == ["c"]
    with pytest.raises(ValueError, match="loud"):
        configure_logs(level="loud", stream=stream)


def test_the_standard_library_goes_the_same_way() -> None:
    """Records of other libraries, their tracebacks and warnings come out alike."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    logging.getLogger("asyncio").warning("slow: %s", 5511999990001)
    try:
        raise RuntimeError("for +55 11 99999-0001")
    except RuntimeError:
        logging.getLogger("some.library").exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    logging.getLogger("odd").error("%d", "not a number")
    slow, failed, warned, odd = lines(stream)
    assert (slow["event"], slow["logger"]) == ("slow: ***0001", "asyncio")
    assert "RuntimeError: for ***0001" in failed["exception"]
    assert (warned["level"], warned["logger"]) == ("warning", "py.warnings")
    assert odd["event"] == "%d"


def test_secrets_do_not_pass() -> None:
    """Values named like secrets are blanked at any depth; bytes always are."""
    event = redact(
        None,
        "info",
        {
            "event": "x",
            "text": "hello",
            "identity_key": "abc",
            "noise": b"\x00",
            "text_length": 5,
            "nested": [{"body": "hello", "ok": "fine"}],
        },
    )
    assert event == {
        "event": "x",
        "text": "[redacted]",
        "identity_key": "[redacted]",
        "noise": "[redacted]",
        "text_length": 5,
        "nested": [{"body": "[redacted]", "ok": "fine"}],
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("5511999990001", "***0001"),
        ("5511999990001:3@s.whatsapp.net", "***0001:3@s.whatsapp.net"),
        ("from +55 (11) 99999-0001 to 12345678", "from ***0001 to ***5678"),
        ("2026-11-22T19:26:59.123456Z port 65535 id 1234567", None),
        ("3EB0123456789ABC", None),
    ],
)
def test_phone_numbers_are_masked(given: str, shown: str | None) -> None:
    """Runs of eight digits and more lose all but the last four; times and ids stay."""
    assert mask_phones(given) == (given if shown is None else shown)


def test_a_broken_pipe_loses_lines_and_nothing_else() -> None:
    """Whoever logs is not hurt by a reader that went away."""

    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    sink = LineSink(Broken())
    sink.msg("a")
    sink.info("b")
    assert sink.lost == 2


def test_odd_values_are_written_somehow() -> None:
    """Sets, objects and endless nesting never raise."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    loop: list[t.Any] = []
    loop.append(loop)
    structlog.get_logger().info("x", a={1}, b=object(), c=loop, d=ValueError("12345678"))
    (line,) = lines(stream)
    assert line["d"] == "ValueError('***5678')"
