"""Building the messages that we send: their plaintext, without padding.

Source: docs/protocol.md#message-content
"""

import collections.abc as cabc
import typing as t

from whatsapp.addons import MESSAGE_EDIT, Encrypted
from whatsapp.compose_media import Traits as Traits
from whatsapp.compose_media import media as media
from whatsapp.compose_media import with_caption
from whatsapp.compose_parts import PLAIN as PLAIN
from whatsapp.compose_parts import Context as Context
from whatsapp.compose_parts import Quote as Quote
from whatsapp.compose_parts import message_key, put_context
from whatsapp.content import TargetKey
from whatsapp.content_parts import SECRET_LENGTH, encode
from whatsapp.errors import LocalProtocolError
from whatsapp.proto import wa_pb2

MIN_OPTIONS: t.Final = 2
MAX_OPTIONS: t.Final = 12


def text(body: str, context: Context = PLAIN) -> bytes:
    """A text, plain or with quote, mentions or expiration."""
    return _text(body, context).SerializeToString()


def reaction(key: TargetKey, emoji: str, sent_at_ms: int) -> bytes:
    """A reaction; an empty one takes the former one back."""
    content = wa_pb2.ReactionMessage(
        key=message_key(key), text=encode(emoji), sender_timestamp_ms=sent_at_ms
    )
    return wa_pb2.Message(reaction_message=content).SerializeToString()


def edit(
    key: TargetKey, body: str, sent_at_ms: int, *, original: bytes = b"", context: Context = PLAIN
) -> bytes:
    """A new text for a message of ours; a new caption if it carries a file, as its plaintext
    ``original`` shows."""
    protocol = wa_pb2.ProtocolMessage(
        key=message_key(key),
        type=wa_pb2.ProtocolMessage.MESSAGE_EDIT,
        edited_message=with_caption(original, body) or _text(body, context),
        timestamp_ms=sent_at_ms,
    )
    return wa_pb2.Message(protocol_message=protocol).SerializeToString()


def revoke(key: TargetKey) -> bytes:
    """Delete a message for everyone: one of ours, or, as a group's admin, anyone's.

    Raises:
        LocalProtocolError: another's message without its author.
    """
    if not key.from_me and not key.participant:
        raise LocalProtocolError("only a group's admin deletes messages of others: author missing")
    protocol = wa_pb2.ProtocolMessage(key=message_key(key), type=wa_pb2.ProtocolMessage.REVOKE)
    return wa_pb2.Message(protocol_message=protocol).SerializeToString()


def location(
    latitude: float,
    longitude: float,
    *,
    name: str | None = None,
    address: str | None = None,
    context: Context = PLAIN,
) -> bytes:
    """A place, in degrees."""
    content = wa_pb2.LocationMessage(
        degrees_latitude=latitude,
        degrees_longitude=longitude,
        name=None if name is None else encode(name),
        address=None if address is None else encode(address),
    )
    put_context(content, context)
    return wa_pb2.Message(location_message=content).SerializeToString()


def contact(cards: cabc.Sequence[tuple[str, str]], context: Context = PLAIN) -> bytes:
    """Contact cards: a name and a vCard each.

    Raises:
        LocalProtocolError: no card.
    """
    if not cards:
        raise LocalProtocolError("no contact card")
    built = [
        wa_pb2.ContactMessage(display_name=encode(name), vcard=encode(vcard))
        for name, vcard in cards
    ]
    if len(built) == 1:
        put_context(built[0], context)
        return wa_pb2.Message(contact_message=built[0]).SerializeToString()
    title = encode(f"{len(built)} contacts")
    several = wa_pb2.ContactsArrayMessage(display_name=title, contacts=built)
    put_context(several, context)
    return wa_pb2.Message(contacts_array_message=several.SerializeToString()).SerializeToString()


def poll(
    name: str,
    options: cabc.Sequence[str],
    *,
    selectable: int,
    secret: bytes,
    context: Context = PLAIN,
) -> bytes:
    """A poll of which a voter may select so many options; 0: any number. ``secret``: 32 random
    bytes, from which the keys of the votes derive.

    Raises:
        LocalProtocolError: too few or too many options, or two alike; a secret of another length.
    """
    if not MIN_OPTIONS <= len(options) <= MAX_OPTIONS or len(set(options)) < len(options):
        raise LocalProtocolError(f"a poll has {MIN_OPTIONS} to {MAX_OPTIONS} different options")
    if not 0 <= selectable <= len(options):
        raise LocalProtocolError("more options to select than there are")
    content = wa_pb2.PollCreationMessage(
        name=encode(name),
        options=[wa_pb2.PollCreationMessage.Option(option_name=encode(item)) for item in options],
        selectable_options_count=selectable,
    )
    put_context(content, context)
    message = wa_pb2.Message(message_context_info=_secret(secret))
    if selectable == 1:
        message.poll_creation_message_v3 = content.SerializeToString()
    else:
        message.poll_creation_message = content.SerializeToString()
    return message.SerializeToString()


def poll_vote(key: TargetKey, vote: Encrypted, sent_at_ms: int) -> bytes:
    """A vote, see `addons.encrypt_vote`; it replaces the voter's former one."""
    content = wa_pb2.PollUpdateMessage(
        poll_creation_message_key=message_key(key),
        vote=wa_pb2.PollEncValue(enc_payload=vote.payload, enc_iv=vote.iv),
        sender_timestamp_ms=sent_at_ms,
    )
    return wa_pb2.Message(poll_update_message=content.SerializeToString()).SerializeToString()


def event(
    name: str,
    *,
    start: int,
    secret: bytes,
    end: int | None = None,
    description: str | None = None,
    place: str | None = None,
    canceled: bool = False,
) -> bytes:
    """An event; times in unix seconds.

    Raises:
        LocalProtocolError: a secret of another length than 32 bytes.
    """
    content = wa_pb2.EventMessage(
        is_canceled=canceled,
        name=encode(name),
        description=None if description is None else encode(description),
        location=None if place is None else wa_pb2.LocationMessage(name=encode(place)),
        start_time=start,
        end_time=end,
    )
    message = wa_pb2.Message(message_context_info=_secret(secret))
    message.event_message = content.SerializeToString()
    return message.SerializeToString()


def event_response(key: TargetKey, answer: Encrypted) -> bytes:
    """An answer to an event, see `addons.encrypt_response`."""
    data = _add_on(key, answer).SerializeToString()
    return wa_pb2.Message(enc_event_response_message=data).SerializeToString()


def encrypted_reaction(key: TargetKey, sealed: Encrypted) -> bytes:
    """A reaction that the server cannot read, see `addons.encrypt_reaction`."""
    data = _add_on(key, sealed).SerializeToString()
    return wa_pb2.Message(enc_reaction_message=data).SerializeToString()


def encrypted_edit(key: TargetKey, sealed: Encrypted) -> bytes:
    """An edit that only who has the message can read, see `addons.encrypt_edit`."""
    content = _add_on(key, sealed)
    content.secret_enc_type = MESSAGE_EDIT
    return wa_pb2.Message(secret_encrypted_message=content.SerializeToString()).SerializeToString()


def _text(body: str, context: Context) -> wa_pb2.Message:
    if context == PLAIN:
        return wa_pb2.Message(conversation=encode(body))
    content = wa_pb2.ExtendedTextMessage(text=encode(body))
    put_context(content, context)
    return wa_pb2.Message(extended_text_message=content)


def _add_on(key: TargetKey, sealed: Encrypted) -> wa_pb2.EncryptedAddOn:
    return wa_pb2.EncryptedAddOn(
        target_message_key=message_key(key), enc_payload=sealed.payload, enc_iv=sealed.iv
    )


def _secret(secret: bytes) -> wa_pb2.MessageContextInfo:
    if len(secret) != SECRET_LENGTH:
        raise LocalProtocolError(f"a message secret has {SECRET_LENGTH} bytes")
    return wa_pb2.MessageContextInfo(message_secret=secret)
