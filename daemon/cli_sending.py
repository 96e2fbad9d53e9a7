"""The commands that send: a message, and what became of it."""

import mimetypes
import secrets
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
    Name,
    OnlyConnection,
    now,
    open_daemon,
    read_rows,
    segment,
    show,
)
from daemon.errors import RefusedError, UsageError

if t.TYPE_CHECKING:
    from daemon.client import ControlClient

PAUSE: t.Final = 0.5  # seconds between two looks at a message that is being sent
SETTLED: t.Final = frozenset({"sent", "delivered", "read", "played"})
STUCK: t.Final = frozenset({"failed", "unknown"})
_LONGEST_NUMBER: t.Final = 18  # digits; WhatsApp's own ids are longer

Which: t.TypeAlias = str | None
State: t.TypeAlias = t.Literal[
    "queued", "sending", "unknown", "failed", "sent", "delivered", "read", "played"
]

outbox_app = App(name="outbox", help="What is to be sent, and what became of it.")


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(send)
    app.command(outbox_app)


def send(
    name: Name,
    to: t.Annotated[str, Parameter(help="A phone number with country code, or an address.")],
    text: t.Annotated[str | None, Parameter(help="The text, the caption or the emoji.")] = None,
    /,
    *,
    reply: t.Annotated[Which, Parameter(help="The message that this one answers.")] = None,
    react: t.Annotated[
        Which, Parameter(help="The message to react to with the emoji TEXT; none takes it back.")
    ] = None,
    edit: t.Annotated[Which, Parameter(help="The message of ours that is to read TEXT.")] = None,
    revoke: t.Annotated[Which, Parameter(help="The message to delete for everyone.")] = None,
    file: t.Annotated[Path | None, Parameter(help="A file to send; TEXT is its caption.")] = None,
    key: t.Annotated[
        str | None, Parameter(help="With the same key the message is sent once, however often.")
    ] = None,
    wait: t.Annotated[bool, Parameter(negative="", help="Wait until WhatsApp has it.")] = False,
    timeout: t.Annotated[float, Parameter(help="How many seconds to wait at most.")] = 60.0,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Send a message: a text, a file, a reaction, a new text for one of ours.

    Messages are named by the numbers that zapvisor messages shows, or by WhatsApp's ids.
    Without --wait the message is queued when this ends, and is sent however long it takes.
    """
    fields = _fields(text, reply=reply, react=react, edit=edit, revoke=revoke, file=file)
    headers = {"Idempotency-Key": key or f"cli-{secrets.token_hex(16)}"}
    if not headers["Idempotency-Key"].isascii():
        raise UsageError("--key: only ASCII characters")
    with open_daemon(config) as client:
        if file is not None:
            fields |= _upload(client, file)
        path = f"/connections/{segment(name)}/messages"
        row = client.post(path, body={"to": to, **fields}, headers=headers)
        if wait:
            row = _follow(client, row, timeout)
    show(row, json, lambda: _sentence(row))
    return 0


def _fields(text: str | None, *, file: Path | None, **references: Which) -> dict[str, t.Any]:
    """The request without its file.

    Raises:
        UsageError: options that exclude each other, or no text where there must be one.
    """
    given = [option for option, value in references.items() if value is not None]
    if len(given) > 1:
        raise UsageError(" and ".join(f"--{option}" for option in given) + " exclude each other")
    option = given[0] if given else None
    if file is not None and option not in (None, "reply"):
        raise UsageError(f"--file and --{option} exclude each other")
    reference = None if option is None else _reference(references[option] or "")
    match option:
        case "revoke" if text is None:
            return {"kind": "revoke", "target": reference}
        case "revoke":
            raise UsageError("--revoke takes no text")
        case "react":
            return {"kind": "reaction", "target": reference, "emoji": text or ""}
        case _ if text is None and file is None:
            raise UsageError("there is no text; say what to send")
        case "edit":
            return {"kind": "edit", "target": reference, "text": text}
    quoted = {} if reference is None else {"quoted": reference}
    if file is not None:
        return {"kind": "media", **quoted} | ({} if text is None else {"caption": text})
    return {"kind": "reply" if quoted else "text", "text": text, **quoted}


def _reference(value: str) -> str | int:
    numbered = value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER
    return int(value) if numbered else value


def _upload(client: "ControlClient", path: Path) -> dict[str, t.Any]:
    """Hand a file over; the fields that name and describe it."""
    mimetype = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        with path.open("rb") as file:
            uploaded = client.upload("/media", file, path.stat().st_size)
    except OSError as error:
        raise UsageError(f"--file: {path} cannot be read: {error.strerror}") from error
    return {
        "file": uploaded["sha256"],
        "mimetype": mimetype,
        "name": path.name,
    }


def _follow(client: "ControlClient", row: dict[str, t.Any], timeout: float) -> dict[str, t.Any]:
    """Ask until the message is with WhatsApp.

    Raises:
        RefusedError: it failed, nobody knows, or it took too long.
    """
    deadline = time.monotonic() + timeout
    while row["state"] not in SETTLED:
        if row["state"] in STUCK:
            raise RefusedError(f"message {row['id']} is {row['state']}: {row['reason']}")
        if time.monotonic() > deadline:
            raise RefusedError(
                f"message {row['id']} is still {row['state']} after {timeout:g} s;"
                " it is sent when that is possible, and zapvisor outbox shows it"
            )
        time.sleep(PAUSE)
        row = client.get(f"/outbox/{row['id']}")
    return row


def _sentence(row: dict[str, t.Any]) -> str:
    return f"Message {row['id']} is {row['state']}."


@outbox_app.default
def outbox(
    *,
    connection: OnlyConnection = None,
    state: t.Annotated[State | None, Parameter(help="Only those.")] = None,
    limit: HowMany = 50,
    everything: Everything = False,
    cursor: FromCursor = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List messages to send, the newest first."""
    from daemon.screen_inbox import outbox_table

    with open_daemon(config) as client:
        path = "/outbox" if connection is None else f"/connections/{segment(connection)}/outbox"
        rows = read_rows(
            client, path, everything=everything, cursor=cursor, limit=limit, state=state
        )
    show(rows, json, lambda: outbox_table(rows, now()), "Nothing was to be sent.")
    return 0


@outbox_app.command
def retry(number: int, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Send a message again of which nobody knows whether it was sent: it may arrive twice."""
    with open_daemon(config) as client:
        row = client.post(f"/outbox/{number}/retry")
    show(row, json, lambda: _sentence(row))
    return 0
