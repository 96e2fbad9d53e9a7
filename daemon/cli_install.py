"""The commands that make zapvisor part of a system: the service, completion, the manual."""

import os
import sys
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json

SAID: t.Final = {
    "written": "written",
    "same": "there already",
    "kept": "KEPT, it differs",
    "replaced": "replaced, the former one is beside it as .old",
}


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(install_systemd)
    app.command(completion)
    app.command(upgrade_check)


def install_systemd(
    *,
    root: t.Annotated[
        Path, Parameter(help="Write below this directory instead, for an image or to try it out.")
    ] = Path("/"),
    prefix: t.Annotated[Path, Parameter(help="Where the unit goes.")] = Path("/etc/systemd/system"),
    user: t.Annotated[str, Parameter(help="Who the service runs as.")] = "zapvisor",
    config: t.Annotated[
        Path, Parameter(name=("--config", "-c"), help="Its configuration; made if there is none.")
    ] = Path("/etc/zapvisor/supervisor.toml"),
    executable: t.Annotated[
        Path | None, Parameter(help="The program; by default the one that this is.")
    ] = None,
    force: t.Annotated[
        bool,
        Parameter(negative="", help="Replace a unit that was changed; never key or configuration."),
    ] = False,
    dry_run: t.Annotated[bool, Parameter(negative="", help="Write nothing.")] = False,
    json: Json = False,
) -> int:
    """Make zapvisor a service of systemd: unit, user, directories, configuration and key.

    What is there and differs is left alone. Exit code 1 if a changed unit was kept.
    """
    from daemon.install import Options, find_executable, install, report
    from daemon.screen import print_json

    options = Options(
        executable=str(executable) if executable else find_executable(),
        user=user,
        config=config,
        root=root,
        unit_directory=prefix,
        force=force,
        dry_run=dry_run,
    )
    facts = report(options, install(options))
    if json:
        print_json(facts)
    else:
        _tell(facts)
    kept = [each for each in facts["files"] if each["fate"] == "kept"]
    return 1 if any(each["path"] != str(config) for each in kept) else 0


def completion(shell: t.Literal["bash", "zsh", "fish"], /) -> int:
    """Print the completion of a shell; names of connections are asked of the daemon.

    Parameters
    ----------
    shell
        For bash: zapvisor completion bash > /etc/bash_completion.d/zapvisor
    """
    from daemon.cli_base import app

    sys.stdout.write(app.generate_completion(prog_name="zapvisor", shell=shell))
    return 0


def upgrade_check(*, json: Json = False, config: ConfigFile = None) -> int:
    """Tell what this version would do with configuration and database, before it does it.

    Run it with the new version while the old daemon still runs: nothing is changed. Exit code 0: go
    ahead; 1: look first; 2: this version would not run.
    """
    from daemon.cli_base import program_version
    from daemon.logs import configure_logs
    from daemon.screen import print_json
    from daemon.upgrade_check import EXIT
    from daemon.upgrade_check import upgrade_check as check
    from daemon.upgrade_check import verdict as judge

    configure_logs(level="error", stream=sys.stderr)
    findings, coming = check(config, os.environ, version=program_version())
    verdict = judge(findings)
    if json:
        rows = [
            {"level": each.level.value, "what": each.what, "text": each.text} for each in findings
        ]
        print_json({"verdict": verdict.value, "findings": rows, "database": coming})
    else:
        for each in findings:
            sys.stdout.write(f"{each.level.value:<5} {each.what}: {each.text}\n")
        for step in coming["steps"] if coming else ():
            about = f" (about {step['seconds']:g} s)" if step["seconds"] >= 1 else ""
            sys.stdout.write(
                f"      migration {step['number']} {step['name']}: {step['sentence']}{about}\n"
            )
    return EXIT[verdict]


def _tell(facts: dict[str, t.Any]) -> None:
    say = sys.stdout.write
    if facts["dry_run"]:
        say("Nothing is written; this is what would be done:\n")
    for each in facts["files"]:
        say(f"{each['path']}: {SAID[each['fate']]}\n")
    if any(each["fate"] == "kept" for each in facts["files"]):
        say(
            "What differs was left alone; changes of your own are best made with:"
            " systemctl edit zapvisor. --force replaces a unit.\n"
        )
    for each in facts["warnings"]:
        sys.stderr.write(f"zapvisor: {each}\n")
    for title, lines in (("Next", facts["next"]), ("To take it away again", facts["uninstall"])):
        say(f"\n{title}:\n" + "".join(f"  {line}\n" for line in lines))
