"""The container: whatever is put in comes out again, and a kill anywhere loses nothing."""

import collections.abc as cabc
import errno
import hashlib
import io
import json
import os
import pathlib
import signal
import subprocess
import tarfile
import typing as t

import attrs
import pyrage
import pytest
import s3_endpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from st_exports import FINISHED, start_of

from storage.blobs import S3Settings
from storage.errors import NoRoomError, StorageRejectedError
from storage.exports import files
from storage.exports.check import open_export, open_part, remove, sums, verify
from storage.exports.container import Block, Container
from storage.exports.draft import Draft, begin, resume, unfinished
from storage.exports.model import JOURNAL, LONGEST, Form, Manifest, Start
from storage.exports.sealing import WrongKeyError, parse_recipients, read_identities
from storage.exports.shelf_s3 import S3Shelf

IDENTITY = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())
PART = 64  # bytes
FOUR = (Form.JSONL, Form.HTML)


def blocks(form: Form, pieces: cabc.Sequence[bytes]) -> list[Block]:
    """One for each piece, whose cursor is the number of the next one."""
    return [
        Block(
            data=piece,
            cursor=str(number + 1),
            counts={"messages": 1},
            page=None if form.streamed else f"pages/{number}.html",
            files=((hashlib.sha256(piece).digest(), f"media/{number % 3}"),),
        )
        for number, piece in enumerate(pieces)
    ]


def put_all(draft: Draft, pieces: cabc.Sequence[bytes]) -> Manifest:
    """What is missing of a draft."""
    request, cursor = draft.start.request, draft.progress.cursor
    if cursor != "end":
        container = Container(draft, part_size=PART)
        for block in blocks(request.form, pieces)[int(cursor or 0) :]:
            if request.media:
                for _sha256, name in block.files:
                    if not container.has(name):
                        container.copy(name, io.BytesIO(b"file " + name.encode()))
            container.put(block)
        container.end()
    return draft.publish(FINISHED)


def written(directory: pathlib.Path, start: Start, pieces: cabc.Sequence[bytes]) -> Manifest:
    """A whole export."""
    with begin(directory, start) as draft:
        return put_all(draft, pieces)


def content(directory: pathlib.Path, name: str = "first") -> dict[str, bytes]:
    """All that is in an export, opened: the stream as one, pages and files by their names."""
    export = open_export(directory / name)
    assert verify(export).good
    found: dict[str, bytes] = {}
    stream = b""
    for part in export.manifest.parts:
        with open_part(export, part, [IDENTITY]) as file:
            opened = file.read()
        if ".tar" not in part.name:
            stream += opened
            continue
        with tarfile.open(fileobj=io.BytesIO(opened)) as archive:
            for member in archive:
                extracted = archive.extractfile(member)
                assert extracted is not None
                found[member.name] = extracted.read()
    parts = {part.name for part in export.manifest.parts}
    for each, _sha256 in sums(export):
        if each not in parts:
            data = (directory / name / each).read_bytes()
            if each.endswith(".age"):
                data = pyrage.decrypt(data, [IDENTITY])
            found[each.removesuffix(".age")] = data
    return found | {"stream": stream}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    pieces=st.lists(st.binary(max_size=200), max_size=12),
    form=st.sampled_from(FOUR),
    compress=st.booleans(),
    encrypt=st.booleans(),
    media=st.booleans(),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[bytes],
    form: Form,
    compress: bool,
    encrypt: bool,
    media: bool,
) -> None:
    """Any bytes, cut anywhere, compressed and encrypted or not."""
    directory = tmp_path_factory.mktemp("exports")
    start = start_of(
        form, compress=compress, recipients=(RECIPIENT,) if encrypt else (), media=media
    )
    manifest = written(directory, start, pieces)
    found = content(directory)
    assert found.pop("stream") == (b"".join(pieces) if form.streamed else b"")
    pages = {name: data for name, data in found.items() if name.startswith("pages/")}
    assert pages == (
        {} if form.streamed else {f"pages/{at}.html": piece for at, piece in enumerate(pieces)}
    )
    copied = {name: data for name, data in found.items() if name.startswith("media/")}
    assert len(copied) == (min(3, len(pieces)) if media else 0)
    assert all(data == b"file " + name.encode() for name, data in copied.items())
    assert manifest.counts.get("messages", 0) == len(pieces)
    assert Manifest.from_text(manifest.as_text(), "it") == manifest
    assert not list(directory.rglob("*.part*")) or form is not Form.JSONL
    for path in directory.rglob("*"):
        assert path.stat().st_mode & 0o77 == 0
    if encrypt:
        raw = b"".join(path.read_bytes() for path in directory.rglob("*.age"))
        known = b"age-encryption.org/v1\n"  # how such files begin
        assert not any(len(piece) > 20 and piece in raw for piece in pieces if piece not in known)


PIECES = [bytes([65 + number]) * 40 for number in range(9)]


def in_a_child(work: t.Callable[[], object], kill_at: int) -> bool:
    """Do it in a process that is killed at the n-th call that changes the disk; whether it was."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = kill_at

    def deadly(name: str) -> None:
        original = getattr(os, name)

        def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(os, name, call)

    try:
        for name in ("fsync", "rename", "open", "unlink", "mkdir"):
            deadly(name)
        work()
    finally:
        os._exit(0)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (Form.JSONL, {"media": True}),
        (Form.JSONL, {"compress": True, "recipients": (RECIPIENT,)}),
        (Form.HTML, {"media": True}),
        (Form.HTML, {"recipients": (RECIPIENT,), "media": True}),
    ],
    ids=["stream", "sealed stream", "pages", "sealed pages"],
)
def test_killed_anywhere(tmp_path: pathlib.Path, form: Form, options: dict[str, t.Any]) -> None:
    """At every call that changes the disk, and again while it is resumed: the result is the same,
    and the export before it is untouched."""
    start = start_of(form, **options)
    written(tmp_path / "whole", start, PIECES)
    expected = content(tmp_path / "whole")
    directory = tmp_path / "exports"
    written(directory, attrs.evolve(start, name="older"), PIECES[:2])
    older = snapshot(directory / "older")
    killed = 0
    for number in range(10_000):
        name = f"n{number}"
        mine = attrs.evolve(start, name=name)

        def go_on(mine: Start = mine) -> None:
            if (directory / mine.name).exists():
                return
            if mine.name in unfinished(directory):
                with resume(directory, mine.name) as draft:
                    put_all(draft, PIECES)
            else:
                written(directory, mine, PIECES)

        if not in_a_child(go_on, number):
            break
        killed += 1
        in_a_child(go_on, 2 * (number % 7))
        go_on()
        assert content(directory, name) == expected
        assert unfinished(directory) == []
        if not options.get("recipients"):
            assert snapshot(directory / name, without=name) == snapshot(
                tmp_path / "whole" / "first", without="first"
            )
    assert killed > 20
    assert snapshot(directory / "older") == older


def snapshot(path: pathlib.Path, without: str = "") -> dict[str, bytes]:
    """Every file below a path; ``without``: a name that differs."""
    return {
        each.relative_to(path).as_posix(): each.read_bytes().replace(
            json.dumps(without).encode(), b"NAME"
        )
        for each in sorted(path.rglob("*"))
        if each.is_file() and each.name != JOURNAL
    }


def test_what_was_damaged_meanwhile_is_made_again(tmp_path: pathlib.Path) -> None:
    """Resuming verifies what is there, and begins anew before what does not hold."""
    start = start_of()
    with begin(tmp_path, start) as draft:
        container = Container(draft, part_size=PART)
        for block in blocks(Form.JSONL, PIECES)[:6]:
            container.put(block)
        assert draft.progress.parts == 3
    (tmp_path / "first.part" / "part-000002.jsonl").write_bytes(b"x" * 80)
    (tmp_path / "first.part" / "alien").write_bytes(b"x")
    with resume(tmp_path, "first") as draft:
        assert (draft.progress.parts, draft.progress.cursor) == (1, "2")
        put_all(draft, PIECES)
    assert content(tmp_path)["stream"] == b"".join(PIECES)
    assert not (tmp_path / "first" / "alien").exists()


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b"[]",
        b'{"name": "../x", "size": 1, "sha256": "0", "part": false}',
        b'{"name": "x"}',
        b'{"commit": {"cursor": "2"}}',
        b'{"commit": 7}',
        b'{"commit": {"cursor": "2", "counts": {}, "parts": Infinity, "files": 1, "size": 1}}',
        b"\xff",
        b"1" * (LONGEST + 1),
    ],
    ids=lambda line: line[:12].decode("latin-1"),
)
def test_a_damaged_journal(tmp_path: pathlib.Path, line: bytes) -> None:
    """What it says behind the damage never happened, and is made again; one whose first line is
    damaged is no export that could be resumed."""
    with begin(tmp_path, start_of()) as draft:
        container = Container(draft, part_size=PART)
        for block in blocks(Form.JSONL, PIECES)[:6]:
            container.put(block)
    journal = tmp_path / "first.part" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = line + b"\n"  # the second part
    journal.write_bytes(b"".join(lines))
    with resume(tmp_path, "first") as draft:
        assert (draft.progress.parts, draft.progress.cursor) == (1, "2")
        put_all(draft, PIECES)
    assert content(tmp_path)["stream"] == b"".join(PIECES)
    (tmp_path / "second.part").mkdir()
    (tmp_path / "second.part" / JOURNAL).write_bytes(line + b"\n")
    assert unfinished(tmp_path) == []
    with (
        pytest.raises(StorageRejectedError, match="nothing that could be resumed"),
        resume(tmp_path, "second"),
    ):
        pass


def test_a_full_disk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any write: a clear message, older exports untouched; resumed when there is room."""
    written(tmp_path, start_of(name="older"), PIECES)
    older = snapshot(tmp_path / "older")
    full, left = True, 0
    said: set[bool] = set()
    write = files.Growing.write

    def limited(self: files.Growing, data: bytes) -> int:
        nonlocal left
        left -= 1
        if full and left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(files.Growing, "write", limited)
    for number in range(100):
        full, left = True, number
        name = f"n{number}"
        try:
            written(tmp_path, start_of(name=name), PIECES)
        except NoRoomError as error:
            said.add("no room" in str(error) and "--resume" in str(error))
        else:
            break
        assert not (tmp_path / name).exists()
        full = False
        with resume(tmp_path, name) as draft:
            put_all(draft, PIECES)
        assert content(tmp_path, name)["stream"] == b"".join(PIECES)
    assert number > 5
    assert said == {True}
    assert snapshot(tmp_path / "older") == older


def test_a_really_full_disk(tmp_path: pathlib.Path) -> None:
    """The same on a file system without room, where one can be mounted."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        written(mount, start_of(name="older"), PIECES)
        pieces = [os.urandom(16_000) for _ in range(40)]
        with pytest.raises(NoRoomError, match="there is no room"):
            written(mount, start_of(), pieces)
        assert content(mount, "older")["stream"] == b"".join(PIECES)
        assert unfinished(mount) == ["first"]
        subprocess.run(["mount", "-o", "remount,size=4m", str(mount)], check=True)
        with resume(mount, "first") as draft:
            assert draft.progress.parts > 3
            put_all(draft, pieces)
        assert content(mount)["stream"] == b"".join(pieces)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_wrong_keys(tmp_path: pathlib.Path) -> None:
    """Say so; nothing is read, and the export stays as it is."""
    manifest = written(tmp_path, start_of(recipients=(RECIPIENT,)), PIECES)
    export = open_export(tmp_path / "first")
    for identities, words in (([OTHER], "other keys"), ([], "--identity")):
        with (
            pytest.raises(WrongKeyError, match=words),
            open_part(export, manifest.parts[0], identities),
        ):
            pass
    assert verify(export).good
    key = tmp_path / "key"
    for text, words in (("", "no secret key"), ("age1abc", "no secret key"), ("# x", "no secret")):
        key.write_text(text)
        with pytest.raises(StorageRejectedError, match=words):
            read_identities(key)
    with pytest.raises(StorageRejectedError, match="secret key, not a recipient") as told:
        parse_recipients([str(IDENTITY)])
    assert str(IDENTITY)[:20] not in str(told.value)


@pytest.mark.parametrize("cut", [1, 100, -1])
def test_damage_is_found(tmp_path: pathlib.Path, cut: int) -> None:
    """In a part, in the list of checksums, in the manifest; by verifying, and before reading."""
    manifest = written(tmp_path, start_of(compress=True, recipients=(RECIPIENT,)), PIECES)
    part = manifest.parts[0]
    path = tmp_path / "first" / part.name
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    export = open_export(tmp_path / "first")
    report = verify(export)
    assert (report.good, report.damaged) == (False, (part.name,))
    with pytest.raises(StorageRejectedError, match="damaged"), open_part(export, part, [IDENTITY]):
        pass
    path.unlink()
    assert verify(export).missing == (part.name,)
    path.write_bytes(whole)
    (tmp_path / "first" / "alien").write_bytes(b"")
    assert verify(export).extra == ("alien",)
    lists = tmp_path / "first" / "SHA256SUMS"
    lists.write_bytes(lists.read_bytes()[:-5])
    with pytest.raises(StorageRejectedError, match="SHA256SUMS"):
        open_export(tmp_path / "first")
    (tmp_path / "first" / "manifest.json").write_bytes(b"{}")
    with pytest.raises(StorageRejectedError, match="manifest"):
        open_export(tmp_path / "first")


def test_a_newer_format_and_hostile_names(tmp_path: pathlib.Path) -> None:
    """Are refused with a word on what to do."""
    text = written(tmp_path, start_of(), PIECES).as_text()
    newer = json.loads(text) | {"version": 2}
    with pytest.raises(StorageRejectedError, match="use a newer one"):
        Manifest.from_text(json.dumps(newer).encode(), "it")
    hostile = json.loads(text)
    for name in ("../x", "/etc/passwd", "a//b", "a/../../b", ""):
        hostile["parts"][0]["name"] = name
        with pytest.raises(StorageRejectedError, match="damaged"):
            Manifest.from_text(json.dumps(hostile).encode(), "it")
    for value in (
        b"[" * 1_000_000,
        b'{"format":' * 500_000,
        text.replace(b": 1000000,", b": 1e999,"),
    ):
        assert value != text
        with pytest.raises(StorageRejectedError, match="damaged"):
            Manifest.from_text(value, "it")
    (tmp_path / "first" / "manifest.json").write_bytes(b" " * (16 * 1024 * 1024 + 1))
    with pytest.raises(StorageRejectedError, match="too large to be a manifest"):
        open_export(tmp_path / "first")
    for name in ("../x", ".hidden", "a/b", "x.part", ""):
        with (
            pytest.raises(StorageRejectedError, match="cannot be the name"),
            begin(tmp_path, start_of(name=name)),
        ):
            pass


def test_one_at_a_time_and_nothing_overwritten(tmp_path: pathlib.Path) -> None:
    """A draft has one writer; what exists stays."""
    with (
        begin(tmp_path, start_of()),
        pytest.raises(StorageRejectedError, match="another process"),
        resume(tmp_path, "first"),
    ):
        pass
    with pytest.raises(StorageRejectedError, match="not finished"), begin(tmp_path, start_of()):
        pass
    with resume(tmp_path, "first") as draft:
        put_all(draft, PIECES)
    with pytest.raises(StorageRejectedError, match="exists already"), begin(tmp_path, start_of()):
        pass
    with pytest.raises(StorageRejectedError, match="not other"):
        remove(tmp_path / "first", "other")
    remove(tmp_path / "first", "first")
    assert list(tmp_path.iterdir()) == []


def test_s3(tmp_path: pathlib.Path) -> None:
    """The same files as objects; the manifest last; resumable; deleted with all it has."""
    with s3_endpoint.running() as endpoint:
        shelf = S3Shelf(
            S3Settings(
                bucket=endpoint.bucket.name,
                prefix="backups",
                endpoint=endpoint.url,
                region=s3_endpoint.REGION,
                access_key=s3_endpoint.ACCESS_KEY,
                secret_key=s3_endpoint.SECRET_KEY,
            ),
            "first",
        )
        start = start_of(Form.JSONL, media=True)
        with begin(tmp_path / "spool", start, shelf) as draft:
            container = Container(draft, part_size=PART)
            for block in blocks(Form.JSONL, PIECES)[:5]:
                container.put(block)
        assert sorted(endpoint.bucket.objects) == [
            f"backups/first/part-00000{number}.jsonl" for number in (1, 2)
        ]
        del endpoint.bucket.objects["backups/first/part-000002.jsonl"]
        with resume(tmp_path / "spool", "first", lambda _start: shelf) as draft:
            assert draft.progress.parts == 1
            put_all(draft, PIECES)
        assert list((tmp_path / "spool").iterdir()) == []
        local = tmp_path / "copy" / "first"
        for key, data in endpoint.bucket.objects.items():
            path = local / key.removeprefix("backups/first/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert content(tmp_path / "copy")["stream"] == b"".join(PIECES)
        puts = [each for each in endpoint.bucket.requests if each.startswith("PUT")]
        assert "manifest.json" in puts[-1]
        shelf.remove()
        assert endpoint.bucket.objects == {}
