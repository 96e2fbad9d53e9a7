"""What the API asks of storage about what was deleted or changed; see ``storage.changes``."""

import collections.abc as cabc
import typing as t

from storage.changes import Access, AccessRow, Change, ChangeFilter
from storage.search import Position


class ChangesPort(t.Protocol):
    """The part of storage that knows of changes, and of who looked at them."""

    async def changes(
        self,
        wanted: ChangeFilter,
        *,
        content: bool = False,
        before: Position | None = None,
        limit: int = 50,
    ) -> list[Change]: ...

    async def changes_of(self, message_id: int) -> list[Change]: ...

    async def deleted_among(self, message_ids: cabc.Collection[int]) -> frozenset[int]: ...

    async def outdated_outbox(self, outbox_ids: cabc.Collection[int]) -> frozenset[int]: ...

    async def record_access(self, access: Access) -> int: ...

    async def history_accesses(
        self, *, message: int | None = None, before: int | None = None, limit: int = 50
    ) -> list[AccessRow]: ...
