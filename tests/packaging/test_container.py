"""The container's files fit together, and with the program. What they do is rehearsed by
scripts/rehearse_container.py, which takes minutes and needs Debian's packages."""

import pathlib
import re
import sys
import tomllib
import typing as t

import pytest
import yaml

from config.environment import OTHERS, variables
from config.load import load_config
from daemon.cli import app
from storage.seal import CREDENTIAL

ROOT = pathlib.Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()


@pytest.fixture(scope="module")
def rehearsal() -> t.Any:
    """The script, as a module."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import rehearse_container
    finally:
        sys.path.pop(0)
    return rehearse_container


@pytest.fixture(scope="module")
def compose() -> dict[str, t.Any]:
    """The services."""
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    loaded: dict[str, t.Any] = yaml.safe_load(text)
    return loaded


def _settings(rehearsal: t.Any) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = rehearsal.instructions(CONTAINERFILE)
    return pairs


def test_the_rehearsal_knows_every_instruction(rehearsal: t.Any) -> None:
    """One that it does not know ends it."""
    assert [word for word, _ in _settings(rehearsal)].count("FROM") == 2
    with pytest.raises(SystemExit, match="ONBUILD"):
        rehearsal.instructions("FROM x\nONBUILD RUN y\n")


def test_it_runs_as_nobody_of_the_host(rehearsal: t.Any) -> None:
    """By number, so that an engine can tell; the user exists, for initdb; bases have names."""
    settings = dict(_settings(rehearsal))
    uid = settings["USER"].split(":")[0]
    assert int(uid) >= 10_000
    assert f"useradd --uid {uid} " in CONTAINERFILE
    for image in re.findall(r"(?m)^FROM (\S+)", CONTAINERFILE):
        assert re.fullmatch(r"docker\.io/[a-z]+/[a-z]+:[a-z0-9.-]+", image), image


def test_the_check_is_a_command_that_never_says_2(rehearsal: t.Any) -> None:
    """Engines keep 2 for themselves; ``health --live`` knows 0 and 1."""
    settings = dict(_settings(rehearsal))
    assert settings["HEALTHCHECK"].endswith('CMD ["zapvisor", "health", "--live"]')
    arguments = app["health"].assemble_argument_collection()
    assert any("--live" in argument.names for argument in arguments)


def test_nothing_private_goes_into_the_build(rehearsal: t.Any) -> None:
    """Only what the package is made of; all of that."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    for name in (".git/config", ".venv/bin/python", "data/secret.key", "deploy/secrets/key"):
        assert rehearsal.ignored(pathlib.PurePosixPath(name), rules), name
    for name in ("supervisor.toml", "tests/daemon/conftest.py", "daemon/__pycache__/x.pyc"):
        expected = name != "supervisor.toml"
        assert rehearsal.ignored(pathlib.PurePosixPath(name), rules) is expected, name
    sent = {str(path.relative_to(ROOT)) for path in rehearsal.context(rules)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in wheel["packages"]:
        assert any(path.startswith(f"{package}/") for path in sent), package
    assert set(wheel["force-include"]) <= sent
    assert {"requirements.lock", "README.md", "LICENSE"} <= sent


def test_the_places_of_the_image(rehearsal: t.Any) -> None:
    """Data in the volume, the socket in the tmpfs of both files."""
    config = load_config(ROOT / "deploy" / "container" / "supervisor.toml", {})
    settings = dict(_settings(rehearsal))
    assert settings["VOLUME"] == f'["{config.data_dir}"]'
    assert str(config.control_socket.parent) == "/run/zapvisor"


def test_compose_keeps_what_must_be_kept(compose: dict[str, t.Any], rehearsal: t.Any) -> None:
    """Restarts, patience at the end, health, loopback, a read-only root, secrets as files."""
    settings = dict(_settings(rehearsal))
    daemon, database = compose["services"]["zapvisor"], compose["services"]["postgres"]
    for service in (daemon, database):
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert int(service["stop_grace_period"].removesuffix("s")) >= 30
        assert {each["source"] if isinstance(each, dict) else each for each in service["secrets"]}
    assert daemon["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert daemon["healthcheck"]["test"][1:] == ["zapvisor", "health", "--live"]
    assert (daemon["read_only"], daemon["cap_drop"]) == (True, ["ALL"])
    assert daemon["volumes"] == ["zapvisor:/var/lib/zapvisor"]
    uid = settings["USER"].split(":")[0]
    assert daemon["tmpfs"] == [f"/run/zapvisor:mode=0750,uid={uid},gid={uid}", "/tmp"]
    assert all(port.startswith("127.0.0.1:") for port in daemon["ports"])
    assert "ports" not in database
    for name, secret in compose["secrets"].items():
        assert set(secret) == {"file"}, name
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    assert not re.search(r"(?im)^\s+\w*password: ", text)


def test_compose_speaks_of_settings_that_there_are(compose: dict[str, t.Any]) -> None:
    """Each variable is one of the program; together they make a configuration that is accepted;
    the key is where the daemon looks for it."""
    daemon = compose["services"]["zapvisor"]
    environ = dict(daemon["environment"])
    [secret] = daemon["secrets"]
    assert secret["target"] == CREDENTIAL
    assert environ.pop("CREDENTIALS_DIRECTORY") == "/run/secrets"
    assert set(environ) <= {*variables(), *OTHERS}
    config = load_config(ROOT / "deploy" / "container" / "supervisor.toml", environ)
    assert [each.name for each in config.connections] == ["sales"]
