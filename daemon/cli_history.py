"""The commands of the past: what was deleted or changed, who looked at it, and how far the import
of a connection's history is."""

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
    segment,
    show,
)
from daemon.completing import connection_names
from daemon.errors import UsageError

history_app = App(
    name="history",
    help="What was deleted or edited, and who looked at that; how far an import of history is.",
)


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(history_app)


@history_app.default
def history(
    name: t.Annotated[
        str | None,
        Parameter(
            help="A connection: show how far the import of its history is, instead.",
            completer=connection_names,
        ),
    ] = None,
    /,
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
    older: t.Annotated[
        str | None, Parameter(help="With NAME: ask the phone for older messages of this chat.")
    ] = None,
    count: t.Annotated[int, Parameter(help="How many of them, at most 500.")] = 50,
    retry: t.Annotated[
        bool, Parameter(negative="", help="With NAME: import the parts that failed again.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List what was deleted or edited, by whom and when, the newest first.

    With the name of a connection: how far the import of its history is, or ask for more of it.
    """
    from daemon.screen_history import changes_table

    if name is not None:
        if any((connection, contact, since, deleted, edited, content, cursor, everything)):
            raise UsageError(
                f"{name} asks for the import of its history; for its deletions and edits say"
                f" --connection {name}"
            )
        return _import(name, older, count, retry, json, config)
    if older is not None or retry:
        raise UsageError("--older and --retry go with the name of a connection")
    if deleted and edited:
        raise UsageError("--deleted and --edited exclude each other; without them both are shown")
    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/history",
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


@history_app.command(name="show")
def show_message(
    message: t.Annotated[int, Parameter(help="As zapvisor history numbers it.")],
    /,
    *,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show all that a message ever said, and who deleted or edited it; that is put on record."""
    from daemon.screen_history import message_lines

    with open_daemon(config) as client:
        facts = client.get(f"/messages/{message}/history")
    show(facts, json, lambda: message_lines(facts))
    return 0


@history_app.command
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
    from daemon.screen_history import accesses_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/history/accesses",
            everything=everything,
            cursor=cursor,
            limit=limit,
            message=message,
        )
    show(rows, json, lambda: accesses_table(rows), "Nobody has looked at it.")
    return 0


def _import(
    name: str, older: str | None, count: int, retry: bool, json: bool, config: t.Any
) -> int:
    """How far the import is, or more of it."""
    from daemon.screen_inbox import history_table

    if older is not None and retry:
        raise UsageError("--older and --retry exclude each other")
    path = f"/connections/{segment(name)}/history"
    with open_daemon(config) as client:
        if older is not None:
            asked = client.post(path, body={"chat": older, "count": count})
            sentence = (
                f"Asked the phone for {asked['count']} messages; they come while it is online."
            )
            show(asked, json, lambda: sentence)
            return 0
        facts = client.post(f"{path}/retry") if retry else client.get(path)
    show(facts, json, lambda: history_table(facts))
    return 0


def _day(text: str) -> str:
    """The beginning of a day here, or a moment, in the words of the API."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--since: {text!r} is no day; write it like 2026-11-21") from error
    return (moment if moment.tzinfo is not None else moment.astimezone()).isoformat()
