"""The commands of the webhooks: what waits, what is dead, and sending it again."""

import base64
import secrets
import typing as t

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, HowMany, Json, now, open_daemon, segment, show
from daemon.errors import UsageError

webhooks_app = App(name="webhooks", help="HTTP endpoints that are sent events.")
Webhook: t.TypeAlias = t.Annotated[str, Parameter(help="A webhook of the configuration.")]

SECRET_BYTES: t.Final = 32


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(webhooks_app)


@webhooks_app.default
def webhooks(*, json: Json = False, config: ConfigFile = None) -> int:
    """List webhooks, and what they have to do."""
    from daemon.screen_webhooks import webhooks_table

    with open_daemon(config) as client:
        rows = client.get("/webhooks")
    show(rows, json, lambda: webhooks_table(rows, now()), "No webhook is configured.")
    return 0


webhooks_app.command(webhooks, name="list")


@webhooks_app.command
def dead(
    name: Webhook,
    /,
    *,
    after: t.Annotated[int, Parameter(help="Those of events behind this one.")] = 0,
    limit: HowMany = 50,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List what a webhook could not deliver and has given up, oldest first."""
    return _deliveries(name, "dead", after, limit, json, config)


@webhooks_app.command
def pending(
    name: Webhook,
    /,
    *,
    after: t.Annotated[int, Parameter(help="Those of events behind this one.")] = 0,
    limit: HowMany = 50,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """List what waits at a webhook, oldest first."""
    return _deliveries(name, "pending", after, limit, json, config)


def _deliveries(
    name: str, state: str, after: int, limit: int, json: bool, config: ConfigFile
) -> int:
    from daemon.screen_webhooks import deliveries_table

    with open_daemon(config) as client:
        path = f"/webhooks/{segment(name)}/deliveries"
        rows = client.get(path, state=state, after=after, limit=limit)
    show(rows, json, lambda: deliveries_table(rows, now()), f"Nothing is {state}.")
    return 0


@webhooks_app.command
def replay(
    name: Webhook,
    /,
    *,
    event: t.Annotated[int | None, Parameter(help="This event alone.")] = None,
    after: t.Annotated[
        int | None, Parameter(help="All events behind this one, delivered or not.")
    ] = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Send again what is dead, or other events; their webhook-id stays what it was."""
    if event is not None and after is not None:
        raise UsageError("either --event or --after")
    with open_daemon(config) as client:
        done = client.post(f"/webhooks/{segment(name)}/replay", event=event, after=after)
    count = "All events behind that one" if done["deliveries"] is None else done["deliveries"]
    show(done, json, lambda: f"{count} will be sent again to {name}.")
    return 0


@webhooks_app.command(name="test")
def try_out(name: Webhook, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Send a webhook.test event; exits with 1 unless it was taken."""
    with open_daemon(config) as client:
        result = client.post(f"/webhooks/{segment(name)}/test")
    took = f"{result['seconds']:.2f} s"
    sentence = f"{name} answered {result['status']} in {took}."
    if not result["ok"]:
        sentence = f"{name} did not take it ({took}): {result['error']}"
    show(result, json, lambda: sentence)
    return 0 if result["ok"] else 1


@webhooks_app.command
def pause(name: Webhook, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Deliver nothing until it is resumed; what happens meanwhile waits."""
    return _order(name, "pause", json, config)


@webhooks_app.command
def resume(name: Webhook, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Go on where it was."""
    return _order(name, "resume", json, config)


def _order(name: str, order: str, json: bool, config: ConfigFile) -> int:
    with open_daemon(config) as client:
        row = client.post(f"/webhooks/{segment(name)}/{order}")
    show(row, json, lambda: f"{name} is {row['state']}.")
    return 0


@webhooks_app.command
def secret() -> int:
    """Print a new secret for the configuration of a webhook and for its endpoint."""
    from daemon.screen import console

    made = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    console().print(f"whsec_{made}", markup=False, highlight=False)
    return 0
