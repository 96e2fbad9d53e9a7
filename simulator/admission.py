"""What a client says of itself in the handshake: a new companion, or a known device.

Source: docs/protocol.md#client-payload
"""

import attrs
from google.protobuf.message import DecodeError

from simulator.keys import check_signed_prekey
from simulator.model import KeyBundle
from whatsapp.errors import RemoteProtocolError
from whatsapp.proto import wa_pb2


@attrs.frozen
class Registration:
    """A companion that wants to be scanned."""

    keys: KeyBundle
    push_name: str


@attrs.frozen
class Login:
    """A companion that was scanned before."""

    user: str
    device: int
    push_name: str


def read_payload(data: bytes) -> Registration | Login:
    """Read the payload of the handshake's last message.

    Raises:
        RemoteProtocolError: malformed, or with a wrongly signed prekey.
    """
    try:
        payload = wa_pb2.ClientPayload.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError("the client payload is malformed") from error
    if payload.HasField("device_pairing_data"):
        return Registration(_keys(payload.device_pairing_data), payload.push_name)
    if payload.username:
        return Login(str(payload.username), payload.device, payload.push_name)
    raise RemoteProtocolError("the client payload names neither a device nor a registration")


def _keys(data: wa_pb2.ClientPayload.DevicePairingRegistrationData) -> KeyBundle:
    sizes = (len(data.e_regid), len(data.e_ident), len(data.e_skey_id), len(data.e_skey_val))
    if sizes != (4, 32, 3, 32) or data.e_keytype != b"\x05":
        raise RemoteProtocolError("the registration's keys are malformed")
    check_signed_prekey(data.e_ident, data.e_skey_val, data.e_skey_sig)
    return KeyBundle(
        int.from_bytes(data.e_regid, "big"),
        data.e_ident,
        int.from_bytes(data.e_skey_id, "big"),
        data.e_skey_val,
        data.e_skey_sig,
    )
