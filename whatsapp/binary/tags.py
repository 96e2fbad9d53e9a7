"""The tag bytes of the binary node format, and the servers of its JID forms.

Source: docs/protocol.md#tag-bytes
"""

import enum
import typing as t

from whatsapp.jid import HOSTED_LID_SERVER, HOSTED_SERVER, LID_SERVER, SERVER


class Tag(enum.IntEnum):
    """What the byte in front of a value says; 1 to 235 are words of their own."""

    LIST_EMPTY = 0
    DICTIONARY_0 = 236  # to 239, one per dictionary
    INTEROP_JID = 245
    FB_JID = 246
    AD_JID = 247
    LIST_8 = 248
    LIST_16 = 249
    JID_PAIR = 250
    HEX_8 = 251
    BINARY_8 = 252
    BINARY_20 = 253
    BINARY_32 = 254
    NIBBLE_8 = 255


AD_SERVERS: t.Final = {0: SERVER, 1: LID_SERVER, 128: HOSTED_SERVER, 129: HOSTED_LID_SERVER}
"""The server behind the domain byte of a device JID."""

AD_DOMAINS: t.Final = {server: domain for domain, server in AD_SERVERS.items()}

MESSENGER_SERVER: t.Final = "msgr"
INTEROP_SERVER: t.Final = "interop"
