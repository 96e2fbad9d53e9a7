"""What a client says about itself at the end of the handshake: register, or log in.

Source: docs/protocol.md#client-payload
"""

import hashlib
import typing as t

from whatsapp.device import Device
from whatsapp.e2ee.curve import KEY_TYPE
from whatsapp.errors import LocalProtocolError
from whatsapp.jid import Jid
from whatsapp.proto.wa_pb2 import ClientPayload, DeviceProps

Version: t.TypeAlias = tuple[int, int, int]

DEFAULT_VERSION: t.Final[Version] = (2, 3000, 1047769893)
"""The client version to claim; WhatsApp refuses old ones with failure 405."""

DEFAULT_OS_NAME: t.Final = "zapvisor"
"""What the phone shows in its list of linked devices."""

_SHOWN_VERSION: t.Final = (0, 1, 0)
_STORAGE_QUOTA: t.Final = 10240  # MB


def registration_payload(
    *,
    device: Device,
    version: Version = DEFAULT_VERSION,
    os_name: str = DEFAULT_OS_NAME,
    full_history: bool = False,
    country: str = "US",
) -> bytes:
    """The payload of a device that wants to be paired; ``full_history`` asks for all of it."""
    payload = _common(version, country)
    payload.passive = False
    payload.pull = False
    payload.device_pairing_data.CopyFrom(
        ClientPayload.DevicePairingRegistrationData(
            e_regid=device.registration_id.to_bytes(4, "big"),
            e_keytype=KEY_TYPE,
            e_ident=device.identity.public,
            e_skey_id=device.signed_prekey_id.to_bytes(3, "big"),
            e_skey_val=device.signed_prekey.public,
            e_skey_sig=device.signed_prekey_signature,
            build_hash=build_hash(version),
            device_props=_device_props(os_name, full_history).SerializeToString(),
        )
    )
    return payload.SerializeToString()


def login_payload(
    *, jid: Jid, version: Version = DEFAULT_VERSION, attempt: int = 0, country: str = "US"
) -> bytes:
    """The payload of a paired device; ``jid`` is its own, ``attempt`` counts failed connects.

    Raises:
        LocalProtocolError: not the JID of a device with a phone number.
    """
    if not (jid.user.isascii() and jid.user.isdigit() and len(jid.user) < 20):
        raise LocalProtocolError("a device logs in by its phone number")
    payload = _common(version, country)
    payload.username = int(jid.user)
    payload.device = jid.device
    payload.passive = True
    payload.pull = True
    payload.lc = 1
    payload.lid_db_migrated = True
    payload.connect_attempt_count = attempt
    return payload.SerializeToString()


def build_hash(version: Version) -> bytes:
    """The hash of the version text that goes with a registration."""
    return hashlib.md5(".".join(map(str, version)).encode(), usedforsecurity=False).digest()


def _common(version: Version, country: str) -> ClientPayload:
    primary, secondary, tertiary = version
    agent = ClientPayload.UserAgent
    return ClientPayload(
        user_agent=agent(
            platform=agent.WEB,
            release_channel=agent.RELEASE,
            app_version=agent.AppVersion(primary=primary, secondary=secondary, tertiary=tertiary),
            mcc="000",
            mnc="000",
            os_version="0.1",
            os_build_number="0.1",
            manufacturer="",
            device="Desktop",
            locale_language_iso6391="en",
            locale_country_iso31661_alpha2=country,
        ),
        web_info=ClientPayload.WebInfo(web_sub_platform=ClientPayload.WebInfo.WEB_BROWSER),
        connect_type=ClientPayload.WIFI_UNKNOWN,
        connect_reason=ClientPayload.USER_ACTIVATED,
    )


def _device_props(os_name: str, full_history: bool) -> DeviceProps:
    primary, secondary, tertiary = _SHOWN_VERSION
    return DeviceProps(
        os=os_name,
        version=DeviceProps.AppVersion(primary=primary, secondary=secondary, tertiary=tertiary),
        platform_type=DeviceProps.CHROME,
        require_full_sync=full_history,
        history_sync_config=DeviceProps.HistorySyncConfig(
            storage_quota_mb=_STORAGE_QUOTA,
            inline_initial_payload_in_e2ee_msg=True,
            support_bot_user_agent_chat_history=True,
            support_cag_reactions_and_polls=True,
            support_biz_hosted_msg=True,
            support_recent_sync_chunk_message_count_tuning=True,
            support_hosted_group_msg=True,
            support_fbid_bot_chat_history=True,
            support_message_association=True,
        ),
    )
