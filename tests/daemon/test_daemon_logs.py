"""Log lines: their form, and what must never be in them."""

import io
import json
import logging
import typing as t
import warnings

import asyncpg
import pytest
import structlog

from daemon.logs import configure_logs, flush_logs, mask_phones, redact
from daemon.logs.tracebacks import safe_message
from storage import sqlstates
from storage.sessions import translate


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


def test_a_stream_that_fails_loses_lines_and_nothing_else() -> None:
    """Whoever logs is not hurt by a reader that went away; the lines are counted."""

    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    logs = configure_logs(stream=Broken())
    structlog.get_logger().info("a")
    structlog.get_logger().error("b")
    assert logs.lost() == 2


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            "postgresql://zap:h:un/ter2@db.example/zap?password=x",
            "postgresql://zap:***@db.example/zap?password=***",
        ),
        ("host=db password='two words' user=zap", "host=db password=*** user=zap"),
        ("socks5h://u:p@proxy:1080 refused", "socks5h://u:***@proxy:1080 refused"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
    ],
)
def test_passwords_in_texts_are_masked(given: str, shown: str) -> None:
    """URLs, key-value DSNs and headers keep everything but the secret."""
    assert redact(None, "info", {"event": given}) == {"event": shown}


def test_a_value_is_bounded() -> None:
    """A monstrous value costs a bounded line, and says so."""
    event = redact(None, "info", {"event": "x", "error": "y" * 100_000, "many": list(range(999))})
    assert event["error"].endswith("… (91808 more characters)")
    assert len(event["many"]) == 200


def test_tracebacks_show_no_values() -> None:
    """Chains and groups are told with places and kinds, without locals and quoted values."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    secret = "the body of a message"

    def fail() -> None:
        local = secret
        try:
            {}[local]
        except KeyError as error:
            raise ExceptionGroup(
                "both", [ValueError(f"bad: {secret!r}"), OSError("gone")]
            ) from error

    try:
        fail()
    except ExceptionGroup:
        structlog.get_logger().exception("crashed")
    (line,) = lines(stream)
    text = line["exception"]
    assert "KeyError: (a value)\nwhich was the direct cause of:" in text
    assert "  | ValueError: bad: (a value)" in text
    assert "  | OSError: gone" in text
    assert "in fail" in text
    assert secret not in text


def test_the_database_tells_no_row() -> None:
    """Of its errors the details are left out, and values that a text quotes."""
    unique = asyncpg.UniqueViolationError('violates unique constraint "messages_key"')
    unique.sqlstate, unique.detail = "23505", "Key (text)=(segredo) already exists."
    assert safe_message(unique) == 'violates unique constraint "messages_key"'
    invalid = asyncpg.InvalidTextRepresentationError('invalid input for json: "seg"redo"')
    assert safe_message(invalid) == "invalid input for json: (a value)"
    assert str(translate(invalid)) == "invalid input for json: (a value) [22P02]"
    driver = asyncpg.DataError("invalid input for query argument $3: 'segredo' (expected int)")
    assert safe_message(driver) == "invalid input for query argument $3: (a value) (expected int)"
    assert "segredo" not in str(translate(driver))
    assert sqlstates.hide_values("no value here") == "no value here"


def test_odd_values_are_written_somehow() -> None:
    """Sets, objects and endless nesting never raise."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    loop: list[t.Any] = []
    loop.append(loop)
    structlog.get_logger().info("x", a={1}, b=object(), c=loop, d=ValueError("12345678"))
    (line,) = lines(stream)
    assert line["d"] == "ValueError: ***5678"


def test_the_level_changes_for_a_while() -> None:
    """Debug lines come at once, those of loggers in use too, and end by themselves."""
    now = [100.0]
    stream = io.StringIO()
    logs = configure_logs(level="warning", stream=stream)
    levels = logs.levels
    levels._clock = lambda: now[0]
    log = structlog.get_logger("daemon")
    log.info("before")
    facts = logs.set_level("debug", 600.0)
    assert (facts.level, facts.configured, facts.seconds_left) == ("debug", "warning", 600.0)
    log.debug("between")
    logging.getLogger("some.library").debug("theirs")
    now[0] += 600
    log.debug("after")
    logging.getLogger("some.library").info("theirs, after")
    events = [line["event"] for line in lines(stream)]
    assert events == ["logs.level", "between", "theirs", "logs.level"]
    assert logs.level().level == "warning"
    with pytest.raises(ValueError, match="loud"):
        logs.set_level("loud", None)


def test_a_storm_of_warnings_is_summarised() -> None:
    """Of one event and connection 100 lines a minute are written; the rest is counted and told,
    while informational lines and other connections are untouched."""
    now = [0.0]
    stream = io.StringIO()
    logs = configure_logs(stream=stream)
    logs.gate._clock = lambda: now[0]
    log = structlog.get_logger()
    for _turn in range(250):
        log.warning("media.not_fetched", connection="sales")
        log.info("Message saved", connection="sales")
    log.warning("media.not_fetched", connection="support")
    now[0] += 61
    log.info("later")
    found = lines(stream)
    count = [(line["event"], line.get("connection")) for line in found].count
    assert count(("media.not_fetched", "sales")) == 100
    assert count(("Message saved", "sales")) == 250
    assert count(("media.not_fetched", "support")) == 1
    (begun,) = [line for line in found if line["event"] == "logs.repeating"]
    assert (begun["of"], begun["limit"], begun["connection"]) == ("media.not_fetched", 100, "sales")
    (told,) = [line for line in found if line["event"] == "logs.repeated"]
    assert (told["of"], told["count"]) == ("media.not_fetched", 150)


def test_many_storms_end_at_once() -> None:
    """An outage of a whole fleet: each is told once, and whoever logs next notices nothing."""
    now = [0.0]
    stream = io.StringIO()
    logs = configure_logs(stream=stream)
    logs.gate._clock = lambda: now[0]
    log = structlog.get_logger()
    for number in range(300):
        for _turn in range(101):
            log.warning("media.not_fetched", connection=f"c{number}")
    now[0] += 61
    log.info("Message saved")
    found = [line["event"] for line in lines(stream)]
    assert found.count("logs.repeated") == 300
    assert found[-1] == "Message saved"


def test_what_is_held_back_is_told_at_the_end() -> None:
    """The count is not lost with the daemon."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    for _turn in range(103):
        structlog.get_logger().error("x")
    flush_logs()
    assert (lines(stream)[-1]["event"], lines(stream)[-1]["count"]) == ("logs.repeated", 3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://s3cr3t@host:4222", "nats://***@host:4222"),
        ("postgresql://u:s3cr3t@host/db", "postgresql://u:***@host/db"),
        ("GET /?access_token=s3cr3t&x=1", "GET /?access_token=***&x=1"),
        ("client_secret=s3cr3t api_key=s3cr3t", "client_secret=*** api_key=***"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_what_looks_like_a_secret(text: str, shown: str) -> None:
    """In texts of libraries, which we do not write."""
    assert redact(None, "info", {"error": text}) == {"error": shown}


def test_numbers_that_json_does_not_have() -> None:
    """A line is JSON whatever it tells."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    structlog.get_logger().info("x", lag=float("inf"), other=float("nan"), seconds=1.5)
    [line] = lines(stream)
    assert (line["lag"], line["other"], line["seconds"]) == ("inf", "nan", 1.5)
