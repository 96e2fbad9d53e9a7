"""The commands that show the daemon's log, and set from which level on there is one."""

import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, load, open_daemon
from daemon.errors import UsageError

logs_app = App(name="logs", help="Show the daemon's log, and set its level.")

Level: t.TypeAlias = t.Literal["debug", "info", "warning", "error"]
MAX_LINES: t.Final = 10_000


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(logs_app)


@logs_app.default
def logs(
    connection: t.Annotated[
        str | None, Parameter(name="--connection", help="Only lines about this connection.")
    ] = None,
    *,
    follow: t.Annotated[
        bool,
        Parameter(name=("--follow", "-f"), negative="", help="Go on with the lines that come."),
    ] = False,
    level: t.Annotated[Level, Parameter(help="Only lines of this level and above.")] = "debug",
    lines: t.Annotated[
        int, Parameter(name=("--lines", "-n"), help="How many of the newest to begin with.")
    ] = 100,
    json: t.Annotated[
        bool, Parameter(name="--json", negative="", help="Print lines of JSON, one object each.")
    ] = False,
    config: ConfigFile = None,
) -> int:
    """Show the newest lines that the daemon keeps in memory; with -f also what follows.

    Following goes on over a restart of the daemon, until Ctrl-C.
    """
    if not 0 <= lines <= MAX_LINES:
        raise UsageError(f"--lines: {lines} is not between 0 and {MAX_LINES}")
    from daemon.follow_logs import Printer, follow_logs

    show = Printer(as_json=json)
    if follow:
        return _follow(follow_logs, show, config, connection, level, lines)
    with open_daemon(config) as client:
        for line in client.get("/logs", connection=connection, level=level, lines=lines):
            show(line)
    return 0


def _follow(
    follow: t.Any,
    show: t.Any,
    config: Path | None,
    connection: str | None,
    level: str,
    lines: int,
) -> int:
    settings = load(config, "nothing was done")
    query = {"connection": connection, "level": level, "lines": str(lines)}
    code: int = follow(settings.control_socket, query, show)
    return code


@logs_app.command(name="level")
def set_level(
    level: Level | None = None,
    /,
    *,
    for_: t.Annotated[
        str | None, Parameter(name="--for", help='For how long, such as "10m".')
    ] = None,
    reset: t.Annotated[
        bool, Parameter(negative="", help="Back to the level of the configuration.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Log from another level on, until the daemon ends or for some time; show it without one.

    A connection that is called "level" is shown by: zapvisor logs --connection level
    """
    seconds = None if for_ is None else _seconds(for_)
    if level is None and seconds is not None:
        raise UsageError("--for: for how long which level? zapvisor logs level debug --for 10m")
    if reset and level is not None:
        raise UsageError("--reset: goes without a level")
    with open_daemon(config) as client:
        if level is None and not reset:
            facts = client.get("/logs/level")
        else:
            facts = client.post("/logs/level", level=level, seconds=seconds)
    from daemon.screen import console, print_json

    if json:
        print_json(facts)
        return 0
    text = f"The daemon logs from {facts['level']} on"
    if facts["seconds_left"] is not None:
        text += f" for {facts['seconds_left']:.0f} s more, then from {facts['configured']} on"
    elif facts["level"] != facts["configured"]:
        text += f" until it ends; its configuration says {facts['configured']}"
    console().print(f"{text}.", markup=False)
    return 0


def _seconds(text: str) -> float:
    from config.durations import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f'--for: {error}; write it like "30s" or "10m"') from error
    if not 0 < seconds <= 7 * 86_400:
        raise UsageError("--for: is not between a moment and 7 days")
    return seconds
