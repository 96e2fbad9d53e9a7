"""A simulated handset: device 0 of an account. It writes, reads, answers and is asked again.

What a person does with it besides (groups, settings, calls, histories) is in the `*_scripts`
modules; `simulator.phone.Phone` is all of it together.
"""

import collections
import typing as t

import attrs
import structlog
import trio
from google.protobuf.message import DecodeError

from simulator import keys, reading, receipts, routing, services
from simulator.composing import Composer, conversation, device_sent
from simulator.errors import SimulatorError, UnknownNameError
from simulator.keyring import Keyring
from simulator.letters import TEXT, Kept, Received, Wrapping
from simulator.model import PHONE, Account, Device, Group
from simulator.replies import Attributes
from simulator.world import World, letter
from whatsapp.errors import DuplicateMessageError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.node import Node

log = structlog.get_logger(__name__)

MAX_RETRIES: t.Final = 5  # per device and message
INBOX: t.Final = 10_000


@attrs.define(eq=False)
class _Sent:
    to: Account | Group
    lid: bool
    message: bytes
    wrapping: Wrapping
    stanza: Node
    timestamp: int | None
    retries: collections.Counter[Jid] = attrs.field(factory=collections.Counter)


class Handset:
    """The account's handset. ``answers`` off is a handset without network: it reads nothing."""

    def __init__(self, world: World, account: Account) -> None:
        self._world = world
        self._account = account
        self._entropy = world.entropy.fork(f"phone/{account.pn.user}")
        self._keyring = Keyring(self._entropy, world.settings.phone_prekeys)
        self._raw_id = self._entropy.below(2**31)
        self._sent: collections.OrderedDict[str, _Sent] = collections.OrderedDict()
        self.device = world.add_device(account, PHONE, self._keyring.public)
        self._composer = Composer(world, self.device, self._keyring)
        self.answers = True
        self.inbox: collections.deque[Received] = collections.deque(maxlen=INBOX)
        self.kept: collections.OrderedDict[tuple[Jid, Jid, str], Kept] = collections.OrderedDict()
        self.activity: collections.deque[Node] = collections.deque(maxlen=INBOX)
        self.notifications: collections.deque[Node] = collections.deque(maxlen=INBOX)
        self.receipts: collections.deque[Node] = collections.deque(maxlen=INBOX)
        self.arrivals: collections.deque[tuple[Jid, str]] = collections.deque(maxlen=INBOX)
        """Author and id of each message stanza, those left out that were sent again on request."""
        self.duplicates = 0  # messages read twice
        self.failures = 0  # ciphertexts that could not be read

    # -- linking

    def refill(self) -> None:
        """Upload more one-time prekeys when the stock is low."""
        self._keyring.refill()

    def greet(self, companion: Device) -> None:
        """A new companion is online for the first time."""

    # -- writing

    async def send_text(
        self,
        to: Jid | str,
        text: str,
        *,
        id: str | None = None,  # noqa: A002 - the word of the field
        timestamp: int | None = None,
    ) -> str:
        """Write to one person: to each of their devices, and a copy to each own companion.

        Returns the message id. The server's clock dates it unless ``timestamp`` does.

        Raises:
            UnknownNameError: nobody has this address.
        """
        return await self.send_message(
            to, conversation(text), text=text, id=id, timestamp=timestamp
        )

    async def send_group_text(
        self,
        group: Jid | str,
        text: str,
        *,
        id: str | None = None,  # noqa: A002 - the word of the field
        timestamp: int | None = None,
    ) -> str:
        """Write to a group; members' devices get the sender key when they lack it.

        Raises:
            UnknownNameError: no such group, or not a member of it.
        """
        return await self.send_message(
            group, conversation(text), text=text, id=id, timestamp=timestamp
        )

    async def send_message(
        self,
        to: Jid | str,
        message: bytes,
        wrapping: Wrapping = TEXT,
        *,
        text: str | None = None,
        id: str | None = None,  # noqa: A002 - the word of the field
        timestamp: int | None = None,
    ) -> str:
        """Send any content to a person or a group; the message id.

        ``message`` is an encoded ``Message``; ``text`` what the ledger shall know of it, where
        that cannot be read from it.

        Raises:
            UnknownNameError: nobody has this address, or not a member of the group.
        """
        await trio.lowlevel.checkpoint()
        jid = Jid.parse(to) if isinstance(to, str) else to
        chat = self._world.group(jid) if jid.is_group else self._world.account(jid)
        lid = jid.is_lid if isinstance(chat, Account) else chat.lid_addressing
        chosen = id or self._new_id()
        if isinstance(chat, Group):
            address, children = chat.jid, self._composer.for_group(chat, message, wrapping.enc)
        else:
            address = chat.address(lid)
            children = (self._composer.for_person(chat, lid, message, wrapping.enc),)
        attributes: Attributes = {
            "id": chosen,
            "to": address,
            "type": wrapping.type,
            "edit": wrapping.edit,
        }
        stanza = Node("message", attributes, (*children, *wrapping.extra))
        self._sent[chosen] = _Sent(chat, lid, message, wrapping, stanza, timestamp)
        if len(self._sent) > self._world.settings.sent_texts_kept:
            self._sent.popitem(last=False)
        read = reading.read_own(message)
        self._world.ledger.read(letter(self._account, chat, chosen), read.kind, text or read.text)
        at = int(self._world.now()) if timestamp is None else timestamp
        seen_as = chat.jid if isinstance(chat, Group) else chat.pn
        self.keep(Kept(seen_as, self._account, chosen, message, at))
        self._route(stanza, timestamp)
        return chosen

    def upload(
        self, kind: str, data: bytes, *, mimetype: str | None = None, name: str | None = None
    ) -> MediaSource:
        """Encrypt a file and put it on the media host; what a message says of it."""
        return self._world.media.put_sealed(kind, data, mimetype=mimetype, name=name)

    async def repeat(self, message_id: str) -> None:
        """Send the very same stanza, same ciphertext, once more.

        Raises:
            SimulatorError: this phone remembers no such message.
        """
        await trio.lowlevel.checkpoint()
        if (sent := self._sent.get(message_id)) is None:
            raise SimulatorError(f"{self._account.pn} remembers no message {message_id}")
        self._route(sent.stanza, sent.timestamp)

    # -- mail

    def receive(self, node: Node) -> None:
        """Read one stanza the server has for this phone."""
        if not self.answers:
            return
        try:
            match node.tag, node.text("type"):
                case "message", _:
                    self._read(node)
                case "receipt", "retry":
                    self._send_again(node)
                case "receipt", _:
                    self.receipts.append(node)
                    self._on_receipt(node)
                case "notification", _:
                    self._on_notification(node)
                case "call", _:
                    self._on_call(node)
                case "presence" | "chatstate", _:
                    self.activity.append(node)
                case _:
                    pass  # nothing a person would notice
        except (RemoteProtocolError, UnknownNameError) as error:
            self.failures += 1
            log.info("simulator.phone_refused", phone=self._account.name, detail=str(error))

    def _read(self, node: Node) -> None:
        sender = self._world.device(node.jid("participant") or node.required_jid("from"))
        if not any(enc.integer("count") for enc in node.children_named("enc")):
            self.arrivals.append((sender.account.pn, node.required_text("id")))
        try:
            for enc in node.children_named("enc"):
                self._take_in(node, sender, enc)
        except DuplicateMessageError:
            self.duplicates += 1
        except (RemoteProtocolError, DecodeError):
            self.failures += 1
            self._ask_again(node)
            return
        own = sender.account is self._account
        kind = "peer_msg" if node.text("category") == "peer" else "sender" if own else None
        answer: Attributes = {
            "id": node.required_text("id"),
            "to": node.required_jid("from"),
            "participant": node.attrs.get("participant"),
            "type": kind,
        }
        receipts.on_receipt(self._world, self.device, Node("receipt", answer))

    def _take_in(self, node: Node, sender: Device, enc: Node) -> None:
        chat, kind = node.required_jid("from"), enc.required_text("type")
        if kind == "skmsg":
            plaintext = self._keyring.decrypt_from_group(chat, sender, enc.data())
        else:
            plaintext = self._keyring.decrypt(sender, kind, enc.data())
        read = reading.read(plaintext)
        if read.message.HasField("sender_key_distribution_message"):
            key = read.message.sender_key_distribution_message
            group = Jid.parse(key.group_id.decode(errors="replace"))
            data = key.axolotl_sender_key_distribution_message
            self._keyring.learn_sender_key(group, sender, data)
        name = receipts.ledger_name(self._world, self.device, node)
        if name is None:
            self._on_peer(sender, node.required_text("id"), read)
            return
        if not read.kind:
            return
        self._world.ledger.read(name, read.kind, read.text)
        peer = node.jid("recipient")
        seen_as = chat if chat.is_group else self._world.account(peer or chat).pn
        sent_at = node.integer("t") or 0
        self.keep(Kept(seen_as, sender.account, name.id, read.content, sent_at))
        self.inbox.append(
            Received(seen_as, sender.account.pn, name.id, read.kind, read.text, sent_at)
        )

    def keep(self, message: Kept) -> None:
        """Show one message from now on; the oldest are forgotten."""
        self.kept[message.chat, message.sender.pn, message.id] = message
        if len(self.kept) > INBOX:
            self.kept.popitem(last=False)

    def _on_peer(self, companion: Device, stanza_id: str, read: reading.Reading) -> None:
        """A companion of the own account told or asked something."""

    def _on_notification(self, node: Node) -> None:
        """The server tells of a change."""
        self.notifications.append(node)

    def _on_receipt(self, node: Node) -> None:
        """Somebody answered something."""

    def _on_call(self, node: Node) -> None:
        """Somebody calls, or something happens to a call."""

    def _reset(self) -> None:
        """A new phone: nothing of the old one is known."""
        self._sent.clear()
        self.kept.clear()

    def _ask_again(self, node: Node) -> None:
        """A retry receipt with fresh keys. Source: docs/protocol.md#retry-receipts"""
        count = 1 + max(
            (enc.integer("count") or 0 for enc in node.children_named("enc")), default=0
        )
        if count > MAX_RETRIES:
            return
        number, pair = self._keyring.fresh_prekey()
        stanza_id = node.required_text("id")
        retry: Attributes = {"v": 1, "id": stanza_id, "t": node.integer("t"), "count": count}
        registration, *bundle = keys.bundle_children(self.device.keys, (number, pair.public))
        answer: Attributes = {
            "id": stanza_id,
            "to": node.required_jid("from"),
            "participant": node.attrs.get("participant"),
            "recipient": node.attrs.get("recipient"),
            "type": "retry",
        }
        parts = (Node("retry", retry), registration, Node("keys", {}, tuple(bundle)))
        receipts.on_receipt(self._world, self.device, Node("receipt", answer, parts))

    def _send_again(self, node: Node) -> None:
        """Encrypt a message anew for the one device that could not read it."""
        asking = self._world.device(node.jid("participant") or node.required_jid("from"))
        request = node.required_child("retry")
        sent = self._sent.get(request.required_text("id"))
        if sent is None or sent.retries[asking.lid] >= MAX_RETRIES:
            return
        sent.retries[asking.lid] += 1
        self._composer.start_again(asking, node)
        message = sent.message
        if isinstance(sent.to, Group):
            message += self._composer.sender_key_message(sent.to)
        elif asking.account is self._account:
            message = device_sent(sent.to.address(sent.lid), message)
        enc = self._composer.enc(asking, message, sent.wrapping.enc, sent.retries[asking.lid])
        to_group = isinstance(sent.to, Group)
        attributes: Attributes = {
            "id": sent.stanza.required_text("id"),
            "type": sent.wrapping.type,
            "edit": sent.wrapping.edit,
            "to": sent.stanza.required_jid("to") if to_group else asking.address(sent.lid),
            "participant": asking.address(sent.lid) if to_group else None,
            "recipient": node.attrs.get("recipient"),
            "device_fanout": None if to_group else "false",
        }
        routing.route_message(
            self._world,
            self.device,
            Node("message", attributes, (enc, *sent.wrapping.extra)),
            sent.timestamp,
        )

    # -- on its way

    def _route(self, stanza: Node, timestamp: int | None) -> None:
        ack = routing.route_message(self._world, self.device, stanza, timestamp)
        self._world.settle()
        if ack.text("error") is not None:
            raise SimulatorError(f"the server refused the message: {ack.text('error')}")

    def _tell(self, companion: Device, message: bytes) -> str:
        """Send content to an own companion, as between devices; the stanza's id."""
        chosen = self._new_id()
        attributes: Attributes = {
            "id": chosen,
            "to": companion.pn,
            "type": "text",
            "category": "peer",
        }
        children = (self._composer.enc(companion, message), Node("meta", {"appdata": "default"}))
        routing.route_message(self._world, self.device, Node("message", attributes, children))
        return chosen

    def _request(self, namespace: str, kind: str, to: Jid, *children: Node) -> Node:
        """Ask the server, as any client would.

        Raises:
            SimulatorError: the server refuses.
        """
        attributes: Attributes = {
            "id": self._world.next_id("P"),
            "type": kind,
            "xmlns": namespace,
            "to": to,
        }
        answer = services.answer(self._world, self.device, Node("iq", attributes, children))
        self._world.settle()
        if (refused := answer.child("error")) is not None:
            raise SimulatorError(f"the server refuses: {refused.text('code')}")
        return answer

    def _canonical(self, chat: Jid) -> Jid:
        """How this phone calls a chat: a person by number, where the number is known."""
        account = self._world.find(chat)
        return chat.bare if account is None else account.pn

    def _new_id(self) -> str:
        return "3A" + self._entropy(9).hex().upper()
