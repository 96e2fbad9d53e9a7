"""Publishes the events to NATS JetStream, at least once and in order.

The position is stored after JetStream has confirmed a page. What was confirmed and not stored yet
is published again after a crash; ``Nats-Msg-Id`` is the id of the event, so JetStream drops it.
"""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.event_hub import EventSignal
from actors.event_views import NatsView
from actors.nats_link import NatsError, NatsLink, NatsSettings, check_stored, open_link
from actors.webhook_post import envelope_json
from storage.errors import CursorGoneError, StorageUnavailableError
from storage.events import EventRow, EventStream
from supervisor.backoff import Backoff

CONSUMER: t.Final = "nats"
PAGE: t.Final = 100  # events that are under way at a time
POLL: t.Final = 2.0  # seconds
HEALTHY: t.Final = 60.0  # seconds after which a link that ends is no failure in a row
PAUSE: t.Final = Backoff(initial=1.0, maximum=60.0)

log: structlog.stdlib.BoundLogger = structlog.get_logger("nats")


class NatsPublisher:
    """The service."""

    def __init__(
        self,
        settings: NatsSettings,
        storage: EventStream,
        signal: EventSignal,
        *,
        uniform: cabc.Callable[[], float],
        random: cabc.Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._signal = signal
        self._uniform = uniform
        self._random = random
        self._view = NatsView(
            url=settings.shown_url,
            state="connecting",
            position=None,
            newest=None,
            published=0,
            error=None,
        )

    def view(self) -> NatsView:
        """How it is now."""
        return self._view

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Publish until cancelled; connect again for as long as it takes."""
        task_status.started()
        failures = 0
        while True:
            published, began = self._view.published, trio.current_time()
            try:
                inbox = f"_INBOX.{self._random(12).hex()}"
                async with open_link(self._settings, inbox) as link:
                    await self._publish(link)
            except (NatsError, StorageUnavailableError, CursorGoneError) as error:
                lasted = trio.current_time() - began > HEALTHY
                failures = 1 if lasted or self._view.published > published else failures + 1
                if failures == 1:
                    log.warning("nats.failing", url=self._settings.shown_url, error=str(error))
                self._set(state="failing", error=str(error))
                await trio.sleep(PAUSE.delay(failures, self._uniform()))

    async def _publish(self, link: NatsLink) -> t.NoReturn:
        """What there is, then what comes."""
        if self._settings.stream:
            await link.ensure_stream(self._settings.stream, [f"{self._settings.subject}.>"])
        position = (await self._storage.follow(CONSUMER)).position
        log.info("nats.publishing", url=self._settings.shown_url, after=position)
        self._set(state="publishing", error=None, position=position)
        while True:
            if not await self._page(link):
                await self._wait(link)

    async def _page(self, link: NatsLink) -> bool:
        """Publish the next events; whether there were any."""
        position = self._view.position or 0
        known = await self._storage.event_range()
        if position < known.oldest:
            log.error("nats.events_lost", after=position, oldest=known.oldest)
            await self._storage.advance(CONSUMER, known.oldest, lost=1)
            self._set(position=known.oldest)
            return True
        page = await self._storage.events_after(position, limit=PAGE, types=self._settings.types)
        if page.position == position:
            self._set(newest=position)
            return False
        if page.events:
            answers = await link.ask([self._message(event) for event in page.events])
            for answer in answers:
                check_stored(answer)
        await self._storage.advance(CONSUMER, page.position, delivered=len(page.events))
        published = self._view.published + len(page.events)
        self._set(position=page.position, newest=known.newest, published=published)
        return True

    async def _wait(self, link: NatsLink) -> None:
        """Until there may be news; the server's pings are answered meanwhile."""
        failures: list[NatsError] = []
        async with trio.open_nursery() as nursery:

            async def hear() -> None:
                try:
                    while True:
                        await link.receive()
                except NatsError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(hear)
            await self._signal.wait(POLL)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    def _message(self, event: EventRow) -> tuple[str, bytes, dict[str, str]]:
        subject = f"{self._settings.subject}.{event.connection or '_'}.{event.type}"
        return subject, envelope_json(event).encode(), {"Nats-Msg-Id": str(event.id)}

    def _set(self, **changes: t.Any) -> None:
        self._view = attrs.evolve(self._view, **changes)
