"""How new the keys are, in PostgreSQL: see :class:`storage.epochs.Epochs`."""

import abc
import collections.abc as cabc
import datetime as dt
import typing as t

from storage.api import RecordKind
from storage.epochs import BegunEpoch, Epoch, StaleKeys
from storage.seal import Sealer


class PostgresEpochs(abc.ABC):
    """The part of PostgresStorage that knows it."""

    _clock: cabc.Callable[[], float]
    _sealer: Sealer

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    @abc.abstractmethod
    async def _write(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named statement that is not to be cancelled half way."""

    async def begin_epoch(self, remembered: Epoch | None) -> BegunEpoch:
        """See :meth:`storage.epochs.Epochs.begin_epoch`."""
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        [row] = await self._write("begin_epoch", *_known(remembered), now)
        return BegunEpoch(database=row["id"], epoch=row["epoch"], behind=row["behind"])

    async def advance_epoch(self, remembered: Epoch | None) -> Epoch | None:
        """See :meth:`storage.epochs.Epochs.advance_epoch`."""
        rows = await self._fetch("advance_epoch", *_known(remembered))
        return Epoch(database=rows[0]["id"], epoch=rows[0]["epoch"]) if rows else None

    async def stale_keys(self, connection: str | None = None) -> list[StaleKeys]:
        """See :meth:`storage.epochs.Epochs.stale_keys`."""
        return [StaleKeys(**row) for row in await self._fetch("stale_keys", connection)]

    async def renew_keys(
        self, connection: str, device: bytes, own: cabc.Sequence[str], reason: str
    ) -> bool:
        """See :meth:`storage.epochs.Epochs.renew_keys`."""
        sealed = self._sealer.seal(connection, RecordKind.DEVICE.value, "", device)
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        [row] = await self._write("renew_keys", connection, sealed, list(own), reason, now)
        return bool(row["done"])

    async def keys_renewed(self, connection: str) -> None:
        """See :meth:`storage.epochs.Epochs.keys_renewed`."""
        await self._fetch("keys_renewed", connection)


def _known(remembered: Epoch | None) -> tuple[str | None, int | None]:
    return (None, None) if remembered is None else (remembered.database, remembered.epoch)
