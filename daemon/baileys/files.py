"""The directory that Baileys' ``useMultiFileAuthState`` keeps: one JSON file for each record.

Bytes are ``{"type": "Buffer", "data": "<base64>"}`` there; older files have lists of numbers, or
objects with an index for each byte.
"""

import base64
import binascii
import collections.abc as cabc
import json
import re
import typing as t
from pathlib import Path

from daemon.errors import UsageError

MAX_FILE: t.Final = 32 * 1024 * 1024  # bytes
MAX_FILES: t.Final = 200_000
CREDS: t.Final = "creds.json"

KINDS: t.Final = (  # longer names before those that they begin with
    "app-state-sync-key",
    "app-state-sync-version",
    "sender-key-memory",
    "device-list",
    "device-index",
    "identity-key",
    "lid-mapping",
    "sender-key",
    "pre-key",
    "session",
    "tctoken",
)

Json: t.TypeAlias = t.Any


class BaileysError(UsageError):
    """The directory cannot be imported; says which file, why, and what to do."""


class DamagedFileError(BaileysError):
    """A file is not whole."""


class AuthDirectory:
    """What is in the directory; files are read when they are asked for."""

    def __init__(self, path: Path, *, skip_damaged: bool = False) -> None:
        """Raises ``BaileysError``: it is no such directory."""
        self.path = path
        self.damaged: list[str] = []
        """Files that were left out, with ``skip_damaged``."""
        self._skip_damaged = skip_damaged
        if not path.is_dir():
            raise BaileysError(f"{path} is not a directory; give the one that holds {CREDS}")
        if not (path / CREDS).is_file():
            raise BaileysError(
                f"there is no {CREDS} in {path}; give the directory that was passed to"
                " useMultiFileAuthState"
            )
        names = sorted(each.name for each in path.iterdir() if each.name.endswith(".json"))
        if len(names) > MAX_FILES:
            raise BaileysError(f"{path} holds {len(names)} files; at most {MAX_FILES} are read")
        self._names = names

    def creds(self) -> dict[str, Json]:
        """What makes the device itself."""
        found = _read(self.path / CREDS)
        if not isinstance(found, dict):
            raise DamagedFileError(f"{self.path / CREDS} does not hold an object")
        return found

    def records(self, kind: str) -> cabc.Iterator[tuple[str, Json]]:
        """The records of a kind, with the rest of the file's name.

        Raises:
            DamagedFileError: a file is not whole, and those are not to be left out.
        """
        for name in self._names:
            if kind_of(name) != kind:
                continue
            try:
                found = _read(self.path / name)
            except DamagedFileError:
                if not self._skip_damaged:
                    raise
                self.damaged.append(name)
                continue
            if found is not None:
                yield name.removesuffix(".json")[len(kind) + 1 :], found


def kind_of(name: str) -> str | None:
    """Of which kind a file is, by its name."""
    return next((kind for kind in KINDS if name.startswith(f"{kind}-")), None)


def _read(path: Path) -> Json:
    try:
        if path.stat().st_size > MAX_FILE:
            raise DamagedFileError(f"{path} is larger than {MAX_FILE} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BaileysError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DamagedFileError(_half(path)) from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(_half(path)) from error


def _half(path: Path) -> str:
    return (
        f"{path} is not whole, as after a crash or while it is written; stop the old system, copy"
        " the directory again, and import the copy. A damaged file other than creds.json can be"
        " left out with --skip-damaged: what it was for is negotiated anew"
    )


class ShapeError(Exception):
    """A value is not what it should be; the text names it, without the value."""


def as_bytes(value: Json, what: str, length: int | None = None) -> bytes:
    """Bytes in any of the forms.

    Raises:
        ShapeError: they are none, or of another length.
    """
    try:
        found = _bytes(value)
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        raise ShapeError(f"{what} does not hold bytes") from None
    if length is not None and len(found) != length:
        raise ShapeError(f"{what} has {len(found)} bytes instead of {length}")
    return found


def _bytes(value: Json) -> bytes:
    if isinstance(value, str):
        return base64.b64decode(value, validate=True)
    if isinstance(value, list):
        return bytes(value)
    if value.get("type") == "Buffer":
        return _bytes(value["data"])
    return bytes(value[str(index)] for index in range(len(value)))


def public_key(value: Json, what: str) -> bytes:
    """A public key, with or without its type byte.

    Raises:
        ShapeError: it is none.
    """
    found = as_bytes(value, what)
    if len(found) == 33 and found[0] == 5:
        return found[1:]
    if len(found) != 32:
        raise ShapeError(f"{what} is no public key")
    return found


def number(value: Json, what: str, low: int = 0, high: int = 2**32 - 1) -> int:
    """A whole number.

    Raises:
        ShapeError: it is none, or out of bounds.
    """
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ShapeError(f"{what} is not a number from {low} to {high}")
    return value


def member(value: Json, name: str, what: str) -> Json:
    """A part of an object.

    Raises:
        ShapeError: it is missing.
    """
    if not isinstance(value, dict) or name not in value:
        raise ShapeError(f"{what} has no {name}")
    return value[name]
