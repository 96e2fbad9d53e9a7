"""The token dictionaries: words the wire format writes as one or two bytes.

The table is data, made and verified by ``scripts/make_tokens.py``.
Source: docs/protocol.md#token-dictionaries
"""

import importlib.resources
import typing as t

DICTIONARY_VERSION: t.Final = 3
SINGLE_COUNT: t.Final = 236
DOUBLE_COUNT: t.Final = 256
FIRST_DICTIONARY: t.Final = 236  # tag byte of double-byte dictionary 0
DICTIONARIES: t.Final = 4


def _read_table() -> tuple[str, ...]:
    text = importlib.resources.files(__package__).joinpath("tokens.txt").read_text("ascii")
    return tuple(text.split("\n")[:-1])


TABLE: t.Final = _read_table()
"""All words: the single-byte dictionary, then the double-byte ones."""

SINGLE: t.Final = TABLE[:SINGLE_COUNT]
"""The word of each tag byte; number 0 is not a word."""

DOUBLE: t.Final = tuple(
    TABLE[start : start + DOUBLE_COUNT] for start in range(SINGLE_COUNT, len(TABLE), DOUBLE_COUNT)
)
"""The words of each double-byte dictionary."""

ENCODED: t.Final = {
    **{
        word: bytes([FIRST_DICTIONARY + number, index])
        for number, words in enumerate(DOUBLE)
        for index, word in enumerate(words)
    },
    **{word: bytes([index]) for index, word in enumerate(SINGLE) if index},
}
"""Every word's bytes on the wire."""
