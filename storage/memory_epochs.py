"""How new the keys are, in MemoryStorage: see :class:`storage.epochs.Epochs`."""

import collections.abc as cabc

import attrs
import trio

from storage.api import RecordKind
from storage.epochs import BegunEpoch, Epoch, StaleKeys
from storage.memory_state import MemoryState, utc


@attrs.define
class _Mark:
    found_at: float
    expected: int
    accepted: bool = False


class MemoryEpochs(MemoryState):
    """The part of MemoryStorage that knows it."""

    def __init__(self, clock: cabc.Callable[[], float]) -> None:
        super().__init__(clock)
        self._epoch = Epoch(database=f"memory-{id(self)}", epoch=0)
        self._stale: dict[str, _Mark] = {}

    async def begin_epoch(self, remembered: Epoch | None) -> BegunEpoch:
        """See :meth:`storage.epochs.Epochs.begin_epoch`."""
        await trio.lowlevel.checkpoint()
        behind = self._is_behind(remembered)
        if (
            behind
            and remembered is not None
            and all(mark.expected < remembered.epoch for mark in self._stale.values())
        ):
            for name, connection in self._connections.items():
                known = self._stale.get(name)
                if connection.records[RecordKind.DEVICE]:
                    found_at = self._clock() if known is None else known.found_at
                    self._stale[name] = _Mark(found_at, remembered.epoch)
        return BegunEpoch(**attrs.asdict(self._epoch), behind=behind)

    async def advance_epoch(self, remembered: Epoch | None) -> Epoch | None:
        """See :meth:`storage.epochs.Epochs.advance_epoch`."""
        await trio.lowlevel.checkpoint()
        if any(mark.expected > self._epoch.epoch for mark in self._stale.values()):
            return None
        epoch = self._epoch.epoch
        if remembered is not None and self._is_behind(remembered):
            if not any(each.records[RecordKind.DEVICE] for each in self._connections.values()):
                return None
            epoch = remembered.epoch
        self._epoch = attrs.evolve(self._epoch, epoch=epoch + 1)
        return self._epoch

    async def stale_keys(self, connection: str | None = None) -> list[StaleKeys]:
        """See :meth:`storage.epochs.Epochs.stale_keys`."""
        await trio.lowlevel.checkpoint()
        return [
            StaleKeys(connection=name, found_at=utc(mark.found_at), accepted=mark.accepted)
            for name, mark in sorted(self._stale.items())
            if connection in (None, name)
        ]

    async def renew_keys(
        self, connection: str, device: bytes, own: cabc.Sequence[str], reason: str
    ) -> bool:
        """See :meth:`storage.epochs.Epochs.renew_keys`."""
        await trio.lowlevel.checkpoint()
        mark = self._stale.get(connection)
        if mark is None:
            return False
        mark.accepted = True
        self._leave(mark)
        records = self._connection(connection).records
        records[RecordKind.SESSION] = {}
        records[RecordKind.DEVICE] = {"": device}
        gone = {*own, "distributed"}
        kept = records[RecordKind.SENDER_KEY].items()
        records[RecordKind.SENDER_KEY] = {
            key: value for key, value in kept if key.rpartition("::")[2] not in gone
        }
        self._give_up_sending(connection, reason)
        return True

    async def keys_renewed(self, connection: str) -> None:
        """See :meth:`storage.epochs.Epochs.keys_renewed`."""
        await trio.lowlevel.checkpoint()
        if connection in self._stale and self._stale[connection].accepted:
            self._forget_stale(connection)

    def _is_behind(self, remembered: Epoch | None) -> bool:
        if remembered is None or remembered.database != self._epoch.database:
            return False
        return remembered.epoch > self._epoch.epoch

    def _forget_stale(self, connection: str) -> None:
        if (mark := self._stale.pop(connection, None)) is not None:
            self._leave(mark)

    def _leave(self, mark: _Mark) -> None:
        epoch = max(self._epoch.epoch, mark.expected + 1)
        self._epoch = attrs.evolve(self._epoch, epoch=epoch)
