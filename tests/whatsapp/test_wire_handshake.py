"""The Noise handshake and the server's certificates: a vector, both roles, and forgeries."""

import collections.abc as cabc
import functools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import certificates, protobuf
from whatsapp.binary import codec
from whatsapp.certificates import issue_chain, verify_chain
from whatsapp.e2ee.curve import KeyPair, agree
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.framing import HEADER, frame
from whatsapp.handshake import ClientHandshake, ServerHandshake
from whatsapp.node import Node
from whatsapp.noise import Cipher, SymmetricState
from whatsapp.proto import wa_pb2
from whatsapp.proto.wa_pb2 import HandshakeMessage

CLIENT_EPHEMERAL, CLIENT_STATIC, SERVER_EPHEMERAL, SERVER_STATIC = (
    KeyPair.from_private(bytes([byte]) * 32) for byte in (0x11, 0x22, 0x33, 0x44)
)
ROOT, INTERMEDIATE = (KeyPair.from_private(bytes([byte]) * 32) for byte in (0x55, 0x66))
NOW = 1_800_000_000


def test_published_vector() -> None:
    """Every intermediate value of an implementation which two real clients accepted.

    Source: docs/protocol.md#noise-handshake
    """
    state = SymmetricState(HEADER)
    assert state.hash.hex().startswith("ffff0c9267310966f1311170c04b38c7")
    state.mix_hash(CLIENT_EPHEMERAL.public)
    assert state.hash.hex().startswith("6c9ea30317f933b43ebefedd04d07fa1")
    state.mix_hash(SERVER_EPHEMERAL.public)
    state.mix_key(agree(SERVER_EPHEMERAL.private, CLIENT_EPHEMERAL.public))
    assert state.chaining_key.hex().startswith("75255525cb2271af63579e9ad8df40b2")
    assert state.key.hex().startswith("391d80f93aae00271f1bbc372936ce96")
    assert state.encrypt_and_hash(SERVER_STATIC.public).hex() == (
        "76c390387466635d58f0323bdcbe69099601a1a274074852c87a5a56adbc2200"
        "326ad89abf7d0428235760e33dfb7358"
    )
    state.mix_key(agree(SERVER_STATIC.private, CLIENT_EPHEMERAL.public))
    assert state.encrypt_and_hash(b"cert-chain-bytes").hex() == (
        "4198e7f4812ba213fce691f26831ca23ec3042675ae05695b48bda55e1f537f7"
    )
    assert state.encrypt_and_hash(CLIENT_STATIC.public).hex() == (
        "b9cb19690dfcfb9a42e033388870388167c822982ffe1d4ef4c15a4d3e5d9d41"
        "49e36c4d335691b2aff93a71348ad66e"
    )
    state.mix_key(agree(SERVER_EPHEMERAL.private, CLIENT_STATIC.public))
    assert state.encrypt_and_hash(b"payload").hex() == (
        "30057c7a804bf7ca2833868afa84a92f748ec46387bb29"
    )
    assert state.hash.hex() == "89cfa83dc8d076e5e11c76ff84c2de4c79b24b69e2b2d72fb90a2fa577834ac9"
    to_server, to_client = state.split()
    assert to_server.hex() == "eb2fe0bed643c43335b1354ec654dc80e37916a5b95f315e54435ddd476ef060"
    assert to_client.hex() == "f6363bb26e6e9cb20ac77b14b6ec4ee9c92f3f1d9d1397468bb4ea23bed9d1d8"
    first = frame(Cipher(to_server).encrypt(codec.encode(Node("ib"))))
    assert first.hex() == "0000171b608f229a9a7dd1408f66695defe1ce82a51a5407b1d3"


def _random(size: int) -> bytes:
    return b"\x5a" * size


def _chain(leaf_key: bytes = SERVER_STATIC.public) -> bytes:
    return issue_chain(
        root=ROOT,
        intermediate=INTERMEDIATE,
        leaf_key=leaf_key,
        not_before=NOW - 10,
        not_after=NOW + 10,
        random=_random,
    )


def _finish(
    chain: bytes, *, root_key: bytes = ROOT.public, now: int = NOW
) -> tuple[ServerHandshake, bytes]:
    client = ClientHandshake(CLIENT_STATIC, CLIENT_EPHEMERAL)
    server = ServerHandshake(SERVER_STATIC, SERVER_EPHEMERAL, chain)
    finish, _ = client.finish(server.hello(client.hello()), b"payload", root_key, now)
    return server, finish


def test_both_sides_meet() -> None:
    """The server learns the client's key and payload, and both can talk both ways."""
    client = ClientHandshake(CLIENT_STATIC, CLIENT_EPHEMERAL)
    server = ServerHandshake(SERVER_STATIC, SERVER_EPHEMERAL, _chain())
    finish, ours = client.finish(server.hello(client.hello()), b"payload", ROOT.public, NOW)
    who, theirs = server.complete(finish)
    assert (who.noise_public, who.payload) == (CLIENT_STATIC.public, b"payload")
    for number in range(3):
        text = b"%d" % number
        assert theirs.receiving.decrypt(ours.sending.encrypt(text)) == text
        assert ours.receiving.decrypt(theirs.sending.encrypt(text)) == text


def test_production_root_is_not_ours() -> None:
    """A chain under our own root is refused where WhatsApp's is expected."""
    with pytest.raises(RemoteProtocolError, match="intermediate certificate's signature"):
        _finish(_chain(), root_key=certificates.PRODUCTION_ROOT_KEY)


def test_certificate_for_another_server() -> None:
    """A true chain, replayed by a server which has another key, is refused."""
    with pytest.raises(RemoteProtocolError, match="another key"):
        _finish(_chain(leaf_key=CLIENT_STATIC.public))


def test_hello_replayed_to_another_client() -> None:
    """A server's answer is good for one client's ephemeral key only."""
    server = ServerHandshake(SERVER_STATIC, SERVER_EPHEMERAL, _chain())
    answer = server.hello(ClientHandshake(CLIENT_STATIC, CLIENT_EPHEMERAL).hello())
    other = ClientHandshake(CLIENT_STATIC, KeyPair.from_private(b"\x77" * 32))
    other.hello()
    with pytest.raises(RemoteProtocolError, match="decrypt"):
        other.finish(answer, b"payload", ROOT.public, NOW)


@given(st.integers(0, 400), st.integers(1, 255))
@settings(deadline=None, max_examples=60)
def test_any_damage_to_the_servers_answer(at: int, flip: int) -> None:
    """No damaged answer leads to a connection, and none raises anything else."""
    client = ClientHandshake(CLIENT_STATIC, CLIENT_EPHEMERAL)
    answer = bytearray(
        ServerHandshake(SERVER_STATIC, SERVER_EPHEMERAL, _chain()).hello(client.hello())
    )
    answer[at % len(answer)] ^= flip
    with pytest.raises(RemoteProtocolError):
        client.finish(bytes(answer), b"payload", ROOT.public, NOW)


@given(st.integers(0, 400), st.integers(1, 255))
@settings(deadline=None, max_examples=60)
def test_any_damage_to_the_clients_proof(at: int, flip: int) -> None:
    """No damaged proof is taken for a client."""
    server, finish = _finish(_chain())
    damaged = bytearray(finish)
    damaged[at % len(damaged)] ^= flip
    with pytest.raises(RemoteProtocolError):
        server.complete(bytes(damaged))


@given(st.binary(max_size=120))
@settings(deadline=None)
def test_random_hellos(data: bytes) -> None:
    """Random bytes in the place of each message: RemoteProtocolError."""
    client = ClientHandshake(CLIENT_STATIC, CLIENT_EPHEMERAL)
    client.hello()
    with pytest.raises(RemoteProtocolError):
        client.finish(data, b"payload", ROOT.public, NOW)
    server = ServerHandshake(SERVER_STATIC, SERVER_EPHEMERAL, b"")
    with pytest.raises(RemoteProtocolError):
        server.hello(data)
    with pytest.raises(RemoteProtocolError):
        server.complete(data)


@pytest.mark.parametrize("ephemeral", [b"", bytes(32), bytes(31), b"\1" + bytes(31)])
def test_weak_ephemeral_keys(ephemeral: bytes) -> None:
    """Keys of low order or of another length are refused by both sides."""
    hello = HandshakeMessage(client_hello=HandshakeMessage.ClientHello(ephemeral=ephemeral))
    with pytest.raises(RemoteProtocolError):
        ServerHandshake(SERVER_STATIC, SERVER_EPHEMERAL, b"").hello(hello.SerializeToString())
    answer = HandshakeMessage(server_hello=HandshakeMessage.ServerHello(ephemeral=ephemeral))
    client = ClientHandshake(CLIENT_STATIC, CLIENT_EPHEMERAL)
    with pytest.raises(RemoteProtocolError):
        client.finish(answer.SerializeToString(), b"", ROOT.public, NOW)


def test_frame_counter_never_wraps() -> None:
    """A nonce is never used twice."""
    cipher = Cipher(bytes(32))
    cipher._counter = 2**32 - 1  # reaching it takes years
    cipher.encrypt(b"")
    with pytest.raises(LocalProtocolError):
        cipher.encrypt(b"")


# ---- certificates: each of the seven checks fails on its own


@attrs.frozen(kw_only=True)
class Details:
    """What a forger may choose; the defaults pass."""

    serial: int = 1
    issuer_serial: int = 0
    key: bytes = INTERMEDIATE.public
    not_before: int = NOW - 10
    not_after: int = NOW + 10

    def signed_by(self, issuer: KeyPair) -> wa_pb2.CertChain.NoiseCertificate:
        details = wa_pb2.CertChain.NoiseCertificate.Details(**attrs.asdict(self))
        raw = details.SerializeToString()
        return wa_pb2.CertChain.NoiseCertificate(
            details=raw, signature=certificates.curve.sign(issuer.private, raw, bytes(64))
        )


LEAF = functools.partial(Details, serial=2, issuer_serial=1, key=SERVER_STATIC.public)
Forge = cabc.Callable[[wa_pb2.CertChain], None]


def _true_chain() -> wa_pb2.CertChain:
    return wa_pb2.CertChain(
        intermediate=Details().signed_by(ROOT), leaf=LEAF().signed_by(INTERMEDIATE)
    )


def _verify(chain: wa_pb2.CertChain) -> None:
    verify_chain(chain.SerializeToString(), SERVER_STATIC.public, ROOT.public, NOW)


def test_true_chain_is_accepted() -> None:
    """The chain that all the forgeries below start from."""
    _verify(_true_chain())


def _drop_leaf(chain: wa_pb2.CertChain) -> None:
    chain.ClearField("leaf")


def _drop_intermediate(chain: wa_pb2.CertChain) -> None:
    chain.ClearField("intermediate")


def _drop_leaf_details(chain: wa_pb2.CertChain) -> None:
    chain.leaf.ClearField("details")


def _cut_leaf_signature(chain: wa_pb2.CertChain) -> None:
    chain.leaf.signature = chain.leaf.signature[:63]


def _cut_intermediate_signature(chain: wa_pb2.CertChain) -> None:
    chain.intermediate.signature = chain.intermediate.signature[:63]


def _garble_leaf_signature(chain: wa_pb2.CertChain) -> None:
    chain.leaf.signature = b"\x01" * 64


def _garble_intermediate_signature(chain: wa_pb2.CertChain) -> None:
    chain.intermediate.signature = b"\x01" * 64


def _change_leaf_details(chain: wa_pb2.CertChain) -> None:
    chain.leaf.details = LEAF(not_after=NOW + 11).signed_by(INTERMEDIATE).details


def _intermediate(details: Details, issuer: KeyPair = ROOT) -> Forge:
    def forge(chain: wa_pb2.CertChain) -> None:
        chain.intermediate.CopyFrom(details.signed_by(issuer))

    return forge


def _leaf(details: Details, issuer: KeyPair = INTERMEDIATE) -> Forge:
    def forge(chain: wa_pb2.CertChain) -> None:
        chain.leaf.CopyFrom(details.signed_by(issuer))

    return forge


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        pytest.param(_drop_leaf, "leaf certificate is missing", id="1 no leaf"),
        pytest.param(_drop_intermediate, "intermediate certificate is missing", id="1 no middle"),
        pytest.param(_drop_leaf_details, "leaf certificate is missing", id="1 no details"),
        pytest.param(_cut_leaf_signature, "leaf certificate is missing", id="1 63 bytes"),
        pytest.param(_cut_intermediate_signature, "incomplete", id="1 63 bytes in the middle"),
        pytest.param(
            _garble_intermediate_signature, "intermediate certificate's signature", id="2 garbled"
        ),
        pytest.param(
            _intermediate(Details(), INTERMEDIATE),
            "intermediate certificate's signature",
            id="2 signed by itself",
        ),
        pytest.param(
            _intermediate(Details(issuer_serial=7)), "names another issuer", id="3 issuer"
        ),
        pytest.param(_intermediate(Details(key=b"short")), "not 32 bytes", id="3 key length"),
        pytest.param(_garble_leaf_signature, "leaf certificate's signature", id="4 garbled"),
        pytest.param(_change_leaf_details, "leaf certificate's signature", id="4 changed"),
        pytest.param(_leaf(LEAF(), ROOT), "leaf certificate's signature", id="4 signed by root"),
        pytest.param(_leaf(LEAF(issuer_serial=0)), "leaf certificate names", id="5 issuer"),
        pytest.param(_leaf(LEAF(key=ROOT.public)), "another key", id="6 key"),
        pytest.param(_leaf(LEAF(key=b"")), "another key", id="6 no key"),
        pytest.param(_leaf(LEAF(not_after=NOW - 1)), "leaf .* valid", id="7 expired"),
        pytest.param(_leaf(LEAF(not_before=NOW + 1)), "leaf .* valid", id="7 not yet"),
        pytest.param(
            _intermediate(Details(not_after=NOW - 1)),
            "intermediate .* valid",
            id="7 middle old",
        ),
        pytest.param(
            _intermediate(Details(not_before=NOW + 1)), "intermediate .* valid", id="7 middle early"
        ),
    ],
)
def test_each_check_fails_on_its_own(forge: Forge, message: str) -> None:
    """A chain that is true but for one thing is refused for that thing."""
    chain = _true_chain()
    forge(chain)
    with pytest.raises(RemoteProtocolError, match=message):
        _verify(chain)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_chains_are_refused(data: bytes) -> None:
    """Any bytes: RemoteProtocolError."""
    with pytest.raises(RemoteProtocolError):
        verify_chain(data, SERVER_STATIC.public, ROOT.public, NOW)


def test_text_that_is_not_utf8_is_refused() -> None:
    """Text fields are checked when a message is read, not when they are touched later."""
    props = wa_pb2.ClientPayload(push_name="ab").SerializeToString().replace(b"ab", b"a\xff")
    with pytest.raises(RemoteProtocolError):
        protobuf.parse(wa_pb2.ClientPayload, props)
    nested = wa_pb2.ClientPayload(user_agent={"device": "ab"}).SerializeToString()
    with pytest.raises(RemoteProtocolError):
        protobuf.parse(wa_pb2.ClientPayload, nested.replace(b"ab", b"a\xff"))


def test_noise_key_of_another_length() -> None:
    """A client's long-lived key is 32 bytes, however well it is encrypted."""
    client = ClientHandshake(attrs.evolve(CLIENT_STATIC, public=bytes(31)), CLIENT_EPHEMERAL)
    server = ServerHandshake(SERVER_STATIC, SERVER_EPHEMERAL, _chain())
    finish, _ = client.finish(server.hello(client.hello()), b"payload", ROOT.public, NOW)
    with pytest.raises(RemoteProtocolError, match="31 bytes"):
        server.complete(finish)
