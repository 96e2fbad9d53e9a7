"""One connection's bytes: what the socket gave in, events out; nodes in, what to send out.

After any error a stream is closed: drop it and the socket with it.
Source: docs/protocol.md#framing and docs/protocol.md#noise-handshake
"""

import collections.abc as cabc
import enum
import typing as t

import attrs

from whatsapp.binary import codec
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.framing import ClientStreamReader, FrameReader, frame, intro
from whatsapp.handshake import ClientHandshake, ServerHandshake
from whatsapp.node import Node
from whatsapp.noise import Transport


@attrs.frozen
class HandshakeCompleted:
    """The server has proven who it is; send this, then nodes may follow."""

    to_send: bytes = attrs.field(repr=False)


@attrs.frozen
class NodeReceived:
    """One stanza of the peer."""

    node: Node
    size: int  # bytes of its frame


@attrs.frozen
class FrameRejected:
    """The server sent a frame that is authentic but holds no readable node.

    It is skipped and the stream goes on, because closing would only bring the frame back. To be
    recorded, not ignored.
    """

    data: bytes = attrs.field(repr=False)  # the decrypted frame
    reason: str


StreamEvent: t.TypeAlias = HandshakeCompleted | NodeReceived | FrameRejected


@attrs.frozen
class BytesToSend:
    """The server's part of the handshake."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class ClientConnected:
    """The handshake is done; nodes may be sent."""

    client_payload: bytes = attrs.field(repr=False)
    noise_public: bytes  # 32, proven to be theirs
    routing_info: bytes


ServerStreamEvent: t.TypeAlias = BytesToSend | ClientConnected | NodeReceived


class State(enum.Enum):
    """Where a stream is; it only ever moves down this list."""

    NEW = "new"
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class ClientStream:
    """The client's end of one connection.

    ``ephemeral`` must be fresh; ``now`` is unix seconds, for the server's certificate;
    ``routing_info`` is the blob of an earlier connection, if there was one.
    """

    def __init__(
        self,
        *,
        noise_key: KeyPair,
        ephemeral: KeyPair,
        client_payload: bytes,
        root_key: bytes,
        now: int,
        routing_info: bytes = b"",
    ) -> None:
        self._handshake = ClientHandshake(noise_key, ephemeral)
        self._client_payload = client_payload
        self._root_key = root_key
        self._now = now
        self._routing_info = routing_info
        self._frames = FrameReader()
        self._transport: Transport | None = None
        self.state = State.NEW

    def start(self) -> bytes:
        """What to send first.

        Raises:
            LocalProtocolError: called twice.
        """
        if self.state is not State.NEW:
            raise LocalProtocolError(f"start while {self.state.name}")
        self.state = State.HANDSHAKE
        return intro(self._routing_info) + frame(self._handshake.hello())

    def receive(self, data: bytes) -> list[StreamEvent]:
        """Take in what the socket gave, in pieces of any size.

        Raises:
            RemoteProtocolError: the server is not WhatsApp's, or a frame was tampered with; the
                stream is closed and what else these bytes held is lost (it was not acknowledged).
            LocalProtocolError: not started, or closed.
        """
        return list(self.read(data))

    def read(self, data: bytes) -> cabc.Iterator[StreamEvent]:
        """The same, one frame after the other: none is opened before it is asked for, so that
        whoever takes them slowly holds what is unpacked of one only. To be used up before
        more is read.

        Raises:
            RemoteProtocolError, LocalProtocolError: as ``receive``, once that frame is reached.
        """
        if self.state in (State.NEW, State.CLOSED):
            raise LocalProtocolError(f"receive while {self.state.name}")
        try:
            for payload in self._frames.feed(data):
                yield self._event(payload)
        except GeneratorExit:
            raise  # nobody wants the rest
        except BaseException:
            self.state = State.CLOSED
            raise

    def send(self, node: Node) -> bytes:
        """The bytes of one stanza; they must go out in the order of these calls.

        Raises:
            LocalProtocolError: the handshake is not done, or the node cannot be written.
        """
        if self._transport is None or self.state is not State.OPEN:
            raise LocalProtocolError(f"send while {self.state.name}")
        return frame(self._transport.sending.encrypt(codec.encode(node)))

    def _event(self, payload: bytes) -> StreamEvent:
        if self._transport is None:
            finish, self._transport = self._handshake.finish(
                payload, self._client_payload, self._root_key, self._now
            )
            self.state = State.OPEN
            return HandshakeCompleted(frame(finish))
        plaintext = self._transport.receiving.decrypt(payload)
        try:
            return NodeReceived(codec.decode(plaintext), len(payload))
        except RemoteProtocolError as error:
            return FrameRejected(plaintext, str(error))


class ServerStream:
    """The server's end of one connection; ``ephemeral`` must be fresh."""

    def __init__(self, *, static: KeyPair, ephemeral: KeyPair, cert_chain: bytes) -> None:
        self._handshake = ServerHandshake(static, ephemeral, cert_chain)
        self._reader = ClientStreamReader()
        self._transport: Transport | None = None
        self.state = State.NEW

    def receive(self, data: bytes) -> list[ServerStreamEvent]:
        """Take in what the socket gave, in pieces of any size.

        Raises:
            RemoteProtocolError: not a client of this protocol; the stream is closed.
            LocalProtocolError: the stream is closed.
        """
        if self.state is State.CLOSED:
            raise LocalProtocolError("receive while CLOSED")
        try:
            return [self._event(payload) for payload in self._reader.feed(data)]
        except BaseException:
            self.state = State.CLOSED
            raise

    def send(self, node: Node) -> bytes:
        """The bytes of one stanza; they must go out in the order of these calls.

        Raises:
            LocalProtocolError: the handshake is not done, or the node cannot be written.
        """
        return self.send_plaintext(codec.encode(node))

    def send_plaintext(self, plaintext: bytes) -> bytes:
        """The same for any bytes, which a server could send in the place of a stanza.

        Raises:
            LocalProtocolError: the handshake is not done.
        """
        if self._transport is None or self.state is not State.OPEN:
            raise LocalProtocolError(f"send while {self.state.name}")
        return frame(self._transport.sending.encrypt(plaintext))

    def _event(self, payload: bytes) -> ServerStreamEvent:
        if self.state is State.NEW:
            self.state = State.HANDSHAKE
            return BytesToSend(frame(self._handshake.hello(payload)))
        if self._transport is None:
            client, self._transport = self._handshake.complete(payload)
            self.state = State.OPEN
            routing_info = self._reader.routing_info or b""
            return ClientConnected(client.payload, client.noise_public, routing_info)
        return NodeReceived(codec.decode(self._transport.receiving.decrypt(payload)), len(payload))
