"""The servers that a database URL names, one URL for each."""

import typing as t
import urllib.parse

import attrs


@attrs.frozen
class Host:
    """One server of the URL."""

    name: str  # for people: host and port, or the socket's directory; no password
    dsn: str = attrs.field(repr=False)


def split_hosts(dsn: str) -> tuple[Host, ...]:
    """The servers in the order of the URL; ``host=`` and ``port=`` in its query come first.

    ``postgresql://user@one:5432,two:5433/base`` names two.

    Raises:
        ValueError: it cannot be read, mostly for a password with signs of URLs in it. The text may
            quote it: not to be shown.
    """
    parts = urllib.parse.urlsplit(dsn)
    user, at, places = parts.netloc.rpartition("@")
    query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    named = _last(query, "host")
    if "@" in user or (not at and "@" in parts.path + parts.fragment) or "@" in (named or "")[1:]:
        raise ValueError("the password ends too early")
    if named is None:
        return tuple(
            Host(place or "localhost", _with(parts, netloc=f"{user}{at}{place}"))
            for place in places.split(",")
        )
    hosts, ports = named.split(","), (_last(query, "port") or "").split(",")
    if len(ports) not in (1, len(hosts)):
        return (Host(named, dsn),)  # the driver says what is wrong with it
    ports = ports * len(hosts) if len(ports) == 1 else ports
    rest = [(key, value) for key, value in query if key not in ("host", "port")]
    found = []
    for host, port in zip(hosts, ports, strict=True):
        own = [("host", host), *([("port", port)] if port else [])]
        name = f"{host}:{port}" if port else host
        found.append(Host(name, _with(parts, query=urllib.parse.urlencode([*rest, *own]))))
    return tuple(found)


def says(dsn: str, key: str) -> bool:
    """Whether the URL's query has the key."""
    return _last(urllib.parse.parse_qsl(urllib.parse.urlsplit(dsn).query), key) is not None


def split_password(dsn: str) -> tuple[str, str | None]:
    """The URL without its password, which so can be shown and put on a command line; and that."""
    parts = urllib.parse.urlsplit(dsn)
    user, at, places = parts.netloc.rpartition("@")
    name, colon, word = user.partition(":")
    query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    password = _last(query, "password")
    if password is None and colon:
        password = urllib.parse.unquote(word)
    rest = urllib.parse.urlencode([each for each in query if each[0] != "password"])
    return _with(parts, netloc=f"{name}{at}{places}", query=rest), password


def _last(query: list[tuple[str, str]], key: str) -> str | None:
    return next((value for name, value in reversed(query) if name == key), None)


def _with(parts: urllib.parse.SplitResult, **changes: t.Any) -> str:
    # ``geturl`` would drop the slashes of an empty host.
    parts = parts._replace(**changes)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"
