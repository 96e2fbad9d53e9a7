"""What is read out of a directory of Baileys, what is refused, and what the daemon gets of it."""

import base64
import json
import pathlib
import random
import typing as t

import attrs
import httpx
import pytest
from daemon_fakes import Control, Run, connection, problem

from actors.adoption import Adoption
from api.routes_import import ImportRequest, read_import
from daemon.baileys.convert import Imported, read_directory
from daemon.baileys.files import (
    AuthDirectory,
    BaileysError,
    DamagedFileError,
    ShapeError,
    as_bytes,
)
from daemon.baileys.files import (
    number as whole_number,
)
from daemon.baileys.sessions import sender_key_record, session_record
from whatsapp.device import Device
from whatsapp.e2ee import curve, sender_key, session
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.session import LocalIdentity, PreKeyBundle, SessionRecord
from whatsapp.errors import DecryptionError, DuplicateMessageError
from whatsapp.jid import Jid
from whatsapp.proto import wa_pb2

RANDOM: t.Final = random.Random(7).randbytes
Json: t.TypeAlias = t.Any


def pair() -> KeyPair:
    """A fresh key pair."""
    return KeyPair.from_private(RANDOM(32))


def buffer(data: bytes) -> Json:
    """Bytes in Baileys' form."""
    return {"type": "Buffer", "data": base64.b64encode(data).decode()}


def text(data: bytes) -> str:
    """Bytes in libsignal's form."""
    return base64.b64encode(data).decode()


def buffers(keys: KeyPair) -> Json:
    """A key pair in Baileys' form."""
    return {"private": buffer(keys.private), "public": buffer(keys.public)}


def creds(**changes: Json) -> dict[str, Json]:
    """The credentials of a linked device."""
    device, phone = Device.generate(RANDOM), pair()
    details = b"details"
    mine, theirs = device.identity, phone.public
    return {
        "noiseKey": buffers(device.noise),
        "signedIdentityKey": buffers(mine),
        "signedPreKey": {
            "keyPair": buffers(device.signed_prekey),
            "signature": buffer(device.signed_prekey_signature),
            "keyId": 1,
        },
        "registrationId": device.registration_id,
        "advSecretKey": text(device.adv_secret),
        "nextPreKeyId": 31,
        "me": {"id": "5511999990000:7@s.whatsapp.net", "lid": "77001:7@lid", "name": "Desk"},
        "account": {
            "details": text(details),
            "accountSignatureKey": text(theirs),
            "accountSignature": text(
                curve.sign(phone.private, b"\x06\x00" + details + mine.public, RANDOM(64))
            ),
            "deviceSignature": text(
                curve.sign(mine.private, b"\x06\x01" + details + mine.public + theirs, RANDOM(64))
            ),
        },
        "platform": "android",
        "routingInfo": buffer(b"route"),
    } | changes


@attrs.frozen
class Auth:
    """A directory as Baileys keeps it."""

    path: pathlib.Path

    def put(self, name: str, value: Json) -> None:
        """Write one file."""
        (self.path / f"{name}.json").write_text(json.dumps(value))

    def read(self, **options: bool) -> Imported:
        """What is taken over."""
        return read_directory(AuthDirectory(self.path, **options), RANDOM)


@pytest.fixture
def auth(tmp_path: pathlib.Path) -> Auth:
    """A directory with nothing but credentials."""
    (tmp_path / "auth").mkdir()
    found = Auth(tmp_path / "auth")
    found.put("creds", creds())
    return found


# ---- sessions, in the form of libsignal


class Party:
    """One side of a conversation."""

    def __init__(self) -> None:
        self.identity, self.signed, self.prekey = pair(), pair(), pair()
        self.own = LocalIdentity(self.identity, 4711)
        self.record: SessionRecord | None = None

    def start(self, peer: "Party") -> None:
        """Begin a session with the keys of the other."""
        bundle = PreKeyBundle(
            registration_id=4711,
            identity=peer.identity.public,
            signed_prekey_id=1,
            signed_prekey=peer.signed.public,
            signed_prekey_signature=curve.sign(
                peer.identity.private, curve.serialise(peer.signed.public), RANDOM(64)
            ),
            prekey_id=5,
            prekey=peer.prekey.public,
        )
        self.record = session.start_session(self.record, bundle, self.own, pair(), pair())

    def write(self, body: bytes) -> session.Ciphertext:
        """Encrypt."""
        assert self.record is not None
        self.record, sent = session.encrypt(self.record, self.own, body)
        return sent

    def read(self, sent: session.Ciphertext) -> bytes:
        """Decrypt."""
        if sent.type == "pkmsg":
            opened = session.decrypt_prekey_message(
                self.record, self.own, sent.body, {1: self.signed}, {5: self.prekey}, pair()
            )
        else:
            assert self.record is not None
            opened = session.decrypt_message(self.record, self.own, sent.body, pair())
        self.record = opened.record
        return opened.plaintext


def libsignal(record: SessionRecord, *, closed: t.Iterable[int] = ()) -> Json:
    """A record in libsignal's form; the key of a receiving chain is gone where it is ``closed``."""
    states = [record.current, *record.archived_states()]
    return {
        "version": "v1",
        "_sessions": {
            text(curve.serialise(state.base_key)): _entry(state, -1 if n == 0 else 1000 - n, closed)
            for n, state in reversed(list(enumerate(states)))
        },
    }


def _entry(state: t.Any, closed_at: int, closed: t.Iterable[int]) -> Json:
    chains = {}
    for number, each in enumerate(state.receiving):
        chains[text(curve.serialise(each.ratchet))] = _chain(each.chain, 2, number in closed)
    chains[text(curve.serialise(state.ratchet.public))] = _chain(state.sending, 1, False)
    last = state.receiving[-1].ratchet if state.receiving else pair().public
    entry = {
        "registrationId": state.remote_registration_id,
        "currentRatchet": {
            "ephemeralKeyPair": {
                "privKey": text(state.ratchet.private),
                "pubKey": text(curve.serialise(state.ratchet.public)),
            },
            "lastRemoteEphemeralKey": text(curve.serialise(last)),
            "previousCounter": state.previous_counter - (not state.previous_counter),
            "rootKey": text(state.root_key),
        },
        "indexInfo": {
            "baseKey": text(curve.serialise(state.base_key)),
            "closed": closed_at,
            "remoteIdentityKey": text(curve.serialise(state.remote_identity)),
        },
        "_chains": chains,
    }
    if state.pending is not None:
        entry["pendingPreKey"] = {
            "signedKeyId": state.pending.signed_prekey_id,
            "preKeyId": state.pending.prekey_id,
            "baseKey": text(curve.serialise(state.base_key)),
        }
    return entry


def _chain(chain: t.Any, kind: int, closed: bool) -> Json:
    packed = chain.skipped
    seeds = {
        str(int.from_bytes(packed[at : at + 4], "big")): text(packed[at + 4 : at + 36])
        for at in range(0, len(packed), 36)
    }
    key = {"counter": chain.counter - 1} | ({} if closed else {"key": text(chain.key)})
    return {"chainKey": key, "chainType": kind, "messageKeys": seeds}


def test_a_session_goes_on_in_both_directions() -> None:
    """Also with what was skipped, in the newest chain and in one that is closed; but what the old
    system had opened counts as no longer held, not as stored."""
    ana, desk = Party(), Party()
    ana.start(desk)
    first = [ana.write(b"%d" % n) for n in range(4)]
    assert desk.read(first[0]) == b"0"
    assert desk.read(first[3]) == b"3"
    ana.read(desk.write(b"answer"))
    second = [ana.write(b"%d" % n) for n in range(10, 14)]
    assert desk.read(second[2]) == b"12"
    assert desk.record is not None
    desk.record = session_record(libsignal(desk.record, closed=[0]), RANDOM)
    with pytest.raises(DecryptionError) as caught:
        desk.read(second[2])
    assert not isinstance(caught.value, DuplicateMessageError)
    assert [desk.read(each) for each in (second[0], first[1], second[3], first[2])] == [
        b"10",
        b"1",
        b"13",
        b"2",
    ]
    assert ana.read(desk.write(b"again")) == b"again"
    assert desk.read(ana.write(b"and again")) == b"and again"
    # The closed chain has a key that nobody knows: nothing new opens in it.
    assert desk.record is not None
    assert len({each.chain.key for each in desk.record.current.receiving}) == 3


def test_a_session_that_waits_for_its_first_answer_goes_on() -> None:
    """It still tells the other which prekeys it was begun with."""
    ana, desk = Party(), Party()
    desk.start(ana)
    desk.write(b"lost")
    assert desk.record is not None
    desk.record = session_record(libsignal(desk.record), RANDOM)
    sent = desk.write(b"hello")
    assert sent.type == "pkmsg"
    assert ana.read(sent) == b"hello"
    assert desk.read(ana.write(b"hello, too")) == b"hello, too"


def test_closed_sessions_are_kept_behind_the_open_one() -> None:
    """A late message of an older session opens; the newest closed one comes first."""
    ana, desk = Party(), Party()
    late = []
    for turn in range(3):
        ana.start(desk)
        desk.read(ana.write(b"x"))
        ana.read(desk.write(b"y"))
        late.append(ana.write(b"late %d" % turn))
    assert desk.record is not None
    imported = session_record(libsignal(desk.record), RANDOM)
    assert [state.base_key for state in imported.archived_states()] == [
        state.base_key for state in desk.record.archived_states()
    ]
    desk.record = imported
    assert [desk.read(each) for each in late] == [b"late 0", b"late 1", b"late 2"]


def open_session() -> Json:
    """A good one, to be damaged."""
    ana, desk = Party(), Party()
    ana.start(desk)
    desk.read(ana.write(b"x"))
    assert desk.record is not None
    return libsignal(desk.record)


def _other_private(value: Json) -> None:
    value["currentRatchet"]["ephemeralKeyPair"]["privKey"] = text(RANDOM(32))


def _short_root(value: Json) -> None:
    value["currentRatchet"]["rootKey"] = text(RANDOM(31))


def _closed(value: Json) -> None:
    value["indexInfo"]["closed"] = 5


def _no_sending(value: Json) -> None:
    value["_chains"].popitem()


def _other_last(value: Json) -> None:
    value["currentRatchet"]["lastRemoteEphemeralKey"] = text(curve.serialise(pair().public))


def _future_key(value: Json) -> None:
    next(iter(value["_chains"].values()))["messageKeys"]["99"] = text(RANDOM(32))


def _no_chains(value: Json) -> None:
    value["_chains"] = []


@pytest.mark.parametrize(
    "damage",
    [_other_private, _short_root, _closed, _no_sending, _other_last, _future_key, _no_chains],
)
def test_a_session_that_does_not_fit_exactly_is_left_out(damage: t.Any, auth: Auth) -> None:
    """A wrong session loses messages; without one it is negotiated anew."""
    value = open_session()
    damage(next(iter(value["_sessions"].values())))
    with pytest.raises(ShapeError):
        session_record(value, RANDOM)
    auth.put("session-5511999990001.0", value)
    auth.put("session-77002_1.3", open_session())
    auth.put("session-..", open_session())
    found = auth.read()
    assert [(kind, key) for kind, key, _value in found.records if kind == "session"] == [
        ("session", "77002_1.3")
    ]
    assert found.left_out == {"session": 2}


@pytest.mark.parametrize("old_form", [False, True])
def test_a_sender_key_goes_on(old_form: bool) -> None:
    """Skipped messages too, in each of the forms in which Baileys has stored bytes."""
    theirs = sender_key.create(None, 99, RANDOM(32), pair())
    state = theirs.states[0]
    bodies = []
    for n in range(4):
        theirs, body = sender_key.encrypt(theirs, b"%d" % n, RANDOM(64))
        bodies.append(body)
    mine = sender_key.process_distribution(
        None, sender_key.distribution(sender_key.SenderKeyRecord((state,)))
    )
    mine, _ = sender_key.decrypt(mine, bodies[2])

    def form(data: bytes) -> Json:
        listed = {"type": "Buffer", "data": list(data)}
        return {str(index): byte for index, byte in enumerate(data)} if old_form else listed

    chain = mine.states[0].chain
    packed = chain.skipped
    value = [
        {
            "senderKeyId": 99,
            "senderChainKey": {"iteration": chain.counter, "seed": form(chain.key)},
            "senderSigningKey": {
                "public": form(curve.serialise(state.signing_public)),
                "private": form(b""),
            },
            "senderMessageKeys": [
                {
                    "iteration": int.from_bytes(packed[at : at + 4], "big"),
                    "seed": form(packed[at + 4 : at + 36]),
                }
                for at in range(0, len(packed), 36)
            ],
        }
    ]
    imported = sender_key_record(buffer(json.dumps(value).encode()))
    for body, expected in ((bodies[0], b"0"), (bodies[3], b"3"), (bodies[1], b"1")):
        imported, plaintext = sender_key.decrypt(imported, body)
        assert plaintext == expected
    with pytest.raises(DecryptionError):
        sender_key.decrypt(imported, bodies[2])
    with pytest.raises(ShapeError):
        sender_key_record(buffer(b"[]"))


# ---- the directory


def test_all_kinds_of_files_are_told_apart(auth: Auth) -> None:
    """Prekeys, identities, keys of settings and pairs of addresses; the rest is not needed. The
    own sender key is made anew."""
    prekey = pair()
    auth.put("pre-key-40", buffers(prekey))
    auth.put("pre-key-41", {"private": buffer(RANDOM(32)), "public": buffer(RANDOM(32))})
    auth.put("identity-key-77002_1.0", buffer(curve.serialise(prekey.public)))
    auth.put("app-state-sync-key-AAA__AAAA", {"keyData": text(bytes(32)), "timestamp": "17"})
    auth.put("lid-mapping-5511999990001", "77002")
    auth.put("lid-mapping-77002_reverse", "5511999990001")
    auth.put("sender-key-120363000@g.us--77001_1--7", buffer(b"[]"))
    auth.put("sender-key-memory-120363000@g.us", {"x": True})
    auth.put("device-list-5511999990001", ["0"])
    auth.put("app-state-sync-version-regular", {"version": 1})
    auth.put("something-else", 1)
    found = auth.read()
    records = {(kind, key): value for kind, key, value in found.records}
    assert records["prekey", "40"] == prekey.private
    assert records["identity", "77002_1.0"] == curve.serialise(prekey.public)
    assert ("app_state_key", base64.b64decode("AAA/AAAA").hex()) in records
    assert found.pairs == [("5511999990001@s.whatsapp.net", "77002@lid")]
    assert found.left_out == {"prekey": 1}
    assert {kind for kind, _key in records} == {"prekey", "identity", "app_state_key"}
    device = found.device
    assert (str(device.jid), str(device.lid)) == ("5511999990000:7@s.whatsapp.net", "77001:7@lid")
    assert device.next_prekey_id == 41
    assert (device.platform, device.routing_info) == ("android", b"route")
    phone = wa_pb2.ADVSignedDeviceIdentity.FromString(device.account).account_signature_key
    assert records["identity", "77001_1.0"] == curve.serialise(phone)
    assert Device.from_bytes(device.to_bytes()) == device


def _swap(name: str) -> dict[str, Json]:
    return {name: creds()[name]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"me": None}, "not linked to any phone"),
        ({"account": None}, "not linked to any phone"),
        ({"me": {"id": "5511999990000@s.whatsapp.net"}}, "me.id is not the address of a linked"),
        ({"me": {"id": "nonsense"}}, "me.id"),
        ({"noiseKey": {"private": buffer(RANDOM(32)), "public": buffer(RANDOM(32))}}, "belong"),
        ({"noiseKey": {}}, "has no private"),
        ({"advSecretKey": "!"}, "advSecretKey does not hold bytes"),
        ({"registrationId": "x"}, "registrationId is not a number"),
        (_swap("signedPreKey"), "not signed by signedIdentityKey"),
        (_swap("account"), "files of two devices"),
    ],
)
def test_credentials_that_cannot_work_are_refused(
    auth: Auth, changes: dict[str, Json], said: str
) -> None:
    """With the file and what is wrong in it, but without the value."""
    auth.put("creds", creds(**changes))
    with pytest.raises(BaileysError, match=said) as caught:
        auth.read()
    assert str(auth.path / "creds.json") in str(caught.value)


def test_a_directory_that_is_none_is_refused(tmp_path: pathlib.Path, auth: Auth) -> None:
    """No directory, no credentials, a half-written file; which may be left out on request."""
    with pytest.raises(BaileysError, match="is not a directory"):
        AuthDirectory(tmp_path / "nowhere")
    with pytest.raises(BaileysError, match=r"no creds\.json"):
        AuthDirectory(tmp_path)
    half = auth.path / "session-5511999990001.0.json"
    half.write_text('{"_sessions": {')
    with pytest.raises(DamagedFileError, match="is not whole") as caught:
        auth.read()
    assert str(half) in str(caught.value)
    found = auth.read(skip_damaged=True)
    assert found.left_out == {"damaged_file": 1}
    (auth.path / "creds.json").write_text('{"me":')
    with pytest.raises(DamagedFileError):
        auth.read(skip_damaged=True)


# ---- the command and the API


async def test_the_command_sends_everything_to_a_stopped_connection(
    control: Control, zapvisor: Run, auth: Auth
) -> None:
    """It tells what was taken over; the daemon gets the same device and records."""
    auth.put("session-77002_1.0", open_session())
    auth.put("pre-key-3", buffers(pair()))
    auth.put("lid-mapping-5511999990001", "77002")
    before = {path.name: path.read_bytes() for path in auth.path.iterdir()}
    checked = await zapvisor("import-baileys", str(auth.path), "--connection", "support", "--check")
    assert (checked.code, control.fleet.orders) == (0, [])
    done = await zapvisor("import-baileys", str(auth.path), "--connection", "support", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"] == {"prekey": 1, "session": 1, "identity": 1, "address_pairs": 1}
    [(order, name, adoption)] = control.fleet.orders
    assert (order, name) == ("adopt", "support")
    assert isinstance(adoption, Adoption)
    assert adoption.device.jid == Jid.parse("5511999990000:7@s.whatsapp.net")
    assert len(adoption.records) == 3
    assert {path.name: path.read_bytes() for path in auth.path.iterdir()} == before
    plain = await zapvisor("import-baileys", str(auth.path), "--connection", "support", "--force")
    assert "zapvisor start support" in plain.out
    assert "must be stopped for good" in " ".join(plain.out.split())


async def test_a_connection_in_use_is_not_replaced(
    control: Control, zapvisor: Run, auth: Auth
) -> None:
    """One that is paired needs --force, one that runs has to be stopped, one must exist."""
    place = str(auth.path)
    paired = await zapvisor("import-baileys", place, "--connection", "sales")
    assert paired.code == 1
    assert "is paired already; --force" in paired.err
    control.fleet.connections["support"] = connection("support", paired=False, state="online")
    running = await zapvisor("import-baileys", place, "--connection", "support")
    assert "stop it first: zapvisor stop support" in running.err
    nobody = await zapvisor("import-baileys", place, "--connection", "nobody")
    assert "no connection is called 'nobody'" in nobody.err
    (auth.path / "creds.json").unlink()
    missing = await zapvisor("import-baileys", place, "--connection", "support")
    assert (missing.code, "there is no creds.json" in missing.err) == (2, True)
    assert control.fleet.orders == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "!"}, "device: is not base64"),
        ({"device": ""}, "device: "),
        ({"records": [["device", "", ""]]}, "no kind that can be imported"),
        ({"records": [["x", "y", ""]]}, "no kind that can be imported"),
        ({"records": [["session", "", ""]]}, "no name"),
        ({"records": [["session"]]}, "a kind, a key and a value"),
        ({"records": [["session", "1.0", "!"]]}, "is not base64"),
        ({"pairs": [["1@lid", "2@lid"]]}, "a phone-number address and a hidden one"),
        ({"pairs": [["1@lid"]]}, "a phone-number address and a hidden one"),
    ],
)
async def test_the_daemon_checks_what_it_gets(
    control: Control, client: httpx.AsyncClient, auth: Auth, changes: dict[str, Json], said: str
) -> None:
    """Whoever speaks to the socket may be anybody's program."""
    body = auth.read().as_json() | changes
    answer = await client.post("/connections/support/import", json=body)
    assert answer.status_code == 422
    assert said in problem(answer)["detail"]
    assert control.fleet.orders == []


def test_what_is_sent_is_what_was_read(auth: Auth) -> None:
    """Both ends of the request agree."""
    auth.put("session-77002_1.0", open_session())
    found = auth.read()
    adoption = read_import(ImportRequest(**found.as_json()))
    assert adoption.device == found.device
    sent = [(each.kind.value, each.key, each.value) for each in adoption.records]
    assert sent == found.records


@pytest.mark.parametrize("value", [None, 5, True, {"private": None}, "not base64!", [256]])
def test_what_holds_no_bytes_is_one_kind_of_error(value: Json) -> None:
    """A damaged file is told, or left out, and never ends in a traceback."""
    with pytest.raises(ShapeError, match="the key does not hold bytes"):
        as_bytes(value, "the key")


@pytest.mark.parametrize("value", [None, True, "", "-", "--5", "5" * 5000, "٣", 2**32, -1])
def test_what_is_no_number_is_one_kind_of_error(value: Json) -> None:
    """Whatever it looks like."""
    with pytest.raises(ShapeError, match="the id is not a number"):
        whole_number(value, "the id")
