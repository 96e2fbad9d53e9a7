"""App state: settings of chats and contacts, kept by the phone in encrypted, hashed collections.

Source: docs/protocol.md#app-state
"""

import typing as t

COLLECTIONS: t.Final = (
    "critical_block",
    "critical_unblock_low",
    "regular_high",
    "regular",
    "regular_low",
)
"""All of them, the most urgent first."""
