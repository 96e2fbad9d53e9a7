"""From an opened stanza to the envelope that stores it. Pure."""

import collections.abc as cabc
import typing as t

import attrs

from actors.decryption import Opened
from actors.peers import PeerNews, read_peer
from actors.reading import PROTOCOL, Origin, bare_message, is_direct, message_of
from actors.settings import ConnectionSettings
from storage.api import (
    UNDECRYPTABLE,
    Envelope,
    Lane,
    ReceivedMessage,
    handled_key,
)
from storage.facts import ChatSettings, Fact
from whatsapp.content import NONE, Content
from whatsapp.device import Device
from whatsapp.jid import STATUS_BROADCAST, Jid
from whatsapp.stanzas import MessageStanza

HISTORY_NOTIFICATION: t.Final = "history_sync_notification"


def is_ignored(stanza: MessageStanza, settings: ConnectionSettings) -> bool:
    """Whether the operator does not want messages of this chat at all."""
    chat = stanza.chat
    if chat.is_newsletter:
        return not settings.newsletters
    if chat == STATUS_BROADCAST:
        return not settings.status_broadcasts
    return chat.is_group and not settings.groups


def envelope_for(
    name: str,
    device: Device,
    stanza: MessageStanza,
    opened: Opened,
    news: cabc.Sequence[PeerNews] = (),
) -> Envelope:
    """What the stanza changes: a message, a placeholder for one, or records and facts alone.

    ``news`` is what :func:`peer_news` reads in it.
    """
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
    return Envelope(
        connection=name,
        message=message,
        handled=handled,
        records=opened.changes + tuple(change for item in news for change in item.records),
        facts=(*_settings(stanza, content), *(fact for item in news for fact in item.facts)),
    )


def _settings(stanza: MessageStanza, content: Content | None) -> tuple[Fact, ...]:
    """What a message changes of its chat's settings."""
    if content is None or content.kind != "disappearing" or stanza.is_peer:
        return ()
    return (
        ChatSettings(
            chat=str(stanza.chat.bare),
            direct=is_direct(stanza.chat),
            at=stanza.timestamp,
            expiration=content.detail.get("expiration", 0),
        ),
    )


def peer_news(stanza: MessageStanza, opened: Opened) -> tuple[PeerNews, ...]:
    """What a message between own devices tells; nothing for any other message."""
    if not stanza.is_peer:
        return ()
    return tuple(read_peer(stanza, content) for content in opened.contents)


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
    origin = origin_of(device, stanza)
    if content is None:
        return attrs.evolve(bare_message(origin), kind=UNDECRYPTABLE, reason=reason)
    return message_of(content, origin)


def origin_of(device: Device, stanza: MessageStanza) -> Origin:
    """Where the stanza says that its message belongs."""
    return Origin(
        chat=stanza.chat.bare,
        chat_alt=None if stanza.chat_alt is None else stanza.chat_alt.bare,
        sender=stanza.sender.bare,
        sender_alt=None if stanza.sender_alt is None else stanza.sender_alt.bare,
        from_me=stanza.from_me,
        own=own_addresses(device),
        id=stanza.id,
        timestamp=stanza.timestamp,
        push_name=stanza.push_name,
        lane=Lane.SIDE if stanza.is_peer else Lane.LIVE,
    )


def own_addresses(device: Device) -> tuple[Jid, ...]:
    """The account's bare addresses, the phone number first."""
    return tuple(jid.bare for jid in (device.jid, device.lid) if jid is not None)
