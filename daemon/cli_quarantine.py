"""The commands for what could not be stored."""

import os
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import (
    ConfigFile,
    Everything,
    FromCursor,
    HowMany,
    Json,
    OnlyConnection,
    now,
    open_daemon,
    read_rows,
    show,
)
from daemon.errors import RefusedError, UsageError

if t.TYPE_CHECKING:
    from daemon.client import ControlClient

PAGE: t.Final = 200

quarantine_app = App(name="quarantine", help="Look at what could not be stored, and try it again.")
Number: t.TypeAlias = t.Annotated[int, Parameter(help="As zapvisor quarantine list numbers it.")]


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(quarantine_app)


@quarantine_app.command(name="list")
def list_(
    *,
    connection: OnlyConnection = None,
    resolved: t.Annotated[
        bool, Parameter(negative="", help="Those that were stored since, too.")
    ] = False,
    before: t.Annotated[int | None, Parameter(help="Those before this row.")] = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List what could not be stored, the newest first."""
    from daemon.screen_quarantine import quarantine_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/quarantine",
            everything=everything,
            cursor=cursor,
            limit=limit,
            connection=connection,
            resolved=resolved,
            before=before,
        )
    show(rows, json, lambda: quarantine_table(rows, now()), "Nothing is in quarantine.")
    return 0


@quarantine_app.command(name="show")
def show_(
    number: Number,
    /,
    *,
    raw: t.Annotated[
        Path | None,
        Parameter(help="Write the stanza to this new file, which only you can read."),
    ] = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show what is known of a row; what the message says stays inside, but for --raw."""
    from daemon.screen_quarantine import quarantine_facts

    with open_daemon(config) as client:
        row = client.get(f"/quarantine/{number}")
        written = None if raw is None else _write(client, number, raw)
    if written is not None:
        row["raw_file"] = str(raw)
    show(row, json, lambda: quarantine_facts(row))
    return 0


def _write(client: "ControlClient", number: int, path: Path) -> int:
    """Write the stanza to a file that did not exist; how many bytes.

    Raises:
        UsageError: it cannot be written there.
    """
    stanza = client.download(f"/quarantine/{number}/stanza")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise UsageError(f"--raw: {path} exists already; nothing was overwritten") from error
    except OSError as error:
        raise UsageError(f"--raw: {path} cannot be written: {error.strerror}") from error
    with open(descriptor, "wb") as file:
        file.write(stanza)
    return len(stanza)


@quarantine_app.command
def retry(
    number: t.Annotated[
        int | None, Parameter(help="As zapvisor quarantine list numbers it.")
    ] = None,
    /,
    *,
    all_: t.Annotated[
        bool, Parameter(name="--all", negative="", help="Everything that has a way out.")
    ] = False,
    connection: OnlyConnection = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Try to store a row once more; exit code 0 only if all that was tried is stored now."""
    from daemon.screen_quarantine import outcome

    if (number is None) == (not all_) or (connection is not None and not all_):
        raise UsageError("give the number of a row, or --all, which --connection may narrow")
    tried: list[dict[str, t.Any]] = []
    with open_daemon(config) as client:
        if number is not None:
            tried.append(client.post(f"/quarantine/{number}/retry"))
        else:
            tried.extend(_attempt(client, row) for row in _waiting(client, connection))
    stored = sum(row["way_out"] == "resolved" for row in tried)
    lines = [outcome(row) for row in tried]
    if all_:
        lines.append(f"{stored} of {len(tried)} are stored now.")
    show(tried, json, lambda: "\n".join(lines), "Nothing in quarantine has a way out.")
    return 0 if stored == len(tried) else 1


def _waiting(client: "ControlClient", connection: str | None) -> list[dict[str, t.Any]]:
    """What is in quarantine now and has a way out, the oldest first."""
    rows: list[dict[str, t.Any]] = []
    before = None
    while page := client.get("/quarantine", connection=connection, before=before, limit=PAGE):
        rows += page
        before = page[-1]["id"]
    return [row for row in reversed(rows) if row["way_out"] in ("message", "stanza")]


def _attempt(client: "ControlClient", row: dict[str, t.Any]) -> dict[str, t.Any]:
    """Try one of many: that it cannot be tried now keeps no other from it."""
    try:
        after: dict[str, t.Any] = client.post(f"/quarantine/{row['id']}/retry")
    except RefusedError as error:
        return {**row, "error": str(error)}
    return after
