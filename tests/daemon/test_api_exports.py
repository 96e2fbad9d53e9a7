"""Exports over the control socket: asked for, looked at, gone on with, deleted."""

import collections.abc as cabc
import datetime as dt
import os
import typing as t
from pathlib import Path

import httpx
import pytest
import trio
from daemon_fakes import Control, Run, open_control, problem

from api.app import build_apps
from api.auth import Caller
from api.routes_exports import ExportOrder, request_of
from config.listeners import HttpConfig
from storage.exports.model import Form


@pytest.fixture
async def control(short_path: Path) -> cabc.AsyncIterator[Control]:
    with trio.fail_after(60):
        async with open_control(short_path / "control.sock") as control:
            yield control


async def ask(client: httpx.AsyncClient, **order: t.Any) -> dict[str, t.Any]:
    """Begin an export."""
    answer = await client.post("/exports", json=order)
    assert answer.status_code == 202, answer.text
    row: dict[str, t.Any] = answer.json()
    return row


async def test_a_life_of_an_export(client: httpx.AsyncClient, control: Control) -> None:
    """Begun, listed, failed, gone on with, complete, deleted."""
    inbox = control.storage.inbox
    row = await ask(
        client,
        form="csv",
        connection="sales",
        contact="+55 11 99999-0000",
        from_day="2026-11-01",
        to_day="2026-11-30",
        timezone="America/Sao_Paulo",
    )
    assert row["state"] == "running"
    assert row["contact"] == "5511999990000@s.whatsapp.net"
    assert (row["since"], row["until"]) == (
        "2026-11-01T03:00:00+00:00",
        "2026-12-01T03:00:00+00:00",
    )
    assert row["path"] == f"/exports/{row['name']}"
    assert row["compress"] is False
    second = await ask(client, name="second", s3=True, media=True)
    assert (second["path"], second["compress"]) == ("s3://backups/whatsapp/second", True)
    listed = await client.get("/exports", params={"limit": 1})
    assert [each["name"] for each in listed.json()] == ["second"]
    more = await client.get("/exports", params={"cursor": listed.headers["x-next-cursor"]})
    assert [each["id"] for each in more.json()] == [row["id"]]

    control.exporter._view.running = row["id"]
    control.exporter._view.counts = {"messages": 7}
    assert (await client.get(f"/exports/{row['id']}")).json()["counts"] == {"messages": 7}
    running = await client.delete(f"/exports/{row['id']}")
    assert problem(running)["type"] == "urn:zapvisor:export-runs"

    await inbox.fail_export(row["id"], "there is no room")
    failed = (await client.get(f"/exports/{row['id']}")).json()
    assert (failed["state"], failed["error"]) == ("failed", "there is no room")
    again = await client.post(f"/exports/{row['id']}/resume")
    assert (again.status_code, again.json()["attempts"]) == (202, 2)
    await inbox.finish_export(row["id"], {"messages": 9}, 100)
    complete = await client.post(f"/exports/{row['id']}/resume")
    assert problem(complete)["type"] == "urn:zapvisor:export-complete"
    gone = await client.delete(f"/exports/{row['id']}")
    assert gone.json()["removed_at"] is not None
    assert (await client.delete(f"/exports/{row['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"from_day": "2026-11-02", "to_day": "2026-11-01"}, "before"),
        ({"recipients": ["age1x"] * 21}, "at most 20"),
        ({"recipients": ["age1x"]}, "no recipient"),
        ({"contact": "nobody"}, "no address"),
        ({"conversation": -1}, "conversation"),
        ({"name": "../x"}, "cannot be the name"),
        ({"directory": "relative"}, "absolute"),
        ({"form": "pdf"}, "form"),
        ({"to_day": "9999-12-31"}, "to_day"),
    ],
)
async def test_what_cannot_be(
    client: httpx.AsyncClient, order: dict[str, t.Any], words: str
) -> None:
    """Says what is wrong; nothing is begun."""
    answer = await client.post("/exports", json=order)
    assert 400 <= answer.status_code < 500, answer.text
    assert words in problem(answer)["detail"]
    assert (await client.get("/exports")).json() == []


async def test_names_and_numbers(client: httpx.AsyncClient, control: Control) -> None:
    """That there are not, or that are taken; and too many."""
    for method, path in (("GET", ""), ("POST", "/resume"), ("DELETE", "")):
        answer = await client.request(method, f"/exports/99{path}")
        assert problem(answer)["type"] == "urn:zapvisor:unknown-export"
    for number in range(20):
        await ask(client, name=f"n{number}")
    busy = await client.post("/exports", json={"name": "one-more"})
    assert problem(busy)["type"] == "urn:zapvisor:exports-busy"
    await control.storage.inbox.fail_export(1, "x")
    taken = await client.post("/exports", json={"name": "n5"})
    assert taken.status_code == 409
    assert "already" in problem(taken)["detail"]


async def test_a_directory_is_for_the_control_socket(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes with a token cannot have files written anywhere."""
    assert (await ask(client, name="mine", directory="/elsewhere"))["path"] == "/elsewhere/mine"
    somebody = Caller(name="token", scopes=frozenset({"read", "operate", "history"}))
    monkeypatch.setattr("api.routes_exports.caller", lambda _scope: somebody)
    answer = await client.post("/exports", json={"directory": "/elsewhere"})
    assert answer.status_code == 403
    assert (await ask(client, name="other"))["path"] == "/exports/other"


def test_days_are_whole_days() -> None:
    """Also one with 23 hours."""
    day = dt.date(2026, 3, 29)  # clocks go forward
    order = ExportOrder(form="html", timezone="Europe/Berlin", from_day=day, to_day=day)
    request = request_of(order)
    assert request.form is Form.HTML
    assert request.since is not None
    assert request.until is not None
    assert request.until - request.since == dt.timedelta(hours=23)
    assert request_of(ExportOrder()).since is None


@pytest.fixture
async def tokens(control: Control) -> t.Callable[..., httpx.AsyncClient]:
    """Clients over HTTP, by the scopes of their token."""
    apps = build_apps(control.backend(), HttpConfig())
    made = {}
    for scopes in ("read history", "operate", "operate history"):
        _row, made[scopes] = await control.tokens.create(
            scopes.replace(" ", "-"), scopes.split(), None
        )
    return lambda scopes: httpx.AsyncClient(
        transport=httpx.ASGITransport(apps.http),
        base_url="http://localhost",
        headers={"authorization": f"Bearer {made[scopes]}"},
    )


@pytest.mark.parametrize(
    ("scopes", "missing"), [("operate", "history"), ("read history", "operate")]
)
async def test_both_scopes(
    tokens: t.Callable[..., httpx.AsyncClient],
    client: httpx.AsyncClient,
    control: Control,
    scopes: str,
    missing: str,
) -> None:
    """It holds former content, and it is work: 403 says which is missing, and nothing begins."""
    row = await ask(client, name="mine")
    inbox = control.storage.inbox
    await inbox.fail_export(row["id"], "there is no room")
    async with tokens(scopes) as http:
        for path in ("/exports", f"/exports/{row['id']}/resume"):
            answer = await http.post(path, json={} if path == "/exports" else None)
            found = problem(answer)
            assert (found["status"], found["type"]) == (403, "urn:zapvisor:forbidden")
            assert f"the scope {missing}," in found["detail"]
        assert (await http.get("/exports")).status_code == 200
    assert [each.state for each in await inbox.exports()] == ["failed"]
    assert len(await inbox.history_accesses()) == 1


async def test_on_record(
    tokens: t.Callable[..., httpx.AsyncClient], client: httpx.AsyncClient, control: Control
) -> None:
    """Who began or went on with it: the token, or the user of the control socket."""
    inbox = control.storage.inbox
    async with tokens("operate history") as http:
        headers = {"x-request-id": "who-asks"}
        answer = await http.post("/exports", json={"name": "first"}, headers=headers)
        assert answer.status_code == 202
        taken = await http.post("/exports", json={"name": "first"})
        assert taken.status_code == 409
    await inbox.fail_export(answer.json()["id"], "there is no room")
    assert (await client.post(f"/exports/{answer.json()['id']}/resume")).status_code == 202
    second, first = await inbox.history_accesses()
    assert (first.who, first.what, first.query) == ("operate-history", "export", "first")
    assert (first.request_id, first.uid) == ("who-asks", None)
    assert first.token_id is not None
    assert (second.who, second.uid, second.query) == ("control socket", os.getuid(), "first")


async def test_the_record_is_shown(
    client: httpx.AsyncClient, control: Control, zapvisor: Run
) -> None:
    """With the name of the export."""
    await ask(client, name="of-everything")
    seen = await zapvisor("changes", "accesses")
    assert "export: of-everything" in seen.out
