"""The tombstones of the database that an import goes to."""

import json
import typing as t

from storage.errors import StorageRejectedError
from storage.maintenance import Maintenance
from storage.tombstones import StoneRow, Tombstones

NO_STATE: t.Final = "0 0 0"  # as tombstones_state() in sql/import.sql has it


class StonesHere:
    """Whom the database was told to forget, as far as the secret key tells; read when needed."""

    def __init__(self, secret: bytes | None) -> None:
        """``secret``: the secret key; None: it is not there, so nobody may be forgotten."""
        self.stones = Tombstones(secret or b"")
        self.state: str | None = None
        """What the database knows these by; None: they are not read yet."""
        self._secret = secret
        self._connections: set[str] = set()

    async def read(self, session: Maintenance) -> None:
        """Know all of them, as they are now.

        Raises:
            StorageRejectedError: there are some, and no key.
        """
        self._connections = {row["name"] for row in await session.fetch("import_connections")}
        rows = await session.fetch("import_tombstones")
        state = rows[0]["state"]
        if self._secret is None and state != NO_STATE:
            raise StorageRejectedError(
                "people were forgotten here, and without the secret key nobody can tell whether"
                " they are in it; nothing was imported: give this command the key that the daemon"
                " has (storage.key_file, or ZAPVISOR_SECRET_KEY)"
            )
        self.stones.load(
            StoneRow(row["connection"], row["hash"], row["at"], row["returned"])
            for row in rows
            if row["connection"] is not None
        )
        self.state = state

    def of(self, connection: str) -> Tombstones:
        """With those of a connection, which may be one that is not here yet."""
        if connection not in self._connections:
            self.stones.inherit(connection)
            self._connections.add(connection)
        return self.stones

    async def note(self, session: Maintenance, notes: dict[str, t.Any]) -> None:
        """Write down what was left out, who has come back, and more addresses of who has not; and
        read them all. Not while there are records that were not held against these."""
        await session.fetch("import_noted", json.dumps(notes))
        await self.read(session)
