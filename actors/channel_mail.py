"""E-mail as a channel: the settings as apprise reads them from a URL, sent by the standard library.

Theory of operation. apprise's e-mail plugin knows the providers and their ports, so it reads the
URL. Its transport is not used: it writes each mail itself (its text is made from the HTML, its
Message-ID is another one each time), trusts no CA of one's own, and keeps to itself why a server
refused. ``smtplib`` says so, in its thread; who has enough shuts the socket down under it.
Recipients that have it already are left out of the next attempt, as long as the process lives.
"""

import base64
import contextlib
import smtplib
import socket
import ssl
import typing as t
import urllib.parse
from pathlib import Path

import attrs

from actors.channels import Attempt, ChannelError, Letter, Outcome, hide
from actors.mail_message import Envelope, make_mail

PERMANENT: t.Final = 500  # from this code of a server on, it is of no use to ask again


@attrs.frozen(kw_only=True)
class MailSettings:
    """A server, and who writes to whom through it."""

    host: str
    port: int
    security: str  # "starttls", "ssl" (TLS from the first byte) or "insecure"
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    verify: bool = True
    ca_file: Path | None = None
    envelope: Envelope


def tls_context(settings: MailSettings) -> ssl.SSLContext:
    """Whom to trust.

    Raises:
        ChannelError: the file of certificates cannot be used.
    """
    context = ssl.create_default_context()
    if settings.ca_file is not None:
        try:
            context.load_verify_locations(settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ChannelError(
                f"ca_file: {settings.ca_file} holds no certificates that can be read: {error}"
            ) from error
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class MailCarrier:
    """Sends mail through one server."""

    def __init__(self, settings: MailSettings) -> None:
        """Raises:
        ChannelError: see :func:`tls_context`; or an address cannot be written.
        """
        self._settings = settings
        self._context = tls_context(settings)
        self._secrets = _spellings(settings.user, settings.password)
        self._taken: tuple[str, frozenset[str]] = ("", frozenset())
        """Of the letter that was tried last: who has it."""
        try:
            for box in (settings.envelope.sender, *settings.envelope.to):
                box.header()
        except ValueError as error:
            raise ChannelError(f"an address cannot be written in a mail: {error}") from error

    @property
    def service(self) -> str:
        """The server, and how many get it."""
        count = len(self._settings.envelope.recipients)
        noun = "recipient" if count == 1 else "recipients"
        return f"mail by {self._settings.host}:{self._settings.port} to {count} {noun}"

    def send(self, letter: Letter, attempt: Attempt) -> Outcome:
        """See :class:`actors.channels.Carrier`."""
        try:
            mail = make_mail(
                self._settings.envelope,
                letter.content,
                identity=letter.identity,
                written_at=letter.written_at,
            )
        except ValueError as error:
            return Outcome(error=self._told(f"the mail cannot be written: {error}"), hopeless=True)
        known, taken = self._taken
        if known != letter.identity:
            taken = frozenset()
        left = [each for each in self._settings.envelope.recipients if each not in taken]
        if not left:
            return Outcome()
        try:
            with self._session(attempt) as session:
                if attempt.abandoned:
                    return Outcome(error="abandoned")
                refused = session.sendmail(self._settings.envelope.sender.address, left, mail)
        except smtplib.SMTPRecipientsRefused as error:
            return self._refused(taken, error.recipients)
        except smtplib.SMTPResponseException as error:
            return self._answered(error)
        except ssl.SSLCertVerificationError as error:
            advice = "name the CA that signed it in ca_file"
            return self._failed(f"the certificate is not trusted: {error.verify_message}; {advice}")
        except (OSError, smtplib.SMTPException, ValueError) as error:
            if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
                return self._failed(f"no answer within {attempt.timeout:g} s")
            return self._failed(str(error) or type(error).__name__)
        self._taken = (letter.identity, taken | (set(left) - set(refused)))
        return self._refused(self._taken[1], refused) if refused else Outcome()

    @contextlib.contextmanager
    def _session(self, attempt: Attempt) -> t.Iterator[smtplib.SMTP]:
        settings, tls = self._settings, self._settings.security == "ssl"
        made = (
            smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=attempt.timeout, context=self._context
            )
            if tls
            else smtplib.SMTP(settings.host, settings.port, timeout=attempt.timeout)
        )
        try:
            attempt.ends_by(lambda: _shut(made))
            if settings.security == "starttls":
                made.starttls(context=self._context)
            if settings.user and settings.password:
                made.login(settings.user, settings.password)
            yield made
            with contextlib.suppress(OSError, smtplib.SMTPException):  # it has been taken
                made.quit()
        finally:
            made.close()

    def _answered(self, error: smtplib.SMTPResponseException) -> Outcome:
        code, said = error.smtp_code, _text(error.smtp_error)
        if isinstance(error, smtplib.SMTPAuthenticationError):
            advice = "see to user and password in the URL of the channel"
            return self._failed(f"the server refused the password: {code} {said}; {advice}")
        of_this_one = isinstance(error, smtplib.SMTPDataError | smtplib.SMTPSenderRefused)
        return self._failed(
            f"the server answered {code} {said}", hopeless=of_this_one and code >= PERMANENT
        )

    def _refused(self, taken: frozenset[str], refused: dict[str, tuple[int, bytes]]) -> Outcome:
        """Some recipients, or all of them."""
        told = ", ".join(
            f"{address} ({code} {_text(said)})" for address, (code, said) in refused.items()
        )
        sentence = f"the server refused {told}"
        for_good = all(code >= PERMANENT for code, _said in refused.values())
        if taken and for_good:  # the others have it
            return Outcome(refused=self._told(sentence))
        return self._failed(sentence, hopeless=for_good)

    def _failed(self, sentence: str, *, hopeless: bool = False) -> Outcome:
        return Outcome(error=self._told(sentence), hopeless=hopeless)

    def _told(self, sentence: str) -> str:
        return hide(sentence, self._secrets)


def _shut(session: smtplib.SMTP) -> None:
    """End a session under the thread that waits in it; a TLS socket knows nothing of it."""
    if session.sock is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(session.sock, socket.SHUT_RDWR)


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _spellings(user: str | None, password: str | None) -> tuple[str, ...]:
    """The password in all forms in which it may come back."""
    if not password:
        return ()
    plain = f"\0{user or ''}\0{password}".encode()
    encoded = [base64.b64encode(each).decode() for each in (plain, password.encode())]
    return (password, urllib.parse.quote(password, safe=""), *encoded)
