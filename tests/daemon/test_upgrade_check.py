"""``zapvisor upgrade-check``."""

from pathlib import Path

import attrs
import pytest
from daemon_fakes import Run

from config.model import Config, DaemonConfig, StorageConfig
from daemon import upgrade_check
from daemon.upgrade_check import (
    Finding,
    Level,
    _key,
    _room,
    client_version,
    database,
    python,
    verdict,
)
from storage.outlook import Outlook, Step

NOW = Outlook(server_version="18.4", server_major=18, schema=7, code=7, paired=1)


def _level(findings: list[Finding], what: str) -> Level:
    [found] = [each.level for each in findings if each.what == what]
    return found


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_a_new_place(zapvisor: Run, short_path: Path) -> None:
    """Nothing is there yet: it would run; and nothing is made by looking."""
    result = await zapvisor("upgrade-check")
    assert result.code == 0
    assert "there is none" in result.out
    assert _names(short_path) == []


async def test_a_broken_configuration(zapvisor: Run, short_path: Path) -> None:
    """Every problem of it, exit code 2."""
    (short_path / "supervisor.toml").write_text("[nonsense]\n[daemon]\nx = 1\n")
    result = await zapvisor("upgrade-check", "--json")
    assert result.code == 2
    texts = [each["text"] for each in result.json["findings"] if each["level"] == "stop"]
    assert len(texts) == 2
    assert "supervisor.toml:1: nonsense" in texts[0]


async def test_a_database_that_is_away(zapvisor: Run, short_path: Path) -> None:
    """It is not known, so somebody has to look."""
    (short_path / "supervisor.toml").write_text(
        '[storage]\ndsn = "postgresql://me:hunter2@127.0.0.1:9/x"\n'
    )
    result = await zapvisor("upgrade-check")
    assert result.code == 1
    assert "not looked at" in result.out
    assert "hunter2" not in result.out + result.err


def test_the_schema() -> None:
    """Up to date, older, newer; and a server that is not tested."""
    assert _level(database(NOW), "schema") is Level.FINE
    step = Step(number=8, name="x", sentence="It grows.", seconds=1.0)
    coming = attrs.evolve(NOW, code=8, steps=(step,))
    assert _level(database(coming), "schema") is Level.FINE
    slow = attrs.evolve(coming, steps=(attrs.evolve(step, seconds=60.0),))
    assert _level(database(slow), "schema") is Level.LOOK
    refused = attrs.evolve(NOW, refused="the database has schema 9")
    assert _level(database(refused), "schema") is Level.STOP
    assert _level(database(attrs.evolve(NOW, server_major=13)), "PostgreSQL") is Level.LOOK


def test_what_it_runs_on() -> None:
    """Pythons and client versions."""
    levels = [python(each).level for each in ((3, 10), (3, 11), (3, 13), (3, 14))]
    assert levels == [Level.STOP, Level.FINE, Level.FINE, Level.LOOK]
    assert client_version(Config().whatsapp.version).level is Level.FINE
    assert client_version("2.2999.9999999999").level is Level.LOOK
    assert client_version("3.1.1").level is Level.FINE


def test_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paired connections without their key would not run."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    config = Config(storage=StorageConfig(key_file=str(tmp_path / "key")))
    assert _key(config, NOW).level is Level.STOP
    assert _key(config, attrs.evolve(NOW, paired=0)).level is Level.FINE
    (tmp_path / "key").write_text("5a" * 32)
    assert _key(config, NOW).level is Level.LOOK  # others can read it
    (tmp_path / "key").chmod(0o600)
    assert _key(config, NOW).level is Level.FINE


def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the biggest table that is written anew."""
    config = Config(daemon=DaemonConfig(data_dir=str(tmp_path / "not" / "yet")))
    monkeypatch.setattr(upgrade_check, "ROOM", 0)
    assert _room(config, None).level is Level.FINE
    huge = Step(number=8, name="x", sentence="", bytes=1 << 60)
    assert _room(config, attrs.evolve(NOW, steps=(huge,))).level is Level.LOOK


def test_the_worst_counts() -> None:
    """Of all findings."""
    levels = [Finding(level, "", "") for level in (Level.LOOK, Level.STOP, Level.FINE)]
    assert verdict(levels) is Level.STOP
