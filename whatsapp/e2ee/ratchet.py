"""The Double Ratchet with one device: the state, its steps, and one message in or out.

Theory of operation
-------------------
Two parties share a root key. Whoever speaks after the other has spoken makes a new ratchet pair
and mixes the Diffie-Hellman secret of (own new private, peer's last public) into the root; that
yields a new root and a fresh sending chain. The chain gives one message seed per index, a seed
gives cipher key, MAC key and IV. A message names the sender's ratchet key and the index, so the
receiver finds the chain, or, for a ratchet key never seen, makes the same Diffie-Hellman step.

So a state holds: the root key, the own ratchet pair with the sending chain, and the receiving
chains of the peer's last five ratchet keys, because messages of an older chain may come late.

Everything here is a value: a step returns a new state, and a message that cannot be read leaves
the caller with the state it had. The MAC covers the bytes as received, is compared in constant
time and is checked before anything is deciphered. The own answer to a new ratchet key (the second
half of the step) is computed only after the MAC has proved the message.

Source: docs/protocol.md#signal-sessions
"""

import hmac
import typing as t

import attrs
from google.protobuf.message import DecodeError

from whatsapp.e2ee import curve
from whatsapp.e2ee.chain import Chain
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.primitives import cbc_decrypt, cbc_encrypt, hkdf, hmac_sha256
from whatsapp.errors import DecryptionError, DecryptionFailure, RemoteProtocolError
from whatsapp.proto import wa_pb2

MAX_RECEIVING_CHAINS: t.Final = 5

VERSION: t.Final = 3
VERSION_BYTE: t.Final = b"\x33"  # the version of the message, then the newest one spoken
MAC_LENGTH: t.Final = 8


@attrs.frozen
class ReceivingChain:
    """The chain of one of the peer's ratchet keys."""

    ratchet: bytes
    chain: Chain


@attrs.frozen
class PendingPreKey:
    """The peer's prekeys this session was started with: sent along until the peer answers."""

    prekey_id: int | None
    signed_prekey_id: int


@attrs.frozen(kw_only=True)
class SessionState:
    """One session with one device."""

    remote_identity: bytes
    remote_registration_id: int
    base_key: bytes  # the initiator's; both sides know the session by it
    root_key: bytes = attrs.field(repr=False)
    ratchet: KeyPair  # the own one, of the sending chain
    sending: Chain
    previous_counter: int = 0  # last index used in the sending chain before this one
    receiving: tuple[ReceivingChain, ...] = ()  # oldest first
    pending: PendingPreKey | None = None

    def receiving_chain(self, ratchet: bytes) -> Chain | None:
        """The chain of a peer's ratchet key, if it is one of the last five."""
        for entry in reversed(self.receiving):
            if entry.ratchet == ratchet:
                return entry.chain
        return None


@attrs.frozen
class SignalMessage:
    """A ``msg`` body, parsed; ``signed`` is the part under the MAC, exactly as received."""

    ratchet: bytes
    counter: int
    ciphertext: bytes
    signed: bytes
    mac: bytes


@attrs.frozen
class MessageKeys:
    """The keys of one message."""

    cipher: bytes = attrs.field(repr=False)
    mac: bytes = attrs.field(repr=False)
    iv: bytes = attrs.field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "MessageKeys":
        """Derive them. Source: docs/protocol.md#chains"""
        keys = hkdf(seed, b"WhisperMessageKeys", 80)
        return cls(keys[:32], keys[32:64], keys[64:])


def root_step(root_key: bytes, private: bytes, public: bytes) -> tuple[bytes, Chain]:
    """Mix a Diffie-Hellman secret into the root: the next root key and a fresh chain.

    Raises:
        RemoteProtocolError: the public key is of low order.
    """
    derived = hkdf(curve.agree(private, public), b"WhisperRatchet", 64, salt=root_key)
    return derived[:32], Chain(derived[32:])


def check_version(body: bytes) -> None:
    """Refuse a body of another message version.

    Raises:
        DecryptionError: empty, or not version 3.
    """
    if not body or body[0] >> 4 != VERSION:
        raise malformed(f"version byte {body[:1].hex() or 'missing'}")


def malformed(detail: str) -> DecryptionError:
    """The error for a body that is no message."""
    return DecryptionError(DecryptionFailure.INVALID_MESSAGE, detail)


def parse_message(body: bytes) -> SignalMessage:
    """Read a ``msg`` body.

    Raises:
        DecryptionError: malformed.
    """
    check_version(body)
    signed = body[:-MAC_LENGTH]
    try:
        fields = wa_pb2.SignalMessage.FromString(signed[1:])
    except DecodeError as error:
        raise malformed("not a SignalMessage") from error
    if not (fields.HasField("counter") and fields.HasField("ciphertext")):
        raise malformed("SignalMessage without counter or ciphertext")
    ratchet = public_key(fields.ratchet_key)
    return SignalMessage(ratchet, fields.counter, fields.ciphertext, signed, body[-MAC_LENGTH:])


def public_key(serialised: bytes) -> bytes:
    """A public key out of a message.

    Raises:
        DecryptionError: not a key.
    """
    try:
        return curve.parse_public(serialised)
    except RemoteProtocolError as error:
        raise DecryptionError(DecryptionFailure.INVALID_KEY, str(error)) from error


def encrypt_message(
    state: SessionState, own_identity: bytes, plaintext: bytes
) -> tuple[SessionState, bytes]:
    """The state after, and the ``msg`` body of, one message to the peer."""
    seed, sending = state.sending.step()
    keys = MessageKeys.from_seed(seed)
    fields = wa_pb2.SignalMessage(
        ratchet_key=curve.serialise(state.ratchet.public),
        counter=state.sending.counter,
        previous_counter=state.previous_counter,
        ciphertext=cbc_encrypt(keys.cipher, keys.iv, plaintext),
    )
    signed = VERSION_BYTE + fields.SerializeToString()
    mac = _mac(keys.mac, own_identity, state.remote_identity, signed)
    return attrs.evolve(state, sending=sending), signed + mac


def decrypt_message(
    state: SessionState, own_identity: bytes, message: SignalMessage, new_ratchet: KeyPair
) -> tuple[SessionState, bytes]:
    """The state after, and the plaintext of, one message from the peer.

    ``new_ratchet`` becomes the own ratchet pair if the message is the first of a new ratchet key.

    Raises:
        DuplicateMessageError: its key was used before.
        DecryptionError: not decryptable in this state.
    """
    chain = state.receiving_chain(message.ratchet)
    if chain is None:
        return _decrypt_new_ratchet(state, own_identity, message, new_ratchet)
    plaintext, chain = _open(chain, state.remote_identity, own_identity, message)
    receiving = tuple(
        ReceivingChain(entry.ratchet, chain) if entry.ratchet == message.ratchet else entry
        for entry in state.receiving
    )
    return attrs.evolve(state, receiving=receiving, pending=None), plaintext


def _decrypt_new_ratchet(
    state: SessionState, own_identity: bytes, message: SignalMessage, new_ratchet: KeyPair
) -> tuple[SessionState, bytes]:
    try:
        root_key, chain = root_step(state.root_key, state.ratchet.private, message.ratchet)
    except RemoteProtocolError as error:
        raise DecryptionError(DecryptionFailure.INVALID_KEY, str(error)) from error
    plaintext, chain = _open(chain, state.remote_identity, own_identity, message)
    root_key, sending = root_step(root_key, new_ratchet.private, message.ratchet)
    receiving = (*state.receiving, ReceivingChain(message.ratchet, chain))
    answered = attrs.evolve(
        state,
        root_key=root_key,
        ratchet=new_ratchet,
        sending=sending,
        previous_counter=max(state.sending.counter - 1, 0),
        receiving=receiving[-MAX_RECEIVING_CHAINS:],
        pending=None,
    )
    return answered, plaintext


def _open(
    chain: Chain, sender: bytes, receiver: bytes, message: SignalMessage
) -> tuple[bytes, Chain]:
    """The plaintext, and the chain that has spent its key."""
    seed, chain = chain.take(message.counter)
    keys = MessageKeys.from_seed(seed)
    expected = _mac(keys.mac, sender, receiver, message.signed)
    if not hmac.compare_digest(expected, message.mac):
        raise DecryptionError(DecryptionFailure.BAD_MAC, f"message {message.counter} of its chain")
    plaintext = cbc_decrypt(keys.cipher, keys.iv, message.ciphertext)
    if plaintext is None:
        raise malformed("ciphertext of a wrong length or padding")
    return plaintext, chain


def _mac(key: bytes, sender: bytes, receiver: bytes, signed: bytes) -> bytes:
    covered = curve.serialise(sender) + curve.serialise(receiver) + signed
    return hmac_sha256(key, covered)[:MAC_LENGTH]
