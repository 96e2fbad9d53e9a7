"""The whole phone: a handset, and all that people do with it."""

from simulator.device_scripts import DeviceScripts
from simulator.group_scripts import GroupScripts
from simulator.letters import Kept, Received, Wrapping
from simulator.sync_duties import Chunk, SyncDuties
from simulator.talk_scripts import TalkScripts

__all__ = ["Chunk", "Kept", "Phone", "Received", "Wrapping"]


class Phone(SyncDuties, GroupScripts, TalkScripts, DeviceScripts):
    """The account's phone."""
