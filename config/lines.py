"""Where in a TOML text each key stands: key path → line number.

``tomllib`` keeps no positions, so the text is scanned a second time. The scanner supposes text
that ``tomllib`` has accepted and only needs to tell keys from values: it knows tables, arrays
of tables, dotted and quoted keys, all four kinds of strings, arrays and inline tables.
"""

import re
import typing as t

KeyPath: t.TypeAlias = tuple[str | int, ...]
"""Keys and, in arrays, positions: ``("connections", 0, "name")``."""

_BLANK: t.Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: t.Final = re.compile(r"[ \t]*")
_BARE: t.Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: t.Final = re.compile(r"[^,\]}\n#]+")
_STRINGS: t.Final = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"((?:[^"\\\n]|\\.)*)"'),
    re.compile(r"'([^'\n]*)'"),
)
_ESCAPE: t.Final = re.compile(r'\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[btnfr"\\e])')
_ESCAPED: t.Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which each table, key and array element first appears.

    Never fails: where the text cannot be followed, the keys after that place are missing.
    """
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (_LostError, RecursionError):
        return scanner.lines
    return scanner.lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of a key, else of the innermost table around it that has one."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None


class _LostError(Exception):
    """The text is not what the scanner expects."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._counted = 0  # the text up to here holds ...
        self._line = 1  # ... line breaks before this line
        self._last: dict[KeyPath, int] = {}  # array of tables → position of its last table

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._accept("[["):
                table = self._header(is_array=True)
            elif self._accept("["):
                table = self._header(is_array=False)
            else:
                self._pair(table)

    def _header(self, *, is_array: bool) -> KeyPath:
        self._skip(_SPACE)
        line = self._line_here()
        path: KeyPath = ()
        keys = self._keys()
        for key in keys[:-1]:
            path = self._enter((*path, key))
            self.lines.setdefault(path, line)
        path = (*path, keys[-1])
        if is_array:
            self._last[path] = self._last.get(path, -1) + 1
            self.lines.setdefault(path, line)
            path = self._enter(path)
        self.lines.setdefault(path, line)
        self._skip(_SPACE)
        self._expect("]]" if is_array else "]")
        return path

    def _enter(self, path: KeyPath) -> KeyPath:
        return (*path, self._last[path]) if path in self._last else path

    def _pair(self, table: KeyPath) -> None:
        line = self._line_here()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._expect("=")
        self._value(path)

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self._accept("."):
            self._skip(_SPACE)
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        for pattern in (_BARE, *_STRINGS[2:]):
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                self._skip(_SPACE)
                if pattern is _BARE:
                    return match[0]
                return match[1] if pattern is _STRINGS[3] else _ESCAPE.sub(_unescape, match[1])
        raise _LostError

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACE)
        if self._accept("["):
            self._array(path)
        elif self._accept("{"):
            self._inline_table(path)
        else:
            for pattern in (*_STRINGS, _SCALAR):
                if match := pattern.match(self._text, self._at):
                    self._at = match.end()
                    return
            raise _LostError

    def _array(self, path: KeyPath) -> None:
        position = 0
        while True:
            self._skip(_BLANK)
            if self._accept("]"):
                return
            self.lines.setdefault((*path, position), self._line_here())
            self._value((*path, position))
            position += 1
            self._skip(_BLANK)
            if not self._accept(","):
                self._expect("]")
                return

    def _inline_table(self, path: KeyPath) -> None:
        while True:
            self._skip(_BLANK)
            if self._accept("}"):
                return
            self._pair(path)
            self._skip(_BLANK)
            if not self._accept(","):
                self._expect("}")
                return

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _accept(self, literal: str) -> bool:
        found = self._text.startswith(literal, self._at)
        if found:
            self._at += len(literal)
        return found

    def _expect(self, literal: str) -> None:
        if not self._accept(literal):
            raise _LostError


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "uU":
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code)
