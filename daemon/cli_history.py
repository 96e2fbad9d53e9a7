"""The command of the history of a connection: how far its import is, and more of it."""

import typing as t

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, open_daemon, segment, show
from daemon.completing import connection_names
from daemon.errors import UsageError


def register(app: App) -> None:
    """Make the command part of the program."""
    app.command(history)


def history(
    name: t.Annotated[str, Parameter(completer=connection_names)],
    /,
    *,
    older: t.Annotated[
        str | None, Parameter(help="Ask the phone for older messages of this chat.")
    ] = None,
    count: t.Annotated[int, Parameter(help="How many of them, at most 500.")] = 50,
    retry: t.Annotated[
        bool, Parameter(negative="", help="Import the parts that failed again.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show how far the import of a connection's history is, or ask for more of it.

    What was deleted or edited is another thing: zapvisor changes.
    """
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
