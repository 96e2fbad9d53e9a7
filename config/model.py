"""The configuration as the program sees it: frozen, checked, in seconds and bytes.

``supervisor.toml`` at the root of the project is the reference for operators: it holds every
key with its default and its meaning. A test keeps the two alike.
"""

import enum
import typing as t
from pathlib import Path

import attrs

from config.alerts import AlertsConfig, MaintenanceConfig
from config.channels import ChannelConfig, ReportConfig
from config.events import EventsConfig, NatsConfig, WebhookConfig
from config.exports import ExportConfig
from config.kinds import ConnectionName, Count, Dsn, Duration, FilePath, ProxyUrl, Size, Text, Url
from config.listeners import ControlConfig, HttpConfig
from config.media import MediaConfig
from config.retention import RetentionConfig


class LogFormat(enum.Enum):
    """How log lines look."""

    AUTO = "auto"  # journald under systemd, text on a terminal, JSON elsewhere
    JSON = "json"
    TEXT = "text"
    JOURNALD = "journald"  # systemd's journal, with a field for each fact


class LogLevel(enum.Enum):
    """The least important log lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ReopenFrom(enum.Enum):
    """What the reopen window is counted from."""

    CLOSED_AT = "closed_at"
    LAST_MESSAGE = "last_message"


@attrs.frozen(kw_only=True)
class DaemonConfig:
    """``[daemon]``"""

    data_dir: t.Annotated[str, FilePath()] = "data"
    """As written; ``Config.data_dir`` is absolute."""
    shutdown_timeout: t.Annotated[float, Duration()] = 20.0  # seconds
    log_format: LogFormat = LogFormat.AUTO
    log_level: LogLevel = LogLevel.INFO


@attrs.frozen(kw_only=True)
class StorageConfig:
    """``[storage]``"""

    dsn: t.Annotated[str, Dsn()] = attrs.field(default="embedded", repr=False)
    """``embedded`` or a URL, which may hold a password."""
    key_file: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; ``Config.key_file`` is absolute."""
    pool_size: t.Annotated[int, Count(1, 1000)] = 5
    command_timeout: t.Annotated[float, Duration(0.1)] = 30.0  # seconds
    keep_events: t.Annotated[float, Duration(86400, 3650 * 86400)] = 34_560_000.0  # seconds

    @property
    def embedded(self) -> bool:
        """Whether the daemon runs its own PostgreSQL."""
        return self.dsn == "embedded"


@attrs.frozen(kw_only=True)
class WhatsAppConfig:
    """``[whatsapp]``"""

    url: t.Annotated[str, Url(("wss", "ws"))] = "wss://web.whatsapp.com/ws/chat"
    proxy: t.Annotated[str, ProxyUrl()] = attrs.field(default="", repr=False)
    root_key: t.Annotated[
        str, Text("64 hexadecimal digits, or empty", r"[0-9a-fA-F]{64}", allow_empty=True)
    ] = ""
    version: t.Annotated[
        str,
        Text('three numbers such as "2.3000.1047769893"', r"[0-9]{1,10}\.[0-9]{1,10}\.[0-9]{1,10}"),
    ] = "2.3000.1047769893"
    version_lookup: bool = True
    version_url: t.Annotated[str, Url(("https", "http"))] = "https://web.whatsapp.com/sw.js"
    device_name: t.Annotated[str, Text("1 to 64 characters", at_most=64)] = "zapvisor"

    @property
    def root_key_bytes(self) -> bytes | None:
        """The root key of the certificates; None stands for WhatsApp's own."""
        return bytes.fromhex(self.root_key) if self.root_key else None

    @property
    def version_numbers(self) -> tuple[int, int, int]:
        """The client version as numbers."""
        first, second, third = (int(part) for part in self.version.split("."))
        return first, second, third


@attrs.frozen(kw_only=True)
class SupervisionConfig:
    """``[supervision]``; durations in seconds"""

    heartbeat_interval: t.Annotated[float, Duration(at_most=600)] = 15.0
    heartbeat_timeout: t.Annotated[float, Duration(at_most=600)] = 20.0
    monitor_interval: t.Annotated[float, Duration(at_most=3600)] = 10.0
    connect_timeout: t.Annotated[float, Duration(at_most=3600)] = 60.0
    retry_limit: t.Annotated[int, Count(0, 10_000)] = 30
    backoff_initial: t.Annotated[float, Duration(at_most=3600)] = 1.0
    backoff_max: t.Annotated[float, Duration(at_most=86400)] = 60.0
    stable_after: t.Annotated[float, Duration(at_most=86400)] = 120.0
    park_interval: t.Annotated[float, Duration(at_least=0)] = 900.0
    """0 leaves a parked connection alone for good."""
    deaf_detection: bool = True
    deaf_after: t.Annotated[float, Duration(at_most=86400)] = 600.0
    deaf_checkup: t.Annotated[float, Duration(at_least=0, at_most=30 * 86400)] = 2 * 86400.0
    """0 leaves a silence alone that the usual traffic does not make suspicious."""
    deaf_resets: t.Annotated[int, Count(0, 1000)] = 4
    stop_timeout: t.Annotated[float, Duration(at_most=600)] = 5.0
    handshakes: t.Annotated[int, Count(1, 1000)] = 16
    outage_connections: t.Annotated[int, Count(1, 100_000)] = 3
    outage_percent: t.Annotated[int, Count(1, 100)] = 50
    outage_window: t.Annotated[float, Duration(at_most=600)] = 10.0


@attrs.frozen(kw_only=True)
class WriterConfig:
    """``[writer]``"""

    batch_messages: t.Annotated[int, Count(1, 10_000)] = 512
    batch_bytes: t.Annotated[int, Size(64 * 1024)] = 4 * 1024 * 1024
    mailbox: t.Annotated[int, Count()] = 4096  # envelopes
    mailbox_bytes: t.Annotated[int, Size(1024 * 1024)] = 64 * 1024 * 1024
    in_flight: t.Annotated[int, Count()] = 256  # envelopes of one connection
    retry_max: t.Annotated[float, Duration(at_most=3600)] = 10.0  # seconds


@attrs.frozen(kw_only=True)
class ConversationsConfig:
    """``[conversations]``"""

    reopen_window: t.Annotated[float, Duration(at_least=0, at_most=3650 * 86400)] = 86400.0
    reopen_from: ReopenFrom = ReopenFrom.CLOSED_AT
    team_reopens: bool = False
    groups: bool = True
    status_broadcasts: bool = False
    newsletters: bool = False


@attrs.frozen(kw_only=True)
class SendingConfig:
    """``[sending]``"""

    gap: t.Annotated[float, Duration(at_least=0, at_most=3600)] = 1.0  # seconds
    per_minute: t.Annotated[int, Count(1, 10_000)] = 30
    ack_timeout: t.Annotated[float, Duration(at_most=3600)] = 75.0  # seconds
    keep_payloads: t.Annotated[float, Duration(at_most=365 * 86400)] = 604_800.0  # seconds


@attrs.frozen(kw_only=True)
class HistoryConfig:
    """``[history]``"""

    full: bool = False
    """Whether the phone is asked for everything it has, when a device is linked."""
    groups: bool = True


@attrs.frozen(kw_only=True)
class HistoryAccessConfig:
    """``[history_access]``"""

    keep: t.Annotated[float, Duration(30 * 86400, 3650 * 86400)] = 34_560_000.0  # seconds


@attrs.frozen(kw_only=True)
class ConnectionConfig:
    """One ``[[connections]]`` table; what is None there follows ``[conversations]``."""

    name: t.Annotated[str, ConnectionName()]
    autostart: bool = True
    proxy: t.Annotated[str, ProxyUrl()] | None = attrs.field(default=None, repr=False)
    """None: the one of ``[whatsapp]``; empty: none."""
    reopen_window: t.Annotated[float, Duration(at_least=0, at_most=3650 * 86400)] | None = None
    reopen_from: ReopenFrom | None = None
    team_reopens: bool | None = None
    groups: bool | None = None


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration. ``Config()`` holds the defaults."""

    daemon: DaemonConfig = attrs.field(factory=DaemonConfig)
    storage: StorageConfig = attrs.field(factory=StorageConfig)
    whatsapp: WhatsAppConfig = attrs.field(factory=WhatsAppConfig)
    supervision: SupervisionConfig = attrs.field(factory=SupervisionConfig)
    writer: WriterConfig = attrs.field(factory=WriterConfig)
    conversations: ConversationsConfig = attrs.field(factory=ConversationsConfig)
    sending: SendingConfig = attrs.field(factory=SendingConfig)
    history: HistoryConfig = attrs.field(factory=HistoryConfig)
    media: MediaConfig = attrs.field(factory=MediaConfig)
    events: EventsConfig = attrs.field(factory=EventsConfig)
    nats: NatsConfig = attrs.field(factory=NatsConfig)
    alerts: AlertsConfig = attrs.field(factory=AlertsConfig)
    report: ReportConfig = attrs.field(factory=ReportConfig)
    export: ExportConfig = attrs.field(factory=ExportConfig)
    history_access: HistoryAccessConfig = attrs.field(factory=HistoryAccessConfig)
    control: ControlConfig = attrs.field(factory=ControlConfig)
    http: HttpConfig = attrs.field(factory=HttpConfig)
    webhooks: tuple[WebhookConfig, ...] = ()
    channels: tuple[ChannelConfig, ...] = ()
    maintenance: tuple[MaintenanceConfig, ...] = ()
    retention: tuple[RetentionConfig, ...] = ()
    connections: tuple[ConnectionConfig, ...] = ()
    path: Path | None = None
    """The file this was read from; None when there is none."""
    base_dir: Path = attrs.field(factory=Path.cwd)
    """What relative paths start from: the directory of the file, else the working directory."""

    @property
    def data_dir(self) -> Path:
        """Where the daemon keeps its data; absolute."""
        return self._absolute(self.daemon.data_dir)

    @property
    def key_file(self) -> Path:
        """The file of the key that seals secrets in the database; absolute."""
        written = self.storage.key_file
        return self._absolute(written) if written else self.data_dir / "secret.key"

    @property
    def control_socket(self) -> Path:
        """The unix socket of the command line; absolute."""
        written = self.control.socket
        return self._absolute(written) if written else self.data_dir / "control.sock"

    @property
    def media_directory(self) -> Path:
        """Where files of messages are kept, or pass through on their way to S3; absolute."""
        written = self.media.directory
        return self._absolute(written) if written else self.data_dir / "media"

    @property
    def media_ca_file(self) -> Path | None:
        """More certificates to trust when files are fetched; absolute. None: no more."""
        return self._absolute(self.media.ca_file) if self.media.ca_file else None

    @property
    def export_directory(self) -> Path:
        """Where exports go, or pass through on their way to S3; absolute."""
        written = self.export.directory
        return self._absolute(written) if written else self.data_dir / "exports"

    @property
    def export_ca_file(self) -> Path | None:
        """More certificates to trust for the S3 store of exports; absolute. None: no more."""
        return self._absolute(self.export.ca_file) if self.export.ca_file else None

    @property
    def nats_ca_file(self) -> Path | None:
        """More certificates to trust for NATS; absolute. None: no more."""
        return self._absolute(self.nats.ca_file) if self.nats.ca_file else None

    def webhook_secret_file(self, webhook: WebhookConfig) -> Path | None:
        """The file with the secret of a webhook; absolute. None: it is in the configuration."""
        return self._absolute(webhook.secret_file) if webhook.secret_file else None

    def channel_url_file(self, channel: ChannelConfig) -> Path | None:
        """The file with the URL of a channel; absolute. None: it is elsewhere."""
        return self._absolute(channel.url_file) if channel.url_file else None

    def channel_ca_file(self, channel: ChannelConfig) -> Path | None:
        """More certificates to trust for a channel; absolute. None: no more."""
        return self._absolute(channel.ca_file) if channel.ca_file else None

    def connection(self, name: str) -> ConnectionConfig | None:
        """The connection of this name, or None."""
        return next((each for each in self.connections if each.name == name), None)

    def conversations_for(self, name: str) -> ConversationsConfig:
        """The conversation rules of one connection: its own where it has any."""
        own = self.connection(name)
        if own is None:
            return self.conversations
        keys = ("reopen_window", "reopen_from", "team_reopens", "groups")
        changes = {key: getattr(own, key) for key in keys if getattr(own, key) is not None}
        return attrs.evolve(self.conversations, **changes)

    def proxy_for(self, name: str) -> str:
        """The proxy of one connection; empty: none."""
        own = self.connection(name)
        return self.whatsapp.proxy if own is None or own.proxy is None else own.proxy

    def _absolute(self, written: str) -> Path:
        return (self.base_dir.absolute() / Path(written).expanduser()).resolve()
