"""Notifications as e-mail: text, and HTML beside it; with headers that tell what made it."""

import collections.abc as cabc
import datetime as dt
import email.policy
import email.utils
import hashlib
import typing as t
from email.headerregistry import Address
from email.message import EmailMessage

import attrs

from storage.notifications import Content

SUBJECT_LENGTH: t.Final = 200  # characters
POLICY: t.Final = email.policy.SMTP.clone(cte_type="7bit")  # not all servers take 8 bits


@attrs.frozen(kw_only=True)
class Mailbox:
    """Somebody with an address."""

    address: str
    name: str = ""

    def header(self) -> Address:
        """As it stands in a header."""
        return Address(display_name=one_line(self.name), addr_spec=self.address)


@attrs.frozen(kw_only=True)
class Envelope:
    """Who writes to whom; ``hidden`` recipients are in no header."""

    sender: Mailbox
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    hidden: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()  # more of them

    @property
    def recipients(self) -> tuple[str, ...]:
        """The address of each, once."""
        everybody = (*self.to, *self.cc, *self.hidden)
        return tuple(dict.fromkeys(each.address for each in everybody))


def message_id(identity: str, sender: Mailbox) -> str:
    """The same for the same ``identity``: who gets a mail twice can tell."""
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"<{digest}@{sender.address.rpartition('@')[2]}>"


def make_mail(
    envelope: Envelope, content: Content, *, identity: str, written_at: dt.datetime
) -> bytes:
    """The mail as it goes over the wire.

    Raises:
        ValueError: an address or a header cannot be written.
    """
    mail = EmailMessage(policy=POLICY)
    for name, value in envelope.headers:
        mail[one_line(name)] = one_line(value)
    _head(mail, "From", [envelope.sender])
    _head(mail, "To", envelope.to)
    _head(mail, "Cc", envelope.cc)
    _head(mail, "Reply-To", envelope.reply_to)
    for name, value in (
        ("Subject", one_line(content.subject)[:SUBJECT_LENGTH]),
        ("Date", email.utils.format_datetime(written_at)),
        ("Message-ID", message_id(identity, envelope.sender)),
        ("Auto-Submitted", "auto-generated"),  # RFC 3834: nobody's holiday answers it
        ("X-Auto-Response-Suppress", "All"),  # Exchange's word for the same
    ):
        del mail[name]
        mail[name] = value
    mail.set_content(_plain(content.text))
    if content.html is not None:
        mail.add_alternative(_plain(content.html), subtype="html")
    return mail.as_bytes()


def _head(mail: EmailMessage, name: str, boxes: cabc.Sequence[Mailbox]) -> None:
    if boxes:
        del mail[name]
        mail[name] = [each.header() for each in boxes]


def one_line(text: str) -> str:
    """Without line breaks and what else cannot stand in a header."""
    return " ".join(_plain(text).split())


def _plain(text: str) -> str:
    """Without control characters and lone surrogates."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(each if each.isprintable() or each in "\n\t " else " " for each in text)
