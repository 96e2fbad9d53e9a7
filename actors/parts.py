"""What a life does besides receiving: sending, app state, groups, what the phone is asked for.

They start once the queue of missed stanzas is empty, and hear of what arrives from the start.
"""

import functools

import trio

from actors.app_state import AppState, Asked
from actors.group_upkeep import GroupUpkeep
from actors.inbound import own_addresses
from actors.line import ConnectionLine
from actors.link import Link
from actors.peers import PeerNews
from actors.placeholders import Placeholders
from actors.prekey_upkeep import PrekeyUpkeep
from actors.purpose import MAX_RETRY_RECEIPTS, Flight, Purpose
from actors.records import RecordCache
from actors.sender import Sender, SenderSettings
from actors.settings import ConnectionSettings, Tools
from storage.api import Envelope, Outcome
from storage.facts import Fact
from whatsapp.appstate.requests import is_recovery
from whatsapp.device import Device
from whatsapp.iq import app_state as app_state_iq
from whatsapp.iq.bulletins import DirtyAnnounced
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.notifications import DevicesChanged, IdentityChanged
from whatsapp.peer import PeerKind
from whatsapp.stanzas import MessageStanza, ReceiptStanza


class Parts:
    """The parts of one life; a listener of its desk (see :class:`actors.desk.Listener`)."""

    def __init__(
        self,
        name: str,
        device: Device,
        settings: ConnectionSettings,
        tools: Tools,
        cache: RecordCache,
        in_flight: Flight,
        line: ConnectionLine,
        asked: Asked,
    ) -> None:
        own = own_addresses(device)
        self._name = name
        self._settings = settings
        self._files = tools.files
        self._in_flight = in_flight
        self._line = line
        self.prekeys = PrekeyUpkeep(name, device, in_flight, tools, settings, Purpose())
        self.sender = Sender(
            name,
            device,
            cache,
            in_flight,
            tools,
            SenderSettings(pace=settings.pace, ack_timeout=settings.send_timeout),
            line,
            storage=tools.storage,
            upload=functools.partial(tools.files.upload, name),
            purpose=Purpose(),
        )
        self.app_state = AppState(
            name,
            cache,
            self._commit,
            tools,
            settings,
            line,
            tools.files.fetch,
            own=str(own[0]),
            asked=asked,
        )
        self.placeholders = Placeholders(
            name,
            tools.storage,
            self._commit,
            line,
            tools.wall_clock,
            own,
            retry_limit=MAX_RETRY_RECEIPTS,
        )
        self.groups = GroupUpkeep(name, self._keep, line, tools.wall_clock)

    async def run(self, link: Link) -> None:
        """Work, and let others use the link, until cancelled."""
        with self._line.attached(link, self.sender.send_peer):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sender.run)
                nursery.start_soon(self.app_state.run)
                nursery.start_soon(self.placeholders.run)
                if self._settings.groups:
                    nursery.start_soon(self.groups.run)

    async def _keep(self, envelope: Envelope) -> None:
        await self._in_flight.post(envelope, Purpose())

    async def _commit(self, envelope: Envelope) -> Outcome | None:
        return await self._in_flight.commit(envelope, Purpose())

    # ---- what arrives --------------------------------------------------------------------

    def message(self, stanza: MessageStanza) -> None:
        """A message came."""
        if stanza.chat.is_group:
            self.groups.met(stanza.chat)

    def heard(self, news: PeerNews) -> None:
        """The own phone told something; its records are in the cache."""
        match news.kind:
            case PeerKind.KEY_SHARE:
                self.app_state.keys_arrived()
            case PeerKind.RESPONSE if is_recovery(news.raw):
                self.app_state.recovery_arrived(news.raw)
            case PeerKind.RESPONSE:
                self.placeholders.answered(news.raw)
            case _:
                pass

    def dirty(self, bulletin: DirtyAnnounced) -> None:
        """The server says that something changed while the device was away."""
        if app_state_iq.is_dirty(bulletin):
            self.app_state.dirty()

    def prekeys_low(self) -> None:
        """See :class:`actors.desk.Listener`."""
        self.prekeys.running_low()

    def asked_again(self, receipt: ReceiptStanza, node: Node) -> None:
        """See :class:`actors.desk.Listener`."""
        self.sender.on_retry(receipt, node)

    def devices_changed(self, change: DevicesChanged) -> tuple[Fact, ...]:
        """See :class:`actors.desk.Listener`."""
        return self.sender.devices.changed(change.account, change.devices, lid=change.lid)

    async def identity_changed(self, change: IdentityChanged) -> None:
        """See :class:`actors.desk.Listener`."""
        await self.sender.identity_changed(change.account)

    def collections_changed(self, node: Node) -> None:
        """See :class:`actors.desk.Listener`."""
        changed = app_state_iq.parse_server_sync(node)
        if changed is not None:
            self.app_state.dirty(name for name, _version in changed)

    def media_answered(self, node: Node) -> None:
        """See :class:`actors.desk.Listener`."""
        self._files.answered(self._name, node)

    def group_changed(self, group: Jid) -> None:
        """See :class:`actors.desk.Listener`."""
        self.sender.devices.group_changed(group)

    def group_unknown(self, group: Jid) -> None:
        """See :class:`actors.desk.Listener`."""
        self.groups.unknown(group)
