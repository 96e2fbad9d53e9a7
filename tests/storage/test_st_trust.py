"""What a stranger has put in the way of a command of root's is neither believed nor deleted."""

# ruff: noqa: ASYNC240 - a moment's blocking does no harm in these tests

import os
import pathlib
import shutil
import stat

import pytest
import trio
from st_helpers import KEY, Cluster

from config.model import Config, DaemonConfig, StorageConfig
from daemon.cli_db import verify_file
from daemon.errors import CommandError
from daemon.upkeep import run_verify, scratch_place
from storage import embedded
from storage.backup import back_up, check_backup
from storage.backup_file import Draft
from storage.embedded import EmbeddedPostgres, cluster_of
from storage.errors import StorageRejectedError
from storage.maintenance import open_maintenance
from storage.postgres import PostgresStorage
from storage.trust import check_own_directory, check_way
from storage.verify import NAME, verify_backup

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
STRANGER = 12_345


@pytest.fixture
async def backup(dsn: str, postgres: PostgresStorage, tmp_path: pathlib.Path) -> pathlib.Path:
    """Of an empty database."""
    target = tmp_path / "backup"
    with Draft(target) as draft:
        async with open_maintenance(dsn) as session:
            made = await back_up(session, draft.file, version="1", created_at="", key=None)
        await trio.to_thread.run_sync(draft.publish, made)
    return target


@pytest.fixture
def precious(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory that nobody has any business with."""
    directory = tmp_path / "precious"
    directory.mkdir()
    (directory / "file").write_text("kept")
    return directory


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """As /tmp is."""
    directory = tmp_path / "place"
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


async def proved(path: pathlib.Path, place: pathlib.Path) -> bool:
    with path.open("rb") as archive:
        return (await verify_backup(archive, check_backup(path), place, KEY)).intact


@root_only
@pytest.mark.parametrize(("owner", "mode"), [(STRANGER, 0o755), (0, 0o777), (0, 0o775)])
async def test_a_trap_in_a_shared_directory(
    backup: pathlib.Path, place: pathlib.Path, precious: pathlib.Path, owner: int, mode: int
) -> None:
    """Left alone, and what it points at, too."""
    trap = place / NAME
    trap.mkdir()
    (trap / "postgres.location").write_text(f"{precious}\n")
    os.chown(trap, owner, owner)
    trap.chmod(mode)
    with pytest.raises(StorageRejectedError, match="not of our making"):
        await proved(backup, place)
    assert (precious / "file").read_text() == "kept"
    assert (trap / "postgres.location").exists()


async def test_a_link_in_its_place(
    backup: pathlib.Path, place: pathlib.Path, precious: pathlib.Path
) -> None:
    """Not followed."""
    (place / NAME).symlink_to(precious)
    with pytest.raises(StorageRejectedError, match="it is no directory"):
        await proved(backup, place)
    assert [each.name for each in precious.iterdir()] == ["file"]


@root_only
async def test_a_temporary_cluster_deletes_its_own_home_alone(
    public_dir: pathlib.Path, place: pathlib.Path, precious: pathlib.Path
) -> None:
    """Even where the directory is ours: a pointer is believed only if it says what we would."""
    (place / NAME).mkdir(mode=0o700)
    (place / NAME / "postgres.location").write_text(f"{precious}\n")
    for work in (EmbeddedPostgres.discard, _start_and_stop):
        await work(EmbeddedPostgres(place / NAME, temporary=True, state_root=public_dir / "state"))
        assert (precious / "file").read_text() == "kept"


async def _start_and_stop(server: EmbeddedPostgres) -> None:
    async with server:
        assert server.home.name != "precious"


@root_only
@pytest.mark.parametrize("which", ["directory", "file"])
async def test_a_pointer_that_others_may_write(
    tmp_path: pathlib.Path, precious: pathlib.Path, which: str
) -> None:
    """It is refused, by whoever would follow it; one that says what we would say is good."""
    data, state = tmp_path / "data", tmp_path / "state"
    data.mkdir(mode=0o700)
    pointer = data / "postgres.location"
    pointer.write_text(f"{precious}\n")
    assert cluster_of(data) == precious / "data"
    os.chown(data if which == "directory" else pointer, STRANGER, STRANGER)
    with pytest.raises(StorageRejectedError, match="others may have written"):
        await EmbeddedPostgres(data, state_root=state).start()
    with pytest.raises(StorageRejectedError, match="others may have written"):
        cluster_of(data)
    assert [each.name for each in precious.iterdir()] == ["file"]
    usual = embedded._moved(data, embedded.STATE_ROOT)
    pointer.write_text(f"{usual}\n")
    assert cluster_of(data) == usual / "data"


def test_the_way_there(tmp_path: pathlib.Path) -> None:
    """A directory that everybody may write, but for sticky ones; for root, one of a stranger's or a
    foreign group's, too."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    outer = inner.parent
    check_way(inner)
    outer.chmod(0o777)
    with pytest.raises(StorageRejectedError, match=f"everybody .* in {outer};"):
        check_way(inner)
    outer.chmod(0o1777)
    check_way(inner)
    if os.geteuid() != 0:
        return
    os.chown(outer, STRANGER, 0)
    with pytest.raises(StorageRejectedError, match=f"user {STRANGER} .* in {outer};"):
        check_way(inner)
    check_way(inner, trusted=STRANGER)
    os.chown(outer, 0, STRANGER)
    outer.chmod(0o775)
    with pytest.raises(StorageRejectedError, match=f"group {STRANGER} "):
        check_way(inner)
    check_own_directory(inner)


@root_only
async def test_root_works_in_nobodys_place(
    backup: pathlib.Path, place: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Who owns the place could read the backup there: root, or who has the data anyway."""
    os.chown(place, STRANGER, STRANGER)
    config = Config(daemon=DaemonConfig(data_dir=str(tmp_path / "data")))
    with pytest.raises(CommandError, match=f"user {STRANGER} may exchange"):
        await trio.to_thread.run_sync(run_verify, config, backup, place)
    assert list(place.iterdir()) == []


async def test_without_a_data_directory(
    cluster: Cluster,
    backup: pathlib.Path,
    tmp_path: pathlib.Path,
    place: pathlib.Path,
    precious: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A backup is tested in a new directory, whatever lies in wait, and nothing is left of it."""
    monkeypatch.setattr("tempfile.tempdir", str(place))
    (place / NAME).mkdir(mode=0o777)
    (place / NAME / "postgres.location").write_text(f"{precious}\n")
    config = Config(
        daemon=DaemonConfig(data_dir=str(tmp_path / "no data")), storage=StorageConfig(dsn="x")
    )
    with scratch_place(config, None) as made:
        assert made.parent == place
        assert made.stat().st_uid == os.geteuid()
        assert stat.S_IMODE(made.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    monkeypatch.setattr("daemon.cli_db.load", lambda *_arguments: config)
    assert await trio.to_thread.run_sync(lambda: verify_file(backup)) == 0
    assert "It is whole" in capsys.readouterr().out
    assert [each.name for each in place.iterdir()] == [NAME]
    assert (precious / "file").read_text() == "kept"
    shutil.rmtree(place / NAME)
