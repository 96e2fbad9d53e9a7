"""The commands of exports as files: write one, check one, list what there is."""

import datetime as dt
import sys
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
    load,
    now,
    open_daemon,
    read_rows,
    show,
)
from daemon.errors import UsageError

export_app = App(
    name="export", help="Write messages to files: for programs, for people, or to keep them."
)
exports_app = App(name="exports", help="Exports as files, and what became of them.")

ExportFormat: t.TypeAlias = t.Annotated[
    t.Literal["jsonl", "html", "csv", "whatsapp", "whatsapp-ios"],
    Parameter(
        name="--format",
        help="jsonl is everything, and can be imported; whatsapp is the text of export chat.",
    ),
]
Day: t.TypeAlias = str | None


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(export_app)
    app.command(exports_app)


@export_app.default
def export(
    *,
    connection: OnlyConnection = None,
    contact: t.Annotated[
        str | None, Parameter(help="Only the chat with this phone number or address.")
    ] = None,
    conversation: t.Annotated[int | None, Parameter(help="Only this conversation.")] = None,
    from_: t.Annotated[
        Day, Parameter(name="--from", help="The first day, such as 2026-11-01.")
    ] = None,
    to: t.Annotated[Day, Parameter(help="The last day.")] = None,
    tz: t.Annotated[
        str | None,
        Parameter(help="Of the days, and of times for people; by default that of [export]."),
    ] = None,
    form: ExportFormat = "jsonl",
    zstd: t.Annotated[
        bool | None,
        Parameter(negative="--no-zstd", help="Compress; by default only jsonl."),
    ] = None,
    recipient: t.Annotated[
        list[str] | None,
        Parameter(
            negative="", help="Encrypt to this public key of age or ssh; more than once for more."
        ),
    ] = None,
    media: t.Annotated[
        bool, Parameter(negative="", help="Copy the files of messages, too.")
    ] = False,
    to_dir: t.Annotated[
        Path | None, Parameter(help="The directory it goes to; by default that of [export].")
    ] = None,
    s3: t.Annotated[bool, Parameter(negative="", help="To the S3 store of [export].")] = False,
    name: t.Annotated[
        str | None, Parameter(help="What it is called; by default after form and time.")
    ] = None,
    resume: t.Annotated[
        bool,
        Parameter(
            negative="",
            help="Go on with one that failed or was interrupted; all else is as it was asked for.",
        ),
    ] = False,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Write messages to files, in a new directory that appears when it is complete.

    The running daemon writes it, as its user; without one it is written directly. Live messages
    are not disturbed, and nothing is overwritten.
    """
    settings = load(config, "nothing was exported")
    if to_dir is not None and s3:
        raise UsageError("either --to-dir or --s3")
    if resume and any(
        each is not None for each in (connection, contact, conversation, from_, to, recipient, zstd)
    ):
        raise UsageError("--resume goes on with what was asked for; say only --name with it")
    from daemon.export_wiring import zone_of_exports

    order = {
        "form": form,
        "connection": connection,
        "contact": contact,
        "conversation": conversation,
        "from_day": _day(from_, "--from"),
        "to_day": _day(to, "--to"),
        "timezone": tz or zone_of_exports(settings),
        "compress": zstd,
        "recipients": recipient or [],
        "media": media,
        "name": name,
        "s3": s3,
        "directory": None if to_dir is None else str(to_dir.absolute()),
    }
    from daemon.exporting import run_export
    from daemon.logs import configure_logs
    from daemon.screen_exports import export_lines

    configure_logs(level="error", stream=sys.stderr)  # stdout is for the answer

    row = run_export(settings, order, resume=resume, progress=_progress())
    show(row, json, lambda: "\n".join(export_lines(row)))
    return 0


@export_app.command
def verify(path: Path, /, *, json: Json = False) -> int:
    """Read every file of an export and compare its checksum; no key is needed.

    Parameters
    ----------
    path
        The directory of the export.
    """
    from daemon.exporting import run_verify
    from daemon.screen_exports import verify_lines

    facts = run_verify(path.absolute())
    show(facts, json, lambda: "\n".join(verify_lines(facts)))
    return 0 if facts["good"] else 1


@exports_app.default
def exports(
    *,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List exports, the newest first."""
    from daemon.screen_exports import exports_table

    with open_daemon(config) as client:
        rows = read_rows(client, "/exports", everything=everything, cursor=cursor, limit=limit)
    show(rows, json, lambda: exports_table(rows, now()), "There is no export yet.")
    return 0


@exports_app.command
def delete(number: int, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Delete the files of an export; its line in the list stays.

    Parameters
    ----------
    number
        Of the list.
    """
    with open_daemon(config) as client:
        row = client.delete(f"/exports/{number}")
    show(row, json, lambda: f"The files of {row['name']} are deleted.")
    return 0


def _day(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise UsageError(f"{option}: {text!r} is no day such as 2026-11-21") from error


def _progress() -> t.Callable[[dict[str, int]], None]:
    if not sys.stderr.isatty():
        return lambda _counts: None

    def progress(counts: dict[str, int]) -> None:
        sys.stderr.write(f"\r{counts.get('messages', 0):,} messages written …")
        sys.stderr.flush()

    return progress
