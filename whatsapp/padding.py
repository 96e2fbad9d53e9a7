"""The padding inside an encrypted payload: n bytes of value n, besides the cipher's own."""

from whatsapp.errors import LocalProtocolError, RemoteProtocolError


def pad(plaintext: bytes, random_byte: int) -> bytes:
    """Append 1 to 15 bytes, as many as ``random_byte`` says. Source: docs/protocol.md#padding

    Raises:
        LocalProtocolError: ``random_byte`` is not a byte.
    """
    if not 0 <= random_byte <= 0xFF:
        raise LocalProtocolError(f"{random_byte} is not a byte")
    count = random_byte & 15 or 15
    return plaintext + bytes([count]) * count


def unpad(data: bytes) -> bytes:
    """Remove the padding; some senders append 16 bytes, so up to 16 are accepted.

    Raises:
        RemoteProtocolError: the bytes at the end are no padding.
    """
    count = data[-1] if data else 0
    if not (1 <= count <= 16 and data.endswith(bytes([count]) * count)):
        raise RemoteProtocolError("malformed padding")
    return data[:-count]
