"""The commands that tell how everything is: health, statistics, and the live view."""

import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, load, now, open_daemon, segment, show
from daemon.errors import CommandError, UsageError

HEALTH_EXIT: t.Final = {"ok": 0, "degraded": 1, "failing": 2}
PATIENCE: t.Final = 10.0  # seconds for an answer that is due within 5
STEPS: t.Final = {"minute": 1440, "hour": 720, "day": 400}  # the most that are shown


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(health)
    app.command(stats)
    app.command(top)


def health(
    *,
    live: t.Annotated[
        bool,
        Parameter(
            negative="",
            help="Only whether the daemon answers: exit code 0 or 1, for a container's check.",
        ),
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Judge the whole: exit code 0 (ok), 1 (degraded) or 2 (failing, or no daemon)."""
    if live:
        return _live(json, config)
    try:
        with open_daemon(config, timeout=PATIENCE) as client:
            facts = client.get("/health/detailed")
    except CommandError as error:
        error.exit_code = HEALTH_EXIT["failing"]
        raise
    from daemon.screen import console, print_json
    from daemon.screen_health import print_health

    if json:
        print_json(facts)
    else:
        print_health(console(), facts, now())
    return HEALTH_EXIT[facts["verdict"]]


def _live(json: bool, config: Path | None) -> int:
    """A daemon that waits for its database lives: to restart it would change nothing."""
    try:
        with open_daemon(config, timeout=PATIENCE) as client:
            facts = client.get("/health/live")
    except CommandError as error:
        error.exit_code = 1  # engines of containers keep 2 for themselves
        raise
    show(facts, json, lambda: "alive")
    return 0


def stats(
    name: t.Annotated[str | None, Parameter(help="A connection; by default all together.")] = None,
    /,
    *,
    by: t.Annotated[
        t.Literal["minute", "hour", "day", "connection"],
        Parameter(help="A row for each; by connection: the sums of the time shown."),
    ] = "hour",
    last: t.Annotated[
        int | None,
        Parameter(help="How many minutes, hours or days; by default 60, 24 or 30."),
    ] = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show what was delivered: total, processed, skipped (duplicates) and errors.

    The phone's own notices and exchanges of keys are deliveries, too.

    Days are those of this system's time zone.
    """
    step = "hour" if by == "connection" else by
    if last is not None and not 1 <= last <= STEPS[step]:
        raise UsageError(f"--last: {last} is not between 1 and {STEPS[step]}")
    from daemon.cli_timeline import local_zone

    query: dict[str, t.Any] = {"step": step, "tz": local_zone()}
    if name is not None:
        segment(name)
        query["connection"] = name
    if by == "connection":
        query["by"] = "connection"
    if last is not None:
        query["last"] = last
    with open_daemon(config) as client:
        points = client.get("/statistics", **query)
    from daemon.screen import console, print_json
    from daemon.screen_health import sums_by_connection, sums_table, sync_table

    if json:
        print_json(sums_by_connection(points) if by == "connection" else points)
    elif by == "connection":
        console().print(sums_table(sums_by_connection(points)))
    else:
        console().print(sync_table(points, step))
    return 0


def top(
    *,
    interval: t.Annotated[
        str, Parameter(help='How often it looks, such as "2s"; at least half a second.')
    ] = "2s",
    once: t.Annotated[
        bool, Parameter(negative="", help="Draw one picture and end, for scripts.")
    ] = False,
    config: ConfigFile = None,
) -> int:
    """Watch connections, writer and database live; ends with Ctrl-C.

    It goes on while the daemon is restarted, and says that it does not answer. With ``--once`` the
    exit code is that of ``zapvisor health``.
    """
    from config.durations import parse_duration

    try:
        seconds = parse_duration(interval)
    except ValueError as error:
        raise UsageError(f'--interval: {error}; write it like "2s"') from error
    if not 0.5 <= seconds <= 3600:
        raise UsageError(f"--interval: {interval} is not between 0.5 s and an hour")
    settings = load(config, "nothing was asked")
    from daemon.top import run_top

    return run_top(settings.control_socket, interval=seconds, once=once)
