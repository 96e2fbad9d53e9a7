"""Durations and sizes as text: ``"1m30s"`` ↔ 90.0 seconds, ``"4MiB"`` ↔ 4194304 bytes."""

import itertools
import re
import typing as t
from decimal import Decimal

_SECONDS: t.Final = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_BYTES: t.Final = {
    "GiB": 1 << 30,
    "MiB": 1 << 20,
    "KiB": 1 << 10,
    "GB": 10**9,
    "MB": 10**6,
    "kB": 10**3,
    "B": 1,
}
_DURATION: t.Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|[dhms]))+", re.ASCII)
_DURATION_PART: t.Final = re.compile(r"([0-9.]+)(ms|[dhms])", re.ASCII)
_SIZE: t.Final = re.compile(r"([0-9]{1,15})\s?(GiB|MiB|KiB|GB|MB|kB|B)", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds. Units d, h, m, s and ms, each at most once, the larger ones first.

    Raises:
        ValueError: not a duration.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration")
    parts = _DURATION_PART.findall(text)
    order = [list(_SECONDS).index(unit) for _, unit in parts]
    if any(later <= earlier for earlier, later in itertools.pairwise(order)):
        raise ValueError(f"{text!r} repeats a unit or puts a smaller one first")
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in parts))


def format_duration(seconds: float) -> str:
    """The shortest text in whole units, to the millisecond; the reverse of ``parse_duration``."""
    if seconds < 0:
        raise ValueError("a duration is not negative")
    rest = round(seconds * 1000)
    text = ""
    for unit, size in _SECONDS.items():
        count, rest = divmod(rest, int(size * 1000))
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def parse_size(text: str) -> int:
    """Bytes. Units GiB, MiB, KiB (powers of 1024), GB, MB, kB (powers of 1000) and B.

    Raises:
        ValueError: not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    return int(match[1]) * _BYTES[match[2]]


def format_size(size: int) -> str:
    """The text with the largest unit of 1024 that loses nothing; reverse of ``parse_size``."""
    if size < 0:
        raise ValueError("a size is not negative")
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"
