"""How the server copies one message to the devices it is meant for.

Source: docs/protocol.md#server-fan-out
"""

import typing as t

from simulator.errors import UnknownNameError
from simulator.ledger import Record
from simulator.model import PHONE, Account, Device, Group
from simulator.replies import Attributes
from simulator.world import World, letter
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Node

_KEPT: t.Final = ("meta", "biz", "bot", "reporting")  # children every recipient gets a copy of
_UNKNOWN_RECIPIENT: t.Final = 404
_INVALID_STANZA: t.Final = 479


def route_message(world: World, sender: Device, node: Node, timestamp: int | None = None) -> Node:
    """Owe a message to everyone it names, and acknowledge it to its sender.

    Raises:
        RemoteProtocolError: the stanza lacks an id, a recipient or a ciphertext.
    """
    route = _Route(world, sender, node, int(world.now()) if timestamp is None else timestamp)
    error: int | None = None
    try:
        route.deliver()
    except UnknownNameError:
        error = _UNKNOWN_RECIPIENT
    return Node(
        "ack",
        {
            "class": "message",
            "id": route.id,
            "from": route.to,
            "t": route.timestamp,
            "participant": node.attrs.get("participant"),
            "error": error,
        },
    )


def refusal(node: Node) -> Node:
    """The answer to a message that cannot be routed."""
    attributes: Attributes = {
        "class": "message",
        "id": node.text("id"),
        "from": node.attrs.get("to"),
        "error": _INVALID_STANZA,
    }
    return Node("ack", attributes)


class _Route:
    """One message on its way."""

    def __init__(self, world: World, sender: Device, node: Node, timestamp: int) -> None:
        self.world = world
        self.sender = sender
        self.node = node
        self.timestamp = timestamp
        self.id = node.required_text("id")
        self.to = node.required_jid("to")
        self.bare = tuple(child for child in node.children if child.tag == "enc")
        self.identity = node.child("device-identity")
        self.kept = tuple(child for child in node.children if child.tag in _KEPT)
        self.addressed = tuple(
            (child.required_jid("jid"), child.children_named("enc"))
            for child in (node.child("participants") or node).children_named("to")
        )
        if not self.bare and not self.addressed:
            raise RemoteProtocolError("a message without ciphertext")

    def deliver(self) -> None:
        """Choose by kind of recipient."""
        if self.to.is_group:
            self._to_group(self.world.group(self.to))
        elif self.node.text("category") == "peer":
            number = PHONE if not self.sender.is_phone else self.to.device
            self._to_peer(self.sender.account.devices[number])
        elif self.to.is_person:
            self._to_person(self.world.account(self.to))
        else:
            raise UnknownNameError(f"no recipient {self.to}")

    def _to_person(self, account: Account) -> None:
        # A resend for one device may name that device again among participants: one copy counts.
        encs = ((self.to, self.bare),) if self.bare else self.addressed
        for jid, own in encs:
            device = self.world.device(jid)
            if device is not self.sender and own:
                self._owe_direct(device, self._chat(device) or account, own)

    def _chat(self, device: Device) -> Account | None:
        """The chat that a copy for one own device belongs to, where the stanza tells."""
        recipient = self.node.jid("recipient")
        if recipient is None or not self.bare or device.account is not self.sender.account:
            return None
        return self.world.account(recipient)

    def _owe_direct(self, device: Device, chat: Account, encs: tuple[Node, ...]) -> None:
        lid = self.to.is_lid
        attributes: Attributes = {
            "from": self.sender.address(lid),
            "sender_pn" if lid else "sender_lid": self.sender.account.address(not lid),
            "addressing_mode": "lid" if lid else "pn",
        }
        from_me = device.account is self.sender.account
        if not from_me and not device.is_phone:
            self.sender.account.watchers[device.lid] = device
        if from_me:
            attributes["recipient"] = chat.address(lid)
            attributes["peer_recipient_pn" if lid else "peer_recipient_lid"] = chat.address(not lid)
        seen_as = chat.pn if from_me else self.sender.account.pn
        self._owe(device, attributes, encs, chat, seen_as)

    def _to_peer(self, device: Device) -> None:
        attributes = self._common({"from": self.sender.pn, "category": "peer"})
        children = (*self.bare, *self._identity_for(self.bare), *self.kept)
        self.world.owe(device, Node("message", attributes, children))

    def _to_group(self, group: Group) -> None:
        if self.sender.account.lid not in group.members:
            raise UnknownNameError(f"not a member of {group.jid}")
        lid = group.lid_addressing
        attributes: Attributes = {
            "from": group.jid,
            "participant": self.sender.address(lid),
            "participant_pn" if lid else "participant_lid": self.sender.account.address(not lid),
            "addressing_mode": "lid" if lid else "pn",
        }
        if (only := self.node.jid("participant")) is not None:
            self._owe(self.world.device(only), attributes, self.bare, group, group.jid)
            return
        pairwise = {id(self.world.device(jid)): encs for jid, encs in self.addressed}
        for account in group.members.values():
            for device in account.devices.values():
                if device is not self.sender:
                    encs = (*pairwise.get(id(device), ()), *self.bare)
                    self._owe(device, attributes, encs, group, group.jid)

    def _owe(
        self,
        device: Device,
        attributes: Attributes,
        encs: tuple[Node, ...],
        chat: Account | Group,
        seen_as: Jid,
    ) -> None:
        children = (*encs, *self._identity_for(encs), *self.kept)
        record = Record(
            letter=letter(self.sender.account, chat, self.id),
            device=device.pn,
            chat=seen_as,
            from_me=device.account is self.sender.account,
            sent_at=self.timestamp,
            routed_at=self.world.now(),
            resent=int(any(enc.text("count") not in (None, "0") for enc in encs)),
        )
        self.world.owe(device, Node("message", self._common(attributes), children), record)

    def _common(self, attributes: Attributes) -> Attributes:
        return {
            **attributes,
            "id": self.id,
            "t": self.timestamp,
            "type": self.node.text("type") or "text",
            "notify": self.sender.account.name,
            "edit": self.node.text("edit"),
        }

    def _identity_for(self, encs: tuple[Node, ...]) -> tuple[Node, ...]:
        if self.identity is None or not any(enc.text("type") == "pkmsg" for enc in encs):
            return ()
        return (self.identity,)
