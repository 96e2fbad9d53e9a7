"""``zapvisor demo`` from the command line's side: screens, exit codes, the last line."""

import contextlib
import sys

import attrs
import trio

from daemon.demo.model import DemoOptions, Show
from daemon.demo.play import play
from daemon.demo.view import LiveView, LogTail, PlainView, verdict
from daemon.logs import configure_logs
from daemon.run import one_line_errors
from daemon.screen import print_json


def run_demo(options: DemoOptions, *, as_json: bool, log_level: str) -> int:
    """Run a demo; 0 when ledger and database agree, else 1.

    With ``as_json`` the last line on stdout is the summary as one JSON object; everything
    else goes to stderr.

    Raises:
        CommandError: it could not start.
    """
    with contextlib.ExitStack() as stack:
        show: Show
        if sys.stdout.isatty() and not as_json:
            tail = LogTail()
            configure_logs(form="text", level=log_level, stream=tail)  # type: ignore[arg-type]
            show = stack.enter_context(LiveView(tail))
        else:
            configure_logs(level=log_level, stream=sys.stderr)
            show = PlainView(sys.stderr if as_json else sys.stdout)
        with one_line_errors():
            summary = trio.run(play, options, show, strict_exception_groups=True)
    if summary is None:
        sys.stderr.write("zapvisor: the demo was ended before it had begun\n")
        return 1
    if as_json:
        print_json(attrs.asdict(summary))
    else:
        sys.stdout.write(f"\n{verdict(summary)}\n")
    return 0 if summary.succeeded else 1
