"""Lists in pages: where one ends and the next begins.

A list stays a JSON array. The place where the next page begins goes into headers: ``X-Next-Cursor``
for programs, ``Link`` (RFC 8288) for those that follow links. A cursor names the last row by what
the list is sorted by, so rows that come or go meanwhile neither repeat nor hide others.
"""

import base64
import collections.abc as cabc
import datetime as dt
import json
import typing as t
import urllib.parse

import attrs
from litestar import Response
from litestar.datastructures import ResponseHeader
from litestar.params import QueryParameter

from actors.drafts import BadRequestError
from api.problems import AnyRequest as AnyRequest  # most routes with pages need it, too

Key: t.TypeAlias = tuple[int | str | dt.datetime, ...]

PageCursor: t.TypeAlias = t.Annotated[
    str | None,
    QueryParameter(
        name="cursor",
        max_length=2048,
        description="Where the page before ended: its X-Next-Cursor. Without it, from the start.",
    ),
]

PAGED: t.Final = (
    ResponseHeader(
        name="X-Next-Cursor",
        description="The cursor of the next page; without it, this was the last.",
        documentation_only=True,
    ),
    ResponseHeader(
        name="Link",
        description='The next page as a link: </path?cursor=…>; rel="next".',
        documentation_only=True,
    ),
)
"""What a route with pages says of its answer in the OpenAPI document."""

_STEERING: t.Final = frozenset({"cursor", "before", "after"})
_BEGIN: t.Final = "begin without one"
_INT64: t.Final = 2**63

R = t.TypeVar("R")
V = t.TypeVar("V")


@attrs.frozen
class Pages(t.Generic[R]):
    """How one list is paged. Fetch one row more than ``limit``: it tells whether more follow."""

    name: str
    """Stands in its cursors, so that those of other lists are not taken."""
    kinds: tuple[type, ...]
    key: cabc.Callable[[R], Key]
    """What the list is sorted by, of those kinds; no two rows have the same."""

    def read(self, cursor: str | None, *others: object) -> Key | None:
        """Where a page begins; None: at the start. ``others`` say the same in older words.

        Raises:
            BadRequestError: it is no cursor of this list, or one of ``others`` is there, too.
        """
        if cursor is None:
            return None
        if any(other not in (None, 0, "") for other in others):
            raise BadRequestError("cursor: it goes alone, without before or after")
        return self._decode(cursor)

    def number(self, cursor: str | None, other: int | None) -> int | None:
        """The same for a list that is sorted by a number, which ``other`` may give as well."""
        key = self.read(cursor, other)
        return other if key is None else t.cast("int", key[0])

    def answer(
        self,
        request: AnyRequest,
        rows: cabc.Sequence[R],
        limit: int,
        view: cabc.Callable[[R], V] | None = None,
    ) -> Response[list[V]]:
        """A page of at most ``limit`` rows."""
        page = rows[:limit]
        end = self.key(page[-1]) if len(rows) > limit else None
        shown = t.cast("list[V]", list(page) if view is None else [view(row) for row in page])
        return self.with_next(request, shown, end)

    def with_next(self, request: AnyRequest, content: V, end: Key | None) -> Response[V]:
        """An answer, and where the next one begins; None: there is none."""
        return Response(content, headers={} if end is None else self.headers(request, end))

    def headers(self, request: AnyRequest, end: Key) -> dict[str, str]:
        """What says where the next page begins."""
        return next_page(request, "cursor", self._encode(end))

    def _encode(self, key: Key) -> str:
        parts = [part.isoformat() if isinstance(part, dt.datetime) else part for part in key]
        text = json.dumps([self.name, *parts], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def _decode(self, cursor: str) -> Key:
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"cursor: it is damaged; {_BEGIN}") from error
        if not isinstance(found, list) or not found or found[0] != self.name:
            raise BadRequestError(f"cursor: it belongs to another list; {_BEGIN}")
        try:
            return tuple(
                _read(kind, part) for kind, part in zip(self.kinds, found[1:], strict=True)
            )
        except (TypeError, ValueError) as error:
            raise BadRequestError(f"cursor: it is damaged; {_BEGIN}") from error


def next_page(request: AnyRequest, name: str, cursor: str) -> dict[str, str]:
    """The headers that say where the next page begins: the same request with ``name=cursor`` in
    the place of what steers it now."""
    kept = [each for each in request.query_params.multi_items() if each[0] not in _STEERING]
    query = urllib.parse.urlencode([*kept, (name, cursor)])
    path = urllib.parse.quote(request.url.path)
    return {"X-Next-Cursor": cursor, "Link": f'<{path}?{query}>; rel="next"'}


def _read(kind: type, part: object) -> int | str | dt.datetime:
    if kind is dt.datetime:
        moment = dt.datetime.fromisoformat(t.cast("str", part))
        if moment.tzinfo is None:
            raise ValueError("a time without a zone")
        return moment
    if type(part) is not kind:
        raise TypeError("a part of another kind")
    if isinstance(part, int) and not 0 <= part < _INT64:
        raise ValueError("out of range")
    return t.cast("int | str", part)
