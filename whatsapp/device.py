"""The credentials of one linked device: made before its first connect, completed by pairing."""

import collections.abc as cabc
import typing as t

import attrs

from whatsapp import protobuf
from whatsapp.e2ee.curve import KEY_LENGTH, SIGNATURE_LENGTH, KeyPair
from whatsapp.e2ee.prekeys import MAX_PREKEY_ID, sign_prekey
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.proto import records_pb2

RECORD_VERSION: t.Final = 1
FIRST_PREKEY_ID: t.Final = 1


@attrs.frozen(kw_only=True)
class Device:
    """Everything that makes this device itself; without ``jid`` it is not paired yet.

    Source: docs/protocol.md#device-credentials
    """

    noise: KeyPair
    identity: KeyPair
    signed_prekey_id: int
    signed_prekey: KeyPair
    signed_prekey_signature: bytes = attrs.field(repr=False)
    registration_id: int
    adv_secret: bytes = attrs.field(repr=False)  # 32, shown in the QR code
    next_prekey_id: int = FIRST_PREKEY_ID  # of the next one-time prekey to make
    jid: Jid | None = None  # own device JID, by phone number
    lid: Jid | None = None  # own device JID, hidden form
    account: bytes = attrs.field(default=b"", repr=False)
    """The ADVSignedDeviceIdentity, with all four fields."""
    platform: str | None = None  # of the phone
    business_name: str | None = None
    routing_info: bytes = b""  # to present on the next connect

    @classmethod
    def generate(cls, random: cabc.Callable[[int], bytes]) -> "Device":
        """A new, unpaired device; ``random(n)`` gives n secret random bytes."""
        identity = KeyPair.from_private(random(KEY_LENGTH))
        signed_prekey = KeyPair.from_private(random(KEY_LENGTH))
        return cls(
            noise=KeyPair.from_private(random(KEY_LENGTH)),
            identity=identity,
            signed_prekey_id=1,
            signed_prekey=signed_prekey,
            signed_prekey_signature=sign_prekey(identity, signed_prekey.public, random(64)),
            registration_id=int.from_bytes(random(4), "big") % 0x7FFFFFFF + 1,
            adv_secret=random(32),
        )

    @property
    def paired(self) -> bool:
        """Whether a phone has accepted this device."""
        return self.jid is not None

    def to_bytes(self) -> bytes:
        """The record to store; it is secret."""
        return records_pb2.DeviceRecord(
            version=RECORD_VERSION,
            noise_private=self.noise.private,
            identity_private=self.identity.private,
            signed_prekey_id=self.signed_prekey_id,
            signed_prekey_private=self.signed_prekey.private,
            signed_prekey_signature=self.signed_prekey_signature,
            registration_id=self.registration_id,
            adv_secret=self.adv_secret,
            next_prekey_id=self.next_prekey_id,
            jid=None if self.jid is None else str(self.jid),
            lid=None if self.lid is None else str(self.lid),
            account=self.account,
            platform=self.platform,
            business_name=self.business_name,
            routing_info=self.routing_info,
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Device":
        """The device a record holds.

        Raises:
            LocalProtocolError: the record is damaged or of another version.
        """
        try:
            return cls._from_record(protobuf.parse(records_pb2.DeviceRecord, data))
        except RemoteProtocolError as error:
            raise LocalProtocolError("the device record is damaged") from error

    @classmethod
    def _from_record(cls, record: records_pb2.DeviceRecord) -> "Device":
        if record.version != RECORD_VERSION:
            raise LocalProtocolError(f"a device record of version {record.version}")
        ids = (record.signed_prekey_id, record.next_prekey_id)
        if len(record.signed_prekey_signature) != SIGNATURE_LENGTH or not all(
            1 <= prekey_id <= MAX_PREKEY_ID for prekey_id in ids
        ):
            raise LocalProtocolError("the device record is incomplete")
        return cls(
            noise=KeyPair.from_private(record.noise_private),
            identity=KeyPair.from_private(record.identity_private),
            signed_prekey_id=record.signed_prekey_id,
            signed_prekey=KeyPair.from_private(record.signed_prekey_private),
            signed_prekey_signature=record.signed_prekey_signature,
            registration_id=record.registration_id,
            adv_secret=record.adv_secret,
            next_prekey_id=record.next_prekey_id,
            jid=Jid.parse(record.jid) if record.HasField("jid") else None,
            lid=Jid.parse(record.lid) if record.HasField("lid") else None,
            account=record.account,
            platform=record.platform if record.HasField("platform") else None,
            business_name=record.business_name if record.HasField("business_name") else None,
            routing_info=record.routing_info,
        )
