"""Putting an archive back: the same bytes again, and nothing twice."""

from st_archive import archive_of, fill, put
from st_helpers import Clock, Cluster

from storage.postgres import PostgresStorage


async def test_what_is_imported_reads_the_same(
    postgres: PostgresStorage, cluster: Cluster, clock: Clock, dsn: str
) -> None:
    """Export, import into an empty database, export: not a byte differs; nor if it is done twice."""
    await fill(postgres, clock)
    archive = await archive_of(dsn)
    other = await cluster.create("migrated")
    counts = await put(other, archive)
    assert counts.refused == 0, counts.refusals
    assert await archive_of(other) == archive
    again = await put(other, archive)
    assert again.stored.total() == 0
    assert again.refused == 0
    assert await archive_of(other) == archive
