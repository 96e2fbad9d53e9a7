"""What arrives on a link, node by node: decrypted or read, then posted to the writer.

Nothing here waits for a commit or for an answer of the network, so order is kept and many
envelopes are under way.
"""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.deafness import Hearing
from actors.decryption import Decryptor
from actors.desk import Desk
from actors.endings import ending_of
from actors.gaps import OfflineQueue
from actors.inbound import (
    envelope_for,
    is_ignored,
    own_addresses,
    peer_news,
    receipt_types,
)
from actors.link import Link, Received
from actors.messages import Replay
from actors.parts import Parts
from actors.phones import phone_sign
from actors.purpose import Purpose
from actors.records import RecordCache
from actors.settings import ConnectionSettings, Tools
from storage.api import Envelope
from storage.crash_points import crash_point
from whatsapp.binary import codec
from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import DuplicateMessageError, RemoteProtocolError
from whatsapp.iq import bulletins, core
from whatsapp.iq.ping import is_ping
from whatsapp.lifecycle import parse_end
from whatsapp.node import Node
from whatsapp.stanzas import MessageStanza, ack, parse_ack, parse_message
from whatsapp.stream import FrameRejected

OWED: t.Final = frozenset({"message", "receipt", "notification", "call"})
"""What the server keeps until it is acknowledged."""
PARSING_ERROR: t.Final = 487  # of a negative acknowledgement
REPLAYED: t.Final = ("message", "receipt", "notification", "call")  # what may hold news


class Intake:
    """Takes the nodes of one life, in their order."""

    def __init__(
        self,
        name: str,
        device: Device,
        settings: ConnectionSettings,
        tools: Tools,
        cache: RecordCache,
        parts: Parts,
        hearing: Hearing,
        queue: OfflineQueue,
        phone_seen: cabc.Callable[[int], None],
    ) -> None:
        """``phone_seen`` takes the server's time (unix seconds) of what the own phone sent."""
        self.logged_in = trio.Event()
        self.synced = trio.Event()
        """The queue of what was missed is empty."""
        self._name = name
        self._settings = settings
        self._cache = cache
        self._queue = queue
        self._parts = parts
        self._replay: Replay | None = None
        """Read again now, and not yet posted."""
        self._hearing = hearing
        self._phone_seen = phone_seen
        self._decryptor = Decryptor(cache, device, tools.random)
        self._own = own_addresses(device)
        self._desk = Desk(name, self._own, self._post, parts)
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger("connection").bind(
            connection=name
        )

    async def take(self, link: Link, received: Received | Replay) -> None:
        """One node, whatever it is.

        Raises:
            ConnectionEndedError: it says that the connection ends.
        """
        if isinstance(received, Replay):
            await self._take_again(link, received)
            return
        if isinstance(received, FrameRejected):
            await self._quarantine(received.data, f"unreadable frame: {received.reason}")
            return
        self._hearing.stanza(received)
        if (sign := phone_sign(received, self._own)) is not None:
            self._phone_seen(sign)
        async with self._queue.taking(received):
            await self._take_node(link, received)

    async def _take_node(self, link: Link, received: Node) -> None:
        try:
            await self._handle(link, received)
        except RemoteProtocolError as error:
            # Breaks the protocol, but is no reason to leave: closing would bring it back.
            self._log.warning("connection.malformed", tag=received.tag[:32], error=str(error))
            if received.tag in OWED:
                refused = PARSING_ERROR if received.tag == "message" else None
                purpose = Purpose(node=received, error=refused)
                await self._quarantine(codec.encode(received), f"malformed: {error}", purpose)

    async def _take_again(self, link: Link, replay: Replay) -> None:
        """A stanza out of the quarantine: stored, or quarantined with a new error."""
        self._replay = replay
        try:
            node = codec.decode(replay.stanza)
            if node.tag in REPLAYED:
                await self._handle(link, node)
        except RemoteProtocolError as error:
            await self._quarantine(replay.stanza, f"still malformed: {error}")
        else:
            if self._replay is not None:  # nothing in it is to be stored
                nothing = self._resolving(Envelope(connection=self._name), Purpose())
                await self._queue.post(*nothing)
        finally:
            self._replay = None

    def _resolving(self, envelope: Envelope, purpose: Purpose) -> tuple[Envelope, Purpose]:
        """The same, resolving the row of the quarantine that is read again, if one is."""
        replay, self._replay = self._replay, None
        if replay is None:
            return envelope, purpose
        return attrs.evolve(envelope, resolves=replay.row), attrs.evolve(purpose, replay=replay)

    async def _handle(self, link: Link, node: Node) -> None:
        match node.tag:
            case "message":
                await self._on_message(link, node)
            case "receipt":
                self._hearing.receipt(node)
                await self._desk.receipt(node)
            case "call":
                await self._desk.call(node)
            case "notification":
                await self._desk.notification(node)
            case "ack":
                self._parts.sender.on_ack(parse_ack(node))
                self._hearing.acknowledged(node, self._own)
            case "iq" if is_ping(node):
                await link.send(core.result(node))
            case "success":
                self._queue.logged_in(node)
                self.logged_in.set()
            case _ if (end := parse_end(node)) is not None:
                raise ending_of(end)
            case "ib":
                await self._on_bulletin(link, node)
            case _:
                self._log.debug("connection.node_ignored", tag=node.tag[:32])

    async def _on_message(self, link: Link, node: Node) -> None:
        device = self._parts.prekeys.device
        stanza = parse_message(node, device.jid, device.lid)
        if is_ignored(stanza, self._settings):
            await link.answer(ack(node))
            return
        if not stanza.encs and stanza.unavailable is None and stanza.plaintext is None:
            raise RemoteProtocolError("message without a ciphertext")
        crash_point("message.parsed")
        self._parts.message(stanza)
        self._hearing.message(stanza)
        async with self._cache.lock:
            await self._open(node, device, stanza)

    async def _open(self, node: Node, device: Device, stanza: MessageStanza) -> None:
        """Decrypt and post, in one go: what this changes must not be changed meanwhile."""
        opened = await self._decryptor.open(stanza)
        crash_point("message.decrypted")
        news = peer_news(stanza, opened)
        envelope = envelope_for(self._name, device, stanza, opened, news)
        fresh: tuple[int, KeyPair] | None = None
        if opened.failure is not None:
            # Whether to ask again depends on what the store knows: a redelivered message, whose
            # keys are used up, ends here too, and is answered as the duplicate that it is.
            self._log.info("connection.unreadable", reason=str(opened.failure))
            if not isinstance(opened.failure, DuplicateMessageError):
                fresh, changes = self._parts.prekeys.one_more()
                envelope = attrs.evolve(envelope, records=envelope.records + changes)
        purpose = Purpose(
            node=node,
            stanza=stanza,
            receipts=receipt_types(stanza, opened),
            failure=None if opened.failure is None else opened.reason,
            fresh_prekey=fresh,
        )
        envelope = attrs.evolve(envelope, stanza=codec.encode(node))
        await self._queue.post(*self._resolving(envelope, purpose))
        crash_point("message.posted")
        for item in news:
            self._parts.heard(item)

    async def _quarantine(self, data: bytes, error: str, purpose: Purpose | None = None) -> None:
        envelope = Envelope(connection=self._name, stanza=data)
        resolving = self._resolving(envelope, purpose or Purpose())
        await self._queue.post(*resolving, quarantine=error)

    async def _post(self, envelope: Envelope, node: Node | None) -> None:
        """Without a node it is not the last of its stanza."""
        purpose = Purpose(node=node)
        if node is not None:
            envelope, purpose = self._resolving(envelope, purpose)
        await self._queue.post(envelope, purpose)

    async def _on_bulletin(self, link: Link, node: Node) -> None:
        for bulletin in bulletins.parse_bulletin(node):
            match bulletin:
                case bulletins.OfflineAnnounced(total=total, messages=messages):
                    self._log.info("connection.offline_queue", announced=total)
                    self._hearing.ear.announced(total or 0)
                    await self._queue.announced(total, messages)
                    if total != 0:
                        await link.send(bulletins.offline_batch_request())
                case bulletins.OfflineCompleted(total=total):
                    self._hearing.ear.drained()
                    await self._queue.completed(total)
                    self.synced.set()
                case bulletins.DirtyAnnounced():
                    self._parts.dirty(bulletin)
                    await link.send(bulletins.clean_request(link.ids.next(), bulletin))
                case bulletins.RoutingChanged(routing_info=info):
                    await self._parts.prekeys.remember_routing(info)
                case other:
                    t.assert_never(other)
