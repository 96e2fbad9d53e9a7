"""Receipts, notifications and calls: each becomes an envelope; the ack follows the commit."""

import collections.abc as cabc
import typing as t

from actors.notices import Calls, Moments, group_facts, group_message, receipt_facts
from storage.api import Envelope, ReceivedMessage
from storage.facts import Fact
from whatsapp.binary import codec
from whatsapp.calls import parse_call
from whatsapp.iq import prekeys as prekey_iq
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.notifications import (
    DevicesChanged,
    IdentityChanged,
    parse_devices_changed,
    parse_group_events,
    parse_identity_changed,
)
from whatsapp.stanzas import ReceiptStanza, parse_receipt

RETRY: t.Final = "retry"  # type of a receipt


class Listener(t.Protocol):
    """Who in the connection wants to know. Nothing here waits for the network."""

    def prekeys_low(self) -> None:
        """The server runs out of our one-time prekeys."""
        ...

    def asked_again(self, receipt: ReceiptStanza, node: Node) -> None:
        """A recipient could not decrypt a message of ours; the listener acknowledges."""
        ...

    def devices_changed(self, change: DevicesChanged) -> tuple[Fact, ...]:
        """The devices of an account are others now; what to commit about it."""
        ...

    async def identity_changed(self, change: IdentityChanged) -> None:
        """An account registered anew."""
        ...

    def collections_changed(self, node: Node) -> None:
        """The app state of the account changed elsewhere."""
        ...

    def media_answered(self, node: Node) -> None:
        """The phone answered a request to upload a file again."""
        ...

    def group_changed(self, group: Jid) -> None:
        """A group, or who is in it, is another now."""
        ...

    def group_unknown(self, group: Jid) -> None:
        """Something happened in a group that should be looked up."""
        ...


Post: t.TypeAlias = cabc.Callable[[Envelope, Node | None], cabc.Awaitable[None]]
"""Commits an envelope, then acknowledges the node, if there is one."""


class Desk:
    """Reads what arrives besides messages; raises ``RemoteProtocolError`` for what is broken."""

    def __init__(
        self,
        name: str,
        own: tuple[Jid, ...],
        post: Post,
        listener: Listener,
    ) -> None:
        """``own``: the account's bare addresses, the phone number first."""
        self._name = name
        self._own = own
        self._post = post
        self._listener = listener
        self._calls = Calls()
        self._moments = Moments()

    async def receipt(self, node: Node) -> None:
        """A receipt for messages of ours, or for what another own device did."""
        receipt = parse_receipt(node)
        if receipt.type == RETRY and receipt.retry is not None:
            self._listener.asked_again(receipt, node)
            return
        await self._keep(node, facts=receipt_facts(receipt, self._own))

    async def call(self, node: Node) -> None:
        """An event of a call."""
        event = parse_call(node)
        message = None if event is None else self._calls.message(event, self._own)
        await self._keep(node, message)

    async def notification(self, node: Node) -> None:
        """News from the server."""
        match node.text("type"):
            case "w:gp2":
                await self._group(node)
            case "encrypt":
                if prekey_iq.parse_low_notification(node) is not None:
                    self._listener.prekeys_low()
                elif (identity := parse_identity_changed(node)) is not None:
                    await self._listener.identity_changed(identity)
                await self._keep(node)
            case "devices" | "account_sync":
                change = parse_devices_changed(node)
                facts = () if change is None else self._listener.devices_changed(change)
                await self._keep(node, facts=facts)
            case "server_sync":
                self._listener.collections_changed(node)
                await self._keep(node)
            case "mediaretry":
                self._listener.media_answered(node)
                await self._keep(node)
            case _:
                await self._keep(node)

    async def _group(self, node: Node) -> None:
        """One envelope per change; the last one carries the acknowledgement."""
        events = parse_group_events(node)
        if not events:
            await self._keep(node)
            return
        self._listener.group_changed(events[0].group)
        for event in events:
            facts = group_facts(event, self._moments.of(event))
            message = group_message(event, self._own)
            if event is events[-1]:
                await self._keep(node, message, facts)
            else:
                await self._post(self._envelope(node, message, facts), None)
        if any(event.action in ("add", "create") for event in events):
            self._listener.group_unknown(events[0].group)

    async def _keep(
        self,
        node: Node,
        message: ReceivedMessage | None = None,
        facts: tuple[Fact, ...] = (),
    ) -> None:
        await self._post(self._envelope(node, message, facts), node)

    def _envelope(
        self, node: Node, message: ReceivedMessage | None, facts: tuple[Fact, ...]
    ) -> Envelope:
        stanza = codec.encode(node) if message is not None or facts else b""
        return Envelope(connection=self._name, message=message, facts=facts, stanza=stanza)
