"""A companion reduced to its protocol: it does what a test tells it to, and nothing by itself.

It shares the wire code with the product, but none of its actors, so that tests of the simulator
do not depend on them.
"""

import collections.abc as cabc
import typing as t

import attrs
import trio
import trio.testing

from simulator import Simulator
from simulator.entropy import Entropy
from simulator.transport import Transport
from whatsapp import content, padding, pairing, payload, stanzas
from whatsapp.device import Device
from whatsapp.e2ee import prekeys, sender_key, session
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.sender_key import SenderKeyRecord
from whatsapp.e2ee.session import LocalIdentity, SessionRecord
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import bundles as bundle_iqs
from whatsapp.iq import core
from whatsapp.iq import prekeys as prekey_iqs
from whatsapp.iq import session as session_iqs
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.stream import ClientStream, HandshakeCompleted, NodeReceived

PREKEYS: t.Final = 20
NOW: t.Final = 1_800_000_000


def wall_clock() -> cabc.Callable[[], float]:
    """Unix seconds that start at ``NOW`` and follow the test's clock."""
    start = trio.current_time()
    return lambda: NOW + trio.current_time() - start


class Companion:
    """One linked device and, at most, one connection of it."""

    def __init__(self, simulator: Simulator, nursery: trio.Nursery, seed: str) -> None:
        self._simulator = simulator
        self._nursery = nursery
        self._random = Entropy(seed)
        self.device = Device.generate(self._random)
        self.prekeys: dict[int, KeyPair] = {}
        self.sessions: dict[str, SessionRecord] = {}
        self.sender_keys: dict[tuple[str, str], SenderKeyRecord] = {}
        self._iqs = 0
        self._transport: Transport | None = None
        self._stream: ClientStream | None = None
        self.ended = trio.Event()
        self.failure: RemoteProtocolError | None = None
        self.nodes: list[Node] = []
        self._arrived = trio.Event()

    # -- connection

    async def connect(self) -> None:
        """Connect with what the device is now: a registration, or a login."""
        if self.device.jid is None:
            said = payload.registration_payload(device=self.device)
        else:
            said = payload.login_payload(jid=self.device.jid)
        self._transport = await self._simulator.connect()
        self._stream = ClientStream(
            noise_key=self.device.noise,
            ephemeral=self._pair(),
            client_payload=said,
            root_key=self._simulator.root_key,
            now=int(self._simulator.world.now()),
        )
        self.ended = trio.Event()
        self.nodes = []
        await self._transport.send(self._stream.start())
        self._nursery.start_soon(self._read, self._transport, self._stream)

    async def disconnect(self) -> None:
        """Go away without a word, and wait until the server has noticed."""
        assert self._transport is not None
        await self._transport.aclose()
        await trio.testing.wait_all_tasks_blocked()

    async def pair(self, name: str) -> None:
        """Register, be scanned by the phone of ``name``, and see the connection end."""
        await self.connect()
        offer = await self.wait_for("iq")
        refs = pairing.parse_pair_device(offer)
        await self.send(core.result(offer))
        async with trio.open_nursery() as nursery:
            text = pairing.qr_text(refs[0], self.device)
            nursery.start_soon(self._simulator.scan_qr, text, None, name)
            success = await self.wait_for("iq", lambda node: node.child("pair-success") is not None)
            self.device, reply = pairing.accept_pair_success(self.device, success, self._random)
            await self.send(reply)
        await self.ended.wait()

    async def log_in(self) -> None:
        """Connect, upload prekeys if the server has none, and ask for the traffic."""
        await self.connect()
        await self.wait_for("success")
        count = await self.ask(prekey_iqs.count_request)
        if not prekey_iqs.parse_count(count):
            fresh = prekeys.generate(self.device.next_prekey_id, PREKEYS, self._random)
            self.prekeys.update(fresh)
            self.device = attrs.evolve(self.device, next_prekey_id=fresh[-1][0] + 1)
            await self.ask(prekey_iqs.upload_request, self.device, fresh)
        await self.ask(session_iqs.active_request)
        await self.wait_for("ib", lambda node: node.child("offline") is not None)

    async def send(self, node: Node) -> None:
        """Write one stanza."""
        assert self._transport is not None
        assert self._stream is not None
        await self._transport.send(self._stream.send(node))

    async def send_bytes(self, data: bytes) -> None:
        """Write anything at all."""
        assert self._transport is not None
        await self._transport.send(data)

    async def ask(self, build: cabc.Callable[..., Node], *arguments: t.Any) -> Node:
        """Send a request and return the answer, whatever it says."""
        self._iqs += 1
        request = build(f"c{self._iqs}", *arguments)
        await self.send(request)
        return await self.wait_for("iq", lambda node: node.text("id") == request.text("id"))

    async def wait_for(
        self,
        tag: str,
        accept: cabc.Callable[[Node], bool] = lambda _: True,
        timeout: float = 30,
    ) -> Node:
        """The first stanza of this connection with that tag that is accepted."""
        with trio.fail_after(timeout):
            position = 0
            while True:
                for node in self.nodes[position:]:
                    if node.tag == tag and accept(node):
                        return node
                position = len(self.nodes)
                await self._arrived.wait()

    async def _read(self, transport: Transport, stream: ClientStream) -> None:
        ended, nodes = self.ended, self.nodes  # another connection gets its own
        try:
            while True:
                for event in stream.receive(await transport.receive()):
                    match event:
                        case HandshakeCompleted():
                            await transport.send(event.to_send)
                        case NodeReceived():
                            nodes.append(event.node)
                self._arrived.set()
                self._arrived = trio.Event()
        except (trio.EndOfChannel, trio.ClosedResourceError, trio.BrokenResourceError):
            ended.set()
        except RemoteProtocolError as error:
            self.failure = error
            await transport.aclose()
            ended.set()

    # -- messages

    @property
    def jid(self) -> Jid:
        """The own device."""
        assert self.device.jid is not None
        return self.device.jid

    def messages(self) -> list[Node]:
        """The chat messages of this connection, as they came."""
        return [n for n in self.nodes if n.tag == "message" and n.text("category") != "peer"]

    async def next_message(self, timeout: float = 30) -> Node:
        """Wait for a chat message and take it out of the list."""
        node = await self.wait_for("message", lambda n: n.text("category") != "peer", timeout)
        self.nodes.remove(node)
        return node

    def parse(self, node: Node) -> stanzas.MessageStanza:
        """Who, where, when."""
        return stanzas.parse_message(node, self.device.jid, self.device.lid)

    def decrypt(self, node: Node) -> content.Content:
        """What the last ciphertext of a message says; state advances."""
        message = self.parse(node)
        read: content.Content | None = None
        for enc in message.encs:
            plaintext = padding.unpad(self._open(message, enc))
            read = content.read_content(plaintext)
            if read.sender_key_distribution is not None:
                group, data = read.sender_key_distribution
                key = (group, message.sender.signal_address)
                self.sender_keys[key] = sender_key.process_distribution(
                    self.sender_keys.get(key), data
                )
        assert read is not None
        return read

    def _open(self, message: stanzas.MessageStanza, enc: stanzas.EncPayload) -> bytes:
        address = message.sender.signal_address
        if enc.type == "skmsg":
            key = (str(message.chat), address)
            self.sender_keys[key], plaintext = sender_key.decrypt(self.sender_keys[key], enc.body)
            return plaintext
        own = LocalIdentity(self.device.identity, self.device.registration_id)
        if enc.type == "pkmsg":
            decrypted = session.decrypt_prekey_message(
                self.sessions.get(address),
                own,
                enc.body,
                {self.device.signed_prekey_id: self.device.signed_prekey},
                self.prekeys,
                self._pair(),
            )
        else:
            record = self.sessions[address]
            decrypted = session.decrypt_message(record, own, enc.body, self._pair())
        self.sessions[address] = decrypted.record
        if decrypted.used_prekey_id is not None:
            del self.prekeys[decrypted.used_prekey_id]
        return decrypted.plaintext

    async def send_peer(self, stanza_id: str, message: bytes) -> None:
        """Tell the own phone something; a session is made from its message to us, or its keys."""
        phone = self.jid.with_device(0)
        address = phone.signal_address
        own = LocalIdentity(self.device.identity, self.device.registration_id)
        if address not in self.sessions:
            answer = await self.ask(bundle_iqs.fetch_request, (phone,))
            bundle = bundle_iqs.parse_fetch_response(answer).bundles[phone]
            self.sessions[address] = session.start_session(
                None, bundle, own, self._pair(), self._pair()
            )
        padded = padding.pad(message, 1)
        self.sessions[address], secret = session.encrypt(self.sessions[address], own, padded)
        enc = Node("enc", {"v": 2, "type": secret.type}, secret.body)
        attributes = {"id": stanza_id, "to": phone, "type": "text", "category": "peer"}
        await self.send(Node("message", attributes, (enc,)))

    async def acknowledge(self, node: Node) -> None:
        """Say that a message is stored."""
        await self.send(stanzas.delivery_receipt(self.parse(node)))

    async def ask_again(self, node: Node, *, with_keys: bool) -> None:
        """Say that a message could not be read: a retry receipt and, after it, an ack."""
        prekey = None
        if with_keys:
            ((number, pair),) = prekeys.generate(self.device.next_prekey_id, 1, self._random)
            self.prekeys[number] = pair
            self.device = attrs.evolve(self.device, next_prekey_id=number + 1)
            prekey = (number, pair)
        message = self.parse(node)
        await self.send(stanzas.retry_receipt(message, self.device, count=1, prekey=prekey))
        await self.send(stanzas.ack(node))

    def _pair(self) -> KeyPair:
        return KeyPair.from_private(self._random(32))
