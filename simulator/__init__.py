"""A WhatsApp server double with phones, a ledger, and faults on command."""

from simulator.core import Simulator, open_simulator
from simulator.errors import (
    MediaUnavailableError,
    QueueFullError,
    ScanRefusedError,
    SimulatorError,
    UnknownNameError,
)
from simulator.ledger import Ledger
from simulator.model import Account, Device, Group
from simulator.settings import Settings

__all__ = [
    "Account",
    "Device",
    "Group",
    "Ledger",
    "MediaUnavailableError",
    "QueueFullError",
    "ScanRefusedError",
    "Settings",
    "Simulator",
    "SimulatorError",
    "UnknownNameError",
    "open_simulator",
]
