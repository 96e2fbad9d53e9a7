"""The proof: the simulator's ledger against the rows of the database, one by one.

The ledger knows every message that the server owed to a connection and what the customer wrote.
A message is found when a row has its connection, chat, author, id and text. Nothing is taken
from counters.
"""

import collections
import collections.abc as cabc
import typing as t

import attrs

from actors.notices import CALL, SYSTEM
from simulator.core import Simulator
from simulator.errors import UnknownNameError
from simulator.model import Account
from storage.api import MessageRow, Storage
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid

PAGE: t.Final = 2000  # rows
FROM_THE_SERVER: t.Final = (SYSTEM, CALL)  # kinds of rows that no phone wrote

Key: t.TypeAlias = tuple[str, str, str, str]
"""Connection, chat, author, id; persons by their phone number."""


@attrs.frozen(kw_only=True)
class Audit:
    """How ledger and database compare."""

    offered: int  # messages the server owed to connections
    stored: int  # of those, found with the right text
    lost: int  # of those, not found, or with another text
    stored_twice: int  # rows beyond the first for the same message
    unexpected: int  # rows that nobody sent

    @property
    def agrees(self) -> bool:
        """Whether everything that was sent is there once, and nothing else is."""
        return self.offered > 0 and not (self.lost or self.stored_twice or self.unexpected)


async def audit(
    simulator: Simulator,
    storage: Storage,
    accounts: cabc.Mapping[str, Account],
    skip: cabc.Mapping[str, int],
) -> Audit:
    """Compare.

    Args:
        simulator: holds the ledger.
        storage: holds the rows.
        accounts: whose phone each connection is linked to, by the connection's name.
        skip: the id up to which a connection's rows are older than the simulator.
    """
    texts = _expected(simulator, accounts)
    found: collections.Counter[Key] = collections.Counter()
    right: set[Key] = set()
    unexpected = 0
    for name in accounts:
        async for row in rows_of(storage, name, skip.get(name, 0)):
            if row.kind in FROM_THE_SERVER:
                continue
            key = key_of(simulator, row)
            if key not in texts:
                unexpected += 1
                continue
            found[key] += 1
            if row.text == texts[key]:
                right.add(key)
    return Audit(
        offered=len(texts),
        stored=len(right),
        lost=len(texts) - len(right),
        stored_twice=sum(count - 1 for count in found.values()),
        unexpected=unexpected,
    )


def _expected(simulator: Simulator, accounts: cabc.Mapping[str, Account]) -> dict[Key, str | None]:
    names = {account.pn: name for name, account in accounts.items()}
    ledger = simulator.ledger
    texts: dict[Key, str | None] = {}
    for record in ledger.records():
        if (name := names.get(record.device.bare)) is not None:
            written = ledger.text(record)
            key = (name, str(record.chat), str(record.letter.author), record.letter.id)
            texts[key] = None if written is None else written.text
    return texts


async def newest_ids(storage: Storage, names: cabc.Iterable[str]) -> dict[str, int]:
    """The newest message id of each connection."""
    newest = {}
    for name in names:
        newest[name] = 0
        async for row in rows_of(storage, name, 0):
            newest[name] = row.id
    return newest


async def rows_of(storage: Storage, name: str, after: int) -> cabc.AsyncIterator[MessageRow]:
    """The messages of a connection whose id is above ``after``, by id."""
    while page := await storage.list_messages(name, after=after, limit=PAGE):
        for row in page:
            yield row
        after = page[-1].id


def key_of(simulator: Simulator, row: MessageRow) -> Key:
    """How the ledger would call this row."""
    authors = {by_number(simulator, address) for address in row.senders}
    author = authors.pop() if len(authors) == 1 else f"several people: {sorted(authors)}"
    return row.connection, by_number(simulator, row.chat), author, row.external_id


def by_number(simulator: Simulator, address: str) -> str:
    """A person's address by phone number, whichever of theirs it is; others as they are."""
    try:
        jid = Jid.parse(address)
        return str(simulator.world.account(jid).pn) if jid.is_person else address
    except (UnknownNameError, RemoteProtocolError):
        return address
