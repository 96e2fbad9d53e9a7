"""MemoryStorage: people, groups, chats and labels for reading."""

import collections.abc as cabc
import typing as t

from storage.inbox import (
    ChatDetail,
    ContactDetail,
    GroupDetail,
    GroupPerson,
    LabelRow,
    MergeRow,
    shown_address,
)
from storage.memory_details import person_at
from storage.memory_state import SELF, Chat, Connection, Group, Merge, optional_utc, utc


def contact_detail(owner: Connection, contact: int) -> ContactDetail:
    addresses = owner.addresses_of(contact)
    chat = owner.chats.get(contact)
    names = owner.names_of(contact)
    return ContactDetail(
        id=contact,
        connection=owner.name,
        name=owner.name_of(contact),
        names={source.value: name for source, name in names.items()},
        addresses=addresses,
        shown=shown_address(addresses),
        is_self=contact == SELF,
        chat=None if chat is None else chat.id,
        created_at=utc(owner.contacts[contact].created_at),
    )


def merge_row(owner: Connection, merge: Merge) -> MergeRow:
    return MergeRow(
        id=merge.id,
        connection=owner.name,
        survivor=merge.survivor,
        merged=merge.merged,
        addresses=tuple(merge.addresses),
        messages=len(merge.messages),
        duplicates=len(merge.duplicates),
        source=merge.source,
        merged_at=utc(merge.merged_at),
        undone_at=optional_utc(merge.undone_at),
    )


def group_detail(owner: Connection, group: Group, *, members: bool) -> GroupDetail:
    parts = {name: value for name, (_at, value) in group.parts.items()}
    return GroupDetail(
        connection=owner.name,
        address=group.address,
        subject=parts.get("subject"),
        description=parts.get("description"),
        owner=None if group.owner is None else person_at(owner, group.owner),
        created_at=optional_utc(group.created_at),
        announce=parts.get("announce"),
        locked=parts.get("locked"),
        expiration=parts.get("expiration"),
        members=_members(owner, group) if members else (),
    )


def _members(owner: Connection, group: Group) -> tuple[GroupPerson, ...]:
    """Of a person's addresses the one heard of last tells."""
    last: dict[int | str, tuple[float, bool, str, str]] = {}
    for address, row in group.members.items():
        contact = owner.contact_at(address)
        key = address if contact is None else contact
        state = (row.at, row.present, row.role, address)
        last[key] = max(last.get(key, state), state)
    return tuple(
        GroupPerson(person=person_at(owner, address), role=role)
        for _at, present, role, address in sorted(last.values(), key=lambda item: item[3])
        if present
    )


def chat_detail(owner: Connection, chat: Chat) -> ChatDetail:
    addresses = (chat.address,) if chat.contact is None else owner.addresses_of(chat.contact)
    newest: dict[str, tuple[float, t.Any]] = {}
    for (address, name), dated in owner.settings.items():
        if address in addresses:
            newest[name] = max(newest.get(name, dated), dated)
    told: dict[str, t.Any] = {name: value for name, (_at, value) in newest.items()}
    muted = told.get("muted_until")
    return ChatDetail(
        connection=owner.name,
        address=chat.address,
        title=owner.title(chat),
        direct=chat.direct,
        archived=told.get("archived"),
        muted_until=utc(muted) if muted and muted > 0 else None,
        muted=None if muted is None else muted != 0,
        pinned=told.get("pinned"),
        unread=told.get("unread"),
        read_until=optional_utc(told.get("read_until")),
        expiration=told.get("expiration"),
        labels=tuple(label_rows(owner, addresses)),
    )


def label_rows(owner: Connection, addresses: cabc.Container[str] | None) -> list[LabelRow]:
    """The labels that are not deleted; only those on a chat, when its addresses are given."""
    newest: dict[str, tuple[float, bool]] = {}
    for (chat, label, message), dated in owner.links.items():
        if addresses is not None and not message and chat in addresses:
            newest[label] = max(newest.get(label, dated), dated)
    return [
        LabelRow(id=name, name=text, color=color)
        for name, (_at, deleted, text, color) in sorted(owner.labels.items())
        if not deleted and (addresses is None or newest.get(name, (0, False))[1])
    ]
