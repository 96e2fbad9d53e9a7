"""The kinds of values a key may hold: how each reads what was written, and what it expects.

A kind stands in the annotation of a model field, ``Annotated[float, Duration()]``. Reading
raises ``BadValueError`` and nothing else. Values of secret kinds never reach a message.
"""

import difflib
import enum
import ipaddress
import math
import re
import typing as t
import urllib.parse
import zoneinfo
from pathlib import Path

import attrs

from config.durations import format_duration, format_size, parse_duration, parse_size
from config.errors import BadValueError

SHOWN: t.Final = 60  # characters of a wrong value that are repeated to the user


class EnvText(str):
    """The value of an environment variable: text, whatever the kind of the key."""

    __slots__ = ()


class Kind(t.Protocol):
    """Reads the value of a key."""

    def read(self, value: object) -> t.Any:
        """The value as the model holds it.

        Raises:
            BadValueError: it is of another type, malformed or out of range.
        """


def show(value: object) -> str:
    """A wrong value as it is repeated to the user, cut short."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = text.lower()
    text = "".join(char if char.isprintable() else "�" for char in text)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def nearest(word: str, words: t.Iterable[str]) -> str | None:
    """The one of ``words`` most like ``word``, if any is like it at all."""
    folded = {each.lower(): each for each in words}
    matches = difflib.get_close_matches(word.lower(), folded, n=1)
    return folded[matches[0]] if matches else None


def _text(value: object, expected: str) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"{show(value)} is not text", expected)
    return str(value)


@attrs.frozen
class Duration:
    """Seconds, written ``"1m30s"``."""

    at_least: float = 0.001
    at_most: float = 30 * 86400.0

    def read(self, value: object) -> float:
        least = "0s" if self.at_least == 0 else format_duration(self.at_least)
        expected = (
            f'a duration such as "15s" or "1m30s", {least} to {format_duration(self.at_most)}'
        )
        if isinstance(value, int | float) and not isinstance(value, bool):
            guess = math.isfinite(value) and self.at_least <= value <= self.at_most
            hint = f'"{format_duration(value)}"' if guess else None
            raise BadValueError(f"{show(value)} has no unit", expected, hint)
        try:
            seconds = parse_duration(_text(value, expected))
        except BadValueError:
            raise
        except ValueError as error:
            raise BadValueError(f"{show(value)} is not a duration", expected) from error
        if not self.at_least <= seconds <= self.at_most:
            raise BadValueError(f"{show(value)} is out of range", expected)
        return seconds


@attrs.frozen
class Size:
    """Bytes, written ``"4MiB"``."""

    at_least: int = 1
    at_most: int = 1 << 30

    def read(self, value: object) -> int:
        expected = (
            f'a size such as "4MiB" or "512KiB", '
            f"{format_size(self.at_least)} to {format_size(self.at_most)}"
        )
        try:
            size = parse_size(_text(value, expected))
        except BadValueError:
            raise
        except ValueError as error:
            raise BadValueError(f"{show(value)} is not a size", expected) from error
        if not self.at_least <= size <= self.at_most:
            raise BadValueError(f"{show(value)} is out of range", expected)
        return size


@attrs.frozen
class Count:
    """A whole number."""

    at_least: int = 1
    at_most: int = 1_000_000

    def read(self, value: object) -> int:
        expected = f"a whole number, {self.at_least} to {self.at_most}"
        if isinstance(value, EnvText) and re.fullmatch(r"[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValueError(f"{show(value)} is not a whole number", expected)
        if not self.at_least <= value <= self.at_most:
            raise BadValueError(f"{show(value)} is out of range", expected)
        return value


@attrs.frozen
class Flag:
    """True or false."""

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        expected = "true or false"
        if isinstance(value, EnvText):
            if value.lower() in ("true", "yes", "on", "1"):
                return True
            if value.lower() in ("false", "no", "off", "0"):
                return False
        hint = (
            value.lower() if isinstance(value, str) and value.lower() in ("true", "false") else None
        )
        raise BadValueError(f"{show(value)} is not a truth value", expected, hint)


@attrs.frozen
class Choice:
    """One member of an enumeration, written as its value."""

    members: type[enum.Enum]

    def read(self, value: object) -> enum.Enum:
        words = [member.value for member in self.members]
        expected = " or ".join(f'"{word}"' for word in words)
        text = _text(value, expected)
        if text not in words:
            hint = nearest(text, words)
            raise BadValueError(f"{show(text)} is unknown", expected, f'"{hint}"' if hint else None)
        return self.members(text)


@attrs.frozen
class Text:
    """Text, perhaps of a given form. ``expected`` describes the form to the user."""

    expected: str = "text"
    pattern: str | None = None
    allow_empty: bool = False
    at_most: int = 1024  # characters

    def read(self, value: object) -> str:
        text = _text(value, self.expected)
        if not text:
            if self.allow_empty:
                return text
            raise BadValueError("the value is empty", self.expected)
        if len(text) > self.at_most:
            raise BadValueError(f"{show(text)} is too long", self.expected)
        if not text.isprintable():
            raise BadValueError(f"{show(text)} holds control characters", self.expected)
        if self.pattern is not None and not re.fullmatch(self.pattern, text, re.ASCII):
            raise BadValueError(f"{show(text)} is not of that form", self.expected)
        return text


@attrs.frozen
class FilePath:
    """A path, as written; ``~`` is expanded by the model and must be known here."""

    allow_empty: bool = False

    def read(self, value: object) -> str:
        expected = "a path, or empty" if self.allow_empty else "a path"
        text: str = Text(expected, allow_empty=self.allow_empty, at_most=4096).read(value)
        try:
            Path(text).expanduser()
        except RuntimeError as error:
            raise BadValueError(f"no home directory is known for {show(text)}", expected) from error
        return text


@attrs.frozen
class TimeOfDay:
    """A time of the day, to the minute."""

    def read(self, value: object) -> str:
        expected = 'a time such as "08:00"'
        return Text(expected, r"([01][0-9]|2[0-3]):[0-5][0-9]").read(value)


@attrs.frozen
class TimeZone:
    """The name of a time zone that this system knows. Empty, if allowed: the system's own."""

    allow_empty: bool = False

    def read(self, value: object) -> str:
        expected = 'a time zone such as "America/Sao_Paulo"' + ", or empty" * self.allow_empty
        text: str = Text(expected, allow_empty=self.allow_empty).read(value)
        if not text:
            return text
        try:
            return zoneinfo.ZoneInfo(text).key
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
            hint = nearest(text, sorted(zoneinfo.available_timezones()))
            raise BadValueError(
                f"this system knows no time zone {show(text)}",
                expected,
                f'"{hint}"' if hint else None,
            ) from error


@attrs.frozen
class Secret:
    """A password or the like: never shown."""

    def read(self, value: object) -> str:
        expected = "text without spaces, or empty"
        if not isinstance(value, str):
            raise BadValueError("its value is not text", expected)
        if len(value) > 1024 or not value.isprintable() or " " in value:
            raise BadValueError("its value is not of that form", expected)
        return str(value)


@attrs.frozen
class Names:
    """An array of short texts, each once; from a variable with commas between. With ``known`` only
    these are allowed, and the one that is most like a wrong one is told."""

    expected: str
    pattern: str = ".*"
    allow_empty: bool = False
    known: frozenset[str] | None = None

    def read(self, value: object) -> tuple[str, ...]:
        if isinstance(value, EnvText):
            value = [part for part in (each.strip() for each in value.split(",")) if part]
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise BadValueError(f"{show(value)} is not an array of texts", self.expected)
        for name in value:
            if not re.fullmatch(self.pattern, name, re.ASCII):
                raise BadValueError(f"{show(name)} is not one of these", self.expected)
            if self.known is not None and name not in self.known:
                hint = nearest(name, sorted(self.known))
                raise BadValueError(
                    f"{show(name)} is unknown", self.expected, f'"{hint}"' if hint else None
                )
        if not value and not self.allow_empty:
            raise BadValueError("the array is empty", self.expected)
        return tuple(dict.fromkeys(value))


ConnectionNames: t.TypeAlias = t.Annotated[
    tuple[str, ...],
    Names("names of connections", r"[a-z0-9][a-z0-9_-]{0,62}", allow_empty=True),
]
"""Names of connections; what none means is said by the key."""


@attrs.frozen
class Url:
    """A URL of one of the given schemes, with a host."""

    schemes: tuple[str, ...]
    allow_empty: bool = False

    def read(self, value: object) -> str:
        expected = "a URL that begins with " + " or ".join(f"{each}://" for each in self.schemes)
        text = _text(value, expected)
        if not text and self.allow_empty:
            return text
        try:
            parts = urllib.parse.urlsplit(text)
            usable = parts.scheme in self.schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not text.isprintable() or " " in text:
            raise BadValueError(f"{show(text)} is not such a URL", expected)
        return text


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:80``, ``[::1]:80`` or ``localhost:80``.

    Raises:
        ValueError: it is of another form.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", text, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{text!r} is no address with a port")
    host = match[1]
    if host.startswith("["):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif re.fullmatch(r"[0-9.]+", host):
        host = str(ipaddress.IPv4Address(host))
    return host, int(match[2])


@attrs.frozen
class ListenAddress:
    """Where to listen: a host or address with a port. Empty: nowhere."""

    def read(self, value: object) -> str:
        expected = 'an address and a port such as "127.0.0.1:8720" or "[::1]:8720", or empty'
        text = _text(value, expected)
        if not text:
            return text
        try:
            split_address(text)
        except ValueError as error:
            raise BadValueError(f"{show(text)} is not of that form", expected) from error
        return text


@attrs.frozen
class SecretUrl:
    """A URL that may hold a password or a token: never shown."""

    schemes: tuple[str, ...]
    allow_empty: bool = False

    def read(self, value: object) -> str:
        expected = "a URL that begins with " + " or ".join(f"{each}://" for each in self.schemes)
        if not isinstance(value, str):
            raise BadValueError("its value is not text", expected)
        if not value and self.allow_empty:
            return ""
        try:
            parts = urllib.parse.urlsplit(value)
            usable = parts.scheme in self.schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not value.isprintable() or " " in value:
            raise BadValueError("its value is no such URL", expected)
        return str(value)


@attrs.frozen
class ChannelUrl:
    """The URL of a service that carries notifications, which holds its secrets: never shown.
    Empty: it is elsewhere."""

    def read(self, value: object) -> str:
        expected = 'a URL such as "mailtos://user:password@smtp.example.com?to=…", or empty'
        if not isinstance(value, str):
            raise BadValueError("its value is not text", expected)
        if value and not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*://[^\x00-\x20\x7f]+", value):
            raise BadValueError("its value is no such URL", expected)
        if len(value) > 4096:
            raise BadValueError("its value is too long", expected)
        return str(value)


@attrs.frozen
class ProxyUrl:
    """The URL of a proxy, which may hold a password: never shown. Empty: none."""

    schemes: tuple[str, ...] = ("http", "socks5", "socks5h")

    def read(self, value: object) -> str:
        expected = 'a URL such as "socks5://user:password@host:1080", or empty; '
        expected += "it begins with " + " or ".join(f"{each}://" for each in self.schemes)
        if not isinstance(value, str):
            raise BadValueError("its value is not text", expected)
        if not value:
            return ""
        try:
            parts = urllib.parse.urlsplit(value)
            usable = parts.scheme in self.schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not value.isprintable() or " " in value or parts.path not in ("", "/"):
            raise BadValueError("its value is no such URL", expected)
        return str(value)


@attrs.frozen
class Dsn:
    """``embedded`` or the URL of a PostgreSQL database; may hold a password: never shown."""

    def read(self, value: object) -> str:
        expected = '"embedded" or a URL such as "postgresql://user@host/database"'
        if not isinstance(value, str):
            raise BadValueError("its value is not text", expected)
        if value != "embedded" and not value.startswith(("postgresql://", "postgres://")):
            hint = nearest(value, ("embedded",))
            raise BadValueError("its value is neither", expected, f'"{hint}"' if hint else None)
        return str(value)


@attrs.frozen
class FileMode:
    """Permission bits, written as octal text: ``"0660"``."""

    def read(self, value: object) -> int:
        expected = 'permission bits as octal text, such as "0660"'
        if not isinstance(value, str):
            raise BadValueError(f"{show(value)} is not text", expected)
        if not re.fullmatch(r"0?[0-7]{3}", value):
            raise BadValueError(f"{show(value)} is not of that form", expected)
        return int(value, 8)


@attrs.frozen
class ConnectionName:
    """The name of a connection: part of file names, logs and the command line."""

    def read(self, value: object) -> str:
        expected = "1 to 63 of a-z, 0-9, _ and -, the first a letter or digit"
        text = _text(value, expected)
        if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", text):
            return text
        repaired = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63].rstrip("-_")
        raise BadValueError(
            f"{show(text)} cannot name a connection",
            expected,
            f'"{repaired}"' if repaired else None,
        )
