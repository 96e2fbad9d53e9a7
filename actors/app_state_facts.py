"""From verified app-state actions to facts. Pure.

What the phone deletes or clears is deleted there, not here: stored messages stay. Such actions,
and those that mean nothing to an inbox, are passed over.
"""

import collections.abc as cabc
import typing as t

import structlog

from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Fact,
    Label,
    LabelLink,
    NameSource,
)
from whatsapp.appstate import actions
from whatsapp.appstate.mutations import Mutation, Operation, readable
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid

SOURCE: t.Final = "app_state"  # of address pairs
MAX_TEXT: t.Final = 1024  # characters
MAX_ID: t.Final = 256  # characters, of labels and messages

_CENTURY: t.Final = 100 * 365 * 86_400.0  # seconds

log: structlog.stdlib.BoundLogger = structlog.get_logger("app_state")

Handler: t.TypeAlias = cabc.Callable[[Mutation, float], tuple[Fact, ...]]
"""Takes an action whose index has a second part, and its time."""


def actions_to_facts(
    mutations: cabc.Iterable[Mutation], at: float, own: str | None = None
) -> tuple[Fact, ...]:
    """What actions say of contacts, chats and labels.

    ``at`` (unix seconds) is now: an action without a time, or from the future, gets it. ``own``
    is the address of the account, for its own name.
    """
    facts: list[Fact] = []
    for mutation in mutations:
        facts += _facts(mutation, at, own)
    return tuple(facts)


def _facts(mutation: Mutation, now: float, own: str | None) -> tuple[Fact, ...]:
    kind = mutation.index[0] if mutation.index else ""
    told = mutation.value.timestamp / 1000
    at = min(told, now) if told > 0 else now
    if kind == actions.PUSH_NAME:
        return _own_name(mutation, at, own)
    handler = _HANDLERS.get(kind)
    if handler is None or len(mutation.index) < 2:
        log.debug("app_state.ignored", kind=kind[:64])
        return ()
    return handler(mutation, at)


def _own_name(mutation: Mutation, at: float, own: str | None) -> tuple[Fact, ...]:
    if own is None or _removed(mutation):
        return ()
    name = _text(mutation.value.push_name_setting.name)
    return (ContactName(address=own, source=NameSource.PUSH, name=name, at=at),)


def _contact(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    jid = _person(mutation.index[1])
    if jid is None:
        return ()
    body = mutation.value.contact_action
    facts: list[Fact] = []
    if not _removed(mutation):
        number = _person(_text(body.pn_jid)) if jid.is_lid else jid
        lid = jid if jid.is_lid else _person(_text(body.lid_jid))
        facts += _pair(number, lid)
    facts += _names(jid, body.full_name or body.first_name, body.username, mutation, at)
    return tuple(facts)


def _lid_contact(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    jid = _person(mutation.index[1])
    if jid is None:
        return ()
    body = mutation.value.lid_contact_action
    return _names(jid, body.full_name or body.first_name, body.username, mutation, at)


def _number_of_lid(mutation: Mutation, _at: float) -> tuple[Fact, ...]:
    if _removed(mutation):
        return ()
    number = _text(mutation.value.pn_for_lid_chat_action.pn_jid)
    return _pair(_person(number), _person(mutation.index[1]))


def _mute(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    body = mutation.value.mute_action
    if _removed(mutation) or not body.muted:
        return _settings(mutation, at, muted_until=0.0)
    until = body.mute_end_timestamp / 1000
    known = 0 < until < at + _CENTURY
    return _settings(mutation, at, muted_until=until if known else float(actions.FOR_EVER))


def _archive(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    archived = mutation.value.archive_chat_action.archived and not _removed(mutation)
    return _settings(mutation, at, archived=archived)


def _pin(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    pinned = mutation.value.pin_action.pinned and not _removed(mutation)
    return _settings(mutation, at, pinned=pinned)


def _mark_read(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    if _removed(mutation):  # the mark is forgotten, which says nothing of the chat
        return ()
    body = mutation.value.mark_chat_as_read_action
    newest = body.message_range.last_message_timestamp
    read_until = min(float(newest), at) if body.read and newest > 0 else None
    return _settings(mutation, at, unread=not body.read, read_until=read_until)


def _label(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    body = mutation.value.label_edit_action
    return (
        Label(
            id=mutation.index[1][:MAX_ID],
            name=_text(body.name),
            color=body.color,
            deleted=body.deleted or _removed(mutation),
            at=at,
        ),
    )


def _label_link(mutation: Mutation, at: float) -> tuple[Fact, ...]:
    of_message = mutation.index[0] == actions.LABEL_MESSAGE
    if len(mutation.index) < (4 if of_message else 3):
        return ()
    chat = _chat(mutation.index[2])
    if chat is None:
        return ()
    return (
        LabelLink(
            label=mutation.index[1][:MAX_ID],
            chat=str(chat),
            direct=not chat.is_group,
            message_id=mutation.index[3][:MAX_ID] if of_message else None,
            labelled=mutation.value.label_association_action.labeled and not _removed(mutation),
            at=at,
        ),
    )


_HANDLERS: t.Final[cabc.Mapping[str, Handler]] = {
    actions.CONTACT: _contact,
    actions.LID_CONTACT: _lid_contact,
    actions.NUMBER_OF_LID: _number_of_lid,
    actions.MUTE: _mute,
    actions.ARCHIVE: _archive,
    actions.PIN: _pin,
    actions.MARK_READ: _mark_read,
    actions.LABEL_EDIT: _label,
    actions.LABEL_CHAT: _label_link,
    actions.LABEL_MESSAGE: _label_link,
}


def _settings(
    mutation: Mutation,
    at: float,
    *,
    archived: bool | None = None,
    muted_until: float | None = None,
    pinned: bool | None = None,
    unread: bool | None = None,
    read_until: float | None = None,
) -> tuple[Fact, ...]:
    chat = _chat(mutation.index[1])
    if chat is None:
        return ()
    return (
        ChatSettings(
            chat=str(chat),
            direct=not chat.is_group,
            at=at,
            archived=archived,
            muted_until=muted_until,
            pinned=pinned,
            unread=unread,
            read_until=read_until,
        ),
    )


def _names(
    jid: Jid, saved: bytes, username: bytes, mutation: Mutation, at: float
) -> tuple[Fact, ...]:
    """The saved name, empty when the contact is gone; the username only where one is told."""
    address, name = str(jid), "" if _removed(mutation) else _text(saved)
    facts = [ContactName(address=address, source=NameSource.SAVED, name=name, at=at)]
    if username and not _removed(mutation):
        user = _text(username)
        facts.append(ContactName(address=address, source=NameSource.USERNAME, name=user, at=at))
    return tuple(facts)


def _pair(number: Jid | None, lid: Jid | None) -> tuple[Fact, ...]:
    if number is None or lid is None or number.is_lid or not lid.is_lid:
        return ()
    return (AddressPair(str(number), str(lid), SOURCE),)


def _chat(text: str) -> Jid | None:
    """A chat that conversations are about: with a person, or a group."""
    try:
        jid = Jid.parse(text).bare
    except RemoteProtocolError:
        return None
    return jid if jid.user and (jid.is_person or jid.is_group) else None


def _person(text: str) -> Jid | None:
    jid = _chat(text)
    return jid if jid is not None and jid.is_person else None


def _removed(mutation: Mutation) -> bool:
    return mutation.operation is Operation.REMOVE


def _text(data: bytes) -> str:
    return readable(data.decode(errors="replace"))[:MAX_TEXT]
