"""The commands that make, show, change and delete connections."""

import typing as t

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, Name, open_daemon, segment, show
from daemon.errors import UsageError

connection_app = App(
    name="connection", help="Make connections without touching supervisor.toml, show, delete them."
)

Window: t.TypeAlias = t.Annotated[
    str | None, Parameter(help="For how long a closed conversation is reopened, as 12h.")
]
Counted: t.TypeAlias = t.Annotated[
    t.Literal["closed_at", "last_message"] | None, Parameter(help="From when that counts.")
]
Proxy: t.TypeAlias = t.Annotated[
    str | None,
    Parameter(help="URL of its way out, empty for none; @FILE reads it from a file."),
]
Switch: t.TypeAlias = bool | None


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(connection_app)


@connection_app.command
def create(
    name: t.Annotated[str, Parameter(help="1 to 63 of a-z, 0-9, _ and -.")],
    /,
    *,
    autostart: Switch = None,
    proxy: Proxy = None,
    reopen_window: Window = None,
    reopen_from: Counted = None,
    team_reopens: Switch = None,
    groups: Switch = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Make a connection; it survives restarts. What is not given follows the configuration."""
    body = _given(
        name=name,
        autostart=autostart,
        proxy=_read(proxy),
        reopen_window=reopen_window,
        reopen_from=reopen_from,
        team_reopens=team_reopens,
        groups=groups,
    )
    with open_daemon(config) as client:
        row = client.post("/connections", body=body)
    sentence = f"Connection {name} is made; link a phone with: zapvisor pair {name}"
    show(row, json, lambda: sentence)
    return 0


@connection_app.command(name="show")
def show_connection(name: Name, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Show a connection with its settings, its own and those that follow the configuration."""
    with open_daemon(config) as client:
        row = client.get(f"/connections/{segment(name)}")
    show(row, json, lambda: "\n".join(_lines(row)))
    return 0


@connection_app.command
def change(
    name: Name,
    /,
    *,
    autostart: Switch = None,
    proxy: Proxy = None,
    reopen_window: Window = None,
    reopen_from: Counted = None,
    team_reopens: Switch = None,
    groups: Switch = None,
    default: t.Annotated[
        tuple[str, ...], Parameter(negative="", help="Settings that follow the others again.")
    ] = (),
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Change settings of a connection that was made so; no other one is touched."""
    body = _given(
        autostart=autostart,
        proxy=_read(proxy),
        reopen_window=reopen_window,
        reopen_from=reopen_from,
        team_reopens=team_reopens,
        groups=groups,
    ) | {key.replace("-", "_"): None for key in default}
    if not body:
        raise UsageError("say what is to be changed, as --reopen-window 12h")
    with open_daemon(config) as client:
        row = client.patch(f"/connections/{segment(name)}", body=body)
    show(row, json, lambda: "\n".join(_lines(row)))
    return 0


@connection_app.command
def delete(
    name: Name,
    /,
    *,
    force: t.Annotated[
        bool,
        Parameter(
            negative="",
            help="Even if a phone is linked: its keys are deleted here, and the phone lists the"
            " device until it is removed there.",
        ),
    ] = False,
    config: ConfigFile = None,
) -> int:
    """Stop and forget a connection that was made so; its messages stay."""
    with open_daemon(config) as client:
        client.delete(f"/connections/{segment(name)}", force=force)
    show(None, False, lambda: f"Connection {name} is deleted; its messages stay.")
    return 0


def _given(**settings: t.Any) -> dict[str, t.Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _read(proxy: str | None) -> str | None:
    """The URL, out of a file if that is said: the list of processes shows what is typed."""
    if proxy is None or not proxy.startswith("@"):
        return proxy
    try:
        with open(proxy[1:], encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{proxy[1:]} cannot be read: {error}") from error


def _lines(row: dict[str, t.Any]) -> list[str]:
    origin = "the configuration file" if row["origin"] == "file" else "made through the API"
    lines = [f"{row['name']}: {row['state']}, {row['sentence']}", f"origin         {origin}"]
    for key, value in row["effective"].items():
        said = {True: "yes", False: "no", "": "none"}.get(value, value)
        own = "" if row["settings"][key] is None else "  (its own)"
        lines.append(f"{key:<14} {said}{own}")
    return lines
