"""Whole connections in memory: both ends of a stream, fed in pieces of any size."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.binary import codec
from whatsapp.certificates import issue_chain
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.framing import frame
from whatsapp.jid import SERVER_JID
from whatsapp.node import Node
from whatsapp.stream import (
    BytesToSend,
    ClientConnected,
    ClientStream,
    FrameRejected,
    HandshakeCompleted,
    NodeReceived,
    ServerStream,
    ServerStreamEvent,
    State,
    StreamEvent,
)

NOW = 1_800_000_000
NOISE, CLIENT_EPHEMERAL, STATIC, SERVER_EPHEMERAL, ROOT, INTERMEDIATE = (
    KeyPair.from_private(bytes([byte]) * 32) for byte in range(1, 7)
)
CHAIN = issue_chain(
    root=ROOT,
    intermediate=INTERMEDIATE,
    leaf_key=STATIC.public,
    not_before=NOW,
    not_after=NOW,
    random=bytes,
)
PING = Node("iq", {"to": SERVER_JID, "type": "get", "id": "1"})


def _client(routing_info: bytes = b"") -> ClientStream:
    return ClientStream(
        noise_key=NOISE,
        ephemeral=CLIENT_EPHEMERAL,
        client_payload=b"who I am",
        root_key=ROOT.public,
        now=NOW,
        routing_info=routing_info,
    )


def _server() -> ServerStream:
    return ServerStream(static=STATIC, ephemeral=SERVER_EPHEMERAL, cert_chain=CHAIN)


def _to_client(client: ClientStream, data: bytes, size: int) -> list[StreamEvent]:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return [event for piece in pieces for event in client.receive(piece)]


def _to_server(server: ServerStream, data: bytes, size: int) -> list[ServerStreamEvent]:
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return [event for piece in pieces for event in server.receive(piece)]


def _connect(size: int = 1 << 20, routing_info: bytes = b"") -> tuple[ClientStream, ServerStream]:
    client, server = _client(routing_info), _server()
    [hello] = _to_server(server, client.start(), size)
    assert isinstance(hello, BytesToSend)
    [done] = _to_client(client, hello.data, size)
    assert isinstance(done, HandshakeCompleted)
    connected = _to_server(server, done.to_send, size)
    assert connected == [ClientConnected(b"who I am", NOISE.public, routing_info)]
    return client, server


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("routing_info", [b"", b"blob"])
def test_connection_in_pieces(size: int, routing_info: bytes) -> None:
    """Handshake and nodes work however the bytes are cut, with or without a routing blob."""
    client, server = _connect(size, routing_info)
    nodes = [Node("ib"), PING, Node("message", {}, b"x" * 300)]
    to_server = b"".join(client.send(node) for node in nodes)
    assert [event.node for event in _to_server(server, to_server, size)] == nodes  # type: ignore[union-attr]
    to_client = b"".join(server.send(node) for node in nodes)
    received = _to_client(client, to_client, size)
    assert [event.node for event in received] == nodes  # type: ignore[union-attr]


def test_frames_behind_the_handshake_are_kept() -> None:
    """A client may send nodes right behind its proof; nothing waits for another read."""
    client, server = _client(), _server()
    [hello] = server.receive(client.start())
    assert isinstance(hello, BytesToSend)
    [done] = client.receive(hello.data)
    assert isinstance(done, HandshakeCompleted)
    connected, ping = server.receive(done.to_send + client.send(PING))
    assert isinstance(connected, ClientConnected)
    assert isinstance(ping, NodeReceived)
    assert ping.node == PING


def test_pipelined_frames_after_the_server_hello() -> None:
    """Frames which arrive together with the server's hello are read with the new keys."""
    client, server = _client(), _server()
    [hello] = server.receive(client.start())
    assert isinstance(hello, BytesToSend)
    twin = _client()  # same keys: what it says, the client is about to say
    twin.start()
    [done] = twin.receive(hello.data)
    assert isinstance(done, HandshakeCompleted)
    server.receive(done.to_send)
    first, second = client.receive(hello.data + server.send(PING))
    assert first == done
    assert isinstance(second, NodeReceived)


def test_unreadable_node_is_skipped_and_told() -> None:
    """An authentic frame without a readable node does not end the stream."""
    client, server = _connect()
    assert server._transport is not None
    bad = frame(server._transport.sending.encrypt(b"\0\xf8\0"))
    rejected, ping = client.receive(bad + server.send(PING))
    assert rejected == FrameRejected(b"\0\xf8\0", "a node of no elements")
    assert isinstance(ping, NodeReceived)


def test_compressed_frames() -> None:
    """The server may compress."""
    client, server = _connect()
    assert server._transport is not None
    plain = b"\2" + zlib.compress(codec.encode(PING)[1:])
    [event] = client.receive(frame(server._transport.sending.encrypt(plain)))
    assert event == NodeReceived(PING, len(plain) + 16)


@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(1, 50))
@settings(deadline=None, max_examples=60)
def test_tampering_closes_the_stream(at: int, flip: int, size: int) -> None:
    """A changed bit anywhere gives no node, and only RemoteProtocolError."""
    client, server = _connect()
    data = bytearray(server.send(PING))
    data[at % len(data)] ^= flip
    try:
        events = _to_client(client, bytes(data), size)
    except RemoteProtocolError:
        assert client.state is State.CLOSED
        with pytest.raises(LocalProtocolError):
            client.receive(b"")
        with pytest.raises(LocalProtocolError):
            client.send(PING)
    else:
        assert events == []  # the length claims more than has come


@given(st.binary(max_size=200), st.integers(1, 50))
@settings(deadline=None)
def test_random_bytes_before_and_after_the_handshake(data: bytes, size: int) -> None:
    """Any bytes at any time: events, or RemoteProtocolError."""
    fresh = _client()
    fresh.start()
    for stream in (fresh, _connect()[0]):
        try:
            assert _to_client(stream, data, size) == []
        except RemoteProtocolError:
            assert stream.state is State.CLOSED
    for server in (_server(), _connect()[1]):
        try:
            assert _to_server(server, data, size) == []
        except RemoteProtocolError:
            assert server.state is State.CLOSED
            with pytest.raises(LocalProtocolError):
                server.receive(data)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_plaintexts(plain: bytes) -> None:
    """Whatever an authentic server encrypts: one event."""
    client, server = _connect()
    assert server._transport is not None
    [event] = client.receive(frame(server._transport.sending.encrypt(plain)))
    assert isinstance(event, NodeReceived | FrameRejected)


def test_replayed_and_reordered_frames_are_refused() -> None:
    """Frames are good once and in order."""
    client, server = _connect()
    first = server.send(PING)
    client.receive(first)
    with pytest.raises(RemoteProtocolError):
        client.receive(first)
    client, server = _connect()
    first, second = server.send(PING), server.send(PING)
    with pytest.raises(RemoteProtocolError):
        client.receive(second + first)


def test_order_of_calls() -> None:
    """What is out of order is our bug, and said so."""
    client, server = _client(), _server()
    with pytest.raises(LocalProtocolError):
        client.receive(b"")
    with pytest.raises(LocalProtocolError):
        client.send(PING)
    with pytest.raises(LocalProtocolError):
        server.send(PING)
    client.start()
    with pytest.raises(LocalProtocolError):
        client.start()
    with pytest.raises(LocalProtocolError):
        client.send(PING)


def test_forged_certificate_ends_the_handshake() -> None:
    """A server under another root never learns who we are."""
    client = _client()
    forged = issue_chain(
        root=KeyPair.from_private(b"\x99" * 32),
        intermediate=INTERMEDIATE,
        leaf_key=STATIC.public,
        not_before=NOW,
        not_after=NOW,
        random=bytes,
    )
    server = ServerStream(static=STATIC, ephemeral=SERVER_EPHEMERAL, cert_chain=forged)
    [hello] = server.receive(client.start())
    assert isinstance(hello, BytesToSend)
    with pytest.raises(RemoteProtocolError, match="signature is wrong"):
        client.receive(hello.data)
    assert client.state is State.CLOSED


def test_frames_are_opened_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand compressed frames in one message are not unpacked all at once: 16 MiB of them
    would become 16 GiB."""
    client, server = _connect()
    opened: list[int] = []
    decode = codec.decode

    def counted(data: bytes) -> Node:
        opened.append(len(data))
        return decode(data)

    monkeypatch.setattr(codec, "decode", counted)
    events = client.read(b"".join(server.send(PING) for _ in range(1000)))
    assert opened == []
    for number in range(1, 4):
        assert isinstance(next(events), NodeReceived)
        assert len(opened) == number
    assert len(list(events)) == 997
    assert client.state is State.OPEN


def test_a_forged_frame_closes_the_stream_once_it_is_reached() -> None:
    """What came before it is good; after it there is nothing."""
    client, server = _connect()
    good = server.send(PING)
    events = client.read(good + frame(b"forged, and long enough for a tag"))
    assert isinstance(next(events), NodeReceived)
    with pytest.raises(RemoteProtocolError):
        next(events)
    assert client.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        client.receive(good)
