"""Whether a database is older than what is remembered of it."""

import collections.abc as cabc
import json
import os
import pathlib
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from st_helpers import CUSTOMER, KEY, Clock, Cluster

from storage.api import Envelope, RecordChange, RecordKind, Storage
from storage.epochs import FILE, Epoch, EpochFileError, read_epoch, write_epoch
from storage.postgres import PostgresStorage
from storage.queues import OutboxRequest

OWN = ["15559990000.7", "900.7"]
GROUP = "120@g.us"


async def pair(storage: Storage, connection: str = "sales") -> None:
    """A device with a session, prekeys, an own sender key and one of somebody else."""
    records = (
        RecordChange(RecordKind.DEVICE, "", b"device"),
        RecordChange(RecordKind.SESSION, "15550001111.0", b"session"),
        RecordChange(RecordKind.IDENTITY, "15550001111.0", b"identity"),
        RecordChange(RecordKind.PREKEY, "1", b"prekey"),
        RecordChange(RecordKind.SENDER_KEY, f"{GROUP}::{OWN[0]}", b"own"),
        RecordChange(RecordKind.SENDER_KEY, f"{GROUP}::distributed", b"holders"),
        RecordChange(RecordKind.SENDER_KEY, f"{GROUP}::15550001111.0", b"theirs"),
    )
    await storage.apply([Envelope(connection=connection, records=records)])
    await storage.begin_epoch(None)


async def step(storage: Storage, remembered: Epoch | None) -> Epoch:
    following = await storage.advance_epoch(remembered)
    assert following is not None
    return following


async def marked(storage: Storage) -> list[tuple[str, bool]]:
    return [(each.connection, each.accepted) for each in await storage.stale_keys()]


async def test_usual_starts(storage: Storage) -> None:
    """Nothing remembered, the same, an older file, another database: all is trusted."""
    await pair(storage)
    begun = await storage.begin_epoch(None)
    assert (begun.epoch, begun.behind) == (0, False)
    first = await step(storage, None)
    second = await step(storage, first)
    assert (first.epoch, second.epoch) == (1, 2)
    for remembered in (None, first, second, Epoch(database="another", epoch=99)):
        assert not (await storage.begin_epoch(remembered)).behind
        assert await storage.stale_keys() == []
    other = await step(storage, Epoch(database="another", epoch=99))
    assert (other.database, other.epoch) == (first.database, 3)


async def test_an_older_database(storage: Storage) -> None:
    """It marks what is paired, again at each start; neither side moves meanwhile."""
    await pair(storage)
    known = await step(storage, None)
    ahead = Epoch(database=known.database, epoch=9)
    for _start in range(2):
        begun = await storage.begin_epoch(ahead)
        assert (begun.epoch, begun.behind) == (1, True)
        assert await marked(storage) == [("sales", False)]
        assert await storage.advance_epoch(ahead) is None
    assert await storage.stale_keys("support") == []
    assert [each.connection for each in await storage.stale_keys("sales")] == ["sales"]
    await storage.keys_renewed("sales")  # nobody has accepted it: it stays
    assert await marked(storage) == [("sales", False)]


async def test_acceptance(storage: Storage) -> None:
    """What could be used twice goes, the rest stays; from then on this database is the newer."""
    await pair(storage)
    await pair(storage, "support")
    request = OutboxRequest(kind="text", chat=CUSTOMER, body={"text": "oi"})
    queued, _new = await storage.enqueue("sales", "k", request, external_id="O1")
    known = await step(storage, None)
    ahead = Epoch(database=known.database, epoch=9)
    await storage.begin_epoch(ahead)
    assert not await storage.renew_keys("nobody", b"x", OWN, "why")
    assert await storage.renew_keys("sales", b"renewed", OWN, "why")
    assert await marked(storage) == [("sales", True), ("support", False)]
    left = {
        (RecordKind.DEVICE, ""): b"renewed",
        (RecordKind.SESSION, "15550001111.0"): None,
        (RecordKind.IDENTITY, "15550001111.0"): b"identity",
        (RecordKind.PREKEY, "1"): b"prekey",
        (RecordKind.SENDER_KEY, f"{GROUP}::{OWN[0]}"): None,
        (RecordKind.SENDER_KEY, f"{GROUP}::distributed"): None,
        (RecordKind.SENDER_KEY, f"{GROUP}::15550001111.0"): b"theirs",
    }
    for (kind, key), value in left.items():
        assert (await storage.load_records("sales", kind, [key])).get(key) == value
        assert key in await storage.load_records("support", kind, [key])
    row = await storage.outbox_row("sales", queued.id)
    assert row is not None
    assert (row.state, row.reason) == ("unknown", "why")
    begun = await storage.begin_epoch(ahead)
    assert (begun.epoch, begun.behind) == (10, False)
    following = await step(storage, ahead)
    assert following.epoch == 11
    await storage.keys_renewed("sales")
    assert await marked(storage) == [("support", False)]
    assert not (await storage.begin_epoch(following)).behind


async def test_pairing_anew_is_a_cure(storage: Storage) -> None:
    """The mark goes with the old keys, and the newer database is the older one from then on."""
    await pair(storage)
    known = await step(storage, None)
    ahead = Epoch(database=known.database, epoch=9)
    await storage.begin_epoch(ahead)
    device = RecordChange(RecordKind.DEVICE, "", b"another")
    await storage.apply([Envelope(connection="sales", records=(device,), reset_records=True)])
    assert await storage.stale_keys() == []
    assert not (await storage.begin_epoch(ahead)).behind
    assert (await step(storage, ahead)).epoch == 11


async def test_a_phone_linked_meanwhile(storage: Storage) -> None:
    """Its keys are new: the next start marks them as little as this one did."""
    await pair(storage)
    known = await step(storage, None)
    ahead = Epoch(database=known.database, epoch=9)
    await storage.begin_epoch(ahead)
    await pair(storage, "support")
    assert (await storage.begin_epoch(ahead)).behind
    assert await marked(storage) == [("sales", False)]
    assert await storage.advance_epoch(ahead) is None


async def test_an_older_one_without_keys(storage: Storage) -> None:
    """Nothing is marked, and the newer one may be put back; until a phone is linked in this one,
    which then is the newer."""
    known = await storage.begin_epoch(None)
    ahead = Epoch(database=known.database, epoch=9)
    assert (await storage.begin_epoch(ahead)).behind
    assert await storage.stale_keys() == []
    assert await storage.advance_epoch(ahead) is None
    await pair(storage)
    following = await step(storage, ahead)
    assert following.epoch == 10
    assert not (await storage.begin_epoch(following)).behind
    assert await storage.stale_keys() == []


async def test_an_older_one_once_more(storage: Storage) -> None:
    """A mark that was accepted counts for what was known then, not for what came later."""
    await pair(storage)
    known = await step(storage, None)
    await storage.begin_epoch(Epoch(database=known.database, epoch=9))
    assert await storage.renew_keys("sales", b"renewed", OWN, "why")
    later = Epoch(database=known.database, epoch=50)
    assert (await storage.begin_epoch(later)).behind
    assert await marked(storage) == [("sales", False)]


async def test_databases_are_told_apart(cluster: Cluster, clock: Clock) -> None:
    """Each has an id of its own; a copy has that of its origin."""
    ids = []
    for _database in range(2):
        dsn = await cluster.create("migrated")
        async with PostgresStorage.open(dsn, key=KEY, clock=clock) as storage:
            ids.append((await storage.begin_epoch(None)).database)
            ids.append((await storage.begin_epoch(None)).database)
    assert ids[0] == ids[1] != ids[2] == ids[3]


IDS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


@settings(deadline=None, max_examples=50)  # each waits for the disk
@given(IDS, st.integers(0, 2**62 - 1))
def test_the_file_says_what_was_written(database: str, number: int) -> None:
    """For the owner's eyes alone; nothing else is left in the directory."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        assert read_epoch(directory) is None
        for epoch in (Epoch(database="before", epoch=1), Epoch(database=database, epoch=number)):
            write_epoch(directory, epoch)
        assert read_epoch(directory) == Epoch(database=database, epoch=number)
        assert stat.S_IMODE((directory / FILE).stat().st_mode) == 0o600
        assert [each.name for each in directory.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"database": 1, "epoch": 2}',
        '{"database": "a", "epoch": "2"}',
        '{"database": "a", "epoch": -1}',
        '{"database": "a", "epoch": true}',
        '{"database": "a"}',
        '{"database": "a\\u0000", "epoch": 1}',
        f'{{"database": "a", "epoch": {2**63}}}',
        "[" * 4000,
    ],
)
def test_a_damaged_file(tmp_path: pathlib.Path, text: str) -> None:
    """It says so, and which one it is."""
    (tmp_path / FILE).write_text(text)
    with pytest.raises(EpochFileError, match=FILE):
        read_epoch(tmp_path)


def test_a_full_disk_keeps_what_was_remembered(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next attempt is not in the way of what this one left."""
    before = Epoch(database="a", epoch=1)
    write_epoch(tmp_path, before)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(EpochFileError, match="No space left"):
            write_epoch(tmp_path, Epoch(database="a", epoch=2))
    assert read_epoch(tmp_path) == before
    write_epoch(tmp_path, Epoch(database="a", epoch=3))
    assert json.loads((tmp_path / FILE).read_text())["epoch"] == 3


@settings(deadline=None)
@given(st.lists(st.sampled_from(["step", "kill", "restore", "start", "lost"]), max_size=30))
async def test_only_older_ones_are_recognised(
    events: cabc.Sequence[str],
) -> None:
    """Whatever is killed between the database and the file, in any order of starts: never on a
    database that nobody put back; always on one that was and is behind by a remembered step."""
    from storage.memory import MemoryStorage

    storage = MemoryStorage(lambda: 0.0)
    from storage.api import ConversationRules

    await storage.ensure_connection("sales", ConversationRules())
    await pair(storage)
    file: Epoch | None = None
    backup = storage._epoch
    for event in events:
        match event:
            case "step":
                file = await storage.advance_epoch(file) or file
            case "kill":  # after the commit, before the file
                await storage.advance_epoch(file)
            case "restore":
                expected = file is not None and file.epoch > backup.epoch
                storage._epoch = backup
                assert (await storage.begin_epoch(file)).behind == expected
                if expected:
                    return
            case "lost":
                file = None
            case _:
                assert not (await storage.begin_epoch(file)).behind
    assert await storage.stale_keys() == []
