"""What a phone owes its companions: keys and history."""

import typing as t
import zlib

from simulator.handset import Handset
from simulator.model import Account, Device
from simulator.world import World
from whatsapp.proto import wa_pb2

SYNC_KEY_ID: t.Final = b"\x00\x00\x00\x00\x00\x01"

_INITIAL_BOOTSTRAP: t.Final = 0
_RECENT: t.Final = 3
_PUSH_NAME: t.Final = 4


class SyncDuties(Handset):
    """The part of a phone that keeps its companions up to date."""

    def __init__(self, world: World, account: Account) -> None:
        super().__init__(world, account)
        self._sync_key = self._entropy.fork("sync key")(32)

    def greet(self, companion: Device) -> None:
        """Send a new companion the sync key and a history, which is empty but complete."""
        share = wa_pb2.ProtocolMessage(type=wa_pb2.ProtocolMessage.APP_STATE_SYNC_KEY_SHARE)
        key = share.app_state_sync_key_share.keys.add()
        key.key_id.key_id = SYNC_KEY_ID
        key.key_data.key_data = self._sync_key
        key.key_data.timestamp = int(self._world.now())
        self._tell_protocol(companion, share)
        for order, sync_type in enumerate((_INITIAL_BOOTSTRAP, _PUSH_NAME, _RECENT)):
            history = wa_pb2.ProtocolMessage(type=wa_pb2.ProtocolMessage.HISTORY_SYNC_NOTIFICATION)
            notification = history.history_sync_notification
            notification.sync_type = sync_type
            notification.chunk_order = order
            notification.progress = 100
            notification.initial_hist_bootstrap_inline_payload = zlib.compress(
                bytes(
                    (0x08, sync_type, 0x28, order, 0x30, 100)
                )  # HistorySync: type, order, progress
            )
            self._tell_protocol(companion, history)

    def _tell_protocol(self, companion: Device, content: wa_pb2.ProtocolMessage) -> str:
        return self._tell(companion, wa_pb2.Message(protocol_message=content).SerializeToString())
