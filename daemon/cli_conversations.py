"""The commands of conversations: listing, finding, opening and closing."""

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

conversations_app = App(
    name="conversations", help="List, find, open, close and reopen conversations."
)

Contact: t.TypeAlias = t.Annotated[
    str | None,
    Parameter(help="Of one person or group: a phone number, an address, a contact's id."),
]
Since: t.TypeAlias = t.Annotated[
    str | None, Parameter(help="From then on, as 2026-03-01T00:00:00Z.")
]
Until: t.TypeAlias = t.Annotated[str | None, Parameter(help="Before that.")]
Former: t.TypeAlias = t.Annotated[
    bool, Parameter(negative="", help="What messages said before they were edited, too.")
]
Deleted: t.TypeAlias = t.Annotated[
    bool, Parameter(negative="", help="Messages that were deleted for everyone, too.")
]


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(conversations_app)
    app.command(search)


@conversations_app.default
def conversations(
    *,
    status: t.Annotated[
        t.Literal["waiting", "open", "closed"] | None, Parameter(help="Only those.")
    ] = None,
    connection: OnlyConnection = None,
    contact: Contact = None,
    query: t.Annotated[
        str | None,
        Parameter(
            help="Whose contact or group is called so, or with a message that has these words;"
            " see zapvisor search. The beginning of a name: 'mari*'."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List conversations, the most recently active first."""
    from daemon.screen import conversations_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/conversations",
            everything=everything,
            cursor=cursor,
            limit=limit,
            status=status,
            connection=connection,
            contact=contact,
            query=query,
            since=since,
            until=until,
        )
    show(rows, json, lambda: conversations_table(rows, now()), "No conversation fits.")
    return 0


@conversations_app.command(name="open")
def open_conversation(number: int, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Take a waiting or closed conversation up."""
    return _set_conversation(number, "open", json, config)


@conversations_app.command(name="close")
def close_conversation(number: int, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Close a conversation; a new message within the window reopens it."""
    return _set_conversation(number, "close", json, config)


@conversations_app.command(name="reopen")
def reopen_conversation(number: int, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Let a closed conversation wait for somebody again."""
    return _set_conversation(number, "reopen", json, config)


def search(
    text: t.Annotated[
        str,
        Parameter(
            help="Words that a message has to have, whatever their case and accents; entreg*"
            " for the beginning of one, ' -troca' for one that it must not have."
        ),
    ],
    /,
    *,
    connection: OnlyConnection = None,
    contact: Contact = None,
    since: Since = None,
    until: Until = None,
    former: Former = False,
    deleted: Deleted = False,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Find messages by their words, the newest first."""
    from daemon.screen_inbox import hits_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/messages",
            everything=everything,
            cursor=cursor,
            limit=limit,
            query=text,
            connection=connection,
            contact=contact,
            since=since,
            until=until,
            former=former,
            deleted=deleted,
        )
    show(rows, json, lambda: hits_table(rows, now()), "No message fits.")
    return 0


def _set_conversation(number: int, order: str, json: bool, config: Path | None) -> int:
    with open_daemon(config) as client:
        row = client.post(f"/conversations/{number}/{order}")
    show(row, json, lambda: f"Conversation {row['id']} is {row['status']}.")
    return 0
