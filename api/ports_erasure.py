"""What the API asks of those who erase."""

import collections.abc as cabc
import typing as t

from actors.retention import Preview
from storage.erasure import Erasure, RetentionRun, Rule, Subject


class EraserPort(t.Protocol):
    """Forgets people; see ``actors.eraser.Eraser``."""

    async def subject(
        self, *, contact: int | None, address: str | None, connection: str | None
    ) -> Subject | None: ...

    async def forget(
        self, *, contact: int | None, address: str | None, connection: str | None, by: str
    ) -> Erasure | None: ...


class RetentionPort(t.Protocol):
    """Applies the rules of retention; see ``actors.retention.Retention``."""

    @property
    def rules(self) -> cabc.Sequence[Rule]: ...

    async def preview(self, seconds: float) -> tuple[list[Preview], bool]: ...

    async def runs(self, limit: int) -> list[RetentionRun]: ...
