"""A backup is proved by restoring it, and by nothing less."""

import collections.abc as cabc
import pathlib
import shutil
import signal
import subprocess
import sys
import typing as t

import attrs
import pytest
import trio
from st_helpers import KEY, Cluster, envelope

from storage import binaries
from storage import verify as verify_module
from storage.api import Envelope, RecordChange, RecordKind
from storage.backup import back_up, check_backup
from storage.backup_file import Draft, Manifest
from storage.binaries import Binaries
from storage.digests import Difference, differences, digest_tables
from storage.embedded import EmbeddedPostgres
from storage.errors import NoRoomError, StorageLockedError, StorageRejectedError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage
from storage.seal import fingerprint
from storage.verify import NAME, Verdict, room_needed, verify_backup

# ruff: noqa: ASYNC240, ASYNC220 - a moment's blocking does no harm in these tests

ROOT = pathlib.Path(__file__).parents[2]


async def backed_up(dsn: str, target: pathlib.Path, key: bytes = KEY) -> Manifest:
    with Draft(target) as draft:
        async with open_maintenance(dsn) as session:
            manifest = await back_up(
                session, draft.file, version="1", created_at="2026-01-01", key=fingerprint(key)
            )
        return await trio.to_thread.run_sync(draft.publish, manifest)


async def proved(
    path: pathlib.Path,
    place: pathlib.Path,
    manifest: Manifest | None = None,
    key: bytes | str = KEY,
) -> Verdict:
    with path.open("rb") as archive:
        verdict = await verify_backup(archive, manifest or check_backup(path), place, key)
    assert not (place / NAME).exists()
    return verdict


@pytest.fixture
def place(public_dir: pathlib.Path) -> cabc.Iterator[pathlib.Path]:
    """Where the database's user gets to."""
    directory = public_dir / "tests"
    directory.mkdir(mode=0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def backup(
    dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path
) -> tuple[pathlib.Path, Manifest]:
    """Of a database with messages of all sorts of texts, and a linked device."""
    texts = ["olá", "", "a\tb\nc\\d'e\"f", "😀", "x" * 5000, "(1,2)", "{null}", "NULL"]
    device = RecordChange(RecordKind.DEVICE, "", b"device")
    await postgres.apply(
        [
            *(envelope(f"A{number}", text=text) for number, text in enumerate(texts)),
            envelope("A99", text=None, detail={"x": 1.1, "n": None, "ü": [1]}, flags=("a", "b")),
            Envelope(connection="sales", records=(device,)),
        ]
    )
    await postgres.index_messages(100)
    path = tmp_path / "backup"
    return path, await backed_up(dsn, path)


async def test_a_whole_one(backup: tuple[pathlib.Path, Manifest], place: pathlib.Path) -> None:
    """Rows, content and credentials; nothing is left of the test."""
    path, manifest = backup
    verdict = await proved(path, place)
    assert (verdict.intact, verdict.differences, verdict.compared_content) == (True, (), True)
    assert (verdict.rows, verdict.tables) == (sum(manifest.rows.values()), len(manifest.rows))
    assert (verdict.credentials.devices, verdict.credentials.unknown_because) == (1, None)
    assert set(manifest.digests) == set(manifest.rows)
    assert not manifest.live  # no daemon has ever used it


async def test_what_differs(backup: tuple[pathlib.Path, Manifest], place: pathlib.Path) -> None:
    """A table with other rows, with as many of other content, one more, one less: each is told."""
    path, manifest = backup
    rows = {**manifest.rows, "messages": 5, "gone": 3}
    del rows["receipts"]
    digests = {**manifest.digests, "contacts": "12"}
    verdict = await proved(path, place, attrs.evolve(manifest, rows=rows, digests=digests))
    assert not verdict.intact
    told = {each.table: (each.expected, each.found) for each in verdict.differences}
    assert told["messages"] == ("5 rows", "9 rows")
    assert told["gone"] == ("3 rows", "no such table")
    assert told["receipts"] == ("no such table", "0 rows")
    assert told["contacts"][0] == "content 12"
    assert len(told) == 4


async def test_one_changed_character_is_seen(
    cluster: Cluster, backup: tuple[pathlib.Path, Manifest], dsn: str
) -> None:
    """Whichever column and row it is in; the order of rows makes no difference."""
    _path, manifest = backup

    async def now() -> dict[str, str]:
        async with open_maintenance(dsn) as session, session.frozen():
            return {name: each.digest for name, each in (await digest_tables(session)).items()}

    assert await now() == manifest.digests
    for change, back in (
        ("text = 'olÁ' WHERE text = 'olá'", "text = 'olá' WHERE text = 'olÁ'"),
        ("flags = '{b,a}' WHERE flags = '{a,b}'", "flags = '{a,b}' WHERE flags = '{b,a}'"),
        ("text = NULL WHERE text = ''", "text = '' WHERE external_id = 'A1'"),
    ):
        await cluster.sql(dsn, f"UPDATE messages SET {change}")
        changed = await now()
        assert {name for name in changed if changed[name] != manifest.digests[name]} == {"messages"}
        await cluster.sql(dsn, f"UPDATE messages SET {back}")  # which puts it last in the table
        assert await now() == manifest.digests


@pytest.mark.parametrize(
    ("key", "said"),
    [(b"x" * 32, "the one here is"), ("there is no key in /k", "there is no key in /k")],
)
async def test_credentials_of_another_key(
    backup: tuple[pathlib.Path, Manifest], place: pathlib.Path, key: bytes | str, said: str
) -> None:
    """It says that it could not tell, and why; the rest is compared."""
    verdict = await proved(backup[0], place, key=key)
    assert verdict.intact
    assert said in (verdict.credentials.unknown_because or "")


async def test_credentials_that_do_not_open(
    dsn: str,
    postgres: PostgresStorage,
    cluster: Cluster,
    tmp_path: pathlib.Path,
    place: pathlib.Path,
) -> None:
    """The key is the right one, and one record is not what was sealed: whose it is, is said."""
    device = RecordChange(RecordKind.DEVICE, "", b"device")
    await postgres.apply(
        [Envelope(connection=name, records=(device,)) for name in ("sales", "support")]
    )
    await cluster.sql(
        dsn,
        "UPDATE device_identity SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)"
        " WHERE connection_id = (SELECT id FROM connections WHERE name = 'support')",
    )
    await backed_up(dsn, tmp_path / "backup")
    verdict = await proved(tmp_path / "backup", place)
    assert (verdict.differences, verdict.credentials.failed) == ((), ("support",))
    assert not verdict.intact


async def test_one_of_an_older_version(
    backup: tuple[pathlib.Path, Manifest], place: pathlib.Path
) -> None:
    """Without digests the rows are compared, and that is said."""
    path, manifest = backup
    older = attrs.evolve(manifest, format=1, digests={}, database_bytes=0)
    verdict = await proved(path, place, older)
    assert (verdict.intact, verdict.compared_content) == (True, False)


async def test_no_room(
    backup: tuple[pathlib.Path, Manifest], place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before anything is begun, with how much it takes and what else can be done."""
    path, manifest = backup
    usage = shutil.disk_usage(place)
    small = usage._replace(free=room_needed(manifest) - 1)
    monkeypatch.setattr(verify_module.shutil, "disk_usage", lambda _place: small)
    with pytest.raises(NoRoomError, match=r"needs about \d+ MiB .* --scratch"):
        await proved(path, place)
    assert list(place.iterdir()) == []


async def test_a_restore_that_fails(
    backup: tuple[pathlib.Path, Manifest], place: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """An archive that was cut off: it says so, and nothing is left."""
    path, manifest = backup
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[: manifest.archive_bytes // 2])
    with pytest.raises(StorageRejectedError, match="cannot be restored"):
        await proved(cut, place, manifest)
    assert list(place.iterdir()) == []


async def test_a_disk_that_runs_full_meanwhile(
    backup: tuple[pathlib.Path, Manifest], place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup is not blamed for it; nothing is left."""
    complaint = "psql:<stdin>:9: ERROR:  53100: could not extend file: No space left on device"

    async def full(*_arguments: t.Any) -> None:
        raise verify_module.StorageUnavailableError(f"nothing was changed: {complaint}")

    monkeypatch.setattr(verify_module, "put_back", full)
    with pytest.raises(NoRoomError, match="ran full during the test"):
        await proved(backup[0], place)
    assert list(place.iterdir()) == []


async def test_programs_that_are_too_old(
    backup: tuple[pathlib.Path, Manifest], place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be tested elsewhere is no failure of the backup."""
    old = [Binaries(pathlib.Path("/usr/lib/postgresql/9/bin"), 9, None)]
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(old))
    told = r"written by pg_dump \d+, and cannot be tested here: .*only 9 can.*install postgresql-"
    with pytest.raises(StorageRejectedError, match=told):
        await proved(backup[0], place)


async def test_two_at_a_time(backup: tuple[pathlib.Path, Manifest], place: pathlib.Path) -> None:
    """The second says so, and leaves the first alone."""
    (place / NAME).mkdir(mode=0o755)
    async with EmbeddedPostgres(place / NAME, temporary=True, durable=False) as server:
        under_way = pytest.raises(StorageLockedError, match="another test is under way")
        with backup[0].open("rb") as archive, under_way:
            await verify_backup(archive, backup[1], place, KEY)
        async with open_maintenance(server.dsn) as session:
            assert await session.run("SELECT 1")
    shutil.rmtree(place / NAME)


async def test_a_killed_one_is_cleaned_up_after(
    backup: tuple[pathlib.Path, Manifest], place: pathlib.Path
) -> None:
    """Its processes end with it, and the next run takes its directory away."""
    code = (
        "import pathlib, sys, trio\n"
        "from storage import verify\n"
        "from storage.backup import check_backup\n"
        "async def hang(*_arguments):\n"
        "    print('here', flush=True)\n"
        "    await trio.sleep_forever()\n"
        "verify.put_back = hang\n"
        "path, place = map(pathlib.Path, sys.argv[1:])\n"
        "trio.run(verify.verify_backup, path.open('rb'), check_backup(path), place, 'no key')\n"
    )
    command = [sys.executable, "-c", code, str(backup[0]), str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        assert "here\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGKILL)
    assert (place / NAME).exists()
    assert (await proved(backup[0], place)).intact
    assert list(place.iterdir()) == []


async def test_cancelled(backup: tuple[pathlib.Path, Manifest], place: pathlib.Path) -> None:
    """Nothing is left of one that is given up, however far it is."""
    for patience in (0.05, 0.5, 1.5):
        with trio.move_on_after(patience), backup[0].open("rb") as archive:
            await verify_backup(archive, backup[1], place, KEY)
        assert list(place.iterdir()) == [], patience


def test_no_difference_where_there_is_none() -> None:
    """Equal counts and digests; digests that nobody has are not compared."""
    assert differences({}, {}, {}) == []
    [found] = differences({"a": 1}, {}, {})
    assert found == Difference(table="a", expected="1 rows", found="no such table")
