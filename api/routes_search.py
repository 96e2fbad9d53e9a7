"""Finding messages by their words."""

import datetime as dt
import typing as t

import attrs
from litestar import Response, get
from litestar.params import FromQuery, QueryParameter

from api.addresses import contact_place
from api.auth import demand
from api.backend import Backend, Limit
from api.former import HISTORY, record
from api.pages import PageCursor, Pages
from api.problems import AnyRequest
from api.routes_conversations import Contact, zoned
from api.search import FILTERS, SEARCHED, parse_query, search_headers
from storage.changes import AccessKind
from storage.inbox import Person
from storage.search import Filter, Hit, Piece, Query, snippet

Words: t.TypeAlias = t.Annotated[
    str,
    QueryParameter(
        name="query",
        min_length=1,
        max_length=512,
        description="Words that a message has to have, whatever their case and accents;"
        " entreg* for the beginning of one, -troca for one that it must not have.",
    ),
]


@attrs.frozen(kw_only=True)
class HitView:
    """A message that was found, or one former version of it."""

    message: int
    connection: str
    conversation: int
    chat: str
    title: str | None = attrs.field(repr=False)
    sender: Person
    from_me: bool
    kind: str
    at: dt.datetime  # of this version
    current: bool  # it reads like this now
    deleted: bool
    snippet: tuple[Piece, ...]
    """Pieces of plain text, in order: escape them where they are shown."""

    @classmethod
    def of(cls, hit: Hit, query: Query) -> "HitView":
        """The view of what was found."""
        names = {field.name for field in attrs.fields(cls)} - {"snippet"}
        fields = {name: getattr(hit, name) for name in names}
        return cls(**fields, snippet=snippet(hit.text, query))


_PAGES: t.Final = Pages[Hit]("search", (dt.datetime, int), lambda hit: (hit.at, hit.version))


def search_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""
    fleet, storage = backend.fleet, backend.storage

    @get(
        "/messages",
        tags=["messages"],
        summary="Messages that have the words searched for, the newest first",
        description=FILTERS
        + " A page may be short, or even empty, though there is a next one: one request looks at"
        " a bounded number of texts. A snippet is given in pieces of plain text, of which those"
        " with `match` fit; nothing in it is markup.",
        response_headers=SEARCHED,
    )
    async def search(
        request: AnyRequest,
        words: Words,
        connection: FromQuery[str | None] = None,
        contact: Contact = None,
        since: FromQuery[dt.datetime | None] = None,
        until: FromQuery[dt.datetime | None] = None,
        former: FromQuery[bool] = False,
        deleted: FromQuery[bool] = False,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[list[HitView]]:
        if connection is not None:
            fleet.status(connection)
        number, address = contact_place(contact)
        wanted = Filter(
            connection=connection,
            contact=number,
            address=address,
            since=zoned("since", since),
            until=zoned("until", until),
            former=former,
            deleted=deleted,
        )
        if former or deleted:
            demand(request.scope, HISTORY)
        query = parse_query(words)
        before = t.cast("tuple[dt.datetime, int] | None", _PAGES.read(cursor))
        page = await storage.search_messages(query, wanted, before=before, limit=limit)
        if former or deleted:
            await record(
                storage,
                request.scope,
                AccessKind.SEARCH,
                query=words,
                connection=connection,
                conversations=tuple(dict.fromkeys(hit.conversation for hit in page.hits)),
                messages=tuple(dict.fromkeys(hit.message for hit in page.hits)),
            )
        views = [HitView.of(hit, query) for hit in page.hits]
        answer = _PAGES.with_next(request, views, page.next)
        answer.headers.update(await search_headers(storage))
        return answer

    return [search]
