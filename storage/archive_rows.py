"""Rows of the database as records of an archive. Pure."""

import collections.abc as cabc
import functools
import json
import typing as t

import attrs

from storage.archive_records import (
    Address,
    Chat,
    ChatSetting,
    Connection,
    Contact,
    Conversation,
    ConversationKey,
    ConversationMerged,
    Group,
    Label,
    LabelLink,
    Media,
    Member,
    Message,
    Name,
    Receipt,
)

Row: t.TypeAlias = cabc.Mapping[str, t.Any]
_R = t.TypeVar("_R")

_MEDIA: t.Final = "media_"  # the columns of the file of a message


def connection_of(row: Row) -> Connection:
    return _same(Connection, row)


def label_of(connection: str, row: Row) -> Label:
    return _same(Label, row, connection=connection)


def contact_of(connection: str, row: Row) -> Contact:
    return Contact(
        connection=connection,
        is_self=row["is_self"],
        created_at=row["created_at"],
        addresses=_gather(Address, row, address="addresses", created_at="address_times"),
        names=_gather(
            Name, row, address="name_addresses", source="sources", name="names", at="name_times"
        ),
    )


def group_of(connection: str, row: Row) -> Group:
    members = _gather(
        Member, row, address="addresses", present="presents", role="roles", at="times"
    )
    return _same(Group, row, connection=connection, members=members)


def chat_of(connection: str, row: Row) -> Chat:
    return _same(Chat, row, connection=connection)


def conversation_of(connection: str, row: Row) -> Conversation:
    return _same(Conversation, row, connection=connection, key=_key(row))


def conversation_merged_of(connection: str, row: Row) -> ConversationMerged:
    return _same(
        ConversationMerged,
        row,
        connection=connection,
        key=_key(row),
        into=_key(row, "into_"),
    )


def message_of(connection: str, row: Row) -> Message:
    detail = row["detail"]
    return _same(
        Message,
        row,
        connection=connection,
        conversation=_key(row, "conversation_"),
        mentions=_tuple(row["mentions"]),
        flags=_tuple(row["flags"]),
        detail=None if detail is None else json.loads(detail),
        media=None if row[_MEDIA + "kind"] is None else _media(row),
    )


def receipt_of(connection: str, row: Row) -> Receipt:
    return _same(Receipt, row, connection=connection)


def label_link_of(connection: str, row: Row) -> LabelLink:
    return _same(LabelLink, row, connection=connection, message_id=row["message_id"] or None)


def chat_setting_of(connection: str, row: Row) -> ChatSetting:
    return _same(ChatSetting, row, connection=connection, value=json.loads(row["value"]))


# ---- parts


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind))


def _same(kind: type[_R], row: Row, **others: t.Any) -> _R:
    """A record whose fields are called like the columns, but for the others."""
    found = {name: row[name] for name in _names(t.cast("type", kind)) if name not in others}
    return kind(**found, **others)


def _media(row: Row) -> Media:
    return Media(**{name: row[_MEDIA + name] for name in _names(Media)})


def _key(row: Row, prefix: str = "") -> ConversationKey:
    return ConversationKey(opened_at=row[prefix + "opened_at"], nth=row[prefix + "nth"])


def _tuple(values: cabc.Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _gather(kind: type[_R], row: Row, **columns: str) -> tuple[_R, ...]:
    """One record for each element of arrays that go together."""
    arrays = [row[column] or () for column in columns.values()]
    return tuple(
        kind(**dict(zip(columns, parts, strict=True))) for parts in zip(*arrays, strict=True)
    )
