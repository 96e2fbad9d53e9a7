"""CSV that people wrote into: no spreadsheet finds a formula in it, however it separates cells."""

import csv
import io
import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.exports.csv_form import _written, guarded

SIGNS = "=+-@＝＋－＠"
FORMULA = re.compile(rf'[\s"]*[{re.escape(SIGNS)}]')


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+55 11 99999-0000", "'+55 11 99999-0000"),
        (" =1", " '=1"),
        ('"=1', "\"'=1"),
        ("oi;=cmd|'/c calc'!A0", "oi;'=cmd|'/c calc'!A0"),
        ("oi\n=cmd|'/c calc'!A0", "oi\n'=cmd|'/c calc'!A0"),
        ("oi\r\n \t＠x", "oi\r\n \t'＠x"),
        ('oi;"=x', "oi;\"'=x"),
        ("a;;=x;-y", "a;;'=x;'-y"),
        ("\tx", "'\tx"),
        ("a = b - c, -d", "a = b - c, -d"),
        ("ana@example.com; 1-2", "ana@example.com; 1-2"),
        ("", ""),
    ],
)
def test_signs_of_formulas(cell: str, safe: str) -> None:
    """Held apart where a cell may begin, and left alone elsewhere."""
    assert guarded(cell) == safe
    assert guarded(safe) == safe


@given(
    st.lists(st.text(st.sampled_from('a;, \t\r\n"' + SIGNS), max_size=12), min_size=1, max_size=4),
    st.sampled_from(",;\t"),
)
def test_no_reader_finds_a_formula(cells: list[str], separator: str) -> None:
    """Read with any separator, by lines as they come or by the rules of quotes."""
    text = _written([["x", *map(guarded, cells)]]).decode()
    lines = list(itertools.chain.from_iterable(line.split("\r") for line in text.split("\n")))
    found = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    if separator != ",":  # by commas, the quotes hold
        found += [cell for line in lines for cell in line.split(separator)]
        found += [
            cell
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            for cell in row
        ]
    assert [cell for cell in found if FORMULA.match(cell)] == []


def test_many_separators_take_no_longer() -> None:
    """A message of nothing else does not hold up an export."""
    begun = time.perf_counter()
    guarded("\n" * 1_000_000 + "x")
    assert time.perf_counter() - begun < 5
