"""Reading over the control socket: messages, people, groups, history, logging out, reprocessing."""

import httpx
import pytest
import trio
import trio.testing
from daemon_fakes import ANA, GROUP, NOON, Control, problem

from actors.line import NotOnlineError
from storage.facts import (
    AddressPair,
    GroupMember,
    GroupSnapshot,
    HistoryChatCount,
    HistoryOffered,
    HistoryStep,
)
from whatsapp.iq.core import IqError

LID = "900000000001@lid"
SALES = "/connections/sales"


async def test_messages_of_a_conversation(client: httpx.AsyncClient, control: Control) -> None:
    """Oldest first, page by page, each as it reads now."""
    path = f"/conversations/{control.storage.numbers['ana']}/messages"
    rows = (await client.get(path)).json()
    assert [row["external_id"] for row in rows] == ["ANA1", "ANA2", "TEAM1"]
    first = rows[0]
    assert (first["text"], first["kind"], first["from_me"]) == ("bom dia", "text", False)
    assert (first["sender"]["name"], first["sender"]["shown"]) == ("Ana", "+5511999990001")
    assert first["sent_at"] == "2026-03-01T12:00:00Z"
    assert (rows[1]["media"]["state"], rows[1]["media"]["name"]) == ("pending", "praia.jpg")
    newest = (await client.get(f"{path}?limit=1")).json()
    assert [row["external_id"] for row in newest] == ["TEAM1"]
    page = (await client.get(f"{path}?limit=1&before={newest[0]['id']}")).json()
    assert [row["external_id"] for row in page] == ["ANA2"]
    assert (await client.get(f"{path}?before={first['id']}")).json() == []
    assert (await client.get(f"/messages/{first['id']}")).json() == first


@pytest.mark.parametrize("number", ["0", "999", "-1", str(2**63), str(2**80)])
async def test_what_there_is_not(client: httpx.AsyncClient, number: str) -> None:
    """404 that says what there is instead, whatever the number."""
    for method, path in (
        ("GET", f"/conversations/{number}/messages"),
        ("GET", f"/messages/{number}"),
        ("GET", f"/messages/{number}/media"),
        ("POST", f"/messages/{number}/media"),
        ("POST", f"/contacts/merges/{number}/undo"),
    ):
        found = problem(await client.request(method, path))
        assert (found["status"], found["type"].startswith("urn:zapvisor:unknown-")) == (404, True)


async def test_contacts(client: httpx.AsyncClient, control: Control) -> None:
    """Found by a part of their name or address, page by page."""
    for query in ("query=an", "query=99990001", "connection=sales&query=Ana"):
        [ana] = (await client.get(f"/contacts?{query}")).json()
        assert (ana["name"], ana["addresses"]) == ("Ana", [ANA])
    assert (await client.get(f"/contacts?query=Ana&after={ana['id']}")).json() == []
    assert (await client.get("/contacts?query=nobody")).json() == []
    assert (await client.get("/contacts?connection=support&query=Ana")).json() == []
    assert len((await client.get("/contacts?query=")).json()) >= 1
    problem(await client.get(f"/contacts?query={'x' * 300}"))


async def test_merges_are_shown_and_undone(client: httpx.AsyncClient, control: Control) -> None:
    """Two addresses found to be one person's, and two people again on order."""
    assert (await client.get("/contacts/merges")).json() == []
    await control.storage.take(external_id="LID1", chat=LID, sender=LID)
    await control.storage.take(AddressPair(number=ANA, lid=LID, source="usync"))
    [merge] = (await client.get("/contacts/merges?connection=sales")).json()
    assert (merge["source"], merge["addresses"], merge["undone_at"]) == ("usync", [LID], None)
    undone = await client.post(f"/contacts/merges/{merge['id']}/undo")
    assert (undone.status_code, undone.json()["id"]) == (200, merge["id"])
    assert undone.json()["undone_at"] is not None


async def test_groups(client: httpx.AsyncClient, control: Control) -> None:
    """Listed without members, shown with them."""
    await control.storage.take(
        GroupSnapshot(
            group=GROUP,
            at=NOON.timestamp(),
            subject="Família",
            members=(GroupMember(address=ANA, role="admin"),),
        )
    )
    [row] = (await client.get("/groups?connection=sales")).json()
    assert (row["address"], row["subject"]) == (GROUP, "Família")
    assert (await client.get("/groups")).json() == [row]
    assert (await client.get("/groups?connection=support")).json() == []
    assert (await client.get(f"/groups?connection=sales&after={GROUP}")).json() == []
    assert problem(await client.get(f"/groups?after={GROUP}"))["status"] == 422
    group = (await client.get(f"{SALES}/groups/{GROUP}")).json()
    assert [(each["person"]["name"], each["role"]) for each in group["members"]] == [
        ("Ana", "admin")
    ]
    missing = problem(await client.get(f"{SALES}/groups/1203@g.us"))
    assert missing["type"] == "urn:zapvisor:unknown-group"
    assert problem(await client.get(f"{SALES}/groups/nonsense"))["status"] == 422


async def test_history(client: httpx.AsyncClient, control: Control) -> None:
    """Percent, messages, parts and chats; parts that failed are imported again by order."""
    empty = (await client.get(f"{SALES}/history")).json()
    assert (empty["percent"], empty["position"], empty["chats"]) == (None, 0, [])
    offer = HistoryOffered(
        key="h1", notification=b"n", sync_type="recent", chunk_order=1, progress=30
    )
    counts = (HistoryChatCount(chat=ANA, offered=5, stored=4, duplicate=1),)
    step = HistoryStep(key="h1", state="failed", position=5, total=9, counts=counts, error="gone")
    await control.storage.take(offer, step)
    facts = (await client.get(f"{SALES}/history")).json()
    assert (facts["position"], facts["total"], facts["errors"]) == (5, 9, ["gone"])
    assert facts["chunks"] == {"pending": 0, "importing": 0, "done": 0, "failed": 1}
    assert facts["chats"] == [{"chat": ANA, "offered": 5, "stored": 4, "duplicate": 1, "failed": 0}]
    again = await client.post(f"{SALES}/history/retry")
    assert (again.status_code, again.json()["chunks"]["pending"]) == (200, 1)
    await client.post(f"{SALES}/history/retry")
    assert control.actions.asked == [("history", "sales")]


async def test_older_history(client: httpx.AsyncClient, control: Control) -> None:
    """The phone is asked; what it cannot be asked says why."""
    answer = await client.post(f"{SALES}/history", json={"chat": "+5511999990001", "count": 20})
    assert answer.status_code == 202
    assert answer.json() == {
        "connection": "sales",
        "chat": ANA,
        "count": 20,
        "request_id": "REQ1",
    }
    assert control.actions.asked == [("older", "sales", ANA, 20)]
    for body, status, kind in (
        ({"chat": GROUP}, 404, "no-history"),
        ({"chat": "x"}, 422, "bad-request"),
        ({"chat": ANA, "count": 0}, 422, "bad-request"),
        ({"chat": ANA, "count": 501}, 422, "bad-request"),
        ({"chat": ANA, "count": "many"}, 400, "request"),
        ({}, 400, "request"),
    ):
        found = problem(await client.post(f"{SALES}/history", json=body))
        assert (found["status"], found["type"]) == (status, f"urn:zapvisor:{kind}")
    control.actions.online = False
    offline = problem(await client.post(f"{SALES}/history", json={"chat": ANA}))
    assert (offline["status"], offline["type"]) == (409, "urn:zapvisor:not-online")


async def test_logging_out(client: httpx.AsyncClient, control: Control) -> None:
    """Done, or refused with the reason and nothing changed."""
    for refusal, status, kind in (
        (NotOnlineError("sales is not online; start it"), 409, "not-online"),
        (IqError(500, "internal-server-error"), 502, "whatsapp-refused"),
    ):
        control.fleet.refusal = refusal
        found = problem(await client.post(f"{SALES}/logout"))
        assert (found["status"], found["type"]) == (status, f"urn:zapvisor:{kind}")
        assert found["detail"] == str(refusal)
    control.fleet.refusal = None
    answer = await client.post(f"{SALES}/logout")
    assert (answer.status_code, answer.json()["state"]) == (200, "logged_out")
    assert control.fleet.orders == [("logout", "sales")]


async def test_pairing_by_code(client: httpx.AsyncClient, control: Control) -> None:
    """With a number there is a code to type; what is no number changes nothing."""
    refused = problem(await client.post("/connections/support/pair?phone=12"))
    assert (refused["status"], refused["detail"].startswith("phone: ")) == (422, True)
    answer = await client.post("/connections/support/pair", params={"phone": "+55 11 99999-0009"})
    assert answer.status_code == 202
    assert control.fleet.orders == [("code", "support", "5511999990009")]
    control.fleet.tell("support", state="code", code="ABCD-1234", expires_in=170.0)
    news = (await client.get("/connections/support/pairing?after=0")).json()
    assert (news["code"], news["qr"]) == ("ABCD-1234", None)


async def test_reading_everything_anew(client: httpx.AsyncClient, control: Control) -> None:
    """One run at a time, which outlives the request; its end can be waited for."""
    assert (await client.get("/reprocess")).json()["state"] == "idle"
    begun = await client.post("/reprocess?connection=sales")
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    busy = problem(await client.post("/reprocess"))
    assert (busy["status"], busy["type"]) == (409, "urn:zapvisor:busy")
    assert (await client.get("/reprocess?wait=0.01")).json()["state"] == "running"
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await client.get("/reprocess?wait=20"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await client.get("/version")
        control.reprocess.end(read=10, changed=2, still_unknown=1)
    facts = answers[0].json()
    assert (facts["state"], facts["connection"]) == ("done", "sales")
    assert (facts["read"], facts["changed"], facts["still_unknown"]) == (10, 2, 1)


async def test_openapi_lists_them(client: httpx.AsyncClient) -> None:
    """The schema is generated with all routes and their parameters."""
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    assert {
        "/connections/{name}/messages",
        "/connections/{name}/typing",
        "/connections/{name}/outbox",
        "/connections/{name}/history",
        "/connections/{name}/logout",
        "/conversations/{number}/messages",
        "/conversations/{number}/read",
        "/messages/{number}",
        "/messages/{number}/media",
        "/media",
        "/outbox",
        "/outbox/{number}",
        "/outbox/{number}/retry",
        "/contacts",
        "/contacts/merges",
        "/contacts/merges/{number}/undo",
        "/groups",
        "/reprocess",
    } <= set(paths)
    names = {each["name"] for each in paths["/connections/{name}/messages"]["post"]["parameters"]}
    assert {"name", "Idempotency-Key"} <= names
    assert {each["name"] for each in paths["/outbox"]["get"]["parameters"]} == {
        "state",
        "before",
        "limit",
        "cursor",
    }
