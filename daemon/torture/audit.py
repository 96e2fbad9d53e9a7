"""The proof: what people did, by the simulator's ledger and phones, against the database's rows.

Order. An agent reads a conversation by WhatsApp's time, whole seconds, and within a second by
arrival. Two neighbours of one author in one chat are *out of order* when they stand there the
other way round than they were written. One excuse counts: within one second the server itself
offered the later one first (the fault ``reorder``); then nobody but the author could know, and
the pair is counted apart. A message that came late for any other reason (a kill before its
commit, a ciphertext that had to be sent again) is no excuse: its place is kept by its
placeholder, or the server offers again in its own order.
"""

import collections
import collections.abc as cabc
import itertools
import typing as t

import attrs

from actors.notices import CALL, SYSTEM
from daemon.demo.audit import Key, key_of, rows_of
from daemon.torture.load import Load, Send
from simulator.core import Simulator
from simulator.ledger import Record
from simulator.model import Account
from storage.api import UNDECRYPTABLE, MessageRow, Storage
from storage.gaps import GapRow
from storage.queues import OutboxRow, OutboxState

FROM_THE_SERVER: t.Final = (SYSTEM, CALL)  # kinds of rows that no phone wrote
SHOWN: t.Final = ("text", "image")
"""What the ledger calls messages that stand in a conversation and have a text of their own."""
PERHAPS: t.Final = (OutboxState.QUEUED, OutboxState.FAILED)
"""A message to send is in its conversation from the commit before it leaves; before, not."""
ARRIVED: t.Final = (OutboxState.SENT, OutboxState.DELIVERED, OutboxState.READ)
PAGE: t.Final = 200  # rows


_Outbox: t.TypeAlias = cabc.Mapping[tuple[str, str], OutboxRow]
"""By connection and idempotency key."""


@attrs.frozen(kw_only=True)
class _Owed:
    """A message that has to be there."""

    text: str | None  # None: whatever it is
    record: Record | None = None
    number: int = 0  # in the order of writing
    shown: bool = False  # counts for the order


@attrs.define(kw_only=True)
class Findings:
    """How it compares."""

    offered: int = 0
    stored: int = 0
    lost: int = 0
    stored_twice: int = 0
    out_of_order: int = 0
    reordered_by_server: int = 0
    unexpected: int = 0
    undecryptable_left: int = 0
    outbox_sent_twice: int = 0
    outbox_lost: int = 0
    outbox_waiting: int = 0
    outbox_unknown: int = 0
    outbox_failed: int = 0
    discrepancies: list[str] = attrs.field(factory=list)
    """A sentence for each thing that is wrong."""


async def compare(
    simulator: Simulator, storage: Storage, team: cabc.Mapping[str, Account], load: Load
) -> Findings:
    """Go through everything. ``team``: the accounts of the connections, by name."""
    findings = Findings()
    outbox = {(name, row.key): row for name in team async for row in _outbox(storage, name)}
    owed, perhaps = _owed(simulator, team, load, outbox)
    found: collections.Counter[Key] = collections.Counter()
    right: set[Key] = set()
    conversations: dict[tuple[str, ...], list[tuple[MessageRow, _Owed]]] = {}
    for name in team:
        async for row in rows_of(storage, name, 0):
            if row.kind in FROM_THE_SERVER:
                continue
            key = key_of(simulator, row)
            expected = owed.get(key)
            if row.kind == UNDECRYPTABLE:
                findings.undecryptable_left += 1
                findings.discrepancies.append(f"undecryptable to the end: {_shown(key)}")
            if expected is None:
                if key in perhaps:
                    continue
                findings.unexpected += 1
                findings.discrepancies.append(f"nobody wrote it: {_shown(key)}, kind {row.kind}")
                continue
            found[key] += 1
            if row.kind != UNDECRYPTABLE and expected.text in (None, row.text):
                right.add(key)
            if expected.shown:
                conversations.setdefault(key[:3], []).append((row, expected))
    findings.offered, findings.stored = len(owed), len(right)
    findings.lost = len(owed) - len(right)
    for key in owed:
        if key not in right:
            what = "with another content" if found[key] else "not there"
            findings.discrepancies.append(f"lost, {what}: {_shown(key)}{_fate(owed[key])}")
    for key, count in found.items():
        if count > 1:
            findings.stored_twice += count - 1
            findings.discrepancies.append(f"stored {count} times: {_shown(key)}")
    for key3, rows in conversations.items():
        _judge_order(findings, key3, rows)
    _judge_outbox(findings, outbox, team, load)
    return findings


async def open_gaps(storage: Storage, names: cabc.Container[str]) -> int:
    """How many outages of these connections are over, and not closed in the gap ledger.

    Those do not count that only stanzas in the quarantine keep open: such stanzas were offered,
    and nobody takes them out.
    """
    found, before = 0, None
    while page := await storage.gaps(None, open_only=True, before=before, limit=PAGE):
        found += sum(row.connection in names and _is_owed(row) for row in page)
        before = page[-1].id
    return found


def _is_owed(row: GapRow) -> bool:
    uncovered = row.interrupted and row.covered_by is None
    waits = row.missing or row.waiting or row.device_replaced or uncovered
    return row.to_at is not None and bool(waits or not row.in_quarantine)


def _owed(
    simulator: Simulator, team: cabc.Mapping[str, Account], load: Load, outbox: _Outbox
) -> tuple[dict[Key, _Owed], set[Key]]:
    """Everything that has to be in the database, and what may be there."""
    names = {account.pn: name for name, account in team.items()}
    owed: dict[Key, _Owed] = {}
    ledger = simulator.ledger
    for number, record in enumerate(ledger.records()):
        if (name := names.get(record.device.bare)) is None:
            continue
        read = ledger.text(record)
        shown = read is not None and read.kind in SHOWN
        text = read.text if read is not None and shown else None
        key = (name, str(record.chat), str(record.letter.author), record.letter.id)
        owed[key] = _Owed(text=text, record=record, number=number, shown=shown)
    for key, text in load.history.items():
        owed[key] = _Owed(text=text)
    perhaps: set[Key] = set()
    for idempotency_key, send in load.sends.items():
        own = str(team[send.connection].pn)
        key = (send.connection, str(send.to), own, send.external_id)
        row = outbox.get((send.connection, idempotency_key))
        if row is not None and row.state in PERHAPS:
            perhaps.add(key)
        else:
            owed[key] = _Owed(text=send.text)
    return owed, perhaps


def _judge_order(
    findings: Findings, key: tuple[str, ...], rows: list[tuple[MessageRow, _Owed]]
) -> None:
    """Neighbours of one author in one chat, as an agent reads them."""
    rows.sort(key=lambda pair: (pair[0].sent_at, pair[0].id))
    for (_, before), (row, after) in itertools.pairwise(rows):
        if before.number < after.number:
            continue
        if _server_swapped(written_first=after.record, written_second=before.record):
            findings.reordered_by_server += 1
            continue
        findings.out_of_order += 1
        where = _shown((*key[:3], row.external_id))
        findings.discrepancies.append(f"out of order, should stand further up: {where}")


def _server_swapped(*, written_first: Record | None, written_second: Record | None) -> bool:
    """Whether the server offered them the other way round, within one second of its time."""
    if written_first is None or written_second is None:
        return False
    first, second = written_first.first_offered_at, written_second.first_offered_at
    same_second = written_first.sent_at == written_second.sent_at
    return same_second and first is not None and second is not None and second < first


def _judge_outbox(
    findings: Findings, rows: _Outbox, team: cabc.Mapping[str, Account], load: Load
) -> None:
    """Every message of the API's: at most once with each recipient, and there if it says so.

    What a recipient could not read and asked for again is no second message: it has the same id.
    """
    for (name, key), outbox_row in rows.items():
        findings.outbox_unknown += outbox_row.state == OutboxState.UNKNOWN
        findings.outbox_waiting += outbox_row.state == OutboxState.QUEUED
        if outbox_row.state == OutboxState.FAILED:
            findings.outbox_failed += 1
            findings.discrepancies.append(f"{key} of {name} failed: {outbox_row.reason}")
    for key in load.conflicting:
        findings.outbox_sent_twice += 1
        findings.discrepancies.append(f"one key, two messages: {key}")
    phones = (*load.customers, *team.values())
    copies = collections.Counter(
        (account.pn, author, message_id)
        for account in phones
        for author, message_id in account.phone.arrivals
    )
    read: dict[tuple[t.Any, ...], set[str]] = collections.defaultdict(set)  # ids
    for account in phones:
        for received in account.phone.inbox:
            read[account.pn, received.sender, received.text].add(received.id)
    for key, send in load.sends.items():
        row = rows.get((send.connection, key))
        for phone in _recipients(send, team, load):
            own = team[send.connection].pn
            ids = read[phone.pn, own, send.text]
            count = max(len(ids), copies[phone.pn, own, send.external_id])
            who = f"{key} of {send.connection} to {phone.name}"
            if count > 1:
                findings.outbox_sent_twice += 1
                findings.discrepancies.append(f"arrived {count} times: {who}")
            elif not ids and (row is None or row.state in ARRIVED):
                state = "has no row" if row is None else f"is {row.state}"
                findings.outbox_lost += 1
                findings.discrepancies.append(f"never arrived, but {state}: {who}")


def _recipients(send: Send, team: cabc.Mapping[str, Account], load: Load) -> list[Account]:
    if send.to.is_group:
        own = team[send.connection]
        return [account for account in load.group.members.values() if account is not own]
    return [account for account in load.customers if account.pn == send.to]


async def _outbox(storage: Storage, name: str) -> cabc.AsyncIterator[OutboxRow]:
    before: int | None = None
    while page := await storage.outbox_list(name, state=None, before=before, limit=PAGE):
        for row in page:
            yield row
        before = page[-1].id


def _shown(key: cabc.Sequence[str]) -> str:
    connection, chat, author, message_id = key
    return f"message {message_id} of {author} in {chat} at {connection}"


def _fate(owed: _Owed) -> str:
    """What the server knows of it."""
    if (record := owed.record) is None:
        return ""
    answered = "not acknowledged" if record.acknowledged_at is None else "acknowledged"
    return (
        f" (offered {record.offered} times, {record.corrupted} of them broken,"
        f" sent again {record.resent} times, {answered})"
    )
