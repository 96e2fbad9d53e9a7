"""Messages that a recipient could not decrypt: encrypted once more, for the device that asks.

A request is acknowledged when it is answered or refused for good, so one that a crash interrupts
comes again. What is sent again is what was sent, from the outbox, after a restart too.

The budget is five answers per device and message. It is kept in memory, and so begins anew with
each socket; an honest device counts its requests itself, and none above five is answered.
Source: docs/protocol.md#retry-receipts, docs/protocol.md#resending
"""

import collections
import typing as t

import attrs
import structlog
import trio

from actors.composition import UnsendableError
from actors.courier import Courier
from actors.devices import Person, UnreachableError
from actors.encryption import Bundles, Sealing, Target, target_of
from actors.line import NotOnlineError
from actors.outgoing import SentStorage
from storage.crash_points import crash_point
from storage.errors import StorageUnavailableError
from storage.queues import OutboxState
from whatsapp import sending
from whatsapp.content import build_device_sent, read_content
from whatsapp.e2ee import session
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq.core import IqError
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.sending import Outline, Sealed
from whatsapp.stanzas import PEER, ReceiptStanza, RetryRequest, ack

BUDGET: t.Final = 5  # answers per device and message
BACKLOG: t.Final = 256  # requests that wait
MAX_TRACKED: t.Final = 4096  # devices and messages that are counted
MAX_PEER: t.Final = 64  # messages to the own phone that can be sent again
REBUILD_INTERVAL: t.Final = 3600.0  # seconds between two new sessions without the peer's keys

P = t.TypeVar("P")
log: structlog.stdlib.BoundLogger = structlog.get_logger("retries")


@attrs.frozen(kw_only=True)
class _Asked:
    """One request, understood: who wants what, in which chat."""

    retry: RetryRequest
    receipt: ReceiptStanza
    device: Jid  # that asks
    chat: Jid  # bare

    @property
    def key(self) -> tuple[Jid, str]:
        return self.device, self.retry.id


class RefusedError(Exception):
    """The request is not answered; the text says why."""


class Retries(t.Generic[P]):
    """Answers the requests of one connection, one after the other."""

    def __init__(self, courier: Courier[P], storage: SentStorage) -> None:
        self._courier = courier
        self._storage = storage
        self._log = log.bind(connection=courier.name)
        self._ask, self._asked = trio.open_memory_channel[tuple[ReceiptStanza, Node]](BACKLOG)
        self._answers: collections.OrderedDict[tuple[Jid, str], int] = collections.OrderedDict()
        self._base_keys: collections.OrderedDict[tuple[Jid, str], bytes] = collections.OrderedDict()
        self._rebuilt: collections.OrderedDict[Jid, float] = collections.OrderedDict()
        self._peer: collections.OrderedDict[str, tuple[bytes, str | None]]
        self._peer = collections.OrderedDict()

    def ask(self, receipt: ReceiptStanza, node: Node) -> None:
        """Take a request in; it is acknowledged from here, once it is dealt with."""
        try:
            self._ask.send_nowait((receipt, node))
        except trio.WouldBlock:
            # Not acknowledged: WhatsApp delivers it again after the next login.
            self._log.warning("retries.too_many")

    def sent_to_phone(self, stanza_id: str, message: bytes, priority: str | None) -> None:
        """Remember a message to the own phone, which is in no outbox."""
        _remember(self._peer, stanza_id, (message, priority), MAX_PEER)

    async def run(self) -> t.NoReturn:
        """Answer requests until cancelled."""
        while True:
            receipt, node = await self._asked.receive()
            try:
                await self._deal_with(receipt, node)
            except (NotOnlineError, StorageUnavailableError, IqError) as error:
                self._log.info("retries.later", reason=str(error))  # not acknowledged

    async def _deal_with(self, receipt: ReceiptStanza, node: Node) -> None:
        try:
            await self._answer(receipt)
        except IqError:
            raise
        except (RefusedError, UnreachableError, UnsendableError, RemoteProtocolError) as error:
            self._log.info("retries.refused", reason=str(error))
        await self._courier.write(ack(node))

    async def _answer(self, receipt: ReceiptStanza) -> None:
        asked = _understood(receipt)
        count = self._answers.get(asked.key, 0) + 1
        if asked.retry.count > BUDGET or count > BUDGET:
            raise RefusedError(f"asked {max(count, asked.retry.count)} times")
        _remember(self._answers, asked.key, count, MAX_TRACKED)
        if receipt.category == PEER or asked.retry.id in self._peer:
            stanza = await self._for_phone(asked)
        else:
            stanza = await self._for_chat(asked)
        crash_point("resend.committed")
        await self._courier.write(stanza)
        crash_point("resend.written")
        self._log.info("retries.sent_again", count=asked.retry.count, message=asked.retry.id)

    # ---- what is sent again

    async def _for_phone(self, asked: _Asked) -> Node:
        message, priority = self._peer.get(asked.retry.id, (None, None))
        own = self._courier.devices.own.forms
        if message is None or asked.device.bare not in own or asked.device.device != 0:
            raise RefusedError("no such message to the own phone")
        phone = self._courier.devices.phone()
        bundles = await self._keys(asked, phone)
        async with self._courier.encryptor.sealing() as sealing:
            sealed = await self._seal(sealing, asked, phone, message, bundles)
            committed = await self._courier.commit_sealed(sealing)
        await committed()
        return self._courier.peer_stanza(asked.retry.id, sealed, priority, count=asked.retry.count)

    async def _for_chat(self, asked: _Asked) -> Node:
        sent = await self._storage.sent_message(self._courier.name, asked.retry.id)
        if sent is None or sent.payload is None or sent.state == OutboxState.QUEUED:
            raise RefusedError("no such message, or too long ago")
        chat = Jid.parse(sent.chat).bare
        who = await self._courier.devices.stored(asked.device)
        outline = sending.outline_of(read_content(sent.payload))
        if chat.is_group:
            await self._require_member(asked, chat, who)
            return await self._resend(asked, sent.payload, who, outline, group=chat)
        own = who == self._courier.devices.own
        partner = await self._courier.devices.stored(chat)
        if asked.chat not in partner.forms or not (own or who == partner):
            raise RefusedError("asked by somebody else than the recipient")
        plaintext = build_device_sent(asked.chat, sent.payload) if own else sent.payload
        return await self._resend(
            asked, plaintext, who, outline, recipient=asked.receipt.recipient if own else None
        )

    async def _require_member(self, asked: _Asked, chat: Jid, who: Person) -> None:
        if asked.chat != chat:
            raise RefusedError("asked from another chat")
        devices = self._courier.devices
        if who not in devices.members(await devices.group(chat)):
            raise RefusedError("asked by somebody who is not in the group")

    async def _resend(
        self,
        asked: _Asked,
        plaintext: bytes,
        who: Person,
        outline: Outline,
        *,
        group: Jid | None = None,
        recipient: Jid | None = None,
    ) -> Node:
        target = target_of(asked.device, who.other(asked.device))
        bundles = await self._keys(asked, target)
        async with self._courier.encryptor.sealing() as sealing:
            if group is not None:
                # Pairwise, and with the sender key, which comes once more with the next message.
                plaintext += await sealing.group_distribution(group) or b""
                await sealing.forget_holder(group, target)
            sealed = await self._seal(sealing, asked, target, plaintext, bundles)
            committed = await self._courier.commit_sealed(sealing)
        await committed()
        return sending.resent_message(
            asked.retry.id,
            group or asked.device,
            sealed.ciphertext,
            outline,
            self._courier.identity,
            count=asked.retry.count,
            participant=None if group is None else asked.device,
            recipient=recipient,
            timestamp=asked.retry.timestamp or None,
        )

    async def _seal(
        self,
        sealing: Sealing,
        asked: _Asked,
        target: Target,
        plaintext: bytes,
        bundles: Bundles,
    ) -> Sealed:
        """Encrypt in a new session where there are keys for one, else in the one there is."""
        if (bundle := bundles.get(target.device)) is not None:
            await sealing.start(target, bundle)
        sealed = await sealing.seal(target, plaintext)
        record = await sealing.session_of(target)
        if sealed is None or record is None:
            raise UnreachableError("there are no keys of the device that asks")
        if asked.retry.count == 2:
            _remember(self._base_keys, asked.key, session.peer_of(record)[1], MAX_TRACKED)
        return sealed

    # ---- with which session

    async def _keys(self, asked: _Asked, target: Target) -> Bundles:
        """The keys for a new session, if the present one is missing or of no use."""
        if asked.retry.bundle is not None:
            return {target.device: asked.retry.bundle}
        async with self._courier.encryptor.sealing() as sealing:
            record = await sealing.session_of(target)
        if record is not None and not self._is_useless(asked, record):
            return {}
        _remember(self._rebuilt, target.device, trio.current_time(), MAX_TRACKED)
        return await self._courier.fetch_bundles([target], anew=record is not None)

    def _is_useless(self, asked: _Asked, record: session.SessionRecord) -> bool:
        """Whether the peer was installed anew, or cannot read what this session encrypts."""
        registration, base_key = session.peer_of(record)
        if asked.retry.registration_id not in (None, registration):
            return True
        if asked.retry.count > 2 and self._base_keys.get(asked.key) == base_key:
            return True
        rebuilt = self._rebuilt.get(asked.device, -REBUILD_INTERVAL)
        long_ago = trio.current_time() - rebuilt >= REBUILD_INTERVAL
        return asked.retry.count >= 2 and long_ago


def _understood(receipt: ReceiptStanza) -> _Asked:
    device, chat, retry = receipt.sender, receipt.chat, receipt.retry
    if device is None or chat is None or retry is None or not device.is_person:
        raise RefusedError("a request from nobody")
    return _Asked(retry=retry, receipt=receipt, device=device, chat=chat.bare)


K = t.TypeVar("K")
V = t.TypeVar("V")


def _remember(known: "collections.OrderedDict[K, V]", key: K, value: V, limit: int) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > limit:
        known.popitem(last=False)
