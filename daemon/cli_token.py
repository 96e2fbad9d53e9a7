"""The commands of tokens: who may use the HTTP API, and for what."""

import sys
import typing as t

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, now, open_daemon, segment, show
from daemon.errors import UsageError

token_app = App(name="token", help="Tokens of the HTTP API: who may use it, and for what.")


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(token_app)


@token_app.command
def create(
    name: t.Annotated[str, Parameter(help="What it is for; a-z, 0-9, _, . and -.")],
    /,
    *,
    scope: t.Annotated[
        list[t.Literal["read", "operate", "send", "history"]],
        Parameter(
            negative="",
            help="What it allows; can be repeated. operate includes read, send does not; history"
            " shows what was deleted or changed, with its former content; exports need it, too.",
        ),
    ],
    expires: t.Annotated[
        str | None, Parameter(help='After how long it expires, such as "90d"; by default never.')
    ] = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Make a token. It is shown this once, and kept nowhere: only its hash is."""
    from config.durations import parse_duration

    seconds = None
    if expires is not None:
        try:
            seconds = parse_duration(expires)
        except ValueError as error:
            raise UsageError(f'--expires: {error}; write it like "90d" or "12h"') from error
    body = {"name": name, "scopes": scope, "expires_in": seconds}
    with open_daemon(config) as client:
        row = client.post("/tokens", body=body)
    show(row, json, lambda: row["token"])
    if not json:
        sys.stderr.write(
            "Keep it now: it is not shown again. Programs send it with each request:\n"
            "  Authorization: Bearer <token>\n"
        )
    return 0


@token_app.command(name="list")
def list_tokens(
    *,
    revoked: t.Annotated[
        bool, Parameter(negative="", help="Those that were revoked, too.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List tokens, the oldest first."""
    from daemon.screen_token import tokens_table

    with open_daemon(config) as client:
        rows = client.get("/tokens", revoked=revoked)
    show(rows, json, lambda: tokens_table(rows, now()), "There is no token.")
    return 0


@token_app.command
def revoke(
    which: t.Annotated[str, Parameter(help="The name or the id of a token.")],
    /,
    *,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Refuse a token from now on."""
    with open_daemon(config) as client:
        row = client.delete(f"/tokens/{segment(which)}")
    show(row, json, lambda: f"The token {row['name']} is revoked.")
    return 0
