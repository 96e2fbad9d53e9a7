"""The gate: how many connections may be between dial and login at a time."""

import trio


class Gate:
    """Lets in at most ``width`` at a time, first come, first served.

    A cancelled ``enter`` has entered nothing and has lost its place.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._places = trio.Semaphore(width, max_value=width)

    @property
    def inside(self) -> int:
        """How many are in."""
        return self.width - self._places.value

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._places.statistics().tasks_waiting

    def enter_nowait(self) -> bool:
        """Enter if there is room and nobody waits; whether it did."""
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            return False
        return True

    async def enter(self) -> None:
        """Wait for one's turn."""
        await self._places.acquire()

    def leave(self) -> None:
        """Make room; the one who has waited longest is in at once."""
        self._places.release()
