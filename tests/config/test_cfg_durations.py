"""Durations and sizes as text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.durations import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15),
        ("1m30s", 90),
        ("24h", 86400),
        ("250ms", 0.25),
        ("0s", 0),
        ("1.5h", 5400),
        ("7d", 604800),
        ("1d2h3m4s5ms", 93784.005),
        ("90m", 5400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """All units, alone and together."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15",
        "s",
        "-1s",
        "1 s",
        "15S",
        "1s1m",
        "1s1s",
        "1e3s",
        "1,5s",
        "s15",
        "١s",
        "1s\n",
        ".5s",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    """Without a unit, out of order, repeated, signed or not ASCII."""
    with pytest.raises(ValueError, match=r"duration|unit"):
        parse_duration(text)


@settings(deadline=None)
@given(st.integers(0, 10**12))
def test_durations_survive_formatting(milliseconds: int) -> None:
    """To the millisecond."""
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MiB", 4 << 20), ("512KiB", 512 << 10), ("1GiB", 1 << 30), ("5MB", 5_000_000), ("0B", 0)],
)
def test_sizes(text: str, size: int) -> None:
    """Powers of 1024 and of 1000."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4", "MiB", "-4MiB", "4mib", "4.5MiB", "4  MiB", "٤MiB"])
def test_what_is_no_size(text: str) -> None:
    """Without a unit, signed, broken or not ASCII."""
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@settings(deadline=None)
@given(st.integers(0, 10**14))
def test_sizes_survive_formatting(size: int) -> None:
    """To the byte."""
    assert parse_size(format_size(size)) == size


def test_negative_values_have_no_text() -> None:
    """They are never valid, so they are never shown as if they were."""
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)
    with pytest.raises(ValueError, match="negative"):
        format_size(-1)
