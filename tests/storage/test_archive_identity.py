"""Export, import, export: the same bytes, whatever came before."""

import typing as t

import trio
from hypothesis import given, settings
from st_archive import archive_of, put, stored
from st_helpers import KEY, Clock, Cluster
from test_st_agreement import history, rules, steps

from storage.api import ConversationRules
from storage.postgres import PostgresStorage


def test_export_import_export_is_byte_identical(cluster: Cluster) -> None:
    """After anything that the writer, operators and merges can do to some messages; into an empty
    database, in one go, and once more over what is there."""

    @settings(max_examples=15, deadline=None)
    @given(run=steps, rule=rules)
    def identical(run: list[t.Any], rule: ConversationRules) -> None:
        trio.run(check, run, rule)

    async def check(run: list[t.Any], rule: ConversationRules) -> None:
        clock = Clock()
        first = await cluster.create("migrated")
        second = await cluster.create("migrated")
        async with PostgresStorage.open(first, key=KEY, pool_size=1, clock=clock) as storage:
            await history(storage, clock, run, rule)
        archive = await archive_of(first)
        rows = await stored(cluster, first)
        for _time in range(2):
            counts = await put(second, archive)
            assert counts.refused == 0, counts.refusals
            assert await archive_of(second, page=3) == archive
            assert await stored(cluster, second) == rows  # nothing is left out
            assert _time == 0 or counts.stored.total() == 0
        assert await archive_of(first) == archive  # nothing has changed there
        found = await put(first, archive)  # over its own database
        assert found.stored.total() == 0
        assert await archive_of(first) == archive
        for name in (first, second):
            database = name.split("/")[3].split("?")[0]
            await cluster.sql(cluster.server.dsn, f"DROP DATABASE {database}")

    identical()
