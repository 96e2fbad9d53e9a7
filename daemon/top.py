"""``zapvisor top``: asks the daemon again and again, and draws what it says."""

import collections.abc as cabc
import contextlib
import select
import sys
import termios
import time
import tty
import typing as t
from pathlib import Path

from rich.console import Console
from rich.live import Live

from daemon.cli_base import now
from daemon.cli_health import HEALTH_EXIT, PATIENCE
from daemon.client import open_client
from daemon.errors import CommandError
from daemon.screen import console
from daemon.screen_top import Picture, draw
from daemon.top_rates import Rates

QUIT: t.Final = frozenset("qQ\x04")

Ask: t.TypeAlias = cabc.Callable[[], tuple[t.Any, t.Any]]
Wait: t.TypeAlias = cabc.Callable[[float], str]


def run_top(path: Path, *, interval: float, once: bool) -> int:
    """Draw until a person ends it; or once, with the exit code of the verdict.

    Raises:
        CommandError: with ``once``, nobody answers.
    """
    screen = console()
    if once:
        try:
            health, points = ask(path)
        except CommandError as error:
            error.exit_code = HEALTH_EXIT["failing"]
            raise
        rates = Rates()
        rates.learn(time.monotonic(), health, points)
        picture = Picture(health=health, rates=rates, now=now(), height=None, width=screen.width)
        screen.print(draw(picture))
        return HEALTH_EXIT[health["verdict"]]
    with keys() as wait, contextlib.suppress(KeyboardInterrupt):
        follow(screen, lambda: ask(path), interval, wait)
    return 0


def ask(path: Path) -> tuple[t.Any, t.Any]:
    """What the daemon at a control socket says of its health and of the last minutes.

    Raises:
        CommandError: it does not answer, or it is still starting.
    """
    with open_client(path, PATIENCE) as client:
        health = client.get("/health/detailed")
        try:
            points = client.get("/statistics", step="minute", by="connection")
        except CommandError:
            points = None  # the database is away: the picture says so
        return health, points


def follow(screen: Console, ask: Ask, interval: float, wait: Wait) -> None:
    """Draw, wait for a key or the time, and again; until a key says that it is enough."""
    rates = Rates()
    health, asked_at = None, now()
    with Live(console=screen, screen=screen.is_terminal, auto_refresh=False) as live:
        while True:
            error = None
            try:
                health, points = ask()
            except CommandError as failure:
                error = str(failure)
            else:
                asked_at = now()
                rates.learn(time.monotonic(), health, points)
            picture = Picture(
                health=health,
                rates=rates,
                now=now(),
                error=error,
                asked_at=asked_at,
                width=screen.width,
                height=screen.height,
            )
            live.update(draw(picture), refresh=True)
            if wait(interval) in QUIT:
                return


@contextlib.contextmanager
def keys() -> cabc.Iterator[Wait]:
    """Waits for a key, at most so many seconds; empty: none came. Without a terminal none does."""
    if not sys.stdin.isatty():
        yield _no_keys
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield _key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key(seconds: float) -> str:
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return (sys.stdin.read(1) or "\x04") if ready else ""


def _no_keys(seconds: float) -> str:
    select.select([], [], [], seconds)
    return ""
