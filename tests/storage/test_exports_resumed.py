"""An export that is cut off after any of its pages, and resumed, is the one that was never cut."""

import datetime as dt
import pathlib
import typing as t

import attrs
import pytest
import s3_endpoint
from st_exports import Exporting, finished, start_of
from st_helpers import CUSTOMER, GROUP, NOW, OTHER, Clock, Cluster, take
from test_exports_forms import fill

from storage.api import Storage
from storage.archive_reader import ArchiveReader
from storage.blobs import LocalBlobs, S3Settings
from storage.changes import Viewer
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.exports import archive_form, container, html_form, rows, run, text_form
from storage.exports.check import open_export, verify
from storage.exports.draft import begin, resume, unfinished
from storage.exports.ledger import ExportRow
from storage.exports.model import LONGEST, Form, Request
from storage.exports.run import Means, newest_of, write_export
from storage.exports.work import ExportWorker
from storage.maintenance import Maintenance, open_maintenance
from storage.postgres import PostgresStorage

BY = Viewer(who="auditor", token_id="t1", uid=1000, request_id="r1")


class CutError(Exception):
    """The end of a run."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts, pages and files of a few messages, so that there are many."""
    monkeypatch.setitem(container.Container.__init__.__kwdefaults__, "part_size", 400)
    monkeypatch.setattr(container, "PAGES", 1)
    monkeypatch.setattr(html_form, "PAGE", 2)
    monkeypatch.setattr(text_form, "FILE", 150)
    monkeypatch.setattr(run, "INDEX_PAGE", 1)
    monkeypatch.setitem(rows.stretches.__kwdefaults__, "page", 2)
    monkeypatch.setitem(rows.conversations.__kwdefaults__, "limit", 2)

    def reader(*args: t.Any, **more: t.Any) -> ArchiveReader:
        return ArchiveReader(*args, **more, page=2)

    monkeypatch.setattr(archive_form, "ArchiveReader", reader)


@pytest.fixture
async def exporting(postgres: PostgresStorage, dsn: str, tmp_path: pathlib.Path) -> Exporting:
    blobs = LocalBlobs(tmp_path / "media")
    await blobs.prepare()
    await fill(postgres, blobs)
    return Exporting(dsn, blobs, tmp_path / "exports")


async def until_cut(exporting: Exporting, session: Maintenance, name: str, pages: int) -> bool:
    """Go on for so many pages; whether it was cut off."""
    left = pages

    async def breathe() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise CutError

    means = Means(session=session, blobs=exporting.blobs, breathe=breathe)
    with resume(exporting.directory, name) as draft:
        try:
            await write_export(draft, means, finished)
        except CutError:
            return True
    return False


@pytest.mark.parametrize("form", Form)
async def test_cut_off_after_every_page(
    exporting: Exporting, postgres: PostgresStorage, small: None, form: Form
) -> None:
    """To the byte, whatever arrived meanwhile."""
    await exporting.write(form, name="whole", media=True)
    whole = content(exporting.directory / "whole")
    assert len(whole) > 4
    cuts = 0
    async with open_maintenance(exporting.dsn) as session:
        start = attrs.evolve(
            start_of(form, name="cut", media=True), bounds=await newest_of(session)
        )
        with begin(exporting.directory, start):
            pass
        while await until_cut(exporting, session, "cut", 1 + cuts % 4):
            cuts += 1
            await take(postgres, f"N{cuts}", chat="15550009999@s.whatsapp.net", text="too late")
    assert cuts > 1
    assert content(exporting.directory / "cut") == whole
    assert verify(open_export(exporting.directory / "cut")).good


def content(path: pathlib.Path) -> dict[str, bytes]:
    """All files but the manifest, which tells names and times."""
    return {
        each.relative_to(path).as_posix(): each.read_bytes()
        for each in path.rglob("*")
        if each.is_file() and each.name not in ("manifest.json", "SHA256SUMS")
    }


async def test_the_database_goes_away(exporting: Exporting, cluster: t.Any, small: None) -> None:
    """In the middle: what is complete is kept, and goes on when it is back."""
    await exporting.write(Form.HTML, name="whole")
    async with open_maintenance(exporting.dsn) as session:
        start = attrs.evolve(start_of(Form.HTML), bounds=await newest_of(session))
        pages = 0

        async def breathe() -> None:
            nonlocal pages
            pages += 1
            if pages == 3:
                await cluster.sql(
                    cluster.server.dsn,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                    exporting.dsn.rpartition("/")[2].partition("?")[0],
                )

        means = Means(session=session, blobs=exporting.blobs, breathe=breathe)
        with begin(exporting.directory, start) as draft:
            with pytest.raises(StorageUnavailableError):
                await write_export(draft, means, finished)
            assert draft.progress.files >= 3
    await exporting.resume()
    assert content(exporting.directory / "first") == content(exporting.directory / "whole")


def row_of(place: pathlib.Path, name: str = "first", **request: t.Any) -> ExportRow:
    """A row that was just begun."""
    at = finished_at()
    return ExportRow(
        id=1,
        name=name,
        period=None,
        place=str(place),
        request=Request(**request),
        state="running",
        attempts=1,
        counts={},
        bytes=0,
        error=None,
        started_at=at,
        updated_at=at,
        finished_at=None,
        removed_at=None,
    )


def finished_at() -> dt.datetime:
    return dt.datetime.fromtimestamp(NOW, dt.UTC)


async def test_the_work_of_a_row(exporting: Exporting) -> None:
    """Begun, done; done again it is found; what cannot be leaves nothing; what is asked for
    otherwise is refused; removed with all it has."""
    worker = ExportWorker(
        open_session=lambda: open_maintenance(exporting.dsn),
        blobs=exporting.blobs,
        spool=exporting.directory / "spool",
        s3=None,
        program="1.2.3",
        wall_clock=lambda: NOW,
    )
    row = row_of(exporting.directory, form=Form.CSV)
    heard: list[int] = []
    manifest = await worker.write(row, previous="older", told=lambda c: heard.append(c["messages"]))
    assert heard[-1] == manifest.counts["messages"]
    assert manifest.start.previous == "older"
    assert await worker.write(row) == manifest
    with pytest.raises(StorageRejectedError, match="exists already"):
        await worker.write(attrs.evolve(row, request=Request(form=Form.HTML)))
    for wrong in ({"connection": "nobody"}, {"recipients": ("age1x",)}):
        with pytest.raises(StorageRejectedError):
            await worker.write(row_of(exporting.directory, "wrong", **wrong))
        assert unfinished(exporting.directory) == []
    with pytest.raises(StorageRejectedError, match="no S3 store"):
        worker.s3_place()
    with pytest.raises(StorageRejectedError, match="not configured"):
        await worker.write(attrs.evolve(row, place="s3://bucket"))
    with begin(exporting.directory, start_of(Form.CSV, name="half")):
        pass
    with pytest.raises(StorageRejectedError, match="asks for something else"):
        await worker.write(row_of(exporting.directory, "half", form=Form.HTML))
    await worker.remove(row_of(exporting.directory, "half"))
    await worker.remove(row)
    await worker.remove(row)
    assert list(exporting.directory.iterdir()) == []


async def test_a_manifest_in_s3_without_end(tmp_path: pathlib.Path) -> None:
    """Is not read: somebody else has put it where the export should go."""
    with s3_endpoint.running() as endpoint:
        name = endpoint.bucket.name
        worker = ExportWorker(
            open_session=lambda: open_maintenance("unused"),
            blobs=LocalBlobs(tmp_path),
            spool=tmp_path / "spool",
            s3=S3Settings(
                bucket=name,
                endpoint=endpoint.url,
                region=s3_endpoint.REGION,
                access_key=s3_endpoint.ACCESS_KEY,
                secret_key=s3_endpoint.SECRET_KEY,
            ),
            program="1.2.3",
            wall_clock=lambda: NOW,
        )
        endpoint.bucket.objects["first/manifest.json"] = bytes(LONGEST + 1)
        with pytest.raises(StorageRejectedError, match=f"s3://{name}/first/manifest.json is too"):
            await worker.write(attrs.evolve(row_of(tmp_path), place=worker.s3_place()))
        assert not any(each.startswith("GET") for each in endpoint.bucket.requests)


async def test_the_table(storage: Storage, clock: Clock) -> None:
    """What both storages say of exports."""
    request = Request(form=Form.HTML, contact=CUSTOMER, recipients=("age1x",), since=finished_at())
    first = await storage.begin_export("first", "/exports", request, BY)
    assert first is not None
    assert (first.state, first.request, first.path) == ("running", request, "/exports/first")
    assert await storage.begin_export("first", "/elsewhere", Request(), BY) is None
    nightly = await storage.begin_export("n1", "/exports", Request(), BY, period="day 1")
    assert nightly is not None
    assert await storage.begin_export("n2", "/exports", Request(), BY, period="day 1") is None
    await storage.export_progress(first.id, {"messages": 3})
    assert [row.counts for row in await storage.running_exports()] == [{"messages": 3}, {}]
    clock.now += 60
    failed = await storage.fail_export(first.id, "no room")
    assert failed is not None
    assert (failed.state, failed.error, failed.attempts) == ("failed", "no room", 1)
    assert await storage.fail_export(first.id, "again") is None
    again = await storage.begin_export_again(first.id, BY)
    assert again is not None
    assert (again.state, again.error, again.attempts, again.finished_at) == (
        "running",
        None,
        2,
        None,
    )
    assert await storage.export_removed(first.id) is None
    done = await storage.finish_export(first.id, {"messages": 5}, 500)
    assert done is not None
    assert (done.state, done.bytes, done.counts) == ("done", 500, {"messages": 5})
    assert done.finished_at == done.updated_at > done.started_at
    assert await storage.begin_export_again(first.id, BY) is None
    removed = await storage.export_removed(first.id)
    assert removed is not None
    assert removed.removed_at is not None
    assert await storage.export_removed(first.id) is None
    assert [row.name for row in await storage.exports()] == ["n1", "first"]
    assert [row.name for row in await storage.exports(before=nightly.id)] == ["first"]
    assert [row.name for row in await storage.scheduled_exports()] == ["n1"]
    assert await storage.export(10**9) is None
    assert await storage.export_named("n1") == await storage.export(nightly.id)
    events = (await storage.events_after(0)).events
    told = [(event.type, event.data["export_id"]) for event in events if "export" in event.type]
    assert told == [("export.failed", first.id), ("export.finished", first.id)]
    assert {CUSTOMER, OTHER, GROUP}.isdisjoint(str([event.data for event in events]))


async def test_the_record(storage: Storage) -> None:
    """Each beginning is on record with who asked and for what; what does not begin is not."""
    wanted = Request(connection="sales", conversation=7)
    first = await storage.begin_export("first", "/exports", wanted, BY)
    assert first is not None
    [row] = await storage.history_accesses()
    assert (row.who, row.token_id, row.uid, row.request_id) == ("auditor", "t1", 1000, "r1")
    assert (row.what, row.query, row.connection) == ("export", "first", "sales")
    assert (row.conversations, row.messages, row.at) == ((7,), (), first.started_at)
    assert await storage.begin_export("first", "/exports", Request(), BY) is None
    assert await storage.begin_export_again(10**9, BY) is None
    await storage.fail_export(first.id, "no room")
    assert await storage.begin_export_again(first.id, Viewer(who="schedule")) is not None
    assert await storage.begin_export("second", "/exports", Request(), BY) is not None
    await storage.finish_export(first.id, {}, 0)
    assert await storage.begin_export_again(first.id, BY) is None
    rows = await storage.history_accesses()
    assert [(each.query, each.who, each.conversations) for each in rows] == [
        ("second", "auditor", ()),
        ("first", "schedule", (7,)),
        ("first", "auditor", (7,)),
    ]


async def test_no_record_no_export(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    """What cannot be put on record does not begin."""
    async with open_maintenance(dsn) as session:
        await session.run(
            "ALTER TABLE history_accesses ADD CONSTRAINT none CHECK (false) NOT VALID"
        )
    with pytest.raises(StorageRejectedError):
        await postgres.begin_export("first", "/exports", Request(), BY)
    assert await postgres.exports() == []
