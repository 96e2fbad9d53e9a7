"""Webhooks over the control socket and on the command line."""

import collections.abc as cabc
from pathlib import Path

import httpx
import pytest
import trio
from daemon_fakes import Control, Run, open_control, problem

from actors.webhook_post import WebhookSettings
from storage.events import DeliveryFailure
from tests.support.webhook_receiver import Receiver, open_receiver

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
async def receiver() -> cabc.AsyncIterator[Receiver]:
    async with open_receiver() as receiver:
        yield receiver


@pytest.fixture
async def control(short_path: Path, receiver: Receiver) -> cabc.AsyncIterator[Control]:
    """Two webhooks, of which none runs: what they do is tested with them."""
    hooks = tuple(
        WebhookSettings(name=name, url=receiver.url, secret=KEY, patterns=("message.*",))
        for name in ("crm", "audit")
    )
    with trio.fail_after(60):
        async with open_control(short_path / "control.sock", webhooks=hooks) as control:
            for name in ("webhook:crm", "webhook:audit"):
                await control.storage.inbox.follow(name)
            yield control
            await control.events.aclose()


async def failing(control: Control, *, dead: bool) -> int:
    """One event that could not be delivered."""
    inbox = control.storage.inbox
    event_id = await inbox.append_event("gap.opened", "sales", {})
    await inbox.take_deliveries("webhook:crm", types=None, connections=None, limit=10)
    retry_at = None if dead else 2e9
    failure = DeliveryFailure(
        event_id=event_id, status=500, error="it answered 500", retry_at=retry_at
    )
    await inbox.settle_deliveries("webhook:crm", [], failure)
    return event_id


async def test_how_they_are(client: httpx.AsyncClient, control: Control) -> None:
    """With what waits, without what is secret."""
    await failing(control, dead=False)
    crm, audit = (await client.get("/webhooks")).json()
    assert (crm["name"], crm["state"], crm["pending"], crm["error"]) == (
        "crm",
        "failing",
        1,
        "it answered 500",
    )
    assert crm["types"] == ["message.*"]
    assert "key=" not in crm["url"]
    assert "secret" not in crm
    assert (audit["name"], audit["state"]) == ("audit", "active")
    assert (await client.get("/webhooks/crm")).json() == crm


async def test_dead_ones_are_listed_and_replayed(
    client: httpx.AsyncClient, control: Control
) -> None:
    """Page by page, with their events."""
    one, two = await failing(control, dead=True), await failing(control, dead=True)
    await failing(control, dead=False)
    page = await client.get("/webhooks/crm/deliveries?state=dead&limit=1")
    [row] = page.json()
    assert (row["event_id"], row["event"]["type"], row["status"]) == (one, "gap.opened", 500)
    following = httpx.URL(page.links["next"]["url"])
    assert following.path == "/webhooks/crm/deliveries"
    assert dict(following.params) == {"state": "dead", "limit": "1", "after": str(one)}
    [other] = (await client.get(page.links["next"]["url"])).json()
    assert other["event_id"] == two
    assert len((await client.get("/webhooks/crm/deliveries")).json()) == 3
    assert (await client.post("/webhooks/crm/replay")).json() == {"webhook": "crm", "deliveries": 2}
    assert (await client.get("/webhooks/crm/deliveries?state=dead")).json() == []


async def test_replay_is_checked(client: httpx.AsyncClient, control: Control) -> None:
    """An event or a cursor that there is, and one of both."""
    first = await failing(control, dead=False)
    path = "/webhooks/crm/replay"
    assert problem(await client.post(path, params={"event": 999}))["status"] == 404
    assert problem(await client.post(path, params={"event": 1, "after": 1}))["status"] == 422
    assert problem(await client.post(path, params={"after": 10**9}))["status"] == 410
    assert (await client.post(path, params={"event": first})).json()["deliveries"] == 1
    assert (await client.post(path, params={"after": first - 1})).json()["deliveries"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/deliveries"),
        ("POST", "/replay"),
        ("POST", "/test"),
        ("POST", "/pause"),
        ("POST", "/resume"),
    ],
)
async def test_webhooks_there_are_not(client: httpx.AsyncClient, method: str, path: str) -> None:
    """404, and which there are."""
    found = problem(await client.request(method, f"/webhooks/nobody{path}"))
    assert (found["status"], "crm, audit" in found["detail"]) == (404, True)


async def test_pause_and_resume(client: httpx.AsyncClient, control: Control) -> None:
    """Both are answered with what it is then."""
    assert (await client.post("/webhooks/crm/pause")).json()["state"] == "paused"
    assert (await client.post("/webhooks/crm/resume")).json()["state"] == "active"


async def test_the_command_line(zapvisor: Run, control: Control, receiver: Receiver) -> None:
    """List, dead, replay, test, pause, resume."""
    assert "no webhook" not in (await zapvisor("webhooks")).out
    assert [row["name"] for row in (await zapvisor("webhooks", "list", "--json")).json] == [
        "crm",
        "audit",
    ]
    assert (await zapvisor("webhooks", "dead", "crm")).out == "Nothing is dead.\n"
    event_id = await failing(control, dead=True)
    shown = (await zapvisor("webhooks", "dead", "crm")).out
    assert str(event_id) in shown
    assert "it answered 500" in shown
    assert "1 will be sent again to crm." in (await zapvisor("webhooks", "replay", "crm")).out
    assert [row["state"] for row in (await zapvisor("webhooks", "pending", "crm", "--json")).json]
    tried = await zapvisor("webhooks", "test", "crm")
    assert (tried.code, "crm answered 200" in tried.out) == (0, True)
    assert receiver.requests[0].event["type"] == "webhook.test"
    assert (await zapvisor("webhooks", "pause", "crm")).out == "crm is paused.\n"
    assert (await zapvisor("webhooks", "resume", "crm")).out == "crm is active.\n"
    wrong = await zapvisor("webhooks", "replay", "crm", "--event", "1", "--after", "1")
    assert (wrong.code, "either --event or --after" in wrong.err) == (2, True)
    unknown = await zapvisor("webhooks", "dead", "nobody")
    assert "there is no webhook 'nobody'" in unknown.err


async def test_a_test_that_fails(zapvisor: Run, control: Control, receiver: Receiver) -> None:
    """Exits with 1 and says how it was answered."""

    async def answer(_request: object) -> tuple[int, dict[str, str]]:
        await trio.lowlevel.checkpoint()
        return 403, {}

    receiver.answer = answer
    tried = await zapvisor("webhooks", "test", "crm")
    assert (tried.code, "it answered 403" in tried.out) == (1, True)


async def test_a_secret_is_made(zapvisor: Run) -> None:
    """Long enough, and another one each time; no daemon is asked."""
    one, two = [(await zapvisor("webhooks", "secret")).out.strip() for _each in range(2)]
    assert one.startswith("whsec_")
    assert len(one) == 50
    assert one != two
