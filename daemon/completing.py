"""What the shell is offered while a command is being typed: the names of connections."""

import http.client
import json
import os
import socket
import typing as t
from pathlib import Path

PATIENCE: t.Final = 0.5  # seconds for the daemon; somebody waits with a finger on the key
_ENOUGH: t.Final = 4 * 1024 * 1024  # bytes of an answer


def connection_names(context: t.Any) -> list[str]:
    """The connections that the daemon has, else those of the configuration; none when there is
    neither. Never fails, and prints nothing: it runs while somebody types."""
    from config.errors import ConfigError
    from config.load import load_config

    try:
        settings = load_config(_config_file(context), os.environ)
    except (ConfigError, OSError):
        return []
    names = _asked(settings.control_socket)
    return [each.name for each in settings.connections] if names is None else names


def _config_file(context: t.Any) -> Path | None:
    """What ``--config`` says on the line that is being typed."""
    try:
        raw = context["--config"].raw
    except (KeyError, LookupError, AttributeError):
        return None  # the command has no such option
    return Path(raw) if raw else None


def _asked(path: Path) -> list[str] | None:
    """The names that the daemon answers; None: nobody answers."""
    connection = http.client.HTTPConnection("zapvisor", timeout=PATIENCE)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(str(path))
        connection.request("GET", "/status")
        answer = connection.getresponse()
        if answer.status != 200:
            return None
        return [str(row["name"]) for row in json.loads(answer.read(_ENOUGH))]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    finally:
        connection.close()
