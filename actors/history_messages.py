"""From a message of history to the rows that it makes. Pure.

One message may make several rows: the message itself, and the reactions, votes and other
answers that the phone keeps with it, each of which would have been a message of its own live.
"""

import hashlib
import typing as t

import attrs

from actors.notices import CALL, SYSTEM
from actors.reading import Origin, bare_message, is_direct, message_of
from storage.api import UNDECRYPTABLE, Lane, ReceivedMessage
from storage.facts import ContactName, Delivery, DeliveryStatus, Fact, NameSource
from whatsapp import compose
from whatsapp.addons import IV_LENGTH, Parent, Use, encrypt, resolve
from whatsapp.content import NONE, UNKNOWN, Content, TargetKey, message_secret, read_content
from whatsapp.errors import RemoteProtocolError
from whatsapp.history import HistoryConversation
from whatsapp.jid import Jid
from whatsapp.proto import wa_pb2
from whatsapp.web_message import AttachedMessage, AttachedReaction, AttachedVote, HistoryMessage

MAX_PEOPLE: t.Final = 1024  # named in one line of a group

_STATUSES: t.Final = {
    "delivered": DeliveryStatus.DELIVERED,
    "read": DeliveryStatus.READ,
    "played": DeliveryStatus.PLAYED,
}
_MISSED_CALLS: t.Final = {
    "call_missed_voice": False,
    "call_missed_video": True,
    "call_missed_group_voice": False,
    "call_missed_group_video": True,
    "silenced_unknown_caller_audio": False,
    "silenced_unknown_caller_video": True,
}
_ACTIONS: t.Final = {
    "group_create": "create",
    "group_change_subject": "subject",
    "group_change_description": "description",
    "group_change_announce": "announce",
    "group_change_restrict": "locked",
    "group_change_invite_link": "invite",
    "group_change_icon": "picture",
    "group_participant_add": "add",
    "group_participant_remove": "remove",
    "group_participant_leave": "leave",
    "group_participant_promote": "promote",
    "group_participant_demote": "demote",
    "group_participant_change_number": "modify",
    "group_delete": "delete",
    "change_ephemeral_setting": "ephemeral",
}
"""The words that the lines of live changes have; other lines keep the name of their stub."""
_WITH_TEXT: t.Final = frozenset({"create", "subject", "description"})
_WITH_SWITCH: t.Final = frozenset({"announce", "locked"})
_NOISE: t.Final = frozenset(
    {
        "biz_privacy_mode_init_fb",
        "e2e_device_changed",
        "e2e_device_fetch_failed",
        "e2e_encrypted",
        "e2e_identity_unavailable",
    }
)
_NOISE_NUMBERS: t.Final = (
    range(4, 20),  # what kind of business the other side is
    range(47, 68),  # payments, kinds of business
    range(76, 118),
    range(178, 181),
    range(194, 203),
)

_LATEST: t.Final = 2**62  # milliseconds, within what a message can hold

Answer: t.TypeAlias = AttachedReaction | AttachedVote | AttachedMessage


@attrs.frozen(kw_only=True)
class Chat:
    """The chat that messages belong to; bare addresses."""

    jid: Jid
    alt: Jid | None = None  # the other address of the same person

    @property
    def direct(self) -> bool:
        """Whether it is with one person."""
        return is_direct(self.jid)


def chat_of(conversation: HistoryConversation) -> Chat:
    """The chat of a conversation.

    Raises:
        RemoteProtocolError: its address is none.
    """
    jid = Jid.parse(conversation.chat).bare
    if not jid.user:
        raise RemoteProtocolError("a conversation with a server")
    if not jid.is_person:
        return Chat(jid=jid)
    other = address(conversation.number if jid.is_lid else conversation.lid)
    known = other is not None and other.is_person and other.is_lid != jid.is_lid
    return Chat(jid=jid, alt=other if known else None)


def messages_of(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...]
) -> tuple[ReceivedMessage, ...]:
    """The rows of a message, itself first; none at all for what an inbox does not show.

    ``own`` are the account's addresses, the phone number first.

    Raises:
        RemoteProtocolError: a message in a group without an author.
    """
    main = _main(chat, message, own)
    if main is None:
        return ()
    return (main, *_answers(chat, message, own))


def facts_of(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], now: float
) -> tuple[Fact, ...]:
    """Who got a message of ours, and the verified name of a business.

    Where the phone does not tell when, it was not after ``now``.
    """
    if message.key.from_me:
        return _deliveries(chat, message, own, now) if message.key.id else ()
    author = _author(chat, message)
    if message.business_name is None or author is None or not author.is_person:
        return ()
    return (
        ContactName(
            address=str(author),
            source=NameSource.BUSINESS,
            name=message.business_name,
            at=message.timestamp,
        ),
    )


def address(text: str | None) -> Jid | None:
    """A bare address; None when it is none."""
    if not text:
        return None
    try:
        jid = Jid.parse(text).bare
    except RemoteProtocolError:
        return None
    return jid if jid.user else None


# ---- the message itself


def _main(chat: Chat, message: HistoryMessage, own: tuple[Jid, ...]) -> ReceivedMessage | None:
    content = _content(message.message)
    if content is not None:
        author = _author(chat, message)
        if author is None:
            raise RemoteProtocolError("a message in a group without author")
        return message_of(content, _origin(chat, message, own, author))
    if message.stub is None:
        if message.message:
            return None  # it only served the protocol
        content = Content(kind=UNKNOWN, raw=b"")
        return message_of(content, _origin(chat, message, own, _author(chat, message) or chat.jid))
    return _stub(chat, message, own, message.stub)


def _content(plaintext: bytes) -> Content | None:
    """What a plaintext holds, if it is anything to show."""
    if not plaintext:
        return None
    try:
        content = read_content(plaintext)
    except RemoteProtocolError:
        return Content(kind=UNKNOWN, raw=plaintext)
    return None if content.kind == NONE else content


def _author(chat: Chat, message: HistoryMessage) -> Jid | None:
    """Who wrote it, unless it was the own account; None: not told."""
    return address(message.participant) or (chat.jid if chat.direct else None)


def _origin(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], author: Jid, **changes: t.Any
) -> Origin:
    alone = chat.direct and author == chat.jid
    origin = Origin(
        chat=chat.jid,
        chat_alt=chat.alt,
        sender=author,
        sender_alt=chat.alt if alone else None,
        from_me=message.key.from_me,
        own=own,
        id=message.key.id or None,
        timestamp=message.timestamp,
        push_name=message.push_name,
        lane=Lane.HISTORY,
    )
    return attrs.evolve(origin, **changes)


# ---- lines that nobody wrote


def _stub(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], stub: str
) -> ReceivedMessage | None:
    author = _author(chat, message) or chat.jid
    origin = _origin(chat, message, own, author)
    if stub in ("revoke", "admin_revoke"):
        return _revoked(chat, message, own, author)
    if stub == "ciphertext":
        reason = "the phone could not read it either"
        return attrs.evolve(bare_message(origin), kind=UNDECRYPTABLE, reason=reason)
    if stub == "viewed_once":
        return message_of(Content(kind="view_once", flags=frozenset({stub}), raw=b""), origin)
    if stub in _MISSED_CALLS:
        call_id = message.key.id
        detail = {"event": "missed", "call_id": call_id, "video": _MISSED_CALLS[stub]}
        origin = attrs.evolve(origin, id=f"call-end-{call_id}" if call_id else None)
        return attrs.evolve(bare_message(origin), kind=CALL, detail=detail)
    if _is_noise(stub):
        return None
    origin = attrs.evolve(origin, id=f"system-{message.key.id}-0" if message.key.id else None)
    return _system(origin, _ACTIONS.get(stub, stub), message.stub_parameters)


def _is_noise(stub: str) -> bool:
    number = stub.removeprefix("stub_")
    unnamed = number.isdigit() and any(int(number) in numbers for numbers in _NOISE_NUMBERS)
    return unnamed or stub in _NOISE


def _system(origin: Origin, action: str, parameters: tuple[str, ...]) -> ReceivedMessage:
    detail: dict[str, t.Any] = {"action": action}
    words = [item for item in parameters if "@" not in item or " " in item]
    people = [str(jid) for item in parameters if item not in words and (jid := address(item))]
    if people:
        detail["people"] = people[:MAX_PEOPLE]
    text = words[0] if words and action in _WITH_TEXT else None
    if words and action in _WITH_SWITCH:
        detail["on"] = words[0] == "on"
    elif words and action == "ephemeral" and words[0].isascii() and words[0].isdigit():
        detail["expiration"] = int(words[0][:10])
    elif words and text is None:
        detail["parameters"] = words[:MAX_PEOPLE]
    return attrs.evolve(bare_message(origin), kind=SYSTEM, text=text, detail=detail)


def _revoked(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], author: Jid
) -> ReceivedMessage | None:
    """The deletion as it would have arrived; the message, if it is here, keeps its content."""
    if not message.key.id:
        return None
    admin = next((jid for item in message.stub_parameters if (jid := address(item))), None)
    by_admin = message.stub == "admin_revoke" and not chat.direct
    revoker = (admin or chat.jid) if by_admin else author
    by_me = revoker in own if by_admin else message.key.from_me
    key = TargetKey(
        remote_jid=str(chat.jid),
        from_me=by_me and message.key.from_me if by_admin else True,
        id=message.key.id,
        participant=None if chat.direct else str(own[0] if message.key.from_me else author),
    )
    origin = _origin(
        chat,
        message,
        own,
        revoker,
        from_me=by_me,
        id=f"revoke-{message.key.id}",
        timestamp=message.revoked_at or message.timestamp,
        push_name=None,
    )
    return message_of(read_content(compose.revoke(key)), origin)


# ---- what the phone keeps with a message


def _answers(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...]
) -> tuple[ReceivedMessage, ...]:
    if not message.key.id:
        return ()
    rows = [_reaction(chat, message, own, item) for item in message.reactions]
    rows += [_vote(chat, message, own, item) for item in message.votes]
    rows += [_attached(chat, message, own, item) for item in message.attached]
    return tuple(row for row in rows if row is not None)


def _reaction(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], reaction: AttachedReaction
) -> ReceivedMessage | None:
    origin = _answer_origin(chat, message, own, reaction)
    if origin is None:
        return None
    key = _seen_by(chat, message, own, origin)
    raw = compose.reaction(key, reaction.text, _milliseconds(message, reaction))
    return message_of(read_content(raw), origin)


def _attached(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], answer: AttachedMessage
) -> ReceivedMessage | None:
    content = _content(answer.message)
    origin = _answer_origin(chat, message, own, answer)
    return None if content is None or origin is None else message_of(content, origin)


def _answer_origin(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], answer: Answer
) -> Origin | None:
    author = address(answer.key.participant) or (chat.jid if chat.direct else None)
    if author is None and not answer.key.from_me:
        return None
    name = answer.key.id
    return _origin(
        chat,
        message,
        own,
        author or chat.jid,
        from_me=answer.key.from_me,
        id=name if name and name != message.key.id else f"answer-{message.key.id}",
        timestamp=answer.sent_at_ms // 1000 if answer.sent_at_ms > 0 else message.timestamp,
        push_name=None,
    )


def _seen_by(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], origin: Origin
) -> TargetKey:
    """The key of the message as the author of an answer writes it."""
    author = None if message.key.from_me else _author(chat, message)
    if origin.from_me:
        from_me = message.key.from_me
    elif chat.direct:
        from_me = not message.key.from_me
    else:
        from_me = author == origin.sender
    return TargetKey(
        remote_jid=str(chat.jid),
        from_me=from_me,
        id=message.key.id,
        participant=None if chat.direct else str(author or own[0]),
    )


def _vote(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], vote: AttachedVote
) -> ReceivedMessage | None:
    """The vote as it would have arrived: encrypted, and read."""
    origin = _answer_origin(chat, message, own, vote)
    author = own[0] if message.key.from_me else _author(chat, message)
    if origin is None or author is None or message_secret(message.message) is None:
        return None
    voter = str(own[0] if origin.from_me else origin.sender)
    parent = Parent(id=message.key.id, authors=(str(author),), raw=message.message)
    plaintext = wa_pb2.PollVoteMessage(selected_options=vote.options).SerializeToString()
    iv = hashlib.sha256(f"{message.key.id} {origin.id} {voter}".encode()).digest()[:IV_LENGTH]
    sealed = encrypt(plaintext, Use.POLL_VOTE, parent, voter, iv)
    key = _seen_by(chat, message, own, origin)
    raw = compose.poll_vote(key, sealed, _milliseconds(message, vote))
    return message_of(resolve(raw, parent, (voter,)), origin)


def _milliseconds(message: HistoryMessage, answer: Answer) -> int:
    """When it was given, else when the message was sent."""
    return min(answer.sent_at_ms or message.timestamp * 1000, _LATEST)


# ---- who got it


def _deliveries(
    chat: Chat, message: HistoryMessage, own: tuple[Jid, ...], now: float
) -> tuple[Fact, ...]:
    told = [
        (user, status, float(at))
        for receipt in message.receipts
        if (user := address(receipt.user)) is not None and user not in own
        for status, at in (
            (DeliveryStatus.DELIVERED, receipt.delivered_at),
            (DeliveryStatus.READ, receipt.read_at),
            (DeliveryStatus.PLAYED, receipt.played_at),
        )
        if at
    ]
    status = _STATUSES.get(message.status or "")
    if not told and chat.direct and status is not None:
        told = [(chat.jid, status, now)]
    return tuple(
        Delivery(
            chat=str(chat.jid),
            chat_alt=None if chat.alt is None else str(chat.alt),
            direct=chat.direct,
            ids=(message.key.id,),
            recipient=str(user),
            status=status,
            at=min(at, now),
        )
        for user, status, at in told
    )
