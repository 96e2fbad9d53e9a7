"""Harnesses for plaintexts: contents, encrypted answers, history, peer messages, app state."""

import contextlib
import json
import typing as t

from actors.reading import Origin, message_of
from fuzz import keys
from fuzz.harness import Target, choice, ensure, pieces, refused
from fuzz.stanzas import OWN, OWN_LID
from whatsapp import addons, content, history, media, media_retry, padding, peer, sending
from whatsapp.appstate import keys as sync_keys
from whatsapp.appstate import lthash, mutations, patches, requests, wire
from whatsapp.e2ee.primitives import cbc_encrypt, hmac_sha256
from whatsapp.jid import Jid
from whatsapp.media_retry import MediaOf, RetryAnswer
from whatsapp.media_source import MediaSource
from whatsapp.proto import sync_pb2, wa_pb2
from whatsapp.web_message import build_web_message, read_web_message

CHAT: t.Final = Jid("5511900000002", "s.whatsapp.net")
GROUP: t.Final = Jid("120363000000000001", "g.us")
SECRET: t.Final = bytes(range(32))
MAX_DETAIL: t.Final = 1 << 19  # characters of JSON, far above what a detail may have


def message(data: bytes) -> None:
    """A plaintext becomes content, and content a message that can be stored."""
    with refused:
        padding.unpad(data)
    with refused:
        read = content.read_content(data)
        _storable(read)
        sending.outline_of(read)
        _addressed(read)
    with refused:
        content.media_source(data)
        content.message_secret(data)


def _storable(read: content.Content) -> None:
    ensure(len(json.dumps(read.detail, allow_nan=False)) < MAX_DETAIL, "a detail without bounds")
    json.dumps(read.detail, ensure_ascii=False).encode()
    for text in (read.text, read.target_id, read.quoted_id, read.quoted_author, *read.mentions):
        (text or "").encode()


def _addressed(read: content.Content) -> None:
    for chat in (CHAT, GROUP):
        for from_me in (False, True):
            origin = Origin(
                chat=chat,
                sender=CHAT,
                from_me=from_me,
                own=(OWN.bare, OWN_LID.bare),
                id="1",
                timestamp=keys.NOW,
            )
            message_of(read, origin)


_POLL: t.Final = wa_pb2.Message(
    message_context_info=wa_pb2.MessageContextInfo(message_secret=SECRET),
    poll_creation_message=wa_pb2.PollCreationMessage(
        name=b"When?",
        options=[wa_pb2.PollCreationMessage.Option(option_name=b"now")],
    ).SerializeToString(),
).SerializeToString()
_PARENT: t.Final = addons.Parent(id="1", authors=(str(CHAT),), raw=_POLL)


def addon(data: bytes) -> None:
    """Encrypted answers: the message around one, and what is behind its tag."""
    way, data = choice(data, len(addons.Use) + 2)
    if way == 0:
        with refused:
            addons.resolve(data, _PARENT, (str(CHAT),))
        return
    if way == 1:  # the parent is a peer's, too
        way, plaintext = 2, b""
        parent = addons.Parent(id="1", authors=(str(CHAT),), raw=_POLL + data)
    else:
        plaintext, parent = data, _PARENT
    use = list(addons.Use)[way - 2]
    sealed = addons.encrypt(plaintext, use, _PARENT, str(CHAT), bytes(12))
    with refused:
        _storable(addons.resolve(_sealed_message(use, sealed), parent, (str(CHAT),)))


def _sealed_message(use: addons.Use, sealed: addons.Encrypted) -> bytes:
    add_on = wa_pb2.EncryptedAddOn(enc_payload=sealed.payload, enc_iv=sealed.iv)
    outer = wa_pb2.Message()
    match use:
        case addons.Use.POLL_VOTE:
            vote = wa_pb2.PollUpdateMessage()
            vote.vote.enc_payload, vote.vote.enc_iv = sealed.payload, sealed.iv
            outer.poll_update_message = vote.SerializeToString()
        case addons.Use.REACTION:
            outer.enc_reaction_message = add_on.SerializeToString()
        case addons.Use.COMMENT:
            outer.enc_comment_message = add_on.SerializeToString()
        case addons.Use.EVENT_RESPONSE:
            outer.enc_event_response_message = add_on.SerializeToString()
        case _:
            kinds = {
                addons.Use.EVENT_EDIT: addons.EVENT_EDIT,
                addons.Use.MESSAGE_EDIT: addons.MESSAGE_EDIT,
                addons.Use.POLL_EDIT: addons.POLL_EDIT,
            }
            add_on.secret_enc_type = kinds[use]
            outer.secret_encrypted_message = add_on.SerializeToString()
    return outer.SerializeToString()


def chunk(data: bytes) -> None:
    """A chunk of history: compressed, inflated, and down to its last message."""
    way, data = choice(data, 3)
    if way == 0:
        with refused:
            history.inflate(pieces(data, 7), limit=1 << 16)
        with refused:
            history.parse_notification(data)
        return
    if way == 1:
        inflated = bytes(history.inflate(history.deflate(data)))
        ensure(inflated == data, "history that changes when it is packed")
    with refused:
        read = history.read_history(data)
        for conversation in read.conversations:
            conversation.oldest_first()
            for index in range(len(conversation.messages)):
                with refused:
                    _in_history(conversation.messages[index].message)
        for index in range(len(read.status_messages)):
            with refused:
                _in_history(read.status_messages[index].message)


def _in_history(raw: bytes) -> None:
    with refused:
        _storable(content.read_content(raw))


def web_message(data: bytes) -> None:
    """A message as the phone keeps it; written again it reads the same."""
    with refused:
        first = read_web_message(data)
        again = read_web_message(build_web_message(first))
        ensure(again.key == first.key, "the key of a message that changes")
        ensure(again.message == first.message, "a message that changes")


def peers(data: bytes) -> None:
    """What the own phone says: every reader of a peer message."""
    for reader in (
        history.read_notification,
        peer.kind_of,
        peer.parse_lid_mappings,
        peer.parse_request,
        peer.parse_response,
        requests.is_recovery,
        requests.keys_from_share,
        requests.parse_key_request,
        requests.parse_recovery_request,
        requests.read_key_share,
        requests.read_recovery,
    ):
        with refused:
            reader(data)


_RING: t.Final = sync_keys.KeyRing({b"\0\0\0\0\0\1": SECRET})
_KEYS: t.Final = _RING[b"\0\0\0\0\0\1"]
_NAME: t.Final = "regular"


def app_state(data: bytes) -> None:
    """Patches and snapshots: as they lie there, and behind all of their MACs."""
    way, data = choice(data, 5)
    before = patches.CollectionState()
    with refused:
        match way:
            case 0:
                patch = wire.parse_patch(data)
                wire.external_mutations(patch)
                wire.index_macs(patch)
                patches.finish(patches.verify_patch(_NAME, patch, before, {}, _RING))
            case 1:
                snapshot = wire.parse_snapshot(data)
                patches.finish(patches.verify_snapshot(_NAME, snapshot, _RING))
            case 2:
                wire.with_mutations(sync_pb2.SyncPatch(), data)
            case 3:
                wire.parse_reference(data)
                recovery = sync_pb2.SyncRecovery(
                    collection_lthash=bytes(lthash.LENGTH),
                    records=[
                        sync_pb2.SyncPlainRecord(key_id=_KEYS.id, mac=bytes(32)),
                    ],
                )
                with contextlib.suppress(Exception):
                    recovery.MergeFromString(data)
                patches.finish(patches.read_recovery(recovery, _RING))
            case _:
                _sealed_patch(data, before)


def _sealed_patch(plain: bytes, before: patches.CollectionState) -> None:
    """The plaintext of a record, sealed as a device with the keys would."""
    try:
        index = sync_pb2.SyncActionData.FromString(plain).index
    except Exception:
        index = b""
    operation = mutations.Operation.SET
    encrypted = bytes(16) + cbc_encrypt(_KEYS.value_encryption, bytes(16), plain)
    record = sync_pb2.SyncRecord(
        index=sync_pb2.SyncIndex(blob=hmac_sha256(_KEYS.index, index)),
        value=sync_pb2.SyncValue(
            blob=encrypted + mutations._value_mac(operation, encrypted, _KEYS)
        ),
        key_id=sync_pb2.SyncKeyId(id=_KEYS.id),
    )
    mutation = sync_pb2.SyncMutation(operation=operation, record=record)
    patch, _step = patches.build_patch(_NAME, [mutation], before, {}, _RING, _KEYS)
    step = patches.finish(patches.verify_patch(_NAME, patch, before, {}, _RING))
    for part in step.mutations[0].index:
        part.encode()
        ensure("\0" not in part, "an index that cannot be stored")


def files(data: bytes) -> None:
    """A file from a media server, and the phone's answer about one, behind its tag."""
    way, data = choice(data, 3)
    with refused:
        if way == 0:
            source = MediaSource(
                kind="image",
                media_key=SECRET,
                direct_path="/v/1",
                sha256=b"",
                enc_sha256=b"",
                length=None,
            )
            media.decrypt(source, data)
        elif way == 1:
            box = media_retry._seal(data, "1", SECRET, bytes(12))
            answer = RetryAnswer(
                media=MediaOf(id="1", chat=CHAT, from_me=False), box=box, iv=bytes(12)
            )
            media_retry.open_answer(answer, SECRET)
        else:
            found = content.media_source(data)
            if found is not None:
                media.download_urls(found, ("mmg.example",))
                media.decrypt(found, data)


TARGETS: t.Final = (
    Target(name="message", run=message, form="message"),
    Target(name="addon", run=addon, form="choice"),
    Target(name="history", run=chunk, form="choice"),
    Target(name="web_message", run=web_message, form="message"),
    Target(name="peer", run=peers, form="message"),
    Target(name="app_state", run=app_state, form="choice"),
    Target(name="files", run=files, form="choice"),
)
