"""Those who follow the events: the fan-out, webhooks, NATS, and what tells of incidents.

Each is a supervised service; none of them is known to a connection or to the writer, which only
wakes them after its commits.
"""

import collections.abc as cabc
import contextlib
import functools
import typing as t

import structlog
import trio

from actors.endurance import Run, endure
from actors.event_hub import Client, EventHub, EventSignal
from actors.event_views import EventsView, NatsView
from actors.incidents import Incident
from actors.nats import NatsPublisher
from actors.nats_link import NatsSettings
from actors.webhook_post import WebhookSettings
from actors.webhooks import Webhook, Webhooks
from storage.api import Envelope, Outcome
from storage.errors import StorageUnavailableError
from storage.events import EventStream
from supervisor.spec import ChildSpec

INCIDENT_POLL: t.Final = 1.0  # seconds
UNTOLD: t.Final = 100  # beginnings and ends of incidents that wait for the database

log: structlog.stdlib.BoundLogger = structlog.get_logger("events")


class IncidentTeller:
    """Makes an event of each incident's begin and end."""

    def __init__(
        self, storage: EventStream, incidents: cabc.Callable[[], cabc.Sequence[Incident]]
    ) -> None:
        self._storage = storage
        self._incidents = incidents
        self._known: dict[str, Incident] = {}
        self._untold: list[tuple[str, dict[str, t.Any]]] = []

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Look every second until cancelled; what cannot be stored now is stored later."""
        task_status.started()
        while True:
            self._look()
            try:
                while self._untold:
                    type_, data = self._untold[0]
                    await self._storage.append_event(type_, None, data)
                    del self._untold[0]
            except StorageUnavailableError as error:
                log.debug("events.incident_waits", error=str(error))
            await trio.sleep(INCIDENT_POLL)

    def _look(self) -> None:
        now = {incident.code: incident for incident in self._incidents()}
        for code in self._known.keys() | now.keys():
            before, after = self._known.get(code), now.get(code)
            if before is not None and (after is None or after.since != before.since):
                self._note("incident.ended", before)
            if after is not None and (before is None or after.since != before.since):
                self._note("incident.begun", after)
        self._known = now

    def _note(self, type_: str, incident: Incident) -> None:
        told = {
            "code": incident.code,
            "since": incident.since.isoformat().replace("+00:00", "Z"),
            "sentence": incident.sentence,
            "connections": incident.connections,
        }
        self._untold.append((type_, told))
        if len(self._untold) > UNTOLD:
            log.error("events.incident_dropped", type=self._untold[0][0])
            del self._untold[0]


class EventServices:
    """All of them."""

    def __init__(
        self,
        storage: EventStream,
        *,
        max_clients: int,
        webhooks: cabc.Iterable[WebhookSettings] = (),
        nats: NatsSettings | None = None,
        incidents: cabc.Callable[[], cabc.Sequence[Incident]],
        wall_clock: cabc.Callable[[], float],
        uniform: cabc.Callable[[], float],
        random: cabc.Callable[[int], bytes],
    ) -> None:
        self.signal = EventSignal()
        self.hub = EventHub(storage, self.signal, max_clients=max_clients)
        self.webhooks = Webhooks(
            [
                Webhook(each, storage, self.signal, wall_clock=wall_clock, uniform=uniform)
                for each in webhooks
            ],
            storage,
        )
        self._nats = (
            None
            if nats is None
            else NatsPublisher(nats, storage, self.signal, uniform=uniform, random=random)
        )
        self._incidents = IncidentTeller(storage, incidents)

    def children(self) -> list[ChildSpec]:
        """One child of the daemon's tree for each service."""
        services: dict[str, Run] = {"events": self.hub.run, "incidents": self._incidents.run}
        services |= {f"webhook-{hook.settings.name}": hook.run for hook in self.webhooks.hooks}
        if self._nats is not None:
            services["nats"] = self._nats.run
        return [
            ChildSpec(id=name, start=functools.partial(endure, name, run))
            for name, run in services.items()
        ]

    def committed(
        self, _envelopes: cabc.Sequence[Envelope], _outcomes: cabc.Sequence[Outcome]
    ) -> None:
        """The writer has committed a batch."""
        self.signal.wake()

    async def aclose(self) -> None:
        """Close what is open towards the network."""
        for hook in self.webhooks.hooks:
            await hook.aclose()

    def view(self) -> EventsView:
        """How the fan-out is."""
        return self.hub.view()

    def has_room(self) -> bool:
        """Whether another client may come."""
        return self.hub.has_room()

    def nats(self) -> NatsView | None:
        """How publishing to NATS is; None: it is not wanted."""
        return None if self._nats is None else self._nats.view()

    def client(
        self,
        after: int | None,
        *,
        connection: str | None = None,
        types: cabc.Collection[str] | None = None,
    ) -> contextlib.AbstractContextManager[Client]:
        """See :meth:`actors.event_hub.EventHub.client`."""
        return self.hub.client(after, connection=connection, types=types)
