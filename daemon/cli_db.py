"""The commands for the database: back it up, put it back, keep it small, see how big it is."""

import sys
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, load, now, program_version, show
from daemon.errors import UsageError

if t.TYPE_CHECKING:
    from storage.backup import Contents
    from storage.backup_file import Manifest

Scratch: t.TypeAlias = t.Annotated[
    Path | None,
    Parameter(help="A directory with room for the test; by default that of the data."),
]

db_app = App(name="db", help="Back the database up, put a backup back, see how big it is.")


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(db_app)


@db_app.command
def backup(
    file: Path,
    /,
    *,
    verify: t.Annotated[
        bool, Parameter(negative="", help="Then test it, as zapvisor db verify does.")
    ] = False,
    scratch: Scratch = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Write the whole database to a new file that only you can read; the daemon may go on working.

    Neither the secret key nor the files of messages are in it.

    Parameters
    ----------
    file
        It appears when it is complete; nothing is overwritten.
    """
    settings = load(config, "nothing was backed up")
    _quiet()
    from daemon.screen_db import backup_lines, verdict_lines
    from daemon.upkeep import run_backup, run_verify, scratch_place

    if scratch is not None and not verify:
        raise UsageError("--scratch goes with --verify")
    with scratch_place(settings, scratch) as place:
        facts = run_backup(
            settings,
            file.absolute(),
            version=program_version(),
            now=now(),
            scratch=place if verify else None,
        )
        if not (verify and json):
            show(facts, json, lambda: "\n".join(backup_lines(facts)))
        if not verify:
            return 0
        verdict = run_verify(settings, file.absolute(), place)
    show(facts | {"verified": verdict}, json, lambda: "\n".join(verdict_lines(verdict)))
    return 0 if verdict["intact"] else 1


@db_app.command(name="verify")
def verify_file(
    file: Path,
    /,
    *,
    scratch: Scratch = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Prove a backup: restore it into a database of its own, compare, and delete that again.

    Compared are the rows and the content of each table, and whether the credentials open with the
    secret key of here. No daemon is disturbed. The exit code is 1 if anything differs.

    Parameters
    ----------
    file
        That zapvisor db backup wrote.
    """
    settings = load(config, "nothing was tested")
    _quiet()
    from daemon.screen_db import verdict_lines
    from daemon.upkeep import run_verify, scratch_place

    with scratch_place(settings, scratch) as place:
        verdict = run_verify(settings, file.absolute(), place)
    show(verdict, json, lambda: "\n".join(verdict_lines(verdict)))
    return 0 if verdict["intact"] else 1


@db_app.command
def restore(
    file: Path,
    /,
    *,
    replace: t.Annotated[
        bool, Parameter(negative="", help="Although there are messages; they are lost.")
    ] = False,
    other_key: t.Annotated[
        bool,
        Parameter(negative="", help="Although it belongs to another secret key: pair all again."),
    ] = False,
    current_keys: t.Annotated[
        bool,
        Parameter(
            negative="", help="Nothing has used its keys since it was made: do not park anybody."
        ),
    ] = False,
    yes: t.Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Put a backup in the place of the database; the daemon has to be stopped.

    All of it is put back, or nothing is changed.

    Parameters
    ----------
    file
        That zapvisor db backup wrote.
    """
    settings = load(config, "nothing was changed")
    _quiet()
    from daemon.screen_db import restore_lines
    from daemon.upkeep import RestoreOptions, run_restore

    options = RestoreOptions(
        replace=replace,
        other_key=other_key,
        current_keys=current_keys,
        confirm=_agreed if yes else _confirm,
    )
    facts = run_restore(settings, file.absolute(), options)
    show(facts, json, lambda: "\n".join(restore_lines(facts)))
    return 0


@db_app.command
def vacuum(
    *,
    full: t.Annotated[
        bool,
        Parameter(negative="", help="Give room back to the disk; the daemon has to be stopped."),
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Give the room of deleted rows back, and renew the statistics by which queries are planned.

    PostgreSQL does so by itself; this is for after a mass of deletions.
    """
    settings = load(config, "nothing was done")
    _quiet()
    from daemon.screen_db import vacuum_lines
    from daemon.upkeep import run_vacuum

    facts = run_vacuum(settings, full=full)
    show(facts, json, lambda: "\n".join(vacuum_lines(facts)))
    return 0


@db_app.command
def size(*, json: Json = False, config: ConfigFile = None) -> int:
    """Show how big the database is, what takes the room, and how fast it grows."""
    settings = load(config, "nothing was done")
    _quiet()
    from daemon.screen import console, print_json
    from daemon.screen_db import counts_table, size_lines, tables_table
    from daemon.upkeep import run_sizes

    facts = run_sizes(settings)
    if json:
        print_json(facts)
        return 0
    screen = console()
    screen.print(tables_table(facts, now()))
    screen.print()
    if facts["connections"]:
        screen.print(counts_table(facts, now()))
        screen.print()
    for line in size_lines(facts):
        screen.print(line, markup=False)
    return 0


def _quiet() -> None:
    """Only what went wrong, on stderr: stdout is for the answer."""
    from daemon.logs import configure_logs

    configure_logs(level="error", stream=sys.stderr)


def _agreed(_present: "Contents", _manifest: "Manifest") -> bool:
    return True


def _confirm(present: "Contents", manifest: "Manifest") -> bool:
    """Ask whoever sits there.

    Raises:
        UsageError: nobody does.
    """
    if not sys.stdin.isatty():
        raise UsageError("what is there would be lost, and nobody can be asked; say --yes, too")
    sys.stderr.write(
        f"{present} will be lost, and replaced by {manifest.messages:,} messages of"
        f" {manifest.created_at}.\nType replace to go on: "
    )
    sys.stderr.flush()
    return sys.stdin.readline().strip() == "replace"
