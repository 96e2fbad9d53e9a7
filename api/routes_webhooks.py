"""Webhooks: how they are, what waits, what is dead, and sending it again."""

import typing as t

import attrs
from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from actors.drafts import BadRequestError
from actors.event_views import TestResult, WebhookView
from api.backend import Backend, Before, Limit, required
from api.pages import next_page
from api.ports_events import WebhooksPort
from api.problems import AnyRequest, ProblemError
from storage.errors import CursorGoneError
from storage.events import Delivery

State: t.TypeAlias = t.Annotated[
    t.Literal["pending", "dead"] | None,
    QueryParameter(name="state", description="Only those; both by default."),
]
After: t.TypeAlias = t.Annotated[
    int, QueryParameter(ge=0, le=2**63 - 1, description="Those of events behind this one.")
]
Event: t.TypeAlias = t.Annotated[
    int | None, QueryParameter(ge=1, le=2**63 - 1, description="This event alone.")
]


@attrs.frozen(kw_only=True)
class ReplayView:
    """What is going to be sent again."""

    webhook: str
    deliveries: int | None  # None: all behind a cursor, which nobody has counted


def webhook_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    def hooks(name: str | None = None) -> WebhooksPort:
        found = required(backend.webhooks, "webhooks")
        if name is not None and name not in found.names:
            known = ", ".join(found.names) or "none is configured"
            raise ProblemError("unknown-webhook", 404, f"there is no webhook {name!r}: {known}")
        return found

    @get("/webhooks", tags=["webhooks"], summary="All webhooks, and what they have to do")
    async def webhooks() -> list[WebhookView]:
        return await hooks().views()

    @get("/webhooks/{name:str}", tags=["webhooks"], summary="One webhook")
    async def webhook(name: FromPath[str]) -> WebhookView:
        return await hooks(name).view(name)

    @get(
        "/webhooks/{name:str}/deliveries",
        tags=["webhooks"],
        summary="Deliveries that wait or are dead, oldest first",
        description="Delivered ones are not listed. `X-Next-Cursor` is the `after` of the next"
        " page, when there is one.",
    )
    async def deliveries(
        request: AnyRequest,
        name: FromPath[str],
        only: State = None,
        after: After = 0,
        limit: Limit = 50,
    ) -> Response[list[Delivery]]:
        rows = await hooks(name).deliveries(name, state=only, after=after, limit=limit)
        if len(rows) < limit:
            return Response(rows)
        return Response(rows, headers=next_page(request, "after", str(rows[-1].event_id)))

    @post(
        "/webhooks/{name:str}/replay",
        tags=["webhooks"],
        status_code=200,
        summary="Send events again: all dead ones, or `event`, or all behind `after`",
        opt={"problems": (410,)},
    )
    async def replay(name: FromPath[str], event: Event = None, after: Before = None) -> ReplayView:
        if event is not None and after is not None:
            raise BadRequestError("either event or after")
        try:
            count = await hooks(name).replay(name, event=event, after=after)
        except CursorGoneError as error:
            raise ProblemError("cursor-gone", 410, str(error)) from error
        if event is not None and not count:
            raise ProblemError("unknown-event", 404, f"there is no event {event} any more, or yet")
        return ReplayView(webhook=name, deliveries=count)

    @post(
        "/webhooks/{name:str}/test",
        tags=["webhooks"],
        status_code=200,
        summary="Send a `webhook.test` event, and how it was answered",
    )
    async def test(name: FromPath[str]) -> TestResult:
        return await hooks(name).test(name)

    @post(
        "/webhooks/{name:str}/pause",
        tags=["webhooks"],
        status_code=200,
        summary="Deliver nothing until it is resumed; what happens meanwhile waits",
    )
    async def pause(name: FromPath[str]) -> WebhookView:
        await hooks(name).pause(name)
        return await hooks(name).view(name)

    @post(
        "/webhooks/{name:str}/resume",
        tags=["webhooks"],
        status_code=200,
        summary="Go on where it was",
    )
    async def resume(name: FromPath[str]) -> WebhookView:
        await hooks(name).resume(name)
        return await hooks(name).view(name)

    return [webhooks, webhook, deliveries, replay, test, pause, resume]
