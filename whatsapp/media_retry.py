"""Asking the own phone to put a file that is gone on the servers again: from both sides.

The request is a receipt for the message, the answer a notification with the same id; both hold
a small box that only who knows the file's media key can open. Source: docs/protocol.md#media-retry
"""

import enum
import typing as t

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whatsapp import protobuf
from whatsapp.e2ee.primitives import hkdf
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.media import KEY_LENGTH, MAX_PATH
from whatsapp.node import Node
from whatsapp.proto import media_pb2

RECEIPT_TYPE: t.Final = "server-error"
NOTIFICATION_TYPE: t.Final = "mediaretry"
IV_LENGTH: t.Final = 12
MAX_BOX: t.Final = 16_384  # bytes of an encrypted answer

_INFO: t.Final = b"WhatsApp Media Retry Notification"
_TAG_LENGTH: t.Final = 16


class RetryResult(enum.Enum):
    """What became of a request."""

    GENERAL_ERROR = 0
    SUCCESS = 1
    NOT_FOUND = 2  # the phone does not have the file: asking again is of no use
    DECRYPTION_ERROR = 3


@attrs.frozen(kw_only=True)
class MediaOf:
    """The message whose file is meant, as its key is written in these stanzas."""

    id: str
    chat: Jid
    from_me: bool
    participant: Jid | None = None  # the author, in groups


@attrs.frozen(kw_only=True)
class RetryRequest:
    """A request as the phone gets it."""

    media: MediaOf
    box: bytes | None = attrs.field(default=None, repr=False)
    iv: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen(kw_only=True)
class RetryAnswer:
    """An answer as it comes in: a box to open, or at once the refusal."""

    media: MediaOf
    box: bytes | None = attrs.field(default=None, repr=False)
    iv: bytes = attrs.field(default=b"", repr=False)
    error: RetryResult | None = None  # without a box only


@attrs.frozen(kw_only=True)
class RetryVerdict:
    """What the phone said."""

    result: RetryResult
    direct_path: str = attrs.field(default="", repr=False)  # SUCCESS only


# ---- our side


def retry_receipt(media: MediaOf, own: Jid, media_key: bytes, iv: bytes) -> Node:
    """Asks the phone for the file; ``own``: the account's phone-number address; ``iv``: 12
    fresh random bytes.

    Raises:
        LocalProtocolError: key or iv are malformed.
    """
    request = media_pb2.MediaRetryRequest(stanza_id=media.id.encode())
    box = _seal(request.SerializeToString(), media.id, media_key, iv)
    return Node(
        "receipt",
        {"id": media.id, "to": own.bare, "type": RECEIPT_TYPE},
        (_box_node(box, iv), _media_node(media)),
    )


def is_retry_notification(node: Node) -> bool:
    """Whether the phone answers such a request."""
    return (node.tag, node.text("type")) == ("notification", NOTIFICATION_TYPE)


def parse_retry_notification(node: Node) -> RetryAnswer:
    """Read the phone's answer.

    Raises:
        RemoteProtocolError: malformed.
    """
    media = _parse_media(node)
    if (error := node.child("error")) is not None:
        refusal = _result(error.integer("code") or 0)
        if refusal is RetryResult.SUCCESS:
            refusal = RetryResult.GENERAL_ERROR
        return RetryAnswer(media=media, error=refusal)
    box, iv = _parse_box(node)
    if box is None:
        raise RemoteProtocolError("an answer about a file that says nothing")
    return RetryAnswer(media=media, box=box, iv=iv)


def open_answer(answer: RetryAnswer, media_key: bytes) -> RetryVerdict:
    """What the answer says.

    Raises:
        RemoteProtocolError: it does not open (which it only does for its own message), or is
            malformed.
    """
    if answer.box is None:
        return RetryVerdict(result=answer.error or RetryResult.GENERAL_ERROR)
    opened = _open(answer.box, answer.media.id, media_key, answer.iv)
    said = protobuf.parse(media_pb2.MediaRetryAnswer, opened)
    result = _result(said.result)
    if result is not RetryResult.SUCCESS:
        return RetryVerdict(result=result)
    path = said.direct_path.decode(errors="replace")
    if not path.startswith("/") or len(path) > MAX_PATH:
        raise RemoteProtocolError("an answer without a usable path")
    return RetryVerdict(result=result, direct_path=path)


# ---- the phone's side


def is_retry_receipt(node: Node) -> bool:
    """Whether a linked device asks for a file."""
    return (node.tag, node.text("type")) == ("receipt", RECEIPT_TYPE)


def parse_retry_receipt(node: Node) -> RetryRequest:
    """Read a linked device's request.

    Raises:
        RemoteProtocolError: malformed.
    """
    box, iv = _parse_box(node)
    return RetryRequest(media=_parse_media(node), box=box, iv=iv)


def verify_request(request: RetryRequest, media_key: bytes) -> None:
    """Check that who asks knows the media key.

    Raises:
        RemoteProtocolError: the box is missing, does not open, or is about another message.
    """
    if request.box is None:
        raise RemoteProtocolError("a request for a file without its box")
    opened = _open(request.box, request.media.id, media_key, request.iv)
    if protobuf.parse(media_pb2.MediaRetryRequest, opened).stanza_id != request.media.id.encode():
        raise RemoteProtocolError("a request for the file of another message")


def retry_notification(
    request: RetryRequest,
    verdict: RetryVerdict,
    *,
    own: Jid,
    timestamp: int,
    media_key: bytes,
    iv: bytes,
) -> Node:
    """The phone's answer in a box: with the new path, or why there is none.

    Raises:
        LocalProtocolError: key or iv are malformed.
    """
    said = media_pb2.MediaRetryAnswer(
        stanza_id=request.media.id.encode(),
        result=media_pb2.MediaRetryAnswer.Result.ValueType(verdict.result.value),
    )
    if verdict.direct_path:
        said.direct_path = verdict.direct_path.encode()
    box = _seal(said.SerializeToString(), request.media.id, media_key, iv)
    return _notification(request, own, timestamp, _box_node(box, iv))


def refusal_notification(
    request: RetryRequest,
    *,
    own: Jid,
    timestamp: int,
    code: RetryResult = RetryResult.NOT_FOUND,
) -> Node:
    """The phone's answer where it does not even have the media key."""
    return _notification(request, own, timestamp, Node("error", {"code": code.value}))


def _notification(request: RetryRequest, own: Jid, timestamp: int, child: Node) -> Node:
    return Node(
        "notification",
        {"id": request.media.id, "from": own.bare, "type": NOTIFICATION_TYPE, "t": timestamp},
        (_media_node(request.media), child),
    )


# ---- parts


def _media_node(media: MediaOf) -> Node:
    return Node(
        "rmr",
        {
            "jid": media.chat,
            "from_me": "true" if media.from_me else "false",
            "participant": media.participant,
        },
    )


def _parse_media(node: Node) -> MediaOf:
    key = node.required_child("rmr")
    chat = key.required_jid("jid")
    participant = None if key.attrs.get("participant") in (None, "") else key.jid("participant")
    if not chat.user:
        raise RemoteProtocolError("the file of a message in no chat")
    return MediaOf(
        id=node.required_identifier("id"),
        chat=chat.bare,
        from_me=key.text("from_me") == "true",
        participant=None if participant is None else participant.bare,
    )


def _box_node(box: bytes, iv: bytes) -> Node:
    return Node("encrypt", {}, (Node("enc_p", {}, box), Node("enc_iv", {}, iv)))


def _parse_box(node: Node) -> tuple[bytes | None, bytes]:
    if (parent := node.child("encrypt")) is None:
        return None, b""
    box, iv = parent.required_child("enc_p").data(), parent.required_child("enc_iv").data()
    if len(iv) != IV_LENGTH or not _TAG_LENGTH <= len(box) <= MAX_BOX:
        raise RemoteProtocolError("the box about a file is malformed")
    return box, iv


def _result(number: int) -> RetryResult:
    try:
        return RetryResult(number)
    except ValueError:
        return RetryResult.GENERAL_ERROR


def _seal(plaintext: bytes, message_id: str, media_key: bytes, iv: bytes) -> bytes:
    if len(media_key) != KEY_LENGTH or len(iv) != IV_LENGTH:
        raise LocalProtocolError("a malformed media key or iv")
    return AESGCM(_key(media_key)).encrypt(iv, plaintext, message_id.encode())


def _open(box: bytes, message_id: str, media_key: bytes, iv: bytes) -> bytes:
    if len(media_key) != KEY_LENGTH:
        raise RemoteProtocolError("a box about a file without a media key")
    try:
        return AESGCM(_key(media_key)).decrypt(iv, box, message_id.encode())
    except InvalidTag as error:
        raise RemoteProtocolError("the box about a file does not open") from error


def _key(media_key: bytes) -> bytes:
    return hkdf(media_key, _INFO, KEY_LENGTH)
