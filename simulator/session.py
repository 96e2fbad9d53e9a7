"""One client connection, from the first byte to the last stanza.

HANDSHAKE → REGISTERING → (scanned) → PAIRED → 515
          ↘ PASSIVE → ACTIVE → ended by either side
"""

import contextlib
import enum
import typing as t

import attrs
import structlog
import trio

from simulator import calls, code_pairing, directory, presence, receipts, routing, services
from simulator.admission import Login, Registration, read_payload
from simulator.errors import UnknownNameError
from simulator.faults import Unheard, ending
from simulator.linking import Linking
from simulator.model import Device
from simulator.queue import Entry
from simulator.refs import Refs
from simulator.replies import Attributes, error, result
from simulator.transport import Transport
from simulator.world import World
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import SERVER, SERVER_JID, Jid
from whatsapp.node import Node
from whatsapp.stream import BytesToSend, ClientConnected, NodeReceived, ServerStream
from whatsapp.stream import State as StreamState

log = structlog.get_logger(__name__)

_REORDER_WAIT: t.Final = 1.0  # seconds a held-back stanza waits for one that may overtake it
_COUNTED: t.Final = ("message", "notification", "receipt", "call")


class State(enum.Enum):
    """How far a connection has come."""

    HANDSHAKE = "handshake"
    REGISTERING = "registering"
    PAIRED = "paired"
    PASSIVE = "passive"
    ACTIVE = "active"
    HALF_OPEN = "half-open"
    ENDING = "ending"
    CLOSED = "closed"


class Session:
    """Serves one connection until it ends; `run` does not raise for anything a client does."""

    def __init__(
        self,
        world: World,
        refs: Refs,
        transport: Transport,
        stream: ServerStream,
        first_stanza_pause: float,
    ) -> None:
        self._world = world
        self._refs = refs
        self._transport = transport
        self._stream = stream
        self._first_stanza_pause = first_stanza_pause
        self._sending = trio.Lock()
        self._scope = trio.CancelScope()
        self._noise_public = b""
        self._nursery: trio.Nursery | None = None
        self._gone = trio.Event()
        self._delivery = trio.CancelScope()
        self._unheard: Unheard | None = None
        self.state = State.HANDSHAKE
        self.linking: Linking | None = None
        self.device: Device | None = None

    async def run(self) -> None:
        """Serve until the client, the server or a fault ends the connection."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        await self._serve()
                    finally:
                        self._nursery = None  # which takes nothing new from here on
                    nursery.cancel_scope.cancel()
        finally:
            self._detach()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 3):
                await self._transport.aclose()
            self._gone.set()

    async def end(self, last: Node) -> None:
        """Send a last stanza, let the client close, and return when the connection is gone."""
        if self.state in (State.CLOSED, State.HALF_OPEN):
            return
        self._say_goodbye(last)
        await self._gone.wait()

    def drop(self) -> None:
        """Cut the connection without a word."""
        self._transport.abort()
        self._scope.cancel()

    def half_open(self) -> None:
        """Forget the client, who learns nothing of it: its stanzas are read and ignored."""
        self.state = State.HALF_OPEN
        self._delivery.cancel()
        self._release()

    def deafen(self, unheard: Unheard) -> None:
        """Answer everything, but deliver no more of what is owed, until the client comes back."""
        self._unheard = unheard
        if unheard == "everything":
            self._delivery.cancel()

    # -- reading

    async def _serve(self) -> None:
        with contextlib.suppress(
            trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError
        ):
            try:
                await self._read()
            except RemoteProtocolError as error:
                log.info("simulator.protocol_error", detail=str(error), state=self.state.value)

    async def _read(self) -> None:
        with trio.move_on_after(self._world.settings.login_deadline):
            while self.state is State.HANDSHAKE:
                await self._take(await self._transport.receive())
        while self.state not in (State.HANDSHAKE, State.CLOSED):
            await self._take(await self._transport.receive())

    async def _take(self, data: bytes) -> None:
        for event in self._stream.receive(data):
            match event:
                case BytesToSend():
                    await self._transport.send(event.data)
                case ClientConnected():
                    await self._admit(event)
                case NodeReceived() if not self._ignores():
                    await self._on_node(event.node)
                    self._world.settle()

    def _ignores(self) -> bool:
        gone = self.state in (State.ENDING, State.HALF_OPEN)
        return gone or self._world.faults.is_stalled(self.device)

    async def _admit(self, client: ClientConnected) -> None:
        self._noise_public = client.noise_public
        payload = read_payload(client.client_payload)
        if self._first_stanza_pause:
            await trio.sleep(self._first_stanza_pause)
        if isinstance(payload, Registration):
            await self._register(payload)
        else:
            await self._log_in(payload)

    async def _on_node(self, node: Node) -> None:
        match node.tag, self.device:
            case "iq", _ if node.text("type") in ("result", "error"):
                if self.linking is not None and self.linking.on_answer(node):
                    self.state = State.PAIRED
                    self._start(self._restart)
            case "iq", None if node.text("xmlns") == "w:p":
                await self.send(result(node))
            case "iq", None if node.child(code_pairing.TAG) is not None:
                if self.linking is not None:
                    await self.linking.on_code_stage(node)
            case "iq", Device() as device:
                await self._on_request(device, node)
            case _, None:
                pass  # nothing else means anything before the login
            case "message", Device() as device:
                await self.send(self._route(device, node))
            case "receipt" | "ack", Device() as device if (
                self._world.faults.take("lose_ack", device) is not None
            ):
                pass
            case "receipt", Device() as device:
                await self.send(receipts.on_receipt(self._world, device, node))
            case "ack", Device() as device:
                receipts.on_ack(self._world, device, node)
            case "call", Device() as device:
                await self.send(calls.on_call(self._world, device, node))
            case "presence", Device() as device:
                with contextlib.suppress(UnknownNameError):
                    presence.on_presence(self._world, device, node)
            case "chatstate", Device() as device:
                with contextlib.suppress(UnknownNameError):
                    presence.on_chatstate(self._world, device, node)
            case _:
                pass  # ib: nobody is told

    def _route(self, device: Device, node: Node) -> Node:
        try:
            return routing.route_message(self._world, device, node)
        except RemoteProtocolError as error:
            log.info("simulator.invalid_message", detail=str(error), device=str(device.pn))
            return routing.refusal(node)

    async def _on_request(self, device: Device, node: Node) -> None:
        match node.text("xmlns"):
            case "passive":
                await self._answer(node, result(node))
                if node.child("active") is not None:
                    self._activate(device)
            case "md" if (order := node.child("remove-companion-device")) is not None:
                if order.jid("jid") not in (None, device.pn, device.lid):
                    await self.send(error(node, 403, "forbidden"))
                    return
                await self.send(result(node))
                directory.unlink(self._world, device)
                self._say_goodbye(ending("removed"))
            case _:
                await self._answer(node, services.answer(self._world, device, node))

    async def _answer(self, request: Node, answer: Node) -> None:
        for node in self._world.faults.answers(request, answer):
            await self.send(node)

    # -- pairing

    async def _register(self, registration: Registration) -> None:
        self.state = State.REGISTERING
        self.linking = Linking(self, self._world, self._refs, registration, self._noise_public)
        self._start(self._close_unscanned, await self.linking.offer_refs())

    async def _close_unscanned(self, at: float) -> None:
        await trio.sleep_until(at)
        if self.state is State.REGISTERING:
            self._scope.cancel()

    @property
    def is_registering(self) -> bool:
        """Whether this is the connection of a companion that is not linked yet."""
        return self.state is State.REGISTERING

    async def _restart(self) -> None:
        await trio.sleep(self._world.settings.restart_pause)
        self._say_goodbye(ending("515"))

    # -- login and delivery

    async def _log_in(self, login: Login) -> None:
        try:
            device = self._world.device(Jid(login.user, SERVER, login.device))
        except UnknownNameError:
            device = None
        if device is None or device.is_phone or device.noise_public != self._noise_public:
            self._say_goodbye(ending("401"))
            return
        if (failure := self._world.faults.take("fail_login", device)) is not None:
            self._say_goodbye(ending(failure))
            return
        if device.session is not None:
            await device.session.end(ending("conflict"))
        device.session, self.device = self, device
        self.state = State.PASSIVE
        success: Attributes = {
            "t": int(self._world.now()),
            "lid": device.lid,
            "location": "sim",
            "props": 27,
        }
        await self.send(Node("success", success))

    def _activate(self, device: Device) -> None:
        if self.state is not State.PASSIVE:
            return
        self.state = State.ACTIVE
        if not device.greeted:
            device.greeted = True
            if self._world.settings.history:
                device.account.phone.greet(device)
        self._start(self._deliver, device)

    async def _deliver(self, device: Device) -> None:
        broken = (trio.BrokenResourceError, trio.ClosedResourceError)
        with self._delivery, contextlib.suppress(*broken):
            backlog = device.queue.begin(self._world.now())
            counts = {tag: sum(entry.kind == tag for entry in backlog) for tag in _COUNTED}
            total = len(backlog) + int(self._world.faults.take("miscount", device) or 0)
            preview = Node("offline_preview", {"count": total, **counts, "appdata": 0})
            await self.send(Node("ib", {"from": SERVER_JID}, (preview,)))
            if self._world.faults.take("mute_queue", device) is not None:
                return
            for number, entry in enumerate(backlog, 1):
                await self._offer_queued(device, entry, number)
            if self._world.faults.take("no_end_marker", device) is None:
                end = Node("offline", {"count": total})
                await self.send(Node("ib", {"from": SERVER_JID}, (end,)))
            while True:
                await self._offer_live(device, await device.queue.next())

    async def _offer_queued(self, device: Device, entry: Entry, number: int) -> None:
        if entry.acknowledged:
            # A copy of it was answered just now; what is announced is sent all the same.
            await self._offer(device, entry, number)
            return
        due = await device.queue.next()
        if due.record is not None and self._world.faults.take("lose_queued", device) is not None:
            due.record.lost += 1
            device.queue.remove(due)
            return
        await self._offer(device, due, number)

    async def _offer_live(self, device: Device, entry: Entry) -> None:
        if self._world.faults.take("reorder", device) is not None:
            with trio.move_on_after(_REORDER_WAIT):
                await self._offer(device, await device.queue.next(), None)
        await self._offer(device, entry, None)

    async def _offer(self, device: Device, entry: Entry, offline: int | None) -> None:
        if self.state is not State.ACTIVE or self._withholds(entry):
            return  # stays owed
        attributes: Attributes = {**entry.node.attrs, "offline": offline}
        node = attrs.evolve(entry.node, attrs=attributes)
        copies = 1 if self._world.faults.take("duplicate", device) is None else 2
        for _ in range(copies):
            entry.offered += 1
            self._world.offered(device, entry)
            if entry.transient:
                device.queue.remove(entry)
            await self.send(node)

    def _withholds(self, entry: Entry) -> bool:
        return self._unheard == "messages" and entry.kind == "message"

    # -- writing

    async def send(self, node: Node) -> None:
        """Write one stanza; stanzas are encrypted in the order in which they are written."""
        await self._write(lambda: self._stream.send(node))

    async def _write(self, make: t.Callable[[], bytes]) -> None:
        async with self._sending:
            if self._world.faults.latency:
                await trio.sleep(self._world.faults.latency)
            await self._world.faults.until_flowing(self.device)
            if self._stream.state is not StreamState.OPEN:
                return  # broken by the client, or not yet up: nothing can be said
            with trio.move_on_after(self._world.settings.write_deadline) as patience:
                await self._transport.send(make())
            if patience.cancelled_caught:
                self.drop()

    async def send_plaintext(self, plaintext: bytes) -> None:
        """Write bytes that need not be a stanza, encrypted as one is."""
        await self._write(lambda: self._stream.send_plaintext(plaintext))

    async def send_bytes(self, data: bytes) -> None:
        """Write bytes as they are: no frame that the client can decrypt."""
        await self._write(lambda: data)

    def _say_goodbye(self, last: Node) -> None:
        """From now on nothing the client says matters; it is not waited for long."""
        if self.state is not State.ENDING:
            self.state = State.ENDING
            self._start(self._farewell, last)

    async def _farewell(self, last: Node) -> None:
        gone = (trio.BrokenResourceError, trio.ClosedResourceError)
        with trio.move_on_after(self._world.settings.farewell), contextlib.suppress(*gone):
            await self.send(last)
            await trio.sleep_forever()
        self._scope.cancel()

    def request(self, namespace: str, *children: Node) -> Node:
        """A request of the server's own."""
        attributes: Attributes = {
            "from": SERVER_JID,
            "type": "set",
            "id": self._world.next_id("S"),
            "xmlns": namespace,
            "t": int(self._world.now()),
        }
        return Node("iq", attributes, children)

    def _start(self, function: t.Callable[..., t.Awaitable[None]], *arguments: t.Any) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(function, *arguments)

    def _detach(self) -> None:
        self.state = State.CLOSED
        if self.linking is not None:
            self.linking.end()
        self._release()

    def _release(self) -> None:
        """The device is not connected any more, as far as this connection is concerned."""
        if self.device is None or self.device.session is not self:
            return
        self.device.session = None
        self.device.queue.end()
        presence.set_available(self._world, self.device, False)
