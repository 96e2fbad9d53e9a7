"""The commands of the alerts: what is wrong, who takes care of it, and who is not told."""

import getpass
import typing as t

from cyclopts import App, Parameter

from daemon.cli_base import (
    ConfigFile,
    FromCursor,
    HowMany,
    Json,
    now,
    open_daemon,
    read_rows,
    show,
)
from daemon.completing import connection_names
from daemon.errors import UsageError

alerts_app = App(name="alerts", help="What is wrong, and who takes care of it.")
silence_app = App(name="silence", help="Have nobody told of a connection for a time.")

By: t.TypeAlias = t.Annotated[str | None, Parameter(help="Who; by default this user.")]


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(alerts_app)
    app.command(silence_app)
    app.command(silences)


@alerts_app.default
def alerts(
    *,
    past: t.Annotated[
        bool, Parameter(name="--all", negative="", help="Those that are over, too, newest first.")
    ] = False,
    language: t.Annotated[str, Parameter(help="Of the texts: en or pt-BR.")] = "en",
    limit: HowMany = 50,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List what is wrong, with what to do."""
    from daemon.screen_alerts import alerts_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/alerts",
            everything=False,
            cursor=cursor,
            limit=limit,
            all=past,
            language=language,
        )
    empty = "There was no alert yet." if past else "Nothing is wrong."
    show(rows, json, lambda: alerts_table(rows, now()), empty)
    return 0


@alerts_app.command(name="show")
def show_alert(
    number: int,
    /,
    *,
    language: t.Annotated[str, Parameter(help="Of the texts: en or pt-BR.")] = "en",
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show one alert: its likely cause, and what to do."""
    from daemon.screen_alerts import alert_page

    with open_daemon(config) as client:
        row = client.get(f"/alerts/{number}", language=language)
    show(row, json, lambda: alert_page(row, now()))
    return 0


@alerts_app.command
def ack(
    number: int,
    /,
    *,
    by: By = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Take care of an alert: people are not reminded of it until it is over."""
    with open_daemon(config) as client:
        row = client.post(f"/alerts/{number}/ack", by=by or getpass.getuser())
    sentence = f"Alert {row['id']} is {row['state']}"
    if row["acknowledged_by"] is not None:
        sentence += f"; {row['acknowledged_by']} takes care of it"
    show(row, json, lambda: f"{sentence}.")
    return 0


@silence_app.default
def silence(
    name: t.Annotated[
        str | None, Parameter(help="A connection.", completer=connection_names)
    ] = None,
    /,
    *,
    for_: t.Annotated[str, Parameter(name="--for", help='How long, such as "2h" or "1d".')],
    everything: t.Annotated[
        bool,
        Parameter(name="--all", negative="", help="All connections, and the daemon itself."),
    ] = False,
    rule: t.Annotated[str | None, Parameter(help="Of this rule alone, such as down.")] = None,
    why: t.Annotated[str, Parameter(help="For those who see it.")] = "",
    by: By = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Have nobody told of a connection for a time; alerts are recorded all the same."""
    from config.durations import parse_duration

    if (name is None) != everything:
        raise UsageError("either the name of a connection, or --all")
    try:
        seconds = parse_duration(for_)
    except ValueError as error:
        raise UsageError(f'--for takes a duration such as "2h": {error}') from error
    with open_daemon(config) as client:
        row = client.post(
            "/silences",
            connection=name,
            all=everything,
            rule=rule,
            seconds=seconds,
            why=why,
            by=by or getpass.getuser(),
        )
    sentence = (
        f"Silence {row['id']} lasts until {row['ends_at']};"
        f" zapvisor silence end {row['id']} ends it."
    )
    show(row, json, lambda: sentence)
    return 0


@silence_app.command
def end(number: int, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """End a silence now; what is firing is told."""
    with open_daemon(config) as client:
        row = client.post(f"/silences/{number}/end")
    show(row, json, lambda: f"Silence {row['id']} is over.")
    return 0


def silences(
    *,
    past: t.Annotated[
        bool, Parameter(name="--all", negative="", help="Those that are over, too.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List who is not told of what, and until when."""
    from daemon.screen_alerts import silences_table

    with open_daemon(config) as client:
        rows = client.get("/silences", all=past)
    show(rows, json, lambda: silences_table(rows, now()), "Nothing is silenced.")
    return 0
