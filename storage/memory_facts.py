"""MemoryStorage: what is known besides messages; the rules of ``sql/facts.sql``."""

import typing as t

from storage.facts import (
    ChatSettings,
    ContactName,
    Delivery,
    Fact,
    GroupChange,
    GroupMember,
    GroupSnapshot,
    Label,
    LabelLink,
    PlaceholderVerdict,
)
from storage.memory_state import Connection, Group, Member, Receipt, newer

SETTINGS: t.Final = ("archived", "muted_until", "pinned", "unread", "read_until", "expiration")

_PARTS: t.Final = ("subject", "description", "announce", "locked", "expiration")


def apply_fact(connection: Connection, fact: Fact) -> bool:
    """Apply a fact; whether the queues are to hear of it."""
    match fact:
        case ContactName():
            newer(connection.names, (fact.address, fact.source), (fact.at, fact.name))
        case Delivery():
            for name in fact.ids:
                key = (name, fact.chat, fact.recipient)
                row = connection.receipts.setdefault(key, Receipt())
                known: float | None = getattr(row, fact.status.value)
                setattr(row, fact.status.value, fact.at if known is None else min(known, fact.at))
            return True
        case GroupSnapshot():
            _snapshot(connection, fact)
        case GroupChange():
            _change(connection, fact)
        case ChatSettings():
            for name in SETTINGS:
                if (value := getattr(fact, name)) is not None:
                    newer(connection.settings, (fact.chat, name), (fact.at, value))
        case Label():
            newer(connection.labels, fact.id, (fact.at, fact.deleted, fact.name, fact.color))
        case LabelLink():
            link = (fact.chat, fact.label, fact.message_id or "")
            newer(connection.links, link, (fact.at, fact.labelled))
        case PlaceholderVerdict():
            _judge(connection, fact)
        case _:
            return True
    return False


def _judge(connection: Connection, fact: PlaceholderVerdict) -> None:
    chat = connection.chat_at(fact.chat)
    sender = connection.contact_at(fact.sender)
    if chat is None or sender is None or chat.direct is not fact.direct:
        return
    message = connection.keys.get((chat.id, sender, fact.external_id))
    if message is not None and message.placeholder:
        message.verdict = fact.verdict


def _group(connection: Connection, fact: GroupSnapshot | GroupChange, **parts: t.Any) -> Group:
    group = connection.groups.setdefault(fact.group, Group(fact.group))
    told = {name: getattr(fact, name) for name in _PARTS} | parts
    for name, value in told.items():
        if value is not None:
            newer(group.parts, name, (fact.at, value))
    return group


def _snapshot(connection: Connection, fact: GroupSnapshot) -> None:
    group = _group(connection, fact, description=fact.description or "")
    if group.members_at is not None and group.members_at >= fact.at:
        return
    group.members_at = fact.at
    group.owner = fact.owner or group.owner
    group.created_at = group.created_at if fact.created_at is None else fact.created_at
    group.members = {name: row for name, row in group.members.items() if row.at > fact.at}
    for member in fact.members:
        group.members.setdefault(member.address, Member(True, member.role, fact.at))


def _change(connection: Connection, fact: GroupChange) -> None:
    group = _group(connection, fact)
    if group.members_at is not None and group.members_at >= fact.at:
        return
    for member in fact.joined:
        _put(group, member, Member(True, member.role, fact.at))
    for address in fact.left:
        _put(group, GroupMember(address=address), Member(False, "member", fact.at))


def _put(group: Group, member: GroupMember, row: Member) -> None:
    known = group.members.get(member.address)
    if known is None or (known.at, known.present, known.role) < (row.at, row.present, row.role):
        group.members[member.address] = row
