"""The channels that carry notifications, from the configuration."""

import collections.abc as cabc
import os
import secrets
import typing as t

from actors.channels import Carrier, ChannelError, ChannelSettings
from actors.notifier import Notifier
from config.channels import ChannelConfig
from config.errors import BadValueError, ConfigError, Problem
from config.kinds import ChannelUrl
from config.load import load_config
from config.model import Config
from daemon.errors import StartError
from storage.api import Storage
from storage.notifications import ChannelRule, NotificationKind, Severity

KINDS: t.Final[cabc.Mapping[str, tuple[NotificationKind, ...]]] = {
    "alert": (NotificationKind.ALERT, NotificationKind.RECOVERY),
    "report": (NotificationKind.REPORT,),
}

_jitter = secrets.SystemRandom()


def make_notifier(
    config: Config,
    storage: Storage,
    wall_clock: cabc.Callable[[], float],
    environ: cabc.Mapping[str, str] = os.environ,
) -> Notifier:
    """All channels; nothing runs yet.

    Raises:
        StartError: one cannot be used; says which, and why.
    """
    channels = []
    for channel in config.channels:
        try:
            channels.append(_channel(config, channel, environ))
        except ChannelError as error:
            raise StartError(f"channel {channel.name}: {error}") from None
    return Notifier(channels, storage, wall_clock=wall_clock, uniform=_jitter.random)


def load_checked(path: t.Any, environ: cabc.Mapping[str, str]) -> Config:
    """The configuration, its channels included.

    Raises:
        ConfigError: with every problem; those of channels come after all others are solved.
    """
    config = load_config(path, environ)
    if problems := channel_problems(config, environ):
        raise ConfigError(problems)
    return config


def channel_problems(config: Config, environ: cabc.Mapping[str, str]) -> list[Problem]:
    """Why channels of a configuration cannot be used."""
    problems = []
    for number, channel in enumerate(config.channels, start=1):
        try:
            _channel(config, channel, environ)
        except ChannelError as error:
            place, message = str(config.path or "defaults"), f"{channel.name}: {error}"
            problems.append(Problem(where=place, key=f"channels[{number}]", message=message))
    return problems


def _channel(
    config: Config, channel: ChannelConfig, environ: cabc.Mapping[str, str]
) -> tuple[ChannelSettings, Carrier]:
    """One channel, and what its URL stands for.

    Raises:
        ChannelError: it cannot be used.
    """
    from actors.channel_services import make_carrier  # apprise is large: only who has channels

    settings = ChannelSettings(
        rule=ChannelRule(
            name=channel.name,
            kinds=frozenset(kind for word in channel.kinds for kind in KINDS[word]),
            severity=Severity(channel.severity.value),
            connections=frozenset(channel.connections) or None,
        ),
        url=_url(config, channel, environ),
        language=channel.language.value,
        timeout=channel.timeout,
        attempts=channel.attempts,
        ca_file=config.channel_ca_file(channel),
    )
    return settings, make_carrier(settings)


def _url(config: Config, channel: ChannelConfig, environ: cabc.Mapping[str, str]) -> str:
    """The URL, wherever it stands.

    Raises:
        ChannelError: it is not there, or is none.
    """
    if channel.url_variable:
        url = environ.get(channel.url_variable, "").strip()
        if not url:
            raise ChannelError(f"the environment variable {channel.url_variable} is not set")
        return _checked(url, f"the environment variable {channel.url_variable}")
    if (file := config.channel_url_file(channel)) is not None:
        try:
            url = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ChannelError(
                f"{file} cannot be read: {reason}; put the URL there, readable by the daemon's user"
            ) from None
        return _checked(url, str(file))
    return channel.url


def _checked(url: str, place: str) -> str:
    """A URL as the configuration itself could hold it.

    Raises:
        ChannelError: it is none; without its text, which may be a secret.
    """
    try:
        checked = ChannelUrl().read(url)
    except BadValueError:
        checked = ""
    if not checked:
        raise ChannelError(
            f"{place} does not hold a URL such as mailtos://user:password@smtp.example.com?to=…, on"
            " one line and without spaces"
        )
    return checked
