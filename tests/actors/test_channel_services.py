"""URLs of channels as apprise reads them: what can be used, and that nothing of them is shown."""

import logging
import pathlib
import re
import typing as t

import attrs
import pytest
import trio

from actors.channel_mail import MailCarrier
from actors.channel_services import ServiceCarrier, make_carrier
from actors.channels import Attempt, ChannelError, ChannelSettings, Letter, Outcome, hide
from storage.notifications import ChannelRule, Content, NotificationKind, Severity
from tests.support.webhook_receiver import Received, open_receiver

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "notifications.md"
FILLED = {
    "APPPASSWORD": "abcdabcdabcdabcd",
    "PASSWORD": "secret",
    "USER": "robot",
    "BOT_TOKEN": "123456789:abcdefghijklmnopqrstuvwxyz",
    "CHAT_ID": "-12315544",
    "TOKEN_A": "T1JJ3T3L2",
    "TOKEN_B": "A1BRTD4JD",
    "TOKEN_C": "TIiajkdnlazkcOXrIdevi7FQ",
    "TOPIC": "alerts-of-ours",
}

LETTER = Letter(
    content=Content(subject="sales is down", text="It does not answer.\nhttps://zap.example/"),
    kind=NotificationKind.ALERT,
    severity=Severity.WARNING,
    identity="chat:alert:1",
    written_at=None,  # type: ignore[arg-type]
)


def settings(url: str, **changes: t.Any) -> ChannelSettings:
    """A channel with this URL."""
    rule = ChannelRule(name="chat", kinds=frozenset())
    return ChannelSettings(rule=rule, url=url, **{"timeout": 10.0, **changes})


@pytest.mark.parametrize(
    ("url", "service"),
    [
        (
            "mailtos://robot@gmail.com:hushhush@gmail.com",
            None,
        ),
        ("mailtos://robot:hushhush@gmail.com", "mail by smtp.gmail.com:587 to 1 recipient"),
        (
            "mailtos://robot%40team.example:hushhush@smtp.team.example?to=a@team.example,b@team.example",
            "mail by smtp.team.example:587 to 2 recipients",
        ),
        (
            "mailtos://robot:hush@smtp.team.example:465?mode=ssl&from=robot@team.example&to=a@team.example",
            "mail by smtp.team.example:465 to 1 recipient",
        ),
        (
            "mailto://localhost?from=robot@team.example&to=a@team.example",
            "mail by localhost:25 to 1 recipient",
        ),
        ("tgram://123456789:hush_abcdefghijklmnop/12315544/", "Telegram"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "Slack"),
        ("ntfy://hush-topic", "ntfy"),
    ],
)
def test_urls_that_can_be_used(url: str, service: str | None) -> None:
    """Mail, the providers that apprise knows, chats; a raw @ in the user is told."""
    if service is None:
        with pytest.raises(ChannelError, match="an @ in user or password as %40"):
            make_carrier(settings(url))
        return
    made = make_carrier(settings(url))
    assert made.service == service
    assert isinstance(made, MailCarrier) is url.startswith("mail")
    assert "hush" not in repr(settings(url))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("bogus://hush", "no service is called bogus://"),
        ("mailtos://", "the URL of mailtos:// cannot be used"),
        ("mailtos://me:hush@smtp.example.com?to=x", "number 1 of to="),
        ("mailtos://me:hush@smtp.example.com?to=a@example.com,hush", "number 2 of to="),
        ("mailtos://me:hush@smtp.example.com?to=a@example.com&cc=hush", "number 1 of cc="),
        ("mailtos://me:hush@smtp.example.com:99999?to=a@example.com", "no server"),
        ("mailtos://me:hush@smtp.example.com?to=a@example.com&mode=hush", "secure mode"),
        ("mailtos://me:hush@smtp.example.com?to=a@example.com&pgp=encrypt", "PGP"),
        ("tgram://hush", "the URL of tgram:// cannot be used"),
        ("slack://hush", "the URL of slack:// cannot be used"),
        ("windows://", "does not work on this system"),
        ("mailtos:ana:hush@smtp.example.com?to=ana@example.com", "it is no URL"),
        ("mailtos:ana:hush@smtp.example.com?next=http://example.com", "it is no URL"),
        ("hush-and-a-token-of-many-letters-123://x", "it is no URL"),
        ("hush", "it is no URL"),
    ],
)
def test_urls_that_cannot_be_used(
    url: str, words: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error says what is wrong; nothing that may be secret is in it, nor in a log."""
    with caplog.at_level(logging.DEBUG), pytest.raises(ChannelError) as refused:
        make_carrier(settings(url))
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)
    assert "hush" not in caplog.text + "".join(capfd.readouterr())


def test_the_urls_of_the_document_can_be_used() -> None:
    """As they stand there, with something in the place of the capitals: each goes where it says."""
    found = re.findall(r"`((?:mailtos?|tgram|slack|ntfys?)://[^` …]+)`", DOCUMENT.read_text())
    services = []
    for url in found:
        filled = url
        for word, value in FILLED.items():
            filled = filled.replace(word, value)
        services.append(make_carrier(settings(filled)).service)
    assert services == [
        "mail by smtp.gmail.com:587 to 1 recipient",
        "mail by smtp.office365.com:587 to 1 recipient",
        "mail by smtp.example.com:587 to 1 recipient",
        "mail by smtp.example.com:465 to 1 recipient",
        "mail by localhost:25 to 1 recipient",
        "Telegram",
        "Slack",
        "ntfy",
        "ntfy",
    ]


def test_users_of_the_document_are_kept() -> None:
    """A provider's rules do not change them: the user is the whole address."""
    url = "mailtos://me%40example.com:PW@smtp.gmail.com:587?from=me@example.com&to=team@example.com"
    made = make_carrier(settings(url))
    assert isinstance(made, MailCarrier)
    mail = made._settings
    assert (mail.user, mail.security) == ("me@example.com", "starttls")
    assert mail.envelope.sender.address == "me@example.com"


def test_a_ca_file_is_for_mail(tmp_path: pathlib.Path) -> None:
    """Elsewhere it would be of no effect."""
    with pytest.raises(ChannelError, match="ca_file is for mail only"):
        make_carrier(settings("ntfy://topic", ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("kind", "severity", "told"),
    [
        (NotificationKind.ALERT, Severity.INFO, "info"),
        (NotificationKind.ALERT, Severity.WARNING, "warning"),
        (NotificationKind.ALERT, Severity.CRITICAL, "failure"),
        (NotificationKind.RECOVERY, Severity.CRITICAL, "success"),
        (NotificationKind.REPORT, Severity.INFO, "info"),
    ],
)
async def test_what_a_service_gets(kind: NotificationKind, severity: Severity, told: str) -> None:
    """Subject, text, and how it is meant; over HTTP, as apprise speaks it."""
    async with open_receiver() as receiver:
        made = make_carrier(settings(f"json://127.0.0.1:{receiver.port}/hush-token"))
        letter = attrs.evolve(LETTER, kind=kind, severity=severity)
        with trio.fail_after(30):
            outcome = await trio.to_thread.run_sync(made.send, letter, Attempt(10))
    assert outcome == Outcome()
    [request] = receiver.requests
    assert request.path == "/hush-token"
    assert request.event["title"] == "sales is down"
    assert request.event["message"] == LETTER.content.text
    assert request.event["type"] == told


async def test_a_service_that_refuses(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says why, and neither the error nor any log holds a part of the URL."""

    async def refuse(_request: Received) -> tuple[int, dict[str, str]]:
        return 503, {}

    url = "json://user:hush-word@127.0.0.1:{}/hush-token?key=hush-key"
    async with open_receiver() as receiver:
        receiver.answer = refuse
        made = make_carrier(settings(url.format(receiver.port)))
        with caplog.at_level(logging.DEBUG), trio.fail_after(30):
            outcome = await trio.to_thread.run_sync(made.send, LETTER, Attempt(10))
    assert outcome.error is not None
    assert "503" in outcome.error
    assert "hush" not in outcome.error
    assert "hush" not in caplog.text + "".join(capfd.readouterr())


def test_a_service_that_is_not_there(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error is apprise's."""
    made = make_carrier(settings("json://user:hush-word@127.0.0.1:9/hush-token"))
    with caplog.at_level(logging.DEBUG):
        outcome = made.send(LETTER, Attempt(5))
    assert outcome.error is not None
    assert outcome.error.startswith("JSON: ")
    assert "hush" not in outcome.error + caplog.text + "".join(capfd.readouterr())


def test_a_plugin_that_breaks() -> None:
    """What it raises may hold anything: only its kind is told."""

    class Broken:
        service_name = "Broken"
        socket_connect_timeout = socket_read_timeout = 4.0
        overflow_mode = "split"

        def notify(self, **_given: t.Any) -> bool:
            raise RuntimeError("https://user:hush@example.com")

    made = ServiceCarrier(Broken(), "broken://hush", 10)
    assert made.send(LETTER, Attempt(10)) == Outcome(error="Broken failed: RuntimeError")


def test_what_is_abandoned_sends_nothing() -> None:
    """Also when its thread begins only then."""
    made = make_carrier(settings("json://127.0.0.1:9/"))
    attempt = Attempt(5)
    attempt.abandon()
    assert made.send(LETTER, attempt) == Outcome(error="abandoned")


def test_long_errors_are_cut() -> None:
    """And secrets are hidden before, the longer ones first."""
    told = hide("a hush-hush b hush\n" + "x" * 1000, ["hush", "hush-hush", ""])
    assert told.startswith("a *** b *** x")
    assert len(told) == 500
