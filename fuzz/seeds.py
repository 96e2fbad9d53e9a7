"""Seeds: what the product's own tests and the simulator's people really send.

``python -m fuzz.seeds`` runs a part of the test suite, notes what the parsers are given, and
writes one file for each shape of it to ``.fuzz/seeds``. ``python -m fuzz --minimise`` then keeps
in ``fuzz/corpus`` the shortest of them, and of what the fuzzer found, that reach as much.
"""

import hashlib
import sys
import types
import typing as t

import pytest

from fuzz import pairings, sessions
from fuzz.__main__ import WORK
from whatsapp import content, history, peer, web_message
from whatsapp.appstate import requests, wire
from whatsapp.binary import codec
from whatsapp.errors import ProtocolError
from whatsapp.framing import frame
from whatsapp.handshake import ClientHandshake, ServerHandshake
from whatsapp.jid import Jid
from whatsapp.node import Node

LONGEST: t.Final = 3000  # bytes of a seed
TESTS: t.Final = (
    "tests/whatsapp",
    "tests/actors/test_whole_inbox.py",
    "tests/actors/test_connection.py",
    "tests/actors/test_sender.py",
    "tests/actors/test_app_state.py",
    "tests/system/test_simulator_pairing.py",
)

Taken: t.TypeAlias = tuple[str, bytes]  # the harness, and the input before the given bytes


_WATCHED: t.Final[dict[types.CodeType, tuple[str, tuple[Taken, ...]]]] = {
    codec.decode.__code__: ("data", (("node", b""), ("stanza", b""))),
    content.read_content.__code__: ("plaintext", (("message", b""), ("addon", b"\0"))),
    history.read_history.__code__: ("data", (("history", b"\1"),)),
    history.parse_notification.__code__: ("fields", (("history", b"\0"),)),
    web_message.read_web_message.__code__: ("data", (("web_message", b""),)),
    peer.kind_of.__code__: ("raw", (("peer", b""),)),
    requests.keys_from_share.__code__: ("share", (("peer", b""),)),
    wire.parse_patch.__code__: ("data", (("app_state", b"\0"),)),
    wire.parse_snapshot.__code__: ("data", (("app_state", b"\1"),)),
    wire.parse_reference.__code__: ("data", (("app_state", b"\3"),)),
    ServerHandshake.hello.__code__: ("client_hello", (("handshake", b"\0"),)),
    ServerHandshake.complete.__code__: ("client_finish", (("handshake", b"\2"),)),
    ClientHandshake.finish.__code__: ("server_hello", (("handshake", b"\1"),)),
    Jid.parse.__func__.__code__: ("text", (("jid", b""),)),  # type: ignore[attr-defined]
}


class Collector:
    """Notes the arguments of the watched parsers."""

    def __init__(self) -> None:
        self.seeds: dict[str, dict[object, bytes]] = {}

    def __call__(self, frame_: types.FrameType, event: str, _argument: object) -> None:
        """A profile function."""
        if event == "call" and (watched := _WATCHED.get(frame_.f_code)) is not None:
            name, taken = watched
            given = frame_.f_locals[name]
            data = given.encode() if isinstance(given, str) else bytes(given)
            for harness, before in taken:
                self.add(harness, before + data, self._shape(frame_.f_code, data))

    def add(self, harness: str, data: bytes, shape: object = None) -> None:
        """One seed; the shortest of its shape stays."""
        known = self.seeds.setdefault(harness, {})
        key = shape or hashlib.sha256(data).digest()
        if len(data) <= LONGEST and len(data) < len(known.get(key, bytes(LONGEST + 1))):
            known[key] = data

    def _shape(self, code: types.CodeType, data: bytes) -> object:
        """What makes two inputs alike: the tags and names of a node, the length of others."""
        if code is codec.decode.__code__:
            sys.setprofile(None)
            try:
                return _shape_of(codec.decode(data))
            except ProtocolError:
                return "broken", len(data).bit_length()
            finally:
                sys.setprofile(self)
        return code, len(data)


def _shape_of(node: Node) -> object:
    kind = node.text("type") if node.tag in ("message", "receipt", "notification") else None
    return node.tag, kind, frozenset(node.attrs), frozenset(map(_shape_of, node.children))


def main() -> int:
    """Write the seeds."""
    collector = Collector()
    for harness, inputs in {**sessions.seeds(), "pairing": pairings.seeds()}.items():
        for data in inputs:
            collector.add(harness, data)
    sys.setprofile(collector)
    try:
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *TESTS])
    finally:
        sys.setprofile(None)
    nodes = tuple(collector.seeds["node"].values())
    for data in nodes:
        collector.add("stream", b"\3\x3f" + frame(data))
        collector.add("frames", b"\5" + frame(data))
        collector.add("node", b"\4" + data[1:])
    for harness, found in collector.seeds.items():
        directory = WORK / "seeds" / harness
        directory.mkdir(parents=True, exist_ok=True)
        for data in found.values():
            directory.joinpath(hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
