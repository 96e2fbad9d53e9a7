"""The commands that erase: a person on request, and what rules of retention remove."""

import json as json_module
import os
import sys
import time
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
    now,
    open_daemon,
    read_rows,
    show,
)
from daemon.errors import NoDaemonError, RefusedError, UsageError

if t.TYPE_CHECKING:
    from daemon.client import ControlClient

POLL: t.Final = 0.5  # seconds between two looks at an erasure
PATIENCE: t.Final = 3600.0  # seconds


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(forget)
    app.command(retention)


def forget(
    contact: t.Annotated[
        str | None, Parameter(help="The person: a contact's id, a phone number, or an address.")
    ] = None,
    /,
    *,
    connection: OnlyConnection = None,
    yes: t.Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    by: t.Annotated[str | None, Parameter(help="Who answers for it; by default this user.")] = None,
    certificate: t.Annotated[
        Path | None,
        Parameter(
            help="Write a certificate of what was erased to this new file; readable text beside"
            " it, under the same name with .txt."
        ),
    ] = None,
    dry_run: t.Annotated[
        bool, Parameter(negative="", help="Only show who that is, and where.")
    ] = False,
    list_: t.Annotated[
        bool, Parameter(name="--list", negative="", help="Show the erasures so far instead.")
    ] = False,
    number: t.Annotated[
        int | None,
        Parameter(name="--show", help="Show this erasure instead; with --certificate, write it."),
    ] = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Erase a person everywhere, for good: messages, names, addresses, files."""
    import getpass

    from daemon.screen_erasure import certificate_lines, erasures_table, subject_lines

    if sum((contact is not None, list_, number is not None)) != 1:
        raise UsageError("give a contact to forget, or --list, or --show and a number")
    if certificate is not None:
        _check_free(certificate)
    with open_daemon(config) as client:
        if list_:
            rows = read_rows(client, "/erasures", everything=everything, cursor=cursor, limit=limit)
            show(rows, json, lambda: erasures_table(rows, now()), "Nobody was forgotten.")
            return 0
        if number is not None:
            row = client.get(f"/erasures/{number}")
        else:
            order = {"contact": contact, "connection": connection}
            subject = client.post("/erasures", body={**order, "dry_run": True})
            if dry_run:
                show(subject, json, lambda: "\n".join(subject_lines(subject)))
                return 0
            if not yes:
                _confirm(subject_lines(subject))
            who = by or getpass.getuser()
            row = _wait(client, client.post("/erasures", body={**order, "by": who}))
    if certificate is not None:
        _write(certificate, json_module.dumps(row, indent=2) + "\n")
        _write(_beside(certificate), "\n".join(certificate_lines(row)) + "\n")
    show(row, json, lambda: "\n".join(certificate_lines(row)))
    return 0 if row["state"] == "done" else 1


def _confirm(lines: list[str]) -> None:
    """Ask whoever sits there.

    Raises:
        UsageError: nobody does.
        RefusedError: they do not want it.
    """
    if not sys.stdin.isatty():
        raise UsageError("this cannot be taken back, and nobody can be asked; say --yes, too")
    sys.stderr.write("\n".join(lines) + "\nThis cannot be taken back. Type forget to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "forget":
        raise RefusedError("it was not confirmed; nothing was changed")


def _wait(client: "ControlClient", row: dict[str, t.Any]) -> dict[str, t.Any]:
    """The erasure once it is done; if that takes too long, as it is then.

    Raises:
        NoDaemonError: the daemon went away meanwhile; the order stands.
    """
    deadline = time.monotonic() + PATIENCE
    while row["state"] != "done" and time.monotonic() < deadline:
        time.sleep(POLL)
        try:
            row = client.get(f"/erasures/{row['id']}")
        except NoDaemonError as error:
            raise NoDaemonError(
                f"{error}; the order stands, and is carried out once the daemon runs:"
                f" zapvisor forget --show {row['id']}"
            ) from error
    return row


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.txt")


def _check_free(path: Path) -> None:
    """Find out before anything is erased that the certificate has a place."""
    for each in (path, _beside(path)):
        if each.exists():
            raise UsageError(f"--certificate: {each} exists already; nothing was done")
    if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"--certificate: nothing can be written to {path.absolute().parent}")


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RefusedError(
            f"--certificate: {path} cannot be written: {error.strerror}; what was ordered is done:"
            " zapvisor forget --list shows it, --show with --certificate writes it"
        ) from error


def retention(
    *,
    dry_run: t.Annotated[
        bool, Parameter(negative="", help="Count what each rule would remove now.")
    ] = False,
    limit: HowMany = 50,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Show the rules of retention and what they have removed."""
    from daemon.screen_erasure import preview_table, retention_parts

    if dry_run:
        with open_daemon(config) as client:
            found = client.get("/retention/preview")
        rows = found["rows"]
        show(rows, json, lambda: preview_table(rows), "The rules would remove nothing now.")
        if not found["complete"]:
            sys.stderr.write("There are more messages than could be looked at; at least these.\n")
        return 0
    with open_daemon(config) as client:
        found = client.get("/retention", limit=limit)
    show(found, json, lambda: retention_parts(found, now()))
    return 0
