"""Archives as files: whole ones, and what is said of all others."""

import collections.abc as cabc
import contextlib
import hashlib
import pathlib
import typing as t

import pyrage
import pytest
import trio
import zstandard
from st_archive import archive_of, fill
from st_exports import Exporting
from st_helpers import KEY, Clock, Cluster, take

from storage import archive_source
from storage.api import ConversationRules, MediaFile
from storage.archive_import import ImportCounts, ImportGivenUpError, import_records
from storage.archive_source import ExportFiles, open_source
from storage.blobs import LocalBlobs, Spool
from storage.errors import NoRoomError, StorageRejectedError
from storage.exports.model import Form
from storage.exports.sealing import WrongKeyError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage

PICTURE = b"a picture" * 1000


@pytest.fixture
async def archive(postgres: PostgresStorage, clock: Clock, dsn: str) -> bytes:
    """The lines of a database with one of everything."""
    await fill(postgres, clock)
    return await archive_of(dsn)


@pytest.fixture
async def empty(cluster: Cluster) -> str:
    """Another database."""
    return await cluster.create("migrated")


async def bring(
    dsn: str,
    path: pathlib.Path,
    *,
    identities: cabc.Sequence[t.Any] = (),
    blobs: LocalBlobs | None = None,
) -> ImportCounts:
    """Import what lies at a path."""
    source = open_source(path, identities)
    files = None
    if blobs is not None:
        await blobs.prepare()
        files = ExportFiles(blobs, path, identities)
    async with (
        open_maintenance(dsn) as session,
        contextlib.aclosing(source.records()) as records,
    ):
        return await import_records(session, None, records, files=files)


async def rows(cluster: Cluster, dsn: str) -> int:
    [[count]] = await cluster.sql(dsn, "SELECT count(*) FROM messages")
    return int(count)


@pytest.mark.parametrize("ending", ["", ".zst", ".age", ".zst.age"])
async def test_a_file_is_read_however_it_is_packed(
    archive: bytes, empty: str, tmp_path: pathlib.Path, ending: str
) -> None:
    """As it is, compressed, encrypted, or both."""
    key = pyrage.x25519.Identity.generate()
    data = archive
    if ".zst" in ending:
        data = zstandard.compress(data)
    if ".age" in ending:
        data = pyrage.encrypt(data, [key.to_public()])
    path = tmp_path / f"all.jsonl{ending}"
    path.write_bytes(data)
    counts = await bring(empty, path, identities=[key])
    assert counts.refused == 0
    assert await archive_of(empty) == archive


@pytest.mark.parametrize("ending", [".zst", ".age", ".zst.age"])
async def test_a_packed_file_that_was_cut_off_or_changed_is_told(
    archive: bytes, empty: str, cluster: Cluster, tmp_path: pathlib.Path, ending: str
) -> None:
    """Whatever byte is the last, or another one: an error of ours, and never half a message."""
    key = pyrage.x25519.Identity.generate()
    data = zstandard.compress(archive) if ".zst" in ending else archive
    if ".age" in ending:
        data = pyrage.encrypt(data, [key.to_public()])
    path = tmp_path / f"all.jsonl{ending}"
    middle = len(data) // 2
    for damaged in (
        data[:-1],
        data[:middle],
        data[:10],
        data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
    ):
        path.write_bytes(damaged)
        refused, said = 0, ""
        try:
            refused = (await bring(empty, path, identities=[key])).refused
        except (ImportGivenUpError, StorageRejectedError) as error:
            said = str(error)
        assert refused or "all.jsonl" in said
    path.write_bytes(data)
    await bring(empty, path, identities=[key])
    assert await rows(cluster, empty) == 14


@pytest.mark.parametrize(
    ("change", "said", "stored"),
    [
        (lambda lines: lines[:-1], "cut off: its last record is missing after line 44", True),
        (lambda lines: [*lines[:30], lines[30][:40]], "missing after line 31", True),
        (lambda lines: [*lines[:20], *lines[21:]], "says that it has 44 records, and has 43", True),
        (lambda lines: [], "is empty", False),
        (lambda lines: lines[1:], 'first line does not say "format": "zapvisor-archive"', False),
        (lambda lines: [b"\x00\xff\n", *lines], "first line does not say", False),
        (
            lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]],
            "of version 2; this zapvisor reads version 1",
            False,
        ),
    ],
)
async def test_what_is_no_whole_archive_is_told(
    archive: bytes,
    empty: str,
    cluster: Cluster,
    tmp_path: pathlib.Path,
    change: t.Callable[[list[bytes]], list[bytes]],
    said: str,
    stored: bool,
) -> None:
    """Cut off, of a later version, or something else: one clear message; what there was is
    stored, if it was an archive at all, and the whole one puts the rest behind it."""
    path = tmp_path / "all.jsonl"
    path.write_bytes(b"".join(change(archive.splitlines(keepends=True))))
    with pytest.raises((ImportGivenUpError, StorageRejectedError), match=said):
        await bring(empty, path)
    if not stored:
        assert await rows(cluster, empty) == 0
    else:
        path.write_bytes(archive)
        await bring(empty, path)
        # A line that was missing in the middle comes last.
        assert sorted((await archive_of(empty)).splitlines()) == sorted(archive.splitlines())


async def test_bad_lines_are_told_by_their_numbers(
    archive: bytes, empty: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with what is wrong in it, and nothing of what people wrote; the others are stored."""
    monkeypatch.setattr(archive_source, "MAX_LINE", 4096)
    lines = archive.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"record":"message"' in line)
    good = lines[at]
    lines[at] = good.replace(b'"lane":"live"', b'"lane":"lively"')
    lines[at + 1 : at + 1] = [
        good.replace(b'"text"', b'"texts"'),
        good.replace(b'"raw":"', b'"raw":"!!'),
        good[:50] + b"secret words\n",
        good.replace(b'"text":"', b'"text":"' + b"x" * 5000),
        b'{"record":"letter"}\n',
    ]
    lines[-1] = lines[-1].replace(b"44", b"49")
    path = tmp_path / "all.jsonl"
    path.write_bytes(b"".join(lines))
    counts = await bring(empty, path)
    number = at + 1
    assert counts.refusals[:6] == [
        (f"line {number}", "lane is none of live, history, side"),
        (f"line {number + 1}", "texts is not known"),
        (f"line {number + 2}", "raw is not base64"),
        (f"line {number + 3}", "it is not JSON"),
        (f"line {number + 4}", "it is longer than 0 MiB"),
        (
            f"line {number + 5}",
            'it is no record of this version: "record" is missing or not known',
        ),
    ]
    assert counts.stored["message"] == 13


@pytest.fixture
async def exporting(
    postgres: PostgresStorage, clock: Clock, dsn: str, cluster: Cluster, tmp_path: pathlib.Path
) -> Exporting:
    """A database with a picture, and where exports of it go."""
    await fill(postgres, clock)
    blobs = LocalBlobs(tmp_path / "blobs")
    await blobs.prepare()
    async with blobs.writing() as writer:
        await writer.write(PICTURE)
        blob = await writer.commit()
    await cluster.sql(
        dsn,
        "UPDATE media SET state = 'stored', blob_sha256 = $1, blob_size = $2, stored_at = now()",
        blob.sha256,
        blob.size,
    )
    (tmp_path / "exports").mkdir(mode=0o700)
    return Exporting(dsn, blobs, tmp_path / "exports")


@pytest.mark.parametrize("sealed", [False, True])
async def test_an_export_is_put_back_with_its_files(
    exporting: Exporting, empty: str, tmp_path: pathlib.Path, sealed: bool
) -> None:
    """Its parts, and the files of messages, which are the same bytes again."""
    key = pyrage.x25519.Identity.generate()
    recipients = (str(key.to_public()),) if sealed else ()
    await exporting.write(media=True, compress=True, recipients=recipients)
    blobs = LocalBlobs(tmp_path / "other")
    counts = await bring(
        empty, exporting.directory / "first", identities=[key] if sealed else [], blobs=blobs
    )
    assert (counts.refused, counts.files_missing) == (0, 0)
    assert await archive_of(empty) == await archive_of(exporting.dsn)
    path = blobs.path(hashlib.sha256(PICTURE).digest())
    assert path.read_bytes() == PICTURE


@pytest.mark.parametrize("damage", ["part", "file", "gone", "manifest"])
async def test_a_damaged_export_is_refused_whole(
    exporting: Exporting, empty: str, cluster: Cluster, tmp_path: pathlib.Path, damage: str
) -> None:
    """A wrong checksum anywhere: named, and nothing is stored."""
    await exporting.write(media=True)
    directory = exporting.directory / "first"
    part = directory / exporting.opened().manifest.parts[0].name
    [picture] = [path for path in (directory / "media").rglob("*") if path.is_file()]
    match damage:
        case "part":
            part.write_bytes(part.read_bytes().replace(b"family", b"famine")[:-1] + b"x")
            said = f"{part.name} is damaged"
        case "file":
            picture.write_bytes(PICTURE[:-1])
            said = f"{picture.name} is damaged"
        case "gone":
            picture.unlink()
            said = f"{picture.name} is missing"
        case _:
            (directory / "manifest.json").write_text("{}")
            said = "manifest.json"
    with pytest.raises(StorageRejectedError, match=said):
        await bring(empty, directory, blobs=LocalBlobs(tmp_path / "other"))
    assert await rows(cluster, empty) == 0


async def test_a_wrong_key_opens_nothing(
    exporting: Exporting, empty: str, cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    """Said so, before anything is stored; no key at all likewise."""
    key, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    await exporting.write(recipients=(str(key.to_public()),))
    for identities, said in [([other], "other keys"), ([], "--identity")]:
        with pytest.raises(WrongKeyError, match=said):
            await bring(empty, exporting.directory / "first", identities=identities)
    assert await rows(cluster, empty) == 0


async def test_an_export_for_reading_is_no_archive(
    exporting: Exporting, empty: str, cluster: Cluster
) -> None:
    """CSV cannot be put back, and is not tried."""
    await exporting.write(Form.CSV)
    with pytest.raises(StorageRejectedError, match="only an archive"):
        await bring(empty, exporting.directory / "first")


async def test_a_full_disk_keeps_what_is_there(
    exporting: Exporting,
    empty: str,
    cluster: Cluster,
    clock: Clock,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No room for a file: nothing of its batch is stored, no trace of the file is left, and the
    same import goes on once there is room."""
    await exporting.write(media=True)
    async with PostgresStorage.open(empty, key=KEY, clock=clock) as living:
        await living.ensure_connection("sales", ConversationRules())
        await take(living, "here", media=MediaFile(kind="image"))
    before = await archive_of(empty)
    blobs = LocalBlobs(tmp_path / "other")

    def full(_spool: Spool, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "_write_all", full)
        with pytest.raises(NoRoomError, match="no room"):
            await bring(empty, exporting.directory / "first", blobs=blobs)
    assert await archive_of(empty) == before
    assert [path for path in (tmp_path / "other").rglob("*") if path.is_file()] == []
    counts = await bring(empty, exporting.directory / "first", blobs=blobs)
    assert counts.files_missing == 0
    assert await rows(cluster, empty) == 1 + counts.stored["message"]


async def test_a_file_that_is_not_what_it_says_is_not_taken(
    exporting: Exporting, tmp_path: pathlib.Path
) -> None:
    """Whoever made an export may lie about its files: only what has the hash is stored."""
    await exporting.write(media=True)
    directory = exporting.directory / "first"
    [picture] = [path for path in (directory / "media").rglob("*") if path.is_file()]
    blobs = LocalBlobs(tmp_path / "other")
    await blobs.prepare()
    sha256 = hashlib.sha256(PICTURE).digest()
    files = ExportFiles(blobs, directory)
    for lie in (PICTURE + b"more" * 10**6, PICTURE[:-1], PICTURE[:-1] + b"!"):
        picture.write_bytes(lie)
        assert not await files.bring(sha256, len(PICTURE))
        assert await blobs.size(sha256) is None
    picture.write_bytes(PICTURE)
    assert await files.bring(sha256, len(PICTURE))
    assert await files.bring(sha256, len(PICTURE))
    assert files.brought == 1


def test_what_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    """A path that leads nowhere."""

    async def read() -> None:
        async with contextlib.aclosing(open_source(tmp_path / "no.jsonl").records()) as records:
            async for _placed in records:
                pass

    with pytest.raises(StorageRejectedError, match=r"no\.jsonl cannot be read: No such file"):
        trio.run(read)
    with pytest.raises(StorageRejectedError, match="no export of zapvisor"):
        open_source(tmp_path)
