"""What the API asks of the daemon itself: its configuration, its repairs, its figures."""

import collections.abc as cabc
import typing as t

import attrs

from storage.quarantine import QuarantineRow


class HistogramPort(t.Protocol):
    """See ``actors.histogram.Histogram``."""

    @property
    def bounds(self) -> tuple[float, ...]: ...
    @property
    def counts(self) -> cabc.Sequence[int]: ...
    @property
    def total(self) -> float: ...


@attrs.frozen(kw_only=True)
class ReloadFacts:
    """What came of a reload."""

    problems: tuple[str, ...] = ()  # everything that is wrong; then the old one stays in force
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: int = 0  # connections that were not touched
    restart: tuple[str, ...] = ()  # keys whose new values wait for a restart of the daemon


@attrs.frozen(kw_only=True)
class SettingsFacts:
    """What a connection is configured with, passwords left out."""

    origin: str  # "file": the configuration has it; "api": it was made here
    own: cabc.Mapping[str, t.Any]  # None: as for all
    effective: cabc.Mapping[str, t.Any]


class RegistrarPort(t.Protocol):
    """Makes, changes and deletes connections. Orders go on to their end, whoever stops waiting.
    A ``ProblemError`` says what cannot be."""

    def settings(self, name: str) -> SettingsFacts:
        """What a connection is configured with.

        Raises:
            UnknownConnectionError: there is none of that name.
        """
        ...

    async def create(self, values: cabc.Mapping[str, t.Any]) -> str:
        """Make a connection from a ``[[connections]]`` table; its name."""
        ...

    async def change(self, name: str, values: cabc.Mapping[str, t.Any]) -> None:
        """Change settings of one that was made so; None: as for all again."""
        ...

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Stop and forget one that was made so; its messages stay. Its keys go only after a
        confirmed logout, or by ``force``."""
        ...


class ReloadPort(t.Protocol):
    """Puts a changed configuration in force."""

    @property
    def last(self) -> tuple[float, ReloadFacts] | None:
        """When it was reloaded last (unix seconds), and what came of it; None: not yet."""
        ...

    async def reload(self) -> ReloadFacts:
        """Read the configuration anew and apply it. Goes on to its end, whoever stops waiting."""
        ...


class RestorerPort(t.Protocol):
    """Tries what is in quarantine again; see ``actors.restoring.Restorer``."""

    async def retry(self, row_id: int) -> QuarantineRow | None:
        """Try a row once more; how it is afterwards. None: there is no such row.

        Raises:
            NoWayOutError: nothing was kept that could be stored.
            NotOnlineError: its stanza can be opened by its live connection only.
            SlowRetryError: it is under way still.
        """
        ...


@attrs.frozen(kw_only=True)
class ReprocessFacts:
    """How far the reading of stored messages anew is, or how the last one ended."""

    state: str  # "idle", "running", "done", "failed"
    connection: str | None = None  # None: all
    read: int = 0
    changed: int = 0
    still_unknown: int = 0
    rejected: int = 0
    error: str | None = None  # failed: why


class ReprocessPort(t.Protocol):
    """Reads stored messages anew, one run at a time; a run outlives the request that began it."""

    def begin(self, connection: str | None) -> bool:
        """Begin a run over one connection or all; False when one is under way already."""
        ...

    def facts(self) -> ReprocessFacts:
        """The run under way, or the last one; idle: there was none. Counts may be 0 until the
        end."""
        ...

    async def finished(self) -> ReprocessFacts:
        """Wait until no run is under way; the last one."""
        ...
