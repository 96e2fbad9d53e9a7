"""What the API asks of the service of alerts."""

import typing as t

from actors.alerts import AlertView
from storage.alerts import Alert, Silence

__all__ = ["AlertView", "AlertsPort"]


class AlertsPort(t.Protocol):
    """See ``actors.alerts.AlertService``."""

    def active(self) -> list[AlertView]:
        """Those that are not resolved, the newest first."""
        ...

    def view(self, alert: Alert) -> AlertView:
        """An alert, and whether anybody is told of it now."""
        ...

    def windows(self) -> list[str]:
        """The windows of maintenance that are on."""
        ...

    def counts(self) -> dict[tuple[str, str], int]:
        """How many alerts there are, by rule and state."""
        ...

    async def acknowledge(self, alert_id: int, by: str) -> Alert | None:
        """Somebody takes care of it."""
        ...

    async def silence(
        self, connection: str | None, rule: str | None, *, seconds: float, why: str, by: str
    ) -> Silence:
        """Have nobody told for a time."""
        ...

    async def end_silence(self, silence_id: int) -> Silence | None:
        """End one now."""
        ...
