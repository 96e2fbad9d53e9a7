"""Signal sessions and sender keys of libsignal for node, as our own records.

Both sides of the mapping are the same protocol, so what is mapped is exact, or it is left out: a
session that is missing is negotiated anew, one that is wrong loses messages.

| libsignal | here |
|---|---|
| ``chainKey.counter``: the last index used, from -1 | ``Chain.counter``: the next one, from 0 |
| ``messageKeys``: index → seed | ``Chain.skipped`` |
| a chain without key: closed, only skipped indexes are left | a chain with a key nobody knows |
| sender key ``iteration``: the next index | ``Chain.counter`` |

``Chain.floor`` is the counter: of indexes below, storage does not know which have become messages,
so a redelivered message that the old system had opened is asked for again, not taken for stored.
"""

import base64
import collections.abc as cabc
import itertools
import json
import typing as t

from daemon.baileys.files import Json, ShapeError, as_bytes, member, number, public_key
from whatsapp.e2ee.chain import MAX_INDEX, MAX_SKIPPED, Chain
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.ratchet import (
    MAX_RECEIVING_CHAINS,
    PendingPreKey,
    ReceivingChain,
    SessionState,
)
from whatsapp.e2ee.records import MAX_ARCHIVED, SessionRecord
from whatsapp.e2ee.sender_key import MAX_STATES, SenderKeyRecord, SenderKeyState

VERSION: t.Final = "v1"
OPEN: t.Final = -1
SENDING: t.Final = 1
RECEIVING: t.Final = 2

Random: t.TypeAlias = cabc.Callable[[int], bytes]


def session_record(value: Json, random: Random) -> SessionRecord:
    """The sessions with one device: the open one, and those that were closed, newest first.

    Raises:
        ShapeError: there is no open one that can be mapped exactly.
    """
    if member(value, "version", "the session") != VERSION:
        raise ShapeError("the session is of another version")
    entries = member(value, "_sessions", "the session")
    if not isinstance(entries, dict):
        raise ShapeError("_sessions is no object")
    opened = [each for each in entries.values() if _closed_at(each) == OPEN]
    if len(opened) != 1:
        raise ShapeError(f"{len(opened)} sessions are open instead of one")
    record = SessionRecord(session_state(opened[0], random))
    closed = sorted((each for each in entries.values() if _closed_at(each) != OPEN), key=_closed_at)
    for entry in closed[-MAX_ARCHIVED:]:  # oldest first: each takes the front of the archive
        try:
            archived = session_state(entry, random)
        except ShapeError:
            continue  # only messages of an old session need it; they are asked for again
        record = SessionRecord(archived, record.archived).with_new(record.current)
    return record


def session_state(entry: Json, random: Random) -> SessionState:
    """One session.

    Raises:
        ShapeError: it cannot be mapped exactly.
    """
    ratchet = member(entry, "currentRatchet", "a session")
    index = member(entry, "indexInfo", "a session")
    own = key_pair(member(ratchet, "ephemeralKeyPair", "a ratchet"), "privKey", "pubKey")
    base_key = public_key(member(index, "baseKey", "an index"), "a base key")
    sending, receiving = _chains(entry, own.public, random)
    last = public_key(member(ratchet, "lastRemoteEphemeralKey", "a ratchet"), "a ratchet key")
    if receiving and receiving[-1].ratchet != last:
        raise ShapeError("the newest receiving chain is not that of the last ratchet key")
    pending = None
    if (waiting := entry.get("pendingPreKey")) is not None:
        if public_key(member(waiting, "baseKey", "a pending prekey"), "a base key") != base_key:
            raise ShapeError("a pending prekey has another base key")
        prekey_id = waiting.get("preKeyId")
        pending = PendingPreKey(
            None if not prekey_id else number(prekey_id, "a prekey id"),
            number(member(waiting, "signedKeyId", "a pending prekey"), "a prekey id"),
        )
    elif not receiving:
        raise ShapeError("a session without any answer, and without a prekey to send along")
    return SessionState(
        remote_identity=public_key(member(index, "remoteIdentityKey", "an index"), "an identity"),
        remote_registration_id=number(entry.get("registrationId") or 0, "a registration id"),
        base_key=base_key,
        root_key=as_bytes(member(ratchet, "rootKey", "a ratchet"), "a root key", 32),
        ratchet=own,
        sending=sending,
        previous_counter=max(0, number(ratchet.get("previousCounter", 0), "a counter", -1)),
        receiving=receiving[-MAX_RECEIVING_CHAINS:],
        pending=pending,
    )


def _closed_at(entry: Json) -> float:
    closed = member(member(entry, "indexInfo", "a session"), "closed", "an index")
    if not isinstance(closed, int | float) or isinstance(closed, bool):
        raise ShapeError("an index does not say whether its session is closed")
    return closed


def _chains(entry: Json, own: bytes, random: Random) -> tuple[Chain, tuple[ReceivingChain, ...]]:
    """The sending chain, and the receiving ones in the order in which they began."""
    chains = member(entry, "_chains", "a session")
    if not isinstance(chains, dict):
        raise ShapeError("_chains is no object")
    sending: Chain | None = None
    receiving: list[ReceivingChain] = []
    for name, value in chains.items():
        ratchet = public_key(name, "the name of a chain")
        kind = member(value, "chainType", "a chain")
        if kind == RECEIVING:
            receiving.append(ReceivingChain(ratchet, _chain(value, random)))
        elif kind != SENDING or ratchet != own or sending is not None or not _has_key(value):
            raise ShapeError("a chain that is neither a receiving one nor that of the own key")
        else:
            sending = _chain(value, random)
    if sending is None:
        raise ShapeError("a session without a sending chain")
    return sending, tuple(receiving)


def _has_key(value: Json) -> bool:
    return member(value, "chainKey", "a chain").get("key") is not None


def _chain(value: Json, random: Random) -> Chain:
    key = member(value, "chainKey", "a chain")
    counter = number(member(key, "counter", "a chain key"), "a counter", -1, MAX_INDEX - 1) + 1
    seeds = value.get("messageKeys") or {}
    found = sorted(
        (number(index, "an index", 0, counter - 1), as_bytes(seed, "a message key", 32))
        for index, seed in seeds.items()
    )
    # A closed chain gets no more messages. Its key must be one that nobody can guess.
    chain_key = as_bytes(key["key"], "a chain key", 32) if _has_key(value) else random(32)
    return Chain(chain_key, counter, _packed(found), counter)


def _packed(seeds: cabc.Sequence[tuple[int, bytes]]) -> bytes:
    if any(first[0] == second[0] for first, second in itertools.pairwise(seeds)):
        raise ShapeError("a message key twice")
    return b"".join(index.to_bytes(4, "big") + seed for index, seed in seeds[-MAX_SKIPPED:])


def key_pair(value: Json, private: str = "private", public: str = "public") -> KeyPair:
    """A key pair whose halves belong together.

    Raises:
        ShapeError: they do not.
    """
    pair = KeyPair.from_private(as_bytes(member(value, private, "a key pair"), "a private key", 32))
    if pair.public != public_key(member(value, public, "a key pair"), "a public key"):
        raise ShapeError("a private and a public key do not belong together")
    return pair


def sender_key_record(value: Json) -> SenderKeyRecord:
    """The keys of one member of a group, the newest first.

    Raises:
        ShapeError: they cannot be mapped exactly.
    """
    try:
        states = json.loads(as_bytes(value, "a sender key"))
    except (ValueError, RecursionError):
        raise ShapeError("a sender key is no JSON") from None
    if not isinstance(states, list) or not states:
        raise ShapeError("a sender key without a state")
    return SenderKeyRecord(tuple(_sender_state(each) for each in reversed(states[-MAX_STATES:])))


def _sender_state(value: Json) -> SenderKeyState:
    chain = member(value, "senderChainKey", "a sender key")
    counter = number(member(chain, "iteration", "a chain key"), "an iteration", 0, MAX_INDEX)
    seeds = value.get("senderMessageKeys") or []
    found = sorted(
        (
            number(member(each, "iteration", "a message key"), "an iteration", 0, counter - 1),
            as_bytes(member(each, "seed", "a message key"), "a message key", 32),
        )
        for each in seeds
    )
    signing = member(value, "senderSigningKey", "a sender key")
    return SenderKeyState(
        number(member(value, "senderKeyId", "a sender key"), "an id"),
        Chain(
            as_bytes(member(chain, "seed", "a chain key"), "a chain key", 32),
            counter,
            _packed(found),
            counter,
        ),
        public_key(member(signing, "public", "a signing key"), "a signing key"),
    )


def base64_name(name: str) -> bytes:
    """The bytes that a file is named by, in base64 with ``/`` spelled ``__``.

    Raises:
        ShapeError: it is no base64.
    """
    try:
        return base64.b64decode(name.replace("__", "/"), validate=True)
    except ValueError:
        raise ShapeError("the file's name is no base64") from None
