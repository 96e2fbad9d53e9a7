"""From a chunk of history to what it says besides messages. Pure."""

import collections.abc as cabc
import typing as t

from actors.history_messages import Chat, address, chat_of
from actors.notices import address_pair
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Fact,
    GroupChange,
    GroupMember,
    NameSource,
)
from whatsapp.errors import RemoteProtocolError
from whatsapp.history import FOREVER, HistoryChunk, HistoryConversation
from whatsapp.jid import Jid

SOURCE: t.Final = "history"  # of address pairs

_CENTURY: t.Final = 100 * 365 * 86_400.0  # seconds


def chunk_facts(chunk: HistoryChunk, now: float) -> cabc.Iterator[Fact]:
    """Address pairs first, so that everything after them finds one person; then names, groups
    and settings. What cannot be an address is passed over; ``now`` is in unix seconds."""
    chats = list(_chats(chunk.conversations))
    for number, lid in chunk.address_pairs:
        yield from _pair(address(number), address(lid))
    for contact in chunk.contacts:
        yield from _pair(address(contact.number), address(contact.lid))
    for chat, _conversation in chats:
        yield from _pair(chat.jid, chat.alt)
    for text, name in chunk.push_names:
        yield from _name(address(text), NameSource.PUSH, name)
    for contact in chunk.contacts:
        person = address(contact.number) or address(contact.lid)
        yield from _name(person, NameSource.SAVED, contact.full_name or contact.first_name)
        yield from _name(person, NameSource.USERNAME, contact.username)
    for chat, conversation in chats:
        if chat.direct:
            yield from _name(chat.jid, NameSource.SAVED, conversation.name)
            yield from _name(chat.jid, NameSource.USERNAME, conversation.username)
        else:
            yield from _group(chat, conversation, now)
        yield from _settings(chat, conversation, now)


def _chats(
    conversations: cabc.Iterable[HistoryConversation],
) -> cabc.Iterator[tuple[Chat, HistoryConversation]]:
    """The chats with people and groups."""
    for conversation in conversations:
        try:
            chat = chat_of(conversation)
        except RemoteProtocolError:
            continue
        if chat.jid.is_person or chat.jid.is_group:
            yield chat, conversation


def _group(chat: Chat, conversation: HistoryConversation, now: float) -> cabc.Iterator[Fact]:
    members = tuple(
        GroupMember(address=str(jid), role=member.role)
        for member in conversation.members
        if (jid := address(member.address)) is not None and jid.is_person
    )
    if conversation.name or conversation.description or members:
        yield GroupChange(
            group=str(chat.jid),
            at=min(float(conversation.conversation_at or conversation.last_message_at), now),
            subject=conversation.name,
            description=conversation.description,
            joined=members,
        )


def _settings(chat: Chat, told: HistoryConversation, now: float) -> cabc.Iterator[Fact]:
    """Settings without a time of their own give way to whatever is known from elsewhere."""
    where, direct = str(chat.jid), chat.direct
    if told.expiration is not None:
        at = min(float(told.expiration_at), now)
        yield ChatSettings(chat=where, direct=direct, at=at, expiration=told.expiration)
    settings = ChatSettings(
        chat=where,
        direct=direct,
        at=0.0,
        archived=told.archived,
        muted_until=None if told.muted_until is None else _muted_until(told.muted_until, now),
        pinned=None if told.pinned_at is None else told.pinned_at > 0,
        unread=told.marked_unread,
        read_until=min(float(told.last_message_at), now) if told.unread == 0 else None,
    )
    if settings != ChatSettings(chat=where, direct=direct, at=0.0):
        yield settings


def _muted_until(value: int, now: float) -> float:
    return float(value if 0 <= value < now + _CENTURY else FOREVER)


def _pair(first: Jid | None, second: Jid | None) -> cabc.Iterator[AddressPair]:
    if first is not None and (pair := address_pair(first, second, SOURCE)) is not None:
        yield pair


def _name(person: Jid | None, source: NameSource, name: str | None) -> cabc.Iterator[ContactName]:
    if person is not None and person.is_person and name:
        yield ContactName(address=str(person), source=source, name=name, at=0.0)
