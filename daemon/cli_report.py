"""The command of the daily report."""

import datetime as dt
import os
import sys
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, open_daemon
from daemon.errors import CommandError, UsageError

PATIENCE: t.Final = 120.0  # seconds for the answer; an old day of a large database takes some


def register(app: App) -> None:
    """Make the command part of the program."""
    app.command(report)


def report(
    *,
    day: t.Annotated[
        str | None, Parameter(help="Such as 2026-11-21; by default the day before today.")
    ] = None,
    html: t.Annotated[
        Path | None, Parameter(help="Write the mail's HTML to this file instead.")
    ] = None,
    text: t.Annotated[
        bool, Parameter(negative="", help="Print the mail's text; so it is by default.")
    ] = False,
    language: t.Annotated[
        t.Literal["en", "pt-BR"], Parameter(help="What it is written in.")
    ] = "en",
    send: t.Annotated[
        bool, Parameter(negative="", help="Send it, through the channels that take reports.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show what happened on a day: the report that is sent of it.

    Days are those of report.timezone. Today is allowed; its report says that it is not complete.
    """
    _check_day(day)
    if sum((text, json, html is not None, send)) > 1:
        raise UsageError("choose one of --text, --html, --json and --send")
    with open_daemon(config, timeout=PATIENCE) as client:
        if send:
            queued = client.post("/report/mail", day=day)
        elif json:
            figures = client.get("/report", day=day)
        else:
            mail = client.get("/report/mail", day=day, language=language)
    if send:
        channels = ", ".join(queued["channels"])
        sys.stdout.write(f"The report of {queued['day']} is on its way: {channels}\n")
    elif json:
        from daemon.screen import print_json

        print_json(figures)
    elif html is None:
        sys.stdout.write(mail["text"])
    else:
        _write(html, mail["html"])
        sys.stdout.write(f"{mail['subject']}\nwritten to {html}\n")
    return 0


def _check_day(day: str | None) -> None:
    """What cannot be a day is not asked for.

    Raises:
        UsageError: it is none.
    """
    if day is None:
        return
    try:
        dt.date.fromisoformat(day)
    except ValueError as error:
        raise UsageError(f"--day: {day!r} is no day; write it like 2026-11-21") from error


def _write(path: Path, content: str) -> None:
    """Write a file for its owner alone: names of connections and figures are nobody else's.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror or error}") from error
