"""Where a file lies on WhatsApp's servers, and what opens it."""

import attrs


@attrs.frozen(kw_only=True)
class MediaSource:
    """A file as a message (or a notification) describes it; nothing in it is verified.

    Source: docs/protocol.md#media
    """

    kind: str
    """``image``, ``video``, ``audio``, ``document``, ``sticker``, ``sticker_pack``, ``history``,
    ``app_state``, ``link_thumbnail``: selects the keys and the path on the server."""
    media_key: bytes = attrs.field(default=b"", repr=False)  # 32 bytes; empty: not encrypted
    direct_path: str = attrs.field(default="", repr=False)
    url: str = attrs.field(default="", repr=False)
    sha256: bytes = b""  # of the plaintext; empty: not told
    enc_sha256: bytes = b""  # of the file on the server; empty: not told
    length: int | None = None  # bytes of plaintext
    mimetype: str | None = None
    file_name: str | None = attrs.field(default=None, repr=False)
