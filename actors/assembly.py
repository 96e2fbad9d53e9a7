"""From the configuration to the writer and the fleet."""

import collections.abc as cabc
import importlib.metadata
import secrets
import ssl
import time
import typing as t

import attrs

from actors.actions import Actions
from actors.admission import Admission, AdmissionSettings
from actors.fleet import Fleet, FleetSettings, Member
from actors.hearing_words import HearingSettings
from actors.media import MediaSettings
from actors.media_http import HttpSettings, MediaHttp
from actors.media_phone import PhoneSettings
from actors.media_tunnel import TunnelTransport
from actors.monitor import Limits
from actors.outage import OutageSettings
from actors.pacing import Pace
from actors.proxy import Proxy
from actors.services import Outside, Services, history_filter
from actors.settings import ConnectionSettings, Tools
from actors.transport import Dial, websocket_dialer
from actors.version import LookUp, web_look_up
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from config.model import Config
from config.retention import RetentionWhat
from storage.api import ConnectionRow, ConversationRules, ReopenFrom, Storage
from storage.blobs import S3Settings, open_blobs
from storage.erasure import Rule
from supervisor.wakefulness import Wakefulness
from whatsapp.certificates import PRODUCTION_ROOT_KEY

_jitter: t.Final = secrets.SystemRandom()


def make_writer(config: Config, storage: Storage) -> Writer:
    """The writer over ``storage``; its mailbox outlives its restarts."""
    inbox = writer_inbox(config.writer.mailbox, config.writer.mailbox_bytes)
    settings = WriterSettings(
        batch_messages=config.writer.batch_messages,
        batch_bytes=config.writer.batch_bytes,
        retry_max=config.writer.retry_max,
    )
    return Writer(storage, inbox, settings, _jitter.random)


def make_services(
    config: Config,
    storage: Storage,
    writer: Writer,
    wall_clock: cabc.Callable[[], float] = time.time,  # noqa: TID251 - this is the edge
    deleting_clock: cabc.Callable[[], float] | None = None,
) -> Services:
    """The services beside the connections; bind them to the fleet before they run.

    Raises:
        OSError: a file of certificates cannot be read.
    """
    directory = config.media_directory
    http = HttpSettings(
        spool=directory / "tmp",
        hosts=config.media.hosts,
        ca_file=config.media_ca_file,
        proxy=Proxy.parse(config.whatsapp.proxy),
        proxies=media_proxies(config),
    )
    outside = Outside(
        storage=storage,
        writer=writer,
        blobs=open_blobs(directory, bucket_of_media(config)),
        http=lambda lines: MediaHttp(http, lines=lines, random=secrets.token_bytes),
        wall_clock=wall_clock,
        deleting_clock=deleting_clock,
        random=secrets.token_bytes,
        uniform=_jitter.random,
    )
    media = config.media
    return Services(
        outside,
        MediaSettings(
            download=media.download,
            kinds=frozenset(media.kinds),
            max_size=media.max_size,
            concurrency=media.concurrency,
            retention=media.retention,
            phone=PhoneSettings(ask=media.ask_phone),
        ),
        history_wanted=history_filter(config.history.groups),
        keep_payloads=config.sending.keep_payloads,
        keep_events=config.storage.keep_events,
        keep_stream=config.events.keep,
        keep_accesses=config.history_access.keep,
        retention=retention_rules(config),
        version=importlib.metadata.version("zapvisor"),
    )


def retention_rules(config: Config) -> tuple[Rule, ...]:
    """The rules of retention, in the order of the configuration."""
    return tuple(
        Rule(
            kinds=None if "*" in each.kinds else each.kinds,
            files_only=each.what is RetentionWhat.MEDIA,
            after=each.after,
            live=each.live,
            connections=each.connections,
            text=each.text,
        )
        for each in config.retention
    )


def media_proxies(config: Config) -> dict[str, Proxy | None]:
    """The way that the files of each connection take."""
    return {each.name: Proxy.parse(config.proxy_for(each.name)) for each in config.connections}


def make_actions(
    fleet: Fleet,
    services: Services,
    storage: Storage,
    wall_clock: cabc.Callable[[], float] = time.time,  # noqa: TID251 - this is the edge
) -> Actions:
    """What the API may ask of connections and services."""
    return Actions(fleet, services, storage, wall_clock, secrets.token_bytes)


def bucket_of_media(config: Config) -> S3Settings | None:
    """The S3 store of files of messages; None: they are on the disk."""
    media = config.media
    if not media.s3_bucket:
        return None
    return S3Settings(
        bucket=media.s3_bucket,
        prefix=media.s3_prefix,
        endpoint=media.s3_endpoint,
        region=media.s3_region,
        access_key=media.s3_access_key,
        secret_key=media.s3_secret_key,
        ca_file=config.media_ca_file,
    )


async def make_fleet(
    config: Config,
    storage: Storage,
    writer: Writer,
    services: Services | None = None,
    dial: Dial | None = None,
    *,
    wall_clock: cabc.Callable[[], float] = time.time,  # noqa: TID251 - this is the edge
    wakefulness: Wakefulness | None = None,
) -> Fleet:
    """All configured connections, none of them running yet.

    ``dial`` takes the place of the configured WebSocket address, for tests.

    Raises:
        StorageError: the rows of the connections can be neither read nor written.
    """
    tools = Tools(
        storage=storage,
        writer=writer.inbox,
        dial=dial or _dialer(config, config.whatsapp.proxy),
        wall_clock=wall_clock,
        random=secrets.token_bytes,
        uniform=_jitter.random,
        wakefulness=wakefulness or Wakefulness(),
    )
    tools = attrs.evolve(tools, admission=_admission(config, tools))
    if services is not None:
        tools = attrs.evolve(tools, files=services.files, came_online=services.came_online)
    for connection in config.connections:
        await storage.ensure_connection(
            connection.name, conversation_rules(config, connection.name)
        )
    rows = {row.name: row for row in await storage.connections()}
    members = [
        make_member(config, connection.name, tools, rows[connection.name])
        for connection in config.connections
    ]
    fleet = Fleet(members, tools)
    writer.listeners.append(fleet.committed)
    return fleet


def fleet_settings(config: Config) -> FleetSettings:
    """How connections are supervised."""
    supervision = config.supervision
    return FleetSettings(
        retry_limit=supervision.retry_limit,
        backoff_initial=supervision.backoff_initial,
        backoff_max=supervision.backoff_max,
        stable_after=supervision.stable_after,
        park_interval=supervision.park_interval or None,
        stop_timeout=supervision.stop_timeout,
    )


def _admission(config: Config, tools: Tools) -> Admission:
    supervision, whatsapp = config.supervision, config.whatsapp
    return Admission(
        AdmissionSettings(
            handshakes=supervision.handshakes,
            outage=OutageSettings(
                connections=supervision.outage_connections,
                share=supervision.outage_percent / 100,
                window=supervision.outage_window,
            ),
            trial_interval=supervision.park_interval or None,
        ),
        wall_clock=tools.wall_clock,
        uniform=tools.uniform,
        look_up=_look_up(config) if whatsapp.version_lookup else None,
    )


def _look_up(config: Config) -> LookUp:
    proxy = Proxy.parse(config.whatsapp.proxy)
    if proxy is None:
        return web_look_up(config.whatsapp.version_url)
    return web_look_up(
        config.whatsapp.version_url, lambda: TunnelTransport(proxy, ssl.create_default_context())
    )


def _dialer(config: Config, proxy: str) -> Dial:
    return websocket_dialer(config.whatsapp.url, proxy=Proxy.parse(proxy))


def _own_way(config: Config, name: str, tools: Tools) -> Tools:
    """The same tools, through the proxy of one connection if it is another one."""
    proxy = config.proxy_for(name)
    if proxy == config.whatsapp.proxy:
        return tools
    return attrs.evolve(tools, dial=_dialer(config, proxy))


def conversation_rules(config: Config, name: str) -> ConversationRules:
    """How the messages of one connection find their conversation."""
    rules = config.conversations_for(name)
    return ConversationRules(
        reopen_window=rules.reopen_window,
        reopen_from=ReopenFrom(rules.reopen_from.value),
        team_reopens=rules.team_reopens,
    )


def connection_settings(config: Config, name: str) -> ConnectionSettings:
    """What one connection is configured with."""
    supervision, whatsapp = config.supervision, config.whatsapp
    rules = config.conversations_for(name)
    return ConnectionSettings(
        version=whatsapp.version_numbers,
        device_name=whatsapp.device_name,
        root_key=whatsapp.root_key_bytes or PRODUCTION_ROOT_KEY,
        heartbeat_interval=supervision.heartbeat_interval,
        heartbeat_timeout=supervision.heartbeat_timeout,
        monitor_interval=supervision.monitor_interval,
        connect_timeout=supervision.connect_timeout,
        in_flight=config.writer.in_flight,
        limits=Limits(silence=2 * (supervision.heartbeat_interval + supervision.heartbeat_timeout)),
        hearing=HearingSettings(
            enabled=supervision.deaf_detection,
            shortest=supervision.deaf_after,
            checkup=supervision.deaf_checkup,
            resets_per_day=supervision.deaf_resets,
        ),
        groups=rules.groups,
        status_broadcasts=rules.status_broadcasts,
        newsletters=rules.newsletters,
        pace=Pace(gap=config.sending.gap, per_minute=config.sending.per_minute),
        send_timeout=config.sending.ack_timeout,
        full_history=config.history.full,
    )


def make_member(config: Config, name: str, tools: Tools, row: ConnectionRow) -> Member:
    """One configured connection, not running."""
    tools = _own_way(config, name, tools)
    member = Member(name, connection_settings(config, name), tools, fleet_settings(config), row)
    table = config.connection(name)
    member.wanted = member.wanted and (table is None or table.autostart)
    return member
