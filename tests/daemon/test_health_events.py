"""Webhooks, NATS and the stream of events in the health of the whole."""

import typing as t

import attrs
import httpx
import pytest
from daemon_fakes import Control, Run, open_control

from actors.event_views import EventsView, NatsView, WebhookView
from actors.nats_link import NatsSettings
from actors.webhook_post import WebhookSettings
from api.health_events import DETAIL, FAR_BEHIND, event_troubles
from storage.events import DeliveryFailure

WELL = WebhookView(
    name="crm",
    url="https://crm.example/hook",
    types=("*",),
    connections=(),
    state="active",
    paused=None,
    position=7,
    newest=7,
    pending=0,
    retrying=0,
    dead=0,
    delivered=7,
    lost=0,
    succeeded_at=None,
    failed_at=None,
    error=None,
    next_attempt_at=None,
)
PUBLISHING = NatsView(
    url="nats://mq.example",
    state="publishing",
    position=7,
    newest=7,
    published=7,
    error=None,
)
READ = EventsView(newest=7, clients=1, dropped=0, error=None)


def told(
    webhook: WebhookView = WELL, nats: NatsView | None = PUBLISHING, events: EventsView = READ
) -> list[str]:
    """The reasons."""
    return list(event_troubles(events, nats, [webhook]))


def test_nothing_is_wrong() -> None:
    """Delivered, published and read; also while NATS is being connected to, or is not wanted."""
    assert told() == []
    connecting = attrs.evolve(PUBLISHING, state="connecting", position=None)
    assert told(nats=connecting) == []
    assert told(nats=None) == []
    assert list(event_troubles(None, None, [])) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"paused": "it answered 410", "state": "paused", "newest": 10**6},
            ["crm is paused (it answered 410)", "zapvisor webhooks resume crm"],
        ),
        (
            {"retrying": 2, "pending": 5, "state": "failing", "error": "it answered 500"},
            ["crm fails (it answered 500)", "2 of 5 waiting", "zapvisor webhooks test crm"],
        ),
        ({"dead": 1}, ["has given up 1 delivery;", "zapvisor webhooks replay crm"]),
        ({"dead": 3}, ["has given up 3 deliveries;", "zapvisor webhooks dead crm"]),
        ({"newest": 8 + FAR_BEHIND}, [f"crm is {FAR_BEHIND + 1} events behind"]),
    ],
)
def test_a_webhook_in_trouble(changes: dict[str, t.Any], words: list[str]) -> None:
    """One sentence, with what to do."""
    [reason] = told(attrs.evolve(WELL, **changes))
    assert [word for word in words if word not in reason] == []


def test_a_webhook_with_two_troubles() -> None:
    """What was given up is told beside what is retried; a long error is cut."""
    fails, dead = told(attrs.evolve(WELL, retrying=1, pending=1, dead=1, error="x" * 1000))
    assert len(fails) < DETAIL + 200
    assert "given up" in dead


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "failing", "error": "no route"}, ["not published", "(no route)", "[nats]"]),
        ({"newest": 8 + FAR_BEHIND}, [f"{FAR_BEHIND + 1} events behind"]),
    ],
)
def test_nats_in_trouble(changes: dict[str, t.Any], words: list[str]) -> None:
    """It fails, or it lags; exactly as far behind as is allowed is no trouble."""
    [reason] = told(nats=attrs.evolve(PUBLISHING, **changes))
    assert [word for word in words if word not in reason] == []
    assert told(nats=attrs.evolve(PUBLISHING, newest=7 + FAR_BEHIND)) == []


def test_events_that_cannot_be_read() -> None:
    """Those who follow them are told of."""
    [reason] = told(events=attrs.evolve(READ, error="no such table"))
    assert "for the 1 clients" in reason
    assert "no such table" in reason


@pytest.fixture
async def control(short_path: t.Any) -> t.AsyncIterator[Control]:
    """With a webhook and with NATS; nobody runs them."""
    hook = WebhookSettings(
        name="crm", url="http://127.0.0.1:9/h?key=s3cret", secret=b"x" * 32, patterns=("*",)
    )
    nats = NatsSettings(url="nats://user:s3cret@127.0.0.1:9")
    async with open_control(short_path / "control.sock", webhooks=(hook,), nats=nats) as control:
        yield control
        await control.events.aclose()


async def fail(control: Control) -> None:
    """The webhook gives up one event, and NATS refuses us."""
    inbox = control.storage.inbox
    await inbox.follow("webhook:crm")
    event_id = await inbox.append_event("gap.opened", "sales", {})
    await inbox.take_deliveries("webhook:crm", types=None, connections=None, limit=10)
    failure = DeliveryFailure(event_id=event_id, status=500, error="500", retry_at=None)
    await inbox.settle_deliveries("webhook:crm", [], failure)
    assert control.events._nats is not None
    control.events._nats._set(state="failing", error="authorization violation", position=0)


async def test_detailed_health_tells_of_them(client: httpx.AsyncClient, control: Control) -> None:
    """How they are, without what is secret; trouble is degraded, with the reasons."""
    health = (await client.get("/health/detailed")).json()
    assert (health["verdict"], health["reasons"]) == ("ok", [])
    await fail(control)
    answer = await client.get("/health/detailed")
    health = answer.json()
    newest = (await control.storage.inbox.event_range()).newest
    assert health["events"] == {"newest": newest, "clients": 0, "dropped": 0, "error": None}
    [crm] = health["webhooks"]
    assert (crm["name"], crm["dead"], crm["newest"]) == ("crm", 1, newest)
    assert (health["nats"]["state"], health["nats"]["newest"]) == ("failing", newest)
    assert health["search"] == {"waiting": 0}
    assert health["verdict"] == "degraded"
    assert len(health["reasons"]) == 2
    assert (await client.get("/health")).json()["reasons"] == health["reasons"]
    assert "s3cret" not in answer.text


async def test_to_look_is_not_to_follow(client: httpx.AsyncClient, control: Control) -> None:
    """A webhook that has not begun is shown at the newest event, and nothing is written for it: a
    database that is read-only tells of its webhooks, too."""
    inbox = control.storage.inbox
    newest = await inbox.append_event("gap.opened", "sales", {})
    [crm] = (await client.get("/health/detailed")).json()["webhooks"]
    assert (crm["position"], crm["newest"], crm["state"]) == (newest, newest, "active")
    assert await inbox.consumers() == []


async def test_without_a_database_only_that_is_told(
    client: httpx.AsyncClient, control: Control
) -> None:
    """What is stored of webhooks is null, and nobody is told of each of its readers."""
    await fail(control)
    control.events.hub.error = "db.example refused the connection"
    control.storage.away = True
    health = (await client.get("/health/detailed")).json()
    assert (health["webhooks"], health["search"]) == (None, None)
    assert health["nats"]["state"] == "failing"
    assert health["verdict"] == "failing"
    assert len(health["reasons"]) == 1


async def test_the_command_line_shows_them(zapvisor: Run, control: Control) -> None:
    """A line for each kind, and in ``zapvisor top``."""
    await fail(control)
    result = await zapvisor("health")
    assert result.code == 1
    for words in (
        "webhook crm has given up 1 delivery",
        "0 clients, 0 dropped",
        "1 active; 0 waiting, 0 of them failed before, 1 given up",
        "failing, 0 published, ",
        " behind: authorization violation",
    ):
        assert words in result.out, words
    picture = await zapvisor("top", "--once")
    assert "1 active; 0 waiting" in picture.out
    assert "behind: authorization violation" in picture.out
