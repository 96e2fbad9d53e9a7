"""From the configuration to the writer and the fleet."""

import secrets
import time
import typing as t

from actors.fleet import Fleet, FleetSettings, Member
from actors.messages import WriterMail
from actors.monitor import Limits
from actors.settings import ConnectionSettings, Tools
from actors.transport import Dial, websocket_dialer
from actors.writer import Writer, WriterSettings
from config.model import Config
from storage.api import ConnectionRow, ConversationRules, ReopenFrom, Storage
from supervisor.mailbox import Mailbox
from whatsapp.certificates import PRODUCTION_ROOT_KEY

_jitter: t.Final = secrets.SystemRandom()


def make_writer(config: Config, storage: Storage) -> Writer:
    """The writer over ``storage``; its mailbox outlives its restarts."""
    inbox: Mailbox[WriterMail] = Mailbox(config.writer.mailbox)
    settings = WriterSettings(
        batch_messages=config.writer.batch_messages,
        batch_bytes=config.writer.batch_bytes,
        retry_max=config.writer.retry_max,
    )
    return Writer(storage, inbox, settings, _jitter.random)


async def make_fleet(
    config: Config, storage: Storage, writer: Writer, dial: Dial | None = None
) -> Fleet:
    """All configured connections, none of them running yet.

    ``dial`` takes the place of the configured WebSocket address, for tests.

    Raises:
        StorageError: the rows of the connections can be neither read nor written.
    """
    tools = Tools(
        storage=storage,
        writer=writer.inbox,
        dial=dial or websocket_dialer(config.whatsapp.url),
        wall_clock=time.time,  # noqa: TID251 - this is the edge
        random=secrets.token_bytes,
        uniform=_jitter.random,
    )
    for connection in config.connections:
        await storage.ensure_connection(
            connection.name, conversation_rules(config, connection.name)
        )
    rows = {row.name: row for row in await storage.connections()}
    supervision = config.supervision
    settings = FleetSettings(
        retry_limit=supervision.retry_limit,
        backoff_initial=supervision.backoff_initial,
        backoff_max=supervision.backoff_max,
        stable_after=supervision.stable_after,
        park_interval=supervision.park_interval or None,
        stop_timeout=supervision.stop_timeout,
    )
    members = [
        _member(config, connection.name, connection.autostart, tools, settings, rows)
        for connection in config.connections
    ]
    return Fleet(members, tools)


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
        groups=rules.groups,
        status_broadcasts=rules.status_broadcasts,
        newsletters=rules.newsletters,
    )


def _member(
    config: Config,
    name: str,
    autostart: bool,
    tools: Tools,
    supervision: FleetSettings,
    rows: dict[str, ConnectionRow],
) -> Member:
    member = Member(name, connection_settings(config, name), tools, supervision, rows[name])
    member.wanted = member.wanted and autostart
    return member
