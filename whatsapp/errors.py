"""The errors of the protocol: ours and theirs."""

import enum


class ProtocolError(Exception):
    """Base of everything this package raises on purpose."""


class LocalProtocolError(ProtocolError):
    """Our side asked for something the protocol does not allow: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer sent bytes that break the protocol. Peer bytes raise nothing else."""


class DecryptionFailure(enum.IntEnum):
    """Why a ciphertext could not be read; the numbers are those of retry receipts.

    Source: docs/protocol.md#retry-receipts
    """

    UNKNOWN = 0
    NO_SESSION = 1
    INVALID_KEY = 2
    INVALID_KEY_ID = 3
    INVALID_MESSAGE = 4
    INVALID_SIGNATURE = 5
    TOO_FAR_IN_FUTURE = 6
    BAD_MAC = 7
    INVALID_SESSION = 8
    INVALID_MESSAGE_KEY = 9


class DecryptionError(RemoteProtocolError):
    """A Signal ciphertext could not be decrypted; no state has changed."""

    def __init__(self, reason: DecryptionFailure, detail: str) -> None:
        super().__init__(f"{reason.name.lower()}: {detail}")
        self.reason = reason
        self.detail = detail


class DuplicateMessageError(DecryptionError):
    """The message key was provably used before: these bytes were decrypted already."""

    def __init__(self, detail: str) -> None:
        super().__init__(DecryptionFailure.INVALID_MESSAGE_KEY, detail)
