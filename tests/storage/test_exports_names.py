"""Names of people in the names of files: of any length, and never in what is stored of an error."""

import os
import pathlib
import typing as t

import pytest
import s3_endpoint
from st_exports import Exporting, start_of
from st_helpers import CUSTOMER, NOW, take

from storage.api import ConversationRules, Envelope
from storage.blobs import LocalBlobs, S3Settings
from storage.errors import StorageUnavailableError
from storage.exports import text_form
from storage.exports.container import Block, Container
from storage.exports.draft import begin
from storage.exports.model import Form
from storage.exports.shelf_s3 import S3Shelf
from storage.facts import ContactName, NameSource
from storage.postgres import PostgresStorage

LONG = "\U0001d4b6" * 60  # letters of four bytes
PAGE = "chats/sales/12 Ana Lima +55 11 99999-0000.txt"


@pytest.mark.parametrize("pieces", [{}, {"compress": True}])
@pytest.mark.parametrize("connection", ["sales", "..", "a/b", "\u00e9" * 200])
async def test_chats_of_any_name(
    postgres: PostgresStorage,
    dsn: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    connection: str,
    pieces: dict[str, t.Any],
) -> None:
    """Letters of many bytes and names of connections that are no names of folders."""
    monkeypatch.setattr(text_form, "FILE", 1)
    name = ContactName(address=CUSTOMER, source=NameSource.PUSH, name=LONG, at=NOW)
    await postgres.ensure_connection(connection, ConversationRules())
    await postgres.apply([Envelope(connection=connection, facts=(name,))])
    for number in range(3):
        await take(postgres, f"A{number}", connection=connection, text="hi")
    exporting = Exporting(dsn, LocalBlobs(tmp_path / "media"), tmp_path / "exports")
    manifest = await exporting.write(Form.WHATSAPP, **pieces)
    assert manifest.counts["messages"] == 3
    assert len(exporting.pages()) == 3
    for page in exporting.pages():
        folder, file = page.removeprefix("chats/").split("/")
        assert len(os.fsencode(file)) < 200
        assert LONG[:30] in file
        assert folder.strip(".")


def put(tmp_path: pathlib.Path, page: str, shelf: S3Shelf | None = None, **request: t.Any) -> None:
    """Write one page."""
    with begin(tmp_path, start_of(Form.WHATSAPP, **request), shelf) as draft:
        container = Container(draft)
        container.put(Block(data=b"x", cursor="1", page=page))
        container.cut()


def test_an_error_names_the_folder(tmp_path: pathlib.Path) -> None:
    """And what the system says, but not whose chat it was."""
    page = PAGE.replace("Lima", "Lima" * 100)
    with pytest.raises(StorageUnavailableError) as refused:
        put(tmp_path, page)
    assert "chats/sales cannot be written: File name too long" in str(refused.value)
    assert "Ana" not in str(refused.value)


def test_an_error_of_s3_names_no_file(tmp_path: pathlib.Path) -> None:
    """Neither as it is nor as it stands in a URL; the rest of it is told."""
    with s3_endpoint.running() as endpoint:
        endpoint.bucket.fail_with = 403
        settings = S3Settings(
            bucket=endpoint.bucket.name,
            endpoint=endpoint.url,
            region=s3_endpoint.REGION,
            access_key=s3_endpoint.ACCESS_KEY,
            secret_key=s3_endpoint.SECRET_KEY,
        )
        with pytest.raises(StorageUnavailableError) as refused:
            put(tmp_path, PAGE, S3Shelf(settings, "first"))
        with pytest.raises(StorageUnavailableError) as unseen:
            S3Shelf(settings, "first").size(PAGE)
    for error in (refused, unseen):
        assert endpoint.url in str(error.value)
        assert "Ana" not in str(error.value)
        assert "99999" not in str(error.value)


@pytest.mark.parametrize("request_", [{}, {"compress": True}])
@pytest.mark.parametrize("page", ["chats/../../Ana.txt", "/Ana.txt", "chats//Ana", "Ana\n"])
def test_a_page_outside_of_the_export(
    tmp_path: pathlib.Path, page: str, request_: dict[str, t.Any]
) -> None:
    """Is not written, packed or not; the error is logged, and without the name."""
    with pytest.raises(ValueError, match="no name of a file") as refused:
        put(tmp_path, page, **request_)
    assert "Ana" not in str(refused.value)
