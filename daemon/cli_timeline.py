"""The command that tells what a connection did."""

import os
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, Name, open_daemon, segment
from daemon.errors import UsageError

LOCALTIME: t.Final = Path("/etc/localtime")


def register(app: App) -> None:
    """Make the command part of the program."""
    app.command(timeline)


def timeline(
    name: Name,
    /,
    *,
    days: t.Annotated[int, Parameter(help="How many, today included; at most 92.")] = 7,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show what a connection did, oldest first, and its uptime per day, in local time.

    Uptime is the time online, of the time in which it should have been: time in which an operator
    had it stopped is left out; time without a daemon is not.
    """
    if not 1 <= days <= 92:
        raise UsageError(f"--days: {days} is not between 1 and 92")
    path = f"/connections/{segment(name)}/timeline"
    with open_daemon(config) as client:
        whole = client.get(path, days=days, zone=local_zone())
        following = whole.pop("next")
        while following is not None:
            page = client.get(path, days=days, after=following)
            whole["transitions"] += page["transitions"]
            following = page["next"]
    from daemon.screen import console, print_json
    from daemon.screen_timeline import days_table, summary, transitions_table

    if json:
        print_json(whole)
        return 0
    screen = console()
    if whole["transitions"]:
        screen.print(transitions_table(whole["transitions"]))
        screen.print()
    screen.print(days_table(whole["days"]))
    screen.print(summary(whole), markup=False)
    return 0


def local_zone() -> str | None:
    """The name of this system's time zone, as far as it is told; the daemon may have another."""
    if named := os.environ.get("TZ", "").removeprefix(":"):
        return named if _is_zone(named) else None
    try:
        place = LOCALTIME.resolve(strict=True)
    except OSError:
        return None
    _root, found, zone = str(place).partition("/zoneinfo/")
    return zone if found and _is_zone(zone) else None


def _is_zone(name: str) -> bool:
    """Whether it is a name, and not a rule, of a time zone."""
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True
