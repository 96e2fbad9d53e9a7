"""The command that takes over the credentials of a system built on Baileys."""

import secrets
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, open_daemon, segment

WARNING: t.Final = (
    "The old system must be stopped for good: two programs with the same credentials throw each"
    " other out, and each message that one of them opens is lost for the other."
)


def register(app: App) -> None:
    """Make the command part of the program."""
    app.command(name="import-baileys")(import_baileys)


def import_baileys(
    path: Path,
    /,
    *,
    connection: t.Annotated[
        str, Parameter(name="--connection", help="The stopped connection that gets them.")
    ],
    force: t.Annotated[
        bool, Parameter(negative="", help="Replace the device that the connection has.")
    ] = False,
    skip_damaged: t.Annotated[
        bool,
        Parameter(name="--skip-damaged", negative="", help="Leave out files that are not whole."),
    ] = False,
    check: t.Annotated[
        bool, Parameter(negative="", help="Only look whether it can be imported.")
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Take over a WhatsApp device from Baileys (useMultiFileAuthState): nobody scans again.

    The directory is only read. Everything is stored in one transaction, or nothing. The
    connection stays stopped; start it when the old system is stopped for good.
    """
    from daemon.baileys.convert import read_directory
    from daemon.baileys.files import AuthDirectory

    with open_daemon(config) as client:
        directory = AuthDirectory(path, skip_damaged=skip_damaged)
        found = read_directory(directory, secrets.token_bytes)
        row = None
        if not check:
            row = client.post(
                f"/connections/{segment(connection)}/import", body=found.as_json(), force=force
            )
    facts = {
        "connection": connection,
        "imported": not check,
        "counts": found.counts(),
        "left_out": found.left_out,
        "damaged_files": directory.damaged,
    }
    from daemon.screen import console, print_json

    if json:
        print_json(facts)
        return 0
    screen = console()
    screen.print("It can be imported." if row is None else "Imported.", style="bold")
    for kind, count in found.counts().items():
        left = found.left_out.get(kind.removesuffix("s"), 0)
        note = f" ({left} more are left out, and are negotiated anew)" if left else ""
        screen.print(f"  {kind.replace('_', ' '):<16}{count}{note}", markup=False)
    for kind in sorted(found.left_out.keys() - {kind.removesuffix("s") for kind in found.counts()}):
        left = found.left_out[kind]
        screen.print(f"  {kind.replace('_', ' '):<16}0 ({left} are left out)", markup=False)
    for name in directory.damaged:
        screen.print(f"  left out, not whole: {name}", markup=False)
    screen.print(WARNING, markup=False)
    if row is not None:
        screen.print(f"Then: zapvisor start {connection}", markup=False)
    return 0
