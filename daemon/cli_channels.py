"""The commands of the channels that carry notifications."""

import typing as t

from cyclopts import App, Parameter

from daemon.cli_base import ConfigFile, Json, now, open_daemon, segment, show

channels_app = App(
    name="channels", help="What tells people of trouble and sends the daily report: mail, chats."
)
Channel: t.TypeAlias = t.Annotated[str, Parameter(help="A channel of the configuration.")]


def register(app: App) -> None:
    """Make the commands part of the program."""
    app.command(channels_app)


@channels_app.default
def channels(*, json: Json = False, config: ConfigFile = None) -> int:
    """List channels: what was sent last, what failed, what waits."""
    from daemon.screen_channels import channels_table

    with open_daemon(config) as client:
        rows = client.get("/channels")
    empty = "No channel is configured; add a [[channels]] table, see docs/notifications.md."
    show(rows, json, lambda: channels_table(rows, now()), empty)
    return 0


channels_app.command(channels, name="list")


@channels_app.command(name="test")
def try_out(name: Channel, /, *, json: Json = False, config: ConfigFile = None) -> int:
    """Send a test notification through the running daemon; exits with 1 unless it was taken."""
    with open_daemon(config) as client:
        result = client.post(f"/channels/{segment(name)}/test")
    took = f"{result['seconds']:.1f} s"
    sentence = f"{name} has taken a test notification ({took}); look whether it arrives."
    if not result["ok"]:
        sentence = f"{name} did not take it ({took}): {result['error']}"
    show(result, json, lambda: sentence)
    return 0 if result["ok"] else 1
