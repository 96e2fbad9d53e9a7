"""Channels in the API, on the command line, in health and in the configuration."""

import collections.abc as cabc
import datetime as dt
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from daemon_fakes import NOON, Control, Run, open_control, problem

from actors.channel_services import make_carrier
from actors.channel_views import ChannelView
from actors.channels import ChannelSettings
from actors.roster import plan
from api.health_channels import DETAIL, KEEPS_FAILING, channel_troubles
from config.channels import ChannelConfig
from config.model import Config
from storage.notifications import ChannelRule, Notification, NotificationKind, Severity
from tests.support.smtp_server import SmtpServer, open_smtp

HOUR = 3600.0


@pytest.fixture
def smtp() -> cabc.Iterator[SmtpServer]:
    with open_smtp(SmtpServer()) as server:
        yield server


@pytest.fixture
async def control(short_path: Path, smtp: SmtpServer) -> cabc.AsyncIterator[Control]:
    """Two channels, which are not run: what they do is tested with them."""
    mail, chat = (
        ChannelSettings(
            rule=ChannelRule(
                name=name,
                kinds=frozenset({NotificationKind.ALERT}),
                severity=Severity.INFO,
                connections=None if name == "mail" else frozenset({"sales"}),
            ),
            url=url,
            timeout=10.0,
        )
        for name, url in (
            ("mail", f"mailto://127.0.0.1:{smtp.port}?from=zap@example.com&to=ops@example.com"),
            ("chat", "json://user:hush@127.0.0.1:9/hush-token"),
        )
    )
    channels = tuple((each, make_carrier(each)) for each in (mail, chat))
    with trio.fail_after(60):
        async with open_control(short_path / "control.sock", channels=channels) as control:
            yield control


async def fail(control: Control, *, ago: float = HOUR) -> None:
    """Two notifications for the mail; the first attempt has failed."""
    inbox = control.storage.inbox
    await inbox.enqueue_notifications(
        [
            Notification(key=key, kind=NotificationKind.ALERT, subject=key, text=key)
            for key in ("a", "b")
        ]
    )
    claimed = await inbox.claim_notification("mail", NOON.timestamp() + 60)
    assert claimed is not None
    clock, inbox._clock = inbox._clock, lambda: NOON.timestamp() - ago
    await inbox.settle_notification("mail", claimed, "no route", NOON.timestamp() + 60)
    inbox._clock = clock


async def test_how_they_are(client: httpx.AsyncClient, control: Control) -> None:
    """With what waits and what failed, without what is secret."""
    await fail(control)
    answer = await client.get("/channels")
    mail, chat = answer.json()
    assert (mail["name"], mail["state"], mail["pending"], mail["retrying"], mail["error"]) == (
        "mail",
        "failing",
        2,
        1,
        "no route",
    )
    assert (chat["name"], chat["state"], chat["service"]) == ("chat", "active", "JSON")
    assert (chat["kinds"], chat["severity"], chat["connections"]) == (["alert"], "info", ["sales"])
    assert "hush" not in answer.text
    assert (await client.get("/channels/mail")).json() == mail


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/test")])
async def test_channels_there_are_not(client: httpx.AsyncClient, method: str, path: str) -> None:
    """404, and which there are."""
    found = problem(await client.request(method, f"/channels/nobody{path}"))
    assert (found["status"], found["type"]) == (404, "urn:zapvisor:unknown-channel")
    assert "mail, chat" in found["detail"]


async def test_the_command_line(zapvisor: Run, control: Control, smtp: SmtpServer) -> None:
    """List and test: the mail arrives, and the exit code says whether it was taken."""
    shown = await zapvisor("channels")
    assert (shown.code, "mail by 127.0.0.1:" in shown.out) == (0, True)
    await fail(control)
    assert "no route" in (await zapvisor("channels", "list")).out
    tried = await zapvisor("channels", "test", "mail")
    assert (tried.code, "mail has taken a test notification" in tried.out) == (0, True)
    mail = await trio.to_thread.run_sync(smtp.arrival)
    assert mail.message["Subject"] == "zapvisor: this is a test"
    [row, _chat] = (await zapvisor("channels", "--json")).json
    assert (row["sent"], row["state"], row["next_attempt_at"]) == (1, "active", None)
    smtp.answers.append("554 no")
    refused = await zapvisor("channels", "test", "mail", "--json")
    assert (refused.code, refused.json["error"]) == (1, "the server answered 554 no")
    lost = await zapvisor("channels", "test", "chat")
    assert lost.code == 1
    assert "chat did not take it" in lost.out
    assert "hush" not in lost.out + lost.err
    unknown = await zapvisor("channels", "test", "nobody")
    assert (unknown.code, "mail, chat" in unknown.err) == (1, True)


async def test_without_channels(short_path: Path, zapvisor: Run) -> None:
    """The list says what to do."""
    async with open_control(short_path / "control.sock"):
        assert "No channel is configured" in (await zapvisor("channels")).out
        assert (await zapvisor("channels", "--json")).json == []


async def test_health_tells_of_them(
    client: httpx.AsyncClient, zapvisor: Run, control: Control
) -> None:
    """One that keeps failing makes the whole degraded, with what to do; how all are is shown."""
    await fail(control, ago=KEEPS_FAILING - 1)
    health = (await client.get("/health/detailed")).json()
    assert (health["verdict"], [each["name"] for each in health["channels"]]) == (
        "ok",
        ["mail", "chat"],
    )
    await control.storage.inbox.count_sent("mail")
    inbox = control.storage.inbox
    claimed = await inbox.claim_notification("mail", NOON.timestamp() + 60)
    assert claimed is None  # its time has not come
    inbox._clock = lambda: NOON.timestamp() - HOUR
    await inbox.count_sent("mail", "no route")
    health = (await client.get("/health")).json()
    assert health["verdict"] == "degraded"
    assert health["reasons"] == [
        "channel mail fails (no route), 2 notifications wait; see to it, then zapvisor channels"
        " test mail"
    ]
    shown = (await zapvisor("health")).out
    assert "1 active, 1 failing; 4 waiting, 1 of them failed before, 0 given up" in shown
    assert "1 active, 1 failing" in (await zapvisor("top", "--once")).out


def test_only_what_keeps_failing_is_told() -> None:
    """A long error is cut; one notification is not many."""
    since = dt.datetime.fromtimestamp(1000, dt.UTC)
    view = ChannelView(
        name="mail",
        service="mail",
        kinds=(),
        severity="info",
        connections=(),
        language="en",
        state="failing",
        sent=0,
        failed=1,
        given_up=0,
        pending=1,
        retrying=1,
        sent_at=None,
        failed_at=since,
        failing_since=since,
        error="x" * 1000,
        oldest_at=since,
        next_attempt_at=None,
        hanging=0,
    )
    assert list(channel_troubles([view], 1000 + KEEPS_FAILING - 1)) == []
    [told] = channel_troubles([view], 1000 + KEEPS_FAILING)
    assert "1 notification waits" in told
    assert len(told) < DETAIL + 200
    well = attrs.evolve(view, failing_since=None)
    assert list(channel_troubles([well], 1e9)) == []


def write(directory: Path, table: str) -> Path:
    path = directory / "supervisor.toml"
    path.write_text(f'[[channels]]\nname = "mail"\n{table}\n')
    return path


MISTYPED = "mailtos:me:hush@smtp.example.com?to=ops@example.com"
GOOD = "mailtos://me:hush@smtp.example.com?to=ops@example.com"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('url = "bogus://hush"', "no service is called bogus://"),
        ('url = "tgram://hush"', "the URL of tgram:// cannot be used"),
        ('url_file = "missing.url"', "missing.url cannot be read: No such file"),
        ('url_file = "empty.url"', "does not hold a URL"),
        ('url_file = "binary.url"', "it is not UTF-8"),
        ('url_variable = "HUSH_URL"', "the environment variable HUSH_URL is not set"),
        ('url_file = "mistyped.url"', "mistyped.url does not hold a URL such as"),
        ('url_variable = "MISTYPED"', "the environment variable MISTYPED does not hold a URL"),
        (f'url = "{GOOD}"\nca_file = "empty.url"', "ca_file"),
    ],
)
async def test_what_cannot_be_used(
    short_path: Path, zapvisor: Run, monkeypatch: pytest.MonkeyPatch, table: str, words: str
) -> None:
    """Told by the check and at start, on one line, with exit code 2; nothing secret is in it."""
    monkeypatch.setenv("MISTYPED", MISTYPED)
    (short_path / "mistyped.url").write_text(MISTYPED)
    (short_path / "empty.url").write_text("\n")
    (short_path / "binary.url").write_bytes(b"\xff\xfe")
    path = write(short_path, table)
    for command in (("config", "check", str(path)), ("run", "--config", str(path))):
        result = await zapvisor(*command)
        assert result.code == 2
        assert f"{path}: channels[1]: mail: " in result.err
        assert words in result.err
        assert "hush" not in result.err + result.out
    assert not (short_path / "data").exists()
    facts = (await zapvisor("config", "check", str(path), "--json")).json
    assert (facts["ok"], facts["problems"][0]["key"]) == (False, "channels[1]")


async def test_what_can_be_used(
    short_path: Path, zapvisor: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL in the file, in a file of its own, in a variable."""
    (short_path / "mail.url").write_text(f"{GOOD}\n")
    monkeypatch.setenv("MAIL_URL", GOOD)
    for table in (f'url = "{GOOD}"', 'url_file = "mail.url"', 'url_variable = "MAIL_URL"'):
        result = await zapvisor("config", "check", str(write(short_path, table)))
        assert result.code == 0, result.err


def test_a_reload_leaves_them_to_a_restart() -> None:
    """And says so."""
    channel = ChannelConfig(name="mail", url=GOOD)
    done = plan(Config(), Config(channels=(channel,)))
    assert done.restart == ("channels",)
    assert done.config.channels == ()
