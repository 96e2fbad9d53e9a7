"""What the API asks of the services that follow the events."""

import collections.abc as cabc
import contextlib
import typing as t

from actors.event_views import EventsView, NatsView, TestResult, WebhookView
from storage.events import Delivery, EventRow

__all__ = [
    "EventClient",
    "EventsPort",
    "EventsView",
    "NatsView",
    "TestResult",
    "WebhookView",
    "WebhooksPort",
]


class EventClient(t.Protocol):
    """One reader of events."""

    position: int | None

    async def next(self, patience: float) -> list[EventRow]:
        """See ``actors.event_hub.Client.next``."""
        ...


class EventsPort(t.Protocol):
    """The fan-out of events."""

    def view(self) -> EventsView:
        """How it is now."""
        ...

    def has_room(self) -> bool:
        """Whether another client may come."""
        ...

    def nats(self) -> NatsView | None:
        """How publishing to NATS is; None: it is not wanted."""
        ...

    def client(
        self,
        after: int | None,
        *,
        connection: str | None = None,
        types: cabc.Collection[str] | None = None,
    ) -> contextlib.AbstractContextManager[EventClient]:
        """See ``actors.event_hub.EventHub.client``."""
        ...


class WebhooksPort(t.Protocol):
    """The webhooks of the configuration. A name that there is not raises ``KeyError``."""

    @property
    def names(self) -> tuple[str, ...]: ...

    async def views(self) -> list[WebhookView]:
        """All of them."""
        ...

    async def view(self, name: str) -> WebhookView: ...

    async def pause(self, name: str) -> None: ...

    async def resume(self, name: str) -> None: ...

    async def test(self, name: str) -> TestResult:
        """Send it a ``webhook.test`` event, which is no event of the stream."""
        ...

    async def deliveries(
        self, name: str, *, state: str | None, after: int, limit: int
    ) -> list[Delivery]: ...

    async def replay(
        self, name: str, *, event: int | None = None, after: int | None = None
    ) -> int | None:
        """Deliver one event again, all behind a cursor, or all dead ones; how many (None: not
        counted).

        Raises:
            CursorGoneError: events behind the cursor are gone.
        """
        ...
