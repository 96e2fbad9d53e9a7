"""What must hold between keys, once each of them is good by itself."""

import collections.abc as cabc
import ipaddress
import typing as t
import urllib.parse

import attrs

from config.durations import format_duration
from config.model import Config

SOCKET_PATH_LIMIT: t.Final = 107
"""The longest path of a unix socket on Linux, in bytes."""
WHATSAPP_HOST: t.Final = "web.whatsapp.com"


@attrs.frozen
class Rule:
    """A condition over keys; not looked at while one of them is bad by itself."""

    keys: tuple[tuple[str, str], ...]
    """The first one that is written down is blamed."""
    holds: cabc.Callable[[Config], bool]
    message: cabc.Callable[[Config], str]


def _not_above(section: str, low: str, high: str, *, in_section: str | None = None) -> Rule:
    """A duration may not exceed another one."""
    other = in_section or section

    def values(config: Config) -> tuple[float, float]:
        return getattr(getattr(config, section), low), getattr(getattr(config, other), high)

    def message(config: Config) -> str:
        low_text, high_text = (format_duration(value) for value in values(config))
        return f'{low} ("{low_text}") is longer than {other}.{high} ("{high_text}")'

    def holds(config: Config) -> bool:
        low_value, high_value = values(config)
        return low_value <= high_value

    return Rule(((section, low), (other, high)), holds, message)


def _socket_length(config: Config) -> int:
    return len(str(config.control_socket).encode())


def _is_own_root_key_for_whatsapp(config: Config) -> bool:
    host = urllib.parse.urlsplit(config.whatsapp.url).hostname
    return bool(config.whatsapp.root_key) and host == WHATSAPP_HOST


def _is_loopback(config: Config) -> bool:
    """Nowhere is as good as the loopback."""
    if config.http.address is None:
        return True
    host, _port = config.http.address
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


RULES: t.Final = (
    _not_above("supervision", "backoff_initial", "backoff_max"),
    _not_above("supervision", "heartbeat_interval", "heartbeat_timeout"),
    _not_above("supervision", "stop_timeout", "shutdown_timeout", in_section="daemon"),
    Rule(
        (("writer", "in_flight"), ("writer", "mailbox")),
        lambda config: config.writer.in_flight <= config.writer.mailbox,
        lambda config: (
            f"in_flight ({config.writer.in_flight}) is more than "
            f"the mailbox ({config.writer.mailbox}) can hold"
        ),
    ),
    Rule(
        (("whatsapp", "root_key"), ("whatsapp", "url")),
        lambda config: not _is_own_root_key_for_whatsapp(config),
        lambda config: f"a root key of your own is for the simulator, not for {WHATSAPP_HOST}",
    ),
    Rule(
        (("media", "s3_access_key"), ("media", "s3_secret_key")),
        lambda config: bool(config.media.s3_access_key) == bool(config.media.s3_secret_key),
        lambda config: "s3_access_key and s3_secret_key go together",
    ),
    Rule(
        (("media", "s3_endpoint"), ("media", "s3_access_key"), ("media", "s3_bucket")),
        lambda config: (
            bool(config.media.s3_bucket)
            or not (config.media.s3_endpoint or config.media.s3_access_key)
        ),
        lambda config: "files only go to S3 once s3_bucket names a bucket",
    ),
    Rule(
        (("export", "s3_access_key"), ("export", "s3_secret_key")),
        lambda config: bool(config.export.s3_access_key) == bool(config.export.s3_secret_key),
        lambda config: "s3_access_key and s3_secret_key go together",
    ),
    Rule(
        (("export", "s3_endpoint"), ("export", "s3_access_key"), ("export", "s3_bucket")),
        lambda config: (
            bool(config.export.s3_bucket)
            or not (config.export.s3_endpoint or config.export.s3_access_key)
        ),
        lambda config: "exports only go to S3 once s3_bucket names a bucket",
    ),
    Rule(
        (("nats", "user"), ("nats", "password"), ("nats", "token")),
        lambda config: (
            bool(config.nats.user) == bool(config.nats.password)
            and not (config.nats.user and config.nats.token)
        ),
        lambda config: "either user and password, or a token",
    ),
    Rule(
        (("control", "socket"), ("daemon", "data_dir")),
        lambda config: _socket_length(config) <= SOCKET_PATH_LIMIT,
        lambda config: (
            f"the path of the control socket has {_socket_length(config)} bytes, "
            f"and the system allows {SOCKET_PATH_LIMIT}: {config.control_socket}"
        ),
    ),
    Rule(
        (("http", "listen"), ("http", "allow_remote")),
        lambda config: config.http.allow_remote or _is_loopback(config),
        lambda config: (
            f'"{config.http.listen}" can be reached from outside this machine, and tokens and '
            "messages would cross the network unencrypted; listen on 127.0.0.1 behind a proxy "
            "that speaks TLS, or say allow_remote = true if this network is as safe as that"
        ),
    ),
)
