"""Encrypting to devices and groups: which session, which keys, and what is kept of it."""

import random
import typing as t

import trio
import trio.testing

from actors.devices import Person
from actors.encryption import Encryptor, Target, target_of
from actors.records import RecordCache
from storage.api import RecordChange, RecordKind
from tests.actors.conftest import NAME, FaultyStorage
from tests.actors.outbox_people import ANNA, BEN, GROUP, device
from whatsapp.content import read_content
from whatsapp.e2ee import prekeys, sender_key, session
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.x3dh import PreKeyBundle
from whatsapp.jid import Jid
from whatsapp.padding import unpad

Clock: t.TypeAlias = trio.testing.MockClock
START = 1_790_000_000


class Peer:
    """Another device: its keys, and what it makes of our ciphertexts."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.record: session.SessionRecord | None = None
        self.identity = KeyPair.from_private(self.random.randbytes(32))
        self.signed = KeyPair.from_private(self.random.randbytes(32))
        self.one_time = KeyPair.from_private(self.random.randbytes(32))

    def bundle(self, *, forged: bool = False) -> PreKeyBundle:
        signature = prekeys.sign_prekey(self.identity, self.signed.public, bytes(64))
        return PreKeyBundle(
            registration_id=self.seed,
            identity=self.identity.public,
            signed_prekey_id=1,
            signed_prekey=self.signed.public,
            signed_prekey_signature=bytes(64) if forged else signature,
            prekey_id=1,
            prekey=self.one_time.public,
        )

    def read(self, sealed: t.Any) -> bytes:
        own = session.LocalIdentity(self.identity, self.seed)
        ratchet = KeyPair.from_private(self.random.randbytes(32))
        body = sealed.ciphertext.body
        if sealed.ciphertext.type == "pkmsg":
            done = session.decrypt_prekey_message(
                self.record, own, body, {1: self.signed}, {1: self.one_time}, ratchet
            )
        else:
            assert self.record is not None
            done = session.decrypt_message(self.record, own, body, ratchet)
        self.record = done.record
        return unpad(done.plaintext)


def target(person: Person, number: int) -> Target:
    jid = person.form(True).with_device(number)
    return target_of(jid, person.other(jid))


class Sealer:
    """An encryptor over a storage, whose changes are committed at once."""

    def __init__(self, storage: FaultyStorage) -> None:
        self.storage = storage
        self.tickets = 0
        self.cache = RecordCache(storage, NAME)
        self.encryptor = Encryptor(self.cache, device(), random.Random(9).randbytes)

    def commit(self, changes: tuple[RecordChange, ...]) -> None:
        self.tickets += 1
        self.cache.put(changes, self.tickets)
        self.cache.settled(changes, self.tickets)
        for change in changes:
            records = self.storage._connections[NAME].records[change.kind]
            if change.value is None:
                records.pop(change.key, None)
            else:
                records[change.key] = change.value

    async def seal(
        self, whom: Target, plaintext: bytes, bundle: PreKeyBundle | None = None
    ) -> t.Any:
        bundles = {} if bundle is None else {whom.device: bundle}
        async with self.encryptor.sealing() as sealing:
            sealed = await sealing.seal_all([(whom, plaintext)], bundles)
            self.commit(sealing.changes)
        return sealed[0] if sealed else None

    def records(self, kind: RecordKind) -> dict[str, bytes]:
        return self.storage._connections[NAME].records[kind]


async def test_a_session_begins_with_fetched_keys(storage: FaultyStorage) -> None:
    """Until the peer answers, each message could be the first; the identity is stored."""
    sealer, peer, whom = Sealer(storage), Peer(5), target(ANNA, 1)
    assert await sealer.encryptor.without_session([whom]) == (whom,)
    assert await sealer.seal(whom, b"nothing to begin with") is None
    for text in (b"one", b"two"):
        sealed = await sealer.seal(whom, text, peer.bundle())
        assert sealed.ciphertext.type == "pkmsg"
        assert peer.read(sealed) == text
    assert await sealer.encryptor.without_session([whom]) == ()
    assert sealer.records(RecordKind.IDENTITY)["900001111_1.1"][1:] == peer.identity.public


async def test_forged_keys_begin_nothing(storage: FaultyStorage) -> None:
    """A bundle whose signature is wrong is left out, with its device."""
    sealer = Sealer(storage)
    assert await sealer.seal(target(ANNA, 1), b"text", Peer(5).bundle(forged=True)) is None
    assert sealer.records(RecordKind.SESSION) == {}


async def test_a_session_moves_to_the_hidden_address(storage: FaultyStorage) -> None:
    """A session from the time when only the number was known goes on under the LID."""
    sealer, peer = Sealer(storage), Peer(5)
    assert ANNA.number is not None
    await sealer.seal(target_of(ANNA.number, None), b"before", peer.bundle())
    assert set(sealer.records(RecordKind.SESSION)) == {"15550001111.0"}
    sealed = await sealer.seal(target(ANNA, 0), b"after")
    assert peer.read(sealed) == b"after"
    assert set(sealer.records(RecordKind.SESSION)) == {"900001111_1.0"}


async def test_a_damaged_session_is_begun_anew(storage: FaultyStorage) -> None:
    sealer, peer, whom = Sealer(storage), Peer(5), target(ANNA, 1)
    sealer.records(RecordKind.SESSION)["900001111_1.1"] = b"\xff\xff damaged"
    assert await sealer.encryptor.without_session([whom]) == (whom,)
    sealed = await sealer.seal(whom, b"text", peer.bundle())
    assert peer.read(sealed) == b"text"


async def test_dropped_sessions_are_gone(storage: FaultyStorage) -> None:
    sealer, whom = Sealer(storage), target(ANNA, 1)
    await sealer.seal(whom, b"text", Peer(5).bundle())
    async with sealer.encryptor.sealing() as sealing:
        await sealing.drop(whom)
        await sealing.drop(target(BEN, 0))
        assert len(sealing.changes) == 1
        sealer.commit(sealing.changes)
    assert await sealer.encryptor.without_session([whom]) == (whom,)


async def test_nothing_is_kept_of_an_abandoned_block(storage: FaultyStorage) -> None:
    """Changes that were not posted leave no trace, so the next ciphertext repeats no key."""
    sealer, peer, whom = Sealer(storage), Peer(5), target(ANNA, 1)
    await sealer.seal(whom, b"one", peer.bundle())
    before = dict(sealer.records(RecordKind.SESSION))
    async with sealer.encryptor.sealing() as sealing:
        await sealing.seal(whom, b"lost")
    assert sealer.records(RecordKind.SESSION) == before
    assert peer.read(await sealer.seal(whom, b"two")) == b"two"


async def seal_group(sealer: Sealer, members: list[Target], peers: dict[Jid, Peer]) -> t.Any:
    bundles = {jid: peer.bundle() for jid, peer in peers.items()}
    async with sealer.encryptor.sealing() as sealing:
        made = await sealing.seal_for_group(GROUP, members, b"to all", bundles)
        sealer.commit(sealing.changes)
    return made


async def test_who_gets_the_sender_key(storage: FaultyStorage) -> None:
    """Each device once; who has no keys now gets it later; hosted devices never."""
    sealer, anna, ben = Sealer(storage), target(ANNA, 0), target(BEN, 0)
    hosted = target(ANNA, 99)
    peers = {anna.device: Peer(5), hosted.device: Peer(6)}
    made = await seal_group(sealer, [anna, ben, hosted], peers)
    assert [item.device for item in made.sealed] == [anna.device]
    assert await sealer.encryptor.without_group_key(GROUP, [anna, ben, hosted]) == (ben,)
    peers[ben.device] = Peer(7)
    made = await seal_group(sealer, [anna, ben, hosted], peers)
    assert [item.device for item in made.sealed] == [ben.device]
    content = read_content(peers[ben.device].read(made.sealed[0]))
    assert content.sender_key_distribution is not None
    group, data = content.sender_key_distribution
    assert group == str(GROUP)
    record = sender_key.process_distribution(None, data)
    assert unpad(sender_key.decrypt(record, made.skmsg)[1]) == b"to all"


async def test_the_sender_key_changes_in_time(storage: FaultyStorage) -> None:
    """After a thousand messages, and when somebody leaves: then everybody gets a fresh one."""
    sealer, anna, ben = Sealer(storage), target(ANNA, 0), target(BEN, 0)
    peers = {anna.device: Peer(5), ben.device: Peer(6)}
    await seal_group(sealer, [anna, ben], peers)
    made = await seal_group(sealer, [anna], peers)
    assert [item.device for item in made.sealed] == [anna.device]
    for _ in range(999):
        assert not (await seal_group(sealer, [anna], peers)).sealed
    assert (await seal_group(sealer, [anna], peers)).sealed


async def test_a_damaged_list_of_holders_means_everybody(storage: FaultyStorage) -> None:
    sealer, anna = Sealer(storage), target(ANNA, 0)
    await seal_group(sealer, [anna], {anna.device: Peer(5)})
    for damaged in (b"no json", b"[]", b'{"key": 1}', b'{"key": "x", "holders": 5}'):
        sealer.cache._values.clear()
        sealer.records(RecordKind.SENDER_KEY)[f"{GROUP}::distributed"] = damaged
        assert await sealer.encryptor.without_group_key(GROUP, [anna]) == (anna,)


async def test_a_large_group_fits_into_a_small_cache(storage: FaultyStorage) -> None:
    """Records that are needed together stay together, however many they are."""
    sealer = Sealer(storage)
    sealer.cache._capacity = 4
    members = [target(ANNA, number) for number in range(40)]
    peers = {item.device: Peer(100 + position) for position, item in enumerate(members)}
    made = await seal_group(sealer, members, peers)
    assert len(made.sealed) == 40
    assert not (await seal_group(sealer, members, peers)).sealed
