"""What the simulator refuses."""


class SimulatorError(Exception):
    """Base of everything this package raises on purpose."""


class ScanRefusedError(SimulatorError):
    """A QR text was not accepted: malformed, unknown, shown too long ago, or pairing failed."""


class QueueFullError(SimulatorError):
    """A device left so much unacknowledged that nothing more is kept for it."""


class MediaUnavailableError(SimulatorError):
    """The media host has no such file, or says so; ``status`` is the HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the media host answers {status}")
        self.status = status


class RefusedError(SimulatorError):
    """The server does not do what a client asks; ``code`` goes into its answer."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class UnknownNameError(SimulatorError):
    """No such account, device, group or fault."""
