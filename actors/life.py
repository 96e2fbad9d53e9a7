"""One life of a connection: login, dispatch, decrypt, acknowledge.

Theory of operation. The reader posts nodes to a bounded channel. The dispatcher takes them one
by one, decrypts against the records in memory and posts an envelope (message and changed
records) to the writer without waiting for it, so order is kept and many are under way. The
settler takes the writer's answers, which come after the COMMIT, and only then sends the receipt
or the acknowledgement. Heartbeat and monitor judge from outside. The first task to fail ends
them all; what was posted still commits, and what was not acknowledged comes again.
"""

import functools
import math
import typing as t

import attrs
import structlog
import trio

from actors.decryption import Decryptor
from actors.desk import Desk
from actors.endings import collapse, ending_of
from actors.errors import ConnectionEndedError, ConnectionHeldError
from actors.group_upkeep import GroupUpkeep
from actors.heartbeat import beat
from actors.in_flight import InFlight
from actors.inbound import envelope_for, is_ignored, own_addresses, receipt_types
from actors.line import ConnectionLine, NotOnlineError
from actors.link import Greeting, Link, Received, open_link
from actors.monitor import Progress, watch
from actors.prekey_upkeep import PrekeyUpkeep
from actors.records import RecordCache
from actors.settings import ConnectionSettings, Counts, Report, Tools
from actors.statistics import SyncStatistics
from storage.api import Envelope, Outcome, Verdict
from whatsapp.binary import codec
from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import DecryptionFailure, DuplicateMessageError, RemoteProtocolError
from whatsapp.iq import bulletins, core
from whatsapp.iq.ping import is_ping
from whatsapp.iq.session import active_request
from whatsapp.jid import Jid
from whatsapp.lifecycle import parse_end
from whatsapp.node import Node
from whatsapp.notifications import DevicesChanged, IdentityChanged
from whatsapp.payload import login_payload
from whatsapp.stanzas import (
    MessageStanza,
    ReceiptStanza,
    ack,
    delivery_receipt,
    parse_message,
    retry_receipt,
)
from whatsapp.stream import FrameRejected

MAX_RETRY_RECEIPTS: t.Final = 5  # per message; then the placeholder stays
SYNC_DEADLINE: t.Final = 60.0  # seconds for the end marker of the offline queue
BACKLOG: t.Final = 256  # nodes read ahead of the dispatcher
PARSING_ERROR: t.Final = 487  # of a negative acknowledgement


@attrs.frozen(kw_only=True)
class Purpose:
    """Why an envelope was posted: what is owed to WhatsApp once it is settled."""

    node: Node | None = None
    stanza: MessageStanza | None = None
    receipts: tuple[str | None, ...] = ()  # types of the receipts owed
    failure: DecryptionFailure | None = None
    fresh_prekey: tuple[int, KeyPair] | None = None
    error: int | None = None  # code for a negative acknowledgement

    @property
    def may_ask_again(self) -> bool:
        """Whether the sender can be asked to encrypt the message once more."""
        return self.failure is not None and self.stanza is not None and self.stanza.id is not None


class Life:
    """The tasks around one socket of a paired device."""

    def __init__(
        self,
        name: str,
        device: Device,
        jid: Jid,
        settings: ConnectionSettings,
        tools: Tools,
        report: Report,
        counts: Counts,
        line: ConnectionLine,
    ) -> None:
        self._name = name
        self._jid = jid
        self._line = line
        self._settings = settings
        self._tools = tools
        self._report = report
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger("connection").bind(
            connection=name
        )
        cache = self._cache = RecordCache(tools.storage, name)
        self._in_flight = InFlight[Purpose](tools.writer, cache, settings.in_flight)
        self._desk = Desk(name, own_addresses(device), self._post, self, tools.wall_clock)
        self._groups = GroupUpkeep(name, self._keep, line, tools.wall_clock)
        self._decryptor = Decryptor(cache, device, tools.random)
        self._prekeys = PrekeyUpkeep(name, device, self._in_flight, tools, settings, Purpose())
        self._received_in, self._received = trio.open_memory_channel[Received](BACKLOG)
        self._logged_in = trio.Event()
        self._synced = trio.Event()
        self._online = trio.Event()
        self._busy_since: float | None = None
        self._statistics = SyncStatistics(name, counts, tools.writer, tools.wall_clock)
        counts.in_flight = self._in_flight.__len__

    async def run(self, task_status: "trio.TaskStatus[None]") -> t.NoReturn:
        """Serve until something ends the life.

        Raises:
            ConnectionEndedError: always; cancellation aside.
        """
        self._report("connecting", "dialling", "connecting to WhatsApp")
        deadline = trio.current_time() + self._settings.connect_timeout
        try:
            with trio.CancelScope(deadline=deadline) as connecting:
                async with open_link(self._tools.dial, self._greeting()) as link:
                    connecting.deadline = math.inf
                    await self._serve(link, deadline, task_status)
        except BaseException as error:
            if (ending := collapse(error)) is error:
                raise
            raise ending from error
        finally:
            self._in_flight.close()
            self._statistics.flush()
        raise self._too_slow()

    async def _serve(
        self, link: Link, deadline: float, task_status: "trio.TaskStatus[None]"
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, link)
            nursery.start_soon(self._settle, link)
            nursery.start_soon(self._log_in, link, deadline, task_status)
            nursery.start_soon(self._heartbeat, link)
            nursery.start_soon(self._monitor, link)
            nursery.start_soon(self._prekeys.keep, link)
            nursery.start_soon(self._dispatch, link)
            nursery.start_soon(self._offer, link)

    async def _offer(self, link: Link) -> None:
        """What works once the queue of missed stanzas is empty, and others may ask for."""
        await self._online.wait()
        with self._line.attached(link, self._send_peer):
            async with trio.open_nursery() as nursery:
                if self._settings.groups:
                    nursery.start_soon(self._groups.run)

    async def _send_peer(self, message: bytes, priority: str | None, stanza_id: str | None) -> str:
        raise NotOnlineError(f"{self._name} cannot write to its phone")

    def _too_slow(self) -> ConnectionEndedError:
        limit = self._settings.connect_timeout
        return ConnectionEndedError(
            "connect_timeout", f"no login within {limit:g} s: WhatsApp or the network is slow"
        )

    def _greeting(self) -> Greeting:
        device = self._prekeys.device
        return Greeting(
            noise_key=device.noise,
            ephemeral=KeyPair.from_private(self._tools.random(32)),
            client_payload=login_payload(jid=self._jid, version=self._settings.version),
            root_key=self._settings.root_key,
            now=int(self._tools.wall_clock()),
            routing_info=device.routing_info,
            id_prefix=self._tools.random(4),
        )

    # ---- the tasks -----------------------------------------------------------------------

    async def _read(self, link: Link) -> None:
        while True:
            for item in await link.receive():
                await self._received_in.send(item)

    async def _log_in(
        self, link: Link, deadline: float, task_status: "trio.TaskStatus[None]"
    ) -> None:
        """What follows ``<success>``: prekeys, then the queue of what was missed."""
        with trio.move_on_at(deadline):
            await self._logged_in.wait()
        if not self._logged_in.is_set():
            raise self._too_slow()
        task_status.started()
        self._report("syncing", "logged_in", "logged in; receiving what arrived meanwhile")
        timeout = self._settings.request_timeout
        await self._prekeys.replenish(link)
        await link.request(active_request(link.ids.next()), timeout)
        with trio.move_on_after(SYNC_DEADLINE):
            await self._synced.wait()
        self._report("online", "online", "receiving messages as they come")
        self._online.set()
        self._statistics.flush()
        await self._prekeys.verify(link)

    async def _heartbeat(self, link: Link) -> None:
        timeout = self._settings.heartbeat_timeout
        try:
            await beat(
                link,
                interval=self._settings.heartbeat_interval,
                timeout=timeout,
                uniform=self._tools.uniform,
            )
        except ConnectionEndedError as error:
            if self._in_flight.oldest_age() < timeout:
                raise
            # The answer may well be there, behind all that we do not read while nothing commits.
            raise ConnectionHeldError(
                "storage_stalled",
                "nothing was committed while WhatsApp was asked for a sign of life",
            ) from error

    async def _monitor(self, link: Link) -> None:
        await watch(
            self._name,
            functools.partial(self._progress, link),
            interval=self._settings.monitor_interval,
            limits=self._settings.limits,
            every_time=self._statistics.flush_if_due,
        )

    def _progress(self, link: Link) -> Progress:
        now = trio.current_time()
        return Progress(
            silence=now - link.heard_at,
            backlog=self._received.statistics().current_buffer_used,
            busy_for=0.0 if self._busy_since is None else now - self._busy_since,
            in_flight=len(self._in_flight),
            oldest_in_flight=self._in_flight.oldest_age(),
        )

    async def _dispatch(self, link: Link) -> None:
        async for received in self._received:
            self._busy_since = trio.current_time()
            if isinstance(received, FrameRejected):
                await self._quarantine(received.data, f"unreadable frame: {received.reason}")
            else:
                await self._on_node(link, received)
            self._busy_since = None

    async def _settle(self, link: Link) -> None:
        while True:
            purpose, outcome = await self._in_flight.next_settled()
            if outcome is None:
                raise ConnectionHeldError(
                    "unstorable", "a message can be neither stored nor quarantined; see the log"
                )
            await self._acknowledge(link, purpose, outcome)

    # ---- what arrives --------------------------------------------------------------------

    async def _on_node(self, link: Link, node: Node) -> None:
        try:
            await self._handle(link, node)
        except RemoteProtocolError as error:
            # Breaks the protocol, but is no reason to leave: closing would bring it back.
            self._log.warning("connection.malformed", tag=node.tag[:32], error=str(error))
            if node.tag == "message":
                purpose = Purpose(node=node, error=PARSING_ERROR)
                await self._quarantine(codec.encode(node), f"malformed: {error}", purpose)
            elif node.tag in ("receipt", "notification", "call"):
                await link.send(ack(node))

    async def _handle(self, link: Link, node: Node) -> None:
        match node.tag:
            case "message":
                await self._on_message(link, node)
            case "receipt":
                await self._desk.receipt(node)
            case "call":
                await self._desk.call(node)
            case "notification":
                await self._desk.notification(node)
            case "iq" if is_ping(node):
                await link.send(core.result(node))
            case "success":
                self._logged_in.set()
            case _ if (end := parse_end(node)) is not None:
                raise ending_of(end)
            case "ib":
                await self._on_bulletin(link, node)
            case _:
                self._log.debug("connection.node_ignored", tag=node.tag[:32])

    async def _on_message(self, link: Link, node: Node) -> None:
        device = self._prekeys.device
        stanza = parse_message(node, self._jid, device.lid)
        if is_ignored(stanza, self._settings):
            await link.send(ack(node))
            return
        if not stanza.encs and stanza.unavailable is None and stanza.plaintext is None:
            raise RemoteProtocolError("message without a ciphertext")
        if stanza.chat.is_group:
            self._groups.met(stanza.chat)
        async with self._cache.lock:
            await self._take(node, device, stanza)

    async def _take(self, node: Node, device: Device, stanza: MessageStanza) -> None:
        """Decrypt and post, in one go: what this changes must not be changed meanwhile."""
        opened = await self._decryptor.open(stanza)
        envelope = envelope_for(self._name, device, stanza, opened)
        fresh: tuple[int, KeyPair] | None = None
        if opened.failure is not None:
            # Whether to ask again depends on what the store knows: a redelivered message, whose
            # keys are used up, ends here too, and is answered as the duplicate that it is.
            self._log.info("connection.unreadable", reason=str(opened.failure))
            if not isinstance(opened.failure, DuplicateMessageError):
                fresh, changes = self._prekeys.one_more()
                envelope = attrs.evolve(envelope, records=envelope.records + changes)
        await self._in_flight.post(
            attrs.evolve(envelope, stanza=codec.encode(node)),
            Purpose(
                node=node,
                stanza=stanza,
                receipts=receipt_types(stanza, opened),
                failure=None if opened.failure is None else opened.reason,
                fresh_prekey=fresh,
            ),
        )

    async def _quarantine(self, data: bytes, error: str, purpose: Purpose | None = None) -> None:
        envelope = Envelope(connection=self._name, stanza=data)
        await self._in_flight.post(envelope, purpose or Purpose(), quarantine=error)

    async def _post(self, envelope: Envelope, node: Node | None) -> None:
        await self._in_flight.post(envelope, Purpose(node=node))

    async def _keep(self, envelope: Envelope) -> None:
        await self._in_flight.post(envelope, Purpose())

    # ---- what the desk tells -------------------------------------------------------------

    def prekeys_low(self) -> None:
        """See :class:`actors.desk.Listener`."""
        self._prekeys.running_low()

    def asked_again(self, receipt: ReceiptStanza, node: Node) -> None:
        """See :class:`actors.desk.Listener`."""

    def devices_changed(self, change: DevicesChanged) -> None:
        """See :class:`actors.desk.Listener`."""

    async def identity_changed(self, change: IdentityChanged) -> None:
        """See :class:`actors.desk.Listener`."""

    def collections_changed(self, node: Node) -> None:
        """See :class:`actors.desk.Listener`."""

    def media_answered(self, node: Node) -> None:
        """See :class:`actors.desk.Listener`."""

    def group_unknown(self, group: Jid) -> None:
        """See :class:`actors.desk.Listener`."""
        self._groups.unknown(group)

    async def _on_bulletin(self, link: Link, node: Node) -> None:
        for bulletin in bulletins.parse_bulletin(node):
            match bulletin:
                case bulletins.OfflineAnnounced(total=total):
                    self._log.info("connection.offline_queue", announced=total)
                    if total:
                        await link.send(bulletins.offline_batch_request())
                case bulletins.OfflineCompleted():
                    self._synced.set()
                case bulletins.DirtyAnnounced():
                    await link.send(bulletins.clean_request(link.ids.next(), bulletin))
                case bulletins.RoutingChanged(routing_info=info):
                    await self._prekeys.remember_routing(info)
                case other:
                    t.assert_never(other)

    # ---- what is answered ----------------------------------------------------------------

    async def _acknowledge(self, link: Link, purpose: Purpose, outcome: Outcome) -> None:
        message = purpose.node is not None and purpose.node.tag == "message"
        if message or outcome.verdict is Verdict.QUARANTINED:
            self._statistics.count(outcome)
        if purpose.node is None:
            return
        if outcome.verdict is Verdict.QUARANTINED or purpose.stanza is None:
            await link.send(ack(purpose.node, error=purpose.error))
        elif outcome.verdict is Verdict.PLACEHOLDER:
            if purpose.may_ask_again and outcome.retries <= MAX_RETRY_RECEIPTS:
                await link.send(self._retry(purpose.stanza, purpose, outcome.retries))
            await link.send(ack(purpose.node))
        else:
            for receipt in purpose.receipts:
                await link.send(delivery_receipt(purpose.stanza, receipt))

    def _retry(self, stanza: MessageStanza, purpose: Purpose, count: int) -> Node:
        return retry_receipt(
            stanza,
            self._prekeys.device,
            count=count,
            error=purpose.failure,
            prekey=purpose.fresh_prekey,
        )
