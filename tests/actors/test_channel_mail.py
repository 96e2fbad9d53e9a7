"""Mail against a real SMTP server: how it looks, TLS, passwords, refusals, servers that hang."""

import collections.abc as cabc
import datetime as dt
import pathlib
import socket
import threading
import typing as t
import urllib.parse

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.channel_mail import MailCarrier
from actors.channel_services import make_carrier
from actors.channels import Attempt, Carrier, ChannelError, ChannelSettings, Letter, Outcome
from actors.mail_message import Envelope, Mailbox, make_mail
from storage.notifications import ChannelRule, Content, NotificationKind, Severity
from tests.support.certificates import authority
from tests.support.smtp_server import HANG, PASSWORD, USER, Security, SmtpServer, open_smtp

RULE = ChannelRule(name="mail", kinds=frozenset())
LETTER = Letter(
    content=Content(subject="sales está fora do ar", text="Não responde.\n", html="<p>Não</p>"),
    kind=NotificationKind.ALERT,
    severity=Severity.CRITICAL,
    identity="mail:alert:1",
    written_at=dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC),
)
OPS = "ops@example.com"
BOSS = "boss@example.com"


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> cabc.Iterator[cabc.Callable[..., SmtpServer]]:
    """Starts servers, which stop after the test."""
    import contextlib

    with contextlib.ExitStack() as stack:

        def start(**options: t.Any) -> SmtpServer:
            if options.get("security", "plain") != "plain" and "certificate" not in options:
                options["certificate"] = authority().issue(tmp_path, "localhost")
            return stack.enter_context(open_smtp(SmtpServer(**options)))

        yield start


def carrier(
    server: SmtpServer,
    *,
    user: str | None = None,
    password: str = PASSWORD,
    ca_file: pathlib.Path | None = None,
    to: str = OPS,
    more: str = "",
) -> Carrier:
    """As a URL in the configuration would make it."""
    schema, mode = {
        "plain": ("mailto", ""),
        "starttls": ("mailtos", "&mode=starttls"),
        "tls": ("mailtos", "&mode=ssl"),
    }[server.security]
    login = "" if user is None else f"{_quoted(user)}:{_quoted(password)}@"
    url = (
        f"{schema}://{login}localhost:{server.port}?to={to}&from=Zap <zap@example.com>{mode}{more}"
    )
    made = make_carrier(ChannelSettings(rule=RULE, url=url.replace(" ", "%20"), ca_file=ca_file))
    assert isinstance(made, MailCarrier)
    return made


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def send(made: Carrier, letter: Letter = LETTER, timeout: float = 10) -> Outcome:
    """One attempt."""
    return made.send(letter, Attempt(timeout))


def test_how_a_mail_looks(serve: cabc.Callable[..., SmtpServer]) -> None:
    """Text with HTML beside it, the headers that programs look at, and the same Message-ID for
    each attempt."""
    server = serve()
    made = carrier(server, more=f"&cc={BOSS}&bcc=archive@example.com&reply=help@example.com")
    assert made.service == f"mail by localhost:{server.port} to 3 recipients"
    assert send(made) == Outcome()
    mail = server.arrival()
    message = mail.message
    assert message["Subject"] == "sales está fora do ar"
    assert message["From"] == "Zap <zap@example.com>"
    assert (message["To"], message["Cc"], message["Bcc"]) == (OPS, BOSS, None)
    assert message["Reply-To"] == "help@example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert message.get_content_type() == "multipart/alternative"
    assert mail.part("plain") == "Não responde.\n"
    assert mail.part("html") == "<p>Não</p>\n"
    assert (mail.sender, mail.tls, mail.user) == ("zap@example.com", False, None)
    assert mail.recipients == (OPS, BOSS, "archive@example.com")
    assert send(carrier(server)) == Outcome()
    assert server.arrival().message["Message-ID"] == message["Message-ID"]
    send(made, attrs.evolve(LETTER, identity="mail:alert:2"))
    assert server.arrival().message["Message-ID"] != message["Message-ID"]


def test_text_alone_is_no_multipart(serve: cabc.Callable[..., SmtpServer]) -> None:
    """Where there is no HTML; a subject of two lines becomes one."""
    server = serve()
    content = Content(subject="one\r\nBcc: two@example.com\n", text="a\0b\r\nc" + "ç" * 2000)
    assert send(carrier(server), attrs.evolve(LETTER, content=content)) == Outcome()
    mail = server.arrival()
    assert mail.message.get_content_type() == "text/plain"
    assert mail.message["Subject"] == "one Bcc: two@example.com"
    assert mail.recipients == (OPS,)
    assert mail.part("plain") == "a b \nc" + "ç" * 2000 + "\n"


@given(subject=st.text(), text=st.text(), name=st.text())
def test_any_text_makes_a_mail(subject: str, text: str, name: str) -> None:
    """Whatever customers are called: it is written, and the headers stay ours."""
    envelope = Envelope(
        sender=Mailbox(address="zap@example.com", name=name), to=(Mailbox(address=OPS, name=name),)
    )
    made = make_mail(
        envelope,
        Content(subject=subject, text=text, html=text),
        identity=subject,
        written_at=LETTER.written_at,
    )
    head, _, _ = made.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in b" \t"]
    assert sorted(names) == sorted(set(names))
    assert b"Bcc" not in names
    assert made.isascii()


@pytest.mark.parametrize("security", ["plain", "starttls", "tls"])
def test_with_password(serve: cabc.Callable[..., SmtpServer], security: Security) -> None:
    """By STARTTLS, or TLS from the first byte, with the authority of one's own."""
    server = serve(security=security, authentication=True)
    ca_file = None
    if server.certificate is not None:
        ca_file = authority().write(server.certificate.parent)
    assert send(carrier(server, user=USER, ca_file=ca_file)) == Outcome()
    mail = server.arrival()
    assert (mail.tls, mail.user) == (security != "plain", USER)


@pytest.mark.parametrize("security", ["plain", "starttls", "tls"])
def test_wrong_password(serve: cabc.Callable[..., SmtpServer], security: Security) -> None:
    """It is told, and never shown; an operator may mend it, so it is tried on."""
    server = serve(security=security, authentication=True)
    ca_file = None
    if server.certificate is not None:
        ca_file = authority().write(server.certificate.parent)
    outcome = send(carrier(server, user=USER, password="wr0ng/hush", ca_file=ca_file))
    assert outcome.error is not None
    assert "refused the password: 535" in outcome.error
    assert "hush" not in outcome.error
    assert not outcome.hopeless
    assert server.mails == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("flaw", ["unknown", "expired", "other"])
def test_certificates_are_checked(
    serve: cabc.Callable[..., SmtpServer], tmp_path: pathlib.Path, security: Security, flaw: str
) -> None:
    """One of an unknown authority, an old one, one of another host: nothing is sent, no password
    either; the operator may switch the check off."""
    host = "elsewhere.example" if flaw == "other" else "localhost"
    certificate = authority().issue(tmp_path, host, expired=flaw == "expired")
    server = serve(security=security, certificate=certificate, authentication=True)
    ca_file = None if flaw == "unknown" else authority().write(tmp_path)
    outcome = send(carrier(server, user=USER, ca_file=ca_file))
    assert outcome.error is not None
    assert "the certificate is not trusted" in outcome.error
    assert server.mails == []
    assert send(carrier(server, user=USER, more="&verify=no")) == Outcome()
    assert server.arrival().user == USER


def test_tls_is_not_given_up(serve: cabc.Callable[..., SmtpServer]) -> None:
    """A server that offers no STARTTLS gets nothing."""
    server = serve()
    made = carrier(attrs.evolve(server, security="starttls"), user=USER)
    outcome = send(made)
    assert outcome.error is not None
    assert "STARTTLS" in outcome.error
    assert server.mails == []


@pytest.mark.parametrize(
    ("answer", "hopeless"), [("450 come back", False), ("550 no such user", True)]
)
def test_a_refused_recipient(
    serve: cabc.Callable[..., SmtpServer], answer: str, hopeless: bool
) -> None:
    """For now, or for good; the error says who, and what the server said."""
    server = serve(refused={OPS: answer})
    outcome = send(carrier(server))
    assert outcome.error is not None
    assert f"{OPS} ({answer[:3]} {answer[4:]})" in outcome.error
    assert outcome.hopeless is hopeless


def test_one_of_two_is_refused_for_good(serve: cabc.Callable[..., SmtpServer]) -> None:
    """The other has it: it is not sent again, and the refusal is told."""
    server = serve(refused={BOSS: "550 no such user"})
    outcome = send(carrier(server, to=f"{OPS},{BOSS}"))
    assert outcome.error is None
    assert outcome.refused == f"the server refused {BOSS} (550 no such user)"
    assert server.arrival().recipients == (OPS,)


def test_one_of_two_is_refused_for_now(serve: cabc.Callable[..., SmtpServer]) -> None:
    """The next attempt goes to that one alone; the next mail to both."""
    server = serve(refused={BOSS: "451 greylisted"})
    made = carrier(server, to=f"{OPS},{BOSS}")
    assert send(made).error is not None
    assert server.arrival().recipients == (OPS,)
    server.refused.clear()
    assert send(made) == Outcome()
    assert server.arrival().recipients == (BOSS,)
    assert send(made, attrs.evolve(LETTER, identity="mail:alert:2")) == Outcome()
    assert server.arrival().recipients == (OPS, BOSS)


def test_a_refused_mail(serve: cabc.Callable[..., SmtpServer]) -> None:
    """4xx is for now, 5xx for good."""
    server = serve(answers=["452 disk full", "552 too big"])
    made = carrier(server)
    for_now, for_good = send(made), send(made)
    assert (for_now.error, for_now.hopeless) == ("the server answered 452 disk full", False)
    assert (for_good.error, for_good.hopeless) == ("the server answered 552 too big", True)
    assert send(made) == Outcome()


def test_nobody_is_there() -> None:
    """The error of the system."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = send(carrier(SmtpServer(port=port)))
    assert outcome.error is not None
    assert "refused" in outcome.error
    assert not outcome.hopeless


def test_a_server_that_says_nothing() -> None:
    """It has the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = carrier(SmtpServer(port=listener.getsockname()[1]))
        assert send(made, timeout=0.2).error == "no answer within 0.2 s"


@pytest.mark.parametrize("security", ["plain", "starttls", "tls"])
def test_who_has_enough_ends_it(
    serve: cabc.Callable[..., SmtpServer], tmp_path: pathlib.Path, security: Security
) -> None:
    """A server that takes the mail and says nothing: the thread ends at once when it is abandoned,
    long before the timeout."""
    server = serve(security=security, answers=[HANG])
    made = carrier(server, ca_file=authority().write(tmp_path))
    attempt = Attempt(timeout=60)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(made.send(LETTER, attempt)))
    thread.start()
    while server.answers:  # until the mail is there
        thread.join(0.01)
    attempt.abandon()
    thread.join(20)
    assert not thread.is_alive()
    assert outcomes[0].error is not None


def test_what_is_abandoned_sends_nothing(serve: cabc.Callable[..., SmtpServer]) -> None:
    """Before it began, or while it was connecting."""
    server = serve()
    attempt = Attempt(timeout=10)
    attempt.abandon()
    assert carrier(server).send(LETTER, attempt).error is not None
    assert server.mails == []


def test_a_file_of_certificates_that_is_none(tmp_path: pathlib.Path) -> None:
    """It is told before anything is sent."""
    server = SmtpServer(security="tls", port=25)
    for content in (None, "no certificate"):
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ChannelError, match="ca_file"):
            carrier(server, ca_file=path)
