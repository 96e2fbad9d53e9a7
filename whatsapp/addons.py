"""Answers to a message that only who has the message can read: votes, reactions, edits.

Their key derives from the secret inside the message, its id, its author and the author of the
answer. Each of the two is named by phone number or by LID, and nothing tells by which: all
combinations are tried.
Source: docs/protocol.md#message-secrets
"""

import collections.abc as cabc
import enum
import hashlib
import itertools
import typing as t

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whatsapp import protobuf
from whatsapp.content import Content, message_secret, read_content, with_edit
from whatsapp.content_detail import RESPONSES, option_name, response_detail
from whatsapp.content_parts import (
    decode,
    encode,
    lenient,
    parse_message,
    pick,
    unwrap,
)
from whatsapp.e2ee.primitives import hkdf
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.proto import wa_pb2

KEY_LENGTH: t.Final = 32  # bytes
IV_LENGTH: t.Final = 12  # bytes
TAG_LENGTH: t.Final = 16  # bytes
MAX_VOTES: t.Final = 64  # options in one vote
MAX_ADDRESSES: t.Final = 8  # of one author

EVENT_EDIT: t.Final = 1
MESSAGE_EDIT: t.Final = 2
POLL_EDIT: t.Final = 4


class Use(enum.Enum):
    """What a key is for; the values go into its derivation."""

    POLL_VOTE = "Poll Vote"
    REACTION = "Enc Reaction"
    COMMENT = "Enc Comment"
    EVENT_RESPONSE = "Event Response"
    EVENT_EDIT = "Event Edit"
    MESSAGE_EDIT = "Message Edit"
    POLL_EDIT = "Poll Edit"


_SENDER_AUTHENTICATED: t.Final = frozenset({Use.POLL_VOTE, Use.EVENT_RESPONSE})

_SECRET_USES: t.Final[cabc.Mapping[int, Use]] = {
    EVENT_EDIT: Use.EVENT_EDIT,
    MESSAGE_EDIT: Use.MESSAGE_EDIT,
    POLL_EDIT: Use.POLL_EDIT,
}
_FIELDS: t.Final[cabc.Mapping[str, Use]] = {
    "enc_reaction_message": Use.REACTION,
    "enc_comment_message": Use.COMMENT,
    "enc_event_response_message": Use.EVENT_RESPONSE,
}


@attrs.frozen
class Encrypted:
    """AES-256-GCM: ``payload`` ends with the tag."""

    payload: bytes = attrs.field(repr=False)
    iv: bytes


@attrs.frozen(kw_only=True)
class Parent:
    """The message that is answered."""

    id: str
    authors: tuple[str, ...]
    """Every known bare JID of its author."""
    raw: bytes = attrs.field(repr=False)
    """Its plaintext."""


def encrypt(plaintext: bytes, use: Use, parent: Parent, sender: str, iv: bytes) -> Encrypted:
    """An answer by ``sender``, a bare JID, under the first address of the parent's author;
    ``iv``: 12 random bytes.

    Raises:
        LocalProtocolError: the parent has no secret, or an iv of another length.
    """
    secret = message_secret(parent.raw)
    if secret is None or len(iv) != IV_LENGTH:
        raise LocalProtocolError("an answer takes the secret of its parent and an iv of 12 bytes")
    cipher = AESGCM(_key(secret, parent.id, parent.authors[0], sender, use))
    return Encrypted(cipher.encrypt(iv, plaintext, _associated(use, parent.id, sender)), iv)


def decrypt(sealed: Encrypted, use: Use, parent: Parent, senders: cabc.Sequence[str]) -> bytes:
    """The plaintext, under whichever addresses it was encrypted.

    Raises:
        RemoteProtocolError: the parent has no secret, or it opens under no pair of addresses.
    """
    secret = message_secret(parent.raw)
    if secret is None:
        raise RemoteProtocolError("a message without a secret has no encrypted answers")
    if len(sealed.iv) != IV_LENGTH or len(sealed.payload) < TAG_LENGTH:
        raise RemoteProtocolError("an answer with an iv or a tag of the wrong length")
    pairs = itertools.product(parent.authors[:MAX_ADDRESSES], senders[:MAX_ADDRESSES])
    for author, sender in pairs:
        cipher = AESGCM(_key(secret, parent.id, author, sender, use))
        try:
            return cipher.decrypt(sealed.iv, sealed.payload, _associated(use, parent.id, sender))
        except InvalidTag:
            continue
    raise RemoteProtocolError("an answer that opens under no known address")


def resolve(raw: bytes, parent: Parent, senders: cabc.Sequence[str]) -> Content:
    """What an encrypted answer says, as content of the kind that it would have unencrypted:
    ``poll_vote`` (``detail["options"]``), ``reaction``, ``comment``, ``edit``, or
    ``event_response`` (``detail["response"]``). ``raw`` is its plaintext as received.

    Raises:
        RemoteProtocolError: it is none, or it does not open, see :func:`decrypt`.
    """
    content = read_content(raw)
    use, sealed = _read(raw)
    plaintext = decrypt(sealed, use, parent, senders)
    return _RESOLVERS[use](content, plaintext, parent)


def encrypt_vote(options: cabc.Iterable[str], parent: Parent, sender: str, iv: bytes) -> Encrypted:
    """A vote for these options, all at once; none takes the vote back. See :func:`encrypt`."""
    hashes = [option_hash(encode(option)) for option in options]
    plaintext = wa_pb2.PollVoteMessage(selected_options=hashes).SerializeToString()
    return encrypt(plaintext, Use.POLL_VOTE, parent, sender, iv)


def encrypt_reaction(
    emoji: str, sent_at_ms: int, parent: Parent, sender: str, iv: bytes
) -> Encrypted:
    """A reaction; an empty one takes the former one back. See :func:`encrypt`."""
    plaintext = wa_pb2.ReactionMessage(text=encode(emoji), sender_timestamp_ms=sent_at_ms)
    return encrypt(plaintext.SerializeToString(), Use.REACTION, parent, sender, iv)


def encrypt_edit(message: bytes, parent: Parent, sender: str, iv: bytes) -> Encrypted:
    """The plaintext ``message`` in place of the parent. See :func:`encrypt`."""
    return encrypt(message, Use.MESSAGE_EDIT, parent, sender, iv)


def encrypt_response(
    answer: str, sent_at_ms: int, parent: Parent, sender: str, iv: bytes
) -> Encrypted:
    """An answer to an event: ``going``, ``not_going`` or ``maybe``. See :func:`encrypt`.

    Raises:
        LocalProtocolError: no such answer.
    """
    if answer not in RESPONSES[1:]:
        raise LocalProtocolError(f"nobody answers {answer!r} to an event")
    plaintext = wa_pb2.EventResponseMessage(
        response=RESPONSES.index(answer), timestamp_ms=sent_at_ms
    )
    return encrypt(plaintext.SerializeToString(), Use.EVENT_RESPONSE, parent, sender, iv)


def option_hash(name: bytes) -> bytes:
    """By which a vote names an option of a poll."""
    return hashlib.sha256(name).digest()


def _key(secret: bytes, parent_id: str, author: str, sender: str, use: Use) -> bytes:
    info = encode(f"{parent_id}{author}{sender}{use.value}")
    return hkdf(secret, info, KEY_LENGTH)


def _associated(use: Use, parent_id: str, sender: str) -> bytes | None:
    if use not in _SENDER_AUTHENTICATED:
        return None
    return encode(f"{parent_id}\x00{sender}")


def _read(raw: bytes) -> tuple[Use, Encrypted]:
    """What for, and the ciphertext, out of a message."""
    message = unwrap(parse_message(raw)).message or wa_pb2.Message()
    if message.HasField("poll_update_message"):
        value = lenient(wa_pb2.PollUpdateMessage, message.poll_update_message).vote
        return Use.POLL_VOTE, Encrypted(value.enc_payload, value.enc_iv)
    for field, use in _FIELDS.items():
        if message.HasField(field):  # type: ignore[arg-type]
            add_on = lenient(wa_pb2.EncryptedAddOn, getattr(message, field))
            return use, Encrypted(add_on.enc_payload, add_on.enc_iv)
    add_on = lenient(wa_pb2.EncryptedAddOn, message.secret_encrypted_message)
    if add_on.secret_enc_type not in _SECRET_USES:
        raise RemoteProtocolError("not an encrypted answer that is known")
    return _SECRET_USES[add_on.secret_enc_type], Encrypted(add_on.enc_payload, add_on.enc_iv)


def _vote(content: Content, plaintext: bytes, parent: Parent) -> Content:
    chosen = protobuf.decode(wa_pb2.PollVoteMessage, plaintext).selected_options[:MAX_VOTES]
    names = _option_names(parent.raw)
    detail = {**content.detail, "options": [names[item] for item in chosen if item in names]}
    unknown = [item[:KEY_LENGTH].hex() for item in chosen if item not in names]
    if unknown:
        detail["unknown_options"] = unknown
    return attrs.evolve(content, detail=detail)


def _option_names(poll: bytes) -> dict[bytes, str]:
    """The options of a poll by their hashes."""
    message = unwrap(parse_message(poll)).message or wa_pb2.Message()
    for field, value in message.ListFields():
        if field.name.startswith("poll_creation_message") and isinstance(value, bytes):
            options = lenient(wa_pb2.PollCreationMessage, value).options
            return {option_hash(item.option_name): option_name(item) for item in options}
    return {}


def _reaction(content: Content, plaintext: bytes, _parent: Parent) -> Content:
    message = protobuf.decode(wa_pb2.ReactionMessage, plaintext)
    detail = {**content.detail, **pick(message, sent_at_ms="sender_timestamp_ms")}
    return attrs.evolve(content, kind="reaction", text=decode(message.text), detail=detail)


def _comment(content: Content, plaintext: bytes, _parent: Parent) -> Content:
    return attrs.evolve(content, kind="comment", text=read_content(plaintext).text)


def _response(content: Content, plaintext: bytes, _parent: Parent) -> Content:
    message = protobuf.decode(wa_pb2.EventResponseMessage, plaintext)
    return attrs.evolve(content, detail={**content.detail, **response_detail(message)})


def _edit(content: Content, plaintext: bytes, _parent: Parent) -> Content:
    """The new content, bare or as the edit that it would be unencrypted."""
    read = read_content(plaintext)
    return with_edit(content, read.edited or read)


def _event_edit(content: Content, plaintext: bytes, _parent: Parent) -> Content:
    event = protobuf.decode(wa_pb2.EventMessage, plaintext)
    message = wa_pb2.Message(event_message=event.SerializeToString())
    return with_edit(content, read_content(message.SerializeToString()))


_RESOLVERS: t.Final[cabc.Mapping[Use, cabc.Callable[[Content, bytes, Parent], Content]]] = {
    Use.POLL_VOTE: _vote,
    Use.REACTION: _reaction,
    Use.COMMENT: _comment,
    Use.EVENT_RESPONSE: _response,
    Use.MESSAGE_EDIT: _edit,
    Use.POLL_EDIT: _edit,
    Use.EVENT_EDIT: _event_edit,
}
