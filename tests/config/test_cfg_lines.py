"""Finding the line of a key in TOML text."""

import json
import tomllib
import typing as t

from hypothesis import given, settings
from hypothesis import strategies as st

from config.lines import KeyPath, key_lines, line_of

TEXT: t.Final = r'''# [not] a = table
top = """
[fake]
key = 1 # "
"""   # comment
[daemon]
log_level = 'in"fo' # x = 1

  [ storage . "a b" ]
  dsn.host = "x\"]\n[y]"
  dsn.port = 5432
when = 1979-05-27 07:32:00
[[connections]]
name = "a"
[connections.extra]
deep = QQQ
[[connections]]
QQQ
list = [
  "]", # ]
  [1,
   2],
  { x = 1, y.z = "}" },
]
[[connections]]
"name" = "b"
"na\u006de2" = 1e5
'''.replace("QQQ", "'" * 3)


def paths(value: object, path: KeyPath = ()) -> t.Iterator[KeyPath]:
    """All key paths of a document."""
    items: t.Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def test_every_kind_of_key() -> None:
    """Tables, arrays of tables, dotted and quoted keys, and all that only looks like them."""
    lines = key_lines(TEXT)
    assert lines[("top",)] == 2
    assert lines["daemon", "log_level"] == 7
    assert lines["storage", "a b"] == 9
    assert lines["storage", "a b", "dsn", "port"] == 11
    assert lines["storage", "a b", "when"] == 12
    assert lines["connections", 0, "name"] == 14
    assert lines["connections", 0, "extra", "deep"] == 16
    assert lines["connections", 0, "extra", "list", 1, 1] == 22
    assert lines["connections", 0, "extra", "list", 2, "y", "z"] == 23
    assert lines["connections", 1] == 25
    assert lines["connections", 1, "name"] == 26
    assert lines["connections", 1, "name2"] == 27


def test_the_scanner_agrees_with_the_parser() -> None:
    """Exactly the keys that tomllib sees."""
    assert set(key_lines(TEXT)) == set(paths(tomllib.loads(TEXT)))


def test_windows_line_ends() -> None:
    """CRLF counts once."""
    assert key_lines("a = 1\r\n[b]\r\nc = '''\r\n'''\r\nd = 2\r\n")["b", "d"] == 5


def test_line_of_falls_back_to_the_table() -> None:
    """What is missing is blamed on what surrounds it."""
    lines = {("connections", 1): 25}
    assert line_of(lines, ("connections", 1, "name")) == 25
    assert line_of(lines, ("daemon", "x")) is None


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from(list("ab.=[]{}\"'#\n, \\1")), max_size=60))
def test_nonsense_never_fails(text: str) -> None:
    """Text that is no TOML gives some lines or none."""
    count = text.count("\n") + 1
    assert all(1 <= line <= count for line in key_lines(text).values())


bare = st.text(st.sampled_from("abcXYZ019_-"), min_size=1, max_size=4)
tricky = st.text(st.sampled_from(list("a[]{}=,.#'\" \\é1")), max_size=8)
keys = st.one_of(bare.map(lambda key: (key, key)), tricky.map(lambda key: (key, json.dumps(key))))
scalars = st.one_of(
    st.integers(-1000, 1000).map(str),
    st.sampled_from(["true", "1e5", "inf", "1979-05-27T07:32:00Z", "07:32:00", "0x1F"]),
    tricky.map(json.dumps),
    tricky.map(lambda text: "'" + text.replace("'", "") + "'"),
    tricky.map(lambda text: '"""\n[x]\ny = 1\n' + text.replace("\\", "").replace('"', "") + '"""'),
    tricky.map(lambda text: "'''a\n" + text.replace("'", "") + "\n'''"),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: "[ # ]\n" + ",\n".join(each) + "\n]"),
        st.dictionaries(bare, inner.filter(lambda text: "\n" not in text), max_size=3).map(
            lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
        ),
    ),
    max_leaves=4,
)
blanks = st.sampled_from(["", "\n", "# [c] d = '''\n", "  \n\t"])


def named(what: st.SearchStrategy[t.Any]) -> st.SearchStrategy[list[t.Any]]:
    """Some of them, each with a key and the way it is written."""
    return st.lists(st.tuples(keys, what), max_size=3, unique_by=lambda pair: pair[0][0])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    """A TOML text, and the lines of its tables and keys."""
    text, lines = "", dict[KeyPath, int]()
    for (section, written), tables in draw(named(st.lists(named(values), max_size=3))):
        is_array = len(tables) != 1
        for position, table in enumerate(tables):
            path: KeyPath = (section, position) if is_array else (section,)
            text += draw(blanks)
            lines.setdefault((section,), text.count("\n") + 1)
            lines.setdefault(path, text.count("\n") + 1)
            text += f"[[{written}]]\n" if is_array else f"[ {written} ] # x\n"
            for (key, key_written), value in table:
                text += draw(blanks)
                lines[(*path, key)] = text.count("\n") + 1
                text += f"{key_written} = {value}\n"
    return text, lines


@settings(deadline=None, max_examples=100)
@given(documents())
def test_random_documents(document: tuple[str, dict[KeyPath, int]]) -> None:
    """Each key is found on its line, and no key is found that is none."""
    text, expected = document
    lines = key_lines(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    assert {path: lines[path] for path in expected} == expected
