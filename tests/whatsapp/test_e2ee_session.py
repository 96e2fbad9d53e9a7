"""Signal sessions: any schedule of messages, tampering, limits, and hostile bytes."""

import collections
import hashlib
import itertools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp.e2ee import chain, curve, prekeys, ratchet, records, session
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import (
    DecryptionError,
    DecryptionFailure,
    DuplicateMessageError,
    LocalProtocolError,
    RemoteProtocolError,
)
from whatsapp.proto import records_pb2, wa_pb2

SIGNED_PREKEY_ID = 3
LOW_ORDER = b"\x01" + bytes(31)


class Party:
    """A device with keys drawn from a counter; its state passes through bytes at every step."""

    def __init__(self, name: str) -> None:
        self._seeds = (
            hashlib.sha256(f"{name} {number}".encode()).digest() for number in itertools.count()
        )
        self.reinstall()

    def reinstall(self) -> None:
        """Start over with a new identity and without sessions."""
        self.own = session.LocalIdentity(self.pair(), 4711)
        self.signed_prekey = self.pair()
        self.prekeys: dict[int, KeyPair] = {}
        self.next_prekey_id = 1
        self.row: bytes | None = None

    def pair(self) -> KeyPair:
        return KeyPair.from_private(next(self._seeds))

    @property
    def record(self) -> session.SessionRecord | None:
        return None if self.row is None else session.SessionRecord.from_bytes(self.row)

    def bundle(self, with_prekey: bool = True) -> session.PreKeyBundle:
        """A bundle as the server would hand it out, with a one-time prekey of its own."""
        prekey_id = None
        if with_prekey:
            prekey_id = self.next_prekey_id
            self.next_prekey_id += 1
            self.prekeys[prekey_id] = self.pair()
        return session.PreKeyBundle(
            registration_id=self.own.registration_id,
            identity=self.own.identity.public,
            signed_prekey_id=SIGNED_PREKEY_ID,
            signed_prekey=self.signed_prekey.public,
            signed_prekey_signature=prekeys.sign_prekey(
                self.own.identity, self.signed_prekey.public, bytes(64)
            ),
            prekey_id=prekey_id,
            prekey=self.prekeys[prekey_id].public if prekey_id else None,
        )

    def start(self, bundle: session.PreKeyBundle) -> None:
        self.row = session.start_session(
            self.record, bundle, self.own, self.pair(), self.pair()
        ).to_bytes()

    def encrypt(self, plaintext: bytes) -> session.Ciphertext:
        assert self.record is not None
        record, ciphertext = session.encrypt(self.record, self.own, plaintext)
        self.row = record.to_bytes()
        return ciphertext

    def try_decrypt(self, message: session.Ciphertext) -> session.Decrypted:
        """Decrypt without committing."""
        if message.type == "pkmsg":
            return session.decrypt_prekey_message(
                self.record,
                self.own,
                message.body,
                {SIGNED_PREKEY_ID: self.signed_prekey},
                self.prekeys,
                self.pair(),
            )
        assert self.record is not None
        return session.decrypt_message(self.record, self.own, message.body, self.pair())

    def decrypt(self, message: session.Ciphertext) -> bytes:
        """Decrypt and commit: the record, and the deletion of the one-time prekey."""
        decrypted = self.try_decrypt(message)
        self.row = decrypted.record.to_bytes()
        if decrypted.used_prekey_id is not None:
            del self.prekeys[decrypted.used_prekey_id]
        return decrypted.plaintext


@pytest.fixture
def alice() -> Party:
    return Party("alice")


@pytest.fixture
def bob() -> Party:
    return Party("bob")


def meet(alice: Party, bob: Party) -> None:
    """A session both sides have spoken in."""
    alice.start(bob.bundle())
    bob.decrypt(alice.encrypt(b"hello"))
    alice.decrypt(bob.encrypt(b"hello yourself"))


@attrs.frozen
class Sent:
    """One message under way, with what the model has to know of it."""

    receiver: int
    ciphertext: session.Ciphertext
    plaintext: bytes
    base_key: bytes
    ratchet: bytes


class Schedule:
    """Two parties and the messages between them, against a model of what must be readable.

    A message is readable unless it was read before, or the receiver has since seen five newer
    ratchet keys of the same session.
    """

    def __init__(self) -> None:
        self.parties = [Party("alice"), Party("bob")]
        self.sent: list[Sent] = []
        self.read: set[int] = set()
        self.ratchets: dict[tuple[int, bytes], list[bytes]] = collections.defaultdict(list)

    def start(self, who: int, with_prekey: bool) -> None:
        self.parties[who].start(self.parties[1 - who].bundle(with_prekey))

    def send(self, who: int) -> None:
        party = self.parties[who]
        if party.record is None:
            self.start(who, with_prekey=True)
        assert party.record is not None
        state = party.record.current
        plaintext = f"message {len(self.sent)}".encode()
        ciphertext = party.encrypt(plaintext)
        self.sent.append(Sent(1 - who, ciphertext, plaintext, state.base_key, state.ratchet.public))

    def deliver(self, index: int) -> None:
        message = self.sent[index]
        receiver = self.parties[message.receiver]
        seen = self.ratchets[message.receiver, message.base_key]
        held = message.ratchet not in seen or message.ratchet in seen[-5:]
        if held and index not in self.read:
            assert receiver.decrypt(message.ciphertext) == message.plaintext
            self.read.add(index)
            if message.ratchet not in seen:
                seen.append(message.ratchet)
            return
        before = receiver.row
        with pytest.raises(DecryptionError) as failure:
            receiver.decrypt(message.ciphertext)
        assert (failure.type is DuplicateMessageError) == held
        assert receiver.row == before

    def step(self, action: str, number: int) -> None:
        match action:
            case "send":
                self.send(number % 2)
            case "start":
                self.start(number % 2, with_prekey=number % 4 < 2)
            case "latest" if self.sent:
                self.deliver(len(self.sent) - 1)
            case "any" if self.sent:
                self.deliver(number % len(self.sent))

    def deliver_all(self) -> None:
        for index in range(len(self.sent)):
            self.deliver(index)


ACTIONS = ("send", "send", "send", "latest", "latest", "any", "any", "start")


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1000)), max_size=70))
def test_any_schedule_reads_what_is_readable_and_flags_duplicates(
    steps: list[tuple[str, int]],
) -> None:
    """Loss, reordering, repetition, simultaneous and repeated starts: nothing readable is lost."""
    schedule = Schedule()
    for action, number in steps:
        schedule.step(action, number)
    schedule.deliver_all()


@pytest.mark.parametrize("seed", range(8))
def test_long_schedules_read_what_is_readable_and_flag_duplicates(seed: int) -> None:
    """The same over some hundred messages, with fewer starts than sessions are kept."""
    schedule = Schedule()
    for step in range(400):
        draw = hashlib.sha256(f"{seed} {step}".encode()).digest()
        action = ACTIONS[draw[0] % 8] if draw[1] < 40 else ACTIONS[draw[0] % 7]
        schedule.step(action, int.from_bytes(draw[2:6], "big"))
    assert len(schedule.read) > 50
    schedule.deliver_all()


@pytest.mark.parametrize("kind", ["pkmsg", "msg"])
def test_tampering_with_any_byte_is_noticed_and_leaves_the_state_usable(
    alice: Party, bob: Party, kind: str
) -> None:
    """Every flipped byte fails, but for outer fields which nothing protects and nobody trusts."""
    if kind == "pkmsg":
        alice.start(bob.bundle())
    else:
        meet(alice, bob)
    message = alice.encrypt(b"genuine")
    assert message.type == kind
    unprotected = 0
    for position in range(len(message.body)):
        body = bytearray(message.body)
        body[position] ^= 0x01
        decrypted = _failure_or_decrypted(bob, attrs.evolve(message, body=bytes(body)))
        if isinstance(decrypted, session.Decrypted):
            assert decrypted.plaintext == b"genuine"
            assert decrypted.identity == alice.own.identity.public
            unprotected += 1
        else:
            assert not isinstance(decrypted, DuplicateMessageError)
    assert unprotected <= (4 if kind == "pkmsg" else 0)  # version, registration id and its tag
    assert bob.decrypt(message) == b"genuine"


def _failure_or_decrypted(
    party: Party, message: session.Ciphertext
) -> session.Decrypted | DecryptionError:
    try:
        return party.try_decrypt(message)
    except DecryptionError as error:
        return error


def test_decrypting_never_changes_its_arguments(alice: Party, bob: Party) -> None:
    """The same record reads the same message again: nothing was spent in place."""
    meet(alice, bob)
    message = alice.encrypt(b"again and again")
    record = bob.record
    assert record is not None
    row = record.to_bytes()
    for _ in range(2):
        decrypted = session.decrypt_message(record, bob.own, message.body, bob.pair())
        assert decrypted.plaintext == b"again and again"
    assert record.to_bytes() == row


def test_messages_are_prekey_messages_until_the_peer_answers(alice: Party, bob: Party) -> None:
    """The header names the prekeys each time, and only the first use deletes the one-time key."""
    alice.start(bob.bundle())
    first, second = alice.encrypt(b"1"), alice.encrypt(b"2")
    header = session.peek_prekey_message(second.body)
    assert (header.prekey_id, header.signed_prekey_id) == (1, SIGNED_PREKEY_ID)
    assert header.identity == alice.own.identity.public
    assert header.registration_id == alice.own.registration_id
    assert bob.try_decrypt(first).used_prekey_id == 1
    assert bob.decrypt(second) == b"2"
    assert bob.prekeys == {}
    assert bob.try_decrypt(first).used_prekey_id is None
    assert bob.decrypt(first) == b"1"
    alice.decrypt(bob.encrypt(b"3"))
    assert alice.encrypt(b"4").type == "msg"


def test_zero_counters_are_on_the_wire(alice: Party, bob: Party) -> None:
    """Peers which encode a message again before checking its MAC need every field there."""
    alice.start(bob.bundle(with_prekey=False))
    outer = wa_pb2.PreKeySignalMessage.FromString(alice.encrypt(b"").body[1:])
    assert not outer.HasField("pre_key_id")
    assert [field.number for field, _ in outer.ListFields()] == [2, 3, 4, 5, 6]
    inner = wa_pb2.SignalMessage.FromString(outer.message[1:-8])
    assert [field.number for field, _ in inner.ListFields()] == [1, 2, 3, 4]
    assert (inner.counter, inner.previous_counter) == (0, 0)


def test_a_new_identity_is_accepted_and_the_old_session_kept(alice: Party, bob: Party) -> None:
    """After a reinstallation the new identity is reported; messages from before still read."""
    meet(alice, bob)
    late = alice.encrypt(b"from before")
    old_identity = alice.own.identity.public
    alice.reinstall()
    alice.start(bob.bundle())
    decrypted = bob.try_decrypt(alice.encrypt(b"new phone"))
    assert decrypted.plaintext == b"new phone"
    assert decrypted.identity == alice.own.identity.public
    bob.row = decrypted.record.to_bytes()
    decrypted = bob.try_decrypt(late)
    assert (decrypted.plaintext, decrypted.identity) == (b"from before", old_identity)


def test_a_known_base_key_under_another_identity_is_no_reuse(alice: Party, bob: Party) -> None:
    """The identity on the outside of a repeated prekey message cannot be swapped."""
    alice.start(bob.bundle(with_prekey=False))
    bob.decrypt(alice.encrypt(b"first"))
    outer = wa_pb2.PreKeySignalMessage.FromString(alice.encrypt(b"second").body[1:])
    outer.identity_key = curve.serialise(Party("mallory").own.identity.public)
    forged = session.Ciphertext("pkmsg", b"\x33" + outer.SerializeToString())
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(forged)
    assert failure.value.reason is DecryptionFailure.BAD_MAC


def test_missing_prekeys_are_named(alice: Party, bob: Party) -> None:
    """A prekey we do not have asks for a retry with the right reason."""
    alice.start(bob.bundle())
    message = alice.encrypt(b"")
    bob.prekeys.clear()
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(message)
    assert failure.value.reason is DecryptionFailure.INVALID_KEY_ID
    with pytest.raises(DecryptionError) as failure:
        session.decrypt_prekey_message(None, bob.own, message.body, {}, {}, bob.pair())
    assert failure.value.reason is DecryptionFailure.INVALID_KEY_ID


def test_prekey_id_zero_counts_as_absent(alice: Party, bob: Party) -> None:
    """Peers read id 0 as "no one-time prekey", and so do we, in both directions."""
    alice.start(attrs.evolve(bob.bundle(), prekey_id=0))
    message = alice.encrypt(b"zero")
    assert session.peek_prekey_message(message.body).prekey_id is None
    outer = wa_pb2.PreKeySignalMessage.FromString(message.body[1:])
    outer.pre_key_id = 0
    body = b"\x33" + outer.SerializeToString()
    assert bob.decrypt(session.Ciphertext("pkmsg", body)) == b"zero"


def test_a_wrongly_signed_bundle_starts_nothing(alice: Party, bob: Party) -> None:
    """A server cannot slip in a signed prekey of its own."""
    bundle = bob.bundle()
    for bad in (
        attrs.evolve(bundle, signed_prekey=alice.pair().public),
        attrs.evolve(bundle, identity=alice.own.identity.public),
        attrs.evolve(bundle, signed_prekey_signature=bytes(64)),
        attrs.evolve(bundle, signed_prekey=b"short"),
        attrs.evolve(bundle, identity=b"short"),
        attrs.evolve(bundle, prekey=b"short"),
        attrs.evolve(bundle, prekey=LOW_ORDER),
    ):
        with pytest.raises(RemoteProtocolError):
            session.start_session(None, bad, alice.own, alice.pair(), alice.pair())


@pytest.mark.parametrize("field", ["base_key", "identity_key"])
@pytest.mark.parametrize("key", [LOW_ORDER, bytes(32)])
def test_low_order_keys_in_a_prekey_message_are_refused(
    alice: Party, bob: Party, field: str, key: bytes
) -> None:
    """Such a key would make the shared secrets predictable."""
    alice.start(bob.bundle())
    outer = wa_pb2.PreKeySignalMessage.FromString(alice.encrypt(b"").body[1:])
    setattr(outer, field, curve.serialise(key))
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(session.Ciphertext("pkmsg", b"\x33" + outer.SerializeToString()))
    assert failure.value.reason is DecryptionFailure.INVALID_KEY


def test_a_low_order_ratchet_key_is_refused(alice: Party, bob: Party) -> None:
    """Likewise within a session."""
    meet(alice, bob)
    fields = wa_pb2.SignalMessage(
        ratchet_key=curve.serialise(LOW_ORDER), counter=0, previous_counter=0, ciphertext=bytes(16)
    )
    body = b"\x33" + fields.SerializeToString() + bytes(8)
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(session.Ciphertext("msg", body))
    assert failure.value.reason is DecryptionFailure.INVALID_KEY


def test_a_chain_may_jump_2000_messages_and_no_more(alice: Party, bob: Party) -> None:
    """The bound on what one message may cost, and on what a peer may lose at once."""
    meet(alice, bob)
    messages = [alice.encrypt(b"%d" % number) for number in range(2002)]
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(messages[2001])
    assert failure.value.reason is DecryptionFailure.TOO_FAR_IN_FUTURE
    assert bob.decrypt(messages[2000]) == b"2000"
    assert bob.decrypt(messages[0]) == b"0"
    assert bob.decrypt(messages[1999]) == b"1999"
    assert bob.decrypt(messages[2001]) == b"2001"


def test_a_key_that_may_have_been_dropped_is_no_duplicate(alice: Party, bob: Party) -> None:
    """Beyond 2000 skipped keys the oldest go; their messages fail, but are not called seen."""
    meet(alice, bob)
    messages = [alice.encrypt(b"%d" % number) for number in range(2011)]
    bob.decrypt(messages[3])
    bob.decrypt(messages[2003])
    bob.decrypt(messages[2010])  # 2008 keys skipped by now: 0, 1, 2, 4, … 8 are dropped
    for number in (0, 3, 8):
        with pytest.raises(DecryptionError) as failure:
            bob.decrypt(messages[number])
        assert not isinstance(failure.value, DuplicateMessageError)
        assert failure.value.reason is DecryptionFailure.INVALID_MESSAGE_KEY
    assert bob.decrypt(messages[9]) == b"9"
    for number in (9, 2003, 2010):
        with pytest.raises(DuplicateMessageError):
            bob.decrypt(messages[number])


def test_forty_former_sessions_are_kept(alice: Party, bob: Party) -> None:
    """A message of any of the last forty archived sessions reads, one from before does not."""
    messages = []
    for _ in range(42):
        alice.start(bob.bundle())
        messages.append((alice.encrypt(b"first"), alice.encrypt(b"second")))
    for first, _second in messages:
        bob.decrypt(first)
    assert bob.record is not None
    assert len(bob.record.archived) == records.MAX_ARCHIVED
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(messages[0][1])
    assert failure.value.reason is DecryptionFailure.INVALID_KEY_ID
    assert bob.decrypt(messages[1][1]) == b"second"
    assert bob.decrypt(messages[41][1]) == b"second"
    assert bob.record is not None
    assert len(bob.record.archived) == records.MAX_ARCHIVED


def test_archived_sessions_are_bounded_in_bytes(alice: Party, bob: Party) -> None:
    """A peer that leaves gaps on purpose loses its oldest sessions, not our disk."""
    huge = attrs.evolve(
        _current(alice, bob), sending=chain.Chain(bytes(32), skipped=bytes(36 * 9000))
    )
    record = session.SessionRecord(huge)
    for _ in range(5):
        record = record.with_new(huge)
    assert len(record.archived) == 3
    assert sum(map(len, record.archived)) <= records.MAX_ARCHIVED_BYTES


def _current(alice: Party, bob: Party) -> records.SessionState:
    meet(alice, bob)
    assert bob.record is not None
    return bob.record.current


def test_a_ratchet_key_no_session_knows_costs_little(
    alice: Party, bob: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trying all archived sessions derives no more keys than one session may."""
    for _ in range(20):
        alice.start(bob.bundle())
        bob.decrypt(alice.encrypt(b""))
    steps = 0
    derive = chain._derive

    def counting(key: bytes, start: int, stop: int) -> tuple[bytes, bytes]:
        nonlocal steps
        steps += stop - start
        return derive(key, start, stop)

    monkeypatch.setattr(chain, "_derive", counting)
    fields = wa_pb2.SignalMessage(
        ratchet_key=curve.serialise(alice.pair().public), counter=900, ciphertext=bytes(16)
    )
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(session.Ciphertext("msg", b"\x33" + fields.SerializeToString() + bytes(8)))
    assert failure.value.reason is DecryptionFailure.BAD_MAC
    assert 900 <= steps <= 900 + chain.MAX_AHEAD


def test_other_versions_are_refused(alice: Party, bob: Party) -> None:
    """Version 3 is spoken, whatever newer one the sender knows; nothing else is."""
    meet(alice, bob)
    body = alice.encrypt(b"").body
    for version in (0x00, 0x23, 0x44):
        with pytest.raises(DecryptionError) as failure:
            bob.decrypt(session.Ciphertext("msg", bytes([version]) + body[1:]))
        assert failure.value.reason is DecryptionFailure.INVALID_MESSAGE
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(session.Ciphertext("msg", b"\x34" + body[1:]))
    assert failure.value.reason is DecryptionFailure.BAD_MAC  # understood, but MACed as 0x33


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x33"]))
def test_any_bytes_decrypt_or_fail_as_the_peers_fault(data: bytes, prefix: bytes) -> None:
    """No bytes raise anything but `RemoteProtocolError`."""
    alice, bob = Party("alice"), Party("bob")
    meet(alice, bob)
    body = prefix + data
    for call in (
        lambda: session.peek_prekey_message(body),
        lambda: bob.decrypt(session.Ciphertext("msg", body)),
        lambda: bob.decrypt(session.Ciphertext("pkmsg", body)),
    ):
        with pytest.raises(RemoteProtocolError):
            call()


@settings(deadline=None)
@given(
    ratchet=st.one_of(st.binary(max_size=40), st.binary(min_size=32, max_size=32)),
    counter=st.integers(0, 2**32 - 1),
    ciphertext=st.binary(max_size=50),
    mac=st.binary(max_size=8),
    identity=st.binary(min_size=32, max_size=33),
)
def test_well_formed_nonsense_fails_as_the_peers_fault(
    ratchet: bytes, counter: int, ciphertext: bytes, mac: bytes, identity: bytes
) -> None:
    """Fields of the right shape and any value fail as a decryption, in both message types."""
    alice, bob = Party("alice"), Party("bob")
    meet(alice, bob)
    fields = wa_pb2.SignalMessage(
        ratchet_key=b"\x05" + ratchet, counter=counter, ciphertext=ciphertext
    )
    body = b"\x33" + fields.SerializeToString() + mac
    with pytest.raises(DecryptionError):
        bob.decrypt(session.Ciphertext("msg", body))
    outer = wa_pb2.PreKeySignalMessage(
        base_key=b"\x05" + identity[:32],
        identity_key=b"\x05" + identity,
        message=body,
        signed_pre_key_id=SIGNED_PREKEY_ID,
    )
    with pytest.raises(DecryptionError):
        bob.decrypt(session.Ciphertext("pkmsg", b"\x33" + outer.SerializeToString()))


@pytest.mark.parametrize("ciphertext", [b"", bytes(15), bytes(16)])
def test_a_genuine_mac_over_nonsense_fails_as_the_peers_fault(
    alice: Party, bob: Party, monkeypatch: pytest.MonkeyPatch, ciphertext: bytes
) -> None:
    """A peer that MACs what cannot be deciphered harms nothing but its message."""
    meet(alice, bob)
    with monkeypatch.context() as patch:
        patch.setattr(ratchet, "cbc_encrypt", lambda *_: ciphertext)
        nonsense = alice.encrypt(b"")
    with pytest.raises(DecryptionError) as failure:
        bob.decrypt(nonsense)
    assert failure.value.reason is DecryptionFailure.INVALID_MESSAGE
    assert bob.decrypt(alice.encrypt(b"next")) == b"next"


def test_records_survive_storage(alice: Party, bob: Party) -> None:
    """All of a record is in its row: pending prekeys, archived sessions, skipped keys."""
    meet(alice, bob)
    alice.encrypt(b"lost")
    bob.decrypt(alice.encrypt(b"read"))
    bob.start(alice.bundle())
    for party in (alice, bob):
        record = party.record
        assert record is not None
        assert session.SessionRecord.from_bytes(record.to_bytes()) == record
    assert bob.record is not None
    assert bob.record.current.pending is not None
    assert bob.record.archived_states()[0].receiving[-1].chain.skipped


def test_corrupt_rows_are_our_fault(alice: Party, bob: Party) -> None:
    """A row we cannot read raises the local error: it never came from a peer."""
    meet(alice, bob)
    assert alice.row is not None
    newer = records_pb2.SessionRecord.FromString(alice.row)
    newer.version = 2
    bad_key = records_pb2.SessionRecord.FromString(alice.row)
    bad_key.current.root_key = b"short"
    bad_skipped = records_pb2.SessionRecord.FromString(alice.row)
    bad_skipped.current.receiving[0].chain.skipped = b"not 36"
    for row in (
        b"",
        b"\xff",
        alice.row[:-1],
        newer.SerializeToString(),
        bad_key.SerializeToString(),
        bad_skipped.SerializeToString(),
    ):
        with pytest.raises(LocalProtocolError):
            session.SessionRecord.from_bytes(row)
    broken_archive = records_pb2.SessionRecord.FromString(alice.row)
    broken_archive.archived.append(b"\xff")
    record = session.SessionRecord.from_bytes(broken_archive.SerializeToString())
    with pytest.raises(LocalProtocolError):
        record.archived_states()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_row_reads_or_is_our_fault(row: bytes) -> None:
    """No row raises anything but `LocalProtocolError`."""
    with pytest.raises(LocalProtocolError):
        session.SessionRecord.from_bytes(row)


def test_keys_stay_out_of_the_repr(alice: Party, bob: Party) -> None:
    """A record can be logged by accident without harm."""
    state = _current(alice, bob)
    text = repr(bob.record)
    for secret in (state.root_key, state.ratchet.private, state.sending.key):
        assert repr(secret)[2:-1] not in text
