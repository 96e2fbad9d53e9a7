"""Between the words of the actors and those of the API, where they differ."""

from actors.actions import Reprocessor, ReprocessRun
from api.ports_daemon import ReprocessFacts


class ReprocessAdapter:
    """A :class:`Reprocessor` as the API's ``ReprocessPort``."""

    def __init__(self, reprocessor: Reprocessor) -> None:
        self._reprocessor = reprocessor

    def begin(self, connection: str | None) -> bool:
        """See ``api.ports_daemon.ReprocessPort``."""
        return self._reprocessor.begin(connection)

    def facts(self) -> ReprocessFacts:
        """See ``api.ports_daemon.ReprocessPort``."""
        return _facts(self._reprocessor.current())

    async def finished(self) -> ReprocessFacts:
        """See ``api.ports_daemon.ReprocessPort``."""
        return _facts(await self._reprocessor.finished())


def _facts(run: ReprocessRun) -> ReprocessFacts:
    return ReprocessFacts(
        state=run.state,
        connection=run.connection,
        read=run.report.read,
        changed=run.report.changed,
        still_unknown=run.report.still_unknown,
        rejected=run.report.rejected,
        error=run.error,
    )
