"""The command that puts an archive back."""

import sys
import typing as t
import zoneinfo
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, load, show
from daemon.errors import UsageError


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
    chat: t.Annotated[
        str | None,
        Parameter(help="Of export chat: the number of the other person, or the group's address."),
    ] = None,
    me: t.Annotated[
        str | None, Parameter(help="Of export chat: what this account is called in it.")
    ] = None,
    person: t.Annotated[
        list[str] | None,
        Parameter(negative="", help='Of a group\'s: "NAME=+55…"; once for each who wrote.'),
    ] = None,
    date_order: t.Annotated[
        t.Literal["dmy", "mdy", "ymd"] | None,
        Parameter(help="Of export chat: what its dates begin with, where it does not tell."),
    ] = None,
    tz: t.Annotated[
        str | None,
        Parameter(help="Of export chat: the phone's time zone; by default that of [export]."),
    ] = None,
    everything: t.Annotated[
        bool,
        Parameter(
            name="--all",
            negative="",
            help="Of export chat: also from when on messages are stored as WhatsApp sent them.",
        ),
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Store an archive that zapvisor export has written; what is there already stays as it is.

    Or a chat that a phone has exported as text, as history: with --connection, --chat and --me.

    The daemon may go on working. Whatever was interrupted may simply be run again. The exit code
    is 1 if a record could not be stored.

    Parameters
    ----------
    path
        The directory of an export, or one file of lines, also .zst or .age; or the .txt or .zip of
        WhatsApp's "export chat".
    """
    settings = load(config, "nothing was imported")
    if path.suffix.lower() in (".txt", ".zip") and not path.is_dir():
        if connection is None or chat is None or me is None:
            raise UsageError("the text of a chat needs --connection, --chat and --me")
        from daemon.chat_import import ChatOptions, run_chat_import
        from daemon.export_wiring import zone_of_exports
        from daemon.logs import configure_logs
        from daemon.screen_archive import chat_table

        configure_logs(level="error", stream=sys.stderr)
        facts = run_chat_import(
            settings,
            ChatOptions(
                path=path.absolute(),
                connection=connection,
                chat=chat,
                me=me,
                people=tuple(person or ()),
                date_order=date_order,
                zone=_zone(tz or zone_of_exports(settings)),
                everything=everything,
                progress=_Line() if sys.stderr.isatty() else lambda _text: None,
            ),
        )
        show(facts, json, lambda: chat_table(facts))
        return 1 if facts["refused"] else 0
    if any(each is not None for each in (chat, me, person, date_order, tz)) or everything:
        raise UsageError("--chat, --me and the like are for the .txt or .zip of an exported chat")
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


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise UsageError(f"--tz: this system knows no time zone {name!r}") from error
    return name


class _Line:
    """One line of a terminal that is written again and again."""

    def __call__(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text[:70]}")
        sys.stderr.flush()
