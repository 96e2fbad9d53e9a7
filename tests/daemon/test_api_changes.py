"""Former content: who sees it, where it is not seen, and that it is on record first."""

import os
import typing as t
from pathlib import Path

import attrs
import httpx
import pytest
from daemon_fakes import ACCOUNT, ANA, NOON, Control, Run, make_control, problem, running

from api.app import build_apps
from config.listeners import HttpConfig
from storage.api import Lane, MediaFile
from storage.changes import Access
from storage.errors import StorageUnavailableError
from storage.queues import OutboxRequest

T0 = int(NOON.timestamp())
SECRET = ("segredo", "rascunho", "contrato.pdf", "enquete")
"""What only former content says."""


@attrs.frozen
class Place:
    """The app over HTTP, for tokens of several scopes."""

    control: Control
    tokens: dict[str, str]
    app: t.Any

    def client(self, *scopes: str) -> httpx.AsyncClient:
        """A client with exactly these scopes."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://localhost",
            headers={"authorization": f"Bearer {self.tokens[' '.join(scopes)]}"},
        )


async def changed(control: Control) -> None:
    """ED was edited twice, GONE (a file) deleted by its author, QUOTE answers GONE."""
    storage = control.storage
    file = MediaFile(kind="document", mimetype="application/pdf", name="contrato.pdf")
    side: dict[str, t.Any] = {"lane": Lane.SIDE, "chat": ANA}
    for fields in (
        {"external_id": "ED", "text": "segredo 1", "detail": {"title": "rascunho"}},
        {"external_id": "GONE", "kind": "document", "text": "segredo 2", "media": file},
        {"external_id": "POLL", "kind": "poll", "detail": {"options": ["enquete"]}},
        {"external_id": "QUOTE", "text": "sim", "quoted_id": "GONE", "quoted_author": ANA},
        {"external_id": "E1", "kind": "edit", "target_id": "ED", "text": "rascunho", **side},
        {"external_id": "E2", "kind": "edit", "target_id": "ED", "text": "final", **side},
        {"external_id": "R1", "kind": "revoke", "target_id": "GONE", **side},
        {
            "external_id": "VOTE",
            "kind": "poll_vote",
            "target_id": "POLL",
            "detail": {"options": ["enquete"]},
            **side,
        },
        {"external_id": "R2", "kind": "revoke", "target_id": "POLL", **side},
    ):
        number = len(storage.numbers)
        outcome = await storage.take(sent_at=T0 + number, **fields)
        storage.numbers[fields["external_id"]] = outcome.message_id or 0
    request = OutboxRequest(kind="text", chat=ANA, body={"text": "segredo 3"})
    row, _new = await storage.inbox.enqueue("sales", "k", request, external_id="OUT")
    storage.numbers["outbox"] = row.id
    own = {"from_me": True, "sender": ACCOUNT}
    sent = await storage.take(external_id="OUT", text="segredo 3", **own)
    storage.numbers["OUT"] = sent.message_id or 0
    await storage.take(
        external_id="R3", kind="revoke", target_id="OUT", sent_at=T0 + 99, **own, **side
    )


@pytest.fixture
async def place(short_path: Path) -> t.AsyncIterator[Place]:
    control = await make_control(short_path / "control.sock")
    await changed(control)
    tokens = {}
    for scopes in ("read", "operate", "send", "read history", "history"):
        name = scopes.replace(" ", "-")
        _row, tokens[scopes] = await control.tokens.create(name, scopes.split(), None)
    apps = build_apps(control.backend(), HttpConfig())
    async with running(control):
        yield Place(control, tokens, apps.http)


async def accesses(place: Place) -> list[tuple[str, str, tuple[int, ...]]]:
    rows = await place.control.storage.inbox.history_accesses()
    return [(row.who, row.what, row.messages) for row in rows]


def paths(numbers: dict[str, int]) -> list[str]:
    """Everything that a reader can read of these messages."""
    singles = ("ED", "GONE", "POLL", "QUOTE", "E1", "E2", "R1", "VOTE")
    return [
        f"/conversations/{numbers['ana']}/messages",
        *(f"/messages/{numbers[name]}" for name in singles),
        "/messages?query=segredo",
        "/messages?query=rascunho",
        "/conversations?query=segredo",
        "/media",
        "/outbox",
        f"/outbox/{numbers['outbox']}",
        "/connections/sales/outbox",
        "/events?after=0",
        "/changes",
        "/quarantine",
    ]


@pytest.mark.parametrize("scopes", [("read",), ("operate",), ("read", "history")])
async def test_nothing_shows_it_unasked(place: Place, scopes: tuple[str, ...]) -> None:
    """Whoever reads, and wherever: that it was changed, by whom and when; not what it said."""
    async with place.client(*scopes) as client:
        for path in paths(place.control.storage.numbers):
            answer = await client.get(path)
            assert answer.status_code in (200, 404), path
            for word in SECRET:
                assert word not in answer.text, path
        numbers = place.control.storage.numbers
        edited = (await client.get(f"/messages/{numbers['ED']}")).json()
        assert (edited["text"], edited["withheld"]) == ("final", True)
        assert [each["text"] for each in edited["versions"]] == [None, None, "final"]
        gone = (await client.get(f"/messages/{numbers['GONE']}")).json()
        assert (gone["deleted"]["by"]["name"], gone["media"]["state"]) == ("Ana", "pending")
        plain = (await client.get(f"/messages/{numbers['QUOTE']}")).json()
        assert (plain["text"], plain["withheld"], plain["quoted"]["text"]) == ("sim", False, None)
        [first, *_rest] = (await client.get("/changes?kind=deleted")).json()
        assert (first["former"], first["external_id"]) == (None, "OUT")
    assert await accesses(place) == []


@pytest.mark.parametrize("scopes", [("read",), ("operate",), ("send",)])
async def test_without_the_scope(place: Place, scopes: tuple[str, ...]) -> None:
    """403 that says which scope is missing, and no record, for nothing was seen."""
    numbers = place.control.storage.numbers
    asked = [
        f"/messages/{numbers['ED']}/history",
        "/changes?content=true",
        "/messages?query=segredo&former=true",
        "/messages?query=segredo&deleted=true",
        "/conversations?query=segredo&former=true",
        "/conversations?query=segredo&deleted=true",
        f"/messages/{numbers['GONE']}/media",
    ]
    async with place.client(*scopes) as client:
        for path in asked:
            found = problem(await client.get(path))
            assert (found["status"], found["type"]) == (403, "urn:zapvisor:forbidden"), path
            if "read" in scopes:
                assert "the scope history" in found["detail"], path
        assert (await client.get("/changes/accesses")).status_code == 403
    assert await accesses(place) == []


async def test_with_the_scope(place: Place) -> None:
    """All of it; each time on record, with who saw what."""
    numbers = place.control.storage.numbers
    async with place.client("read", "history") as client:
        found = (await client.get(f"/messages/{numbers['ED']}/history")).json()
        said = [each["text"] for each in found["message"]["versions"]]
        assert said == ["segredo 1", "rascunho", "final"]
        assert [each["kind"] for each in found["changes"]] == ["edited", "edited"]
        rows = (await client.get("/changes?content=true&limit=2&kind=deleted")).json()
        assert [row["former"] for row in rows] == ["segredo 3", None]
        hits = (await client.get("/messages?query=segredo&former=true&deleted=true")).json()
        assert {hit["message"] for hit in hits} == {numbers["ED"], numbers["GONE"], numbers["OUT"]}
        await client.get("/conversations?query=segredo&deleted=true")
        answer = await client.get(f"/messages/{numbers['GONE']}/media")
        assert problem(answer)["type"] == "urn:zapvisor:file-not-stored"
        assert (await client.get(f"/messages/{numbers['QUOTE']}/media")).status_code == 404
        assert (await client.get("/changes/accesses")).status_code == 403
    who = "read-history"
    told = await accesses(place)
    assert [each[:2] for each in told] == [
        (who, "media"),
        (who, "search"),
        (who, "search"),
        (who, "changes"),
        (who, "message"),
    ]
    assert told[0][2] == (numbers["GONE"],)
    assert set(told[2][2]) == {numbers["ED"], numbers["GONE"], numbers["OUT"]}
    assert told[4][2] == (numbers["ED"],)
    [*_newer, first] = await place.control.storage.inbox.history_accesses()
    assert first.request_id
    assert first.token_id is not None


async def test_what_cannot_be_recorded_is_not_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and not a word of it."""

    async def refuse(_access: Access) -> int:
        raise StorageUnavailableError("the disk is full")

    monkeypatch.setattr(place.control.storage.inbox, "record_access", refuse)
    numbers = place.control.storage.numbers
    async with place.client("read", "history") as client:
        for path in (
            f"/messages/{numbers['ED']}/history",
            "/changes?content=true",
            "/messages?query=segredo&former=true",
            "/conversations?query=segredo&former=true",
            f"/messages/{numbers['GONE']}/media",
        ):
            answer = await client.get(path)
            found = problem(answer)
            assert (found["status"], found["type"]) == (503, "urn:zapvisor:not-recorded"), path
            assert "segredo" not in answer.text


async def test_the_scope_alone(place: Place) -> None:
    """It shows one message by its number, and is no leave to read anything else."""
    numbers = place.control.storage.numbers
    async with place.client("history") as client:
        assert (await client.get(f"/messages/{numbers['ED']}/history")).status_code == 200
        for path in ("/changes?content=true", f"/messages/{numbers['ED']}", "/status"):
            assert (await client.get(path)).status_code == 403


async def test_what_there_is_not(client: httpx.AsyncClient, control: Control) -> None:
    """404 for messages that nobody has; nothing is recorded."""
    for number in ("0", "999", "-1", str(2**63)):
        found = problem(await client.get(f"/messages/{number}/history"))
        assert found["type"] == "urn:zapvisor:unknown-message"
    assert problem(await client.get("/changes?connection=nobody"))["status"] == 404
    assert problem(await client.get("/changes?since=2026-03-01T00:00:00"))["status"] == 422
    assert problem(await client.get("/changes?cursor=abc"))["status"] == 422
    assert await control.storage.inbox.history_accesses() == []


async def test_the_control_socket_is_recorded_too(
    client: httpx.AsyncClient, control: Control
) -> None:
    """With the user who used it; page by page."""
    await changed(control)
    numbers = control.storage.numbers
    headers = {"x-request-id": "who-asks"}
    for name in ("ED", "GONE"):
        await client.get(f"/messages/{numbers[name]}/history", headers=headers)
    first = await client.get("/changes/accesses?limit=1")
    [row] = first.json()
    assert (row["who"], row["uid"]) == ("control socket", os.getuid())
    assert (row["messages"], row["request_id"]) == ([numbers["GONE"]], "who-asks")
    following = await client.get(f"/changes/accesses?cursor={first.headers['x-next-cursor']}")
    assert [each["messages"] for each in following.json()] == [[numbers["ED"]]]
    one = await client.get(f"/changes/accesses?message={numbers['ED']}")
    assert len(one.json()) == 1


async def test_the_commands(control: Control, zapvisor: Run) -> None:
    """The list tells what was changed; what was said before only if asked for."""
    await changed(control)
    numbers = control.storage.numbers
    listed = await zapvisor("changes")
    assert listed.code == 0
    assert "edited" in listed.out
    assert "deleted (document)" in listed.out
    assert "rascunho" not in listed.out
    told = await zapvisor("changes", "--deleted", "--content", "--connection", "sales")
    assert "segredo 3" in told.out
    assert "edited" not in told.out
    shown = await zapvisor("changes", "show", str(numbers["ED"]))
    assert [word in shown.out for word in ("said: segredo 1", "edited to: rascunho")] == [True] * 2
    gone = await zapvisor("changes", "show", str(numbers["GONE"]))
    assert "file: contrato.pdf, pending" in gone.out
    assert "deleted by Ana" in gone.out
    seen = await zapvisor("changes", "accesses")
    assert "control socket" in seen.out
    assert len((await zapvisor("changes", "accesses", "--json")).json) == 3
    one = await zapvisor("changes", "accesses", "--message", str(numbers["GONE"]), "--json")
    assert [row["what"] for row in one.json] == ["message", "changes"]
    later = await zapvisor("changes", "--since", "2026-03-02")
    assert "Nothing was deleted or edited" in later.out


async def test_the_import_of_a_connection_is_another_thing(control: Control, zapvisor: Run) -> None:
    """Neither command takes what is for the other."""
    assert (await zapvisor("history", "sales")).code == 0
    for tokens, said in (
        (("history",), "NAME"),
        (("history", "sales", "--deleted"), "--deleted"),
        (("history", "sales", "--retry", "--older", ANA), "exclude each other"),
        (("changes", "sales"), "sales"),
        (("changes", "--retry"), "--retry"),
        (("changes", "--deleted", "--edited"), "exclude each other"),
        (("changes", "--since", "yesterday"), "2026-11-21"),
    ):
        result = await zapvisor(*tokens)
        assert result.code == 2, tokens
        assert said in result.err, tokens
