"""The services that follow the events, from the configuration."""

import collections.abc as cabc
import secrets

from actors.event_services import EventServices
from actors.fleet import Fleet
from actors.nats_link import NatsSettings
from actors.webhook_post import WebhookSettings, signing_key
from config.events import WebhookConfig
from config.model import Config
from daemon.errors import StartError
from storage.api import Storage
from storage.events import expand_types

_jitter = secrets.SystemRandom()


def make_event_services(
    config: Config, storage: Storage, fleet: Fleet, wall_clock: cabc.Callable[[], float]
) -> EventServices:
    """All of them; nothing runs yet.

    Raises:
        StartError: the secret of a webhook is missing or too short.
    """
    return EventServices(
        storage,
        max_clients=config.events.clients,
        webhooks=[webhook_settings(config, each) for each in config.webhooks],
        nats=nats_settings(config),
        incidents=fleet.incidents,
        wall_clock=wall_clock,
        uniform=_jitter.random,
        random=secrets.token_bytes,
    )


def webhook_settings(config: Config, webhook: WebhookConfig) -> WebhookSettings:
    """One webhook, with its secret.

    Raises:
        StartError: see :func:`make_event_services`.
    """
    secret, place = webhook.secret, "its secret"
    if (file := config.webhook_secret_file(webhook)) is not None:
        place = f"the secret in {file}"
        try:
            secret = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(
                f"webhook {webhook.name}: {file} cannot be read: {error};"
                " put the secret there, readable by the daemon's user"
            ) from error
    try:
        key = signing_key(secret)
    except ValueError as error:
        raise StartError(f"webhook {webhook.name}: {place} cannot be used: {error}") from error
    return WebhookSettings(
        name=webhook.name,
        url=webhook.url,
        secret=key,
        patterns=webhook.types,
        types=_types(webhook.types),
        connections=frozenset(webhook.connections) or None,
        timeout=webhook.timeout,
        attempts=webhook.attempts,
        concurrency=webhook.concurrency,
    )


def nats_settings(config: Config) -> NatsSettings | None:
    """Where events are published; None: nowhere."""
    nats = config.nats
    if not nats.url:
        return None
    return NatsSettings(
        url=nats.url,
        user=nats.user,
        password=nats.password,
        token=nats.token,
        ca_file=config.nats_ca_file,
        subject=nats.subject,
        types=_types(nats.types),
        stream=nats.stream,
    )


def _types(patterns: tuple[str, ...]) -> frozenset[str] | None:
    return None if "*" in patterns else expand_types(patterns)
