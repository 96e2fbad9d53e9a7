"""What a person who pairs a connection is shown: the newest code, and how it ended."""

import typing as t

import attrs
import trio

PairingState: t.TypeAlias = t.Literal["idle", "waiting", "code", "paired", "failed"]


@attrs.frozen(kw_only=True)
class PairingView:
    """The pairing of a connection at one moment; ``version`` grows with every change."""

    name: str
    version: int = 0
    state: PairingState = "idle"
    qr: str | None = attrs.field(default=None, repr=False)
    code: str | None = attrs.field(default=None, repr=False)  # to type on the phone
    expires_in: float | None = None  # seconds from now
    sentence: str = "nobody is pairing this connection"


class PairingBoard:
    """Holds the view; changed by the connection, read by any number of people."""

    def __init__(self, name: str) -> None:
        self._view = PairingView(name=name)
        self._expires_at: float | None = None  # trio clock
        self._changed = trio.Event()
        self.requested = False
        """Somebody asked to pair; the connection's next life takes it up."""
        self.phone: str | None = None
        """The number (digits) that is to type a code; None: a phone scans a QR code."""

    def view(self) -> PairingView:
        """The view now."""
        if self._expires_at is None:
            return self._view
        left = max(0.0, self._expires_at - trio.current_time())
        return attrs.evolve(self._view, expires_in=left)

    async def wait(self, after: int) -> PairingView:
        """Wait for a view with a version above ``after``."""
        while self._view.version <= after:
            await self._changed.wait()
        return self.view()

    def request(self, phone: str | None = None) -> None:
        """Ask the connection's next life to pair, with a code when ``phone`` is given."""
        self.requested = True
        self.phone = phone
        self._show("waiting", "asking WhatsApp for a code")

    def waits(self, sentence: str) -> None:
        """What has to happen before there can be a code."""
        self._show("waiting", sentence)

    def show_code(self, qr: str, lifetime: float) -> None:
        """A code to scan within ``lifetime`` seconds."""
        self._show("code", "scan the code with WhatsApp: Linked devices, Link a device", qr)
        self._expires_at = trio.current_time() + lifetime

    def show_typed_code(self, code: str, lifetime: float) -> None:
        """A code to type on the phone within ``lifetime`` seconds."""
        sentence = (
            "type the code on the phone: Linked devices, Link a device, Link with phone number"
        )
        self._show("code", sentence, code=code)
        self._expires_at = trio.current_time() + lifetime

    def paired(self, sentence: str) -> None:
        """The phone accepted."""
        self.requested = False
        self._show("paired", sentence)

    def failed(self, sentence: str) -> None:
        """It came to nothing, and why."""
        self.requested = False
        self._show("failed", sentence)

    def _show(
        self, state: PairingState, sentence: str, qr: str | None = None, code: str | None = None
    ) -> None:
        self._expires_at = None
        self._view = attrs.evolve(
            self._view,
            version=self._view.version + 1,
            state=state,
            sentence=sentence,
            qr=qr,
            code=code,
        )
        changed, self._changed = self._changed, trio.Event()
        changed.set()
