"""The services that erase, in virtual time on the storage in memory."""

import collections.abc as cabc
import typing as t

import attrs
import pytest
import trio
from trio.testing import MockClock

from actors import eraser as eraser_module
from actors import retention as retention_module
from actors.eraser import Eraser
from actors.retention import Retention
from storage.api import ChatKind, ConversationRules, Envelope, ReceivedMessage, Verdict
from storage.erasure import Erasure, RetentionStep, Rule
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.memory import MemoryStorage

NOW = 1_800_000_000.0
DAY = 86_400.0
ANA = "15550001111@s.whatsapp.net"
WEEK = Rule(
    kinds=None, files_only=False, after=40 * DAY, live=True, connections=(), text="all after 40d"
)


class Failing(MemoryStorage):
    """Away for so many calls that erase."""

    away = 0
    steps = 0
    slow = 0.0  # seconds that a step takes

    async def retain(self, *args: t.Any, **options: t.Any) -> RetentionStep:
        await self._maybe()
        return await super().retain(*args, **options)

    async def unfinished_erasures(self) -> list[int]:
        await self._maybe()
        return await super().unfinished_erasures()

    async def _maybe(self) -> None:
        self.steps += 1
        await trio.sleep(self.slow)
        if self.away:
            self.away -= 1
            raise StorageUnavailableError("away")


@attrs.define
class World:
    storage: Failing
    retention: Retention
    eraser: Eraser
    removals: list[float]
    released: list[cabc.Sequence[str]]

    async def take(self, external_id: str, *, days: float = 0.0) -> Verdict:
        message = ReceivedMessage(
            chat=ANA,
            chat_kind=ChatKind.DIRECT,
            sender=ANA,
            from_me=False,
            external_id=external_id,
            kind="text",
            text="olá",
            sent_at=int(NOW - days * DAY),
            raw=b"raw",
        )
        [outcome] = await self.storage.apply([Envelope(connection="sales", message=message)])
        return outcome.verdict

    async def texts(self) -> list[str | None]:
        rows = await self.storage.list_messages("sales", after=0, limit=9_999)
        return [row.text for row in rows]


@pytest.fixture
async def world() -> World:
    storage = Failing(lambda: NOW)
    await storage.ensure_connection("sales", ConversationRules())
    removals: list[float] = []
    released: list[cabc.Sequence[str]] = []

    async def remove_files() -> int:
        await trio.lowlevel.checkpoint()
        removals.append(trio.current_time())
        return 0

    async def release(names: cabc.Sequence[str]) -> None:
        await trio.lowlevel.checkpoint()
        released.append(names)

    return World(
        storage=storage,
        retention=Retention(storage, [WEEK], remove_files, lambda: NOW),
        eraser=Eraser(storage, remove_files, release, "1.2.3"),
        removals=removals,
        released=released,
    )


async def test_a_sweep_goes_through_everything(autojump_clock: MockClock, world: World) -> None:
    """More messages than one step takes; files are given up after it, and it is remembered."""
    for number in range(3 * retention_module.SMALLEST):
        await world.take(f"M{number}", days=41 if number % 2 else 39)
    assert await world.retention.sweep() == 75
    assert (await world.texts()).count(None) == 75
    [run] = await world.retention.runs(5)
    assert (run.messages, run.rule, run.connection) == (75, WEEK.text, "sales")
    assert len(world.removals) == 1
    assert await world.retention.sweep() == 0
    assert len(await world.retention.runs(5)) == 1


async def test_slow_steps_are_small_and_far_between(
    autojump_clock: MockClock, world: World
) -> None:
    """A step that takes long is halved, and at least as long a pause follows."""
    for number in range(200):
        await world.take(f"M{number}", days=41)
    world.storage.slow = 1.0
    began = trio.current_time()
    await world.retention.sweep()
    assert world.storage.steps == 200 // retention_module.SMALLEST + 1
    assert trio.current_time() - began >= 2 * world.storage.steps - 1


async def test_it_waits_while_the_writer_is_busy(autojump_clock: MockClock, world: World) -> None:
    """But not for ever: old messages must go in the end."""
    for number in range(200):
        await world.take(f"M{number}", days=41)
    busy = Retention(world.storage, [WEEK], _nothing, lambda: NOW, busy=lambda: True)
    began = trio.current_time()
    await busy.sweep()
    assert trio.current_time() - began >= 2 * retention_module.PATIENCE
    assert set(await world.texts()) == {None}


async def test_a_step_is_tried_again(autojump_clock: MockClock, world: World) -> None:
    """A lock of somebody else's passes; a database that is away ends the sweep."""
    await world.take("M", days=41)
    world.storage.away = retention_module.RETRIES
    assert await world.retention.sweep() == 1
    world.storage.away = retention_module.RETRIES + 1
    with pytest.raises(StorageUnavailableError):
        await world.retention.sweep()


async def test_sweeps_come_again(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    """After the start, and every few hours; also after one that failed, and by new rules."""
    await world.take("M", days=30)
    world.storage.away = 99
    await nursery.start(world.retention.run)
    await trio.sleep(retention_module.FIRST + 600)
    world.storage.away = 0
    assert await world.texts() == ["olá"]
    world.retention.use([attrs.evolve(WEEK, after=20 * DAY)])
    await trio.sleep(retention_module.INTERVAL)
    assert await world.texts() == [None]
    nursery.cancel_scope.cancel()


async def test_a_preview_has_an_end(autojump_clock: MockClock, world: World) -> None:
    """It says whether it was through."""
    await world.take("M", days=41)
    rows, complete = await world.retention.preview(60.0)
    assert ([(row.messages, row.files) for row in rows], complete) == ([(1, 0)], True)
    world.storage.slow = 5.0
    assert await world.retention.preview(1.0) == ([], False)
    assert await world.texts() == ["olá"]


async def test_an_order_is_carried_out(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    """At once, the files as well."""
    await nursery.start(world.eraser.run)
    await world.take("M1")
    row = await world.eraser.forget(contact=None, address=ANA, connection=None, by="dpo")
    assert row is not None
    await trio.sleep(1.0)
    done = await world.storage.erasure(row.id)
    assert done is not None
    assert done.phase == "done"
    assert world.released == [("sales",)]
    assert await world.texts() == [None]
    assert await world.take("M2") is Verdict.FORGOTTEN
    assert await world.eraser.forget(contact=None, address=ANA, connection=None, by="dpo") is None
    nursery.cancel_scope.cancel()


async def test_what_is_unfinished_goes_on(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    """After a restart, once the database is there."""
    await world.take("M1")
    begun = await world.storage.begin_erasure(address=ANA, connection=None, by="x", version="1")
    assert begun is not None
    world.storage.away = 3
    await nursery.start(world.eraser.run)
    await trio.sleep(4 * eraser_module.RETRY)
    assert await world.storage.unfinished_erasures() == []
    nursery.cancel_scope.cancel()


async def test_one_that_is_refused_keeps_no_other_waiting(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again; those behind it are carried out."""
    await world.take("M1")
    first = await world.storage.begin_erasure(address=ANA, connection=None, by="x", version="1")
    world.storage._clock = lambda: NOW + DAY
    await world.take("M2", days=-1)
    second = await world.storage.begin_erasure(address=ANA, connection=None, by="x", version="1")
    assert first is not None
    assert second is not None
    carry_out = world.storage.continue_erasure

    async def refuse(number: int, *, files_gone: bool = False) -> Erasure:
        if number == first.id:
            raise StorageRejectedError("a defect")
        return await carry_out(number, files_gone=files_gone)

    monkeypatch.setattr(world.storage, "continue_erasure", refuse)
    await nursery.start(world.eraser.run)
    await trio.sleep(1)
    assert await world.storage.unfinished_erasures() == [first.id]
    monkeypatch.undo()
    await trio.sleep(2 * eraser_module.RETRY)
    assert await world.storage.unfinished_erasures() == []
    nursery.cancel_scope.cancel()


async def test_an_order_whose_giver_has_gone_is_carried_out(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the COMMIT is lost, or the request cancelled: it begins at once all the
    same."""
    await nursery.start(world.eraser.run)
    await trio.sleep(1)
    await world.take("M1")
    begin = world.storage.begin_erasure

    async def lost(**order: t.Any) -> Erasure | None:
        await begin(**order)
        raise StorageUnavailableError("the answer to the COMMIT was lost")

    monkeypatch.setattr(world.storage, "begin_erasure", lost)
    with pytest.raises(StorageUnavailableError):
        await world.eraser.forget(contact=None, address=ANA, connection=None, by="x")
    await trio.sleep(1)
    [row] = await world.storage.erasures()
    assert row.phase == "done"
    nursery.cancel_scope.cancel()


async def test_a_connection_that_does_not_let_go_is_waited_for(
    autojump_clock: MockClock, world: World, nursery: trio.Nursery
) -> None:
    """The erasure is not done before; then it is."""
    free = trio.Event()

    async def release(_names: cabc.Sequence[str]) -> None:
        await free.wait()

    await world.take("M1")
    eraser = Eraser(world.storage, _nothing, release, "1")
    await world.storage.begin_erasure(address=ANA, connection=None, by="x", version="1")
    await nursery.start(eraser.run)
    await trio.sleep(3 * eraser_module.PATIENCE)
    assert await world.storage.unfinished_erasures() == [1]
    free.set()
    await trio.sleep(2 * eraser_module.PATIENCE)
    assert await world.storage.unfinished_erasures() == []
    nursery.cancel_scope.cancel()


async def _nothing() -> int:
    await trio.lowlevel.checkpoint()
    return 0
