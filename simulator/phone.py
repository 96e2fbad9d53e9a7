"""The whole phone: a handset, and all that people do with it."""

from simulator.group_scripts import GroupScripts
from simulator.handset import Kept, Received, Wrapping
from simulator.sync_duties import SyncDuties

__all__ = ["Kept", "Phone", "Received", "Wrapping"]


class Phone(GroupScripts, SyncDuties):
    """The account's phone."""
