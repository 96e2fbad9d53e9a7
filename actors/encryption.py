"""From a plaintext to the ciphertexts of devices and groups, and the records that this changes.

Theory of operation. Encrypting steps a session, so the step has to be stored before its
ciphertext leaves: the changes travel in the envelope of the message. One lock, the cache's, is
held from loading the records to posting that envelope. Whatever needs the network (the keys of
devices without a session) is fetched before, and looked at again under the lock.
"""

import collections.abc as cabc
import contextlib
import json
import typing as t

import attrs
import structlog

from actors.decryption import sender_key_name
from actors.records import RecordCache
from storage.api import RecordChange, RecordKind
from whatsapp.content import build_sender_key_distribution
from whatsapp.device import Device
from whatsapp.e2ee import sender_key, session
from whatsapp.e2ee.curve import KeyPair, serialise
from whatsapp.e2ee.x3dh import PreKeyBundle
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.padding import pad
from whatsapp.sending import Sealed, is_hosted

MAX_ITERATIONS: t.Final = 1000  # messages under one sender key, then comes a fresh one

log: structlog.stdlib.BoundLogger = structlog.get_logger("encryption")

Bundles: t.TypeAlias = cabc.Mapping[Jid, PreKeyBundle]


@attrs.frozen
class Target:
    """One device to encrypt for."""

    device: Jid  # as the stanza names it
    addresses: tuple[str, ...]  # its Signal addresses, the LID first; at least one


@attrs.frozen(kw_only=True)
class GroupSealed:
    """A message to a group: for all, and the sender key for those who lacked it."""

    skmsg: bytes
    sealed: tuple[Sealed, ...]


class Encryptor:
    """Encrypts for one own device. Source: docs/protocol.md#signal-sessions"""

    def __init__(
        self, cache: RecordCache, device: Device, random: cabc.Callable[[int], bytes]
    ) -> None:
        self._cache = cache
        self._random = random
        self._own = session.LocalIdentity(device.identity, device.registration_id)
        own = device.lid or device.jid
        self._own_address = "" if own is None else own.signal_address

    async def without_session(self, targets: cabc.Iterable[Target]) -> tuple[Target, ...]:
        """The devices whose keys have to be fetched first."""
        async with self.sealing() as sealing:
            wanted = tuple(targets)
            await sealing.load_sessions(wanted)
            return tuple([item for item in wanted if await sealing.session_of(item) is None])

    async def without_group_key(
        self, group: Jid, members: cabc.Sequence[Target]
    ) -> tuple[Target, ...]:
        """The members' devices that the next message has to hand the sender key to."""
        async with self.sealing() as sealing:
            entitled = _entitled(members)
            _record, holders = await sealing.group_key(group, entitled)
            return tuple(item for item in entitled if item.addresses[0] not in holders)

    @contextlib.asynccontextmanager
    async def sealing(self) -> cabc.AsyncIterator["Sealing"]:
        """Hold the records. Post :attr:`Sealing.changes` before the end of the block, or drop
        every ciphertext made in it."""
        async with self._cache.lock:
            yield Sealing(self._cache, self._own, self._own_address, self._random)


class Sealing:
    """The encryptions of one envelope; made by :meth:`Encryptor.sealing` alone."""

    def __init__(
        self,
        cache: RecordCache,
        own: session.LocalIdentity,
        own_address: str,
        random: cabc.Callable[[int], bytes],
    ) -> None:
        self._cache = cache
        self._own = own
        self._own_address = own_address
        self._random = random
        self._changes: dict[tuple[RecordKind, str], bytes | None] = {}

    @property
    def changes(self) -> tuple[RecordChange, ...]:
        """What has to be committed before any of the ciphertexts leaves."""
        return tuple(RecordChange(kind, key, value) for (kind, key), value in self._changes.items())

    # ---- sessions

    async def load_sessions(self, targets: cabc.Iterable[Target]) -> None:
        """Read many sessions at once, for those who will ask for each of them."""
        keys = [address for target in targets for address in target.addresses]
        await self._load(RecordKind.SESSION, keys)

    async def session_of(self, target: Target) -> session.SessionRecord | None:
        """The session to encrypt with: that of the hidden address, else that of the number."""
        found = await self._find(target)
        return None if found is None else found[1]

    async def start(self, target: Target, bundle: PreKeyBundle) -> None:
        """Begin a new session; a former one is archived.

        Raises:
            RemoteProtocolError: the keys are malformed or wrongly signed.
        """
        former = await self._find(target)
        record = session.start_session(
            None if former is None else former[1],
            bundle,
            self._own,
            self._new_key(),
            self._new_key(),
        )
        self._keep_session(target, None if former is None else former[0], record)
        self._changes[RecordKind.IDENTITY, target.addresses[0]] = serialise(bundle.identity)

    async def drop(self, target: Target) -> None:
        """Forget the sessions of a device."""
        await self._load(RecordKind.SESSION, target.addresses)
        for address in target.addresses:
            if self._get(RecordKind.SESSION, address) is not None:
                self._changes[RecordKind.SESSION, address] = None

    async def seal(self, target: Target, plaintext: bytes) -> Sealed | None:
        """The ciphertext for one device; None: there is no session with it."""
        found = await self._find(target)
        if found is None:
            return None
        address, record = found
        after, ciphertext = session.encrypt(record, self._own, self._padded(plaintext))
        self._keep_session(target, address, after)
        return Sealed(target.device, ciphertext)

    async def seal_all(
        self, letters: cabc.Iterable[tuple[Target, bytes]], bundles: Bundles
    ) -> tuple[Sealed, ...]:
        """The ciphertexts for many devices, each with its own plaintext.

        ``bundles`` start the sessions that are still missing; whoever can have none is left out.
        """
        made: list[Sealed] = []
        letters = list(letters)
        await self.load_sessions([target for target, _plaintext in letters])
        for target, plaintext in letters:
            if await self._ensure_session(target, bundles):
                sealed = await self.seal(target, plaintext)
                made += [] if sealed is None else [sealed]
        return tuple(made)

    async def _ensure_session(self, target: Target, bundles: Bundles) -> bool:
        if await self._find(target) is not None:
            return True
        if (bundle := bundles.get(target.device)) is None:
            return False
        try:
            await self.start(target, bundle)
        except RemoteProtocolError as error:
            log.warning("encryption.keys_refused", error=str(error))
            return False
        return True

    async def _find(self, target: Target) -> tuple[str, session.SessionRecord] | None:
        await self._load(RecordKind.SESSION, target.addresses)
        for address in target.addresses:
            value = self._get(RecordKind.SESSION, address)
            try:
                if value is not None:
                    return address, session.SessionRecord.from_bytes(value)
            except LocalProtocolError as error:
                log.error("encryption.session_damaged", error=str(error))  # so a new one begins
        return None

    def _keep_session(
        self, target: Target, address: str | None, record: session.SessionRecord
    ) -> None:
        """A session under the number moves to the hidden address once that is known."""
        home = target.addresses[0]
        self._changes[RecordKind.SESSION, home] = record.to_bytes()
        if address is not None and address != home:
            self._changes[RecordKind.SESSION, address] = None

    # ---- groups

    async def group_key(
        self, group: Jid, members: cabc.Sequence[Target]
    ) -> tuple[sender_key.SenderKeyRecord, set[str]]:
        """Our sender key of a group, and which devices have it.

        A fresh one, which nobody has, takes its place when a device that has it is no longer a
        member's, and after 1,000 messages. Source: docs/protocol.md#sender-key-distribution
        """
        record, holders = await self._stored_group_key(group)
        left = holders - {item.addresses[0] for item in members}
        if record is None or left or sender_key.position(record)[1] >= MAX_ITERATIONS:
            key_id = int.from_bytes(self._random(4), "big") & 0x7FFFFFFF
            record = sender_key.create(record, key_id, self._random(32), self._new_key())
            holders = set()
        return record, holders

    async def seal_for_group(
        self, group: Jid, members: cabc.Sequence[Target], plaintext: bytes, bundles: Bundles
    ) -> GroupSealed:
        """Encrypt once for all, and hand the sender key to the devices that lack it.

        Those of them that can have no session lack it still, and get it with a later message.
        """
        entitled = _entitled(members)
        record, holders = await self.group_key(group, entitled)
        body = build_sender_key_distribution(group, sender_key.distribution(record))
        lacking = [item for item in entitled if item.addresses[0] not in holders]
        sealed = await self.seal_all([(item, body) for item in lacking], bundles)
        reached = {item.device for item in sealed}
        holders |= {item.addresses[0] for item in lacking if item.device in reached}
        after, skmsg = sender_key.encrypt(record, self._padded(plaintext), self._random(64))
        self._keep_group_key(group, after, holders)
        return GroupSealed(skmsg=skmsg, sealed=sealed)

    async def group_distribution(self, group: Jid) -> bytes | None:
        """The message that hands out our sender key as it stands; None: there is none."""
        record, _holders = await self._stored_group_key(group)
        if record is None:
            return None
        return build_sender_key_distribution(group, sender_key.distribution(record))

    async def forget_holder(self, group: Jid, target: Target) -> None:
        """Hand the sender key to this device once more, with the next message."""
        record, holders = await self._stored_group_key(group)
        if record is not None and holders & set(target.addresses):
            self._keep_group_key(group, record, holders - set(target.addresses))

    async def _stored_group_key(
        self, group: Jid
    ) -> tuple[sender_key.SenderKeyRecord | None, set[str]]:
        key, names = self._group_keys(group)
        await self._load(RecordKind.SENDER_KEY, (key, names))
        value = self._get(RecordKind.SENDER_KEY, key)
        if value is None:
            return None, set()
        try:
            record = sender_key.SenderKeyRecord.from_bytes(value)
        except LocalProtocolError as error:
            log.error("encryption.sender_key_damaged", error=str(error))
            return None, set()
        stored = self._get(RecordKind.SENDER_KEY, names)
        return record, _read_holders(stored, sender_key.position(record)[0])

    def _keep_group_key(
        self, group: Jid, record: sender_key.SenderKeyRecord, holders: set[str]
    ) -> None:
        key, names = self._group_keys(group)
        self._changes[RecordKind.SENDER_KEY, key] = record.to_bytes()
        value = {"key": sender_key.position(record)[0], "holders": sorted(holders)}
        self._changes[RecordKind.SENDER_KEY, names] = json.dumps(value).encode()

    def _group_keys(self, group: Jid) -> tuple[str, str]:
        """Where our sender key lies, and who has it."""
        return sender_key_name(str(group), self._own_address), f"{group}::distributed"

    # ---- records

    async def _load(self, kind: RecordKind, keys: cabc.Iterable[str]) -> None:
        await self._cache.load(kind, [key for key in keys if (kind, key) not in self._changes])

    def _get(self, kind: RecordKind, key: str) -> bytes | None:
        if (kind, key) in self._changes:
            return self._changes[kind, key]
        return self._cache.get(kind, key)

    def _padded(self, plaintext: bytes) -> bytes:
        return pad(plaintext, self._random(1)[0])

    def _new_key(self) -> KeyPair:
        return KeyPair.from_private(self._random(32))


def target_of(device: Jid, alt: Jid | None) -> Target:
    """A device with the other address of its account, if that is known."""
    known = [device, *(() if alt is None else (alt.with_device(device.device),))]
    known.sort(key=lambda jid: not jid.is_lid)
    return Target(device, tuple(dict.fromkeys(jid.signal_address for jid in known)))


def _entitled(members: cabc.Iterable[Target]) -> list[Target]:
    return [item for item in members if not is_hosted(item.device)]


def _read_holders(value: bytes | None, key_id: int) -> set[str]:
    """Who has the sender key of that id; an unreadable list means nobody, so all get it again."""
    if value is None:
        return set()
    try:
        stored = json.loads(value)
        if stored["key"] != key_id:
            return set()
        return {str(name) for name in stored["holders"]}
    except (ValueError, KeyError, TypeError):
        log.error("encryption.holders_damaged")
        return set()
