"""A stored message read once more: where it was written, from its row."""

import collections.abc as cabc
import typing as t

from actors.reading import Origin
from storage.api import ConnectionRow, Lane, ReceivedMessage
from storage.inbox import Inbox, StoredMessage, WaitingPlaceholder
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid


def origin_of_row(
    stored: StoredMessage | WaitingPlaceholder, own: cabc.Sequence[Jid]
) -> Origin | None:
    """Where a stored message was written; None when its row does not tell in full.

    ``own`` are the account's bare addresses, the phone number's first; of our own messages the
    row knows them too.
    """
    try:
        chat = Jid.parse(stored.chat)
        chat_alt = None if stored.chat_alt is None else Jid.parse(stored.chat_alt)
        senders = [Jid.parse(address) for address in stored.senders]
    except RemoteProtocolError:
        return None
    addresses = tuple(own) or tuple(senders if stored.from_me else ())
    if not senders or not addresses:
        return None
    return Origin(
        chat=chat,
        chat_alt=chat_alt,
        sender=senders[0],
        sender_alt=next(iter(senders[1:]), None),
        from_me=stored.from_me,
        own=addresses,
        id=stored.external_id,
        timestamp=int(stored.sent_at.timestamp()),
        lane=Lane(stored.lane) if isinstance(stored, StoredMessage) else Lane.LIVE,
    )


def origin_of_message(message: ReceivedMessage, own: cabc.Sequence[Jid]) -> Origin | None:
    """Where a message was written, from what was kept of it; None when that does not tell.

    ``own`` are the account's bare addresses, the phone number's first.
    """
    try:
        chat, sender = Jid.parse(message.chat), Jid.parse(message.sender)
        chat_alt = None if message.chat_alt is None else Jid.parse(message.chat_alt)
        sender_alt = None if message.sender_alt is None else Jid.parse(message.sender_alt)
    except RemoteProtocolError:
        return None
    if not own:
        return None
    return Origin(
        chat=chat,
        chat_alt=chat_alt,
        sender=sender,
        sender_alt=sender_alt,
        from_me=message.from_me,
        own=tuple(own),
        id=message.external_id,
        timestamp=message.sent_at,
        push_name=message.sender_name,
        lane=message.lane,
    )


class Rows(Inbox, t.Protocol):
    """The part of storage in which stored messages and their accounts are found."""

    async def connections(self) -> list[ConnectionRow]:
        """Every connection."""
        ...


async def own_addresses(storage: Rows) -> dict[str, tuple[Jid, ...]]:
    """The bare addresses of each connection's account, the phone number's first; connections
    that were never paired have none.

    Raises:
        StorageUnavailableError: see `Inbox`.
    """
    found: dict[str, tuple[Jid, ...]] = {}
    for row in await storage.connections():
        if row.jid is None:
            continue
        number = Jid.parse(row.jid).bare
        person = await storage.contact(row.name, str(number))
        others = () if person is None else (Jid.parse(address) for address in person.addresses)
        found[row.name] = (number, *(jid for jid in others if jid != number))
    return found
