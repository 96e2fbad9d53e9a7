"""``zapvisor reload``."""

from daemon_fakes import Control, Run

from api.ports_daemon import ReloadFacts


async def test_what_changed(zapvisor: Run, control: Control) -> None:
    """By name; and what a restart has to wait for."""
    assert (await zapvisor("reload")).out == "2 connections went on undisturbed\n"
    control.reloader.facts = ReloadFacts(
        added=("new",), changed=("sales", "support"), unchanged=1, restart=("storage.dsn",)
    )
    result = await zapvisor("reload")
    assert result.code == 0
    assert result.out == (
        "added: new\n"
        "changed: sales, support\n"
        "1 connection went on undisturbed\n"
        "in force after a restart of the daemon only: storage.dsn\n"
    )
    assert (await zapvisor("reload", "--json")).json["restart"] == ["storage.dsn"]


async def test_what_is_refused(zapvisor: Run, control: Control) -> None:
    """Every problem on a line of its own, exit code 1."""
    control.reloader.facts = ReloadFacts(
        problems=("supervisor.toml:3: nonsense: unknown name", "supervisor.toml:9: not a table")
    )
    result = await zapvisor("reload")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "zapvisor: the configuration is not reloaded:\n"
        "supervisor.toml:3: nonsense: unknown name\n"
        "supervisor.toml:9: not a table\n"
    )
