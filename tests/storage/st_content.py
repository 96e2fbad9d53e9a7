"""What a storage has to show of a connection, in a form that two runs can be compared by."""

import typing as t

import attrs

from storage.api import Storage

# Depend on what arrived first, or when: not part of what was said.
_VOLATILE = ("id", "conversation", "received_at", "retries", "contact", "chat_id", "created_at")


async def content(storage: Storage, connection: str, *, lanes: bool = False) -> dict[str, t.Any]:
    """Messages as they read now, people, groups and chats, without ids and times of arrival."""
    rows = await storage.list_messages(connection, after=0, limit=10_000)
    messages = []
    for row in rows:
        detail = await storage.message(row.id)
        assert detail is not None
        shown = plain(attrs.asdict(detail))
        if not lanes and shown["lane"] != "side":
            shown.pop("lane")
        messages.append(shown)
    conversations = await storage.conversations(status=None, connection=connection, limit=1000)
    live = [row.chat for row in conversations if row.status != "closed"]
    assert len(live) == len(set(live)), "two live conversations of one chat"
    chats = [
        plain(attrs.asdict(await existing(storage.chat(connection, name))))
        for name in sorted({row.chat for row in conversations})
    ]
    groups = await storage.groups(connection, limit=100)
    people = await storage.contacts(connection, limit=500)
    return {
        "messages": sorted(messages, key=repr),
        "chats": chats,
        "groups": [
            plain(attrs.asdict(await existing(storage.group(connection, row.address))))
            for row in groups
        ],
        "people": sorted(
            ({**plain(attrs.asdict(row)), "chat": row.chat is not None} for row in people),
            key=repr,
        ),
        "labels": [attrs.asdict(row) for row in await storage.labels(connection)],
    }


async def existing(call: t.Awaitable[t.Any]) -> t.Any:
    """What a look-up gives; it is there."""
    found = await call
    assert found is not None
    return found


def plain(value: t.Any) -> t.Any:
    """Without what one storage or one order of arrival has for itself."""
    match value:
        case dict():
            return {
                name: plain(item)
                for name, item in value.items()
                if name not in _VOLATILE and name != "connection"
            }
        case list() | tuple():
            return [plain(item) for item in value]
    return value
