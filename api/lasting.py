"""What lasts ends with what it was opened on: a token, or the session of a browser.

An ordinary request is over before it matters. Sockets, streams and files go on for as long as
their clients like, so they are watched: whoever is revoked, expires or logs out is cut off at once.
"""

import json
import typing as t

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import CHALLENGE, Caller, caller
from api.auth_sessions import Sessions
from api.bounds import moves_a_file, refuse, short, streams
from api.problems import problem
from api.tokens import TokenError, TokenKeeper

LOOK: t.Final = 60.0  # seconds until it is looked again: the wall clock may have jumped
UNAUTHORIZED: t.Final = 4401
_EVENTS: t.Final = b"text/event-stream"


class Grounds(t.Protocol):
    """What something can be opened on."""

    @property
    def changed(self) -> trio.Event:
        """Set when some of them may have ended; another one is here then."""
        ...

    def left(self, key: str) -> float:
        """Seconds until this one ends by itself. Raises ``TokenError``: it has ended."""
        ...


class Lasting:
    """Wraps an app behind a doorway."""

    def __init__(self, app: ASGIApp, keeper: TokenKeeper | None, sessions: Sessions) -> None:
        self._app = app
        self._keeper = keeper
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        who = caller(scope)
        if isinstance(who, Caller) and (streams(scope) or moves_a_file(scope)):
            await self._serve(who, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, who: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(scope, send)
        why: str | None = None
        async with trio.open_nursery() as nursery:

            async def watch(grounds: Grounds, key: str) -> None:
                nonlocal why
                why = await _end_of(grounds, key)
                nursery.cancel_scope.cancel()

            if who.token_id is not None and self._keeper is not None:
                nursery.start_soon(watch, self._keeper, who.token_id)
            if who.session is not None:
                nursery.start_soon(watch, self._sessions, who.session)
            await self._app(scope, receive, answer.send)
            nursery.cancel_scope.cancel()
        if why is not None:
            await answer.end(why)


async def _end_of(grounds: Grounds, key: str) -> str:
    """Wait for the end of a token or session; why it ended."""
    while True:
        changed = grounds.changed
        try:
            left = grounds.left(key)
        except TokenError as error:
            return str(error)
        with trio.move_on_after(min(left, LOOK)):
            await changed.wait()


class _Answer:
    """What has been answered so far, and how that is brought to its end."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._is_socket = scope["type"] == ScopeType.WEBSOCKET
        self._send = send
        self._begun = False
        self._over = False
        self._is_stream = False

    async def send(self, message: Message) -> None:
        """Pass it on."""
        self._note(message)
        await self._send(message)

    def _note(self, message: t.Any) -> None:
        match message["type"]:
            case "http.response.start":
                self._is_stream = any(
                    name.lower() == b"content-type" and value.startswith(_EVENTS)
                    for name, value in message["headers"]
                )
            case "http.response.body":
                self._over = not message.get("more_body", False)
            case "websocket.close":
                self._over = True
        self._begun = True

    async def end(self, why: str) -> None:
        """Tell the client why there is no more. Half a file stays half a file: the server cuts
        such a connection, so nobody takes it for the whole."""
        if self._over:
            return
        if self._is_socket:
            await self._close(why)
        elif not self._begun:
            headers = {"www-authenticate": CHALLENGE}
            await refuse(self._send, problem("unauthorized", 401, why), headers)
        elif self._is_stream:
            last = f"event: dropped\ndata: {json.dumps({'detail': why})}\n\n".encode()
            await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _close(self, why: str) -> None:
        if not self._begun:
            accept: t.Any = {"type": "websocket.accept", "subprotocol": None, "headers": []}
            await self._send(accept)
        close: t.Any = {"type": "websocket.close", "code": UNAUTHORIZED, "reason": short(why)}
        await self._send(close)
