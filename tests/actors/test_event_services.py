"""Services that follow the events: what fails in one of them ends nobody."""

import itertools
import typing as t

import structlog
import trio
import trio.lowlevel
import trio.testing

from actors.endurance import endure
from actors.event_hub import EventHub, EventSignal, SlowClientError
from actors.event_services import EventServices
from actors.webhook_post import WebhookSettings
from storage.errors import StorageRejectedError
from storage.events import EventRange
from storage.memory import MemoryStorage


async def test_a_service_that_fails_is_run_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Later and later, a minute at most, for ever; each failure is in the log."""
    begun: list[float] = []

    async def fail(**_options: t.Any) -> t.NoReturn:
        begun.append(trio.current_time())
        raise StorageRejectedError("no such function")

    with structlog.testing.capture_logs() as logs:
        await nursery.start(endure, "nats", fail)
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    pauses = [round(after - before) for before, after in itertools.pairwise(begun)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert {entry["event"] for entry in logs} == {"service.failed"}
    assert len(logs) == len(begun)


async def test_each_is_a_child_of_its_own() -> None:
    """By name; a webhook that fails is not the others' affair."""
    hooks = [
        WebhookSettings(name=name, url="http://127.0.0.1:9/", secret=b"x" * 32)
        for name in ("crm", "audit")
    ]
    services = EventServices(
        MemoryStorage(lambda: 0.0),
        max_clients=1,
        webhooks=hooks,
        incidents=list,
        wall_clock=lambda: 0.0,
        uniform=lambda: 0.5,
        random=bytes,
    )
    assert [child.id for child in services.children()] == [
        "events",
        "incidents",
        "webhook-crm",
        "webhook-audit",
    ]
    assert services.nats() is None
    await services.aclose()


class BrokenStorage(MemoryStorage):
    """Cannot be read."""

    async def event_range(self) -> EventRange:
        raise StorageRejectedError("no such function")


async def test_an_error_is_forgotten_with_the_last_client(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """While nobody follows nothing is read, so nothing is wrong."""
    hub = EventHub(BrokenStorage(lambda: 0.0), EventSignal())
    await nursery.start(hub.run)
    with hub.client(None) as client:
        assert await client.next(5) == []
        assert hub.view().error == "no such function"
    await trio.sleep(20)
    assert hub.view().error is None
    nursery.cancel_scope.cancel()


async def test_a_replay_that_takes_its_time_is_not_too_slow(nursery: trio.Nursery) -> None:
    """Only a client that had caught up is dropped; whoever replays reads pages of its own, however
    much comes meanwhile."""
    storage = MemoryStorage(lambda: 0.0)
    signal = EventSignal()
    hub = EventHub(storage, signal, window=20)
    await nursery.start(hub.run)

    async def happen(count: int) -> int:
        last = 0
        for _each in range(count):
            last = await storage.append_event("gap.opened", "sales", {})
        signal.wake()
        return last

    async def caught_up(last: int) -> None:
        with trio.fail_after(10):
            while hub.view().newest != last:
                await trio.lowlevel.checkpoint()

    await happen(150)
    with hub.client(0) as replaying, hub.client(None) as live:
        assert len(await replaying.next(5)) == 100
        last = await happen(1)
        while not (seen := await live.next(5)):
            last = await happen(1)
        last = await happen(300)
        await caught_up(last)
        ids = [row.id for row in await replaying.next(5)]
        while ids[-1] < last:
            ids += [row.id for row in await replaying.next(5)]
        assert ids == list(range(101, last + 1))
        dropped = None
        try:
            while True:
                seen = await live.next(0.1)
        except SlowClientError as error:
            dropped = error
        assert dropped is not None
        assert seen
    assert hub.view().dropped == 1
    nursery.cancel_scope.cancel()
