"""Changing an encoded node as the tree that it is, so that what comes out still decodes."""

import random
import typing as t

import attrs

from whatsapp.binary import codec
from whatsapp.errors import ProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Content, Node, Value

_VALUES: t.Final[tuple[Value, ...]] = (
    "",
    "0",
    "1",
    "-1",
    "487",
    "9223372036854775807",
    "9223372036854775808",
    "9999999999999999999",
    "true",
    "false",
    "a\x00b",
    "\\xff",
    "x" * 600,
    "1@",
    "@lid",
    "5511900000002@s.whatsapp.net",
    "5511900000002:0000099999@s.whatsapp.net",
    Jid("", "s.whatsapp.net"),
    Jid("", "g.us"),
    Jid("5511900000001", "s.whatsapp.net", 7),
    Jid("100000000000001", "lid"),
    Jid("120363000000000001", "g.us"),
    Jid("status", "broadcast"),
    Jid("1", "newsletter"),
    Jid("1", "bot"),
    Jid("1", "msgr", 65535),
    Jid("7-1", "interop", 3),
    Jid("x" * 700, "lid"),
)
_CONTENTS: t.Final[tuple[Content, ...]] = (None, b"", b"\0\0\0", bytes(32), bytes(64), b"\xff", "1")


def mutate(data: bytes, limit: int, seed: int, words: t.Sequence[str]) -> bytes | None:
    """A changed tree, encoded in at most ``limit`` bytes; None: ``data`` is no node.

    ``words`` are tags and names of attributes that mean something somewhere.
    """
    chance = random.Random(seed)
    try:
        node = codec.decode(data)
        for _round in range(chance.choice((1, 1, 2, 4))):
            node = _changed(node, chance, words)
        encoded = codec.encode(node)
    except ProtocolError:
        return None
    return encoded if len(encoded) <= limit else None


def _changed(node: Node, chance: random.Random, words: t.Sequence[str]) -> Node:
    """The tree with one change, at its root or somewhere below."""
    if node.children and chance.random() < 0.6:
        at = chance.randrange(len(node.children))
        return _at_child(node, at, _changed(node.children[at], chance, words))
    match chance.randrange(8):
        case 0 if node.attrs:
            gone = chance.choice(tuple(node.attrs))
            kept = {key: value for key, value in node.attrs.items() if key != gone}
            return attrs.evolve(node, attrs=kept)
        case 1 | 2 if node.attrs:
            return _with_attrs(node, {chance.choice(tuple(node.attrs)): chance.choice(_VALUES)})
        case 3:
            return _with_attrs(node, {chance.choice(words): chance.choice(_VALUES)})
        case 4 if node.children:
            at = chance.randrange(len(node.children))
            left = node.children[:at] + node.children[at + 1 :]
            return attrs.evolve(node, content=left or None)
        case 5 if node.children:
            return attrs.evolve(node, content=(*node.children, chance.choice(node.children)))
        case 6:
            child = Node(chance.choice(words), {}, chance.choice(_CONTENTS))
            return attrs.evolve(node, content=(*node.children, child))
        case 7:
            return attrs.evolve(node, tag=chance.choice(words))
        case _:
            return attrs.evolve(node, content=chance.choice(_CONTENTS))


def _with_attrs(node: Node, changes: dict[str, Value]) -> Node:
    return attrs.evolve(node, attrs={**node.attrs, **changes})


def _at_child(node: Node, at: int, child: Node) -> Node:
    return attrs.evolve(node, content=(*node.children[:at], child, *node.children[at + 1 :]))
