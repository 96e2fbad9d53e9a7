"""What WhatsApp's "export chat" gives: a file of text, alone, in a folder, or in a zip with files.

Nothing is ever extracted to a path of the zip's choosing, and nothing is read without a bound. Of a
folder, a line gets at what WhatsApp has put there, and at nothing else that somebody may name.
"""

import collections.abc as cabc
import contextlib
import io
import os
import pathlib
import re
import stat
import typing as t
import zipfile

import attrs

from storage.exports.whatsapp_text import LONGEST, TextError

MAX_TEXT: t.Final = 4 << 30  # bytes of the text
MAX_FILE: t.Final = 4 << 30  # bytes of a file of a message
MAX_MEMBERS: t.Final = 200_000
MAX_RATIO: t.Final = 1_000  # what deflate can do at most
MIN_BUDGET: t.Final = 1 << 30  # bytes that all files of a zip may have together
BUDGET_RATIO: t.Final = 20
"""And so many times the size of the zip: pictures and sound do not get smaller in it."""
_SHOWN: t.Final = 5
_OWN: t.Final = re.compile(
    r"(?:(?:IMG|VID|AUD|PTT|DOC|STK)-\d{8}-WA\d{4,6}(?: ?\(\d{1,4}\))?"
    r"|(?:\d{8}-)?(?:PHOTO|VIDEO|AUDIO|GIF|STICKER)-\d{4}(?:-\d\d){5}(?: ?\(\d{1,4}\))?"
    r"|\d{4}-\d\d-\d\d-(?:PHOTO|VIDEO|AUDIO)-\d{8}"
    r"|0\d{7}-[^/\0]{1,200})"
    r"\.[A-Za-z0-9]{0,8}",
    re.ASCII,
)
"""What WhatsApp calls files: on Android, on an iPhone, on older ones; there documents, too."""


@attrs.frozen
class ChatFile:
    """Use :func:`open_chat`."""

    path: pathlib.Path
    _archive: zipfile.ZipFile | None
    _text: zipfile.ZipInfo | None
    _files: cabc.Mapping[str, zipfile.ZipInfo]

    @contextlib.contextmanager
    def lines(self) -> cabc.Iterator[cabc.Iterator[str]]:
        """The lines of the text, without their ends.

        Raises:
            TextError: it is not UTF-8, or too large; or the zip is damaged. Also from the lines.
        """
        with contextlib.ExitStack() as stack:
            raw: t.IO[bytes]
            if self._archive is not None and self._text is not None:
                raw = stack.enter_context(self._archive.open(self._text))
            else:
                raw = stack.enter_context(self.path.open("rb"))
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")
            yield self._lines(stack.enter_context(text))

    def _lines(self, file: t.TextIO) -> cabc.Iterator[str]:
        number = 0
        try:
            while line := file.readline(2 * LONGEST):
                number += 1
                yield line.removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise TextError(f"{self.path} is not in UTF-8, after line {number}") from error
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise TextError(f"{self.path} is damaged, after line {number}: {error}") from error

    @contextlib.contextmanager
    def attachment(self, name: str) -> cabc.Iterator[t.IO[bytes] | None]:
        """The file of a message by its name; None: it is not there, too large, or lies in a folder
        under a name that is not of WhatsApp's making.

        Raises:
            TextError: the zip is damaged.
        """
        name = base_name(name)
        with contextlib.ExitStack() as stack:
            found: t.IO[bytes] | None = None
            if self._archive is None:
                found = self._beside(name, stack)
            elif (member := self._files.get(name)) is not None:
                found = stack.enter_context(self._archive.open(member))
            try:
                yield found
            except (zipfile.BadZipFile, EOFError) as error:
                raise TextError(f"{self.path}: {name} in it is damaged: {error}") from error

    def _beside(self, name: str, stack: contextlib.ExitStack) -> t.IO[bytes] | None:
        if not _OWN.fullmatch(name):
            return None
        try:
            descriptor = os.open(
                self.path.parent / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            )
        except OSError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            os.close(descriptor)
            return None
        return stack.enter_context(open(descriptor, "rb"))


@contextlib.contextmanager
def open_chat(path: pathlib.Path) -> cabc.Iterator[ChatFile]:
    """The export of a chat: ``.txt``, or a ``.zip`` with one.

    Raises:
        TextError: it is none, damaged, or not to be trusted.
    """
    if path.suffix.lower() != ".zip":
        try:
            size = path.stat().st_size
        except OSError as error:
            raise TextError(f"{path} cannot be read: {error.strerror}") from error
        if size > MAX_TEXT:
            raise TextError(f"{path} is larger than any export of a chat")
        yield ChatFile(path, None, None, {})
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise TextError(f"{path} is no zip that can be read: {error}") from error
    with archive:
        members = [each for each in archive.infolist() if not each.is_dir()]
        _check(path, members)
        _check_total(path, members)
        yield ChatFile(
            path,
            archive,
            _text_of(path, members),
            {base_name(each.filename): each for each in members},
        )


def base_name(name: str) -> str:
    """The name of a file without its folders: those of a text or a zip mean nothing here."""
    return name.rpartition("/")[2]


def _check(path: pathlib.Path, members: cabc.Sequence[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise TextError(f"{path} holds more than {MAX_MEMBERS:,} files; that is no chat")
    for each in members:
        if each.flag_bits & 1:
            raise TextError(f"{path} is encrypted; unpack it, and import the folder's text")
        if each.file_size > MAX_FILE or each.file_size > MAX_RATIO * max(each.compress_size, 1024):
            raise TextError(
                f"{path} says that a file in it is {each.file_size:,} bytes large out of"
                f" {each.compress_size:,}; it is not what WhatsApp makes, and was not unpacked"
            )


def _check_total(path: pathlib.Path, members: cabc.Sequence[zipfile.ZipInfo]) -> None:
    total, size = sum(each.file_size for each in members), path.stat().st_size
    if total > max(MIN_BUDGET, BUDGET_RATIO * size):
        raise TextError(
            f"{path} says that the files in it are {total:,} bytes large out of {size:,}; it is not"
            " what WhatsApp makes, and was not unpacked"
        )


def _text_of(path: pathlib.Path, members: cabc.Sequence[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    texts = [each for each in members if each.filename.lower().endswith(".txt")]
    named = [
        each
        for each in texts
        if base_name(each.filename) == "_chat.txt" or "whatsapp" in each.filename.lower()
    ]
    found = named if len(named) == 1 else texts
    if len(found) != 1:
        names = ", ".join(each.filename[:60] for each in texts[:_SHOWN]) or "none"
        raise TextError(
            f"{path} has to hold the text of one chat (_chat.txt, or WhatsApp Chat with ….txt);"
            f" texts in it: {names}"
        )
    return found[0]
