"""The routes over a real unix socket: answers, problems, bounds."""

import json
import socket
import typing as t

import attrs
import httpx
import pytest
import trio
from daemon_fakes import Control, problem

from api.bounds import Bounds
from storage.facts import HistoryOffered, HistoryStep


async def test_status_shows_every_connection(client: httpx.AsyncClient) -> None:
    """All facts of all connections, times as ISO 8601."""
    sales, support = (await client.get("/status")).json()
    assert (sales["name"], sales["state"], sales["messages"]) == ("sales", "online", 12)
    assert sales["since"] == "2026-03-01T12:00:00Z"
    assert support["paired"] is False
    assert sales["history"] is None


async def test_status_shows_how_far_the_history_is(
    client: httpx.AsyncClient, control: Control
) -> None:
    """A line per connection that was offered any; none while the database is away."""
    await control.storage.fill()
    offer = HistoryOffered(
        key="h", notification=b"n", sync_type="recent", chunk_order=1, progress=40
    )
    await control.storage.take(offer)
    await control.storage.take(HistoryStep(key="h", state="importing", position=64, total=99))
    sales, support = (await client.get("/status")).json()
    assert sales["history"] == {"percent": None, "messages": 64, "waiting": 1, "failed": 0}
    assert support["history"] is None
    control.storage.away = True
    [sales, _support] = (await client.get("/status")).json()
    assert sales["history"] is None


@pytest.mark.parametrize("order", ["start", "stop", "restart"])
async def test_orders_reach_the_fleet(
    client: httpx.AsyncClient, control: Control, order: str
) -> None:
    """An order is carried out before it is answered, with the state it led to."""
    answer = await client.post(f"/connections/sales/{order}")
    assert answer.status_code == 200
    assert answer.json()["state"] == ("stopped" if order == "stop" else "connecting")
    assert control.fleet.orders == [(order, "sales")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/connections/nobody/start"),
        ("POST", "/connections/nobody/stop"),
        ("POST", "/connections/nobody/restart"),
        ("POST", "/connections/nobody/pair"),
        ("GET", "/connections/nobody/pairing"),
        ("GET", "/conversations?connection=nobody"),
    ],
)
async def test_an_unknown_connection(client: httpx.AsyncClient, method: str, path: str) -> None:
    """404, which says what there is instead."""
    answer = await client.request(method, path)
    assert answer.status_code == 404
    found = problem(answer)
    assert found["type"] == "urn:zapvisor:unknown-connection"
    assert "'nobody'" in found["detail"]
    assert "sales, support" in found["detail"]


async def test_pairing_a_paired_connection_needs_force(
    client: httpx.AsyncClient, control: Control
) -> None:
    """409 without ``force``, 202 with it."""
    refused = await client.post("/connections/sales/pair")
    assert problem(refused)["type"] == "urn:zapvisor:already-paired"
    assert refused.status_code == 409
    assert (await client.post("/connections/sales/pair?force=true")).status_code == 202
    assert control.fleet.orders == [("pair", "sales", True)]


async def test_news_of_a_pairing(client: httpx.AsyncClient, control: Control) -> None:
    """A question is answered as soon as there is something newer, or 204 after its wait."""
    nothing = await client.get("/connections/support/pairing?after=0&wait=0.01")
    assert (nothing.status_code, nothing.content) == (204, b"")
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await client.get("/connections/support/pairing?after=0"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await client.get("/version")
        control.fleet.tell("support", state="code", qr="2@abc", expires_in=60.0)
    assert answers[0].json() | {"sentence": ""} == {
        "name": "support",
        "version": 1,
        "state": "code",
        "qr": "2@abc",
        "code": None,
        "expires_in": 60.0,
        "sentence": "",
    }


async def test_conversations(client: httpx.AsyncClient, control: Control) -> None:
    """Listed, filtered, opened and closed; what is not there or not allowed says so."""
    assert [row["id"] for row in (await client.get("/conversations")).json()] == [1, 2]
    closed = await client.get("/conversations?status=closed&connection=sales&limit=1")
    assert [row["id"] for row in closed.json()] == [2]
    assert (await client.post("/conversations/1/open")).json()["status"] == "open"
    assert (await client.post("/conversations/1/close")).json()["status"] == "closed"
    for number in (9, 0, -1, 2**63):
        missing = await client.post(f"/conversations/{number}/close")
        assert problem(missing)["status"] == 404
    refused = problem(await client.post("/conversations/2/open"))
    assert (refused["status"], refused["type"]) == (409, "urn:zapvisor:live-conversation")
    assert control.storage.rows[2].status == "closed"


async def test_events_and_version(client: httpx.AsyncClient) -> None:
    """Transitions of a connection; which daemon answers."""
    assert (await client.get("/version")).json()["version"] == "1.2.3"


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nothing", 404, "nothing answers GET /nothing"),
        ("DELETE", "/status", 405, "DELETE /status"),
        ("GET", "/conversations?limit=0", 400, "limit"),
        ("GET", "/conversations?limit=201", 400, "limit"),
        ("GET", "/conversations?status=odd", 400, "status"),
        ("POST", "/conversations/x/open", 404, "nothing answers"),
        ("GET", "/connections/sales/pairing?after=-1", 400, "after"),
        ("GET", "/connections/sales/pairing?wait=21", 400, "wait"),
    ],
)
async def test_wrong_requests(
    client: httpx.AsyncClient, method: str, path: str, status: int, words: str
) -> None:
    """Each is a problem that names the place."""
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert words in problem(answer)["detail"]


async def test_health_of_a_healthy_daemon(client: httpx.AsyncClient) -> None:
    """Verdict, connections by state, statistics, writer and database."""
    health = (await client.get("/health")).json()
    assert health["verdict"] == "ok"
    assert health["connections"] == {"online": 1, "stopped": 1}
    assert health["statistics"]["messages"] == 12
    assert health["writer"]["capacity"] == 1000
    assert health["database"] == {"ping_seconds": 0.001, "error": None}


async def test_health_without_a_database(client: httpx.AsyncClient, control: Control) -> None:
    """Health answers while the database does not, and says so; data routes answer 503."""
    control.storage.away = True
    health = (await client.get("/health")).json()
    assert health["verdict"] == "failing"
    assert "db.example refused" in health["reasons"][0]
    answer = await client.get("/conversations")
    assert answer.status_code == 503
    assert problem(answer)["type"] == "urn:zapvisor:database-away"


async def test_a_bug_is_contained(client: httpx.AsyncClient, control: Control) -> None:
    """An unexpected error is one 500 that tells no internals, and the next request works."""
    control.storage.rows = t.cast("t.Any", None)
    answer = await client.get("/conversations")
    assert answer.status_code == 500
    assert problem(answer)["detail"].startswith("GET /conversations failed inside the daemon")
    assert (await client.get("/status")).status_code == 200


async def test_openapi_lists_the_routes(client: httpx.AsyncClient) -> None:
    """The schema is generated and complete."""
    paths = (await client.get("/schema/openapi.json")).json()["paths"]
    assert {"/status", "/health", "/version", "/connections/{name}/pair"} <= set(paths)


async def test_a_body_that_is_too_large(client: httpx.AsyncClient, control: Control) -> None:
    """Nobody sends megabytes; who announces them gets an answer and hurts nobody."""
    request = b"POST /connections/sales/stop HTTP/1.1\r\nHost: z\r\nContent-Length: 9000000\r\n\r\n"
    async with await trio.open_unix_socket(str(control.path)) as peer:
        await peer.send_all(request + b"x" * 50_000)
        assert (await peer.receive_some(8)) == b"HTTP/1.1"
    assert (await client.get("/status")).status_code == 200


async def test_clients_that_go_away_change_nothing(
    client: httpx.AsyncClient, control: Control
) -> None:
    """Cut off in a header, in a long poll, without a word, or talking nonsense."""
    poll = b"GET /connections/support/pairing?after=0 HTTP/1.1\r\nHost: z\r\n\r\n"
    for data in (b"", b"GET /sta", poll, b"\x00\xff\x16\x03\x01" * 20, b"A" * 100_000):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(control.path))
            peer.setblocking(False)
            if data:
                peer.send(data)
            assert (await client.get("/version")).status_code == 200
    assert (await client.get("/status")).status_code == 200
    assert control.fleet.orders == []


async def call(app: Bounds) -> dict[str, t.Any]:
    """One request, without HTTP around it."""
    sent: list[t.Any] = []

    async def send(message: t.Any) -> None:
        sent.append(message)

    await app(t.cast("t.Any", {"type": "http", "path": "/x"}), t.cast("t.Any", None), send)
    start, body = sent
    return {"status": start["status"], **json.loads(body["body"])}


async def test_requests_are_bounded_in_number_and_time(autojump_clock: t.Any) -> None:
    """Above the ceiling a request is refused at once; one that hangs is given up."""

    async def hang(*_args: t.Any) -> None:
        await trio.sleep_forever()

    app = Bounds(t.cast("t.Any", hang), max_requests=1, deadline=30)
    answers: list[dict[str, t.Any]] = []

    async def ask() -> None:
        answers.append(await call(app))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert (await call(app))["status"] == 503
        assert trio.current_time() < 1
    assert (answers[0]["status"], answers[0]["type"]) == (504, "urn:zapvisor:too-slow")
    assert "30 s" in answers[0]["detail"]


async def test_health_of_a_silent_database(client: httpx.AsyncClient, control: Control) -> None:
    """A database that neither answers nor refuses does not hold the health check up."""
    control.figures._patience = 0.05
    control.storage.silent = True
    control.writer = attrs.evolve(control.writer, depth=900)
    health = (await client.get("/health")).json()
    assert health["verdict"] == "failing"
    assert health["reasons"] == [
        "the database does not answer: no answer within 0.05 s",
        "the writer lags: 900 of 1000 places are taken",
    ]
