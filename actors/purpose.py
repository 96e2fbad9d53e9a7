"""Why an envelope was posted: what is owed to WhatsApp once it is settled."""

import typing as t

import attrs

from actors.in_flight import InFlight
from actors.messages import Replay
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import DecryptionFailure
from whatsapp.node import Node
from whatsapp.stanzas import MessageStanza

MAX_RETRY_RECEIPTS: t.Final = 5  # per message; then the phone is asked, and in the end nobody


@attrs.frozen(kw_only=True)
class Purpose:
    """The stanza behind an envelope, if there is one, and the answer that it waits for."""

    node: Node | None = None
    stanza: MessageStanza | None = None
    receipts: tuple[str | None, ...] = ()  # types of the receipts owed
    failure: DecryptionFailure | None = None
    fresh_prekey: tuple[int, KeyPair] | None = None
    error: int | None = None  # code for a negative acknowledgement
    queued: bool = False  # the stanza came from the offline queue
    drained: bool = False  # the envelope says that the offline queue has ended
    replay: Replay | None = None  # it came out of the quarantine, not from the socket

    @property
    def may_ask_again(self) -> bool:
        """Whether the sender can be asked to encrypt the message once more."""
        return self.failure is not None and self.stanza is not None and self.stanza.id is not None

    @property
    def is_message(self) -> bool:
        """Whether the envelope is that of a message stanza, readable or not."""
        return self.node is not None and self.node.tag == "message"


Flight: t.TypeAlias = InFlight[Purpose]
