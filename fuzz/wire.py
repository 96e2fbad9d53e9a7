"""Harnesses for bytes before they are nodes: frames, nodes, handshake, streams, JIDs."""

import typing as t
import zlib

import attrs

from fuzz import keys
from fuzz.harness import Target, choice, ensure, pieces, refused
from whatsapp import certificates, framing
from whatsapp.binary import codec
from whatsapp.e2ee import curve
from whatsapp.framing import ClientStreamReader, FrameReader
from whatsapp.handshake import ClientHandshake, ServerHandshake
from whatsapp.jid import MAX_JID_LENGTH, Jid
from whatsapp.node import Node
from whatsapp.noise import Transport
from whatsapp.proto import wa_pb2
from whatsapp.stream import ClientStream, NodeReceived, ServerStream

_INFLATED: t.Final = 4  # bit of the first byte of a node: compress the rest before reading it


def frames(data: bytes) -> None:
    """However a stream is cut, it gives the same frames."""
    size, data = choice(data, 64)
    whole = FrameReader().feed(data)
    reader = FrameReader()
    cut = [payload for piece in pieces(data, size + 1) for payload in reader.feed(piece)]
    ensure(whole == cut, "the frames depend on how the stream was cut")
    ensure(data.startswith(b"".join(map(framing.frame, whole))), "frames that were not sent")
    server = ClientStreamReader()
    with refused:
        for piece in pieces(data, size + 1):
            server.feed(piece)


def node(data: bytes) -> None:
    """What decodes encodes, and decodes to the same again."""
    if data and data[0] & _INFLATED:
        data = bytes([codec.FLAG_COMPRESSED]) + zlib.compress(data[1:], 1)
    with refused:
        first = codec.decode(data)
        again = codec.decode(codec.encode(first))
        ensure(_plain(again) == _plain(first), "a node that changes when it is written again")


def _plain(tree: Node) -> Node:
    """The same tree with text contents as bytes: on the wire the two are alike."""
    match tree.content:
        case tuple() as children if children:
            return attrs.evolve(tree, content=tuple(map(_plain, children)))
        case str() as text:
            return attrs.evolve(tree, content=text.encode())
        case content:
            return attrs.evolve(tree, content=content or b"")


def handshake(data: bytes) -> None:
    """Both messages of the handshake, raw and behind its ciphers, and the certificates."""
    way, data = choice(data, 7)
    client = ClientHandshake(keys.CLIENT_NOISE, keys.CLIENT_EPHEMERAL)
    hello = client.hello()
    match way:
        case 0:
            with refused:
                _server(b"").hello(data)
        case 1:
            with refused:
                client.finish(data, b"payload", keys.ROOT.public, keys.NOW)
        case 2:
            server = _server(keys.chain())
            server.hello(hello)
            with refused:
                server.complete(data)
        case 3:
            # Whatever a server of the right keys says of its certificates.
            with refused:
                client.finish(_server(data).hello(hello), b"", keys.ROOT.public, keys.NOW)
        case 4 | 5:
            with refused:
                details = _signed(data, keys.ROOT if way == 4 else keys.INTERMEDIATE)
                known = wa_pb2.CertChain.FromString(keys.chain())
                (known.intermediate if way == 4 else known.leaf).CopyFrom(details)
                certificates.verify_chain(
                    known.SerializeToString(),
                    keys.SERVER_STATIC.public,
                    keys.ROOT.public,
                    keys.NOW,
                )
        case _:
            with refused:
                certificates.verify_chain(
                    data, keys.SERVER_STATIC.public, keys.ROOT.public, keys.NOW
                )


def _server(chain: bytes) -> ServerHandshake:
    return ServerHandshake(keys.SERVER_STATIC, keys.SERVER_EPHEMERAL, chain)


def _signed(details: bytes, issuer: curve.KeyPair) -> wa_pb2.CertChain.NoiseCertificate:
    signature = curve.sign(issuer.private, details, bytes(64))
    return wa_pb2.CertChain.NoiseCertificate(details=details, signature=signature)


def _streams() -> tuple[ClientStream, ServerStream]:
    client = ClientStream(
        noise_key=keys.CLIENT_NOISE,
        ephemeral=keys.CLIENT_EPHEMERAL,
        client_payload=b"payload",
        root_key=keys.ROOT.public,
        now=keys.NOW,
    )
    server = ServerStream(
        static=keys.SERVER_STATIC, ephemeral=keys.SERVER_EPHEMERAL, cert_chain=_CHAIN
    )
    return client, server


_CHAIN: t.Final = keys.chain()


def stream(data: bytes) -> None:
    """A whole connection in pieces: nonsense instead of the handshake, or frames behind it."""
    way, data = choice(data, 4)
    size, data = choice(data, 64)
    client, server = _streams()
    start = client.start()
    if way == 0:
        with refused:
            for piece in pieces(data, size + 1):
                client.receive(piece)
        return
    if way == 1:
        with refused:
            for piece in pieces(data, size + 1):
                server.receive(piece)
        return
    [reply] = server.receive(start)
    [finish] = client.receive(reply.data)  # type: ignore[union-attr]
    server.receive(finish.to_send)  # type: ignore[union-attr]
    transport = t.cast(Transport, server._transport)
    sent = (
        data
        if way == 2
        else b"".join(
            framing.frame(transport.sending.encrypt(plain)) for plain in FrameReader().feed(data)
        )
    )
    with refused:
        for piece in pieces(sent, size + 1):
            for event in client.receive(piece):
                if isinstance(event, NodeReceived):
                    client.send(event.node)


def jid(data: bytes) -> None:
    """What parses prints, and parses to the same again; it fits the fields it goes into."""
    text = data.decode("utf-8", "backslashreplace")
    with refused:
        parsed = Jid.parse(text)
        ensure(0 <= parsed.device <= 0xFFFF, "a device number that is none")
        again = Jid.parse(str(parsed))
        if parsed.user:
            ensure(again == parsed, "a JID that changes when it is printed")
        for form in (parsed.bare, parsed.with_device(3)):
            ensure(len(str(form)) <= MAX_JID_LENGTH + 16, "a form that grew")
        codec.decode(codec.encode(Node("a", {"b": parsed})))
        parsed.signal_address.encode()


TARGETS: t.Final = (
    Target(name="frames", run=frames),
    Target(name="node", run=node, form="node"),
    Target(name="handshake", run=handshake, form="choice", max_length=1024),
    Target(name="stream", run=stream),
    Target(name="jid", run=jid, max_length=600),
)
