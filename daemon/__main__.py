"""Where the program begins: expected errors become one line, not a traceback."""

import collections.abc as cabc
import os
import signal
import sys

from cyclopts import CycloptsError

from daemon.cli import app
from daemon.errors import CommandError, UsageError


def execute(tokens: cabc.Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        code = app(tokens, result_action="return_value", exit_on_error=False)
        sys.stdout.flush()
    except CommandError as error:
        sys.stderr.write(f"zapvisor: {error}\n")
        return error.exit_code
    except CycloptsError:  # which has been printed
        return UsageError.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has seen enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code if isinstance(code, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(execute())


if __name__ == "__main__":
    main()
