"""What the API asks of the service that writes exports."""

import typing as t

from actors.exporter import ExporterView
from storage.changes import Viewer
from storage.exports.ledger import ExportRow
from storage.exports.model import Request

__all__ = ["ExporterView", "ExportsPort"]


class ExportsPort(t.Protocol):
    """See :class:`actors.exporter.Exporter`."""

    def view(self) -> ExporterView:
        """How it is now."""
        ...

    async def exports(self, *, before: int | None = None, limit: int = 50) -> list[ExportRow]:
        """The newest first."""
        ...

    async def export(self, number: int) -> ExportRow | None:
        """One; None: there is none."""
        ...

    async def begin(
        self,
        request: Request,
        name: str,
        by: Viewer,
        *,
        s3: bool = False,
        directory: str | None = None,
    ) -> ExportRow:
        """Ask for an export, and put that on record."""
        ...

    async def again(self, number: int, by: Viewer) -> ExportRow | None:
        """Go on with one that failed, and put that on record."""
        ...

    async def remove(self, number: int) -> ExportRow | None:
        """Delete the files of one."""
        ...
