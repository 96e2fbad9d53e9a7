"""The binary form of a node: ``encode`` and ``decode``.

Source: docs/protocol.md#binary-node-codec
"""

import typing as t
import zlib

from whatsapp.binary import packed, tokens
from whatsapp.binary.tags import AD_DOMAINS, AD_SERVERS, INTEROP_SERVER, MESSENGER_SERVER, Tag
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Content, Node, Value

FLAG_COMPRESSED: t.Final = 0x02
MAX_DEPTH: t.Final = 64
MAX_INFLATED: t.Final = 16 * 1024 * 1024  # bytes
MAX_VALUES: t.Final = 1 << 18  # nodes and attributes in one tree
MAX_TEXT: t.Final = 1 << 20  # bytes, and characters: an answer repeats several texts of a stanza

_NOT_IN_A_JID: t.Final = frozenset("@:")
_JID_TAGS: t.Final = frozenset({Tag.JID_PAIR, Tag.AD_JID, Tag.FB_JID, Tag.INTEROP_JID})


def encode(node: Node) -> bytes:
    """The plaintext of one frame: a flag byte and the node, uncompressed.

    Text in an attribute stays text, also when it looks like a JID; a ``Jid`` gets a JID tag,
    unless its device number does not fit one: then it is written as text.

    Raises:
        LocalProtocolError: an empty tag or attribute name, or more than the format can hold.
    """
    out = bytearray(b"\0")
    _write_node(out, node, 1)
    return bytes(out)


def decode(data: bytes) -> Node:
    """Read the plaintext of one frame.

    Attributes are ``Jid`` where the peer used a JID tag, text otherwise; text that is not UTF-8
    keeps its odd bytes as ``\\xNN``. Memory is bounded by the input and by ``MAX_INFLATED``,
    ``MAX_VALUES``, ``MAX_TEXT`` and ``MAX_DEPTH``, never by a count the peer claims.

    Raises:
        RemoteProtocolError: not exactly one well-formed node within these limits.
    """
    if not data:
        raise RemoteProtocolError("empty frame")
    reader = _Reader(_inflate(data[1:]) if data[0] & FLAG_COMPRESSED else data[1:])
    node = reader.node(1)
    reader.expect_end()
    return node


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, MAX_INFLATED + 1)
    except zlib.error as error:
        raise RemoteProtocolError("broken compression") from error
    if len(plain) > MAX_INFLATED:
        raise RemoteProtocolError(f"frame inflates to more than {MAX_INFLATED} bytes")
    if not inflater.eof:
        raise RemoteProtocolError("truncated compression")
    return plain


# ---- writing


def _write_node(out: bytearray, node: Node, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"nodes nested deeper than {MAX_DEPTH}")
    if not node.tag or "" in node.attrs:
        raise LocalProtocolError("a node needs a tag, and its attributes names")
    has_content = node.content is not None and node.content != ()
    _write_list_start(out, 1 + 2 * len(node.attrs) + has_content)
    _write_text(out, node.tag)
    for key, value in node.attrs.items():
        _write_text(out, key)
        _write_value(out, value)
    match node.content:
        case bytes() as data:
            _write_binary(out, data)
        case str() as text:
            _write_text(out, text)
        case tuple() as children if children:
            _write_list_start(out, len(children))
            for child in children:
                _write_node(out, child, depth + 1)
        case _:
            pass


def _write_list_start(out: bytearray, size: int) -> None:
    if size < 1 << 8:
        out += bytes((Tag.LIST_8, size))
    elif size < 1 << 16:
        out.append(Tag.LIST_16)
        out += size.to_bytes(2, "big")
    else:
        raise LocalProtocolError(f"a list of {size} elements")


def _write_value(out: bytearray, value: Value) -> None:
    if isinstance(value, Jid):
        _write_jid(out, value)
    else:
        _write_text(out, value)


def _write_text(out: bytearray, text: str) -> None:
    if (token := tokens.ENCODED.get(text)) is not None:
        out += token
    elif (short := packed.pack(text)) is not None:
        out += short
    else:
        _write_binary(out, text.encode("utf-8", "backslashreplace"))


def _write_binary(out: bytearray, data: bytes) -> None:
    size = len(data)
    if size < 1 << 8:
        out += bytes((Tag.BINARY_8, size))
    elif size < 1 << 20:
        out.append(Tag.BINARY_20)
        out += size.to_bytes(3, "big")
    elif size < 1 << 31:
        out.append(Tag.BINARY_32)
        out += size.to_bytes(4, "big")
    else:
        raise LocalProtocolError(f"a value of {size} bytes")
    out += data


def _write_jid(out: bytearray, jid: Jid) -> None:
    domain = AD_DOMAINS.get(jid.server)
    if domain is not None and jid.user and 0 < jid.device <= 0xFF:
        out += bytes((Tag.AD_JID, domain, jid.device))
        _write_text(out, jid.user)
    elif jid.server == MESSENGER_SERVER and jid.user:
        out.append(Tag.FB_JID)
        _write_text(out, jid.user)
        out += jid.device.to_bytes(2, "big")
        _write_text(out, jid.server)
    elif jid.server == INTEROP_SERVER and (parts := _integrator(jid.user)) is not None:
        out.append(Tag.INTEROP_JID)
        _write_text(out, parts[1])
        out += jid.device.to_bytes(2, "big") + parts[0].to_bytes(2, "big")
        _write_text(out, jid.server)
    elif jid.device:
        _write_text(out, str(jid))
    else:
        out.append(Tag.JID_PAIR)
        if jid.user:
            _write_text(out, jid.user)
        else:
            out.append(Tag.LIST_EMPTY)
        _write_text(out, jid.server)


def _integrator(user: str) -> tuple[int, str] | None:
    number, dash, rest = user.partition("-")
    if dash and rest and number.isascii() and number.isdigit() and len(number) <= 5:
        value = int(number)
        return (value, rest) if value <= 0xFFFF and str(value) == number else None
    return None


# ---- reading


class _Reader:
    """Reads one tree from a buffer; every read checks what is left first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._values_left = MAX_VALUES

    def expect_end(self) -> None:
        if self._at != len(self._data):
            raise RemoteProtocolError(f"{len(self._data) - self._at} bytes after the node")

    def node(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise RemoteProtocolError(f"nodes nested deeper than {MAX_DEPTH}")
        size = self._list_size(self._byte())
        if size == 0:
            raise RemoteProtocolError("a node of no elements")
        self._spend(1 + size // 2)
        tag = self._name()
        attributes = {self._name(): self._value() for _ in range((size - 1) // 2)}
        return Node(tag, attributes, self._content(depth) if size % 2 == 0 else None)

    def _content(self, depth: int) -> Content:
        tag = self._byte()
        match tag:
            case Tag.LIST_EMPTY:
                return None
            case Tag.LIST_8 | Tag.LIST_16:
                return tuple(self.node(depth + 1) for _ in range(self._list_size(tag))) or None
            case Tag.BINARY_8 | Tag.BINARY_20 | Tag.BINARY_32:
                return self._binary(tag)
            case _:
                value = self._value_of(tag)
                return value if isinstance(value, str) else str(value)

    def _name(self) -> str:
        """A tag or an attribute's name: text that is not empty."""
        if not (name := self._text()):
            raise RemoteProtocolError("an empty name")
        return name

    def _value(self) -> Value:
        return self._value_of(self._byte())

    def _value_of(self, tag: int) -> Value:
        return self._jid(tag) if tag in _JID_TAGS else self._text_of(tag)

    def _text(self) -> str:
        return self._text_of(self._byte())

    def _text_of(self, tag: int) -> str:
        """Text alone: a JID has parts that are text, so with JIDs it would nest without end."""
        if tag < tokens.SINGLE_COUNT:
            return tokens.SINGLE[tag]  # number 0 is null, read as the empty text
        if tag < Tag.DICTIONARY_0 + tokens.DICTIONARIES:
            return tokens.DOUBLE[tag - Tag.DICTIONARY_0][self._byte()]
        match tag:
            case Tag.BINARY_8 | Tag.BINARY_20 | Tag.BINARY_32:
                data = self._binary(tag)
                text = "" if len(data) > MAX_TEXT else data.decode("utf-8", "backslashreplace")
                if max(len(data), len(text)) > MAX_TEXT:
                    raise RemoteProtocolError(f"a text of {len(data)} bytes")
                return text
            case Tag.NIBBLE_8 | Tag.HEX_8:
                header = self._byte()
                return packed.unpack(tag, header, self._take(header & 0x7F))
            case _:
                raise RemoteProtocolError(f"tag {tag} where text was expected")

    def _jid(self, tag: int) -> Jid:
        match tag:
            case Tag.JID_PAIR:
                return Jid(self._jid_part(optional=True), self._jid_part())
            case Tag.AD_JID:
                domain, device = self._byte(), self._byte()
                if (server := AD_SERVERS.get(domain)) is None:
                    raise RemoteProtocolError(f"device JID of unknown domain {domain}")
                return Jid(self._jid_part(), server, device)
            case Tag.FB_JID:
                user, device = self._jid_part(), self._number(2)
                return Jid(user, self._fixed_server(MESSENGER_SERVER), device)
            case _:
                user, device, integrator = self._jid_part(), self._number(2), self._number(2)
                return Jid(f"{integrator}-{user}", self._fixed_server(INTEROP_SERVER), device)

    def _jid_part(self, *, optional: bool = False) -> str:
        text = self._text()
        if not text and not optional:
            raise RemoteProtocolError("a JID with an empty part")
        if not _NOT_IN_A_JID.isdisjoint(text):
            raise RemoteProtocolError("a JID inside a part of a JID")
        return text

    def _fixed_server(self, expected: str) -> str:
        if self._text() != expected:
            raise RemoteProtocolError(f"a {expected} JID with another server")
        return expected

    def _list_size(self, tag: int) -> int:
        match tag:
            case Tag.LIST_EMPTY:
                return 0
            case Tag.LIST_8:
                return self._byte()
            case Tag.LIST_16:
                return self._number(2)
            case _:
                raise RemoteProtocolError(f"tag {tag} where a list was expected")

    def _binary(self, tag: int) -> bytes:
        match tag:
            case Tag.BINARY_8:
                return self._take(self._byte())
            case Tag.BINARY_20:
                return self._take(self._number(3) & 0xFFFFF)
            case _:
                return self._take(self._number(4))

    def _byte(self) -> int:
        if self._at >= len(self._data):
            raise RemoteProtocolError("truncated node")
        value = self._data[self._at]
        self._at += 1
        return value

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise RemoteProtocolError(f"{size} bytes announced, {len(self._data) - self._at} left")
        data = self._data[self._at : end]
        self._at = end
        return data

    def _spend(self, values: int) -> None:
        self._values_left -= values
        if self._values_left < 0:
            raise RemoteProtocolError(f"more than {MAX_VALUES} nodes and attributes")
