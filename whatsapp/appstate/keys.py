"""The keys of app state: one secret shared by the phone, five keys derived from it.

Source: docs/protocol.md#app-state-keys
"""

import collections.abc as cabc
import typing as t

import attrs
from google.protobuf.message import DecodeError

from whatsapp.appstate.errors import MissingKeyError
from whatsapp.e2ee.primitives import hkdf
from whatsapp.errors import LocalProtocolError
from whatsapp.proto import sync_pb2

SECRET_LENGTH: t.Final = 32
_INFO: t.Final = b"WhatsApp Mutation Keys"


@attrs.frozen(repr=False)
class SyncKeys:
    """What one shared secret expands to."""

    id: bytes
    index: bytes
    value_encryption: bytes
    value_mac: bytes
    snapshot_mac: bytes
    patch_mac: bytes

    @classmethod
    def derive(cls, key_id: bytes, secret: bytes) -> "SyncKeys":
        """The keys of the secret called ``key_id``."""
        material = hkdf(secret, _INFO, 5 * SECRET_LENGTH)
        starts = range(0, len(material), SECRET_LENGTH)
        return cls(key_id, *(material[at : at + SECRET_LENGTH] for at in starts))

    def __repr__(self) -> str:
        return f"SyncKeys({self.id.hex()})"


class KeyRing:
    """Keys by id, derived when first needed."""

    def __init__(self, secrets: cabc.Mapping[bytes, bytes]) -> None:
        self._secrets = dict(secrets)
        self._derived: dict[bytes, SyncKeys] = {}

    def __getitem__(self, key_id: bytes) -> SyncKeys:
        """The keys called ``key_id``.

        Raises:
            MissingKeyError: there are none.
        """
        if (keys := self._derived.get(key_id)) is None:
            if (secret := self._secrets.get(key_id)) is None:
                raise MissingKeyError((key_id,))
            keys = self._derived[key_id] = SyncKeys.derive(key_id, secret)
        return keys

    def require(self, key_ids: cabc.Iterable[bytes]) -> None:
        """Make sure of several keys at once.

        Raises:
            MissingKeyError: names all that are missing.
        """
        if missing := [key_id for key_id in key_ids if key_id not in self._secrets]:
            raise MissingKeyError(missing)


def secret_of(key_data: bytes) -> bytes:
    """The secret in a stored AppStateSyncKeyData.

    Raises:
        LocalProtocolError: not such a record.
    """
    try:
        secret = sync_pb2.SyncKeyData.FromString(key_data).key_data
    except DecodeError as error:
        raise LocalProtocolError("not an app state key") from error
    if len(secret) != SECRET_LENGTH:
        raise LocalProtocolError(f"an app state key of {len(secret)} bytes")
    return secret


def build_key_data(secret: bytes, timestamp: int, fingerprint: bytes = b"") -> bytes:
    """An AppStateSyncKeyData, as a phone makes it; ``timestamp`` in unix milliseconds."""
    data = sync_pb2.SyncKeyData(key_data=secret, timestamp=timestamp)
    if fingerprint:
        data.fingerprint = fingerprint
    return data.SerializeToString()
