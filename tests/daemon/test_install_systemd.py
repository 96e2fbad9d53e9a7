"""``zapvisor install-systemd``, and the unit that it installs."""

import os
import re
import shutil
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from daemon_fakes import Result, Run

from config.load import load_config
from daemon.install import Options, find_executable, unit
from storage.seal import CREDENTIAL, key_source, load_or_create_key

PROJECT: t.Final = Path(__file__).parents[2]
UNIT: t.Final = PROJECT / "deploy" / "systemd" / "zapvisor.service"
EXPOSURE: t.Final = 1.5  # of 10; what systemd-analyze security may call the unit at most
OPTIONS: t.Final = Options(executable="/opt/zapvisor/bin/zapvisor")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


class Install(t.Protocol):
    async def __call__(self, *tokens: str) -> Result: ...


@pytest.fixture
def install(zapvisor: Run, tmp_path: Path) -> Install:
    """Installs below a directory of the test."""

    async def call(*tokens: str) -> Result:
        return await zapvisor(
            "install-systemd",
            "--root",
            str(tmp_path),
            "--executable",
            "/opt/zapvisor/bin/zapvisor",
            *tokens,
        )

    return call


def _fates(result: Result) -> dict[str, str]:
    return {Path(each["path"]).name: each["fate"] for each in result.json["files"]}


def _contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def test_everything_is_written_once(install: Install, tmp_path: Path) -> None:
    """Again, nothing changes; the key is there for root alone, and stays the same."""
    first = await install("--json")
    assert first.code == 0
    assert set(_fates(first).values()) == {"written"}
    key = tmp_path / "etc/zapvisor/secret.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = _contents(tmp_path)
    again = await install("--json")
    assert (again.code, set(_fates(again).values())) == (0, {"same"})
    assert _contents(tmp_path) == before
    assert len(load_or_create_key(key, {})) == 32


async def test_the_unit_runs_this_program(install: Install, tmp_path: Path) -> None:
    """With the path, user and configuration that were asked for; the key comes as a credential."""
    await install("--user", "chat", "--config", "/srv/chat/supervisor.toml")
    text = (tmp_path / "etc/systemd/system/zapvisor.service").read_text()
    assert "ExecStart=/opt/zapvisor/bin/zapvisor run --config /srv/chat/supervisor.toml\n" in text
    assert "\nUser=chat\nGroup=chat\n" in text
    assert f"\nLoadCredential={CREDENTIAL}:/srv/chat/secret.key\n" in text
    assert "ConfigurationDirectory" not in text
    assert "u chat -" in (tmp_path / "etc/sysusers.d/zapvisor.conf").read_text()
    assert "/var/lib/zapvisor 0700 chat" in (tmp_path / "etc/tmpfiles.d/zapvisor.conf").read_text()


async def test_the_configuration_leaves_the_defaults_alone(
    install: Install, tmp_path: Path
) -> None:
    """Every key is shown; only the places of a service are set."""
    await install()
    text = (tmp_path / "etc/zapvisor/supervisor.toml").read_text()
    sample = (PROJECT / "supervisor.toml").read_text()
    keys = re.findall(r"(?m)^([a-z][a-z0-9_]*) = ", sample)
    assert all(re.search(rf"(?m)^(# )?{key} = ", text) for key in keys)
    path = tmp_path / "etc/zapvisor/supervisor.toml"
    loaded, default = load_config(path, {}), load_config(PROJECT / "supervisor.toml", {})
    assert loaded.data_dir == Path("/var/lib/zapvisor")
    assert loaded.control_socket == Path("/run/zapvisor/control.sock")
    assert loaded.key_file == Path("/etc/zapvisor/secret.key")
    for section in ("whatsapp", "supervision", "writer", "conversations", "sending", "media"):
        assert getattr(loaded, section) == getattr(default, section)


async def test_a_changed_file_is_kept(install: Install, tmp_path: Path) -> None:
    """Exit code 1 tells of a unit; ``--force`` replaces it, the former one beside it; key and
    configuration are never touched."""
    await install()
    changed = tmp_path / "etc/systemd/system/zapvisor.service"
    config = tmp_path / "etc/zapvisor/supervisor.toml"
    key = tmp_path / "etc/zapvisor/secret.key"
    for path in (changed, config, key):
        path.write_text("mine\n")
    kept = await install()
    assert kept.code == 1
    assert "zapvisor.service: KEPT" in kept.out
    assert changed.read_text() == "mine\n"
    forced = await install("--force", "--json")
    assert forced.code == 0
    fates = _fates(forced)
    assert fates["zapvisor.service"] == "replaced"
    assert fates["supervisor.toml"] == "kept"
    assert (config.read_text(), key.read_text()) == ("mine\n", "mine\n")
    assert changed.with_name("zapvisor.service.old").read_text() == "mine\n"


async def test_a_dry_run_writes_nothing(install: Install, tmp_path: Path) -> None:
    """It tells what it would do, and what comes after it."""
    result = await install("--dry-run")
    assert result.code == 0
    assert "enable --now zapvisor" in result.out
    assert "systemctl disable" in result.out
    assert _contents(tmp_path) == {}


async def test_what_makes_no_sense_is_refused(zapvisor: Run, install: Install) -> None:
    """A bad name, a relative path, a place that cannot be written; and what the unit would hide
    from the service is told."""
    assert (await install("--user", "Root Me")).code == 2
    assert (await install("--config", "supervisor.toml")).code == 2
    result = await zapvisor(
        "install-systemd", "--root", "/proc/nowhere", "--executable", "/home/me/bin/zapvisor"
    )
    assert result.code == 1
    assert "/proc/nowhere" in result.err
    hidden = await zapvisor("install-systemd", "--dry-run", "--executable", "/home/me/bin/zapvisor")
    assert "hides from the service" in hidden.err


def test_the_program_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was called, else on the path."""
    program = tmp_path / "zapvisor"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["/nowhere/pytest"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_executable() == str(program)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "")
    assert find_executable() == str(program)


def test_the_key_comes_from_the_credential(tmp_path: Path) -> None:
    """What systemd hands over under the unit's name for it is used, and no file is made."""
    found = re.search(r"(?m)^LoadCredential=(.+?):", UNIT.read_text())
    assert found is not None
    (tmp_path / found[1]).write_text("5a" * 32 + "\n")
    (tmp_path / found[1]).chmod(0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load_or_create_key(tmp_path / "secret.key", environ) == b"\x5a" * 32
    assert key_source(tmp_path / "secret.key", environ) == str(tmp_path / found[1])
    assert not (tmp_path / "secret.key").exists()


def test_a_daemon_that_waits_never_runs_into_a_start_limit() -> None:
    """It is restarted however often it fails, and may ask for more time to start."""
    text = UNIT.read_text()
    assert "\nStartLimitIntervalSec=0\n" in text
    assert "\nRestart=always\n" in text
    assert "\nType=notify\n" in text


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """No unknown line, no value that makes no sense."""
    path = tmp_path / "zapvisor.service"
    path.write_text(unit(Options(executable="/bin/true")))
    done = _systemd("verify", "--man=no", str(path))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    path.write_text(path.read_text().replace("WatchdogSec=30s", "WatchdogSec=soon"))
    assert "soon" in _systemd("verify", "--man=no", str(path)).stderr


@needs_systemd
def test_the_unit_exposes_little() -> None:
    """Of 10, as systemd counts it."""
    done = _systemd("security", "--offline=true", str(UNIT))
    found = re.search(r"Overall exposure level for zapvisor\.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE


def _systemd(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--config", "/etc/zapvisor.toml"), "/etc is not zapvisor's own"),
        (("--prefix", "units"), "absolute"),
    ],
)
async def test_what_would_harm_others_is_refused(
    install: Install, tmp_path: Path, options: tuple[str, str], why: str
) -> None:
    """Before anything is written: a directory that is shared gets no owner and no modes of ours."""
    done = await install(*options)
    assert done.code != 0
    assert why in done.err
    assert not (tmp_path / "etc").exists()


async def test_what_only_root_may_read(install: Install, tmp_path: Path) -> None:
    """The key, and the file that the DSN with its password belongs into, from the beginning."""
    await install()
    for name in ("secret.key", "environment"):
        place = tmp_path / "etc" / "zapvisor" / name
        assert stat.S_IMODE(place.stat().st_mode) == 0o600, name
