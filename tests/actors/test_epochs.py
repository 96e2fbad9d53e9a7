"""What the data directory remembers follows the database, and never runs ahead of it."""

import pathlib
import typing as t

import pytest
import structlog.testing
import trio
import trio.testing

from actors import epochs as epochs_module
from actors.epochs import INTERVAL, EpochKeeper
from storage import epochs as file_module
from storage.api import ConversationRules, Envelope, RecordChange, RecordKind
from storage.epochs import FILE, Epoch, read_epoch, write_epoch
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage

DEVICE = RecordChange(RecordKind.DEVICE, "", b"device")


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread does takes no virtual time: the clock would jump over it."""

    async def run(work: t.Callable[..., t.Any], *arguments: t.Any) -> t.Any:
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run)


async def storage_with_keys() -> MemoryStorage:
    storage = MemoryStorage(lambda: 0.0)
    await storage.ensure_connection("sales", ConversationRules())
    await storage.apply([Envelope(connection="sales", records=(DEVICE,))])
    return storage


async def test_it_follows_step_by_step(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    tmp_path: pathlib.Path,
    at_once: None,
) -> None:
    """Also over an absence of the database."""
    storage = await storage_with_keys()
    keeper = EpochKeeper(storage, tmp_path)
    await keeper.begin()
    await nursery.start(keeper.run)
    await trio.sleep(INTERVAL * 3.5)
    assert read_epoch(tmp_path) == storage._epoch
    assert storage._epoch.epoch == 4

    async def away(_remembered: Epoch | None) -> Epoch | None:
        raise StorageUnavailableError("away")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(storage, "advance_epoch", away)
        await trio.sleep(INTERVAL * 2)
    await trio.sleep(INTERVAL)
    assert read_epoch(tmp_path) == storage._epoch
    assert storage._epoch.epoch == 5
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("point", ["epoch.committed", "epoch.synced", "epoch.renamed"])
@pytest.mark.parametrize("starts", [1, 3])
async def test_killed_between_the_two(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, point: str, starts: int
) -> None:
    """At each step, at one start or at several in a row: the next start trusts the database."""
    storage = await storage_with_keys()
    await EpochKeeper(storage, tmp_path).begin()

    def die(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(epochs_module, "crash_point", die)
        patched.setattr(file_module, "crash_point", die)
        for _start in range(starts):
            with pytest.raises(Killed):
                await EpochKeeper(storage, tmp_path).begin()
    await EpochKeeper(storage, tmp_path).begin()
    assert await storage.stale_keys() == []
    assert read_epoch(tmp_path) == storage._epoch


async def test_an_older_database_is_told(tmp_path: pathlib.Path) -> None:
    """Loudly, with what to do; what is remembered stays."""
    storage = await storage_with_keys()
    for _start in range(3):
        await EpochKeeper(storage, tmp_path).begin()
    remembered = read_epoch(tmp_path)
    storage._epoch = Epoch(database=storage._epoch.database, epoch=1)
    with structlog.testing.capture_logs() as logs:
        await EpochKeeper(storage, tmp_path).begin()
    [told] = [each for each in logs if each["log_level"] == "error"]
    assert (told["event"], told["epoch"], told["remembered"]) == ("epochs.stale_keys", 1, 3)
    assert "zapvisor recover NAME" in told["advice"]
    assert read_epoch(tmp_path) == remembered
    assert [each.connection for each in await storage.stale_keys()] == ["sales"]


async def test_an_older_database_without_keys(tmp_path: pathlib.Path) -> None:
    """There is nothing that anybody would have to accept; it is no error."""
    storage = MemoryStorage(lambda: 0.0)
    ahead = Epoch(database=storage._epoch.database, epoch=9)
    write_epoch(tmp_path, ahead)
    with structlog.testing.capture_logs() as logs:
        await EpochKeeper(storage, tmp_path).begin()
    assert [(each["event"], each["log_level"]) for each in logs] == [("epochs.trusted", "info")]
    assert read_epoch(tmp_path) == ahead


async def test_a_file_that_does_not_help(tmp_path: pathlib.Path) -> None:
    """Missing, damaged, of another database: it is said once, and mended."""
    storage = await storage_with_keys()
    await EpochKeeper(storage, tmp_path).begin()

    async def told() -> list[str]:
        with structlog.testing.capture_logs() as logs:
            await EpochKeeper(storage, tmp_path).begin()
        return [each["event"] for each in logs]

    assert await told() == []
    (tmp_path / FILE).unlink()
    assert await told() == ["epochs.trusted"]
    (tmp_path / FILE).write_text("{")
    assert "epochs.unreadable" in await told()
    (tmp_path / FILE).write_text('{"database": "another", "epoch": 99}')
    assert await told() == ["epochs.trusted"]
    assert await told() == []
    assert await storage.stale_keys() == []


async def test_a_disk_that_is_full(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    tmp_path: pathlib.Path,
    at_once: None,
) -> None:
    """Nothing stops for it; it is said once, and made up for."""
    storage = await storage_with_keys()
    keeper = EpochKeeper(storage, tmp_path / "gone")
    with structlog.testing.capture_logs() as logs:
        await keeper.begin()
        await nursery.start(keeper.run)
        await trio.sleep(INTERVAL * 3.5)
    assert [each["event"] for each in logs] == ["epochs.not_remembered"]
    (tmp_path / "gone").mkdir()
    await trio.sleep(INTERVAL)
    assert read_epoch(tmp_path / "gone") == storage._epoch
    nursery.cancel_scope.cancel()
