"""Records, connections, events, statistics, quarantine: the same on both storages."""

import datetime as dt

import pytest
from st_helpers import ACCOUNT, NOW, Clock, envelope, take

from storage.api import (
    TRAFFIC_KEPT,
    ConnectionEvent,
    Envelope,
    RecordChange,
    RecordKind,
    Storage,
    SyncRun,
    TrafficHour,
    Verdict,
    handled_key,
)
from storage.errors import StorageRejectedError
from whatsapp.proto.records_pb2 import DeviceRecord


def changes(*records: RecordChange, **fields: bool) -> Envelope:
    return Envelope(connection="sales", records=records, **fields)


async def test_records_are_kept_by_kind_and_key(storage: Storage) -> None:
    """Each kind has keys of its own; connections do not see each other's."""
    written = [RecordChange(kind, "1", kind.value.encode()) for kind in list(RecordKind)[1:]]
    [outcome] = await storage.apply([changes(*written)])
    assert outcome.verdict is Verdict.RECORDED
    for change in written:
        asked = ["1", "2"]
        assert await storage.load_records("sales", change.kind, asked) == {"1": change.value}
        assert await storage.load_records("support", change.kind, asked) == {}
    assert await storage.load_records("nobody", RecordKind.SESSION, ["1"]) == {}
    assert await storage.load_records("sales", RecordKind.SESSION, []) == {}


async def test_records_of_a_message_commit_with_it(storage: Storage) -> None:
    """Also those that come with a duplicate."""
    await take(storage, "A1", records=(RecordChange(RecordKind.SESSION, "1.0", b"one"),))
    again = await take(storage, "A1", records=(RecordChange(RecordKind.SESSION, "1.0", b"two"),))
    assert again.verdict is Verdict.DUPLICATE
    assert await storage.load_records("sales", RecordKind.SESSION, ["1.0"]) == {"1.0": b"two"}


async def test_nothing_commits_of_a_rejected_batch(storage: Storage) -> None:
    """No record without its message."""
    record = RecordChange(RecordKind.SESSION, "1.0", b"one")
    with pytest.raises(StorageRejectedError):
        await storage.apply([changes(record), envelope("A1", sender="")])
    assert await storage.load_records("sales", RecordKind.SESSION, ["1.0"]) == {}


async def test_the_last_change_of_a_batch_counts(storage: Storage) -> None:
    """Writes and deletes of one key in one batch end as they would one by one."""
    one, two = (RecordChange(RecordKind.PREKEY, "7", value) for value in (b"1", b"2"))
    gone = RecordChange(RecordKind.PREKEY, "7", None)
    for batch, expected in (
        ([one, two], {"7": b"2"}),
        ([gone], {}),
        ([gone, one], {"7": b"1"}),
        ([two, gone], {}),
        ([gone], {}),
    ):
        await storage.apply([changes(change) for change in batch])
        assert await storage.load_records("sales", RecordKind.PREKEY, ["7"]) == expected


async def test_reset_deletes_what_came_before(storage: Storage) -> None:
    """A new device starts without the old one's records; other connections keep theirs."""
    old = RecordChange(RecordKind.SESSION, "old", b"1")
    new = RecordChange(RecordKind.SESSION, "new", b"2")
    device = RecordChange(RecordKind.DEVICE, "", DeviceRecord(jid=ACCOUNT).SerializeToString())
    await storage.apply([changes(old, device), Envelope(connection="support", records=(old,))])
    await storage.apply([changes(old), changes(new, reset_records=True)])
    assert await storage.load_records("sales", RecordKind.SESSION, ["old", "new"]) == {"new": b"2"}
    assert await storage.load_records("sales", RecordKind.DEVICE, [""]) == {}
    assert await storage.load_records("support", RecordKind.SESSION, ["old"]) == {"old": b"1"}


async def test_paired_once_the_device_has_an_address(storage: Storage) -> None:
    """A device without a JID, or one that cannot be read, is not paired."""
    states = []
    for device in (
        DeviceRecord(version=1),
        DeviceRecord(version=1, jid=ACCOUNT),
        b"\xff\xff not a record",
        None,
    ):
        value = device.SerializeToString() if isinstance(device, DeviceRecord) else device
        await storage.apply([changes(RecordChange(RecordKind.DEVICE, "", value))])
        [row, _support] = await storage.connections()
        states.append((row.paired, row.jid))
        loaded = await storage.load_records("sales", RecordKind.DEVICE, [""])
        assert loaded == ({} if value is None else {"": value})
    assert states == [(False, None), (True, ACCOUNT), (False, None), (False, None)]


async def test_whether_there_are_keys_of_the_app_state(storage: Storage) -> None:
    """Of this connection, and of its present device."""
    assert not await storage.has_app_state_keys("sales")
    await storage.apply([changes(RecordChange(RecordKind.SESSION, "1.0", b"one"))])
    assert not await storage.has_app_state_keys("sales")
    await storage.apply([changes(RecordChange(RecordKind.APP_STATE_KEY, "0a", b"key"))])
    assert await storage.has_app_state_keys("sales")
    assert not await storage.has_app_state_keys("support")
    assert not await storage.has_app_state_keys("nobody")
    await storage.apply([changes(reset_records=True)])
    assert not await storage.has_app_state_keys("sales")


async def test_odd_record_keys(storage: Storage) -> None:
    """Keys are found under what they were written with; too long ones are rejected."""
    key = "120363000000000001@g.us::\0\ud800.1"
    await storage.apply([changes(RecordChange(RecordKind.SENDER_KEY, key, b"x"))])
    assert await storage.load_records("sales", RecordKind.SENDER_KEY, [key]) == {key: b"x"}
    with pytest.raises(StorageRejectedError, match="sender_key key"):
        await storage.apply([changes(RecordChange(RecordKind.SENDER_KEY, "x" * 3000, b"x"))])


async def test_connections_and_counts(storage: Storage) -> None:
    """Counts are each connection's own."""
    await storage.apply([envelope("A1"), envelope("A1"), envelope("A2", sent_at=int(NOW) - 60)])
    await take(storage, "B1", kind="undecryptable")
    await storage.quarantine(envelope("C1", sender=""), "no sender")
    await storage.set_wanted("support", False)
    sales, support = await storage.connections()
    assert (sales.name, sales.wanted, support.name, support.wanted) == (
        "sales",
        True,
        "support",
        False,
    )
    assert (sales.messages, sales.duplicates) == (2, 1)
    assert (sales.undecryptable, sales.quarantined) == (1, 1)
    assert sales.last_message_at == dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert (support.messages, support.last_message_at) == (0, None)


async def test_quarantine_commits_the_rest(storage: Storage) -> None:
    """Records and the handled key of a poisoned envelope are committed; a repeat counts once."""
    poisoned = envelope(
        "A1",
        sender="",
        records=(RecordChange(RecordKind.SESSION, "1.0", b"advanced"),),
        handled=handled_key("c", "s", "A1"),
    )
    for _ in range(2):
        outcome = await storage.quarantine(poisoned, "sender of 0 characters")
        assert (outcome.verdict, outcome.error) == (Verdict.QUARANTINED, "sender of 0 characters")
    assert await storage.load_records("sales", RecordKind.SESSION, ["1.0"]) == {"1.0": b"advanced"}
    assert (await storage.statistics())["quarantined"] == 1
    repeated = await take(storage, "A1", chat="c", sender="s", kind="undecryptable")
    assert repeated.verdict is Verdict.DUPLICATE


async def test_quarantine_of_poisoned_records(storage: Storage) -> None:
    """Records that are the poison are left out, and the error says so."""
    poisoned = envelope("A1", records=(RecordChange(RecordKind.SESSION, "x" * 5000, b"x"),))
    outcome = await storage.quarantine(poisoned, "rejected")
    assert outcome.verdict is Verdict.QUARANTINED
    assert "records are not stored" in (outcome.error or "")


async def test_unknown_connections(storage: Storage) -> None:
    """Every way to write for a connection that does not exist is rejected."""
    event = ConnectionEvent(connection="nobody", previous="a", state="b", reason="c", sentence="d")
    run = SyncRun(connection="nobody", total=1, processed=1, skipped=0, errors=0)
    for call in (
        lambda: storage.quarantine(envelope(connection="nobody"), "error"),
        lambda: storage.set_wanted("nobody", True),
        lambda: storage.record_event(event),
        lambda: storage.record_sync(run),
    ):
        with pytest.raises(StorageRejectedError, match="nobody"):
            await call()
    assert await storage.events("nobody", 5) == []


async def test_events(storage: Storage, clock: Clock) -> None:
    """The newest transitions come first."""
    for number in range(4):
        clock.now += 1
        await storage.record_event(
            ConnectionEvent(
                connection="sales",
                previous="online",
                state="backoff",
                reason="stream_ended",
                sentence=f"The server\0ended the stream {number}.",
                retry=number,
            )
        )
    newest, older = await storage.events("sales", 2)
    assert (newest["retry"], older["retry"]) == (3, 2)
    assert newest == {
        "at": dt.datetime.fromtimestamp(NOW + 4, dt.UTC),
        "connection": "sales",
        "previous": "online",
        "state": "backoff",
        "reason": "stream_ended",
        "sentence": "The server␀ended the stream 3.",
        "retry": 3,
        "until": None,
    }
    assert await storage.events("support", 2) == []


async def test_the_state_from_before_the_daemon_stopped(storage: Storage, clock: Clock) -> None:
    """The newest transition that is not the daemon's end, with its own time and its end."""
    [sales, support] = await storage.connections()
    assert (sales.state, sales.reason, sales.sentence, sales.until) == (None, "", "", None)
    for at, state, reason, until in (
        (NOW - 9.0, "online", "online", None),
        (NOW - 5.0, "banned", "temporarily_banned", NOW + 3600.5),
        (NOW - 3.0, "stopped", "shutdown", None),
    ):
        await storage.record_event(
            ConnectionEvent(
                connection="sales",
                previous="",
                state=state,
                reason=reason,
                sentence=f"It is {state}.",
                at=at,
                until=until,
            )
        )
    [sales, support] = await storage.connections()
    end = dt.datetime.fromtimestamp(NOW + 3600.5, dt.UTC)
    assert (sales.state, sales.reason) == ("banned", "temporarily_banned")
    assert (sales.sentence, sales.until) == ("It is banned.", end)
    assert support.state is None
    shutdown, banned, _online = await storage.events("sales", 9)
    assert banned["until"] == end
    assert (shutdown["at"], shutdown["until"]) == (dt.datetime.fromtimestamp(NOW - 3, dt.UTC), None)


async def test_statistics(storage: Storage) -> None:
    """The newest sync run is part of them."""
    empty = await storage.statistics()
    assert empty == {
        "messages": 0,
        "duplicates": 0,
        "undecryptable": 0,
        "quarantined": 0,
        "conversations": {"waiting": 0, "open": 0, "closed": 0},
        "reopened": 0,
        "gaps": dict.fromkeys(
            ("open", "missing", "waiting", "in_quarantine", "device_replaced", "ongoing"), 0
        ),
        "sync": None,
    }
    for total in (1, 2):
        await storage.record_sync(
            SyncRun(connection="sales", total=total, processed=1, skipped=0, errors=0)
        )
    assert (await storage.statistics())["sync"] == {
        "at": dt.datetime.fromtimestamp(NOW, dt.UTC),
        "connection": "sales",
        "total": 2,
        "processed": 1,
        "skipped": 0,
        "errors": 0,
    }


async def test_traffic(storage: Storage) -> None:
    """Hour by hour, each connection by itself; a day and five weeks later the first are gone."""
    assert await storage.load_traffic("sales") == []
    first = [TrafficHour(100, 7, 30.0), TrafficHour(101, 0, 60.0)]
    await storage.save_traffic("sales", first)
    await storage.save_traffic("support", [TrafficHour(100, 1, 2.0)])
    await storage.save_traffic("sales", [TrafficHour(100, 58, 15.5), TrafficHour(102, 60, 60.0)])
    known = [TrafficHour(100, 60, 45.5), TrafficHour(101, 0, 60.0), TrafficHour(102, 60, 60.0)]
    assert await storage.load_traffic("sales") == known
    await storage.save_traffic("sales", [])
    await storage.save_traffic("sales", [TrafficHour(101 + TRAFFIC_KEPT, 1, 60.0)])
    hours = [each.hour for each in await storage.load_traffic("sales")]
    assert hours == [101, 102, 101 + TRAFFIC_KEPT]
    assert await storage.load_traffic("support") == [TrafficHour(100, 1, 2.0)]
    await storage.save_traffic("nobody", first)
    assert await storage.load_traffic("nobody") == []


async def test_ping(storage: Storage) -> None:
    """A round trip takes some time, and not long."""
    assert 0 <= await storage.ping() < 5
