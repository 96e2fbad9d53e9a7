"""What is kept for a time only is forgotten, some at a time."""

import trio
import trio.testing

from actors.housekeeping import BATCH, INTERVAL, Housekeeper
from storage.api import ConnectionEvent, ConversationRules, SyncRun
from storage.changes import Access, AccessKind
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage

DAY = 86_400.0


class Counted(MemoryStorage):
    """Notes how much went at once; may be away."""

    def __init__(self) -> None:
        super().__init__(trio.current_time)
        self.gone: list[int] = []
        self.away = False

    async def forget_events(self, before: float, limit: int) -> int:
        if self.away:
            raise StorageUnavailableError("gone")
        gone = await super().forget_events(before, limit)
        self.gone.append(gone)
        return gone


async def test_old_transitions_go_in_batches(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Those of before the time of keeping, and no others; an absence is made up for."""
    storage = Counted()
    await storage.ensure_connection("sales", ConversationRules())
    now = trio.current_time()
    for number in range(BATCH + 500):
        event = ConnectionEvent(
            connection="sales",
            previous="",
            state="backoff",
            reason="network",
            sentence="",
            at=now - 4 * DAY - number,
        )
        await storage.record_event(event)
    await storage.record_event(
        ConnectionEvent(
            connection="sales", previous="", state="online", reason="", sentence="", at=now
        )
    )
    await storage.record_sync(
        SyncRun(connection="sales", total=1, processed=1, skipped=0, errors=0)
    )
    storage.away = True
    keeper = Housekeeper(
        storage,
        trio.current_time,
        keep_payloads=DAY,
        keep_events=4 * DAY,
        keep_stream=DAY,
        keep_accesses=60 * DAY,
    )
    nursery.start_soon(keeper.run)
    await trio.sleep(INTERVAL / 2)
    storage.away = False
    await trio.sleep(INTERVAL)
    assert storage.gone == [BATCH, 500, 0]
    assert [row.state for row in await storage.timeline("sales")] == ["online"]
    assert (await storage.statistics())["sync"] is not None
    await trio.sleep(5 * DAY)
    assert len(await storage.timeline("sales")) == 1  # the newest stays, however old
    nursery.cancel_scope.cancel()


async def test_records_of_accesses_are_kept_for_their_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """And then go; a later one stays."""
    storage = MemoryStorage(trio.current_time)
    await storage.record_access(Access(who="crm", what=AccessKind.MESSAGE))
    keeper = Housekeeper(
        storage,
        trio.current_time,
        keep_payloads=DAY,
        keep_events=DAY,
        keep_stream=DAY,
        keep_accesses=30 * DAY,
    )
    nursery.start_soon(keeper.run)
    await trio.sleep(29 * DAY)
    await storage.record_access(Access(who="erp", what=AccessKind.MESSAGE))
    assert len(await storage.history_accesses()) == 2
    await trio.sleep(2 * DAY)
    assert [row.who for row in await storage.history_accesses()] == ["erp"]
    nursery.cancel_scope.cancel()
