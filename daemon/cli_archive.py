"""The command that puts an archive back."""

import sys
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, load, show


def register(app: App) -> None:
    """Make the command part of the program."""
    app.command(name="import")(import_)


def import_(
    path: Path,
    /,
    *,
    connection: t.Annotated[
        str | None,
        Parameter(name="--connection", help="Store it under this name; it holds only one."),
    ] = None,
    identity: t.Annotated[
        Path | None,
        Parameter(name="--identity", help="A file with the secret key that opens it."),
    ] = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Store an archive that zapvisor export has written; what is there already stays as it is.

    The daemon may go on working. Whatever was interrupted may simply be run again. The exit code
    is 1 if a record could not be stored.

    Parameters
    ----------
    path
        The directory of an export, or one file of lines, also .zst or .age.
    """
    settings = load(config, "nothing was imported")
    from daemon.importing import ImportOptions, run_import
    from daemon.logs import configure_logs
    from daemon.screen_archive import import_table

    configure_logs(level="error", stream=sys.stderr)
    options = ImportOptions(
        path=path.absolute(),
        connection=connection,
        identity=None if identity is None else identity.absolute(),
        progress=_Line() if sys.stderr.isatty() else lambda _text: None,
    )
    facts = run_import(settings, options)
    show(facts, json, lambda: import_table(facts))
    return 1 if facts["refused"] else 0


class _Line:
    """One line of a terminal that is written again and again."""

    def __call__(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text[:70]}")
        sys.stderr.flush()
