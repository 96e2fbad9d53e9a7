"""Addresses: people, their devices, groups and the server."""

import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError

SERVER: t.Final = "s.whatsapp.net"
LID_SERVER: t.Final = "lid"
GROUP_SERVER: t.Final = "g.us"
BROADCAST_SERVER: t.Final = "broadcast"
NEWSLETTER_SERVER: t.Final = "newsletter"
HOSTED_SERVER: t.Final = "hosted"
HOSTED_LID_SERVER: t.Final = "hosted.lid"
LEGACY_SERVER: t.Final = "c.us"

MAX_JID_LENGTH: t.Final = 512

_BASE_SERVER: t.Final = {
    LEGACY_SERVER: SERVER,
    HOSTED_SERVER: SERVER,
    HOSTED_LID_SERVER: LID_SERVER,
}
_SIGNAL_SUFFIX: t.Final = {LID_SERVER: "_1", HOSTED_SERVER: "_128", HOSTED_LID_SERVER: "_129"}
_SIGNAL_SERVER: t.Final = {suffix[1:]: server for server, suffix in _SIGNAL_SUFFIX.items()}


@attrs.frozen
class Jid:
    """One address, ``user[:device]@server``; ``user`` is empty for a server itself.

    Source: docs/protocol.md#jids
    """

    user: str
    server: str
    device: int = 0

    @classmethod
    def parse(cls, text: str) -> "Jid":
        """Read the text form.

        Raises:
            RemoteProtocolError: no server, a device that is not a number up to 65535, or too long.
        """
        if len(text) > MAX_JID_LENGTH:
            raise RemoteProtocolError(f"JID of {len(text)} characters")
        user, at, server = text.rpartition("@")
        if not at:
            return cls("", _required_server(text))
        name, colon, device = user.partition(":")
        if not colon:
            return cls(name, _required_server(server))
        if not (device.isascii() and device.isdigit() and int(device) <= 0xFFFF):
            raise RemoteProtocolError(f"JID device {device[:8]!r} is not a number up to 65535")
        return cls(name, _required_server(server), int(device))

    def __str__(self) -> str:
        if not self.user:
            return self.server
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}"

    @property
    def bare(self) -> "Jid":
        """The account behind a device, in its own address family (hosted ones folded in)."""
        return Jid(self.user, _BASE_SERVER.get(self.server, self.server))

    def with_device(self, device: int) -> "Jid":
        """The same account's ``device``."""
        return attrs.evolve(self, device=device)

    @property
    def signal_name(self) -> str:
        """The name part of the Signal address: user, and a suffix per address family."""
        return self.user + _SIGNAL_SUFFIX.get(self.server, "")

    @property
    def signal_address(self) -> str:
        """``name.device``: the key of sessions and identities."""
        return f"{self.signal_name}.{self.device}"

    @property
    def is_lid(self) -> bool:
        """Whether this is a hidden (LID) address."""
        return self.server in (LID_SERVER, HOSTED_LID_SERVER)

    @property
    def is_person(self) -> bool:
        """Whether a person or a business stands behind it, by number or LID."""
        return self.server in (SERVER, LID_SERVER, LEGACY_SERVER, HOSTED_SERVER, HOSTED_LID_SERVER)

    @property
    def is_group(self) -> bool:
        """Whether this is a group."""
        return self.server == GROUP_SERVER

    @property
    def is_broadcast(self) -> bool:
        """Whether this is a broadcast list or the status feed."""
        return self.server == BROADCAST_SERVER

    @property
    def is_newsletter(self) -> bool:
        """Whether this is a channel."""
        return self.server == NEWSLETTER_SERVER


def _required_server(server: str) -> str:
    if not server:
        raise RemoteProtocolError("JID without a server")
    return server


SERVER_JID: t.Final = Jid("", SERVER)
STATUS_BROADCAST: t.Final = Jid("status", BROADCAST_SERVER)


def account_of(signal_address: str) -> Jid:
    """Whose device a Signal address means; see :attr:`Jid.signal_address` and :attr:`Jid.bare`."""
    name = signal_address.partition(".")[0]
    user, _, suffix = name.partition("_")
    return Jid(user, _SIGNAL_SERVER.get(suffix, SERVER)).bare
