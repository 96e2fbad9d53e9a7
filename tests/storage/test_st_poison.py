"""Poison in a batch, on a real server, through the real writer: it alone is set aside, and it
gets out again once the cause is gone."""

import attrs
import trio
from st_helpers import NOW, Cluster, envelope

from actors.messages import Commit, Drain, Settled
from actors.restoring import Restorer
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from storage.api import Envelope, Lane, RecordChange, RecordKind, Verdict
from storage.facts import Label
from storage.postgres import PostgresStorage

BAD = "poison"


def session(key: str, value: bytes = b"stepped") -> RecordChange:
    """A Signal record."""
    return RecordChange(RecordKind.SESSION, key, value)


async def test_poison_of_every_kind(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    """A text, a message of the history, facts and records that PostgreSQL refuses, each between
    good ones, in one batch: every good one is stored, every bad one kept, and no fourth thing."""
    await cluster.script(
        dsn,
        f"ALTER TABLE messages ADD CONSTRAINT no_poison CHECK (text <> '{BAD}');"
        f"ALTER TABLE labels ADD CONSTRAINT no_poison CHECK (name <> '{BAD}');"
        f"ALTER TABLE signal_sessions ADD CONSTRAINT no_poison CHECK (key <> '{BAD}')",
    )
    label = Label(id="1", name=BAD, at=NOW)
    envelopes = [
        envelope("G1", records=(session("g1"),)),
        envelope("BAD-TEXT", text=BAD, records=(session("bad-text"),)),
        envelope("G2"),
        envelope("BAD-HISTORY", text=BAD, lane=Lane.HISTORY),
        Envelope(connection="sales", facts=(label,), stanza=b"notification"),
        envelope("G3", lane=Lane.HISTORY),
        attrs.evolve(envelope("BAD-FACTS"), facts=(label,)),
        envelope("BAD-RECORDS", records=(session(BAD),)),
        Envelope(connection="support", records=(session("s1"),)),
        envelope("G4", connection="support"),
    ]
    inbox = writer_inbox()
    writer = Writer(postgres, inbox, WriterSettings(), uniform=lambda: 0.5)
    reply, answers = trio.open_memory_channel[Settled](100)
    for ticket, item in enumerate(envelopes):
        await inbox.post(Commit(item, ticket, reply))
    await inbox.post(Drain())
    with trio.fail_after(60):
        await writer.run()
    settled = [answers.receive_nowait() for _ in envelopes]
    verdicts = {answer.ticket: answer.outcome and answer.outcome.verdict for answer in settled}
    bad = {1, 3, 4, 6, 7}
    assert {ticket for ticket, each in verdicts.items() if each is Verdict.QUARANTINED} == bad
    assert set(verdicts) == set(range(10))
    assert await stored(postgres, "sales") == ["G1", "G2", "G3"]
    assert await stored(postgres, "support") == ["G4"]
    # What was decrypted is kept; the keys that opened it are used, and committed with it.
    records = await postgres.load_records("sales", RecordKind.SESSION, ["g1", "bad-text"])
    assert set(records) == {"g1", "bad-text"}
    rows = {row.external_id: row for row in await postgres.quarantined()}
    assert set(rows) == {"BAD-TEXT", "BAD-HISTORY", "BAD-FACTS", "BAD-RECORDS", None}
    assert {key: row.way_out for key, row in rows.items() if key} == dict.fromkeys(
        ("BAD-TEXT", "BAD-HISTORY", "BAD-FACTS", "BAD-RECORDS"), "message"
    )
    assert rows[None].way_out == "stanza"
    assert "its facts and records are not stored" in rows["BAD-RECORDS"].error
    # PostgreSQL's DETAIL shows the whole row: what it says is in no error, hence in no log.
    assert not [row.error for row in rows.values() if BAD in row.error.replace("no_poison", "")]

    await cluster.script(dsn, "ALTER TABLE messages DROP CONSTRAINT no_poison")
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        restorer = Restorer(postgres, inbox, NoFleet())
        for key in ("BAD-TEXT", "BAD-HISTORY", "BAD-FACTS", "BAD-RECORDS"):
            row = await restorer.retry(rows[key].id)
            assert row is not None
            assert (row.way_out, row.resolution) == ("resolved", "stored"), key
        nursery.cancel_scope.cancel()
    assert sorted(await stored(postgres, "sales")) == [
        "BAD-FACTS", "BAD-HISTORY", "BAD-RECORDS", "BAD-TEXT", "G1", "G2", "G3",
    ]  # fmt: skip
    [sales, _support] = await postgres.connections()
    assert sales.quarantined == len(await postgres.quarantined("sales")) == 1


class NoFleet:
    """Nothing here is read again over a connection."""

    async def replay(self, name: str, replay: object) -> None:
        raise AssertionError(name, replay)


async def stored(storage: PostgresStorage, connection: str) -> list[str]:
    """The ids of all messages, in their order."""
    rows = await storage.list_messages(connection, after=0, limit=100)
    return [row.external_id for row in rows]
