"""Sends what the outbox of one connection holds, each message once.

Theory of operation. A row is taken in its turn, its plaintext composed and kept. Then one envelope
commits together: the row is ``sending``, the message is in its conversation, the sessions have
stepped. Only then the stanza is written, and the row is ``sent`` or ``failed`` as the server says.
Whatever ends the process before the commit leaves the row queued; after it, the row is found
``sending`` by the next life, which calls it ``unknown``: it may have left, so it is never sent
again by itself, and a receipt settles it. Source: docs/protocol.md#sending
"""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors import drafts
from actors.composition import Composer, Destination, UnsendableError, Upload
from actors.courier import Courier, Parcel
from actors.devices import Devices, UnreachableError
from actors.errors import ActorError, TransportError
from actors.in_flight import InFlight
from actors.line import Line, NotOnlineError
from actors.media_http import MediaUnavailableError
from actors.outgoing import OutboxStorage
from actors.outgoing import SenderSettings as SenderSettings
from actors.pacing import Pacer
from actors.reading import Origin, message_of
from actors.records import RecordCache
from actors.retries import Retries
from actors.settings import Tools
from storage.api import ReceivedMessage
from storage.crash_points import crash_point
from storage.errors import StorageError, StorageRejectedError, StorageUnavailableError
from storage.facts import OutboxStep
from storage.queues import OutboxRow, OutboxState
from supervisor.backoff import Backoff
from whatsapp import sending
from whatsapp.content import Content, read_content
from whatsapp.device import Device
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq.core import IqError
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.stanzas import AckStanza, ReceiptStanza

BATCH: t.Final = 32  # rows read at once
POLL: t.Final = 30.0  # seconds; for a wake-up that got lost with another process
UNACKNOWLEDGED: t.Final = 16  # messages that wait for the server at once
MAX_TRIES: t.Final = 5  # at what WhatsApp refuses for now
MAX_PAUSE: t.Final = 600.0  # seconds; WhatsApp may ask for one

TypingState: t.TypeAlias = t.Literal["composing", "recording", "paused"]
P = t.TypeVar("P")
V = t.TypeVar("V")

_REFUSALS: t.Final = {
    400: "WhatsApp calls the message malformed",
    401: "this account may not write to that chat",
    403: "this account may not write to that chat",
    404: "WhatsApp knows no such recipient",
    406: "WhatsApp does not accept the message",
    429: "WhatsApp says that this account sends too much",
    463: "this person has to write first: WhatsApp restricts whom this account may reach out to",
    479: "WhatsApp calls the stanza invalid",
    503: "WhatsApp is not available",
}
_log: structlog.stdlib.BoundLogger = structlog.get_logger("sender")


@attrs.define(eq=False)
class _Written:
    """A message that the server has not taken yet."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    ack: AckStanza | None = None


class Sender(t.Generic[P]):
    """The sending half of one life of a connection."""

    def __init__(
        self,
        name: str,
        device: Device,
        cache: RecordCache,
        in_flight: InFlight[P],
        tools: Tools,
        settings: SenderSettings,
        line: Line,
        *,
        storage: OutboxStorage,
        upload: Upload,
        purpose: P,
    ) -> None:
        """``purpose`` goes with the envelopes posted here: nothing is owed for them."""
        self._name = name
        self._own = tuple(jid.bare for jid in (device.jid, device.lid) if jid is not None)
        self._tools = tools
        self._ack_timeout = settings.ack_timeout
        self._storage = storage
        self._courier = Courier(name, device, cache, in_flight, tools, line, storage, purpose)
        self._retries = Retries(self._courier, storage)
        self._composer = Composer(
            name,
            storage,
            upload,
            person=self.devices.person,
            wall_clock=tools.wall_clock,
            random=tools.random,
        )
        self._pacer = Pacer(settings.pace, tools.uniform)
        self._backoff = Backoff(initial=5.0, maximum=60.0)
        self._woken = trio.Event()
        self._written: dict[str, _Written] = {}
        self._room = trio.Semaphore(UNACKNOWLEDGED)
        self._log = _log.bind(connection=name)

    @property
    def devices(self) -> Devices:
        """People, device lists and groups: tell it what notifications say."""
        return self._courier.devices

    # ---- tasks

    async def run(self, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled. Start it when the connection is online."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._retries.run)
            for row in await self._stored(lambda: self._storage.settle_interrupted(self._name)):
                self._log.warning("sender.interrupted", message=row.external_id)
            task_status.started()
            while True:
                self._woken = trio.Event()
                rows = await self._stored(lambda: self._storage.outbox_pending(self._name, BATCH))
                for row in rows:
                    await self._deal_with(row, nursery)
                if not rows:
                    with trio.move_on_after(POLL):
                        await self._woken.wait()

    def wake(self) -> None:
        """There may be something to send."""
        self._woken.set()

    async def _deal_with(self, row: OutboxRow, nursery: trio.Nursery) -> None:
        """Send one row, or learn that it cannot be sent."""
        failures = 0
        while True:
            try:
                await self._send(row, nursery)
                return
            except StorageUnavailableError:
                # For as long as it takes: the row waits in there.
                await trio.sleep(self._backoff.delay(1, self._tools.uniform()))
            except (drafts.BadRequestError, UnsendableError, UnreachableError) as error:
                await self._fail(row, str(error))
                return
            except StorageRejectedError as error:
                await self._fail(row, f"the database refuses it: {error}")
                return
            except (RemoteProtocolError, NotOnlineError, MediaUnavailableError) as error:
                failures += 1
                if failures >= MAX_TRIES:
                    await self._fail(row, f"WhatsApp does not let it be sent: {error}")
                    return
                self._log.info("sender.later", message=row.external_id, reason=str(error))
                pause = self._backoff.delay(failures, 0.5 + self._tools.uniform() / 2)
                await trio.sleep(max(pause, min(_wanted_pause(error), MAX_PAUSE)))

    async def _send(self, row: OutboxRow, nursery: trio.Nursery) -> None:
        body = drafts.read_request(row.request)
        chat = _chat(row.chat)
        if isinstance(body, drafts.Read):
            await self._send_receipts(row, body, chat)
            return
        to = await self._courier.destination(chat)
        plaintext = await self._plaintext(row, body, to)
        content = read_content(plaintext)
        crash_point("outbox.composed")
        await self._pacer.turn()
        await self._room.acquire()
        written = self._written[row.external_id] = _Written()
        try:
            stanza = await self._courier.prepare(
                Parcel(
                    id=row.external_id,
                    to=to,
                    plaintext=plaintext,
                    outline=sending.outline_of(content),
                    message=self._own_message(row, to, content),
                    facts=(self._step(row, OutboxState.SENDING),),
                )
            )
        except BaseException:
            self._forget(row)
            raise
        # From here on it may have left; and the next one is encrypted after this one is written.
        crash_point("outbox.committed")
        try:
            await self._courier.write(stanza)
            crash_point("outbox.written")
        except NotOnlineError as error:
            self._forget(row)
            await self._settle(row, OutboxState.UNKNOWN, f"the connection broke: {error}")
        else:
            nursery.start_soon(self._await_ack, row, to, written)

    async def _plaintext(self, row: OutboxRow, body: drafts.Body, to: Destination) -> bytes:
        """What is sent: of an earlier try, or composed now."""
        kept = await self._storage.sent_message(self._name, row.external_id)
        if kept is not None and kept.payload is not None:
            return kept.payload
        plaintext = await self._compose(body, to)
        return await self._storage.outbox_set_payload(self._name, row.id, plaintext)

    async def _compose(self, body: drafts.Body, to: Destination) -> bytes:
        """A request that brings a bug to light fails alone, and not the connection with it."""
        try:
            return await self._composer.compose(body, to)
        except (UnsendableError, UnreachableError, MediaUnavailableError, TransportError):
            raise
        except (RemoteProtocolError, NotOnlineError, StorageError):
            raise
        except ActorError as error:
            raise UnsendableError(str(error)) from error
        except Exception as error:
            self._log.exception("sender.not_composed")
            raise UnsendableError(f"it cannot be composed: {type(error).__name__}") from error

    def _own_message(self, row: OutboxRow, to: Destination, content: Content) -> ReceivedMessage:
        """The message as the conversation shows it."""
        return message_of(
            content,
            Origin(
                chat=to.jid,
                chat_alt=None if to.person is None else to.person.other(to.jid),
                sender=self._own[0],
                from_me=True,
                own=self._own,
                id=row.external_id,
                timestamp=int(self._tools.wall_clock()),
            ),
        )

    async def _send_receipts(self, row: OutboxRow, body: drafts.Read, chat: Jid) -> None:
        """Read receipts; the same ones twice do no harm, so the row ends after they left."""
        author = None
        if chat.is_group:
            lid = (await self.devices.group(chat)).lid_addressing
            if body.author is None:
                raise UnsendableError("in a group a read receipt names the author (author)")
            author = (await self.devices.stored(_chat(body.author))).form(lid)
        else:
            chat = (await self.devices.stored(chat)).form(True)
        now = int(self._tools.wall_clock())
        kind: t.Literal["read", "played"] = "played" if body.played else "read"
        for receipt in sending.read_receipts(body.ids, chat, author, now, kind):
            await self._courier.write(receipt)
        await self._settle(row, OutboxState.SENT)

    # ---- what becomes of it

    def on_ack(self, ack: AckStanza) -> None:
        """The server took a stanza, or refused it."""
        if ack.kind != "message":
            return
        if (written := self._written.get(ack.id)) is not None:
            written.ack = ack
            written.answered.set()
        elif ack.error:
            self._log.warning("sender.refused", message=ack.id, error=ack.error)

    async def _await_ack(self, row: OutboxRow, to: Destination, written: _Written) -> None:
        timeout = self._ack_timeout
        try:
            with trio.move_on_after(timeout):
                await written.answered.wait()
        finally:
            self._forget(row)
        crash_point("outbox.acknowledged")
        ack = written.ack
        if ack is None:
            reason = f"WhatsApp has not answered within {timeout:g} s"
            await self._settle(row, OutboxState.UNKNOWN, reason)
        elif ack.error:
            reason = _REFUSALS.get(ack.error, "WhatsApp refuses the message")
            await self._settle(row, OutboxState.FAILED, f"{reason} (code {ack.error})")
        else:
            await self._settle(row, OutboxState.SENT)
        if ack is not None and ack.phash is not None:
            group = to.group
            members = () if group is None else self.devices.members(group)
            people = members if to.person is None else (to.person, self.devices.own)
            self.devices.disagreed(to.jid, people)

    def _forget(self, row: OutboxRow) -> None:
        del self._written[row.external_id]
        self._room.release()

    async def _fail(self, row: OutboxRow, reason: str) -> None:
        await self._settle(row, OutboxState.FAILED, reason)

    async def _settle(self, row: OutboxRow, state: OutboxState, reason: str | None = None) -> None:
        await self._courier.commit(facts=(self._step(row, state, reason),))
        crash_point("outbox.settled")
        self._log.info("sender.settled", message=row.external_id, state=state, reason=reason)

    def _step(self, row: OutboxRow, state: OutboxState, reason: str | None = None) -> OutboxStep:
        at = self._tools.wall_clock()
        return OutboxStep(id=row.id, state=state.value, reason=reason, at=at)

    async def _stored(self, read: cabc.Callable[[], cabc.Awaitable[V]]) -> V:
        """What storage answers, as soon as it is there."""
        failures = 0
        while True:
            try:
                return await read()
            except StorageUnavailableError:
                failures += 1
                await trio.sleep(self._backoff.delay(failures, self._tools.uniform()))

    # ---- what others ask for

    def on_retry(self, receipt: ReceiptStanza, node: Node) -> None:
        """A recipient could not decrypt a message of ours. Acknowledged from here, in time."""
        self._retries.ask(receipt, node)

    async def identity_changed(self, account: Jid) -> None:
        """An account registered anew: its sessions are of no use. Waits for no network."""
        self.devices.changed(account, None)
        await self._courier.forget_sessions(account)

    async def send_peer(
        self, message: bytes, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        """Send a message to the own phone; its stanza id.

        Raises:
            NotOnlineError: it did not leave, or may not have.
            UnreachableError: WhatsApp has no keys of the phone.
            UnsendableError: the session cannot be stored.
            RemoteProtocolError: WhatsApp refuses to tell the phone's keys.
        """
        if stanza_id is None:
            now = int(self._tools.wall_clock())
            stanza_id = sending.message_id(self._own[0], now, self._tools.random(16))
        stanza = await self._courier.to_phone(stanza_id, message, priority)
        self._retries.sent_to_phone(stanza_id, message, priority)
        await self._courier.write(stanza)
        return stanza_id

    async def typing(self, chat: Jid, state: TypingState) -> None:
        """Show that somebody types, records, or has stopped; leaves at once, and no trace.

        Raises:
            NotOnlineError: there is nobody to show it to.
        """
        if chat.is_person:
            chat = self.devices.remembered(chat).form(True)
        await self._courier.write(sending.chat_state(chat, state))

    async def check_number(self, number: str) -> Jid | None:
        """The account behind a phone number (digits with country code), by its number; None:
        nobody on WhatsApp has it.

        Raises:
            NotOnlineError: there is no answer.
            RemoteProtocolError: WhatsApp refuses to tell.
        """
        found = await self.devices.check_number(number)
        return None if found is None else found.form(False)


def _wanted_pause(error: Exception) -> float:
    """Seconds that the server wants us to wait."""
    match error:
        case IqError():
            return error.backoff or 0.0
        case MediaUnavailableError():
            return error.retry_after or 0.0
        case _:
            return 0.0


def _chat(address: str) -> Jid:
    try:
        return Jid.parse(address).bare
    except RemoteProtocolError as error:
        raise drafts.BadRequestError(f"no address: {error}") from error
