"""Make or verify ``whatsapp/binary/tokens.txt`` from the constants of the pinned npm package.

    python scripts/make_tokens.py            write the table
    python scripts/make_tokens.py --check    fail when the table differs

The table is wire-format data: 1 260 lines, the single-byte dictionary (236, the first one empty)
and then the four double-byte ones (256 each). ``make interop`` fetches the package.
"""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONSTANTS = ROOT / "tests/interop/node_modules/baileys/lib/WABinary/constants.js"
TABLE = ROOT / "whatsapp/binary/tokens.txt"
SIZES = (236, 256, 256, 256, 256)

_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


def read_constants(source: str) -> str:
    """The table's text, from the JavaScript source of the two token arrays.

    Raises:
        ValueError: the arrays are missing, or not of the size the wire format fixes.
    """
    tokens = _literals(source, "SINGLE_BYTE_TOKENS") + _literals(source, "DOUBLE_BYTE_TOKENS")
    if len(tokens) != sum(SIZES) or tokens[0]:
        raise ValueError(f"{len(tokens)} tokens, not {sum(SIZES)} with an empty first one")
    if len(set(tokens)) != len(tokens):
        raise ValueError("a token occurs twice")
    return "".join(f"{token}\n" for token in tokens)


def _literals(source: str, name: str) -> list[str]:
    match = re.search(rf"{name} = (\[.*?\n\]);", source, re.DOTALL)
    if match is None:
        raise ValueError(f"no array called {name}")
    if "\\" in match[1]:
        raise ValueError(f"an escape sequence in {name}")
    return [single or double for single, double in _LITERAL.findall(match[1])]


def main() -> int:
    """Write or check; the exit code says whether table and package agree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--constants", type=pathlib.Path, default=CONSTANTS)
    options = parser.parse_args()
    table = read_constants(options.constants.read_text(encoding="utf-8"))
    if not options.check:
        TABLE.write_text(table, encoding="ascii")
        return 0
    if table == TABLE.read_text(encoding="ascii"):
        return 0
    print(f"{TABLE.relative_to(ROOT)} differs from {options.constants}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
