"""From content to the message that is stored: the same for live, history, resent and own ones."""

import typing as t

import attrs

from storage.api import ChatKind, Lane, MediaFile, ReceivedMessage
from whatsapp.content import SIDE_KINDS, Content, TargetKey
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid

PROTOCOL: t.Final = "protocol"  # kind of a message that shows nothing


@attrs.frozen(kw_only=True)
class Origin:
    """Where and when a message was written, and by whom. All addresses are bare."""

    chat: Jid
    chat_alt: Jid | None = None  # the other address of the same person, direct chats only
    sender: Jid
    sender_alt: Jid | None = None
    from_me: bool
    own: tuple[Jid, ...]
    """The account's own addresses: its phone number, then its LID where it is known."""
    id: str | None
    timestamp: int  # unix seconds
    push_name: str | None = None
    lane: Lane = Lane.LIVE

    @property
    def direct(self) -> bool:
        """Whether the chat is with one person."""
        return is_direct(self.chat)


def is_direct(chat: Jid) -> bool:
    """Whether a chat is with one person, not with many."""
    return not (chat.is_group or chat.is_broadcast or chat.is_newsletter)


def message_of(content: Content, origin: Origin) -> ReceivedMessage:
    """The message to store; kinds that only change another one go to the side lane."""
    side = content.kind in SIDE_KINDS or content.kind == PROTOCOL
    target = content.target
    flags = set(content.flags)
    if content.expiration:
        flags.add("ephemeral")
    return attrs.evolve(
        bare_message(origin),
        kind=content.kind,
        text=content.text,
        raw=content.raw,
        target_id=content.target_id,
        target_author=None if target is None else author_of(target, origin),
        quoted_id=content.quoted_id,
        quoted_author=_address(content.quoted_author),
        mentions=tuple(
            address for jid in content.mentions if (address := _address(jid)) is not None
        ),
        flags=tuple(sorted(flags)),
        detail=content.detail,
        media=_media(content),
        lane=Lane.SIDE if side else origin.lane,
    )


def bare_message(origin: Origin) -> ReceivedMessage:
    """The message without its content: what a placeholder knows."""
    if origin.from_me:
        sender, sender_alt = str(origin.own[0]), _text(next(iter(origin.own[1:]), None))
    else:
        sender, sender_alt = str(origin.sender), _text(origin.sender_alt)
    return ReceivedMessage(
        chat=str(origin.chat),
        chat_alt=_text(origin.chat_alt) if origin.direct else None,
        chat_kind=ChatKind.DIRECT if origin.direct else ChatKind.GROUP,
        sender=sender,
        sender_alt=sender_alt,
        sender_name=origin.push_name,
        from_me=origin.from_me,
        external_id=origin.id,
        kind="undecryptable",
        sent_at=origin.timestamp,
        lane=origin.lane,
    )


def author_of(key: TargetKey, origin: Origin) -> str | None:
    """Who wrote the message that a key means; None when the key does not tell.

    ``from_me`` in a key is as seen by the sender of the key. In a chat of two the author is
    either of them; in a group the key names the participant.
    Source: docs/protocol.md#message-keys
    """
    if key.from_me:
        return str(origin.own[0] if origin.from_me else origin.sender)
    if key.participant:
        return _address(key.participant)
    if not origin.direct:
        return None
    return str(origin.chat if origin.from_me else origin.own[0])


def _media(content: Content) -> MediaFile | None:
    source = content.media
    if source is None:
        return None
    return MediaFile(
        kind=source.kind,
        mimetype=source.mimetype,
        size=source.length,
        name=source.file_name,
        sha256=source.sha256,
    )


def _address(text: str | None) -> str | None:
    """A bare address out of what a peer wrote; None when it is none."""
    if not text:
        return None
    try:
        return str(Jid.parse(text).bare)
    except RemoteProtocolError:
        return None


def _text(jid: Jid | None) -> str | None:
    return None if jid is None else str(jid.bare)
