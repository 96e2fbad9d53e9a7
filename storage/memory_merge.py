"""MemoryStorage: contacts become one, and two again; the rules of ``sql/merges.sql``."""

import collections.abc as cabc

import attrs

from storage.api import Lane
from storage.errors import StorageRejectedError
from storage.memory_state import (
    SELF,
    Address,
    Chat,
    Connection,
    Contact,
    Conversation,
    Merge,
    Message,
)


def resolve(
    connection: Connection,
    ids: cabc.Iterator[int],
    addresses: cabc.Iterable[str | None],
    now: float,
    *,
    is_self: bool = False,
    source: str = "stanza",
) -> None:
    """Make sure that the addresses have a contact, and that it is one."""
    given = [address for address in addresses if address is not None]
    found = sorted(
        {connection.addresses[item].contact for item in given if item in connection.addresses}
    )
    if is_self:
        contact = SELF
    elif found:
        contact = found[0]
    else:
        contact = next(ids)
        connection.contacts[contact] = Contact(contact, now)
    for other in found:
        if other != contact and not any(
            merge.undone_at is not None and {merge.survivor, merge.merged} == {contact, other}
            for merge in connection.merges
        ):
            _merge(connection, Merge(next(ids), contact, other, source, now))
    for address in given:
        connection.addresses.setdefault(address, Address(contact, now))
    if contact in connection.chats:
        connection.chats[contact].address = connection.addresses_of(contact)[0]


def _merge(connection: Connection, merge: Merge) -> None:
    connection.merges.append(merge)
    for address, row in sorted(connection.addresses.items()):
        if row.contact == merge.merged:
            merge.addresses.append(address)
            row.contact = merge.survivor
    connection.contacts[merge.merged].merged_into = merge.survivor
    both = sorted(
        (
            connection.chats[contact]
            for contact in (merge.survivor, merge.merged)
            if contact in connection.chats
        ),
        key=lambda chat: chat.id,
    )
    merge.chats = [(chat, chat.contact) for chat in both if chat.contact is not None]
    kept, gone = (*both, None, None)[:2]
    live = sorted((item for chat in both for item in chat.conversations if item.live), key=_id)
    if gone is None or len(live) < 2:
        live = []
    if kept is not None and gone is not None:
        for item in [*kept.conversations, *gone.conversations]:
            if item.chat is gone or item in live:
                merge.conversations.append((item, attrs.evolve(item)))
        if live:
            _close_into(live[1], live[0], merge.merged_at)
            live[0].opened_at = min(live[0].opened_at, live[1].opened_at)
        _move_conversations(gone.conversations, kept)
    _merge_messages(connection, merge, kept, gone, live)
    for contact in (merge.survivor, merge.merged):
        connection.chats.pop(contact, None)
    if kept is not None:
        kept.contact = merge.survivor
        kept.address = connection.addresses_of(merge.survivor)[0]
        connection.chats[merge.survivor] = kept


def _merge_messages(
    connection: Connection,
    merge: Merge,
    kept: Chat | None,
    gone: Chat | None,
    live: list[Conversation],
) -> None:
    moving = [
        message
        for message in connection.rows.values()
        if (gone is not None and message.chat is gone) or message.sender == merge.merged
    ]
    same: dict[tuple[int, int, str], list[Message]] = {}
    for message in moving:
        chat = kept if message.chat is gone and kept is not None else message.chat
        sender = merge.survivor if message.sender == merge.merged else message.sender
        same.setdefault((chat.id, sender, message.content.external_id), []).append(message)
    emptied = []
    for key, alike in same.items():
        other = connection.keys.get(key)
        if other is not None and other not in alike:
            alike.append(other)
        alike.sort(key=lambda item: (item.placeholder, item.content.lane is not Lane.LIVE, item.id))
        for loser in alike[1:]:
            merge.duplicates.append((loser, alike[0]))
            emptied.append((loser.id, loser.conversation, alike[0]))
            del connection.rows[loser.id], connection.keys[loser.key]
            _count(connection, loser, -1)
    for message in moving:
        if message.id in connection.rows:
            _note(merge, message)
            del connection.keys[message.key]
            if message.chat is gone and kept is not None:
                message.chat = kept
            if message.sender == merge.merged:
                message.sender = merge.survivor
            connection.keys[message.key] = message
    if live:
        for message in connection.rows.values():
            if message.conversation is live[1]:
                if not any(message is noted for noted, *_before in merge.messages):
                    _note(merge, message)
                message.conversation = live[0]
        _recount(connection, live)
    _recount(connection, [conversation for _id_, conversation, _keeper in emptied])
    for _loser, conversation, keeper in sorted(emptied, key=lambda item: item[0]):
        if not conversation.messages and conversation.merged_into is None:
            if not any(item is conversation for item, _before in merge.conversations):
                merge.conversations.append((conversation, attrs.evolve(conversation)))
            _close_into(conversation, keeper.conversation, merge.merged_at)


def unmerge(connection: Connection, merge: Merge, now: float) -> None:
    """Put back what a merge changed, as far as later messages allow.

    Raises:
        StorageRejectedError: a later merge took part of the same contact.
    """
    if merge.undone_at is not None:
        return
    pair = {merge.survivor, merge.merged}
    later = [
        item.id
        for item in connection.merges
        if item.id > merge.id and item.undone_at is None and pair & {item.survivor, item.merged}
    ]
    if later:
        raise StorageRejectedError(
            f"merge {max(later)} came later and took part of the same contact: undo that one first"
        )
    merge.undone_at = now
    connection.contacts[merge.merged].merged_into = None
    for address in merge.addresses:
        connection.addresses[address].contact = merge.merged
    if merge.chats:
        connection.chats.pop(merge.survivor, None)
    for chat, contact in merge.chats:
        chat.contact = contact
        connection.chats[contact] = chat
    for conversation, before in merge.conversations:
        _move_conversations([conversation], before.chat)
        conversation.opened_at = before.opened_at
        if conversation.merged_into is not None and not before.live:
            conversation.closed_at = before.closed_at
    for conversation, before in merge.conversations:
        if conversation.merged_into is not None and before.merged_into is None:
            conversation.merged_into = None
            if before.live and not any(item.live for item in before.chat.conversations):
                conversation.status, conversation.closed_at = before.status, None
    back = [conversation for conversation, _before in merge.conversations]
    touched = back + [message.conversation for message, *_before in merge.messages]
    for message, chat, sender, conversation in merge.messages:
        _rekey(connection, message, chat, sender)
        message.conversation = conversation
        touched.append(conversation)
    for message, _keeper in merge.duplicates:
        connection.rows[message.id] = connection.keys[message.key] = message
        _count(connection, message, 1)
        touched.append(message.conversation)
    for message in connection.rows.values():
        if message.conversation in back:
            _rekey(connection, message, message.conversation.chat, message.sender)
        owner = message.chat.contact
        if owner in pair and message.sender in pair and merge.survivor != SELF:
            _rekey(connection, message, message.chat, owner)
    _recount(connection, touched)
    for contact in pair:
        if contact in connection.chats:
            connection.chats[contact].address = connection.addresses_of(contact)[0]


def _id(conversation: Conversation) -> int:
    return conversation.id


def _note(merge: Merge, message: Message) -> None:
    merge.messages.append((message, message.chat, message.sender, message.conversation))


def _close_into(conversation: Conversation, other: Conversation, now: float) -> None:
    if conversation.live:
        conversation.closed_at = now
    conversation.status = "closed"
    conversation.merged_into = other


def _move_conversations(conversations: list[Conversation], chat: Chat) -> None:
    for item in list(conversations):
        item.chat.conversations.remove(item)
        chat.conversations.append(item)
        item.chat = chat


def _rekey(connection: Connection, message: Message, chat: Chat, sender: int) -> None:
    if connection.keys.get(message.key) is message:
        del connection.keys[message.key]
    message.chat, message.sender = chat, sender
    connection.keys[message.key] = message


def _count(connection: Connection, message: Message, by: int) -> None:
    """A message became one with another (-1), or two again (1)."""
    if message.placeholder:
        connection.undecryptable += by
    else:
        connection.messages += by
        connection.duplicates -= by


def _recount(connection: Connection, conversations: cabc.Iterable[Conversation]) -> None:
    for conversation in conversations:
        own = [item for item in connection.rows.values() if item.conversation is conversation]
        conversation.messages = len(own)
        sent = [item.content.sent_at for item in own if not item.side]
        conversation.last_message_at = max(sent, default=conversation.last_message_at)
