"""The Noise XX handshake, both roles: three messages, then a ``Transport``.

Each object serves one connection; the methods are called once, in the order they stand in.
Source: docs/protocol.md#noise-handshake
"""

import attrs

from whatsapp import protobuf
from whatsapp.certificates import verify_chain
from whatsapp.e2ee.curve import KEY_LENGTH, KeyPair, agree
from whatsapp.errors import RemoteProtocolError
from whatsapp.framing import HEADER
from whatsapp.noise import Cipher, SymmetricState, Transport
from whatsapp.proto.wa_pb2 import HandshakeMessage


class ClientHandshake:
    """The initiator, which checks the server's certificate before it says who it is."""

    def __init__(self, noise_key: KeyPair, ephemeral: KeyPair) -> None:
        self._noise_key = noise_key
        self._ephemeral = ephemeral
        self._state = SymmetricState(HEADER)

    def hello(self) -> bytes:
        """The first message, unencrypted."""
        self._state.mix_hash(self._ephemeral.public)
        hello = HandshakeMessage.ClientHello(ephemeral=self._ephemeral.public)
        return HandshakeMessage(client_hello=hello).SerializeToString()

    def finish(
        self, server_hello: bytes, client_payload: bytes, root_key: bytes, now: int
    ) -> tuple[bytes, Transport]:
        """Answer the server: the last message, and the ciphers that are in force after it.

        ``now`` is unix seconds.

        Raises:
            RemoteProtocolError: not a server with a certificate under ``root_key``.
        """
        hello = protobuf.parse(HandshakeMessage, server_hello).server_hello
        state = self._state
        state.mix_hash(hello.ephemeral)
        state.mix_key(agree(self._ephemeral.private, hello.ephemeral))
        static = state.decrypt_and_hash(hello.static)
        state.mix_key(agree(self._ephemeral.private, static))
        verify_chain(state.decrypt_and_hash(hello.payload), static, root_key, now)
        encrypted_key = state.encrypt_and_hash(self._noise_key.public)
        state.mix_key(agree(self._noise_key.private, hello.ephemeral))
        finish = HandshakeMessage.ClientFinish(
            static=encrypted_key, payload=state.encrypt_and_hash(client_payload)
        )
        to_server, to_client = state.split()
        transport = Transport(sending=Cipher(to_server), receiving=Cipher(to_client))
        return HandshakeMessage(client_finish=finish).SerializeToString(), transport


@attrs.frozen
class Client:
    """Who connected, as the server learns it from the handshake."""

    noise_public: bytes  # 32, proven to be theirs
    payload: bytes = attrs.field(repr=False)


class ServerHandshake:
    """The responder."""

    def __init__(self, static: KeyPair, ephemeral: KeyPair, cert_chain: bytes) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._cert_chain = cert_chain
        self._state = SymmetricState(HEADER)

    def hello(self, client_hello: bytes) -> bytes:
        """Answer the client's first message.

        Raises:
            RemoteProtocolError: not a hello of this handshake.
        """
        theirs = protobuf.parse(HandshakeMessage, client_hello).client_hello
        state = self._state
        state.mix_hash(theirs.ephemeral)
        state.mix_hash(self._ephemeral.public)
        state.mix_key(agree(self._ephemeral.private, theirs.ephemeral))
        encrypted_key = state.encrypt_and_hash(self._static.public)
        state.mix_key(agree(self._static.private, theirs.ephemeral))
        hello = HandshakeMessage.ServerHello(
            ephemeral=self._ephemeral.public,
            static=encrypted_key,
            payload=state.encrypt_and_hash(self._cert_chain),
        )
        return HandshakeMessage(server_hello=hello).SerializeToString()

    def complete(self, client_finish: bytes) -> tuple[Client, Transport]:
        """Read the client's last message: who it is, and the ciphers now in force.

        Raises:
            RemoteProtocolError: the client's proof fails.
        """
        finish = protobuf.parse(HandshakeMessage, client_finish).client_finish
        state = self._state
        noise_public = state.decrypt_and_hash(finish.static)
        if len(noise_public) != KEY_LENGTH:
            raise RemoteProtocolError(f"noise key of {len(noise_public)} bytes")
        state.mix_key(agree(self._ephemeral.private, noise_public))
        client = Client(noise_public, state.decrypt_and_hash(finish.payload))
        to_server, to_client = state.split()
        return client, Transport(sending=Cipher(to_client), receiving=Cipher(to_server))
