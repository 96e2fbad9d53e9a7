"""Which hosts take and give files, and the permission to put some there: from both sides.

Source: docs/protocol.md#media-connection
"""

import re
import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.node import Node, Value

XMLNS: t.Final = "w:m"
TAG: t.Final = "media_conn"

MAX_HOSTS: t.Final = 32
MAX_AUTH: t.Final = 4096  # characters
MAX_TTL: t.Final = 30 * 86_400  # seconds

_HOST_NAME: t.Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(:[0-9]{1,5})?")


@attrs.frozen(kw_only=True)
class MediaHost:
    """One server of files."""

    name: str  # perhaps with a port
    fallback: bool = False  # only if the others fail
    max_length: int | None = None  # bytes it takes; None: not told


@attrs.frozen(kw_only=True)
class MediaConnection:
    """What the server granted."""

    hosts: tuple[MediaHost, ...]  # in the server's order
    auth: str = attrs.field(repr=False)  # for uploads
    ttl: int  # seconds the hosts are valid for
    auth_ttl: int  # seconds the permission is valid for
    max_buckets: int = 0

    @property
    def host_names(self) -> tuple[str, ...]:
        """The hosts in the order to try them."""
        return tuple(host.name for host in sorted(self.hosts, key=lambda host: host.fallback))


def media_conn_request(iq_id: str) -> Node:
    """Asks for hosts and permission."""
    return core.set_(iq_id, XMLNS, Node(TAG))


def parse_media_conn(node: Node) -> MediaConnection:
    """The answer; hosts whose name is no host name are passed over.

    Raises:
        IqError: refused.
        RemoteProtocolError: malformed, or without any host.
    """
    granted = core.require_result(node).required_child(TAG)
    auth = granted.required_text("auth")
    if len(auth) > MAX_AUTH or not auth.isprintable():
        raise RemoteProtocolError("a media permission that is none")
    hosts = tuple(
        _parse_host(host, host.required_text("hostname"))
        for host in granted.children_named("host")[:MAX_HOSTS]
        if _HOST_NAME.fullmatch(host.required_text("hostname"))
    )
    if not hosts:
        raise RemoteProtocolError("a media connection without hosts")
    return MediaConnection(
        hosts=hosts,
        auth=auth,
        ttl=_seconds(granted, "ttl"),
        auth_ttl=_seconds(granted, "auth_ttl"),
        max_buckets=granted.integer("max_buckets") or 0,
    )


def _parse_host(node: Node, name: str) -> MediaHost:
    longest = node.integer("maxContentLengthBytes")
    return MediaHost(
        name=name,
        fallback=node.text("type") == "fallback",
        max_length=longest if longest is not None and longest > 0 else None,
    )


def _seconds(node: Node, key: str) -> int:
    return min(max(node.integer(key) or 0, 0), MAX_TTL)


# ---- the server's side


def is_media_conn_request(node: Node) -> bool:
    """Whether a client asks for hosts and permission."""
    asked = (node.tag, node.text("xmlns")) == ("iq", XMLNS)
    return asked and node.child(TAG) is not None


def media_conn_result(request: Node, granted: MediaConnection) -> Node:
    """The answer to it.

    Raises:
        RemoteProtocolError: the request has no id.
    """
    hosts = tuple(
        Node(
            "host",
            {
                "hostname": host.name,
                "type": "fallback" if host.fallback else "primary",
                "maxContentLengthBytes": host.max_length,
            },
        )
        for host in granted.hosts
    )
    attributes: dict[str, Value | int | None] = {
        "auth": granted.auth,
        "ttl": granted.ttl,
        "auth_ttl": granted.auth_ttl,
        "max_buckets": granted.max_buckets,
    }
    return core.result(request, Node(TAG, attributes, hosts))
