"""One message as the phone keeps it and hands it over: in history, and when asked for it again.

Source: docs/protocol.md#history-messages
"""

import typing as t

import attrs

from whatsapp import protobuf
from whatsapp.content import TargetKey
from whatsapp.proto import history_pb2, wa_pb2
from whatsapp.protobuf_fields import length_delimited
from whatsapp.stubs import STUBS

SECRET_LENGTH: t.Final = 32
MAX_ATTACHED: t.Final = (
    1024  # receipts, reactions, votes or parameters that are read of one message
)

_CONTEXT_FIELD: t.Final = 35  # Message.messageContextInfo
_SECRET_FIELD: t.Final = 3  # MessageContextInfo.messageSecret
_STATUSES: t.Final = ("error", "pending", "server_ack", "delivered", "read", "played")
_STUB_NUMBERS: t.Final = {name: number for number, name in STUBS.items()}


@attrs.frozen(kw_only=True)
class UserReceipt:
    """How far one recipient got with a message of ours; unix seconds, 0: not, or not told."""

    user: str
    delivered_at: int = 0
    read_at: int = 0
    played_at: int = 0


@attrs.frozen(kw_only=True)
class AttachedReaction:
    """A reaction to the message. Its key is as seen by the own account."""

    key: TargetKey
    text: str = attrs.field(repr=False)  # empty: taken back
    sent_at_ms: int = 0


@attrs.frozen(kw_only=True)
class AttachedVote:
    """A vote in the poll that the message is: SHA-256 hashes of the chosen options."""

    key: TargetKey
    options: tuple[bytes, ...]
    sent_at_ms: int = 0


@attrs.frozen(kw_only=True)
class AttachedMessage:
    """Another message that changes or answers this one, in full."""

    key: TargetKey
    message: bytes = attrs.field(repr=False)
    sent_at_ms: int = 0


@attrs.frozen(kw_only=True)
class HistoryMessage:
    """A message out of the phone's own store; its keys are as seen by the own account."""

    key: TargetKey
    participant: str | None = None
    """The author, where it is not the other side of a chat of two."""
    timestamp: int = 0  # unix seconds
    push_name: str | None = attrs.field(default=None, repr=False)
    business_name: str | None = attrs.field(default=None, repr=False)  # verified
    message: bytes = attrs.field(default=b"", repr=False)
    """The plaintext (``Message``), its secret put where live messages have it; empty: none."""
    status: str | None = None
    """``error``, ``pending``, ``server_ack``, ``delivered``, ``read`` or ``played``."""
    stub: str | None = None
    """What happened, for lines that nobody wrote: ``group_create``, …; ``stub_999`` if unknown."""
    stub_parameters: tuple[str, ...] = attrs.field(default=(), repr=False)
    revoked_at: int = 0  # unix seconds; 0: not told
    starred: bool = False
    receipts: tuple[UserReceipt, ...] = ()
    reactions: tuple[AttachedReaction, ...] = ()
    votes: tuple[AttachedVote, ...] = ()
    attached: tuple[AttachedMessage, ...] = ()
    order: int | None = None
    """Orders the messages of one conversation; only inside a chunk of history."""


def read_web_message(data: bytes) -> HistoryMessage:
    """Read a ``WebMessageInfo``.

    Raises:
        RemoteProtocolError: not one, or its key is none.
    """
    return message_from(protobuf.parse(history_pb2.HistoryWebMessage, data))


def message_from(info: history_pb2.HistoryWebMessage, order: int | None = None) -> HistoryMessage:
    """What a decoded ``WebMessageInfo`` says.

    Raises:
        RemoteProtocolError: its key, or that of something attached, is none.
    """
    key = read_key(info.key)
    return HistoryMessage(
        key=key,
        participant=key.participant or text(info.participant) or None,
        timestamp=info.message_timestamp,
        push_name=text(info.push_name) or None,
        business_name=text(info.verified_business_name) or None,
        message=_with_secret(info.message or info.futureproof_data, info.message_secret),
        status=_status(info),
        stub=STUBS.get(info.stub_type, f"stub_{info.stub_type}") if info.stub_type else None,
        stub_parameters=tuple(text(item) for item in info.stub_parameters[:MAX_ATTACHED]),
        revoked_at=info.revoke_timestamp,
        starred=info.starred,
        receipts=tuple(_receipt(item) for item in info.receipts[:MAX_ATTACHED]),
        reactions=tuple(
            AttachedReaction(
                key=read_key(item.key), text=text(item.text), sent_at_ms=item.sender_timestamp_ms
            )
            for item in info.reactions[:MAX_ATTACHED]
        ),
        votes=tuple(_vote(item) for item in info.poll_updates[:MAX_ATTACHED]),
        attached=tuple(
            AttachedMessage(
                key=read_key(item.key), message=item.message, sent_at_ms=item.sender_timestamp_ms
            )
            for item in info.add_ons[:MAX_ATTACHED]
            if item.message and item.key
        ),
        order=order,
    )


def build_web_message(message: HistoryMessage, *, secret: bytes | None = None) -> bytes:
    """The ``WebMessageInfo`` of a message; ``secret`` goes beside it, as phones keep it."""
    return info_from(message, secret=secret).SerializeToString()


def info_from(
    message: HistoryMessage, *, secret: bytes | None = None
) -> history_pb2.HistoryWebMessage:
    """The undecoded side of :func:`message_from`."""
    info = history_pb2.HistoryWebMessage(
        key=build_key(message.key),
        message=message.message or None,
        message_timestamp=message.timestamp,
        status=None if message.status is None else _STATUSES.index(message.status),
        push_name=_bytes(message.push_name),
        verified_business_name=_bytes(message.business_name),
        stub_type=None if message.stub is None else _stub_number(message.stub),
        stub_parameters=[item.encode() for item in message.stub_parameters],
        message_secret=secret,
        revoke_timestamp=message.revoked_at or None,
        starred=message.starred or None,
    )
    if message.participant != message.key.participant:
        info.participant = (message.participant or "").encode()
    for receipt in message.receipts:
        info.receipts.add(
            user_jid=receipt.user.encode(),
            receipt_timestamp=receipt.delivered_at or None,
            read_timestamp=receipt.read_at or None,
            played_timestamp=receipt.played_at or None,
        )
    for reaction in message.reactions:
        info.reactions.add(
            key=build_key(reaction.key),
            text=reaction.text.encode(errors="replace"),
            sender_timestamp_ms=reaction.sent_at_ms,
        )
    for vote in message.votes:
        info.poll_updates.add(
            key=build_key(vote.key),
            vote=history_pb2.HistoryVote(options=vote.options),
            sender_timestamp_ms=vote.sent_at_ms,
        )
    for item in message.attached:
        info.add_ons.add(
            key=build_key(item.key), message=item.message, sender_timestamp_ms=item.sent_at_ms
        )
    return info


def read_key(data: bytes) -> TargetKey:
    """Read a ``MessageKey``; an id may be missing, then it is empty.

    Raises:
        RemoteProtocolError: not one.
    """
    key = protobuf.parse(wa_pb2.MessageKey, data)
    return TargetKey(
        remote_jid=text(key.remote_jid),
        from_me=key.from_me,
        id=text(key.id),
        participant=text(key.participant) or None,
    )


def build_key(key: TargetKey) -> bytes:
    """The ``MessageKey`` of a message."""
    return wa_pb2.MessageKey(
        remote_jid=key.remote_jid.encode(),
        from_me=key.from_me,
        id=key.id.encode(),
        participant=_bytes(key.participant),
    ).SerializeToString()


def text(data: bytes) -> str:
    """Text of a peer, readable whatever it sent."""
    return data.decode(errors="replace")


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode(errors="replace")


def _with_secret(message: bytes, secret: bytes) -> bytes:
    """Append the secret to the message: of a field that comes twice, readers merge the parts."""
    if not message or len(secret) != SECRET_LENGTH:
        return message
    return message + length_delimited(_CONTEXT_FIELD, length_delimited(_SECRET_FIELD, secret))


def _status(info: history_pb2.HistoryWebMessage) -> str | None:
    known = info.HasField("status") and 0 <= info.status < len(_STATUSES)
    return _STATUSES[info.status] if known else None


def _stub_number(name: str) -> int:
    return _STUB_NUMBERS[name] if name in _STUB_NUMBERS else int(name.removeprefix("stub_"))


def _receipt(item: history_pb2.HistoryUserReceipt) -> UserReceipt:
    return UserReceipt(
        user=text(item.user_jid),
        delivered_at=max(item.receipt_timestamp, 0),
        read_at=max(item.read_timestamp, 0),
        played_at=max(item.played_timestamp, 0),
    )


def _vote(item: history_pb2.HistoryPollUpdate) -> AttachedVote:
    return AttachedVote(
        key=read_key(item.key),
        options=tuple(item.vote.options[:MAX_ATTACHED]),
        sent_at_ms=item.sender_timestamp_ms,
    )
