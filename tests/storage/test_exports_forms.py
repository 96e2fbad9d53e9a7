"""Exports for people say what is stored, in every form, and nothing of it can do any harm."""

import csv
import datetime as dt
import hashlib
import io
import pathlib
import re
import typing as t
import xml.etree.ElementTree as ET

import pytest
from st_exports import Exporting
from st_helpers import CUSTOMER, DAY, GROUP, HOUR, NOW, OTHER, take
from test_st_erasure import forget
from test_st_retention import ALL, sweep

from storage.api import Envelope, Lane, MediaFile
from storage.blobs import LocalBlobs
from storage.errors import StorageRejectedError
from storage.exports import html_form, rows, text_form
from storage.exports.model import Form
from storage.exports.whatsapp_text import DateOrder, Line, read_lines
from storage.facts import ContactName, GroupSnapshot, NameSource
from storage.postgres import PostgresStorage
from storage.queues import MediaResult, MediaState

HOSTILE = "<script>alert(1)</script>\"'&]]><!-- ‮ \x01"
PICTURE = b"\x89PNG not really"


XHTML = {"": "http://www.w3.org/1999/xhtml"}


async def side(
    storage: PostgresStorage, external_id: str, kind: str, target: str, **more: t.Any
) -> None:
    """A message that changes another one."""
    await take(storage, external_id, kind=kind, target_id=target, lane=Lane.SIDE, **more)


async def fill(storage: PostgresStorage, blobs: LocalBlobs) -> None:
    """Two people and a group, with all that is shown."""
    await storage.apply(
        [
            Envelope(
                connection="sales",
                facts=(
                    ContactName(
                        address=CUSTOMER, source=NameSource.SAVED, name="Ana: =Lima", at=NOW
                    ),
                    GroupSnapshot(group=GROUP, at=NOW, subject=HOSTILE),
                ),
            )
        ]
    )
    await take(storage, "A1", text="first\nsecond line\r\n21/11/2026, 10:00 - Bob: not a message")
    await take(storage, "A2", text=HOSTILE, sent_at=int(NOW) + 60)
    await take(storage, "A3", text="=1+1", sent_at=int(NOW) + 61, from_me=True, quoted_id="A1")
    await side(storage, "E3", "edit", "A3", text="=2+2", from_me=True, sent_at=int(NOW) + 62)
    await side(storage, "R2", "reaction", "A2", text="👍", sent_at=int(NOW) + 63)
    await take(storage, "A4", text="gone", sent_at=int(NOW) + 70)
    await side(storage, "D4", "revoke", "A4", sent_at=int(NOW) + 71)
    for number, stored in enumerate((True, False)):
        outcome = await take(
            storage,
            f"M{number}",
            kind="image",
            text="a caption",
            sent_at=int(NOW) + 80 + number,
            media=MediaFile(kind="image", mimetype="image/png", name="=pic.png", size=17),
        )
        await storage.claim_media(10)
        blob = None
        if stored:
            async with blobs.writing() as writer:
                await writer.write(PICTURE)
                blob = await writer.commit()
        assert outcome.message_id is not None
        await storage.finish_media(
            "sales",
            outcome.message_id,
            MediaResult(state=MediaState.EXPIRED)
            if blob is None
            else MediaResult(state=MediaState.STORED, blob_sha256=blob.sha256, blob_size=blob.size),
        )
    await take(storage, "B1", chat=OTHER, text="from another", sent_at=int(NOW) + HOUR)
    await take(storage, "G1", chat=GROUP, text="in a group", sent_at=int(NOW) + 2 * HOUR)
    await take(
        storage,
        "G2",
        chat=GROUP,
        kind="group_subject",
        text="new: name",
        sent_at=int(NOW) + 2 * HOUR,
    )
    await take(storage, "C1", connection="support", text="of the other account")


@pytest.fixture
async def exporting(postgres: PostgresStorage, dsn: str, tmp_path: pathlib.Path) -> Exporting:
    """A filled database."""
    blobs = LocalBlobs(tmp_path / "media")
    await blobs.prepare()
    await fill(postgres, blobs)
    return Exporting(dsn, blobs, tmp_path / "exports")


async def test_csv(exporting: Exporting) -> None:
    """Any reader of CSV reads it, and no cell is a formula."""
    manifest = await exporting.write(Form.CSV)
    assert manifest.counts == {"messages": 10, "conversations": 4}
    text = exporting.stream().decode()
    assert text.count("\r\n") >= 11
    found = {row["message_id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert len(found) == 10
    assert found["A2"]["text"] == HOSTILE
    assert found["A2"]["reactions"] == "👍"
    assert found["A3"]["text"] == "'=2+2"
    assert found["A3"]["edited"] == "yes"
    assert found["A3"]["from_me"] == "yes"
    assert found["A3"]["answers"] == "A1"
    assert found["A4"]["text"] == "gone"
    assert found["A4"]["deleted_at"]
    assert found["M0"]["file_name"] == "'=pic.png"
    assert found["A1"]["sent_at"] == "2027-01-15T08:00:00+00:00"
    assert found["C1"]["connection"] == "support"
    for row in found.values():
        assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in row.values())


async def test_html(exporting: Exporting) -> None:
    """Well-formed pages without scripts, whose links lead to files of the export."""
    manifest = await exporting.write(Form.HTML, media=True)
    assert manifest.counts["messages"] == 10
    assert manifest.counts["files"] == 1
    root = exporting.directory / "first"
    pages = exporting.pages()
    texts = []
    for name, content in pages.items():
        tree = ET.fromstring(content.decode().removeprefix("<!DOCTYPE html>\n"))
        texts.append("".join(tree.itertext()))
        assert [
            node.tag for node in tree.iter() if node.tag in ("script", "iframe", "object")
        ] == []
        for node in tree.iter():
            assert not [key for key in node.attrib if key.startswith("on")]
            for key in ("href", "src"):
                if (link := node.get(key)) is not None:
                    assert (root / name).parent.joinpath(link).resolve().is_file(), link
    everything = "".join(texts)
    assert HOSTILE.replace("\x01", "\ufffd") in everything
    assert "=2+2" in everything
    assert "Deleted for everyone" in everything
    assert "gone" in everything
    picture = root / f"media/{hashlib.sha256(PICTURE).hexdigest()[:2]}"
    assert [path.suffix for path in picture.iterdir()] == [".png"]
    assert [path.read_bytes() for path in picture.iterdir()] == [PICTURE]


async def test_pages_are_the_same_whatever_is_read_at_once(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of the database and pages of HTML do not depend on each other."""
    monkeypatch.setattr(html_form, "PAGE", 2)
    for name, page, conversations in (("whole", 1000, 200), ("tiny", 1, 1), ("two", 2, 3)):
        monkeypatch.setattr(rows, "PAGE", page)
        monkeypatch.setitem(rows.stretches.__kwdefaults__, "page", page)
        monkeypatch.setitem(rows.conversations.__kwdefaults__, "limit", conversations)
        await exporting.write(Form.HTML, name=name)
    whole = exporting.pages(name="whole")
    assert len(whole) == 3 + 1 + 1 + 1 + 1
    assert exporting.pages(name="tiny") == exporting.pages(name="two") == whole


@pytest.mark.parametrize("form", [Form.WHATSAPP, Form.WHATSAPP_IOS])
async def test_export_chat(exporting: Exporting, form: Form) -> None:
    """What is written as WhatsApp writes it is read back as the same messages."""
    await exporting.write(form, zone="America/Sao_Paulo", media=True)
    pages = exporting.pages()
    assert len(pages) == 4
    [mine] = [text for name, text in pages.items() if "sales/" in name and "Ana" in name]
    lines = read(mine)
    assert [
        (line.sender, line.text) for line in lines if not line.deleted and not line.attachment
    ] == [
        (None, lines[0].text),
        ("Ana\ua789 =Lima", "first\nsecond line\n21/11/2026, 10:00 - Bob: not a message"),
        ("Ana\ua789 =Lima", HOSTILE),
        (lines[3].sender, "=2+2"),
        ("Ana\ua789 =Lima", "a caption"),
    ]
    assert lines[3].edited
    assert lines[4].deleted
    assert (lines[5].attachment, lines[5].text) == (
        f"media/{hashlib.sha256(PICTURE).hexdigest()[:2]}/{hashlib.sha256(PICTURE).hexdigest()}.png",
        "a caption",
    )
    assert lines[6].omitted in ("media", "image")
    assert lines[1].at.isoformat() == "2027-01-15T05:00:00"
    [group] = [text for text in pages.values() if b"in a group" in text]
    assert [line.sender is None for line in read(group)] == [True, False, True]


async def test_a_long_chat_goes_on_in_another_file(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no chat is ever whole in memory."""
    monkeypatch.setattr(text_form, "FILE", 150)
    await exporting.write(Form.WHATSAPP)
    names = sorted(name for name in exporting.pages() if "Ana" in name)
    assert [re.sub(r"\d+ ", "", name, count=1) for name in names] == [
        "chats/sales/Ana_ _Lima (2).txt",
        "chats/sales/Ana_ _Lima (3).txt",
        "chats/sales/Ana_ _Lima.txt",
    ]
    assert sum(len(read(exporting.pages()[name])) for name in names) == 1 + 6


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"connection": "support"}, {"C1"}),
        ({"contact": OTHER}, {"B1"}),
        ({"connection": "sales", "contact": GROUP}, {"G1", "G2"}),
        ({"since": dt.datetime.fromtimestamp(NOW + HOUR, dt.UTC)}, {"B1", "G1", "G2"}),
        (
            {
                "since": dt.datetime.fromtimestamp(NOW + 60, dt.UTC),
                "until": dt.datetime.fromtimestamp(NOW + 62, dt.UTC),
            },
            {"A2", "A3"},
        ),
    ],
)
async def test_filters(exporting: Exporting, limits: dict[str, t.Any], left: set[str]) -> None:
    """Only what was asked for, in readable forms."""
    await exporting.write(Form.CSV, **limits)
    text = exporting.stream().decode()
    assert {row["message_id"] for row in csv.DictReader(io.StringIO(text, newline=""))} == left


@pytest.mark.parametrize(
    "limits", [{"connection": "nobody"}, {"contact": "1@lid"}, {"conversation": 10**9}]
)
async def test_filters_that_mean_nothing(exporting: Exporting, limits: dict[str, t.Any]) -> None:
    """Are an error, not an empty export."""
    with pytest.raises(StorageRejectedError, match="there is no"):
        await exporting.write(Form.CSV, **limits)


async def test_an_empty_export(postgres: PostgresStorage, dsn: str, tmp_path: pathlib.Path) -> None:
    """Is whole, too, in every form."""
    exporting = Exporting(dsn, LocalBlobs(tmp_path / "media"), tmp_path / "exports")
    for form in Form:
        await exporting.write(form, name=form.value)
    assert exporting.stream(name="csv").decode().startswith("connection,chat,")
    assert b"Nothing fits" in exporting.pages(name="html")["index.html"]
    assert exporting.pages(name="whatsapp") == {}


def read(text: bytes) -> list[Line]:
    """The messages of a file of export chat."""
    lines = text.decode().removesuffix("\n").split("\n")
    return list(read_lines(lines, DateOrder.DMY))


@pytest.mark.parametrize("form", [Form.HTML, Form.CSV, Form.WHATSAPP])
async def test_what_was_erased_shows_as_removed(
    postgres: PostgresStorage, exporting: Exporting, form: Form
) -> None:
    """By rules, or because somebody was forgotten, who has no name then."""
    await sweep(postgres, ALL, now=NOW + 366 * DAY)
    await take(postgres, "NEW", chat=OTHER, text="still here", sent_at=int(NOW) + 400 * DAY)
    await take(postgres, "G3", chat=GROUP, sender=OTHER, sent_at=int(NOW) + 400 * DAY)
    await forget(postgres, CUSTOMER)
    await exporting.write(form)
    if form is Form.CSV:
        text = exporting.stream().decode()
        found = {row["message_id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
        assert (found["B1"]["text"], found["B1"]["removed"]) == ("", "retention")
        assert (found["G1"]["text"], found["G1"]["removed"]) == ("", "forgotten")
        assert (found["NEW"]["text"], found["NEW"]["removed"]) == ("still here", "")
        return
    text = b"".join(exporting.pages().values()).decode()
    assert "still here" in text
    assert "from another" not in text
    assert "Lima" not in text
    assert CUSTOMER.partition("@")[0] not in text
    expected = '<div class="gone">removed</div>' if form is Form.HTML else ": (removed)\n"
    assert text.count(expected) >= 7
    assert (">removed</div>" if form is Form.HTML else "removed: (removed)") in text
