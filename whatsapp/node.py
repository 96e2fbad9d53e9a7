"""The tree every stanza is made of."""

import collections.abc as cabc
import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import MAX_JID_LENGTH, Jid

MAX_ID: t.Final = 512  # characters; about twenty in practice
MAX_INTEGER: t.Final = (1 << 63) - 1  # larger numbers count as this one: storage takes it

Value: t.TypeAlias = str | Jid
Content: t.TypeAlias = "bytes | str | tuple[Node, ...] | None"


def _attributes(items: cabc.Mapping[str, Value | int | None]) -> dict[str, Value]:
    return {
        key: value if isinstance(value, str | Jid) else str(value)
        for key, value in items.items()
        if value is not None
    }


@attrs.frozen
class Node:
    """A tag, attributes (text or JIDs; ``None`` is left out, numbers become text) and content.

    Content is bytes, text, child nodes, or nothing. The getters read what a peer sent: they
    raise ``RemoteProtocolError`` when it is missing or malformed.
    """

    tag: str
    attrs: cabc.Mapping[str, Value] = attrs.field(factory=dict, converter=_attributes)
    content: Content = None

    @property
    def children(self) -> tuple["Node", ...]:
        """The child nodes; empty when the content is something else."""
        return self.content if isinstance(self.content, tuple) else ()

    def child(self, tag: str) -> "Node | None":
        """The first child called ``tag``, if any."""
        return next((node for node in self.children if node.tag == tag), None)

    def required_child(self, tag: str) -> "Node":
        """The first child called ``tag``."""
        if (node := self.child(tag)) is None:
            raise RemoteProtocolError(f"<{self.tag}> without <{tag}>")
        return node

    def children_named(self, tag: str) -> tuple["Node", ...]:
        """All children called ``tag``."""
        return tuple(node for node in self.children if node.tag == tag)

    def text(self, key: str) -> str | None:
        """An attribute as text (a JID in its text form), if present."""
        value = self.attrs.get(key)
        return None if value is None else str(value)

    def required_text(self, key: str) -> str:
        """An attribute as text."""
        if (value := self.text(key)) is None:
            raise RemoteProtocolError(f"<{self.tag}> without {key}")
        return value

    def identifier(self, key: str) -> str | None:
        """An attribute as text of at most ``MAX_ID`` characters, if present: it may be stored as
        part of a key."""
        if (value := self.text(key)) is not None and len(value) > MAX_ID:
            raise RemoteProtocolError(f"<{self.tag}> {key} is {len(value)} characters long")
        return value

    def required_identifier(self, key: str) -> str:
        """The same of an attribute that must be there."""
        if (value := self.identifier(key)) is None:
            raise RemoteProtocolError(f"<{self.tag}> without {key}")
        return value

    def jid(self, key: str) -> Jid | None:
        """An attribute as a JID (text is parsed) of at most ``MAX_JID_LENGTH``, if present."""
        value = self.attrs.get(key)
        if isinstance(value, Jid) and len(value.user) + len(value.server) > MAX_JID_LENGTH:
            raise RemoteProtocolError(f"<{self.tag}> {key} is too long for a JID")
        return Jid.parse(value) if isinstance(value, str) else value

    def required_jid(self, key: str) -> Jid:
        """An attribute as a JID."""
        if (value := self.jid(key)) is None:
            raise RemoteProtocolError(f"<{self.tag}> without {key}")
        return value

    def integer(self, key: str) -> int | None:
        """A decimal attribute of at most 19 digits, if present; at most ``MAX_INTEGER``."""
        if (value := self.text(key)) is None:
            return None
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
            raise RemoteProtocolError(f"<{self.tag}> {key} is not a number: {value[:32]!r}")
        return max(-MAX_INTEGER, min(int(value), MAX_INTEGER))

    def data(self) -> bytes:
        """The content as bytes; text is encoded, nothing is empty."""
        match self.content:
            case bytes():
                return self.content
            case str():
                return self.content.encode()
            case None:
                return b""
            case _:
                raise RemoteProtocolError(f"<{self.tag}> holds nodes where bytes were expected")
