"""What is wrong with those who follow the events, and what to do: pure functions."""

import collections.abc as cabc
import typing as t

import attrs

from actors.event_views import EventsView, NatsView, WebhookView

FAR_BEHIND: t.Final = 10_000
"""Events; who is further behind the newest one does not keep up."""
DETAIL: t.Final = 200  # characters of an error that are told


def with_newest(view: NatsView, newest: int | None) -> NatsView:
    """The view with the newest event of the database; it has its own only while it publishes."""
    known = [number for number in (view.newest, newest) if number is not None]
    return attrs.evolve(view, newest=max(known, default=None))


def behind(view: NatsView | WebhookView) -> int | None:
    """How many events follow the position, those included that are not wanted there; None: it is
    not known."""
    if view.position is None or view.newest is None:
        return None
    return max(0, view.newest - view.position)


def event_troubles(
    events: EventsView | None, nats: NatsView | None, webhooks: cabc.Iterable[WebhookView]
) -> cabc.Iterator[str]:
    """One sentence for each trouble."""
    if events is not None and events.error is not None:
        yield (
            f"events cannot be read for the {events.clients} clients that follow them:"
            f" {_short(events.error)}; they wait and go on by themselves, look at the database"
        )
    for each in webhooks:
        yield from _webhook(each)
    if nats is not None:
        yield from _nats(nats)


def _webhook(view: WebhookView) -> cabc.Iterator[str]:
    name = view.name
    if view.paused is not None:
        yield (
            f"webhook {name} is paused ({_short(view.paused)}), its events wait;"
            f" zapvisor webhooks resume {name} goes on"
        )
    elif view.retrying:
        yield (
            f"webhook {name} fails ({_short(view.error or 'no answer')}), {view.retrying} of"
            f" {view.pending} waiting deliveries are retried; see to its endpoint, then zapvisor"
            f" webhooks test {name}"
        )
    if view.dead:
        noun = "delivery" if view.dead == 1 else "deliveries"
        yield (
            f"webhook {name} has given up {view.dead} {noun}; zapvisor webhooks dead {name} lists"
            f" them, zapvisor webhooks replay {name} sends them again"
        )
    distance = behind(view)
    if view.paused is None and distance is not None and distance > FAR_BEHIND:
        yield (
            f"webhook {name} is {distance} events behind; its endpoint is too slow, or its"
            " concurrency too low"
        )


def _nats(view: NatsView) -> cabc.Iterator[str]:
    distance = behind(view)
    if view.state == "failing":
        yield (
            f"events are not published to {view.url} ({_short(view.error or 'unknown')}); it is"
            " tried again, nothing is lost; see to the NATS server and to [nats] in the"
            " configuration"
        )
    elif distance is not None and distance > FAR_BEHIND:
        yield (
            f"publishing to {view.url} is {distance} events behind; see how fast the NATS server"
            " stores"
        )


def _short(error: str) -> str:
    return error if len(error) <= DETAIL else f"{error[: DETAIL - 1]}…"
