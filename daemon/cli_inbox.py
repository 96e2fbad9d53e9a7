"""The commands that read: messages, people, groups; and reading stored messages anew."""

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
from daemon.errors import RefusedError

LONG_POLL: t.Final = 20.0  # seconds

contacts_app = App(name="contacts", help="People, and who was found to be one person.")


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(messages)
    app.command(contacts_app)
    app.command(groups)
    app.command(reprocess)


def messages(
    conversation: t.Annotated[int, Parameter(help="As zapvisor conversations numbers it.")],
    /,
    *,
    before: t.Annotated[int | None, Parameter(help="Those before this message.")] = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show the newest messages of a conversation as they read now, the oldest of them first."""
    from daemon.screen_inbox import messages_table

    with open_daemon(config) as client:
        path = f"/conversations/{conversation}/messages"
        rows = read_rows(
            client,
            path,
            everything=everything,
            cursor=cursor,
            limit=limit,
            earlier=True,
            before=before,
        )
    show(rows, json, lambda: messages_table(rows, now()), "No message comes before that one.")
    return 0


@contacts_app.default
def contacts(
    *,
    query: t.Annotated[str | None, Parameter(help="Part of a name or of an address.")] = None,
    connection: OnlyConnection = None,
    after: t.Annotated[int, Parameter(help="Those after this contact.")] = 0,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List people with their names and addresses."""
    from daemon.screen_inbox import contacts_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/contacts",
            everything=everything,
            cursor=cursor,
            limit=limit,
            query=query,
            connection=connection,
            after=after,
        )
    show(rows, json, lambda: contacts_table(rows), "No contact fits.")
    return 0


@contacts_app.command
def merges(
    *,
    connection: OnlyConnection = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List contacts that were found to be one person, the newest first."""
    from daemon.screen_inbox import merges_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/contacts/merges",
            everything=everything,
            cursor=cursor,
            limit=limit,
            connection=connection,
        )
    show(rows, json, lambda: merges_table(rows, now()), "No contacts were merged.")
    return 0


@contacts_app.command
def undo(number: int, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Make two contacts again of those that a merge made one."""
    with open_daemon(config) as client:
        row = client.post(f"/contacts/merges/{number}/undo")
    show(row, json, lambda: f"Contacts {row['survivor']} and {row['merged']} are two again.")
    return 0


def groups(
    *,
    connection: OnlyConnection = None,
    after: t.Annotated[str, Parameter(help="Those after this address.")] = "",
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List groups by address."""
    from daemon.screen_inbox import groups_table

    with open_daemon(config) as client:
        rows = read_rows(
            client,
            "/groups",
            everything=everything,
            cursor=cursor,
            limit=limit,
            connection=connection,
            after=after,
        )
    show(rows, json, lambda: groups_table(rows), "No group is known.")
    return 0


def reprocess(
    connection: t.Annotated[str | None, Parameter(help="Only its messages.")] = None,
    /,
    *,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Read all stored messages anew: what this version understands better is rewritten."""
    with open_daemon(config) as client:
        facts = client.post("/reprocess", connection=connection)
        while facts["state"] == "running":
            facts = client.get("/reprocess", wait=LONG_POLL)
    if facts["state"] == "failed":
        raise RefusedError(f"the messages were not all read anew: {facts['error']}")
    show(
        facts,
        json,
        lambda: (
            f"Read {facts['read']} messages anew: {facts['changed']} changed,"
            f" {facts['still_unknown']} are still unknown, {facts['rejected']} were rejected."
        ),
    )
    return 0
