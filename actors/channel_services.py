"""Channels from their URLs, which apprise reads; and the services that apprise itself sends to.

apprise says what went wrong in its log only, and there beside tokens. So its log goes nowhere but
to the call that is running; of what it said, the warnings are told, without any part of the URL.
"""

import contextlib
import contextvars
import logging
import re
import typing as t
import urllib.parse
import warnings

from actors.channel_mail import MailCarrier, MailSettings
from actors.channels import Attempt, Carrier, ChannelError, ChannelSettings, Letter, Outcome, hide
from actors.mail_message import Envelope, Mailbox
from storage.notifications import NotificationKind, Severity

with warnings.catch_warnings():
    # It, and what it finds installed, import modules that newer Pythons deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    import apprise
    import apprise.plugins.email.base as apprise_email
    import apprise.utils.parse

    _services: t.Any = apprise.plugins.N_MGR
    _services.load_modules()

SHORTEST: t.Final = 4  # characters of a part of a URL that may be secret
REMARKS: t.Final = 10  # of apprise, that are kept of one call
MAIL: t.Final = frozenset({"mailto", "mailtos"})
MAIL_FORM: t.Final = (
    "write it like mailtos://user:password@smtp.example.com?to=somebody@example.com, and an @ in"
    " user or password as %40"
)
_SCHEMA: t.Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,20}(?=://)")
"""The name of a service; what is anything else may be a secret, and is not shown."""
NOT_PERSONAL: t.Final = frozenset({"http", "https", "true", "false", "yes", "html", "text"})

_remarks: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
    "apprise_remarks", default=None
)


class _Listener(logging.Handler):
    """Keeps what apprise says for the call that is running."""

    def emit(self, record: logging.LogRecord) -> None:
        heard = _remarks.get()
        if heard is not None and len(heard) < REMARKS:
            heard.append(record.getMessage())


def _quiet() -> None:
    """Keep what apprise, and what it speaks HTTP with, say out of our log: it holds secrets."""
    for name, handler in (("apprise", _Listener()), ("urllib3", logging.NullHandler())):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


@contextlib.contextmanager
def _listening() -> t.Iterator[list[str]]:
    heard: list[str] = []
    token = _remarks.set(heard)
    try:
        yield heard
    finally:
        _remarks.reset(token)


def make_carrier(settings: ChannelSettings) -> Carrier:
    """What the URL of a channel stands for.

    Raises:
        ChannelError: it stands for nothing, or its recipients are none.
    """
    _quiet()
    url = settings.url
    if not _SCHEMA.match(url):
        raise ChannelError("it is no URL; one begins with its service, like mailtos:// or tgram://")
    if _schema(url) in MAIL:
        _check_mail(url)
    with _listening() as heard:
        try:
            plugin = apprise.Apprise.instantiate(url, asset=_asset())
        except Exception as error:  # of any plugin; what it says may hold secrets
            raise ChannelError(_unusable(url, [type(error).__name__])) from None
    if plugin is None or heard:
        raise ChannelError(_unusable(url, heard))
    if type(plugin) is apprise_email.NotifyEmail:
        return MailCarrier(_mail_settings(plugin, settings))
    if settings.ca_file is not None:
        raise ChannelError("ca_file is for mail only")
    return ServiceCarrier(plugin, url, settings.timeout)


def _asset() -> apprise.AppriseAsset:
    return apprise.AppriseAsset(
        app_id="zapvisor",
        app_desc="zapvisor",
        image_url_mask="",
        image_url_logo="",
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )


def _unusable(url: str, heard: list[str]) -> str:
    schema = _schema(url)
    if schema not in _services.schemas():
        known = "mailtos, mailto, tgram, slack, ntfy, and those of https://appriseit.com/services/"
        return f"no service is called {schema}://; known are {known}"
    if not _services[schema].enabled:
        return f"{schema}:// does not work on this system: it needs a package that is not here"
    said = [each for each in heard if "://" not in each]  # apprise shows parts of the URL there
    told = hide("; ".join(said), _parts(url)) or "it is not of the form that this service needs"
    return f"the URL of {schema}:// cannot be used: {told}"


def _mail_settings(plugin: t.Any, settings: ChannelSettings) -> MailSettings:
    def boxes(addresses: t.Iterable[str]) -> tuple[Mailbox, ...]:
        return tuple(Mailbox(address=each, name=plugin.names.get(each) or "") for each in addresses)

    if not plugin.smtp_host or not 0 < plugin.port < 65536:
        raise ChannelError(f"the URL of the mail names no server that there can be; {MAIL_FORM}")
    if not plugin.targets:
        raise ChannelError("the URL of the mail names no recipient; say &to=somebody@example.com")
    if plugin.pgp_mode != "no":
        raise ChannelError("mail is not encrypted with PGP here; leave pgp= out of its URL")
    name, address = plugin.from_addr
    return MailSettings(
        host=plugin.smtp_host,
        port=plugin.port,
        security=plugin.secure_mode,
        user=plugin.user,
        password=plugin.password,
        verify=plugin.verify_certificate,
        ca_file=settings.ca_file,
        envelope=Envelope(
            sender=Mailbox(
                address=address, name="zapvisor" if not name or name == plugin.app_id else name
            ),
            to=tuple(Mailbox(address=each, name=name or "") for name, each in plugin.targets),
            cc=boxes(sorted(plugin.cc)),
            hidden=boxes(sorted(plugin.bcc)),
            reply_to=boxes(sorted(plugin.reply_to)),
            headers=tuple(plugin.headers.items()),
        ),
    )


def _schema(url: str) -> str:
    return url.partition("://")[0].lower()


def _check_mail(url: str) -> None:
    """What apprise would misunderstand, or leave out silently.

    Raises:
        ChannelError: there is such a thing.
    """
    server = re.split("[/?]", url.partition("://")[2])[0]
    if server.count("@") > 1:
        raise ChannelError(f"the URL of the mail holds more than one @; {MAIL_FORM}")
    is_email: t.Any = apprise.utils.parse.is_email
    for name, value in urllib.parse.parse_qsl(url.partition("?")[2]):
        if name.lower() not in ("to", "cc", "bcc"):
            continue
        for number, each in enumerate(filter(str.strip, re.split("[,;]", value)), start=1):
            if not is_email(each.strip()):
                raise ChannelError(
                    f"number {number} of {name}= in the URL of the mail is no e-mail address"
                )


class ServiceCarrier:
    """Sends through a service that apprise knows."""

    def __init__(self, plugin: t.Any, url: str, timeout: float) -> None:
        self._plugin = plugin
        self._secrets = _parts(url)
        plugin.socket_connect_timeout = min(plugin.socket_connect_timeout, timeout)
        plugin.socket_read_timeout = max(plugin.socket_read_timeout, timeout / 2)
        if plugin.overflow_mode == apprise.OverflowMode.UPSTREAM:  # nothing else was asked for
            plugin.overflow_mode = apprise.OverflowMode.SPLIT

    @property
    def service(self) -> str:
        """Its name."""
        return str(self._plugin.service_name)

    def send(self, letter: Letter, attempt: Attempt) -> Outcome:
        """See :class:`actors.channels.Carrier`."""
        if attempt.abandoned:
            return Outcome(error="abandoned")
        with _listening() as heard:
            try:
                sent = self._plugin.notify(
                    title=letter.content.subject,
                    body=letter.content.text,
                    notify_type=_kind(letter),
                    body_format=apprise.NotifyFormat.TEXT,
                )
            except Exception as error:  # of any plugin; what it says may hold secrets
                return Outcome(error=f"{self.service} failed: {type(error).__name__}")
        if sent:
            return Outcome()
        said = hide("; ".join(heard), self._secrets) or "it did not say why"
        return Outcome(error=f"{self.service}: {said}")


def _kind(letter: Letter) -> apprise.NotifyType:
    if letter.kind is NotificationKind.RECOVERY:
        return apprise.NotifyType.SUCCESS
    if letter.kind is not NotificationKind.ALERT:
        return apprise.NotifyType.INFO
    return {
        Severity.INFO: apprise.NotifyType.INFO,
        Severity.WARNING: apprise.NotifyType.WARNING,
        Severity.CRITICAL: apprise.NotifyType.FAILURE,
    }[letter.severity]


def _parts(url: str) -> frozenset[str]:
    """All of a URL that may be secret, as written and as meant; one cannot know which part is."""
    rest = url.partition("://")[2]
    head, _, query = rest.partition("?")
    pieces = [url, rest]
    for piece in head.replace("@", "/").split("/"):
        pieces += [piece, *piece.split(":")]
    for _name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        pieces += [value, *value.replace(",", " ").split()]
    meant = [urllib.parse.unquote(each) for each in pieces]
    spelled = [urllib.parse.quote(each, safe="") for each in meant]
    return frozenset(
        each
        for each in (*pieces, *meant, *spelled)
        if len(each) >= SHORTEST and each.lower() not in NOT_PERSONAL
    )
