"""A message to send, from the JSON of a request to a row of the outbox."""

import collections.abc as cabc
import hashlib
import typing as t

from actors.drafts import FILE_KINDS, BadRequestError, Media, read_request
from api.addresses import bare_address
from api.backend import Backend, required
from storage.inbox import MessageDetail
from storage.queues import OutboxRequest

REFERENCES: t.Final = ("target", "quoted")
"""Fields that name another message: by WhatsApp's id, or by the number it has here."""

_HASH_LENGTH: t.Final = 32


async def outbox_request(
    backend: Backend, name: str, data: cabc.Mapping[str, t.Any]
) -> OutboxRequest:
    """The request in ``data``: ``to``, ``kind`` and the fields of that kind (``actors.drafts``).

    The kind of a file is its own ("image", "document", …); of "media" its type decides. Without
    ``to`` it goes where the message is that it refers to by number.

    Raises:
        BadRequestError: a field is missing or wrong, or refers to nothing.
    """
    body = dict(data)
    to, kind = body.pop("to", None), body.pop("kind", "text")
    if not isinstance(kind, str):
        raise BadRequestError("kind must be text")
    if kind in FILE_KINDS or kind == "media":
        kind, body["kind"] = "media", kind if kind != "media" else _file_kind(body.get("mimetype"))
    chat = None
    for field in REFERENCES:
        number = body.get(field)
        if isinstance(number, int) and not isinstance(number, bool):
            message = await _message(backend, name, number)
            body[field] = message.external_id
            chat = chat or message.chat
    if to is not None or chat is None:
        chat = bare_address(_text("to", to))
    if isinstance(mentions := body.get("mentions"), list):
        body["mentions"] = [bare_address(_text("mentions", each)) for each in mentions]
    request = OutboxRequest(kind=kind, chat=chat, body=body)
    if isinstance(draft := read_request(request), Media):
        body["file"] = await _file(backend, draft.file)
    return request


def read_requests(messages: cabc.Iterable[MessageDetail]) -> list[tuple[str, OutboxRequest]]:
    """Read receipts for messages of one chat, each with a key that the same ones have again.

    In groups every author gets one.
    """
    authors: dict[tuple[str, str | None], list[str]] = {}
    for message in messages:
        if message.from_me or message.state != "stored" or message.lane != "live":
            continue
        author = None if message.direct else next(iter(message.sender.addresses), None)
        if message.direct or author is not None:
            authors.setdefault((message.chat, author), []).append(message.external_id)
    requests = []
    for (chat, author), ids in authors.items():
        body: dict[str, t.Any] = {"ids": ids} if author is None else {"ids": ids, "author": author}
        digest = hashlib.sha256("\n".join([chat, author or "", *ids]).encode()).hexdigest()
        requests.append((f"read-{digest[:40]}", OutboxRequest(kind="read", chat=chat, body=body)))
    return requests


async def _message(backend: Backend, name: str, number: int) -> MessageDetail:
    message = await backend.storage.message(number) if 0 < number < 2**63 else None
    if message is None or message.connection != name:
        raise BadRequestError(f"{name} has no message {number}")
    return message


async def _file(backend: Backend, file: str) -> str:
    """The hash of a file that is there."""
    try:
        sha256 = bytes.fromhex(file)
    except ValueError:
        sha256 = b""
    if len(sha256) != _HASH_LENGTH:
        raise BadRequestError("file: the SHA-256 of an uploaded file, in hexadecimal")
    if await required(backend.files, "a store of files").size(sha256) is None:
        raise BadRequestError(f"there is no file {sha256.hex()}; POST /media takes it")
    return sha256.hex()


def _file_kind(mimetype: object) -> str:
    """As what a file is sent when only its type is known: what phones cannot show is a document."""
    if mimetype in ("image/jpeg", "image/png", "image/webp"):
        return "image"
    if mimetype in ("video/mp4", "video/3gpp"):
        return "video"
    return "audio" if isinstance(mimetype, str) and mimetype.startswith("audio/") else "document"


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadRequestError(f"{field} must be text: a phone number or an address")
    return value
