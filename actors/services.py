"""The services beside the connections: each is a supervised actor that works from durable rows.

A service never touches a connection but through its line, and waits when that is not online.
"""

import collections.abc as cabc
import functools
import typing as t

import attrs

from actors.addons import AddonResolver
from actors.eraser import Eraser
from actors.errors import UnknownConnectionError
from actors.history import HistoryImporter
from actors.housekeeping import Housekeeper
from actors.indexer import Indexer
from actors.line import ConnectionLine, Line
from actors.media import MediaKeeper, MediaSettings
from actors.media_http import MediaHttp
from actors.media_uploads import StoredUploads
from actors.retention import Retention
from actors.settings import Files
from actors.writer import Writer
from storage.api import Envelope, Outcome, Storage
from storage.blobs import Blobs
from storage.erasure import Rule
from storage.facts import HistoryOffered
from storage.inbox import ADDON_KINDS
from supervisor.spec import ChildSpec
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.node import Node


class Connections(t.Protocol):
    """What services need of the fleet."""

    def line(self, name: str) -> Line:
        """The way to WhatsApp of a connection."""
        ...

    def own_addresses(self, name: str) -> tuple[Jid, ...]:
        """The bare addresses of its account, the phone number first; empty: not known."""
        ...

    async def release_records(self, names: cabc.Iterable[str]) -> None:
        """Hold nothing in memory of sessions that were erased, on these connections."""
        ...


@attrs.frozen(kw_only=True)
class Outside:
    """The world of the services."""

    storage: Storage
    writer: Writer
    blobs: Blobs
    http: cabc.Callable[[cabc.Callable[[str], Line]], MediaHttp]
    """Makes the client, given the lines of the connections."""
    wall_clock: cabc.Callable[[], float]
    deleting_clock: cabc.Callable[[], float] | None = None
    """Says what is old enough to be deleted; more careful of jumps than the other one. None: it
    is the same."""
    random: cabc.Callable[[int], bytes]
    uniform: cabc.Callable[[], float]


class Services:
    """What works beside the connections: history, files, encrypted answers, search, housekeeping,
    erasing; bound to the fleet once it is there."""

    def __init__(
        self,
        outside: Outside,
        media: MediaSettings,
        *,
        history_wanted: cabc.Callable[[str, Jid], bool],
        keep_payloads: float,
        keep_events: float,
        keep_stream: float,
        keep_accesses: float,
        retention: cabc.Sequence[Rule] = (),
        version: str = "",
    ) -> None:
        """``keep_payloads``: seconds that sent messages can be encrypted again; ``keep_events``:
        seconds that transitions and statistics are kept; ``keep_stream``: those of the stream of
        events; ``keep_accesses``: those of the records of who looked at former content;
        ``version``: of the program."""
        self._outside = outside
        self.housekeeper = Housekeeper(
            outside.storage,
            outside.deleting_clock or outside.wall_clock,
            keep_payloads=keep_payloads,
            keep_events=keep_events,
            keep_stream=keep_stream,
            keep_accesses=keep_accesses,
        )
        self.indexer = Indexer(outside.storage)
        self._fleet: Connections | None = None
        self.http = outside.http(self._line)
        self.blobs = outside.blobs
        self.files = Files(
            fetch=self.http.fetch_small, upload=self._upload, answered=self._media_answered
        )
        self.addons = AddonResolver(outside.storage, self._own_addresses)
        self.history = HistoryImporter(
            outside.storage,
            outside.writer.low,
            self.http.fetch_small,
            self._own_addresses,
            outside.wall_clock,
            outside.uniform,
            wanted=history_wanted,
        )
        self.media = MediaKeeper(
            outside.storage,
            outside.blobs,
            self.http,
            lines=self._line,
            own_address=lambda name: next(iter(self._own_addresses(name)), None),
            settings=media,
            wall_clock=outside.wall_clock,
            random=outside.random,
            uniform=outside.uniform,
            deleting_clock=outside.deleting_clock,
        )
        self.eraser = Eraser(
            outside.storage, self.media.remove_erased, self._release_records, version
        )
        inbox = outside.writer.inbox
        self.retention = Retention(
            outside.storage,
            retention,
            self.media.remove_erased,
            outside.deleting_clock or outside.wall_clock,
            busy=lambda: inbox.places_taken > inbox.capacity // 8,
        )
        outside.writer.listeners.append(self._committed)

    def bind(self, fleet: Connections) -> None:
        """Tell which connections there are, before anything runs."""
        self._fleet = fleet

    def children(self) -> list[ChildSpec]:
        """One child of the daemon's tree for each service."""
        return [
            ChildSpec(id="history", start=self.history.run),
            ChildSpec(id="media", start=self.media.run),
            ChildSpec(id="addons", start=self.addons.run),
            ChildSpec(id="housekeeping", start=self.housekeeper.run),
            ChildSpec(id="search", start=self.indexer.run),
            ChildSpec(id="eraser", start=self.eraser.run),
            ChildSpec(id="retention", start=self.retention.run),
        ]

    def came_online(self, _connection: str) -> None:
        """What waited for a connection may go on."""
        self.history.wake()
        self.media.wake()

    def _committed(
        self, envelopes: cabc.Sequence[Envelope], outcomes: cabc.Sequence[Outcome]
    ) -> None:
        """Wake whoever has something to do now."""
        messages = [envelope.message for envelope in envelopes if envelope.message is not None]
        if messages:
            self.indexer.wake()
        if any(isinstance(fact, HistoryOffered) for each in envelopes for fact in each.facts):
            self.history.wake()
        if any(message.media is not None for message in messages):
            self.media.wake()
        if any(message.kind in (*ADDON_KINDS, "poll", "event") for message in messages):
            self.addons.wake()

    async def _upload(self, connection: str, file: str, kind: str) -> MediaSource:
        return await StoredUploads(self.blobs, self.http, self._line(connection))(file, kind)

    def _media_answered(self, connection: str, node: Node) -> None:
        self.media.media_answered(connection, node)

    def _line(self, name: str) -> Line:
        try:
            return self._bound().line(name)
        except UnknownConnectionError:
            return ConnectionLine(name)  # left the configuration with work to do: never online

    def _own_addresses(self, name: str) -> tuple[Jid, ...]:
        try:
            return self._bound().own_addresses(name)
        except UnknownConnectionError:
            return ()

    async def _release_records(self, names: cabc.Sequence[str]) -> None:
        await self._bound().release_records(names)

    def _bound(self) -> Connections:
        if self._fleet is None:
            raise RuntimeError("the services are not bound to a fleet")
        return self._fleet


def wanted_history(groups: bool, _connection: str, chat: Jid) -> bool:
    """The chats whose history is imported."""
    return chat.is_person or (groups and chat.is_group)


def history_filter(groups: bool) -> cabc.Callable[[str, Jid], bool]:
    """The same as a function of connection and chat."""
    return functools.partial(wanted_history, groups)
