"""From the ciphertexts of a stanza to its content, and the records that this changes.

Nothing here is written anywhere: the changes travel in the envelope of the message, so that
they commit with it or not at all.
"""

import collections.abc as cabc
import typing as t

import attrs
import structlog

from actors.records import RecordCache
from storage.api import RecordChange, RecordKind
from whatsapp.content import NONE, UNKNOWN, Content, read_content
from whatsapp.device import Device
from whatsapp.e2ee import sender_key, session
from whatsapp.e2ee.curve import KeyPair, serialise
from whatsapp.errors import (
    DecryptionError,
    DecryptionFailure,
    DuplicateMessageError,
    LocalProtocolError,
    RemoteProtocolError,
)
from whatsapp.jid import Jid
from whatsapp.padding import unpad
from whatsapp.stanzas import EncPayload, MessageStanza

T = t.TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger("decryption")


@attrs.frozen(kw_only=True)
class Opened:
    """What a stanza held. With ``failure`` there is no message in what could be read, but the
    changes of the readable parts still count."""

    contents: tuple[Content, ...]
    changes: tuple[RecordChange, ...]
    failure: RemoteProtocolError | None = None

    @property
    def reason(self) -> DecryptionFailure:
        """The failure in the numbers of retry receipts."""
        if isinstance(self.failure, DecryptionError):
            return self.failure.reason
        return DecryptionFailure.INVALID_MESSAGE


class _Staged:
    """The cache, with the changes of one stanza laid over it."""

    def __init__(self, cache: RecordCache) -> None:
        self._cache = cache
        self._changes: dict[tuple[RecordKind, str], bytes | None] = {}

    async def load(self, kind: RecordKind, keys: cabc.Iterable[str]) -> None:
        await self._cache.load(kind, [key for key in keys if (kind, key) not in self._changes])

    def get(self, kind: RecordKind, key: str) -> bytes | None:
        if (kind, key) in self._changes:
            return self._changes[kind, key]
        return self._cache.get(kind, key)

    def put(self, kind: RecordKind, key: str, value: bytes | None) -> None:
        self._changes[kind, key] = value

    def changes(self) -> tuple[RecordChange, ...]:
        return tuple(RecordChange(kind, key, value) for (kind, key), value in self._changes.items())


class Decryptor:
    """Opens the stanzas of one device, one after the other."""

    def __init__(
        self, cache: RecordCache, device: Device, random: cabc.Callable[[int], bytes]
    ) -> None:
        self._cache = cache
        self._random = random
        self._own = session.LocalIdentity(device.identity, device.registration_id)
        self._signed_prekeys = {device.signed_prekey_id: device.signed_prekey}

    async def open(self, stanza: MessageStanza) -> Opened:
        """Decrypt every part, in order; each that can be read counts, whatever the others do.

        What was decrypted is kept whatever it says, because its key is spent.
        """
        staged = _Staged(self._cache)
        contents: list[Content] = []
        failures: list[RemoteProtocolError] = []
        for enc in stanza.encs:
            try:
                plaintext = await self._decrypt(staged, stanza, enc)
            except RemoteProtocolError as error:
                failures.append(error)
                continue
            content = _read(plaintext, padded=enc.padded)
            await self._learn_sender_key(staged, stanza, content)
            contents.append(content)
        if stanza.plaintext is not None:  # channels only
            contents.append(_read(stanza.plaintext, padded=False))
        return Opened(
            contents=tuple(contents),
            changes=staged.changes(),
            failure=_verdict(contents, failures),
        )

    async def _decrypt(self, staged: _Staged, stanza: MessageStanza, enc: EncPayload) -> bytes:
        addresses = sender_addresses(stanza)
        match enc.type:
            case "pkmsg":
                return await self._decrypt_prekey_message(staged, addresses, enc.body)
            case "msg":
                return await self._decrypt_message(staged, addresses, enc.body)
            case "skmsg":
                return await self._decrypt_group_message(staged, stanza.chat, addresses, enc.body)
            case other:
                raise DecryptionError(
                    DecryptionFailure.INVALID_MESSAGE, f"unknown ciphertext type {other[:16]!r}"
                )

    async def _decrypt_prekey_message(
        self, staged: _Staged, addresses: cabc.Sequence[str], body: bytes
    ) -> bytes:
        header = session.peek_prekey_message(body)
        prekeys: dict[int, KeyPair] = {}
        if header.prekey_id is not None:
            key = str(header.prekey_id)
            await staged.load(RecordKind.PREKEY, [key])
            if (private := staged.get(RecordKind.PREKEY, key)) is not None:
                pair = _undamaged(KeyPair.from_private, private)
                prekeys |= {} if pair is None else {header.prekey_id: pair}

        def decrypt(record: session.SessionRecord | None) -> session.Decrypted:
            return session.decrypt_prekey_message(
                record, self._own, body, self._signed_prekeys, prekeys, self._new_key()
            )

        decrypted = await self._in_sessions(staged, addresses, decrypt)
        if decrypted.used_prekey_id is not None:
            staged.put(RecordKind.PREKEY, str(decrypted.used_prekey_id), None)
        identity = serialise(decrypted.identity)
        await staged.load(RecordKind.IDENTITY, addresses[:1])
        known = staged.get(RecordKind.IDENTITY, addresses[0])
        if known != identity:
            if known is not None:
                log.info("decryption.identity_changed")  # they reinstalled; trusted on change
            staged.put(RecordKind.IDENTITY, addresses[0], identity)
        return decrypted.plaintext

    async def _decrypt_message(
        self, staged: _Staged, addresses: cabc.Sequence[str], body: bytes
    ) -> bytes:
        def decrypt(record: session.SessionRecord | None) -> session.Decrypted:
            if record is None:
                raise DecryptionError(DecryptionFailure.NO_SESSION, "no session with the sender")
            return session.decrypt_message(record, self._own, body, self._new_key())

        return (await self._in_sessions(staged, addresses, decrypt)).plaintext

    async def _in_sessions(
        self,
        staged: _Staged,
        addresses: cabc.Sequence[str],
        decrypt: cabc.Callable[[session.SessionRecord | None], session.Decrypted],
    ) -> session.Decrypted:
        """Try the sessions of a person's addresses, the LID first.

        A session that works under the phone number alone moves to the LID.
        """
        await staged.load(RecordKind.SESSION, addresses)
        held = {key: staged.get(RecordKind.SESSION, key) for key in addresses}
        with_record = [key for key in addresses if held[key] is not None]
        failures: list[DecryptionError] = []
        for key in with_record or addresses[:1]:
            try:
                decrypted = _decrypted(decrypt, _read_session(held[key]))
            except DuplicateMessageError:
                raise
            except DecryptionError as error:
                failures.append(error)
                continue
            target = addresses[0] if held[addresses[0]] is None else key
            staged.put(RecordKind.SESSION, target, decrypted.record.to_bytes())
            if target != key:
                staged.put(RecordKind.SESSION, key, None)
            return decrypted
        raise failures[0]

    async def _decrypt_group_message(
        self, staged: _Staged, group: Jid, addresses: cabc.Sequence[str], body: bytes
    ) -> bytes:
        keys = [sender_key_name(str(group), address) for address in addresses]
        await staged.load(RecordKind.SENDER_KEY, keys)
        failure: DecryptionError | None = None
        for key in keys:
            if (value := staged.get(RecordKind.SENDER_KEY, key)) is None:
                continue
            if (known := _undamaged(sender_key.SenderKeyRecord.from_bytes, value)) is None:
                continue
            try:
                record, plaintext = sender_key.decrypt(known, body)
            except DuplicateMessageError:
                raise
            except DecryptionError as error:
                failure = failure or error
                continue
            staged.put(RecordKind.SENDER_KEY, key, record.to_bytes())
            return plaintext
        raise failure or DecryptionError(
            DecryptionFailure.NO_SESSION, "no sender key of this group member"
        )

    async def _learn_sender_key(
        self, staged: _Staged, stanza: MessageStanza, content: Content
    ) -> None:
        if content.sender_key_distribution is None:
            return
        group, distribution = content.sender_key_distribution
        key = sender_key_name(group, sender_addresses(stanza)[0])
        await staged.load(RecordKind.SENDER_KEY, [key])
        value = staged.get(RecordKind.SENDER_KEY, key)
        record = _undamaged(sender_key.SenderKeyRecord.from_bytes, value)
        try:
            updated = sender_key.process_distribution(record, distribution)
        except RemoteProtocolError as error:
            # Messages under this key will not open, and be asked for again with a better one.
            log.warning("decryption.sender_key_refused", error=str(error))
        else:
            staged.put(RecordKind.SENDER_KEY, key, updated.to_bytes())

    def _new_key(self) -> KeyPair:
        return KeyPair.from_private(self._random(32))


def sender_addresses(stanza: MessageStanza) -> tuple[str, ...]:
    """The Signal addresses under which the sending device may be known, the LID first.

    Source: docs/protocol.md#pn-and-lid
    """
    known = [stanza.sender]
    if stanza.sender_alt is not None:
        known.append(stanza.sender_alt.with_device(stanza.sender.device))
    known.sort(key=lambda jid: not jid.is_lid)
    return tuple(dict.fromkeys(jid.signal_address for jid in known))


def sender_key_name(group: str, address: str) -> str:
    """The record key of one member device's sender key."""
    return f"{group}::{address}"


def _verdict(
    contents: cabc.Sequence[Content], failures: cabc.Sequence[RemoteProtocolError]
) -> RemoteProtocolError | None:
    """Why there is no message: the failure that tells most, or None when there is one."""
    if any(content.kind != NONE for content in contents):
        return None
    news = (error for error in failures if not isinstance(error, DuplicateMessageError))
    return next(news, failures[0] if failures else None)


def _read_session(value: bytes | None) -> session.SessionRecord | None:
    return _undamaged(session.SessionRecord.from_bytes, value)


def _decrypted(
    decrypt: cabc.Callable[[session.SessionRecord | None], session.Decrypted],
    record: session.SessionRecord | None,
) -> session.Decrypted:
    """Decrypt; if a former session in the record is damaged, without the record."""
    try:
        return decrypt(record)
    except LocalProtocolError as error:
        log.error("decryption.record_damaged", error=str(error))
        return decrypt(None)


def _undamaged(read: cabc.Callable[[bytes], T], value: bytes | None) -> T | None:
    """A record; a damaged one counts as absent, so that its peer starts anew."""
    if value is None:
        return None
    try:
        return read(value)
    except LocalProtocolError as error:
        log.error("decryption.record_damaged", error=str(error))
        return None


def _read(plaintext: bytes, *, padded: bool) -> Content:
    """The content; what makes no sense is ``unknown``, with every byte kept."""
    try:
        return read_content(unpad(plaintext) if padded else plaintext)
    except RemoteProtocolError as error:
        log.warning("decryption.content_unreadable", error=str(error))
        return Content(kind=UNKNOWN, raw=plaintext)
