"""A WhatsApp that breaks its own protocol, against whole connections in virtual time.

Whatever it sends: the connection goes on or comes back by itself, says why in one event, loses
and doubles nothing, keeps what it could not read, and no other connection notices.
"""

import collections.abc as cabc
import typing as t
import zlib

import attrs
import pytest
import trio
import trio.testing

from simulator import Account
from tests.actors.conftest import FaultyStorage
from tests.actors.hostile_world import NAME, few_prekeys, hostile_world, is_well
from tests.actors.world import START, World
from whatsapp.binary import codec
from whatsapp.framing import frame
from whatsapp.jid import Jid
from whatsapp.node import Node

pytestmark = pytest.mark.usefixtures("few_prekeys")
__all__ = ["few_prekeys"]

Clock: t.TypeAlias = trio.testing.MockClock
Do: t.TypeAlias = cabc.Callable[[World, Account], cabc.Awaitable[object]]

STRANGER: t.Final = Jid("15550009999", "s.whatsapp.net")
GROUP: t.Final = Jid("120363000000000009", "g.us")
MEGABYTE: t.Final = "x" * 1_000_000


@attrs.frozen(kw_only=True)
class Hostility:
    """One thing that a server could do, and all that may come of it."""

    do: Do
    ends: str | None = None  # the reason in the event, where the socket does not survive
    quarantined: int = 0
    placeholders: int = 0


def says(*nodes: Node) -> Do:
    """Well-encrypted stanzas."""
    return lambda world, _ana: _say(world, *map(codec.encode, nodes))


def says_bytes(*plaintexts: bytes) -> Do:
    """Well-encrypted nonsense."""
    return lambda world, _ana: _say(world, *plaintexts)


async def _say(world: World, *plaintexts: bytes) -> None:
    for plaintext in plaintexts:
        assert await world.simulator.say(plaintext, world.accounts[NAME].pn) == 1


def scrawls(data: bytes) -> Do:
    """Bytes outside of any cipher."""
    return lambda world, _ana: world.simulator.scrawl(data, world.accounts[NAME].pn)


def message(*children: Node, **attributes: t.Any) -> Node:
    """A message of a stranger."""
    given = {"id": "EVIL", "from": STRANGER, "t": int(START), "type": "text"} | attributes
    return Node("message", {key: given[key] for key in given}, children or (enc(),))


def enc(body: bytes = b"\x33nonsense", kind: str = "msg") -> Node:
    return Node("enc", {"v": "2", "type": kind}, body)


def group_news(*children: Node, **attributes: t.Any) -> Node:
    given = {"id": "G1", "from": GROUP, "type": "w:gp2", "t": int(START)} | attributes
    return Node("notification", {key: given[key] for key in given}, children)


def member(number: int) -> Node:
    return Node("participant", {"jid": Jid(str(15_550_100_000 + number), "s.whatsapp.net")})


def deep(levels: int) -> Node:
    """Nodes inside of nodes."""
    node = Node("a")
    for _level in range(levels - 1):
        node = Node("a", {}, (node,))
    return node


def compressed(plaintext: bytes) -> bytes:
    return bytes([codec.FLAG_COMPRESSED]) + zlib.compress(plaintext, 9)


HOSTILITIES: t.Final[dict[str, Hostility]] = {
    # ---- below the cipher
    "garbage frame": Hostility(do=scrawls(frame(bytes(100))), ends="protocol_error"),
    "empty frame": Hostility(do=scrawls(frame(b"")), ends="protocol_error"),
    "frame with a wrong tag": Hostility(do=scrawls(frame(b"\1" * 16)), ends="protocol_error"),
    "frame that never ends": Hostility(
        do=scrawls(b"\xff\xff\xff" + bytes(1000)), ends="heartbeat_missed"
    ),
    # ---- frames that hold no node
    "no node": Hostility(do=says_bytes(b"", b"\0", b"\0\xff\xff", b"\2broken"), quarantined=4),
    "lengths beyond the frame": Hostility(
        do=says_bytes(b"\0\xf9\xff\xff\x05", b"\0\xf8\x02\x05\xfe\x7f\xff\xff\xff"), quarantined=2
    ),
    "compression bomb": Hostility(do=says_bytes(compressed(bytes(64 << 20))), quarantined=1),
    "deep nesting": Hostility(
        do=says_bytes(codec.encode(deep(60))[:-3] + b"\xf8\x02\x05\xf8\1" * 500), quarantined=1
    ),
    "JIDs inside of JIDs": Hostility(
        do=says_bytes(b"\0\xf8\x02\x05" + b"\xf6" * 100_000), quarantined=1
    ),
    "huge attribute map": Hostility(
        do=says(Node("surprise", {f"k{number}": number for number in range(30_000)}))
    ),
    "text of megabytes": Hostility(
        do=says_bytes(codec.encode(message(id="x" * 3_000_000))), quarantined=1
    ),
    # ---- stanzas
    "unknown tags": Hostility(
        do=says(
            Node("surprise", {"from": STRANGER, "id": "1"}, (Node("inner"),)),
            Node("iq", {"type": "set", "id": "1", "xmlns": "surprise"}),
            Node("iq", {"type": "result", "id": "1-1"}),
            Node("iq", {"type": "error", "id": "nobody asked"}),
            Node("notification", {"from": STRANGER, "id": "1", "type": "surprise"}),
            Node("success"),
            Node("presence", {"from": "nonsense:x@"}),
        )
    ),
    "stanzas without anything": Hostility(
        do=says(*map(Node, ("message", "receipt", "notification", "call", "ack", "ib", "iq"))),
        quarantined=2,
    ),
    "malformed stanzas": Hostility(
        do=says(
            Node("receipt", {"id": "1", "from": "a:x@b", "t": "soon"}),
            Node("call", {"id": "1", "from": STRANGER}, (Node("offer"),)),
            group_news(Node("add", {}, (Node("participant"),))),
            Node("ack", {"class": "message"}),
            Node("ib", {}, (Node("offline_preview", {"count": "many"}), Node("dirty"))),
            message(t="yesterday"),
            message(Node("enc", {"v": "x", "type": "msg"}, b"")),
        ),
        quarantined=5,
    ),
    "ids of a megabyte": Hostility(
        do=says(
            message(id=MEGABYTE),
            Node("receipt", {"id": MEGABYTE, "from": STRANGER}),
            group_news(Node("locked"), id=MEGABYTE),
            Node("call", {"id": "1", "from": STRANGER}, (Node("offer", {"call-id": MEGABYTE}),)),
        ),
        quarantined=4,
    ),
    "JIDs of a megabyte": Hostility(
        do=says(
            message(**{"from": Jid(MEGABYTE, "s.whatsapp.net")}),
            message(participant=Jid(MEGABYTE, "lid"), **{"from": GROUP}),
            message(sender_lid=Jid(MEGABYTE, "lid")),
            Node("receipt", {"id": "1", "from": Jid(MEGABYTE, "lid")}),
            Node("receipt", {"id": "1", "from": STRANGER, "participant": Jid("1", MEGABYTE)}),
        ),
        quarantined=5,
    ),
    "absurd counts": Hostility(
        do=says(
            Node("ib", {}, (Node("offline_preview", {"count": 9_999_999_999_999_999_999}),)),
            Node("ib", {}, (Node("offline", {"count": -5}),)),
            Node("ib", {}, (Node("offline", {"count": 9_223_372_036_854_775_808}),)),
        )
    ),
    "absurd times": Hostility(
        do=says(
            *(
                message(id=f"T{at}", t=at)
                for at in (0, -1, 9_223_372_036_854_775_807, 9_999_999_999_999_999_999)
            ),
            Node("receipt", {"id": "1", "from": STRANGER, "t": 9_999_999_999_999_999_999}),
            group_news(Node("locked"), t=9_999_999_999_999_999_999),
            group_news(Node("ephemeral", {"expiration": 9_999_999_999_999_999_999}), id="G2"),
            Node(
                "call",
                {"id": "1", "from": STRANGER, "t": -9_999_999_999_999_999_999},
                (Node("offer", {"call-id": "C1"}),),
            ),
        ),
        placeholders=4,
    ),
    "routing blob of a megabyte": Hostility(
        do=says(
            Node(
                "ib",
                {},
                (Node("edge_routing", {}, (Node("routing_info", {}, bytes(1_000_000)),)),),
            )
        )
    ),
    # ---- messages
    "empty id": Hostility(do=says(message(id=""), message(id=None, t=1)), placeholders=2),
    "no session": Hostility(
        do=says(
            message(), message(enc(kind="skmsg"), id="E2"), message(enc(kind="pkmsg"), id="E3")
        ),
        placeholders=3,
    ),
    "10,000 ciphertexts": Hostility(
        do=says(message(*(enc() for _number in range(10_000)))), quarantined=1
    ),
    "unknown ciphertext": Hostility(do=says(message(enc(kind="xmsg"))), placeholders=1),
    "a message to 20,000 participants": Hostility(
        do=says(
            message(
                enc(),
                Node("participants", {}, tuple(member(number) for number in range(20_000))),
            )
        ),
        placeholders=1,
    ),
    # ---- receipts and groups
    "receipt for 20,000 messages": Hostility(
        do=says(
            Node(
                "receipt",
                {"id": "1", "from": STRANGER},
                (Node("list", {}, tuple(Node("item", {"id": n}) for n in range(20_000))),),
            )
        ),
        quarantined=1,
    ),
    "group of 20,000": Hostility(
        do=says(
            group_news(
                Node(
                    "create",
                    {},
                    (Node("group", {"id": GROUP}, tuple(member(n) for n in range(20_000))),),
                )
            ),
            group_news(Node("add", {}, tuple(member(n) for n in range(20_000))), id="G2"),
        ),
        quarantined=1,
    ),
    "10,000 changes of a group at once": Hostility(
        do=says(group_news(*(Node("locked") for _number in range(10_000))))
    ),
    "odd roles": Hostility(
        do=says(
            group_news(
                Node(
                    "add",
                    {},
                    (Node("participant", {"jid": STRANGER, "type": "x" * 1000}), member(1)),
                )
            )
        )
    ),
    # ---- ends
    "515": Hostility(do=lambda world, _: _end(world, "515"), ends="restart_required"),
    "503": Hostility(do=lambda world, _: _end(world, "503"), ends="unavailable"),
    "429": Hostility(do=lambda world, _: _end(world, "429"), ends="rate_limited"),
    "end of the stream": Hostility(do=lambda world, _: _end(world, "end"), ends="stream_ended"),
    "unknown stream error": Hostility(
        do=says(Node("stream:error", {"code": 999_999}, (Node("x"),))), ends="server_error"
    ),
    "failure with a text of a megabyte": Hostility(
        do=says(Node("failure", {"reason": 500, "message": MEGABYTE})), ends="server_error"
    ),
}


async def _end(world: World, name: str) -> None:
    await world.simulator.end(name, world.accounts[NAME].pn)


@pytest.mark.parametrize("name", HOSTILITIES)
async def test_a_hostile_server(autojump_clock: Clock, storage: FaultyStorage, name: str) -> None:
    """What came of it is what the table says, and nothing else."""
    hostility = HOSTILITIES[name]
    async with hostile_world(storage) as (world, ana, watch):
        await hostility.do(world, ana)
        await trio.sleep(60)
        await is_well(world, ana, watch)
        assert watch.reasons(NAME) == ([] if hostility.ends is None else [hostility.ends])
        counted = storage._connections[NAME].quarantined, watch.kinds("undecryptable")
        assert counted == (hostility.quarantined, hostility.placeholders)
