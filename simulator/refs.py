"""The codes on companions' screens, each good for a while."""

import collections
import typing as t

import attrs
import trio

from simulator.errors import ScanRefusedError

if t.TYPE_CHECKING:
    from simulator.linking import Linking

MAX_REFS: t.Final = 10_000


@attrs.define(eq=False)
class Ref:
    """One code, until it expires."""

    linking: "Linking"
    expires_at: float  # trio clock


class Refs:
    """Codes by text; bounded, the oldest are forgotten first."""

    def __init__(self) -> None:
        self._refs: collections.OrderedDict[str, Ref] = collections.OrderedDict()

    def add(self, text: str, ref: Ref) -> None:
        """A companion shows (or will show) this code."""
        self._refs[text] = ref
        if len(self._refs) > MAX_REFS:
            self._refs.popitem(last=False)

    def linking(self, text: str) -> "Linking":
        """The companion that shows the code.

        Raises:
            ScanRefusedError: expired or unknown.
        """
        ref = self._refs.get(text)
        if ref is None or ref.expires_at <= trio.current_time():
            raise ScanRefusedError("QR scanned too late: this code has expired or is unknown")
        return ref.linking

    def expire(self, linking: "Linking | None" = None) -> None:
        """The codes of one companion, or of all, are too old from now on."""
        for ref in self._refs.values():
            if linking is None or ref.linking is linking:
                ref.expires_at = min(ref.expires_at, trio.current_time())
