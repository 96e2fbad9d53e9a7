"""What the routes that search have in common."""

import typing as t

from litestar.datastructures import ResponseHeader
from litestar.params import QueryParameter

from actors.drafts import BadRequestError
from api.pages import PAGED
from api.ports_storage import StoragePort
from storage.search import NoWordsError, Query

SearchText: t.TypeAlias = t.Annotated[
    str | None,
    QueryParameter(
        name="query",
        max_length=512,
        description="Words that a message, or a name of the contact or the group, has to have,"
        " whatever their case and accents; entreg* for the beginning of one, -troca for one that"
        " it must not have.",
    ),
]

FILTERS: t.Final = (
    "Searched is what messages read now, captions included; with `former` what they said before"
    " they were edited as well, with `deleted` those that were deleted for everyone, too;"
    " both need the scope `history`, and each such search is put on record."
    " New messages can be found within seconds. The header `X-Search` says what a search left"
    " out: `filling` while older messages are still being made searchable, `cut` when more texts"
    " or names fit than are looked at in one go, else `complete`."
)

SEARCHED: t.Final = (
    *PAGED,
    ResponseHeader(
        name="X-Search",
        description="Of a search: complete, filling or cut.",
        documentation_only=True,
    ),
)


def parse_query(text: str) -> Query:
    """What to search for.

    Raises:
        BadRequestError: there is no word in it.
    """
    try:
        return Query.parse(text)
    except NoWordsError as error:
        raise BadRequestError(f"query: {error}") from error


async def search_headers(storage: StoragePort, *, cut: bool = False) -> dict[str, str]:
    """What the answer of a search says of its completeness."""
    if cut:
        return {"X-Search": "cut"}
    return {"X-Search": "complete" if await storage.search_complete() else "filling"}
