"""The commands of what was deleted or edited, and of who looked at what was said before."""

import datetime as dt
import typing as t

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
from daemon.errors import UsageError

changes_app = App(name="changes", help="What was deleted or edited, and who looked at that.")


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(changes_app)


@changes_app.default
def changes(
    *,
    connection: OnlyConnection = None,
    contact: t.Annotated[
        str | None,
        Parameter(help="Only those of this person or group: a number, an address, an id."),
    ] = None,
    since: t.Annotated[
        str | None, Parameter(help="Only those from this day on, such as 2026-11-21.")
    ] = None,
    deleted: t.Annotated[bool, Parameter(negative="", help="Only deletions.")] = False,
    edited: t.Annotated[bool, Parameter(negative="", help="Only edits.")] = False,
    content: t.Annotated[
        bool, Parameter(negative="", help="With what was said before; that is put on record.")
    ] = False,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List what was deleted or edited, by whom and when, the newest first."""
    from daemon.screen_changes import changes_table

    if deleted and edited:
        raise UsageError("--deleted and --edited exclude each other; without them both are shown")
    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/changes",
            everything=everything,
            cursor=cursor,
            limit=limit,
            connection=connection,
            contact=contact,
            since=None if since is None else _day(since),
            kind="deleted" if deleted else "edited" if edited else None,
            content=content or None,
        )
    show(rows, json, lambda: changes_table(rows, now()), "Nothing was deleted or edited.")
    return 0


@changes_app.command(name="show")
def show_message(
    message: t.Annotated[int, Parameter(help="As zapvisor changes numbers it.")],
    /,
    *,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show all that a message ever said, and who deleted or edited it; that is put on record."""
    from daemon.screen_changes import message_lines

    with open_daemon(config) as client:
        facts = client.get(f"/messages/{message}/history")
    show(facts, json, lambda: message_lines(facts))
    return 0


@changes_app.command
def accesses(
    *,
    message: t.Annotated[int | None, Parameter(help="Only those to this message.")] = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List who looked at what messages said before they were deleted or edited, newest first."""
    from daemon.screen_changes import accesses_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/changes/accesses",
            everything=everything,
            cursor=cursor,
            limit=limit,
            message=message,
        )
    show(rows, json, lambda: accesses_table(rows), "Nobody has looked at it.")
    return 0


def _day(text: str) -> str:
    """The beginning of a day here, or a moment, in the words of the API."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--since: {text!r} is no day; write it like 2026-11-21") from error
    return (moment if moment.tzinfo is not None else moment.astimezone()).isoformat()
