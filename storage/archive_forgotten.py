"""Whom the database that an import goes to was told to forget."""

import collections.abc as cabc

from storage.errors import StorageRejectedError
from storage.maintenance import Maintenance
from storage.tombstones import StoneRow, Tombstones

_NO_KEY = (
    "this database was told to forget people, who are known by the secret key alone, and it cannot"
    " be read here; run the import as the daemon's user, with storage.key_file or"
    " ZAPVISOR_SECRET_KEY as the daemon has them"
)


class ForgottenPeople:
    """Its tombstones, up to one of the orders; see :class:`storage.archive_sieve.Forgotten`."""

    def __init__(self, session: Maintenance, key: bytes | None) -> None:
        """``key``: the secret key; None: there is none."""
        self.newest = -1
        """The order up to which they are known; 0: there was none, -1: not known."""
        self._session = session
        self._stones = None if key is None else Tombstones(key)

    async def refresh(self) -> None:
        """Learn of all orders up to now.

        Raises:
            StorageRejectedError: there are some, and no key.
        """
        [row] = await self._session.fetch("newest_erasure")
        rows = await self._session.fetch("tombstones")  # a younger one does no harm
        if self._stones is None and rows:
            raise StorageRejectedError(_NO_KEY)
        if self._stones is not None:
            self._stones.load(StoneRow(*each) for each in rows)
        self.newest = row["id"]

    def forgets(self, connection: str, addresses: cabc.Iterable[str | None], at: float) -> bool:
        """See :class:`storage.archive_sieve.Forgotten`."""
        return self._stones is not None and self._stones.forgets(connection, addresses, at)
