"""What a phone knows of messages: those it read, those it keeps, and how its own are wrapped."""

import typing as t

import attrs

from simulator.model import Account
from simulator.replies import Attributes
from whatsapp.jid import Jid
from whatsapp.node import Node


@attrs.frozen
class Received:
    """One message a phone could read."""

    chat: Jid  # the peer's bare PN, or the group
    sender: Jid  # bare PN
    id: str
    kind: str
    text: str | None
    sent_at: int


@attrs.frozen
class Kept:
    """A message as the handset keeps it: what it shows, and can hand to its companions."""

    chat: Jid  # the peer's bare PN, or the group
    sender: Account
    id: str
    message: bytes = attrs.field(repr=False)  # the content, not wrapped for own devices
    sent_at: int


@attrs.frozen(kw_only=True)
class Wrapping:
    """How the stanza describes its content to the server."""

    type: str = "text"
    """``text``, ``media``, ``reaction``, ``poll``, ``event``."""
    mediatype: str | None = None
    """Of the ciphertexts: ``image``, ``ptt``, ``document``, …"""
    edit: str | None = None
    """``1`` edit, ``2`` pin, ``7`` revoke, ``8`` revoke by an administrator."""
    hidden: bool = False
    """Nothing is shown when it cannot be decrypted: reactions, votes, pins."""
    extra: tuple[Node, ...] = ()
    """Further children, such as ``<meta>``."""

    @property
    def enc(self) -> Attributes:
        """What every ciphertext says of itself."""
        return {
            "mediatype": self.mediatype,
            "decrypt-fail": "hide" if self.hidden else None,
        }


TEXT: t.Final = Wrapping()
