"""The simulator's own constants, adjustable."""

import attrs


@attrs.frozen(kw_only=True)
class Settings:
    """Times in seconds."""

    first_stanza_pause: float = 0.03
    """Real clients switch to the transport keys only after their last handshake write; a stanza
    that overtakes it kills them. In memory no pause is needed and none is made."""
    restart_pause: float = 0.3
    """Between the pairing's confirmation and the 515 that ends the connection."""
    farewell: float = 1.0
    """What a client gets to close by itself after a last stanza; some lose it otherwise."""
    login_deadline: float = 30.0
    """For the handshake, from the first byte to the client's payload."""
    pairing_deadline: float = 20.0
    """For the client's answer to a scanned code."""
    write_deadline: float = 60.0
    """A client that takes nothing for so long is disconnected."""
    first_ref_lifetime: float = 60.0
    ref_lifetime: float = 20.0
    refs: int = 6
    queue_limit: int = 20_000
    """Stanzas kept per device."""
    low_prekeys: int = 5
    """Below this stock the server tells the device to upload more."""
    phone_prekeys: int = 50
    """One-time prekeys a phone keeps on the server."""
    aggregate_group_receipts: bool = False
    """Whether one receipt tells a group message's author of several members at once."""
    history: bool = True
    """Whether phones push key share and (empty) history to a new companion."""
    media_file_limit: int = 128 * 1024 * 1024
    """Bytes of one uploaded file."""
    media_store_limit: int = 512 * 1024 * 1024
    """Bytes of all uploaded files; the oldest are forgotten."""
    sent_texts_kept: int = 4096
    """Sent plaintexts a phone keeps to answer retry receipts."""
    app_state_page: int = 100
    """Patches of one collection in one answer."""
    app_state_patches: int = 4096
    """Patches kept of one collection; who lacks older ones gets a snapshot."""
    ledger_limit: int = 1_000_000
