"""Messages, receipts and acks: reading what came in, writing the answers.

Source: docs/protocol.md#message-stanza, docs/protocol.md#acks-and-receipts
"""

import typing as t

import attrs

from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair
from whatsapp.e2ee.x3dh import PreKeyBundle
from whatsapp.errors import DecryptionFailure, RemoteProtocolError
from whatsapp.iq import bundles, prekeys
from whatsapp.jid import Jid
from whatsapp.node import Node

BOT_SERVER: t.Final = "bot"
PEER: t.Final = "peer"  # category of messages between own devices
UNPADDED_VERSION: t.Final = 3  # of an enc
MAX_ENCS: t.Final = 16  # ciphertexts in a message; two in practice, and each costs derivations
MAX_RECEIPT_IDS: t.Final = 4096  # messages, or readers, in one receipt


@attrs.frozen
class EncPayload:
    """One ciphertext of a message."""

    type: str  # "pkmsg", "msg" or "skmsg"; others exist and cannot be read
    body: bytes = attrs.field(repr=False)
    count: int = 0  # above 0: sent again because we asked, that often
    hide: bool = False  # show nothing when it cannot be decrypted
    version: int = 2

    @property
    def padded(self) -> bool:
        """Whether the plaintext carries padding."""
        return self.version != UNPADDED_VERSION


@attrs.frozen(kw_only=True)
class MessageStanza:
    """A message as it was delivered, still encrypted: who, where, when."""

    id: str | None  # None or unique per chat and sender
    chat: Jid  # bare
    chat_alt: Jid | None  # bare; the other address of the same person
    sender: Jid  # with device
    sender_alt: Jid | None  # with device; the other address of the same person
    from_me: bool  # by the phone or another device of the own account
    timestamp: int  # unix seconds, the server's; 0 when it gave none
    push_name: str | None
    category: str | None  # "peer": between own devices, no chat content
    addressing_mode: str  # "pn" or "lid"
    offline: bool  # from the offline queue
    edit: str | None
    encs: tuple[EncPayload, ...]
    plaintext: bytes | None = attrs.field(repr=False)  # channels only; not padded
    device_identity: bytes | None = attrs.field(repr=False)
    unavailable: str | None  # why the content was withheld from this device
    source: Jid  # the stanza's from
    participant: Jid | None
    recipient: Jid | None

    @property
    def is_peer(self) -> bool:
        """Whether it is between own devices only."""
        return self.category == PEER


def parse_message(node: Node, own_jid: Jid | None, own_lid: Jid | None) -> MessageStanza:
    """Read a ``<message>``; the own addresses may be with or without device.

    A missing id is None, for the store to derive one.

    Raises:
        RemoteProtocolError: malformed: answer ``ack(node, 487)``.
    """
    own = {jid.bare: jid for jid in (own_jid, own_lid) if jid is not None}
    source = node.required_jid("from")
    participant, recipient = _jid(node, "participant"), _jid(node, "recipient")
    sender = _sender(source, participant)
    from_me = sender.bare in own
    chat = _chat(node, source, recipient, from_me)
    edit, notify = node.text("edit"), node.text("notify")
    identity, plaintext = node.child("device-identity"), node.child("plaintext")
    encs = node.children_named("enc")
    if len(encs) > MAX_ENCS:
        raise RemoteProtocolError(f"a message of {len(encs)} ciphertexts")
    return MessageStanza(
        id=node.identifier("id") or None,
        chat=chat,
        chat_alt=_chat_alt(node, chat, from_me),
        sender=sender,
        sender_alt=_sender_alt(node, sender, participant, own if from_me else {}),
        from_me=from_me,
        timestamp=node.integer("t") or 0,
        push_name=None if notify in ("", "-") else notify,
        category=node.text("category") or None,
        addressing_mode=node.text("addressing_mode") or ("lid" if sender.is_lid else "pn"),
        offline="offline" in node.attrs,
        edit=edit or None,
        encs=tuple(_parse_enc(child) for child in encs),
        plaintext=None if plaintext is None else plaintext.data(),
        device_identity=None if identity is None else identity.data(),
        unavailable=_unavailable(node),
        source=source,
        participant=participant,
        recipient=recipient,
    )


def _sender(source: Jid, participant: Jid | None) -> Jid:
    if not (source.is_group or source.is_broadcast):
        if not source.user:
            raise RemoteProtocolError("a message from nobody")
        return source
    if participant is None or not participant.user:
        raise RemoteProtocolError("a message in a group without participant")
    return participant


def _chat(node: Node, source: Jid, recipient: Jid | None, from_me: bool) -> Jid:
    if source.is_group or source.is_broadcast or source.is_newsletter:
        return source
    if from_me:
        return source.bare if recipient is None else recipient.bare
    if recipient is not None and recipient.server != BOT_SERVER:
        raise RemoteProtocolError("a recipient on a message that is not by the own account")
    if source.server == BOT_SERVER and (meta := node.child("meta")) is not None:
        return (_jid(meta, "target_chat_jid") or source).bare
    return source.bare


def _chat_alt(node: Node, chat: Jid, from_me: bool) -> Jid | None:
    """The other address of a person we chat with."""
    if not chat.is_person:
        return None
    prefixes = ("peer_recipient", "recipient") if from_me else ("sender",)
    alt = _other_address(node, chat, prefixes)
    return None if alt is None else alt.bare


def _sender_alt(
    node: Node, sender: Jid, participant: Jid | None, own: dict[Jid, Jid]
) -> Jid | None:
    prefix = "sender" if participant is None else "participant"
    alt = _other_address(node, sender, (prefix,))
    if alt is None:
        alt = next((jid for jid in own.values() if jid.is_lid != sender.is_lid), None)
    return None if alt is None else alt.with_device(sender.device)


def _other_address(node: Node, jid: Jid, prefixes: tuple[str, ...]) -> Jid | None:
    family = "pn" if jid.is_lid else "lid"
    for prefix in prefixes:
        alt = _jid(node, f"{prefix}_{family}")
        if alt is not None and alt.user and alt.is_person and alt.is_lid != jid.is_lid:
            return alt
    return None


def _jid(node: Node, key: str) -> Jid | None:
    """An optional JID, where empty text means none."""
    return None if node.attrs.get(key) == "" else node.jid(key)


def _unavailable(node: Node) -> str | None:
    child = node.child("unavailable")
    return None if child is None else child.text("type") or "unspecified"


def _parse_enc(node: Node) -> EncPayload:
    version = node.integer("v")
    return EncPayload(
        type=node.required_text("type"),
        body=node.data(),
        count=_count(node, "count"),
        hide=node.text("decrypt-fail") == "hide",
        version=2 if version is None else version,
    )


def _count(node: Node, key: str) -> int:
    return max(node.integer(key) or 0, 0)


# ---- answers to messages


def ack(node: Node, error: int | None = None) -> Node:
    """Takes a message, receipt, notification or call off the server's queue.

    With an ``error`` (see docs/protocol.md#nack-codes) also says that it was not understood.
    """
    return Node(
        "ack",
        {
            "class": node.tag,
            "id": node.text("id"),
            "to": node.attrs.get("from"),
            "participant": node.attrs.get("participant"),
            "recipient": node.attrs.get("recipient"),
            "type": None if node.tag == "message" else node.text("type"),
            "error": error,
        },
    )


def delivery_kind(message: MessageStanza, *, active: bool) -> str | None:
    """The kind of delivery receipt a message asks for; ``active``: our presence is available."""
    if message.is_peer:
        return "peer_msg"
    if message.from_me:
        return "sender"
    return None if active else "inactive"


def delivery_receipt(message: MessageStanza, kind: str | None = None) -> Node:
    """Says that a message is stored; only then may it be sent.

    ``kind`` is None (delivered), or ``inactive``, ``sender``, ``peer_msg`` or ``hist_sync``. A
    message without id gets a receipt without id, which cannot take it off the server's queue.
    """
    own_devices_only = kind in ("peer_msg", "hist_sync")
    return Node(
        "receipt",
        {
            "id": message.id,
            "to": message.chat if own_devices_only else message.source,
            "type": kind,
            "participant": message.participant,
            "recipient": None if own_devices_only else message.recipient,
        },
    )


def retry_receipt(
    message: MessageStanza,
    device: Device,
    *,
    count: int,
    error: DecryptionFailure | None = None,
    prekey: tuple[int, KeyPair] | None = None,
) -> Node:
    """Asks the sender to encrypt a message again, for the ``count``-th time.

    With a ``prekey`` it carries all that is needed to start a new session with us: a fresh one,
    not among the uploaded, and stored before this is sent. An ``ack`` has to follow.
    Source: docs/protocol.md#retry-receipts
    """
    retry = Node(
        "retry", {"v": 1, "id": message.id, "t": message.timestamp, "count": count, "error": error}
    )
    children = [retry, prekeys.registration_node(device.registration_id)]
    if prekey is not None:
        children.append(Node("keys", {}, _retry_keys(device, prekey)))
    return Node(
        "receipt",
        {
            "id": message.id,
            "to": message.source,
            "type": "retry",
            "participant": message.participant,
            "recipient": message.recipient,
            "category": PEER if message.is_peer else None,
        },
        tuple(children),
    )


def _retry_keys(device: Device, prekey: tuple[int, KeyPair]) -> tuple[Node, ...]:
    key_id, pair = prekey
    return (
        prekeys.type_node(),
        Node("identity", {}, device.identity.public),
        prekeys.prekey_node(key_id, pair.public),
        prekeys.signed_prekey_node(prekeys.signed_prekey_of(device)),
        Node("device-identity", {}, device.account),
    )


# ---- receipts that come in


@attrs.frozen(kw_only=True)
class RetryRequest:
    """Somebody could not decrypt a message of ours."""

    id: str  # of that message
    count: int  # from 1
    timestamp: int  # of that message
    error: int | None
    registration_id: int | None
    bundle: PreKeyBundle | None  # to start a new session with
    device_identity: bytes | None = attrs.field(repr=False)


@attrs.frozen
class Reader:
    """One member of a group, in a receipt that speaks for several."""

    jid: Jid
    timestamp: int


@attrs.frozen(kw_only=True)
class ReceiptStanza:
    """What became of messages, as a server or a client was told."""

    ids: tuple[str, ...]
    type: str | None  # None: delivered
    address: Jid | None  # its from, or its to where a client wrote it; some leave that out
    participant: Jid | None
    recipient: Jid | None
    timestamp: int
    category: str | None
    readers: tuple[Reader, ...]
    retry: RetryRequest | None

    @property
    def sender(self) -> Jid | None:
        """Whose receipt it is."""
        return self.participant or self.address

    @property
    def chat(self) -> Jid | None:
        """The chat of the messages, bare."""
        if self.address is None or self.address.is_group or self.address.is_broadcast:
            return self.address
        return (self.recipient or self.address).bare


def parse_receipt(node: Node) -> ReceiptStanza:
    """Read a ``<receipt>``, a server's (``from``) or a client's (``to``).

    Raises:
        RemoteProtocolError: malformed, or about no message.
    """
    ids, readers = _receipt_ids(node)
    retry = node.child("retry")
    kind = node.text("type") or None
    return ReceiptStanza(
        ids=ids,
        type=kind,
        address=_jid(node, "from") or _jid(node, "to"),
        participant=_jid(node, "participant"),
        recipient=_jid(node, "recipient"),
        timestamp=node.integer("t") or 0,
        category=node.text("category") or None,
        readers=readers,
        retry=None if retry is None else _parse_retry(node, retry, ids[0]),
    )


def _receipt_ids(node: Node) -> tuple[tuple[str, ...], tuple[Reader, ...]]:
    if (crowd := node.child("participants")) is not None:
        readers = tuple(
            Reader(user.required_jid("jid"), user.integer("t") or 0)
            for user in _bounded(crowd.children_named("user"))
        )
        return (crowd.identifier("key") or node.required_identifier("id"),), readers
    items = () if (more := node.child("list")) is None else more.children_named("item")
    ids = (
        node.required_identifier("id"),
        *(item.required_identifier("id") for item in _bounded(items)),
    )
    return tuple(dict.fromkeys(ids)), ()


def _bounded(items: tuple[Node, ...]) -> tuple[Node, ...]:
    if len(items) > MAX_RECEIPT_IDS:
        raise RemoteProtocolError(f"a receipt of {len(items)} parts")
    return items


def _parse_retry(node: Node, retry: Node, first_id: str) -> RetryRequest:
    registration, keys = node.child("registration"), node.child("keys")
    identity = None if keys is None else keys.child("device-identity")
    return RetryRequest(
        id=retry.identifier("id") or first_id,
        count=max(retry.integer("count") or 1, 1),
        timestamp=retry.integer("t") or 0,
        error=retry.integer("error"),
        registration_id=None if registration is None else prekeys.parse_registration(node),
        bundle=None if keys is None else bundles.parse_bundle(node, keys),
        device_identity=None if identity is None else identity.data(),
    )


# ---- acks that come in


@attrs.frozen
class AckStanza:
    """The server took a stanza of ours over, or refused it."""

    id: str
    kind: str  # the tag of the stanza
    error: int | None
    timestamp: int | None  # unix seconds: the message's time from now on
    phash: str | None = None  # the server knows other devices than the message was for


def parse_ack(node: Node) -> AckStanza:
    """Read an ``<ack>``.

    Raises:
        RemoteProtocolError: malformed.
    """
    return AckStanza(
        id=node.required_text("id"),
        kind=node.text("class") or "",
        error=node.integer("error"),
        timestamp=node.integer("t"),
        phash=node.text("phash") or None,
    )
