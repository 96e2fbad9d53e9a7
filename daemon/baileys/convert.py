"""From the files of Baileys to our records: the device, its keys, and what it knows of others."""

import base64
import collections.abc as cabc
import re
import typing as t

import attrs

from daemon.baileys.files import (
    CREDS,
    AuthDirectory,
    BaileysError,
    Json,
    ShapeError,
    as_bytes,
    member,
    number,
    public_key,
)
from daemon.baileys.sessions import base64_name, key_pair, sender_key_record, session_record
from whatsapp.device import Device
from whatsapp.e2ee import curve
from whatsapp.e2ee.prekeys import MAX_PREKEY_ID
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import LID_SERVER, SERVER, Jid
from whatsapp.pairing import is_own_account
from whatsapp.proto import wa_pb2

MAX_PAIRS: t.Final = 50_000
_ADDRESS: t.Final = re.compile(r"[0-9]{1,32}(_(1|128|129))?\.[0-9]{1,5}")
_USER: t.Final = re.compile(r"[0-9]{1,32}")

Random: t.TypeAlias = cabc.Callable[[int], bytes]
Record: t.TypeAlias = tuple[str, str, bytes]


@attrs.define(kw_only=True)
class Imported:
    """All that is taken over; ``records`` are kind (as of ``storage.api``), key and value."""

    device: Device
    records: list[Record] = attrs.field(factory=list, repr=False)
    pairs: list[tuple[str, str]] = attrs.field(factory=list, repr=False)
    """Phone-number and hidden address of one person."""
    left_out: dict[str, int] = attrs.field(factory=dict)
    """How many records of which kind could not be mapped exactly, or are damaged."""

    def counts(self) -> dict[str, int]:
        """How much is taken over, by kind."""
        found: dict[str, int] = {}
        for kind, _key, _value in self.records:
            found[kind] = found.get(kind, 0) + 1
        return found | {"address_pairs": len(self.pairs)}

    def as_json(self) -> dict[str, t.Any]:
        """As it is sent to the daemon."""
        return {
            "device": _text(self.device.to_bytes()),
            "records": [[kind, key, _text(value)] for kind, key, value in self.records],
            "pairs": [list(pair) for pair in self.pairs],
        }


def read_directory(directory: AuthDirectory, random: Random) -> Imported:
    """Everything that can be taken over.

    Raises:
        BaileysError: the credentials are missing, not those of a linked device, or damaged.
    """
    place = directory.path / CREDS
    try:
        device = _device(directory.creds())
    except (ShapeError, LocalProtocolError, RemoteProtocolError) as error:
        raise BaileysError(f"{place}: {error}; nothing was imported") from error
    found = Imported(device=device)
    highest = _prekeys(directory, found)
    _sessions(directory, found, random)
    _identities(directory, found)
    _sender_keys(directory, found)
    _app_state_keys(directory, found)
    _pairs(directory, found)
    found.device = attrs.evolve(
        device, next_prekey_id=min(max(device.next_prekey_id, highest + 1), MAX_PREKEY_ID)
    )
    if directory.damaged:
        found.left_out["damaged_file"] = len(directory.damaged)
    return found


def _device(creds: dict[str, Json]) -> Device:
    me, account = creds.get("me"), creds.get("account")
    if not isinstance(me, dict) or not isinstance(account, dict):
        raise ShapeError(
            "these credentials are not linked to any phone (no me and account in them); pair the"
            " connection instead: zapvisor pair NAME"
        )
    signed = member(creds, "signedPreKey", "creds")
    identity = key_pair(member(creds, "signedIdentityKey", "creds"))
    prekey = key_pair(member(signed, "keyPair", "signedPreKey"))
    signature = as_bytes(member(signed, "signature", "signedPreKey"), "a signature", 64)
    if not curve.verify(identity.public, curve.serialise(prekey.public), signature):
        raise ShapeError("signedPreKey is not signed by signedIdentityKey")
    lid = me.get("lid")
    routing = creds.get("routingInfo")
    return Device(
        noise=key_pair(member(creds, "noiseKey", "creds")),
        identity=identity,
        signed_prekey_id=number(
            member(signed, "keyId", "signedPreKey"), "signedPreKey.keyId", 1, MAX_PREKEY_ID
        ),
        signed_prekey=prekey,
        signed_prekey_signature=signature,
        registration_id=number(member(creds, "registrationId", "creds"), "registrationId", 1),
        adv_secret=as_bytes(member(creds, "advSecretKey", "creds"), "advSecretKey", 32),
        next_prekey_id=number(creds.get("nextPreKeyId", 1), "nextPreKeyId", 1, MAX_PREKEY_ID),
        jid=_own(member(me, "id", "me"), SERVER, "me.id"),
        lid=None if not lid else _own(lid, LID_SERVER, "me.lid"),
        account=_account(account, identity),
        platform=creds["platform"] if isinstance(creds.get("platform"), str) else None,
        routing_info=b"" if routing is None else as_bytes(routing, "routingInfo"),
    )


def _own(text: Json, server: str, what: str) -> Jid:
    if not isinstance(text, str):
        raise ShapeError(f"{what} is no address")
    jid = Jid.parse(text)
    if jid.server != server or not jid.device:
        raise ShapeError(f"{what} is not the address of a linked device")
    return jid


def _account(value: dict[str, Json], identity: curve.KeyPair) -> bytes:
    """What the phone and this device signed when they were linked; the signatures are checked."""
    signed = wa_pb2.ADVSignedDeviceIdentity(
        details=as_bytes(member(value, "details", "account"), "account.details"),
        account_signature_key=as_bytes(
            member(value, "accountSignatureKey", "account"), "account.accountSignatureKey", 32
        ),
        account_signature=as_bytes(
            member(value, "accountSignature", "account"), "account.accountSignature", 64
        ),
        device_signature=as_bytes(
            member(value, "deviceSignature", "account"), "account.deviceSignature", 64
        ),
    )
    if not is_own_account(signed, identity.public):
        raise ShapeError("account is not signed for signedIdentityKey: files of two devices?")
    return signed.SerializeToString()


def _prekeys(directory: AuthDirectory, found: Imported) -> int:
    """The one-time prekeys; the highest id."""
    highest = 0
    for name, value in directory.records("pre-key"):
        try:
            prekey_id = number(name, "a prekey id", 1, MAX_PREKEY_ID)
            pair = key_pair(value)
        except ShapeError:
            _leave_out(found, "prekey")
            continue
        highest = max(highest, prekey_id)
        found.records.append(("prekey", str(prekey_id), pair.private))
    return highest


def _sessions(directory: AuthDirectory, found: Imported, random: Random) -> None:
    for name, value in directory.records("session"):
        try:
            if not _ADDRESS.fullmatch(name):
                raise ShapeError("no Signal address")
            record = session_record(value, random)
        except (ShapeError, AttributeError, TypeError):
            _leave_out(found, "session")
            continue
        found.records.append(("session", name, record.to_bytes()))


def _identities(directory: AuthDirectory, found: Imported) -> None:
    """The keys of others, and that of the own phone."""
    known: dict[str, bytes] = {}
    for name, value in directory.records("identity-key"):
        try:
            if not _ADDRESS.fullmatch(name):
                raise ShapeError("no Signal address")
            known[name] = curve.serialise(public_key(value, "an identity"))
        except ShapeError:
            _leave_out(found, "identity")
    device = found.device
    if device.lid is not None:
        signed = wa_pb2.ADVSignedDeviceIdentity.FromString(device.account)
        phone = device.lid.with_device(0).signal_address
        known[phone] = curve.serialise(signed.account_signature_key)
    found.records += [("identity", key, value) for key, value in known.items()]


def _sender_keys(directory: AuthDirectory, found: Imported) -> None:
    """Of the others: our own keys of groups are made anew and distributed with the next message."""
    own = {jid.signal_address for jid in (found.device.jid, found.device.lid) if jid is not None}
    for name, value in directory.records("sender-key"):
        group, _, sender = name.partition("@g.us--")
        address = sender.replace("--", ".")
        if address in own:
            continue
        try:
            if not re.fullmatch(r"[0-9-]{1,64}", group) or not _ADDRESS.fullmatch(address):
                raise ShapeError("no group and Signal address")
            record = sender_key_record(value)
        except (ShapeError, AttributeError, TypeError):
            _leave_out(found, "sender_key")
            continue
        found.records.append(("sender_key", f"{group}@g.us::{address}", record.to_bytes()))


def _app_state_keys(directory: AuthDirectory, found: Imported) -> None:
    """The keys of the settings; the settings themselves are read anew."""
    for name, value in directory.records("app-state-sync-key"):
        try:
            key_id = base64_name(name)
            data = wa_pb2.AppStateSyncKeyData(
                key_data=as_bytes(member(value, "keyData", "a key"), "keyData", 32),
                timestamp=number(value.get("timestamp") or 0, "timestamp", 0, 2**62),
            )
        except (ShapeError, AttributeError, TypeError):
            _leave_out(found, "app_state_key")
            continue
        found.records.append(("app_state_key", key_id.hex(), data.SerializeToString()))


def _pairs(directory: AuthDirectory, found: Imported) -> None:
    for name, value in directory.records("lid-mapping"):
        if name.endswith("_reverse"):
            continue
        if not (isinstance(value, str) and _USER.fullmatch(name) and _USER.fullmatch(value)):
            _leave_out(found, "address_pair")
        elif len(found.pairs) < MAX_PAIRS:
            found.pairs.append((f"{name}@{SERVER}", f"{value}@{LID_SERVER}"))
        else:
            _leave_out(found, "address_pair")


def _leave_out(found: Imported, kind: str) -> None:
    found.left_out[kind] = found.left_out.get(kind, 0) + 1


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
