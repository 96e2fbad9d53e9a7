"""Files of an exported chat: what a text may name, and how much a zip may hold."""

import hashlib
import pathlib
import zipfile

import pytest

from daemon import chat_import
from storage.blobs import LocalBlobs
from storage.exports import chat_files
from storage.exports.chat_files import open_chat
from storage.exports.whatsapp_text import DateOrder, TextError, read_lines

TEXT = "WhatsApp Chat with Ana.txt"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("IMG-20260101-WA0001.jpg", True),
        ("IMG-20260101-WA0001 (2).jpg", True),
        ("PTT-20260101-WA0001.opus", True),
        ("DOC-20260101-WA0001.", True),
        ("STK-20260101-WA0001.webp", True),
        ("00000012-PHOTO-2026-01-01-10-00-00.jpg", True),
        ("PHOTO-2026-01-01-10-00-00.jpg", True),
        ("2016-01-01-PHOTO-00000012.jpg", True),
        ("00000013-Orçamento março.pdf", True),
        ("id_rsa", False),
        (".ssh", False),
        (".IMG-20260101-WA0001.jpg", False),
        ("payroll.xlsx", False),
        ("20260101-payroll.xlsx", False),
        ("IMG-20260101-WA0001.jpg.age.key", False),
        ("xIMG-20260101-WA0001.jpg", False),
        (TEXT, False),
    ],
)
def test_files_beside_a_text(tmp_path: pathlib.Path, name: str, taken: bool) -> None:
    """Those that WhatsApp has named, and no others that happen to lie there."""
    (tmp_path / TEXT).write_text("")
    (tmp_path / name).write_bytes(b"content")
    with open_chat(tmp_path / TEXT) as chat, chat.attachment(f"somewhere/{name}") as file:
        assert (file is not None) is taken
        assert file is None or file.read() == b"content"


def test_no_links_beside_a_text(tmp_path: pathlib.Path) -> None:
    """Nor folders, whatever they are called."""
    (tmp_path / TEXT).write_text("")
    secret = tmp_path / "secret"
    secret.write_bytes(b"content")
    link, folder = "IMG-20260101-WA0001.jpg", "IMG-20260101-WA0002.jpg"
    (tmp_path / link).symlink_to(secret)
    (tmp_path / folder).mkdir()
    with open_chat(tmp_path / TEXT) as chat:
        for name in (link, folder):
            with chat.attachment(name) as file:
                assert file is None


def test_a_zip_has_a_budget(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many files that are each allowed are too much together; told before anything is unpacked."""
    monkeypatch.setattr(chat_files, "MIN_BUDGET", 1 << 20)
    path = tmp_path / "chat.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_chat.txt", "")
        for number in range(8):
            archive.writestr(f"{number}.bin", bytes(200_000))
    words = r"the files in it are 1,600,000 bytes.*not unpacked"
    with pytest.raises(TextError, match=words), open_chat(path):
        pass
    monkeypatch.setattr(chat_files, "MIN_BUDGET", 2 << 20)
    with open_chat(path):
        pass


async def test_a_file_that_many_lines_name_is_unpacked_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under whatever folder each of them puts it."""
    path = tmp_path / "chat.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_chat.txt", "")
        archive.writestr("any.bin", b"content")
    opened = []
    unpack = zipfile.ZipFile.open

    def counted(self: zipfile.ZipFile, *arguments: object) -> object:
        opened.append(arguments)
        return unpack(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(zipfile.ZipFile, "open", counted)
    text = [f"21/11/2026, 09:3{n} - Ana: {n}/any.bin (file attached)" for n in range(9)]
    blobs = LocalBlobs(tmp_path / "media")
    await blobs.prepare()
    known: dict[str, chat_import.StoredFile] = {}
    with open_chat(path) as chat:
        found = [
            await chat_import._stored(chat, blobs, line, known)
            for line in read_lines(iter(text), DateOrder.DMY)
        ]
    assert len(found) == 9
    assert {each and each.sha256 for each in found} == {hashlib.sha256(b"content").digest()}
    assert len(opened) == 1
