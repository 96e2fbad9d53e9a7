"""Connections made through the API are kept, sealed; and the lists that front ends page."""

import pytest
from st_helpers import CUSTOMER, KEY, Clock, Cluster, take

from storage.api import Envelope, MediaFile, Storage
from storage.errors import StorageRejectedError
from storage.facts import AddressPair
from storage.made import MadeConnection
from storage.postgres import PostgresStorage
from storage.queues import MediaResult, MediaState

SETTINGS = {"name": "sales", "proxy": "http://u:s3cret@proxy.example:3128", "reopen_window": "2h"}


async def test_made_changed_and_forgotten(storage: Storage) -> None:
    """By name; only of connections that there are; forgetting twice is told."""
    assert await storage.made_connections() == []
    await storage.save_made("support", {"name": "support"})
    await storage.save_made("sales", {"name": "sales"})
    await storage.save_made("sales", SETTINGS)
    assert await storage.made_connections() == [
        MadeConnection("sales", SETTINGS),
        MadeConnection("support", {"name": "support"}),
    ]
    with pytest.raises(StorageRejectedError):
        await storage.save_made("nobody", {})
    assert await storage.forget_made("sales")
    assert not await storage.forget_made("sales")
    assert [row.name for row in await storage.connections()] == ["sales", "support"]


async def test_settings_are_sealed(
    postgres: PostgresStorage, cluster: Cluster, dsn: str, clock: Clock
) -> None:
    """Nobody who reads the database reads a proxy's password; under another key they are told
    to be there, and no more."""
    await postgres.save_made("sales", SETTINGS)
    [[sealed]] = await cluster.sql(dsn, "SELECT sealed FROM made_connections")
    assert b"s3cret" not in sealed
    assert b"proxy" not in sealed
    async with PostgresStorage.open(dsn, key=KEY[::-1], clock=clock) as other:
        assert await other.made_connections() == [MadeConnection("sales", None)]


async def test_files_are_listed(storage: Storage) -> None:
    """Those of the newest messages first, by connection and state, page by page."""
    numbers = []
    for number in range(4):
        outcome = await take(
            storage,
            f"A{number}",
            connection="support" if number == 3 else "sales",
            kind="image",
            media=MediaFile(kind="image", name=f"{number}.jpg"),
        )
        numbers.append(outcome.message_id or 0)
    done = MediaResult(state=MediaState.STORED, blob_sha256=bytes(32), blob_size=5)
    await storage.finish_media("sales", numbers[1], done)

    async def listed(**wanted: object) -> list[int]:
        return [row.message_id for row in await storage.media_list(**wanted)]  # type: ignore[arg-type]

    assert await listed() == numbers[::-1]
    assert await listed(connection="sales", limit=2) == [numbers[2], numbers[1]]
    assert await listed(before=numbers[2]) == [numbers[1], numbers[0]]
    assert await listed(state="stored") == [numbers[1]]
    assert await listed(connection="nobody") == []


async def test_one_contact_by_its_number(storage: Storage) -> None:
    """Not one that became another; merges are paged."""
    merged = []
    for number in range(3):
        mine, theirs = CUSTOMER.replace("1111", f"111{number}"), f"90000000000{number}@lid"
        await take(storage, f"A{number}", chat=mine)
        await take(storage, f"B{number}", chat=theirs, sender=theirs)
        two = [await storage.contact("sales", each) for each in (mine, theirs)]
        pair = AddressPair(number=mine, lid=theirs, source="usync")
        await storage.apply([Envelope(connection="sales", facts=(pair,))])
        kept = await storage.contact("sales", theirs)
        assert kept is not None
        assert await storage.contact_by_id(kept.id) == kept
        [lost] = {row.id for row in two if row is not None} - {kept.id}
        assert await storage.contact_by_id(lost) is None
        merged.append(kept.id)
    rows = await storage.merges(None)
    assert [row.survivor for row in rows] == merged[::-1]
    assert await storage.merges("sales", before=rows[0].id, limit=1) == rows[1:2]
    for nobody in (0, -1, 2**63, 999_999):
        assert await storage.contact_by_id(nobody) is None
