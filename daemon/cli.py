"""The command line: what each command is called, takes and prints.

Heavy modules are imported by the command that needs them: ``zapvisor status`` has to be quick.
"""

import os
import sys
import typing as t
from pathlib import Path

from cyclopts import App, Parameter

from daemon import (
    cli_alerts,
    cli_archive,
    cli_changes,
    cli_channels,
    cli_connections,
    cli_conversations,
    cli_db,
    cli_erasure,
    cli_exports,
    cli_gaps,
    cli_health,
    cli_history,
    cli_import,
    cli_inbox,
    cli_install,
    cli_logs,
    cli_quarantine,
    cli_report,
    cli_sending,
    cli_timeline,
    cli_token,
    cli_webhooks,
)
from daemon.cli_base import (
    ConfigFile,
    Json,
    Name,
    app,
    load,
    now,
    open_daemon,
    program_version,
    say_problems,
    segment,
)
from daemon.errors import UsageError

__all__ = ["app"]

config_app = App(name="config", help="Look after the configuration.")
app.command(config_app)
cli_alerts.register(app)
cli_archive.register(app)
cli_changes.register(app)
cli_connections.register(app)
cli_conversations.register(app)
cli_gaps.register(app)
cli_health.register(app)
cli_history.register(app)
cli_import.register(app)
cli_inbox.register(app)
cli_logs.register(app)
cli_sending.register(app)
cli_timeline.register(app)
cli_quarantine.register(app)
cli_report.register(app)
cli_token.register(app)
cli_install.register(app)
cli_db.register(app)
cli_erasure.register(app)
cli_exports.register(app)
cli_webhooks.register(app)
cli_channels.register(app)


@app.command
def run(*, config: ConfigFile = None) -> int:
    """Run the daemon until SIGTERM or Ctrl-C."""
    settings = load(config)
    from daemon.channel_wiring import channel_problems
    from daemon.run import run_daemon

    if problems := channel_problems(settings, os.environ):  # before a database is started
        say_problems(problems)
        raise UsageError("channels of the configuration cannot be used; nothing was started")

    return run_daemon(settings, version=program_version())


@app.command
def status(*, json: Json = False, config: ConfigFile = None) -> int:
    """Show every connection: its state, since when, and its counts."""
    with open_daemon(config) as client:
        rows = client.get("/status")
        incidents = [] if json else client.get("/incidents")
    from daemon.screen import connections_table, console, incident_line, print_json

    if json:
        print_json(rows)
    elif not rows:
        console().print("No connection is configured; add a \\[\\[connections]] table.")
    else:
        for incident in incidents:
            console().print(incident_line(incident, now()))
        console().print(connections_table(rows, now()))
    return 0


@app.command
def start(name: Name, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Run a connection, now and after a restart of the daemon."""
    return _order(name, "start", json, config)


@app.command
def stop(name: Name, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Stop a connection, and leave it stopped after a restart of the daemon."""
    return _order(name, "stop", json, config)


@app.command
def restart(name: Name, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Stop a connection, then run it."""
    return _order(name, "restart", json, config)


def _order(name: str, order: str, json: bool, config: Path | None) -> int:
    with open_daemon(config) as client:
        row = client.post(f"/connections/{segment(name)}/{order}")
    from daemon.screen import console, print_json

    if json:
        print_json(row)
    else:
        console().print(f"{row['name']} is {row['state']}: {row['sentence']}", markup=False)
    return 0


@app.command
def pair(
    name: Name,
    /,
    *,
    force: t.Annotated[
        bool, Parameter(negative="", help="Link anew, even if a device is linked already.")
    ] = False,
    code: t.Annotated[
        str | None,
        Parameter(help="The phone's number, +55…: show a code to type there, not one to scan."),
    ] = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Link a connection to a phone: draws QR codes until one of them is scanned."""
    with open_daemon(config) as client:
        from daemon.pair import pair as follow

        follow(client, segment(name), force=force, phone=code, as_json=json)
    return 0


@app.command
def reload(*, json: Json = False, config: ConfigFile = None) -> int:
    """Put a changed configuration in force; connections that did not change go on undisturbed.

    A configuration with anything wrong in it is refused as a whole, and the old one stays.
    """
    with open_daemon(config, unusable="a daemon that runs goes on with the old one") as client:
        facts = client.post("/reload")
    from daemon.screen import console, print_json, reload_lines

    if json:
        print_json(facts)
    else:
        for line in reload_lines(facts):
            console().print(line, markup=False)
    return 0


@app.command
def logout(name: Name, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Unlink a connection from its phone and forget its keys; its conversations stay."""
    return _order(name, "logout", json, config)


@app.command
def recover(name: Name, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Go on with keys that are older than what was sent with them; see docs/operations.md.

    For a connection that is parked as stale_keys, because its database was put back from the past:
    sessions that could be used twice are made anew, nobody has to pair again. From then on the
    newer database must not be put back any more.
    """
    return _order(name, "recover", json, config)


@config_app.command(name="check")
def check_config(file: Path | None = None, /, *, json: Json = False) -> int:
    """Report everything that is wrong with the configuration; exit code 2 if anything is.

    Parameters
    ----------
    file
        The file to check; by default the one that ``zapvisor run`` would use.
    """
    from config.errors import ConfigError
    from daemon.channel_wiring import load_checked
    from daemon.screen import print_json

    try:
        settings = load_checked(file, os.environ)
    except ConfigError as error:
        if json:
            problems = [_problem_facts(problem) for problem in error.problems]
            print_json({"ok": False, "problems": problems})
        else:
            say_problems(error.problems)
        return UsageError.exit_code
    names = [each.name for each in settings.connections]
    if json:
        path = settings.path and str(settings.path)
        print_json({"ok": True, "problems": [], "path": path, "connections": names})
    else:
        place = settings.path or "the built-in configuration"
        sys.stdout.write(f"{place}: fine; connections: {', '.join(names) or 'none'}\n")
    return 0


@app.command
def simulate(
    *,
    listen: t.Annotated[str, Parameter(help="HOST:PORT; port 0 is any free one.")] = (
        "127.0.0.1:0"
    ),
    group: t.Annotated[
        str | None, Parameter(help="Make every new account a member of one group of this name.")
    ] = None,
    seed: t.Annotated[int | None, Parameter(help="The same keys and ids in every run.")] = None,
    json: Json = False,
) -> int:
    """Run the WhatsApp simulator by itself, until Ctrl-C."""
    from daemon.simulate import run_simulator

    return run_simulator(_address(listen), group=group, seed=seed, as_json=json)


@app.command
def demo(
    *,
    for_: t.Annotated[
        str, Parameter(name="--for", help='How long customers write, such as "20s" or "5m".')
    ] = "60s",
    connections: t.Annotated[int, Parameter(help="How many connections, 1 to 100.")] = 5,
    rate: t.Annotated[
        float, Parameter(help="Texts per second; 0 is as fast as they are taken in.")
    ] = 60.0,
    seed: t.Annotated[int | None, Parameter(help="The same customers and texts again.")] = None,
    data_dir: t.Annotated[
        Path | None, Parameter(help="Keep the database here; by default it is temporary.")
    ] = None,
    log_level: t.Literal["debug", "info", "warning", "error"] = "warning",
    json: Json = False,
) -> int:
    """Watch it work: simulated customers, real pairing and encryption, and a proof at the end.

    Exit code 0 only if every message the simulator offered is in the database exactly once.
    """
    from config.durations import parse_duration
    from daemon.demo.model import DemoOptions
    from daemon.demo.run import run_demo

    try:
        seconds = parse_duration(for_)
    except ValueError as error:
        raise UsageError(f'--for: {error}; write it like "20s" or "1m30s"') from error
    if not 1 <= connections <= 100:
        raise UsageError(f"--connections: {connections} is not between 1 and 100")
    if not 0 <= rate < 1e6:
        raise UsageError(f"--rate: {rate:g} is not a number of texts per second")
    options = DemoOptions(
        seconds=seconds, connections=connections, rate=rate, seed=seed, data_dir=data_dir
    )
    return run_demo(options, as_json=json, log_level=log_level)


@app.command
def torture(
    *,
    for_: t.Annotated[
        str, Parameter(name="--for", help='How long faults strike, such as "60s" or "10m".')
    ] = "60s",
    seed: t.Annotated[int | None, Parameter(help="The same plan of faults again.")] = None,
    faults: t.Annotated[
        str | None, Parameter(help="Only these kinds, with commas between; by default all.")
    ] = None,
    connections: t.Annotated[int, Parameter(help="How many connections, 1 to 20.")] = 3,
    rate: t.Annotated[float, Parameter(help="Things that people do, per second.")] = 25.0,
    data_dir: t.Annotated[
        Path | None, Parameter(help="Keep everything here; by default only after a failure.")
    ] = None,
    plan: t.Annotated[
        bool, Parameter(negative="", help="Print the plan of faults, and run nothing.")
    ] = False,
    walk: t.Annotated[
        bool, Parameter(negative="", help="Die once at each crash point instead, in turn.")
    ] = False,
    log_level: t.Literal["debug", "info", "warning", "error"] = "error",
    json: Json = False,
) -> int:
    """Break everything that can be broken while customers write, and prove that nothing is lost.

    Exit code 0 only if no message is lost, stored twice, sent twice or out of order.
    """
    import secrets

    from config.durations import parse_duration
    from daemon.torture.model import MAX_CONNECTIONS, TortureOptions
    from daemon.torture.plan import KINDS
    from daemon.torture.run import run_torture, run_walk, show_plan

    try:
        seconds = parse_duration(for_)
    except ValueError as error:
        raise UsageError(f'--for: {error}; write it like "60s" or "10m"') from error
    if not 1 <= connections <= MAX_CONNECTIONS:
        raise UsageError(f"--connections: {connections} is not between 1 and {MAX_CONNECTIONS}")
    if not 0 < rate <= 1000:
        raise UsageError(f"--rate: {rate:g} is not between 0 and 1000")
    kinds = frozenset(KINDS if faults is None else filter(None, faults.split(",")))
    if unknown := kinds - frozenset(KINDS):
        known = ", ".join(KINDS)
        raise UsageError(
            f"--faults: no fault is called {', '.join(sorted(unknown))}; known: {known}"
        )
    options = TortureOptions(
        seconds=seconds,
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        kinds=kinds,
        connections=connections,
        rate=rate,
        data_dir=data_dir,
    )
    if plan:
        return show_plan(options)
    if walk:
        return run_walk(data_dir, as_json_line=json, log_level=log_level)
    return run_torture(options, as_json_line=json, log_level=log_level)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"--listen: {text!r} is not HOST:PORT, such as 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


@app.command
def openapi() -> int:
    """Print the description of the API (OpenAPI 3.1, JSON); no daemon is needed."""
    from api.openapi_static import describe
    from daemon.screen import print_json

    print_json(describe(program_version()))
    return 0


@app.command
def version(*, json: Json = False) -> int:
    """Show the version."""
    import platform

    from daemon.screen import print_json

    facts = {"version": program_version(), "python": platform.python_version()}
    if json:
        print_json(facts)
    else:
        sys.stdout.write(f"zapvisor {facts['version']} (Python {facts['python']})\n")
    return 0


def _problem_facts(problem: t.Any) -> dict[str, t.Any]:
    import attrs

    return attrs.asdict(problem)
