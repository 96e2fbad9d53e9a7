"""What we write: messages, resends, read receipts, typing and presence.

The ciphertexts come from outside; here they are put into stanzas.
Source: docs/protocol.md#sending
"""

import base64
import collections.abc as cabc
import hashlib
import typing as t

import attrs

from whatsapp.content import Content
from whatsapp.e2ee.session import Ciphertext
from whatsapp.errors import LocalProtocolError
from whatsapp.jid import HOSTED_LID_SERVER, HOSTED_SERVER, Jid
from whatsapp.node import Node
from whatsapp.stanzas import PEER

ID_PREFIX: t.Final = "3EB0"
MAX_RECEIPT_IDS: t.Final = 256  # in one receipt
HOSTED_DEVICE: t.Final = 99  # a companion that the provider runs; never gets group keys

EDIT: t.Final = "1"
PIN: t.Final = "2"
REVOKE_OWN: t.Final = "7"
REVOKE_AS_ADMIN: t.Final = "8"

_TYPES: t.Final = {
    "reaction": "reaction",
    "encrypted_reaction": "reaction",
    "poll": "poll",
    "poll_vote": "poll",
    "event": "event",
}
_MEDIA_TYPES: t.Final = {
    "audio": "audio",
    "contact": "vcard",
    "contacts": "contact_array",
    "document": "document",
    "gif": "gif",
    "image": "image",
    "list": "list",
    "list_reply": "list_response",
    "live_location": "livelocation",
    "location": "location",
    "order": "order",
    "product": "product",
    "sticker": "sticker",
    "sticker_pack": "sticker_pack",
    "video": "video",
    "video_note": "ptv",
    "voice": "ptt",
}
_POLL_TYPES: t.Final = {"poll": "creation", "poll_vote": "vote"}
_HIDDEN: t.Final = frozenset({"reaction", "encrypted_reaction", "poll_vote", "pin"})


@attrs.frozen(kw_only=True)
class Outline:
    """What a stanza tells the server of the message that it cannot read."""

    type: str = "text"
    media_type: str | None = None
    edit: str | None = None
    hide: bool = False  # who cannot decrypt it shows nothing
    poll_type: str | None = None


@attrs.frozen
class Sealed:
    """The ciphertext for one device."""

    device: Jid  # with device number, in the address family of the stanza
    ciphertext: Ciphertext


def message_id(own: Jid, now: int, random16: bytes) -> str:
    """A new message id: ``3EB0`` and 18 hexadecimal digits. ``now`` in unix seconds.

    Source: docs/protocol.md#message-ids
    """
    seed = now.to_bytes(8, "big") + f"{own.user}@c.us".encode() + random16
    return ID_PREFIX + hashlib.sha256(seed).digest()[:9].hex().upper()


def outline_of(content: Content) -> Outline:
    """What the stanza of a message says about it. Source: docs/protocol.md#sending"""
    media = _MEDIA_TYPES.get(content.kind)
    edit = _edit(content)
    return Outline(
        type=_TYPES.get(content.kind, "text" if media is None else "media"),
        media_type=media,
        edit=edit,
        hide=edit is not None or content.kind in _HIDDEN,
        poll_type=_POLL_TYPES.get(content.kind),
    )


def _edit(content: Content) -> str | None:
    match content.kind:
        case "edit":
            return EDIT
        case "pin":
            return PIN
        case "revoke" if content.target is not None and not content.target.from_me:
            return REVOKE_AS_ADMIN
        case "revoke":
            return REVOKE_OWN
        case "reaction" if not content.text:
            return REVOKE_OWN
        case _:
            return None


# ---- messages


def direct_message(
    stanza_id: str,
    to: Jid,
    sealed: cabc.Sequence[Sealed],
    outline: Outline,
    device_identity: bytes,
    *,
    number: Jid | None = None,
) -> Node:
    """A message to one person: a ciphertext for each device of theirs, and of our own account.

    ``number`` is the phone number behind a hidden address, where it is known.

    Raises:
        LocalProtocolError: a message for no device.
    """
    if not sealed:
        raise LocalProtocolError("a message for no device")
    return Node(
        "message",
        {
            "id": stanza_id,
            "type": outline.type,
            "to": to.bare,
            "peer_recipient_pn": number if to.is_lid else None,
            "edit": outline.edit,
        },
        (
            _participants(sealed, outline),
            *_identity(device_identity, [item.ciphertext for item in sealed]),
            *_meta(outline),
        ),
    )


def group_message(
    stanza_id: str,
    group: Jid,
    sealed: cabc.Sequence[Sealed],
    skmsg: bytes,
    outline: Outline,
    device_identity: bytes,
    *,
    phash: str,
    lid: bool,
) -> Node:
    """A message to a group: one common ciphertext, after the sender key for those who lack it."""
    pairwise = (_participants(sealed, Outline()),) if sealed else ()
    return Node(
        "message",
        {
            "id": stanza_id,
            "type": outline.type,
            "to": group,
            "phash": phash,
            "addressing_mode": "lid" if lid else "pn",
            "edit": outline.edit,
        },
        (
            *pairwise,
            *_identity(device_identity, [item.ciphertext for item in sealed]),
            _enc("skmsg", skmsg, outline),
            *_meta(outline),
        ),
    )


def resent_message(
    stanza_id: str,
    to: Jid,
    ciphertext: Ciphertext,
    outline: Outline,
    device_identity: bytes,
    *,
    count: int,
    participant: Jid | None = None,
    recipient: Jid | None = None,
    timestamp: int | None = None,
) -> Node:
    """The same message once more for the one device that asked, for the ``count``-th time.

    ``to`` is where the request came from: a device, or the group in which ``participant`` asked.
    ``recipient`` is the chat of a copy for an own device. Source: docs/protocol.md#resending
    """
    return Node(
        "message",
        {
            "id": stanza_id,
            "type": outline.type,
            "to": to,
            "participant": participant,
            "recipient": recipient,
            "t": timestamp,
            "edit": outline.edit,
            "device_fanout": None if to.is_group else "false",
        },
        (
            _enc(ciphertext.type, ciphertext.body, outline, count),
            *_identity(device_identity, [ciphertext]),
        ),
    )


def peer_message(
    stanza_id: str,
    own: Jid,
    ciphertext: Ciphertext,
    device_identity: bytes,
    *,
    priority: str | None = None,
    count: int | None = None,
) -> Node:
    """A message to the own phone; no chat shows it. ``count``: sent again because it asked.

    ``priority`` is ``high`` (a request for keys) or ``high_force`` (a request for history).
    Source: docs/protocol.md#peer-messages
    """
    return Node(
        "message",
        {
            "id": stanza_id,
            "type": "text",
            "to": own.bare,
            "category": PEER,
            "push_priority": priority,
            "privacy_sensitive": "1" if priority == "high_force" else None,
        },
        (
            Node("meta", {"appdata": "default"}),
            _enc(ciphertext.type, ciphertext.body, Outline(), count),
            *_identity(device_identity, [ciphertext]),
        ),
    )


def participants_hash(devices: cabc.Iterable[Jid]) -> str:
    """What the server compares with its own list of the devices that a message is for.

    Source: docs/protocol.md#participant-hash
    """
    names = sorted(f"{jid.user}.0:{jid.device}@{jid.server}" for jid in devices)
    digest = hashlib.sha256("".join(names).encode()).digest()
    return "2:" + base64.b64encode(digest[:6]).decode()


def is_hosted(jid: Jid) -> bool:
    """Whether the provider runs this device: it never gets keys of groups."""
    return jid.device == HOSTED_DEVICE or jid.server in (HOSTED_SERVER, HOSTED_LID_SERVER)


def _participants(sealed: cabc.Sequence[Sealed], outline: Outline) -> Node:
    return Node(
        "participants",
        {},
        tuple(
            Node(
                "to",
                {"jid": item.device},
                (_enc(item.ciphertext.type, item.ciphertext.body, outline),),
            )
            for item in sealed
        ),
    )


def _enc(kind: str, body: bytes, outline: Outline, count: int | None = None) -> Node:
    return Node(
        "enc",
        {
            "v": 2,
            "type": kind,
            "mediatype": outline.media_type,
            "decrypt-fail": "hide" if outline.hide else None,
            "count": count,
        },
        body,
    )


def _identity(device_identity: bytes, ciphertexts: cabc.Iterable[Ciphertext]) -> tuple[Node, ...]:
    """Who this device is, for those whose session begins with this message."""
    if all(ciphertext.type != "pkmsg" for ciphertext in ciphertexts):
        return ()
    return (Node("device-identity", {}, device_identity),)


def _meta(outline: Outline) -> tuple[Node, ...]:
    return () if outline.poll_type is None else (Node("meta", {"polltype": outline.poll_type}),)


# ---- receipts, typing, presence


def read_receipts(
    ids: cabc.Sequence[str],
    chat: Jid,
    author: Jid | None,
    now: int,
    kind: t.Literal["read", "read-self", "played", "played-self"] = "read",
) -> tuple[Node, ...]:
    """Says that messages of one author in one chat were read; ``now`` in unix seconds.

    ``author`` counts in groups only. Source: docs/protocol.md#acks-and-receipts
    """
    return tuple(
        _read_receipt(ids[start : start + MAX_RECEIPT_IDS], chat, author, now, kind)
        for start in range(0, len(ids), MAX_RECEIPT_IDS)
    )


def _read_receipt(
    ids: cabc.Sequence[str], chat: Jid, author: Jid | None, now: int, kind: str
) -> Node:
    items = tuple(Node("item", {"id": item}) for item in ids[1:])
    return Node(
        "receipt",
        {
            "id": ids[0],
            "to": chat.bare,
            "type": kind,
            "participant": author if not chat.is_person else None,
            "t": now,
        },
        (Node("list", {}, items),) if items else None,
    )


def chat_state(to: Jid, state: t.Literal["composing", "recording", "paused"]) -> Node:
    """Shows (or stops showing) that somebody types or records."""
    if state == "paused":
        child = Node("paused")
    else:
        child = Node("composing", {"media": "audio" if state == "recording" else None})
    return Node("chatstate", {"to": to.bare}, (child,))


def presence(name: str, *, available: bool) -> Node:
    """Sets the own presence and publishes the push name.

    While available, WhatsApp expects the phone to need no notifications.
    """
    return Node("presence", {"type": "available" if available else "unavailable", "name": name})


def presence_subscription(jid: Jid) -> Node:
    """Asks to be told when a person comes and goes."""
    return Node("presence", {"type": "subscribe", "to": jid.bare})
