"""Becoming a linked device: payloads, credentials, QR codes, and forged answers of phones."""

import base64
import contextlib
import hashlib
import hmac

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import pairing, payload
from whatsapp.device import Device
from whatsapp.e2ee import curve
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node
from whatsapp.pairing import PairingError
from whatsapp.proto import records_pb2, wa_pb2

JID = Jid.parse("15550001234:11@s.whatsapp.net")
LID = Jid.parse("9915550001:11@lid")

# Made by an implementation which two real clients accepted: docs/protocol.md#device-identity
COMPANION = KeyPair.from_private(b"\x55" * 32)
ACCOUNT = KeyPair.from_private(b"\x66" * 32)
ADV_SECRET = b"\x77" * 32
DETAILS = bytes.fromhex("08b9601080e2cfaa061801")
ACCOUNT_SIGNATURE = bytes.fromhex(
    "0ecc3c53a18b6a68cf26fe7b1dc03b06645f8d5bb42597ea294f4886d13f2bbe"
    "9cf97556f03f9c5da5ecbd010aa031cf3267da102df4433121528b8559482882"
)
HMAC = bytes.fromhex("3b5fe0c3d83629077d8215efb6c64963031cb202c0901c561b11148c541125b7")


class Counter:
    """Predictable bytes which never repeat."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, size: int) -> bytes:
        self._calls += 1
        return hashlib.shake_128(self._calls.to_bytes(4, "big")).digest(size)


@pytest.fixture
def device() -> Device:
    """An unpaired device with the keys of the vector."""
    return attrs.evolve(Device.generate(Counter()), identity=COMPANION, adv_secret=ADV_SECRET)


# ---- credentials


def test_generated_devices_are_sound_and_differ() -> None:
    """Keys fit together, and no two are the same."""
    random = Counter()
    first, second = Device.generate(random), Device.generate(random)
    assert curve.verify(
        first.identity.public,
        curve.serialise(first.signed_prekey.public),
        first.signed_prekey_signature,
    )
    assert 1 <= first.registration_id < 2**31
    assert not first.paired
    secrets = {
        secret
        for made in (first, second)
        for secret in (
            made.noise.private,
            made.identity.private,
            made.signed_prekey.private,
            made.adv_secret,
        )
    }
    assert len(secrets) == 8


@pytest.mark.parametrize("paired", [False, True])
def test_devices_survive_storage(device: Device, paired: bool) -> None:
    """A stored device comes back equal, with everything optional set or unset."""
    if paired:
        device = attrs.evolve(
            device,
            jid=JID,
            lid=LID,
            account=b"blob",
            platform="android",
            business_name="Bar & Grill",
            routing_info=b"route",
            next_prekey_id=813,
        )
    assert Device.from_bytes(device.to_bytes()) == device
    assert Device.from_bytes(device.to_bytes()).paired is paired


def test_secrets_stay_out_of_the_repr(device: Device) -> None:
    """What is printed by accident gives nothing away."""
    text = repr(device)
    for secret in (device.noise.private, device.adv_secret, device.identity.private):
        assert repr(secret) not in text


@given(st.binary(max_size=80), st.data())
@settings(deadline=None)
def test_damaged_device_records_are_refused(data: bytes, draw: st.DataObject) -> None:
    """A damaged record gives a device or LocalProtocolError, nothing else."""
    record = bytearray(attrs.evolve(Device.generate(Counter()), jid=JID).to_bytes())
    at = draw.draw(st.integers(0, len(record) - 1))
    record[at : at + 1] = data[:3]
    for damaged in (data, bytes(record)):
        with contextlib.suppress(LocalProtocolError):
            Device.from_bytes(damaged)


def test_incomplete_device_records_are_refused(device: Device) -> None:
    """Another version, an impossible prekey id, a cut signature, a key of another length."""
    for change in (
        {"version": 2},
        {"next_prekey_id": 0},
        {"signed_prekey_id": 1 << 24},
        {"signed_prekey_signature": b"x"},
        {"identity_private": b"x"},
        {"jid": "1:x@lid"},
    ):
        record = records_pb2.DeviceRecord.FromString(device.to_bytes())
        record.MergeFrom(records_pb2.DeviceRecord(**change))
        with pytest.raises(LocalProtocolError):
            Device.from_bytes(record.SerializeToString())


# ---- payloads


def test_registration_payload(device: Device) -> None:
    """All that the server needs to know of a new device, in the widths it wants."""
    data = payload.registration_payload(device=device, version=(2, 3000, 1047769893))
    message = wa_pb2.ClientPayload.FromString(data)
    pairing_data = message.device_pairing_data
    assert pairing_data.e_regid == device.registration_id.to_bytes(4, "big")
    assert pairing_data.e_keytype == b"\5"
    assert pairing_data.e_ident == COMPANION.public
    assert pairing_data.e_skey_id == b"\0\0\1"
    assert pairing_data.e_skey_sig == device.signed_prekey_signature
    assert pairing_data.build_hash.hex() == "720d377baa41c35727fd204d3ebe516e"
    assert not message.HasField("username")
    assert (message.passive, message.pull) == (False, False)
    assert message.user_agent.app_version.tertiary == 1047769893
    props = wa_pb2.DeviceProps.FromString(pairing_data.device_props)
    assert props.os == "zapvisor"
    assert not props.require_full_sync


def test_build_hash_of_another_version() -> None:
    """As observed on the wire."""
    assert payload.build_hash((2, 3000, 1035194821)).hex() == "a2c9471eff910a9e1ae659890a28872d"


def test_login_payload() -> None:
    """A paired device says who it is and asks to stay passive until it says active."""
    message = wa_pb2.ClientPayload.FromString(payload.login_payload(jid=JID, attempt=3))
    assert (message.username, message.device) == (15550001234, 11)
    assert (message.passive, message.pull) == (True, True)
    assert not message.HasField("device_pairing_data")
    assert message.connect_attempt_count == 3


@pytest.mark.parametrize("user", ["", "abc", "9" * 20, "１２"])
def test_login_needs_a_phone_number(user: str) -> None:
    """Anything else is our bug."""
    with pytest.raises(LocalProtocolError):
        payload.login_payload(jid=Jid(user, "s.whatsapp.net", 1))


# ---- refs and QR codes


def _offer(*refs: bytes | str) -> Node:
    children = tuple(Node("ref", {}, ref) for ref in refs)
    return Node(
        "iq",
        {"from": SERVER_JID, "type": "set", "id": "1", "xmlns": "md"},
        (Node("pair-device", {}, children),),
    )


def test_refs_are_read() -> None:
    """Refs are text, in order."""
    assert pairing.parse_pair_device(_offer(b"2@a,b", "3")) == ("2@a,b", "3")


@pytest.mark.parametrize("node", [_offer(), _offer(b""), _offer(b"\xff"), Node("iq")])
def test_offers_without_refs_are_refused(node: Node) -> None:
    """No ref, an empty one, one that is not text, no offer."""
    with pytest.raises(RemoteProtocolError):
        pairing.parse_pair_device(node)


def test_qr_text(device: Device) -> None:
    """The address, the ref, three keys, and the kind of client."""
    prefix, _, fields = pairing.qr_text("2@a,b", device).partition("#")
    assert prefix == "https://wa.me/settings/linked_devices"
    *ref, noise, identity, secret, client = fields.split(",")
    assert ",".join(ref) == "2@a,b"
    keys = [base64.b64decode(key, validate=True) for key in (noise, identity, secret)]
    assert keys == [device.noise.public, COMPANION.public, ADV_SECRET]
    assert client == "1"


def test_how_long_refs_are_shown() -> None:
    """Six refs: 160 seconds."""
    assert sum(pairing.ref_lifetime(index) for index in range(6)) == 160


def test_secret_rotation(device: Device) -> None:
    """Two kinds of child mean it; the new secret differs; a paired device keeps its own."""
    for child, expected in (
        ("companion_reg_refresh", True),
        ("pair-device-rotate-qr", True),
        ("other", False),
    ):
        node = Node("notification", {"type": "companion_reg_refresh"}, (Node(child),))
        assert pairing.is_secret_rotation(node) is expected
    assert not pairing.is_secret_rotation(Node("notification", {"type": "devices"}))
    assert pairing.rotate_adv_secret(device, Counter()).adv_secret != ADV_SECRET
    with pytest.raises(LocalProtocolError):
        pairing.rotate_adv_secret(attrs.evolve(device, jid=JID), Counter())


# ---- the phone's answer


@attrs.frozen(kw_only=True)
class Phone:
    """A phone that answers as the vector says, but for what a test changes."""

    details: bytes = DETAILS
    key: bytes = ACCOUNT.public
    signature: bytes = ACCOUNT_SIGNATURE
    secret: bytes = ADV_SECRET
    mac: bytes | None = None
    mac_prefix: bytes = b""
    account_type: wa_pb2.ADVEncryptionType = wa_pb2.E2EE
    jid: Jid | str | None = JID
    lid: Jid | str | None = LID

    def blob(self) -> bytes:
        signed = wa_pb2.ADVSignedDeviceIdentity(
            details=self.details,
            account_signature_key=self.key,
            account_signature=self.signature,
        ).SerializeToString()
        mac = hmac.digest(self.secret, self.mac_prefix + signed, "sha256")
        return wa_pb2.ADVSignedDeviceIdentityHMAC(
            details=signed,
            hmac=mac if self.mac is None else self.mac,
            account_type=self.account_type,
        ).SerializeToString()

    def answer(self) -> Node:
        return _answer(
            Node("device-identity", {}, self.blob()),
            Node("device", {"jid": self.jid, "lid": self.lid}),
            Node("platform", {"name": "android"}),
            Node("biz", {"name": "Bar & Grill"}),
        )


def _answer(*children: Node) -> Node:
    return Node(
        "iq",
        {"from": SERVER_JID, "type": "set", "id": "7", "xmlns": "md", "t": 1_800_000_000},
        (Node("pair-success", {}, children),),
    )


def test_vector_is_accepted(device: Device) -> None:
    """The published answer pairs the device, and our reply proves its identity key."""
    container = wa_pb2.ADVSignedDeviceIdentityHMAC.FromString(Phone().blob())
    assert container.hmac == HMAC

    paired, reply = pairing.accept_pair_success(device, Phone().answer(), Counter())

    assert (paired.jid, paired.lid) == (JID, LID)
    assert (paired.platform, paired.business_name) == ("android", "Bar & Grill")
    assert (
        attrs.evolve(paired, jid=None, lid=None, account=b"", platform=None, business_name=None)
        == device
    )
    assert pairing.account_identity(paired.account) == ACCOUNT.public
    assert reply.attrs == {"to": SERVER_JID, "id": "7", "type": "result"}
    identity = reply.required_child("pair-device-sign").required_child("device-identity")
    assert identity.attrs == {"key-index": "1"}
    signed = wa_pb2.ADVSignedDeviceIdentity.FromString(identity.data())
    assert not signed.HasField("account_signature_key")
    assert (signed.details, signed.account_signature) == (DETAILS, ACCOUNT_SIGNATURE)
    message = b"\6\1" + DETAILS + COMPANION.public + ACCOUNT.public
    assert curve.verify(COMPANION.public, message, signed.device_signature)
    stored = wa_pb2.ADVSignedDeviceIdentity.FromString(paired.account)
    assert stored.device_signature == signed.device_signature


def test_hosted_account_is_accepted(device: Device) -> None:
    """Hosted accounts sign and authenticate under prefixes of their own."""
    details = wa_pb2.ADVDeviceIdentity(key_index=2, device_type=wa_pb2.HOSTED).SerializeToString()
    message = b"\6\5" + details + COMPANION.public
    phone = Phone(
        details=details,
        signature=curve.sign(ACCOUNT.private, message, bytes(64)),
        mac_prefix=b"\6\5",
        account_type=wa_pb2.HOSTED,
    )
    paired, reply = pairing.accept_pair_success(device, phone.answer(), Counter())
    assert paired.paired
    sign = reply.required_child("pair-device-sign")
    assert sign.required_child("device-identity").attrs == {"key-index": "2"}


@pytest.mark.parametrize(
    ("phone", "code", "text"),
    [
        pytest.param(Phone(secret=b"\x78" * 32), "401", "hmac-mismatch", id="another code"),
        pytest.param(Phone(mac=b""), "401", "hmac-mismatch", id="no mac"),
        pytest.param(Phone(mac=HMAC[:16]), "401", "hmac-mismatch", id="half a mac"),
        pytest.param(
            Phone(account_type=wa_pb2.HOSTED), "401", "hmac-mismatch", id="hosted in name only"
        ),
        pytest.param(
            Phone(signature=b"\x01" * 64), "401", "signature-mismatch", id="random signature"
        ),
        pytest.param(Phone(signature=b""), "401", "signature-mismatch", id="no signature"),
        pytest.param(Phone(key=COMPANION.public), "401", "signature-mismatch", id="another key"),
        pytest.param(Phone(key=b""), "401", "signature-mismatch", id="no key"),
        pytest.param(
            Phone(details=DETAILS[:-1] + b"\2"), "401", "signature-mismatch", id="changed index"
        ),
        pytest.param(Phone(details=b"\xff"), "500", "internal-error", id="unreadable details"),
        pytest.param(Phone(jid=None), "500", "internal-error", id="no JID"),
        pytest.param(Phone(jid="1:x@lid"), "500", "internal-error", id="malformed JID"),
        pytest.param(Phone(jid=LID), "500", "internal-error", id="LID as JID"),
        pytest.param(Phone(jid=JID.bare), "500", "internal-error", id="the phone's own JID"),
        pytest.param(Phone(lid=JID), "500", "internal-error", id="JID as LID"),
    ],
)
def test_forged_answers_are_refused(device: Device, phone: Phone, code: str, text: str) -> None:
    """Each forgery on its own; the server gets an error under the same id."""
    with pytest.raises(PairingError) as caught:
        pairing.accept_pair_success(device, phone.answer(), Counter())
    reply = caught.value.reply
    assert reply.attrs == {"to": SERVER_JID, "id": "7", "type": "error"}
    assert reply.required_child("error").attrs == {"code": code, "text": text}


def test_answers_for_no_one(device: Device) -> None:
    """Without id there is nothing to reply to; a paired device is not paired again."""
    answer = Phone().answer()
    nameless = Node("iq", {"type": "set"}, answer.content)
    with pytest.raises(RemoteProtocolError) as caught:
        pairing.accept_pair_success(device, nameless, Counter())
    assert not isinstance(caught.value, PairingError)
    paired, _ = pairing.accept_pair_success(device, answer, Counter())
    with pytest.raises(LocalProtocolError):
        pairing.accept_pair_success(paired, answer, Counter())


@given(st.binary(max_size=120))
@settings(deadline=None)
def test_random_blobs_are_refused(blob: bytes) -> None:
    """Random bytes in the place of the answer: PairingError."""
    device = attrs.evolve(Device.generate(Counter()), adv_secret=ADV_SECRET)
    answer = _answer(Node("device-identity", {}, blob), Node("device", {"jid": JID, "lid": LID}))
    with pytest.raises(PairingError):
        pairing.accept_pair_success(device, answer, Counter())
    for node in (Node("iq", {"id": "1"}), _answer(), _answer(Node("device", {"jid": JID}))):
        with pytest.raises(PairingError):
            pairing.accept_pair_success(device, node, Counter())
    with pytest.raises(RemoteProtocolError):
        pairing.account_identity(blob)


@given(st.binary(min_size=1, max_size=200))
@settings(deadline=None, max_examples=60)
def test_authenticated_nonsense_is_refused(inner: bytes) -> None:
    """Even with the right secret, random bytes do not make a pairing."""
    device = attrs.evolve(Device.generate(Counter()), adv_secret=ADV_SECRET)
    container = wa_pb2.ADVSignedDeviceIdentityHMAC(
        details=inner, hmac=hmac.digest(ADV_SECRET, inner, "sha256")
    )
    answer = _answer(
        Node("device-identity", {}, container.SerializeToString()),
        Node("device", {"jid": JID, "lid": LID}),
    )
    with pytest.raises(PairingError):
        pairing.accept_pair_success(device, answer, Counter())
