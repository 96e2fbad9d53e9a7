"""Webhooks: events on their way to HTTP endpoints, at least once, in order.

Theory of operation. A webhook has a position in the stream. Its next events become deliveries,
rows of their own, in the transaction that moves the position; no more than some wait at a time
(lanes that fail aside, up to a bound), the rest waits in the stream. Deliveries form lanes, one per
connection: within a lane the next event leaves when the one before it was taken or given up, and
lanes do not wait for each other. A delivery goes when the endpoint has answered 2xx; whatever dies
before that is sent again, with the same ``webhook-id``. One that fails is tried again later and
later, and is dead after so many attempts: then it can be looked at and replayed. An endpoint that
answers 410 is paused.
"""

import collections.abc as cabc
import contextlib
import json
import typing as t

import structlog
import trio

from actors.event_hub import EventSignal
from actors.event_views import TestResult, WebhookView
from actors.patience import persist
from actors.webhook_post import Answer, Poster, WebhookSettings, envelope_json
from storage.errors import StorageError, StorageUnavailableError
from storage.events import Consumer, Delivery, DeliveryFailure, EventStream

BACKLOG: t.Final = 1000  # deliveries that wait at a time, in lanes that get on
PER_LANE: t.Final = 20  # deliveries of a lane that leave before their outcome is stored
HOPELESS_ATTEMPTS: t.Final = 3  # of an event that the endpoint will never take
POLL: t.Final = 2.0  # seconds
FIRST_RETRY: t.Final = 5.0  # seconds, threefold with each failure
LAST_RETRY: t.Final = 3600.0
FACTOR: t.Final = 3.0
JITTER: t.Final = 0.2
LAST_WORD: t.Final = 1.0  # seconds for the outcome of what was delivered when the daemon ends
TEST_PATIENCE: t.Final = 20.0  # seconds; the API waits no longer

log: structlog.stdlib.BoundLogger = structlog.get_logger("webhooks")


def retry_delay(attempts: int, uniform: float) -> float:
    """Seconds after so many failures, give or take a fifth; ``uniform`` is of [0, 1)."""
    delay = min(LAST_RETRY, FIRST_RETRY * FACTOR ** min(attempts - 1, 20))
    return delay * (1 - JITTER + 2 * JITTER * uniform)


class Webhook:
    """Delivers to one endpoint."""

    def __init__(
        self,
        settings: WebhookSettings,
        storage: EventStream,
        signal: EventSignal,
        *,
        poster: Poster | None = None,
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
    ) -> None:
        self.settings = settings
        self.consumer = f"webhook:{settings.name}"
        self._storage = storage
        self._signal = signal
        self._poster = poster or Poster(settings)
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._busy: set[str] = set()  # lanes that are being delivered
        self._woken = trio.Event()
        self._failing: set[str] = set()  # lanes
        self._log = log.bind(webhook=settings.name)

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Deliver until cancelled."""
        task_status.started()
        self._busy.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                self._woken = trio.Event()
                if not await self._persist(lambda: self._round(nursery)):
                    with trio.move_on_after(POLL):
                        await self._woken.wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Close what is open towards the network."""
        await self._poster.aclose()

    async def _listen(self) -> None:
        while True:
            await self._signal.wait(POLL)
            self._woken.set()

    async def _round(self, nursery: trio.Nursery) -> bool:
        """Take what is new, begin with what is due; whether there may be more at once."""
        consumer = await self._storage.follow(self.consumer)
        if consumer.paused is not None:
            return False
        taken = await self._storage.take_deliveries(
            self.consumer,
            types=self.settings.types,
            connections=self.settings.connections,
            limit=BACKLOG,
        )
        places = self.settings.concurrency - len(self._busy)
        if places <= 0:
            return False
        due = await self._storage.due_deliveries(
            self.consumer, busy=frozenset(self._busy), lanes=places, per_lane=PER_LANE
        )
        lanes: dict[str, list[Delivery]] = {}
        for delivery in due:
            lanes.setdefault(delivery.lane, []).append(delivery)
        for lane, deliveries in lanes.items():
            self._busy.add(lane)
            nursery.start_soon(self._deliver, lane, deliveries)
        return taken > 0

    async def _deliver(self, lane: str, deliveries: cabc.Sequence[Delivery]) -> None:
        """The deliveries of a lane in order, up to the first that fails."""
        delivered: list[int] = []
        lost: list[int] = []
        failure = None
        settled = False
        try:
            for each in deliveries:
                if each.event is None:
                    lost.append(each.event_id)
                    continue
                body = envelope_json(each.event).encode()
                answer = await self._poster.post(f"evt_{each.event_id}", body, self._wall_clock())
                if answer.error is not None:
                    failure = await self._failed(each, answer)
                    break
                self._succeeded(lane)
                delivered.append(each.event_id)
            await self._persist(
                lambda: self._storage.settle_deliveries(
                    self.consumer, delivered, failure, lost=lost
                )
            )
            settled = True
        finally:
            if (delivered or lost) and not settled:  # an orderly end does not send them again
                with trio.move_on_after(LAST_WORD, shield=True), contextlib.suppress(StorageError):
                    await self._storage.settle_deliveries(self.consumer, delivered, lost=lost)
            self._busy.discard(lane)
            self.wake()

    async def _failed(self, delivery: Delivery, answer: Answer) -> DeliveryFailure:
        """What follows from a failure."""
        attempts = delivery.attempts + 1
        limit = HOPELESS_ATTEMPTS if answer.hopeless else self.settings.attempts
        error = answer.error or ""
        retry_at = None
        if answer.gone:
            reason = "the endpoint answered 410: it wants no more events"
            await self._persist(lambda: self._storage.pause_consumer(self.consumer, reason))
            self._log.warning("webhook.paused", reason=reason)
            retry_at = self._wall_clock()
        elif attempts < limit:
            delay = max(retry_delay(attempts, self._uniform()), answer.retry_after or 0.0)
            retry_at = self._wall_clock() + delay
        else:
            self._log.error(
                "webhook.dead",
                event_id=delivery.event_id,
                attempts=attempts,
                error=error,
                advice="zapvisor webhooks dead lists it, zapvisor webhooks replay sends it again",
            )
        if not self._failing:
            self._log.warning("webhook.failing", event_id=delivery.event_id, error=error)
        self._failing.add(delivery.lane)
        return DeliveryFailure(
            event_id=delivery.event_id, status=answer.status, error=error, retry_at=retry_at
        )

    def _succeeded(self, lane: str) -> None:
        if lane in self._failing:
            self._failing.discard(lane)
            if not self._failing:
                self._log.info("webhook.recovered")

    _T = t.TypeVar("_T")

    async def _persist(self, work: cabc.Callable[[], cabc.Awaitable[_T]]) -> _T:
        """Try until the database is there."""

        def waits(error: StorageUnavailableError) -> None:
            self._log.warning("webhook.waits_for_database", error=str(error))

        return await persist(work, self._uniform, waits)

    async def test(self) -> TestResult:
        """Send a ``webhook.test`` event."""
        begun = trio.current_time()
        now = self._wall_clock()
        told = {"id": 0, "type": "webhook.test", "at": None, "connection": None, "data": {}}
        answer = Answer(error=f"no answer within {TEST_PATIENCE:g} s")
        with trio.move_on_after(TEST_PATIENCE):
            body = json.dumps(told).encode()
            answer = await self._poster.post(f"test_{int(now * 1000)}", body, now)
        return TestResult(
            ok=answer.error is None,
            status=answer.status,
            error=answer.error,
            seconds=trio.current_time() - begun,
        )

    async def view(self) -> WebhookView:
        """How it is now; it only reads, as the database may be read-only."""
        counts = await self._storage.delivery_counts(self.consumer)
        rows = await self._storage.consumers()  # after them: it says why some failed
        known = await self._storage.event_range()
        row = next((each for each in rows if each.name == self.consumer), None)
        if row is None:  # it has not begun
            row = Consumer(name=self.consumer, position=known.newest)
        state = "failing" if counts.retrying else "active"
        return WebhookView(
            name=self.settings.name,
            url=self.settings.shown_url,
            types=self.settings.patterns,
            connections=tuple(sorted(self.settings.connections or ())),
            state=state if row.paused is None else "paused",
            paused=row.paused,
            position=row.position,
            newest=known.newest,
            pending=counts.pending,
            retrying=counts.retrying,
            dead=counts.dead,
            delivered=row.delivered,
            lost=row.lost,
            succeeded_at=row.succeeded_at,
            failed_at=row.failed_at,
            error=row.error,
            next_attempt_at=counts.next_attempt_at,
        )


class Webhooks:
    """All webhooks of the configuration, for the API. Unknown names raise ``KeyError``."""

    def __init__(self, hooks: cabc.Iterable[Webhook], storage: EventStream) -> None:
        self._hooks = {hook.settings.name: hook for hook in hooks}
        self._storage = storage

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._hooks)

    @property
    def hooks(self) -> tuple[Webhook, ...]:
        return tuple(self._hooks.values())

    async def views(self) -> list[WebhookView]:
        """All of them, as they are now."""
        return [await hook.view() for hook in self._hooks.values()]

    async def view(self, name: str) -> WebhookView:
        """One of them."""
        return await self._hooks[name].view()

    async def pause(self, name: str) -> None:
        """Deliver nothing until it is resumed; what happens meanwhile waits."""
        hook = self._hooks[name]
        await self._storage.follow(hook.consumer)
        await self._storage.pause_consumer(hook.consumer, "paused by an operator")

    async def resume(self, name: str) -> None:
        """Go on where it was."""
        hook = self._hooks[name]
        await self._storage.pause_consumer(hook.consumer, None)
        hook.wake()

    async def test(self, name: str) -> TestResult:
        """See :meth:`Webhook.test`."""
        return await self._hooks[name].test()

    async def deliveries(
        self, name: str, *, state: str | None, after: int, limit: int
    ) -> list[Delivery]:
        """Deliveries that wait, or are dead."""
        consumer = self._hooks[name].consumer
        return await self._storage.deliveries(consumer, state=state, after=after, limit=limit)

    async def replay(
        self, name: str, *, event: int | None = None, after: int | None = None
    ) -> int | None:
        """Deliver one event again, all behind a cursor, or all dead ones; how many (None: not
        counted).

        Raises:
            CursorGoneError: events behind the cursor are gone.
        """
        hook = self._hooks[name]
        await self._storage.follow(hook.consumer)
        count = None
        if after is not None:
            await self._storage.rewind(hook.consumer, after)
        else:
            count = await self._storage.redeliver(hook.consumer, event)
        hook.wake()
        return count
