"""What all commands share: the program, its common options, and the way to the daemon."""

import collections.abc as cabc
import contextlib
import datetime as dt
import os
import sys
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.completing import connection_names
from daemon.errors import UsageError

if t.TYPE_CHECKING:
    from config.model import Config
    from daemon.client import ControlClient

ConfigFile: t.TypeAlias = t.Annotated[
    Path | None,
    Parameter(
        name=("--config", "-c"),
        help="Configuration file; by default $ZAPVISOR_CONFIG, ./supervisor.toml,"
        " /etc/zapvisor/supervisor.toml, or no file at all.",
    ),
]
Json: t.TypeAlias = t.Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON, for programs.")
]
Name: t.TypeAlias = t.Annotated[
    str, Parameter(help="A connection of the configuration.", completer=connection_names)
]
OnlyConnection: t.TypeAlias = t.Annotated[
    str | None,
    Parameter(
        name="--connection", help="Only those of this connection.", completer=connection_names
    ),
]
HowMany: t.TypeAlias = t.Annotated[int, Parameter(name="--limit", help="How many, at most 200.")]
Everything: t.TypeAlias = t.Annotated[
    bool, Parameter(name="--all", negative="", help="All of them, however many there are.")
]
FromCursor: t.TypeAlias = t.Annotated[
    str | None, Parameter(name="--cursor", help="Go on where the page before ended.")
]

LARGEST_PAGE: t.Final = 200  # rows


def program_version() -> str:
    """The version of the installed package."""
    import importlib.metadata

    return importlib.metadata.version("zapvisor")


app = App(
    name="zapvisor",
    help="Keeps WhatsApp connections alive and stores every message exactly once.",
    version=program_version,
    version_flags=["--version"],
)


@contextlib.contextmanager
def open_daemon(
    config: Path | None, *, unusable: str = "nothing was done", timeout: float | None = None
) -> cabc.Iterator["ControlClient"]:
    """A client of the daemon that the configuration names; ``unusable`` is what follows if
    anything is wrong with that; ``timeout``: seconds for each answer, as long as any by default."""
    settings = load(config, unusable)
    from daemon.client import TIMEOUT, open_client

    with open_client(settings.control_socket, timeout or TIMEOUT) as client:
        yield client


def load(path: Path | None, unusable: str = "nothing was started") -> "Config":
    """The configuration; everything that is wrong with it is printed, and what follows.

    Raises:
        UsageError: something is.
    """
    from config.errors import ConfigError
    from config.load import load_config

    try:
        return load_config(path, os.environ)
    except ConfigError as error:
        say_problems(error.problems)
        count = len(error.problems)
        noun = "problem" if count == 1 else "problems"
        raise UsageError(f"the configuration has {count} {noun}; {unusable}") from error


def read_rows(
    client: "ControlClient",
    path: str,
    *,
    everything: bool,
    cursor: str | None = None,
    limit: int,
    earlier: bool = False,
    **params: t.Any,
) -> list[t.Any]:
    """A page of a list, or all of it; a word on standard error when there is more.

    ``earlier``: the next page comes before this one.
    """
    rows: list[t.Any] = []
    size = LARGEST_PAGE if everything else limit
    while True:
        if cursor is not None:  # it says all about the place
            params.pop("before", None)
            params.pop("after", None)
        page, cursor = client.page(path, limit=size, cursor=cursor, **params)
        rows = [*page, *rows] if earlier else [*rows, *page]
        if cursor is None or not everything:
            break
    if cursor is not None:
        sys.stderr.write(f"There is more: --all, or --cursor {cursor}\n")
    return rows


def say_problems(problems: cabc.Iterable[object]) -> None:
    """One line each."""
    for problem in problems:
        sys.stderr.write(f"{problem}\n")


def segment(name: str) -> str:
    """A name as one segment of a path."""
    import urllib.parse

    if name in ("", ".", ".."):
        raise UsageError(f"{name!r} cannot be the name of a connection")
    return urllib.parse.quote(name, safe="")


def now() -> dt.datetime:
    """The time, to show ages to a person."""
    return dt.datetime.now(dt.UTC)  # noqa: TID251 - the edge


def show(
    value: t.Any, json: bool, table: cabc.Callable[[], t.Any], empty: str | None = None
) -> None:
    """Print JSON, or a table; ``empty`` instead of a table without rows."""
    from daemon.screen import console, print_json

    if json:
        print_json(value)
    elif not value and empty is not None:
        console().print(empty, markup=False)
    else:
        console().print(table())
