"""Errors that end a command: one clear line each, and an exit code."""


class CommandError(Exception):
    """What went wrong, where, and what to do; shown without a traceback."""

    exit_code = 1


class NoDaemonError(CommandError):
    """Nobody answers at the control socket."""


class RefusedError(CommandError):
    """The daemon answered that it will not or cannot."""


class StartError(CommandError):
    """The daemon cannot start."""


class UsageError(CommandError):
    """The command line or the configuration is wrong."""

    exit_code = 2
