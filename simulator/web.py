"""Plain HTTP beside the WebSocket: the media host and the admin endpoints, one request each."""

import collections.abc as cabc
import contextlib
import json
import typing as t
import urllib.parse

import attrs
import h11
import trio

from simulator import admin, media_host
from simulator.replies import Reply

if t.TYPE_CHECKING:
    from simulator.core import Simulator

DEADLINE: t.Final = 300.0  # seconds for a whole request and its answer
CHUNK: t.Final = 64 * 1024


@attrs.frozen
class Request:
    """One HTTP request."""

    method: str
    path: str
    query: cabc.Mapping[str, str]
    headers: cabc.Mapping[str, str]  # names in lower case
    body: bytes = attrs.field(repr=False)


async def serve_request(simulator: "Simulator", head: bytes, stream: trio.abc.Stream) -> None:
    """Answer one HTTP request and close."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    with trio.move_on_after(DEADLINE):
        try:
            request = await _read(simulator, connection, stream)
            reply = await _answer(simulator, request)
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            reply = Reply(status, f"{error}\n".encode(), "text/plain; charset=utf-8")
        await _write(connection, stream, reply)


async def _answer(simulator: "Simulator", request: Request) -> Reply:
    if request.path.startswith(media_host.PREFIXES):
        return media_host.answer(simulator.world, request)
    status, answer = await admin.answer(simulator, request)
    if isinstance(answer, str):
        return Reply(status, f"{answer}\n".encode(), "text/plain; charset=utf-8")
    return Reply(status, json.dumps(answer).encode() + b"\n", "application/json")


async def _read(
    simulator: "Simulator", connection: h11.Connection, stream: trio.abc.Stream
) -> Request:
    head: h11.Request | None = None
    body = bytearray()
    limit = admin.MAX_BODY
    while True:
        match event := connection.next_event():
            case h11.Request():
                head = event
                if event.target.startswith(b"/mms/"):
                    limit = simulator.world.settings.media_file_limit
            case h11.Data():
                body += event.data
                if len(body) > limit:
                    raise h11.RemoteProtocolError("the body is too long", 413)
            case h11.EndOfMessage() if head is not None:
                return _request(head, bytes(body))
            case h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    await stream.send_all(connection.send(go_on) or b"")
                connection.receive_data(bytes(await stream.receive_some(CHUNK)))
            case _:
                raise h11.RemoteProtocolError("the request ended early")


def _request(head: h11.Request, body: bytes) -> Request:
    path, _, query = head.target.decode("latin-1").partition("?")
    return Request(
        head.method.decode("latin-1"),
        urllib.parse.unquote(path),
        dict(urllib.parse.parse_qsl(query)),
        {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
        body,
    )


async def _write(connection: h11.Connection, stream: trio.abc.Stream, reply: Reply) -> None:
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = [
        ("content-type", reply.content_type),
        ("content-length", str(len(reply.body))),
        ("connection", "close"),
        *reply.headers,
    ]
    head = connection.send(h11.Response(status_code=reply.status, headers=headers))
    with contextlib.suppress(trio.BrokenResourceError):  # clients may stop reading when they like
        await stream.send_all(head or b"")
        for start in range(0, len(reply.body), CHUNK):
            piece = h11.Data(data=reply.body[start : start + CHUNK])
            await stream.send_all(connection.send(piece) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
