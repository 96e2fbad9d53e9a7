"""The Signal side of a phone: its keys, its sessions and its sender keys."""

import attrs

from simulator.entropy import Entropy
from simulator.model import Device, KeyBundle
from whatsapp import padding
from whatsapp.e2ee import prekeys, sender_key, session
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.sender_key import SenderKeyRecord
from whatsapp.e2ee.session import Ciphertext, LocalIdentity, PreKeyBundle, SessionRecord
from whatsapp.errors import DecryptionError, DecryptionFailure
from whatsapp.jid import Jid

SIGNED_PREKEY_ID = 1


@attrs.define(eq=False)
class _OwnSenderKey:
    record: SenderKeyRecord
    holders: set[Jid] = attrs.field(factory=set)  # devices that got it


class Keyring:
    """One handset's secrets. Sessions are kept per device, whatever address a stanza used."""

    def __init__(self, entropy: Entropy, stock: int) -> None:
        self._entropy = entropy
        self._stock = stock
        self.identity = self._pair()
        self._own = LocalIdentity(self.identity, 1 + entropy.below(0x3FFE))
        self._signed_prekey = self._pair()
        self._prekeys: dict[int, KeyPair] = {}
        self._next_prekey = 1
        self._sessions: dict[Jid, SessionRecord] = {}
        self._own_sender_keys: dict[Jid, _OwnSenderKey] = {}
        self._sender_keys: dict[tuple[Jid, Jid], SenderKeyRecord] = {}
        self.public = KeyBundle(
            self._own.registration_id,
            self.identity.public,
            SIGNED_PREKEY_ID,
            self._signed_prekey.public,
            prekeys.sign_prekey(self.identity, self._signed_prekey.public, entropy(64)),
        )
        self.refill()

    def refill(self) -> None:
        """Bring the stock of one-time prekeys on the server up when half of it is gone."""
        if len(self.public.one_time) <= self._stock // 2:
            while len(self.public.one_time) < self._stock:
                number, pair = self.fresh_prekey()
                self.public.one_time[number] = pair.public

    def fresh_prekey(self) -> tuple[int, KeyPair]:
        """A one-time prekey of which only the private half is filed yet."""
        ((number, pair),) = prekeys.generate(self._next_prekey, 1, self._entropy)
        self._next_prekey = number % prekeys.MAX_PREKEY_ID + 1
        self._prekeys[number] = pair
        return number, pair

    # -- sessions

    def has_session(self, device: Device) -> bool:
        """Whether something can be encrypted to the device without fetching its keys."""
        return device.lid in self._sessions

    def start(self, device: Device, bundle: PreKeyBundle) -> None:
        """Begin a new session with the device."""
        self._sessions[device.lid] = session.start_session(
            self._sessions.get(device.lid), bundle, self._own, self._pair(), self._pair()
        )

    def encrypt(self, device: Device, message: bytes) -> Ciphertext:
        """Pad and encrypt to one device, in the session there is."""
        padded = padding.pad(message, self._entropy(1)[0])
        record, ciphertext = session.encrypt(self._sessions[device.lid], self._own, padded)
        self._sessions[device.lid] = record
        return ciphertext

    def decrypt(self, device: Device, kind: str, body: bytes) -> bytes:
        """Decrypt from one device and remove the padding.

        Raises:
            DecryptionError: and nothing has changed.
            RemoteProtocolError: malformed padding.
        """
        record = self._sessions.get(device.lid)
        if kind == "pkmsg":
            decrypted = session.decrypt_prekey_message(
                record,
                self._own,
                body,
                {SIGNED_PREKEY_ID: self._signed_prekey},
                self._prekeys,
                self._pair(),
            )
        elif record is None:
            raise DecryptionError(DecryptionFailure.NO_SESSION, f"no session with {device.lid}")
        else:
            decrypted = session.decrypt_message(record, self._own, body, self._pair())
        plaintext = padding.unpad(decrypted.plaintext)
        self._sessions[device.lid] = decrypted.record
        if decrypted.used_prekey_id is not None:
            self._prekeys.pop(decrypted.used_prekey_id, None)
        return plaintext

    def forget(self, devices: set[Jid]) -> None:
        """Drop the sessions with these devices (by LID); they need our sender keys anew, too."""
        for device in devices:
            self._sessions.pop(device, None)
        for own in self._own_sender_keys.values():
            own.holders -= devices

    # -- sender keys

    def distribution(self, group: Jid) -> bytes:
        """What a device needs to read what we write to the group from now on."""
        return sender_key.distribution(self._own_sender_key(group).record)

    def holders(self, group: Jid) -> set[Jid]:
        """The devices (by LID) that have our sender key; the caller adds to it."""
        return self._own_sender_key(group).holders

    def encrypt_to_group(self, group: Jid, message: bytes) -> bytes:
        """Pad and encrypt once for all members."""
        own = self._own_sender_key(group)
        padded = padding.pad(message, self._entropy(1)[0])
        own.record, body = sender_key.encrypt(own.record, padded, self._entropy(64))
        return body

    def learn_sender_key(self, group: Jid, device: Device, data: bytes) -> None:
        """File a device's sender key.

        Raises:
            DecryptionError: malformed.
        """
        key = (group, device.lid)
        self._sender_keys[key] = sender_key.process_distribution(self._sender_keys.get(key), data)

    def decrypt_from_group(self, group: Jid, device: Device, body: bytes) -> bytes:
        """Decrypt what a device wrote to the group and remove the padding.

        Raises:
            DecryptionError: and nothing has changed.
            RemoteProtocolError: malformed padding.
        """
        record = self._sender_keys.get((group, device.lid))
        if record is None:
            raise DecryptionError(DecryptionFailure.NO_SESSION, "no sender key of this device")
        after, plaintext = sender_key.decrypt(record, body)
        self._sender_keys[group, device.lid] = after
        return padding.unpad(plaintext)

    def _own_sender_key(self, group: Jid) -> _OwnSenderKey:
        if (own := self._own_sender_keys.get(group)) is None:
            number = self._entropy.below(2**31 - 1)
            record = sender_key.create(None, number, self._entropy(32), self._pair())
            own = self._own_sender_keys[group] = _OwnSenderKey(record)
        return own

    def _pair(self) -> KeyPair:
        return KeyPair.from_private(self._entropy(32))
