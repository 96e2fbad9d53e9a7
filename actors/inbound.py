"""From an opened stanza to the envelope that stores it. Pure."""

import typing as t

import attrs

from actors.decryption import Opened
from actors.settings import ConnectionSettings
from storage.api import (
    UNDECRYPTABLE,
    ChatKind,
    Envelope,
    Lane,
    ReceivedMessage,
    RecordChange,
    RecordKind,
    handled_key,
)
from whatsapp.content import NONE, SIDE_KINDS, Content
from whatsapp.device import Device
from whatsapp.jid import STATUS_BROADCAST, Jid
from whatsapp.stanzas import MessageStanza

PROTOCOL: t.Final = "protocol"  # kind of a message that shows nothing
MAX_PEER_KEY: t.Final = 256  # characters
HISTORY_NOTIFICATION: t.Final = "history_sync_notification"


def is_ignored(stanza: MessageStanza, settings: ConnectionSettings) -> bool:
    """Whether the operator does not want messages of this chat at all."""
    chat = stanza.chat
    if chat.is_newsletter:
        return not settings.newsletters
    if chat == STATUS_BROADCAST:
        return not settings.status_broadcasts
    return chat.is_group and not settings.groups


def envelope_for(name: str, device: Device, stanza: MessageStanza, opened: Opened) -> Envelope:
    """What the stanza changes: a message, a placeholder for one, or records alone."""
    content = next((item for item in opened.contents if item.kind != NONE), None)
    if opened.failure is not None:
        message = _message(device, stanza, None, reason=str(opened.failure))
    elif stanza.unavailable is not None:
        message = _message(device, stanza, None, reason=f"withheld: {stanza.unavailable}")
    elif content is not None and not stanza.is_peer:
        message = _message(device, stanza, content)
    elif any(enc.count for enc in stanza.encs):
        # Sent again because we asked: there is a placeholder to take the place of.
        message = _message(device, stanza, Content(kind=PROTOCOL, raw=b""))
    else:
        message = None
    handled = None
    if message is None and stanza.id is not None:
        handled = handled_key(str(stanza.chat), str(stanza.sender.bare), stanza.id)
    records = opened.changes
    if stanza.is_peer and stanza.id is not None:
        records += tuple(
            RecordChange(RecordKind.PEER, stanza.id[:MAX_PEER_KEY], item.raw)
            for item in opened.contents
        )
    return Envelope(connection=name, message=message, handled=handled, records=records)


def receipt_types(stanza: MessageStanza, opened: Opened) -> tuple[str | None, ...]:
    """The receipts owed once the stanza is settled; None is the plain delivery receipt.

    Source: docs/protocol.md#acks-and-receipts
    """
    if stanza.is_peer:
        history = any(item.protocol == HISTORY_NOTIFICATION for item in opened.contents)
        return ("peer_msg", "hist_sync") if history else ("peer_msg",)
    return ("sender",) if stanza.from_me else (None,)


def _message(
    device: Device, stanza: MessageStanza, content: Content | None, reason: str | None = None
) -> ReceivedMessage:
    direct = not (stanza.chat.is_group or stanza.chat.is_broadcast or stanza.chat.is_newsletter)
    own = _own_addresses(device)
    sender, sender_alt = (
        own if stanza.from_me else (str(stanza.sender.bare), _text(stanza.sender_alt))
    )
    message = ReceivedMessage(
        chat=str(stanza.chat.bare),
        chat_alt=_text(stanza.chat_alt) if direct else None,
        chat_kind=ChatKind.DIRECT if direct else ChatKind.GROUP,
        sender=sender,
        sender_alt=sender_alt,
        sender_name=stanza.push_name,
        from_me=stanza.from_me,
        external_id=stanza.id,
        kind=UNDECRYPTABLE,
        sent_at=stanza.timestamp,
        lane=Lane.SIDE if stanza.is_peer else Lane.LIVE,
        reason=reason,
    )
    if content is None:
        return message
    lane = Lane.SIDE if content.kind in (*SIDE_KINDS, PROTOCOL) else Lane.LIVE
    return attrs.evolve(
        message, kind=content.kind, text=content.text, raw=content.raw, lane=lane, reason=None
    )


def _own_addresses(device: Device) -> tuple[str, str | None]:
    if device.jid is None:
        return "", None
    return str(device.jid.bare), _text(device.lid)


def _text(jid: Jid | None) -> str | None:
    return None if jid is None else str(jid.bare)
