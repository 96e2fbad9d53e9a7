"""What a demo looks like: a live screen on a terminal, a line now and then elsewhere."""

import collections
import datetime as dt
import io
import typing as t

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from daemon.demo.model import Progress, Summary
from daemon.screen import coloured, console

LOG_LINES: t.Final = 6
LINE_EVERY: t.Final = 1.0  # seconds


class LogTail(io.TextIOBase):
    """A stream that keeps its last lines, for the bottom of the screen."""

    def __init__(self) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Keep whole lines."""
        self.lines.extend(line for line in text.splitlines() if line)
        return len(text)


class LiveView:
    """Draws each look in the place of the one before."""

    def __init__(self, tail: LogTail) -> None:
        self._tail = tail
        self._live = Live(console=console(), auto_refresh=False)

    def __enter__(self) -> "LiveView":
        self._live.__enter__()
        return self

    def __exit__(self, *error: t.Any) -> None:
        self._live.__exit__(*error)

    def __call__(self, progress: Progress) -> None:
        """Show one look."""
        self._live.update(self._drawn(progress), refresh=True)

    def _drawn(self, progress: Progress) -> RenderableType:
        head = Text.assemble(
            ("zapvisor demo", "bold"), f"   {progress.seconds:5.1f} s   {progress.phase}"
        )
        counters = Text(
            f"\noffered {progress.written}  stored {progress.stored}"
            f"  duplicates {progress.duplicates}  reopened {progress.reopened}"
            f"  restarts {progress.restarts}  {progress.rate:.0f}/s\n"
        )
        tail = Text("\n".join(self._tail.lines), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(head, counters, self._table(progress), Text(), tail)

    def _table(self, progress: Progress) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("connection", "state", "messages", "duplicates", "under way", "what"):
            justify: t.Any = "left" if name in ("connection", "state", "what") else "right"
            table.add_column(name, justify=justify, no_wrap=True, header_style="dim")
        for each in progress.connections:
            counts = (each.messages, each.duplicates, each.in_flight)
            table.add_row(each.name, coloured(each.state), *map(str, counts), Text(each.sentence))
        return table


class PlainView:
    """Writes a line for each new phase, and every second while customers write."""

    def __init__(self, stream: t.TextIO) -> None:
        self._stream = stream
        self._phase = ""
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show one look, if it is time for a line."""
        if progress.phase == self._phase and progress.seconds < self._next:
            return
        self._phase = progress.phase
        self._next = progress.seconds + LINE_EVERY
        line = f"{progress.seconds:6.1f} s  {progress.phase}"
        if progress.connections:
            online = sum(each.state == "online" for each in progress.connections)
            line += (
                f": offered {progress.written}, stored {progress.stored},"
                f" duplicates skipped {progress.duplicates}, reopened {progress.reopened},"
                f" restarts {progress.restarts}, {progress.rate:.0f}/s,"
                f" {online} of {len(progress.connections)} online"
            )
        self._stream.write(line + "\n")
        self._stream.flush()


def verdict(summary: Summary) -> str:
    """The end of a demo in words."""
    span = dt.timedelta(seconds=round(summary.seconds))
    outcome = (
        "ledger and database agree: every message is stored exactly once"
        if summary.succeeded
        else f"ledger and database DISAGREE: {summary.lost} lost, {summary.stored_twice} stored"
        f" twice, {summary.unexpected} unexpected"
    )
    return (
        f"{summary.stored} of {summary.offered} messages stored in {span}"
        f" ({summary.messages_per_second:.0f}/s), {summary.duplicates_skipped} duplicates skipped"
        f" of {summary.duplicates_offered} offered, {summary.conversations} conversations,"
        f" {summary.reopened} reopened, {summary.restarts} restarts;\n{outcome}"
    )
