"""What can be wrong with a collection, told apart because each has a cure of its own."""

import collections.abc as cabc

from whatsapp.errors import RemoteProtocolError


class MissingKeyError(RemoteProtocolError):
    """Keys are needed that this device does not have (yet): the phone can share them."""

    def __init__(self, key_ids: cabc.Iterable[bytes]) -> None:
        self.key_ids = frozenset(key_ids)
        super().__init__(f"{len(self.key_ids)} app state keys are missing")


class BrokenPatchError(RemoteProtocolError):
    """A patch or a snapshot cannot be what the phone made: malformed, or a MAC is wrong."""


class MacError(BrokenPatchError):
    """A MAC does not match: something was changed, lost, or encrypted under another key."""

    def __init__(self, which: str) -> None:
        self.which = which  # "index", "value", "snapshot" or "patch"
        super().__init__(f"the {which} MAC does not match")
