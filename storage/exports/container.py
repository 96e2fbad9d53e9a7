"""Cuts what a form writes into the files of an export: parts of a stream, or pages."""

import collections
import collections.abc as cabc
import tarfile
import typing as t

import attrs

from storage.exports.draft import END, Draft
from storage.exports.model import safe_name
from storage.exports.sealing import (
    COMPRESSED,
    ENCRYPTED,
    Packer,
    Recipients,
    Stream,
    encrypt_stream,
    parse_recipients,
)

PART: t.Final = 16 * 1024 * 1024  # bytes that go into a part, before it is compressed
PAGES: t.Final = 500  # that are committed together at most
MEDIA: t.Final = 256 * 1024 * 1024  # bytes of files, the same


@attrs.frozen(kw_only=True)
class Block:
    """What a form has written: some lines of the stream, or a page."""

    data: bytes = attrs.field(repr=False)
    cursor: str  # where to go on behind it
    counts: cabc.Mapping[str, int] = attrs.field(factory=dict)  # what is in it
    page: str | None = None  # its file; None: it is of the stream
    files: tuple[tuple[bytes, str], ...] = ()
    """Files of messages that it refers to: the SHA-256, and the name in the export."""


class Container:
    """Takes blocks in order; what :meth:`cut` has returned from survives. Its methods block."""

    def __init__(self, draft: Draft, *, header: bytes = b"", part_size: int = PART) -> None:
        """``header`` begins each part of a stream.

        Raises:
            StorageRejectedError: a recipient is none.
        """
        request = draft.start.request
        self._draft = draft
        self._header = header
        self._part_size = part_size
        self._form = request.form
        self._compress = request.compress
        self._recipients: Recipients = parse_recipients(request.recipients)
        self._packed = self._form.streamed or self._compress or bool(self._recipients)
        self._packer: Packer | None = None
        self._counts = collections.Counter(draft.progress.counts)
        self._cursor = draft.progress.cursor
        self._uncommitted = 0  # bytes of pages and files
        self._pages = 0

    @property
    def cursor(self) -> str | None:
        """Where to go on behind all that was put; None: at the beginning."""
        return self._cursor

    @property
    def counts(self) -> cabc.Mapping[str, int]:
        """What was put, by kind."""
        return self._counts

    @property
    def sealed(self) -> str:
        """What the names of encrypted files end in; empty: they are not."""
        return ENCRYPTED if self._recipients else ""

    def count(self, kind: str) -> None:
        """One more of a kind that no block counts."""
        self._counts[kind] += 1

    def put(self, block: Block) -> None:
        """Take one more; a part that is full with it is cut.

        Raises:
            StorageUnavailableError: it cannot be written.
        """
        if not self._packed:
            self._draft.add(_named(block), block.data)
            self._uncommitted += len(block.data)
        elif self._form.streamed:
            self._open(self._header).write(block.data)
        else:
            self._open(b"").write(_archived(safe_name(_named(block)), block.data))
        self._pages += 1
        self._counts.update(block.counts)
        self._cursor = block.cursor
        if self._is_full():
            self.cut()

    def has(self, name: str) -> bool:
        """Whether a file of a message is there already."""
        return self._draft.has(name + self.sealed)

    def copy(self, name: str, source: Stream) -> None:
        """Take the file of a message, whose content is what its name says.

        Raises:
            StorageUnavailableError: it cannot be written.
            Exception: what the source raised; nothing is there of it.
        """
        with self._draft.writing(name + self.sealed) as file:
            if self._recipients:
                encrypt_stream(source, t.cast("t.IO[bytes]", file), self._recipients)
            else:
                while piece := source.read(256 * 1024):
                    file.write(piece)
        self._counts["files"] += 1
        self._uncommitted += file.size

    def cut(self) -> None:
        """Finish the part that is being filled, if there is one, and make all of it stay.

        Raises:
            StorageUnavailableError: it cannot be written.
        """
        if self._cursor is None:
            return
        if self._packer is not None:
            number = self._draft.progress.parts + 1
            self._draft.add(self._part_name(number), self._finished(), part=True)
        self._draft.commit(self._cursor, self._counts)
        self._packer, self._uncommitted, self._pages = None, 0, 0

    def end(self) -> None:
        """There is no more. An empty stream has one part, too.

        Raises:
            StorageUnavailableError: it cannot be written.
        """
        if self._form.streamed and self._draft.progress.parts == 0:
            self._open(self._header)
        self._cursor = END
        self.cut()

    def _is_full(self) -> bool:
        if self._uncommitted >= MEDIA:
            return True
        if self._packed:
            return self._packer is not None and self._packer.size >= self._part_size
        return self._pages >= PAGES

    def _open(self, header: bytes) -> Packer:
        if self._packer is None:
            self._packer = Packer(compress=self._compress, recipients=self._recipients)
            self._packer.write(header)
        return self._packer

    def _finished(self) -> bytes:
        packer = self._open(b"")
        if not self._form.streamed:
            packer.write(bytes(2 * tarfile.BLOCKSIZE))
        return packer.finish()

    def _part_name(self, number: int) -> str:
        kind = self._form.value if self._form.streamed else "tar"
        return f"part-{number:06}.{kind}{COMPRESSED if self._compress else ''}{self.sealed}"


def _named(block: Block) -> str:
    if block.page is None:
        raise AssertionError("a page without a name")
    return block.page


def _archived(name: str, data: bytes) -> bytes:
    """A file as a member of a tar archive, the same whenever it is made."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o600
    padding = bytes(-len(data) % tarfile.BLOCKSIZE)
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") + data + padding
