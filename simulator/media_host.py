"""The media host over HTTP: uploads, downloads, deletions.

POST   /mms/<type>/<token>?auth=…   body: the encrypted file; answers {"url", "direct_path", …}
GET    <direct path>                one Range is honoured
DELETE /mms/<type>/<token>          always fine
Source: docs/protocol.md#media-host
"""

import json
import re
import typing as t

from simulator.errors import MediaUnavailableError
from simulator.media import token
from simulator.replies import Reply
from simulator.world import World

if t.TYPE_CHECKING:
    from simulator.web import Request

PREFIXES: t.Final = ("/mms/", "/v/")

_RANGE: t.Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def answer(world: World, request: "Request") -> Reply:
    """Answer one request."""
    match request.method, request.path.split("/")[1:]:
        case "POST", ["mms", kind, name] if kind.replace("-", "").isalnum():
            return _upload(world, request, kind, name)
        case "DELETE", ["mms", _, name]:
            if (path := world.media.named(name)) is not None:
                world.media.discard(path)
            return _json(200, {})
        case "GET", ["v", *_]:
            return _download(world, request)
    return _json(404, {"error": "no such path"})


def _upload(world: World, request: "Request", kind: str, name: str) -> Reply:
    if request.query.get("auth") != world.media.auth:
        return _json(401, {"error": "not authorised"})
    if (status := world.faults.take_media("upload")) is not None:
        return _json(status, {"error": "a fault was ordered"})
    if name.rstrip("=") != token(request.body):
        return _json(400, {"error": "the body's SHA-256 is not the token"})
    stored = world.media.put(request.body, kind)
    answered = {"url": stored.url, "direct_path": stored.direct_path, "handle": name}
    return _json(200, answered)


def _download(world: World, request: "Request") -> Reply:
    try:
        data = world.media.get(request.path)
    except MediaUnavailableError as error:
        return _json(error.status, {"error": str(error)})
    kind = "application/octet-stream"
    if (wanted := _RANGE.fullmatch(request.headers.get("range", ""))) is None:
        return Reply(200, data, kind, (("accept-ranges", "bytes"),))
    size = len(data)
    first, last = wanted.groups()
    begin = int(first) if first else max(0, size - int(last or 0))
    end = min(int(last), size - 1) if first and last else size - 1
    if begin > end:
        return Reply(416, b"", kind, (("content-range", f"bytes */{size}"),))
    span = (("content-range", f"bytes {begin}-{end}/{size}"), ("accept-ranges", "bytes"))
    return Reply(206, data[begin : end + 1], kind, span)


def _json(status: int, answered: dict[str, str]) -> Reply:
    return Reply(status, json.dumps(answered).encode(), "application/json")
