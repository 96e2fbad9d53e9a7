"""The actions that an inbox cares about: where each lies, and under which index.

Builders for whoever changes app state; reading accepts an index in any collection. Times named
``at`` are unix milliseconds, those of messages unix seconds.

Source: docs/protocol.md#app-state-actions
"""

import typing as t

import attrs

from whatsapp.jid import Jid
from whatsapp.proto.sync_pb2 import SyncActionValue, SyncMessageRange

CONTACT: t.Final = "contact"
LID_CONTACT: t.Final = "lid_contact"
PUSH_NAME: t.Final = "setting_pushName"
MUTE: t.Final = "mute"
ARCHIVE: t.Final = "archive"
PIN: t.Final = "pin_v1"
MARK_READ: t.Final = "markChatAsRead"
STAR: t.Final = "star"
DELETE_MESSAGE: t.Final = "deleteMessageForMe"
CLEAR_CHAT: t.Final = "clearChat"
DELETE_CHAT: t.Final = "deleteChat"
LABEL_EDIT: t.Final = "label_edit"
LABEL_CHAT: t.Final = "label_jid"
LABEL_MESSAGE: t.Final = "label_message"
NUMBER_OF_LID: t.Final = "pnForLidChat"

FOR_EVER: t.Final = -1  # the end of a mute that has none


@attrs.frozen
class Action:
    """One setting: what it says, and where it is kept."""

    collection: str
    index: tuple[str, ...]
    value: SyncActionValue = attrs.field(repr=False)
    version: int  # of the action's form


def contact(
    jid: Jid,
    *,
    at: int,
    full_name: str = "",
    first_name: str = "",
    lid: Jid | None = None,
    number: Jid | None = None,
) -> Action:
    """A name in the phone's address book, with the person's other address if it is known."""
    body = SyncActionValue.Contact(save_on_primary_addressbook=True)
    if full_name:
        body.full_name = full_name.encode()
    if first_name:
        body.first_name = first_name.encode()
    if lid is not None:
        body.lid_jid = str(lid).encode()
    if number is not None:
        body.pn_jid = str(number).encode()
    value = SyncActionValue(timestamp=at, contact_action=body)
    return Action("critical_unblock_low", (CONTACT, str(jid)), value, 2)


def lid_contact(lid: Jid, *, at: int, full_name: str) -> Action:
    """A name for someone who is known by LID alone."""
    body = SyncActionValue.LidContact(full_name=full_name.encode())
    value = SyncActionValue(timestamp=at, lid_contact_action=body)
    return Action("critical_unblock_low", (LID_CONTACT, str(lid)), value, 1)


def push_name(name: str, *, at: int) -> Action:
    """The name that the account itself goes by."""
    body = SyncActionValue.PushName(name=name.encode())
    value = SyncActionValue(timestamp=at, push_name_setting=body)
    return Action("critical_block", (PUSH_NAME,), value, 1)


def mute(jid: Jid, until: int | None, *, at: int) -> Action:
    """Mute a chat until then (unix milliseconds, or ``FOR_EVER``); None: no longer."""
    body = SyncActionValue.Mute(muted=until is not None)
    if until is not None:
        body.mute_end_timestamp = until
    value = SyncActionValue(timestamp=at, mute_action=body)
    return Action("regular_high", (MUTE, str(jid)), value, 2)


def archive(jid: Jid, archived: bool, *, at: int, last_message: int | None = None) -> Action:
    """Archive a chat as of its newest message. Whoever archives a chat also unpins it."""
    body = SyncActionValue.Archive(archived=archived, message_range=_range(last_message))
    value = SyncActionValue(timestamp=at, archive_chat_action=body)
    return Action("regular_low", (ARCHIVE, str(jid)), value, 3)


def pin(jid: Jid, pinned: bool, *, at: int) -> Action:
    """Keep a chat at the top."""
    body = SyncActionValue.Pin(pinned=pinned)
    value = SyncActionValue(timestamp=at, pin_action=body)
    return Action("regular_low", (PIN, str(jid)), value, 5)


def mark_read(jid: Jid, read: bool, *, at: int, last_message: int | None = None) -> Action:
    """Mark a chat as read up to its newest message, or as unread."""
    body = SyncActionValue.MarkRead(read=read, message_range=_range(last_message))
    value = SyncActionValue(timestamp=at, mark_chat_as_read_action=body)
    return Action("regular_low", (MARK_READ, str(jid)), value, 3)


def label_edit(label: str, name: str, *, at: int, color: int = 0, deleted: bool = False) -> Action:
    """Make, rename, or delete a label."""
    body = SyncActionValue.LabelEdit(name=name.encode(), color=color, deleted=deleted)
    value = SyncActionValue(timestamp=at, label_edit_action=body)
    return Action("regular", (LABEL_EDIT, label), value, 3)


def label_chat(label: str, jid: Jid, labelled: bool, *, at: int) -> Action:
    """Put a label on a chat, or take it off."""
    return Action("regular", (LABEL_CHAT, label, str(jid)), _labelled(labelled, at), 3)


def label_message(label: str, jid: Jid, message_id: str, labelled: bool, *, at: int) -> Action:
    """Put a label on a message, or take it off."""
    index = (LABEL_MESSAGE, label, str(jid), message_id, "0", "0")
    return Action("regular", index, _labelled(labelled, at), 3)


def number_of_lid(lid: Jid, number: Jid, *, at: int) -> Action:
    """Who a chat with a LID is with."""
    body = SyncActionValue.PnForLid(pn_jid=str(number).encode())
    value = SyncActionValue(timestamp=at, pn_for_lid_chat_action=body)
    return Action("regular", (NUMBER_OF_LID, str(lid)), value, 1)


def delete_chat(jid: Jid, *, at: int) -> Action:
    """Delete a chat, its media included, on all devices of the account."""
    body = SyncActionValue.DeleteChat(message_range=_range(None))
    value = SyncActionValue(timestamp=at, delete_chat_action=body)
    return Action("regular_high", (DELETE_CHAT, str(jid), "1"), value, 6)


def _labelled(labelled: bool, at: int) -> SyncActionValue:
    body = SyncActionValue.LabelAssociation(labeled=labelled)
    return SyncActionValue(timestamp=at, label_association_action=body)


def _range(last_message: int | None) -> SyncMessageRange | None:
    return None if last_message is None else SyncMessageRange(last_message_timestamp=last_message)
