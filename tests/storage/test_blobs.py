"""Blobs on disk and in S3: whole or not at all, once each, and nothing left behind."""

import collections.abc as cabc
import errno
import functools
import hashlib
import os
import pathlib
import stat
import subprocess
import sys
import threading
import typing as t

import attrs
import pytest
import s3_endpoint
import trio

from storage import blobs as blobs_module
from storage.blobs import (
    PIECE,
    Blob,
    BlobMissingError,
    Blobs,
    LocalBlobs,
    S3Settings,
    open_blobs,
)
from storage.errors import NoRoomError, StorageUnavailableError

TEXT = b"what a customer sent"


def blob_of(data: bytes) -> Blob:
    return Blob(hashlib.sha256(data).digest(), len(data))


async def chunks(data: bytes, size: int = 1000) -> cabc.AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def whole(blobs: Blobs, sha256: bytes, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.open(sha256, start, end)])


def files_in(directory: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.fixture
def endpoint() -> cabc.Iterator[s3_endpoint.Endpoint]:
    """An S3 endpoint with an empty bucket."""
    with s3_endpoint.running() as endpoint:
        yield endpoint


def settings_for(endpoint: s3_endpoint.Endpoint) -> S3Settings:
    return S3Settings(
        bucket=endpoint.bucket.name,
        prefix="zap/media",
        endpoint=endpoint.url,
        region=s3_endpoint.REGION,
        access_key=s3_endpoint.ACCESS_KEY,
        secret_key=s3_endpoint.SECRET_KEY,
    )


@pytest.fixture
async def s3(tmp_path: pathlib.Path, endpoint: s3_endpoint.Endpoint) -> Blobs:
    """Blobs in that bucket."""
    blobs = open_blobs(tmp_path, settings_for(endpoint))
    await blobs.prepare()
    return blobs


@pytest.fixture
async def local(tmp_path: pathlib.Path) -> LocalBlobs:
    """Blobs in a directory that did not exist."""
    blobs = LocalBlobs(tmp_path / "a" / "media")
    assert await blobs.prepare() == 0
    return blobs


@pytest.fixture(params=["local", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Blobs:
    """Either kind: what follows holds for both."""
    if request.param == "local":
        made: Blobs = LocalBlobs(tmp_path)
    else:
        made = open_blobs(tmp_path, settings_for(request.getfixturevalue("endpoint")))
    await made.prepare()
    return made


# ---- both


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, 3 * PIECE + 7])
async def test_what_is_put_can_be_read(blobs: Blobs, size: int) -> None:
    """Any size, whole and in part."""
    data = os.urandom(size)
    blob = await blobs.put(chunks(data))
    assert blob == blob_of(data)
    assert await blobs.size(blob.sha256) == size
    assert await whole(blobs, blob.sha256) == data
    assert await whole(blobs, blob.sha256, 5, 11) == data[5:11]
    assert await whole(blobs, blob.sha256, size // 2) == data[size // 2 :]
    assert await whole(blobs, blob.sha256, 0, size + 99) == data
    assert await whole(blobs, blob.sha256, size + 5) == b""


async def test_what_is_not_there(blobs: Blobs) -> None:
    """Is told; removing it is fine."""
    sha256 = hashlib.sha256(b"never").digest()
    assert await blobs.size(sha256) is None
    with pytest.raises(BlobMissingError):
        await whole(blobs, sha256)
    with pytest.raises(BlobMissingError):
        await blobs.read(sha256, 0, 5)
    await blobs.delete(sha256)


async def test_deleted_is_gone(blobs: Blobs, tmp_path: pathlib.Path) -> None:
    """At once, and it can be put again."""
    for _ in range(2):
        blob = await blobs.put(chunks(TEXT))
        assert await whole(blobs, blob.sha256) == TEXT
        await blobs.delete(blob.sha256)
        assert await blobs.size(blob.sha256) is None
    assert files_in(tmp_path) == []


async def test_a_put_that_fails_leaves_nothing(blobs: Blobs, tmp_path: pathlib.Path) -> None:
    """Whether its source raises or it is cancelled, at any time before the end."""

    async def broken() -> cabc.AsyncIterator[bytes]:
        yield TEXT * PIECE
        raise ValueError("not the file that was announced")

    async def endless() -> cabc.AsyncIterator[bytes]:
        yield TEXT * PIECE
        await trio.sleep_forever()

    with pytest.raises(ValueError, match="announced"):
        await blobs.put(broken())
    with trio.move_on_after(0.05) as scope:
        await blobs.put(endless())
    assert scope.cancelled_caught
    async with blobs.writing() as writer:
        await writer.write(TEXT)
        assert writer.sha256 == blob_of(TEXT).sha256
    assert files_in(tmp_path) == []
    assert await blobs.size(blob_of(TEXT).sha256) is None


async def test_the_same_content_at_the_same_time(blobs: Blobs) -> None:
    """Many writers of one blob all succeed."""
    results: list[Blob] = []

    async def put() -> None:
        results.append(await blobs.put(chunks(TEXT)))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(put)
    assert set(results) == {blob_of(TEXT)}
    assert await whole(blobs, blob_of(TEXT).sha256) == TEXT


async def test_a_reader_may_leave(blobs: Blobs) -> None:
    """Nothing is held open for it; what is removed under it ends with an error."""
    blob = await blobs.put(chunks(bytes(3 * PIECE), PIECE))
    assert len(await anext(blobs.open(blob.sha256))) == PIECE
    reader = blobs.open(blob.sha256)
    assert len(await anext(reader)) == PIECE
    await blobs.delete(blob.sha256)
    with pytest.raises(BlobMissingError):
        await anext(reader)


# ---- on disk


async def test_only_the_owner_reads(local: LocalBlobs, tmp_path: pathlib.Path) -> None:
    """Folders 0700, files 0600, and the address is the hash."""
    before = os.umask(0)
    try:
        blob = await local.put(chunks(TEXT))
    finally:
        os.umask(before)
    path = local.path(blob.sha256)
    name = blob.sha256.hex()
    assert path == tmp_path / "a" / "media" / name[:2] / name[2:4] / name
    assert path.read_bytes() == TEXT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, tmp_path / "a" / "media" / "tmp"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_what_is_there_is_not_written_again(local: LocalBlobs) -> None:
    """The same content is the same file; one that was cut short is mended."""
    blob = await local.put(chunks(TEXT))
    path = local.path(blob.sha256)
    before = path.stat()
    await local.put(chunks(TEXT))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    os.truncate(path, 3)
    await local.put(chunks(TEXT))
    assert path.read_bytes() == TEXT


async def test_durable_before_visible(local: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is synced before it gets its address, every folder on the way after it."""
    steps: list[str] = []
    fsync, rename = os.fsync, pathlib.Path.rename

    def spy_sync(file: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        fsync(file)

    def spy_rename(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", spy_sync)
    monkeypatch.setattr(pathlib.Path, "rename", spy_rename)
    await local.put(chunks(TEXT))
    assert steps == ["file", "rename", "folder", "folder", "folder"]


async def test_a_killed_writer_leaves_nothing_visible(local: LocalBlobs) -> None:
    """kill -9 in the middle: no blob, and the next start removes the file, not that of others."""
    script = """
import pathlib, sys, trio
from storage.blobs import LocalBlobs

async def main():
    async with LocalBlobs(pathlib.Path(sys.argv[1])).writing() as writer:
        await writer.write(bytes(1 << 20))
        print("written", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""
    root = local.path(bytes(32)).parents[2]
    command = [sys.executable, "-c", script, str(root)]
    async with trio.open_nursery() as nursery:
        start = functools.partial(trio.run_process, stdout=subprocess.PIPE, check=False)
        process: trio.Process = await nursery.start(start, command)
        assert process.stdout is not None
        with trio.fail_after(30):
            assert (await process.stdout.receive_some()).startswith(b"written")
        (left,) = files_in(root)
        assert left.stat().st_size == 1 << 20
        assert await LocalBlobs(root).prepare() == 0  # its writer lives
        process.kill()
    async with local.writing() as writer:
        await writer.write(TEXT)
        assert await LocalBlobs(root).prepare() == 1
        blob = await writer.commit()
    assert files_in(root) == [local.path(blob.sha256)]


async def test_a_full_disk_is_for_later(
    local: LocalBlobs, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """No room, or no directory: the same call may succeed later."""

    def refuse(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(blobs_module.os, "write", refuse)
        with pytest.raises(StorageUnavailableError, match="no room"):
            await local.put(chunks(TEXT))
    assert files_in(tmp_path) == []
    await local.put(chunks(TEXT))
    with pytest.raises(StorageUnavailableError):
        await LocalBlobs(tmp_path / "nowhere").put(chunks(TEXT))


async def test_addresses_are_hashes(local: LocalBlobs) -> None:
    """Nothing else leads anywhere."""
    for wrong in (b"", b"../../etc/passwd", bytes(33)):
        with pytest.raises(ValueError, match="SHA-256"):
            local.path(wrong)


# ---- in S3


async def test_keys_and_parts(s3: Blobs, endpoint: s3_endpoint.Endpoint) -> None:
    """Under the prefix, and in parts when large; what is there is not uploaded again."""
    data = os.urandom(20 * 1024 * 1024)
    blob = await s3.put(chunks(data, 1 << 20))
    name = blob.sha256.hex()
    assert list(endpoint.bucket.objects) == [f"zap/media/{name[:2]}/{name[2:4]}/{name}"]
    assert endpoint.bucket.objects.popitem()[1] == data
    assert endpoint.bucket.uploads == {}
    assert any("partNumber" in request for request in endpoint.bucket.requests)
    assert s3.path(blob.sha256) is None
    await s3.put(chunks(TEXT))
    before = len(endpoint.bucket.requests)
    await s3.put(chunks(TEXT))
    assert [each.split()[0] for each in endpoint.bucket.requests[before:]] == ["HEAD"]


@pytest.mark.parametrize("status", [403, 400])
async def test_refusals_are_for_later(
    s3: Blobs, endpoint: s3_endpoint.Endpoint, status: int
) -> None:
    """An operator may still mend the credentials: nothing fails for good."""
    endpoint.bucket.fail_with = status
    with pytest.raises(StorageUnavailableError, match="S3 bucket inbox"):
        await s3.put(chunks(TEXT))
    endpoint.bucket.fail_with = 0
    assert await s3.put(chunks(TEXT)) == blob_of(TEXT)


async def test_a_wrong_key_is_refused(
    endpoint: s3_endpoint.Endpoint, tmp_path: pathlib.Path
) -> None:
    """The endpoint checks signatures, and the error does not hold the secret."""
    settings = attrs.evolve(settings_for(endpoint), secret_key="another-secret")
    blobs = open_blobs(tmp_path, settings)
    await blobs.prepare()
    with pytest.raises(StorageUnavailableError) as caught:
        await blobs.put(chunks(TEXT))
    assert "another-secret" not in str(caught.value) + repr(settings)
    assert endpoint.bucket.objects == {}


async def test_a_cancelled_upload_does_no_harm(
    s3: Blobs, endpoint: s3_endpoint.Endpoint, tmp_path: pathlib.Path
) -> None:
    """Cancellation does not wait for the server; the next put succeeds."""
    endpoint.bucket.hold = threading.Event()
    with trio.move_on_after(0.3) as scope:
        await s3.put(chunks(TEXT))
    assert scope.cancelled_caught
    assert files_in(tmp_path) == []
    endpoint.bucket.hold.set()
    blob = await s3.put(chunks(TEXT))
    assert await whole(s3, blob.sha256) == TEXT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
async def test_a_disk_that_is_really_full(tmp_path: pathlib.Path) -> None:
    """A small file system: nothing is left behind by what did not fit, and room counts at once."""
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(  # noqa: ASYNC221 - takes a moment only
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mount.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        store = LocalBlobs(place)
        await store.prepare()

        async def chunks(count: int) -> t.AsyncIterator[bytes]:
            for number in range(count):
                yield bytes([number]) * (64 * 1024)

        kept = await store.put(chunks(4))
        with pytest.raises(NoRoomError, match="no room left"):
            await store.put(chunks(6))
        with pytest.raises(NoRoomError):
            await store.try_room(1 << 20)
        assert [path for path in place.rglob("*") if path.is_file()] == [store.path(kept.sha256)]
        await store.try_room(128 * 1024)
        await store.delete(kept.sha256)
        assert (await store.put(chunks(6))).size == 6 * 64 * 1024
    finally:
        subprocess.run(["umount", str(place)], check=True)  # noqa: ASYNC221
