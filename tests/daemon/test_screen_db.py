"""What the commands of the database show."""

import datetime as dt
import io
import typing as t

from rich.console import Console

from daemon.screen_db import (
    backup_lines,
    counts_table,
    restore_lines,
    size_lines,
    tables_table,
    vacuum_lines,
    verdict_lines,
)

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def _drawn(table: t.Any) -> str:
    screen = io.StringIO()
    Console(file=screen, width=200).print(table)
    return screen.getvalue()


def _table(name: str, total: int, **changes: t.Any) -> dict[str, t.Any]:
    facts = {"rows": 5, "table_bytes": total, "index_bytes": 0, "vacuumed_at": None}
    return {"name": name, "total_bytes": total, **facts, **changes}


def test_where_the_room_goes() -> None:
    """The big tables one by one, the small ones together; what is not known is not made up."""
    tables = [
        _table("messages", 5 << 20, vacuumed_at=NOW - dt.timedelta(hours=3)),
        _table("receipts", 1 << 20, rows=None),
        *(_table(f"small{number}", 8192) for number in range(3)),
    ]
    shown = _drawn(tables_table({"tables": tables}, NOW))
    assert "3 h ago" in shown
    assert "?" in shown
    assert "3 small ones" in shown
    assert "24 KiB" in shown
    assert "small1" not in shown
    row = {"name": "sales", "messages": 12345, "undecryptable": 1, "last_message_at": None}
    assert "12,345" in _drawn(counts_table({"connections": [row]}, NOW))


def test_the_sums() -> None:
    """How fast it grows, once that is known."""
    facts = {"bytes": 1 << 30, "server_version": "18.4", "messages": 0, "growth": None}
    assert "not run for long enough" in size_lines(facts)[-1]
    growth = {"days": 14.0, "messages_per_day": 1500.5, "bytes_per_day": 3 << 20}
    lines = size_lines({**facts, "messages": 1000, "bytes_per_message": 2048, "growth": growth})
    assert "1,000 messages are stored, 2.0 KiB each" in lines[1]
    assert "1,500.5 messages and about 3.0 MiB a day" in lines[2]
    unknown = {**growth, "bytes_per_day": None}
    assert size_lines({**facts, "growth": unknown})[-1].endswith("1,500.5 messages a day.")


def test_a_few_messages_have_no_average() -> None:
    """The empty database, divided by two, is no size of a message."""
    facts = {"bytes": 10 << 20, "server_version": "18.4", "growth": None}
    two = {**facts, "messages": 2, "bytes_per_message": 5 << 20}
    assert size_lines(two)[1] == "2 messages are stored."
    one = {**facts, "messages": 1, "bytes_per_message": 10 << 20}
    assert size_lines(one)[1] == "1 message is stored."


def test_what_is_in_a_backup_and_what_is_not() -> None:
    """The key and the files are somewhere else, and somebody has to know."""
    facts = {
        "file": "b",
        "messages": 5,
        "rows": {"connections": 2, "media": 3},
        "archive_bytes": 2048,
        "schema": 7,
        "key": "abc",
        "created_at": "2026-01-01T00:00:00+00:00",
        "replaced_messages": 1,
        "stale_keys": False,
        "stale_keys_because": "no key was used after it was made",
    }
    text = "\n".join(backup_lines(facts))
    assert "fingerprint abc) is not in it" in text
    assert "Files of messages (3 known)" in text
    unknown = backup_lines({**facts, "key": None, "key_unknown_because": "it is gone"})
    assert "it is gone" in unknown[1]
    assert "1 were replaced" in restore_lines(facts)[0]
    told = restore_lines({**facts, "stale_keys": True, "stale_keys_because": "a daemon ran"})
    assert "(a daemon ran)" in told[-1]
    assert "zapvisor recover NAME" in told[-1]


def test_what_a_vacuum_did() -> None:
    """Table by table, and the whole."""
    table = {"name": "x", "bytes_before": 4096, "bytes_after": 0, "dead_rows_before": 7}
    lines = vacuum_lines({"tables": [table], "bytes_before": 8192, "bytes_after": 4096})
    assert lines == ["x: 4.0 KiB → 0 B, 7 dead rows", "The database: 8.0 KiB → 4.0 KiB."]


def test_what_came_of_a_test() -> None:
    """Every difference, what could not be tried, and a verdict at the end."""
    facts: dict[str, t.Any] = {
        "file": "b",
        "rows": 1234,
        "tables": 52,
        "seconds": 2.4,
        "compared_content": True,
        "differences": [],
        "credentials": {"devices": 2, "failed": [], "unknown_because": None},
        "intact": True,
    }
    lines = verdict_lines(facts)
    assert lines[0] == (
        "b: restored for a test, 1,234 rows of 52 tables in 2 s; rows and content are compared."
    )
    assert lines[1:] == ["The credentials of 2 connections open.", "It is whole."]
    difference = {"table": "messages", "expected": "5 rows", "found": "4 rows"}
    keys = {"devices": 1, "failed": [], "unknown_because": "there is no key"}
    told = verdict_lines(
        facts
        | {"differences": [difference], "credentials": keys}
        | {"intact": False, "compared_content": False}
    )
    assert "only the rows are counted" in told[0]
    assert told[1] == "DIFFERS: table messages: 5 rows expected, 4 rows found"
    assert "could not be tried: there is no key" in told[2]
    assert told[3] == "It is not what was backed up."
    failed = {"devices": 2, "failed": ["sales"], "unknown_because": None}
    assert "of here: sales" in verdict_lines(facts | {"credentials": failed})[1]
