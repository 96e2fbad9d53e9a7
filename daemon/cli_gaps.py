"""The commands of the gap ledger: what connections missed, and whether it has come."""

import typing as t

from cyclopts import App, Parameter

from daemon.cli_base import (
    ConfigFile,
    Everything,
    FromCursor,
    HowMany,
    Json,
    now,
    open_daemon,
    read_rows,
    segment,
    show,
)
from daemon.completing import connection_names

gaps_app = App(name="gaps", help="Outages, and whether all that was sent meanwhile has come.")


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(gaps_app)


@gaps_app.default
def gaps(
    name: t.Annotated[
        str | None, Parameter(help="Only those of this connection.", completer=connection_names)
    ] = None,
    /,
    *,
    open_: t.Annotated[
        bool, Parameter(name="--open", negative="", help="Only those that are not closed.")
    ] = False,
    before: t.Annotated[int | None, Parameter(help="Those before this gap.")] = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List outages with the counts of what came after them, the newest first."""
    from daemon.screen_gaps import gaps_table

    path = "/gaps" if name is None else f"/connections/{segment(name)}/gaps"
    with open_daemon(config) as client:
        rows = read_rows(
            client,
            path,
            everything=everything,
            cursor=cursor,
            limit=limit,
            open_only=open_,
            before=before,
        )
    show(rows, json, lambda: gaps_table(rows, now()), "No gap fits.")
    return 0


@gaps_app.command
def accept(
    number: int,
    /,
    *,
    by: t.Annotated[str | None, Parameter(help="Who accepts; by default this user.")] = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Close a gap although something is missing: nobody waits for it any more."""
    import getpass

    with open_daemon(config) as client:
        row = client.post(f"/gaps/{number}/accept", by=by or getpass.getuser())
    sentence = f"Gap {row['id']} of {row['connection']} is accepted: {row['missing']} missing."
    show(row, json, lambda: sentence)
    return 0
