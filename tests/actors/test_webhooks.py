"""Webhooks against a real HTTP endpoint: signed, in order, again until they are taken."""

import base64
import collections.abc as cabc
import hashlib
import hmac
import typing as t
from pathlib import Path

import attrs
import pytest
import structlog
import trio

from actors.event_hub import EventSignal
from actors.webhook_post import WebhookSettings, signing_key
from actors.webhooks import BACKLOG, Webhook, Webhooks, retry_delay
from storage.errors import CursorGoneError
from storage.memory import MemoryStorage
from tests.support.webhook_receiver import Received, Receiver, open_receiver

KEY = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0


@attrs.define
class World:
    """A storage, an endpoint, and the webhook between them."""

    storage: MemoryStorage
    receiver: Receiver
    nursery: trio.Nursery
    now: list[float]
    signal: EventSignal = attrs.field(factory=EventSignal)
    hook: Webhook = attrs.field(init=False)
    _scope: trio.CancelScope | None = None

    async def start(self, **settings: t.Any) -> Webhook:
        """Run the webhook, in place of one that runs."""
        if self._scope is not None:
            self._scope.cancel()
        defaults: dict[str, t.Any] = {
            "name": "crm",
            "url": self.receiver.url,
            "secret": KEY,
            "timeout": 5.0,
        }
        self.hook = Webhook(
            WebhookSettings(**defaults | settings),
            self.storage,
            self.signal,
            wall_clock=lambda: self.now[0],
            uniform=lambda: 0.5,
        )
        await self.storage.follow(self.hook.consumer)
        self._scope = await self.nursery.start(self._run, self.hook)
        return self.hook

    async def _run(self, hook: Webhook, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            try:
                await hook.run()
            finally:
                with trio.CancelScope(shield=True):
                    await hook.aclose()

    def kill(self) -> None:
        """Whatever it does, it does no more."""
        assert self._scope is not None
        self._scope.cancel()

    async def happen(self, connection: str | None = "sales", type_: str = "gap.opened") -> int:
        """One event; its id."""
        event_id = await self.storage.append_event(type_, connection, {"gap_id": 1})
        self.signal.wake()
        return event_id

    async def later(self, seconds: float) -> None:
        """Time passes."""
        self.now[0] += seconds
        self.hook.wake()

    async def settled(self, *, delivered: int) -> None:
        """Until so many are counted as delivered."""
        with trio.fail_after(30):
            while (await self.hook.view()).delivered < delivered:
                await trio.sleep(0.005)


@pytest.fixture
async def world() -> cabc.AsyncIterator[World]:
    now = [NOW]
    async with open_receiver() as receiver, trio.open_nursery() as nursery:
        yield World(MemoryStorage(lambda: now[0]), receiver, nursery, now)
        nursery.cancel_scope.cancel()


def answering(
    *statuses: int, headers: dict[str, str] | None = None
) -> cabc.Callable[[Received], cabc.Awaitable[tuple[int, dict[str, str]]]]:
    """One status after the other, the last one from then on."""
    left = list(statuses)

    async def answer(_request: Received) -> tuple[int, dict[str, str]]:
        await trio.lowlevel.checkpoint()
        return (left.pop(0) if len(left) > 1 else left[0]), headers or {}

    return answer


async def test_an_event_is_signed(world: World) -> None:
    """As the specification of Standard Webhooks says; the body is the event."""
    await world.start(secret=signing_key("whsec_" + base64.b64encode(KEY).decode()))
    event_id = await world.happen()
    await world.receiver.until(lambda: len(world.receiver.requests) == 1)
    [request] = world.receiver.requests
    assert (request.event["id"], request.event["type"]) == (event_id, "gap.opened")
    assert set(request.event) == {"id", "type", "at", "connection", "data"}
    assert request.headers["webhook-id"] == f"evt_{event_id}"
    assert request.headers["webhook-timestamp"] == str(int(NOW))
    signed = f"evt_{event_id}.{int(NOW)}.".encode() + request.body
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert request.headers["content-type"] == "application/json"
    await world.settled(delivered=1)


async def test_the_documented_check_of_a_signature(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example in the documentation takes what is ours, and nothing else."""
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    example: dict[str, t.Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], example)
    monkeypatch.setattr("time.time", lambda: NOW + 200)
    secret = "whsec_" + base64.b64encode(KEY).decode()
    await world.start(secret=signing_key(secret))
    await world.happen()
    await world.receiver.until(lambda: len(world.receiver.requests) == 1)
    [request] = world.receiver.requests
    verify = example["verify"]
    assert verify(secret, request.headers, request.body)
    assert not verify(secret, request.headers, request.body + b" ")
    assert not verify("another secret, long enough", request.headers, request.body)
    monkeypatch.setattr("time.time", lambda: NOW + 400)
    assert not verify(secret, request.headers, request.body)


def test_secrets() -> None:
    """Base64 after whsec_, or text; not too short."""
    assert signing_key("x" * 24) == b"x" * 24
    for wrong in ("short", "whsec_AAAA", "whsec_no base64!"):
        with pytest.raises(ValueError, match=r"base64|24 bytes"):
            signing_key(wrong)


async def test_only_what_is_wanted(world: World) -> None:
    """By type and connection; what is of no connection is for all."""
    await world.start(types=frozenset({"gap.opened"}), connections=frozenset({"sales"}))
    one = await world.happen()
    await world.happen("support")
    await world.happen(type_="gap.closed")
    two = await world.happen(None)
    await world.receiver.until(lambda: len(world.receiver.requests) == 2)
    assert sorted(world.receiver.ids) == [one, two]
    await world.settled(delivered=2)
    assert (await world.hook.view()).position == two


async def test_it_begins_with_what_happens(world: World) -> None:
    """A webhook that is new is not sent the past."""
    await world.happen()
    await world.start()
    event_id = await world.happen()
    await world.receiver.until(lambda: bool(world.receiver.requests))
    assert world.receiver.ids == [event_id]


async def test_a_failure_is_tried_again_later_and_in_order(world: World) -> None:
    """The next event of the connection waits for it; another connection does not."""
    world.receiver.answer = answering(500, 200)
    await world.start(concurrency=1)
    first, second = await world.happen(), await world.happen()
    await world.receiver.until(lambda: world.receiver.ids == [first])
    other = await world.happen("support")
    await world.receiver.until(lambda: world.receiver.ids == [first, other])
    await world.settled(delivered=1)
    view = await world.hook.view()
    assert (view.state, view.pending, view.retrying, view.error) == (
        "failing",
        2,
        1,
        "it answered 500",
    )
    await world.later(retry_delay(1, 0.5) + 0.1)
    await world.receiver.until(lambda: len(world.receiver.requests) == 4)
    assert world.receiver.ids == [first, other, first, second]
    ids = [each.headers["webhook-id"] for each in world.receiver.requests]
    assert ids[0] == ids[2]
    await world.settled(delivered=3)
    assert (await world.hook.view()).state == "active"


def test_retries_come_later_and_later() -> None:
    """Threefold each time, give or take a fifth, an hour at most."""
    assert [retry_delay(n, 0.5) for n in (1, 2, 3, 8, 10_000)] == [5, 15, 45, 3600, 3600]
    assert retry_delay(1, 0.0) == pytest.approx(4)
    assert retry_delay(1, 1.0) == pytest.approx(6)


async def test_what_nobody_takes_is_dead(world: World) -> None:
    """After so many attempts; the next ones go on; it can be looked at and replayed."""
    world.receiver.answer = answering(500, 500, 200)
    hook = await world.start(attempts=2)
    dead, after = await world.happen(), await world.happen()
    await world.receiver.until(lambda: world.receiver.ids == [dead])
    hooks = Webhooks([hook], world.storage)
    with trio.fail_after(20):
        while not (await hook.view()).retrying:
            await trio.sleep(0.005)
    await world.later(60)
    await world.receiver.until(lambda: world.receiver.ids == [dead, dead, after])
    await world.settled(delivered=1)
    [row] = await hooks.deliveries("crm", state="dead", after=0, limit=10)
    assert (row.event_id, row.attempts, row.status, row.state) == (dead, 2, 500, "dead")
    assert row.event is not None
    assert row.event.type == "gap.opened"
    assert await hooks.replay("crm") == 1
    await world.settled(delivered=2)
    assert world.receiver.ids == [dead, dead, after, dead]
    assert (await hook.view()).dead == 0
    assert await hooks.replay("crm") == 0


async def test_what_an_endpoint_will_never_take(world: World) -> None:
    """It is given up sooner."""
    world.receiver.answer = answering(422)
    await world.start()
    await world.happen()
    for number in range(1, 4):
        await world.receiver.until(lambda n=number: len(world.receiver.requests) == n)  # type: ignore[misc]
        with trio.fail_after(20):
            while (await world.storage.deliveries(world.hook.consumer))[0].attempts < number:
                await trio.sleep(0.005)
        await world.later(3600)
    assert (await world.hook.view()).dead == 1


async def test_an_endpoint_that_wants_no_more(world: World) -> None:
    """410 pauses it; nothing is lost, and it goes on when an operator says so."""
    world.receiver.answer = answering(410, 200)
    hook = await world.start()
    event_id = await world.happen()
    with trio.fail_after(20):
        while (await hook.view()).state != "paused":
            await trio.sleep(0.005)
    another = await world.happen()
    await world.later(7200)
    hooks = Webhooks([hook], world.storage)
    assert "410" in ((await hooks.view("crm")).paused or "")
    assert world.receiver.ids == [event_id]
    await hooks.resume("crm")
    await world.settled(delivered=2)
    assert world.receiver.ids == [event_id, event_id, another]


async def test_it_says_when_to_come_back(world: World) -> None:
    """Retry-After is respected, up to an hour."""
    world.receiver.answer = answering(503, headers={"retry-after": "600"})
    await world.start()
    await world.happen()
    with trio.fail_after(20):
        while not (waiting := await world.hook.view()).retrying:
            await trio.sleep(0.005)
    assert waiting.next_attempt_at is not None
    assert waiting.next_attempt_at.timestamp() == pytest.approx(NOW + 600, abs=1)


async def test_redirects_are_not_followed(world: World) -> None:
    """Whoever can answer at the endpoint cannot send us elsewhere."""
    async with open_receiver() as other:
        world.receiver.answer = answering(307, headers={"location": other.url})
        await world.start()
        await world.happen()
        with trio.fail_after(20):
            while not (view := await world.hook.view()).retrying:
                await trio.sleep(0.005)
        assert "redirects are not followed" in (view.error or "")
        assert other.requests == []


async def test_a_slow_endpoint_blocks_nobody(world: World) -> None:
    """It is given up after its timeout; other connections, and other webhooks, go on."""

    async def answer(request: Received) -> tuple[int, dict[str, str]]:
        if request.event["connection"] == "sales":
            await trio.sleep_forever()
        return 200, {}

    world.receiver.answer = answer
    await world.start(timeout=0.3, concurrency=2)
    slow = await world.happen()
    quick = [await world.happen("support") for _each in range(5)]
    await world.settled(delivered=5)
    assert [event_id for event_id in world.receiver.ids if event_id != slow] == quick
    with trio.fail_after(20):
        while not (view := await world.hook.view()).retrying:
            await trio.sleep(0.005)
    assert view.error == "no answer within 0.3 s"


async def test_nobody_is_there(world: World) -> None:
    """An endpoint that refuses connections is retried like any other failure."""
    with trio.socket.socket() as closed:
        await closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        await world.start(url=f"http://user:hush@127.0.0.1:{port}/x?token=hush")
        await world.happen()
        with structlog.testing.capture_logs() as logs, trio.fail_after(20):
            while not (view := await world.hook.view()).retrying:
                await trio.sleep(0.005)
    assert view.url == f"http://127.0.0.1:{port}/x"
    assert "hush" not in f"{view}{logs}{world.hook.settings}"


async def test_a_death_in_the_middle_loses_nothing(world: World) -> None:
    """What was answered but not stored is sent again with the same id."""
    reached = trio.Event()

    async def answer(request: Received) -> tuple[int, dict[str, str]]:
        if len(world.receiver.requests) == 3:
            reached.set()
            await trio.sleep_forever()
        return 200, {}

    world.receiver.answer = answer
    await world.start()
    sent = [await world.happen() for _each in range(6)]
    with trio.fail_after(20):
        await reached.wait()
    world.kill()
    world.receiver.answer = None
    await world.start()
    await world.settled(delivered=6)
    assert set(world.receiver.ids) == set(sent)
    kept = {each.headers["webhook-id"]: each.event["id"] for each in world.receiver.requests}
    assert kept == {f"evt_{event_id}": event_id for event_id in sent}


async def test_the_backlog_is_bounded(world: World) -> None:
    """While nothing gets on, only so many wait as rows; the rest waits in the stream."""
    reached, go_on = trio.Event(), trio.Event()

    async def hang(_request: Received) -> tuple[int, dict[str, str]]:
        reached.set()
        await go_on.wait()
        return 200, {}

    world.receiver.answer = hang
    await world.start()
    for _each in range(BACKLOG + 50):
        await world.storage.append_event("gap.opened", "sales", {})
    world.signal.wake()
    with trio.fail_after(20):
        await reached.wait()
        while (view := await world.hook.view()).pending < BACKLOG:
            await trio.sleep(0.005)
    await world.later(0)
    assert (view.pending, view.newest - view.position) == (BACKLOG, 50)
    go_on.set()


async def test_a_connection_whose_events_fail_keeps_out_nobody(world: World) -> None:
    """However many of its events wait: those of another connection are taken and delivered."""

    async def choosy(request: Received) -> tuple[int, dict[str, str]]:
        await trio.lowlevel.checkpoint()
        return (200 if request.event["connection"] == "support" else 500), {}

    world.receiver.answer = choosy
    await world.start()
    for _each in range(BACKLOG + 50):
        await world.storage.append_event("gap.opened", "sales", {})
    other = await world.happen("support")
    await world.settled(delivered=1)
    assert other in world.receiver.ids


async def test_an_orderly_end_sends_nothing_twice(world: World) -> None:
    """What was taken before the end is settled, although the rest of its lane was not."""
    reached = trio.Event()

    async def third_hangs(_request: Received) -> tuple[int, dict[str, str]]:
        await trio.lowlevel.checkpoint()
        if len(world.receiver.requests) >= 3:
            reached.set()
            await trio.sleep_forever()
        return 200, {}

    world.receiver.answer = third_hangs
    await world.start()
    sent = [await world.storage.append_event("gap.opened", "sales", {}) for _each in range(4)]
    world.signal.wake()
    with trio.fail_after(20):
        await reached.wait()
    await world.start()  # the former one is ended in order
    view = await world.hook.view()
    while view.delivered < 2:
        await trio.sleep(0.005)
        view = await world.hook.view()
    waiting = await world.storage.deliveries(world.hook.consumer, state="pending")
    assert [each.event_id for each in waiting] == sent[2:]


async def test_replaying(world: World) -> None:
    """One event, or all behind a cursor; a cursor that is too old is refused."""
    hook = await world.start()
    sent = [await world.happen() for _each in range(4)]
    await world.settled(delivered=4)
    hooks = Webhooks([hook], world.storage)
    assert await hooks.replay("crm", event=sent[1]) == 1
    await world.settled(delivered=5)
    assert world.receiver.ids[-1] == sent[1]
    assert await hooks.replay("crm", event=10_000) == 0
    assert await hooks.replay("crm", after=sent[1]) is None
    await world.settled(delivered=7)
    assert world.receiver.ids[-2:] == sent[2:]
    await world.storage.trim_events(NOW + 1, 2)
    with pytest.raises(CursorGoneError):
        await hooks.replay("crm", after=1)


async def test_a_test_event(world: World) -> None:
    """It is signed like any other, and is no event of the stream."""
    hook = await world.start()
    result = await hook.test()
    assert (result.ok, result.status) == (True, 200)
    [request] = world.receiver.requests
    assert request.event["type"] == "webhook.test"
    assert "webhook-signature" in request.headers
    world.receiver.answer = answering(401)
    failed = await hook.test()
    assert (failed.ok, failed.status, failed.error) == (False, 401, "it answered 401")
    assert (await hook.view()).delivered == 0
