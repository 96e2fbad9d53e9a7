"""Writing chunks of history: the phone's side of ``whatsapp.history``."""

import collections.abc as cabc
import typing as t

from whatsapp.history_model import ROLES, SYNC_TYPES, HistoryConversation, InlineContact
from whatsapp.proto import history_pb2
from whatsapp.protobuf_fields import length_delimited
from whatsapp.web_message import HistoryMessage, build_web_message, info_from

_CONVERSATION: t.Final = 2  # fields of a HistorySync
_STATUS_MESSAGE: t.Final = 3
_MESSAGE: t.Final = 2  # field of a Conversation


def build_history(
    *,
    sync_type: str,
    conversations: cabc.Iterable[HistoryConversation] = (),
    status_messages: cabc.Iterable[HistoryMessage] = (),
    push_names: cabc.Iterable[tuple[str, str]] = (),
    address_pairs: cabc.Iterable[tuple[str, str]] = (),
    contacts: cabc.Iterable[InlineContact] = (),
    chunk_order: int = 0,
    progress: int = 0,
) -> bytes:
    """A chunk, not yet compressed (see ``history.deflate``).

    ``push_names`` are pairs of an address and a name, ``address_pairs`` of a number and a LID.
    The messages of a conversation are written as they come; phones send the newest first.
    """
    payload = history_pb2.HistoryPayload(
        sync_type=SYNC_TYPES.index(sync_type), chunk_order=chunk_order, progress=progress
    )
    for address, name in push_names:
        payload.push_names.add(id=address.encode(), push_name=name.encode())
    for number, lid in address_pairs:
        payload.address_pairs.add(pn_jid=number.encode(), lid_jid=lid.encode())
    for contact in contacts:
        payload.contacts.add(
            pn_jid=_bytes(contact.number),
            lid_jid=_bytes(contact.lid),
            full_name=_bytes(contact.full_name),
            first_name=_bytes(contact.first_name),
            username=_bytes(contact.username),
        )
    parts = [payload.SerializeToString()]
    parts += (length_delimited(_CONVERSATION, build_conversation(item)) for item in conversations)
    parts += (length_delimited(_STATUS_MESSAGE, build_web_message(m)) for m in status_messages)
    return b"".join(parts)


def build_conversation(chat: HistoryConversation) -> bytes:
    """One ``Conversation`` with its messages."""
    fields = history_pb2.HistoryChat(
        id=chat.chat.encode(),
        pn_jid=_bytes(chat.number),
        lid_jid=_bytes(chat.lid),
        name=_bytes(chat.name),
        username=_bytes(chat.username),
        description=_bytes(chat.description),
        last_message_timestamp=chat.last_message_at or None,
        conversation_timestamp=chat.conversation_at or None,
        created_at=chat.created_at or None,
        created_by=_bytes(chat.created_by),
        archived=chat.archived,
        pinned=chat.pinned_at,
        mute_end_time=None if chat.muted_until is None else chat.muted_until % 2**64,
        marked_as_unread=chat.marked_unread,
        unread_count=chat.unread,
        ephemeral_expiration=chat.expiration,
        ephemeral_setting_timestamp=chat.expiration_at or None,
        end_of_history_type=chat.end,
    )
    for member in chat.members:
        fields.members.add(user_jid=member.address.encode(), rank=ROLES.index(member.role))
    parts = [fields.SerializeToString()]
    parts += (length_delimited(_MESSAGE, _build_item(message)) for message in chat.messages)
    return b"".join(parts)


def _build_item(message: HistoryMessage) -> bytes:
    item = history_pb2.HistoryItem(message=info_from(message), order=message.order)
    return item.SerializeToString()


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
