"""Encrypting to, and decrypting from, one device: the entry points of Signal sessions.

Every function takes a record and returns a new one; a record is never changed in place, and a
failure returns nothing new. Source: docs/protocol.md#signal-sessions
"""

import collections.abc as cabc
import typing as t

import attrs
from google.protobuf.message import DecodeError

from whatsapp.e2ee import curve, ratchet, x3dh
from whatsapp.e2ee.chain import MAX_AHEAD
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.ratchet import SessionState, SignalMessage
from whatsapp.e2ee.records import SessionRecord
from whatsapp.e2ee.x3dh import LocalIdentity, PreKeyBundle
from whatsapp.errors import (
    DecryptionError,
    DecryptionFailure,
    RemoteProtocolError,
)
from whatsapp.proto import wa_pb2

__all__ = [
    "Ciphertext",
    "Decrypted",
    "LocalIdentity",
    "PreKeyBundle",
    "PreKeyHeader",
    "SessionRecord",
    "decrypt_message",
    "decrypt_prekey_message",
    "encrypt",
    "peek_prekey_message",
    "peer_of",
    "start_session",
]


@attrs.frozen
class Ciphertext:
    """One encrypted message: the type and the body of an ``enc`` node."""

    type: t.Literal["pkmsg", "msg"]
    body: bytes


@attrs.frozen
class Decrypted:
    """A plaintext, and what has to be committed together with it."""

    record: SessionRecord
    plaintext: bytes = attrs.field(repr=False)
    identity: bytes  # the sender's; differs from the known one after a reinstallation
    used_prekey_id: int | None = None  # the one-time prekey to delete


@attrs.frozen
class PreKeyHeader:
    """The outer part of a ``pkmsg``: which of our prekeys to load. Nothing in it is proven."""

    prekey_id: int | None
    signed_prekey_id: int
    base_key: bytes
    identity: bytes
    registration_id: int


def start_session(
    record: SessionRecord | None,
    bundle: PreKeyBundle,
    own: LocalIdentity,
    base_key: KeyPair,
    ratchet_key: KeyPair,
) -> SessionRecord:
    """A record whose current session was started from ``bundle``; a former one is archived.

    ``base_key`` and ``ratchet_key`` must be fresh.

    Raises:
        RemoteProtocolError: a malformed bundle, or a signed prekey with a wrong signature.
    """
    return _with_new(record, x3dh.initiate(bundle, own, base_key, ratchet_key))


def encrypt(
    record: SessionRecord, own: LocalIdentity, plaintext: bytes
) -> tuple[SessionRecord, Ciphertext]:
    """Encrypt in the current session: ``pkmsg`` until the peer has answered, then ``msg``."""
    state = record.current
    new_state, body = ratchet.encrypt_message(state, own.identity.public, plaintext)
    after = SessionRecord(new_state, record.archived)
    if state.pending is None:
        return after, Ciphertext("msg", body)
    outer = wa_pb2.PreKeySignalMessage(
        base_key=curve.serialise(state.base_key),
        identity_key=curve.serialise(own.identity.public),
        message=body,
        registration_id=own.registration_id,
        signed_pre_key_id=state.pending.signed_prekey_id,
    )
    if state.pending.prekey_id is not None:
        outer.pre_key_id = state.pending.prekey_id
    return after, Ciphertext("pkmsg", ratchet.VERSION_BYTE + outer.SerializeToString())


def peer_of(record: SessionRecord) -> tuple[int, bytes]:
    """The registration id of the peer in the current session, and the key the session is known by.

    A peer with another registration id was installed anew and has lost the session.
    """
    return record.current.remote_registration_id, record.current.base_key


def peek_prekey_message(body: bytes) -> PreKeyHeader:
    """Read the outer part of a ``pkmsg``, to load the prekeys it names.

    Raises:
        DecryptionError: malformed.
    """
    return _parse_prekey_message(body)[0]


def decrypt_prekey_message(
    record: SessionRecord | None,
    own: LocalIdentity,
    body: bytes,
    signed_prekeys: cabc.Mapping[int, KeyPair],
    prekeys: cabc.Mapping[int, KeyPair],
    new_ratchet: KeyPair,
) -> Decrypted:
    """Decrypt a ``pkmsg``, in the session it started if that is known, else in a new one.

    A sender repeats the prekeys until we answer, so only the first of its messages finds the
    one-time prekey; the others are recognised by their base key. A new identity is accepted, its
    session becomes current and the old one is archived: the caller compares ``identity``.
    ``new_ratchet`` must be fresh. Source: docs/protocol.md#prekey-messages

    Raises:
        DuplicateMessageError: its message key was used before.
        DecryptionError: malformed, a prekey we do not have, or a wrong MAC.
        LocalProtocolError: an archived session is corrupt.
    """
    header, message = _parse_prekey_message(body)
    if record is not None:
        for position, state in _states(record):
            if (state.base_key, state.remote_identity) == (header.base_key, header.identity):
                return _decrypt_in(record, position, state, own, message, new_ratchet)
    state = _respond(header, own, signed_prekeys, prekeys)
    state, plaintext = ratchet.decrypt_message(state, own.identity.public, message, new_ratchet)
    return Decrypted(_with_new(record, state), plaintext, header.identity, header.prekey_id)


def decrypt_message(
    record: SessionRecord, own: LocalIdentity, body: bytes, new_ratchet: KeyPair
) -> Decrypted:
    """Decrypt a ``msg`` in whichever session it belongs to, which becomes the current one.

    A ratchet key belongs to one session, so a session that knows it is tried alone; a ratchet
    key which no session knows is tried with all of them, newest first. ``new_ratchet`` must be
    fresh.

    Raises:
        DuplicateMessageError: its message key was used before.
        DecryptionError: no session can read it; the reason is that of the current one.
        LocalProtocolError: an archived session is corrupt.
    """
    message = ratchet.parse_message(body)
    if record.current.receiving_chain(message.ratchet) is not None:
        return _decrypt_in(record, None, record.current, own, message, new_ratchet)
    states = _states(record)
    for position, state in states:
        if state.receiving_chain(message.ratchet) is not None:
            return _decrypt_in(record, position, state, own, message, new_ratchet)
    return _decrypt_in_any(record, states, own, message, new_ratchet)


def _decrypt_in_any(
    record: SessionRecord,
    states: list[tuple[int | None, SessionState]],
    own: LocalIdentity,
    message: SignalMessage,
    new_ratchet: KeyPair,
) -> Decrypted:
    """Try the next ratchet step of every session.

    Each try derives as many keys as the message is ahead. To keep what a hostile message costs
    bounded, all archived sessions together get no more than the current one may take.
    """
    failure: DecryptionError | None = None
    budget = MAX_AHEAD
    for position, state in states:
        if position is not None and (budget := budget - message.counter) < 0:
            break
        try:
            return _decrypt_in(record, position, state, own, message, new_ratchet)
        except DecryptionError as error:
            failure = failure or error
    raise failure or DecryptionError(DecryptionFailure.NO_SESSION, "no session")


def _decrypt_in(
    record: SessionRecord,
    position: int | None,
    state: SessionState,
    own: LocalIdentity,
    message: SignalMessage,
    new_ratchet: KeyPair,
) -> Decrypted:
    """Decrypt in one session of the record: the current one, or an archived one to promote."""
    state, plaintext = ratchet.decrypt_message(state, own.identity.public, message, new_ratchet)
    if position is None:
        after = SessionRecord(state, record.archived)
    else:
        after = record.with_promoted(position, state)
    return Decrypted(after, plaintext, state.remote_identity)


def _states(record: SessionRecord) -> list[tuple[int | None, SessionState]]:
    """The current session and the archived ones with their positions."""
    return [(None, record.current), *enumerate(record.archived_states())]


def _with_new(record: SessionRecord | None, state: SessionState) -> SessionRecord:
    return SessionRecord(state) if record is None else record.with_new(state)


def _parse_prekey_message(body: bytes) -> tuple[PreKeyHeader, SignalMessage]:
    ratchet.check_version(body)
    try:
        fields = wa_pb2.PreKeySignalMessage.FromString(body[1:])
    except DecodeError as error:
        raise ratchet.malformed("not a PreKeySignalMessage") from error
    header = PreKeyHeader(
        prekey_id=fields.pre_key_id or None,  # peers read 0 as absent, too
        signed_prekey_id=fields.signed_pre_key_id,
        base_key=ratchet.public_key(fields.base_key),
        identity=ratchet.public_key(fields.identity_key),
        registration_id=fields.registration_id,
    )
    return header, ratchet.parse_message(fields.message)


def _respond(
    header: PreKeyHeader,
    own: LocalIdentity,
    signed_prekeys: cabc.Mapping[int, KeyPair],
    prekeys: cabc.Mapping[int, KeyPair],
) -> SessionState:
    signed_prekey = signed_prekeys.get(header.signed_prekey_id)
    if signed_prekey is None:
        raise _no_key(f"no signed prekey {header.signed_prekey_id}")
    prekey = None
    if header.prekey_id is not None:
        prekey = prekeys.get(header.prekey_id)
        if prekey is None:
            raise _no_key(f"no one-time prekey {header.prekey_id}")
    try:
        return x3dh.respond(
            own=own,
            signed_prekey=signed_prekey,
            prekey=prekey,
            remote_identity=header.identity,
            remote_registration_id=header.registration_id,
            base_key=header.base_key,
        )
    except RemoteProtocolError as error:
        raise DecryptionError(DecryptionFailure.INVALID_KEY, str(error)) from error


def _no_key(detail: str) -> DecryptionError:
    return DecryptionError(DecryptionFailure.INVALID_KEY_ID, detail)
