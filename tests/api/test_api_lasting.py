"""What lasts ends with the token or the session that it was opened on."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs
import pytest
import trio
import trio.testing

from api.auth import Caller, HttpDoorway
from api.auth_sessions import IDLE, MOST, Sessions
from api.bounds import MAX_LOGINS, MAX_REQUESTS
from api.lasting import LOOK, Lasting
from api.limits import MAX_STRANGERS, Strangers
from api.tokens import TokenError, TokenKeeper
from config.listeners import HttpConfig
from storage.memory import MemoryStorage
from tests.api.conftest import Served
from tests.api.sockets import WebSocket as Client
from tests.api.sockets import drained
from tests.daemon.daemon_fakes import problem

HELD: t.Final = 3  # strangers more than fit


def cookie_of(served: Served, session: str) -> dict[str, str]:
    """The headers of a browser on one of our pages."""
    origin = f"http://127.0.0.1:{served.port}"
    return {"cookie": f"zapvisor_session_{served.port}={session}", "origin": origin}


async def logged_in(served: Served, token: str) -> dict[str, str]:
    """The headers of a new session."""
    answer = await served.http.post("/session", json={"token": token})
    assert answer.status_code == 200
    return cookie_of(served, answer.cookies[f"zapvisor_session_{served.port}"])


Follow: t.TypeAlias = cabc.Callable[[str, cabc.Mapping[str, str]], cabc.Awaitable[Client]]


@pytest.fixture
async def follow(served: Served) -> cabc.AsyncIterator[Follow]:
    """Opens WebSockets; closes them at the end."""
    made: list[Client] = []

    async def open_one(path: str, headers: cabc.Mapping[str, str]) -> Client:
        made.append(await Client.open(served.port, path, headers))
        return await made[-1].accepted()

    yield open_one
    for each in made:
        await trio.aclose_forcefully(each.stream)


@pytest.mark.parametrize("path", ["/events/ws", "/logs/ws", "/connections/sales/pairing/ws"])
async def test_a_socket_ends_with_its_token(served: Served, follow: Follow, path: str) -> None:
    """At once, and it is told why; those of other tokens, and of the control socket, go on."""
    headers = await served.headers("operate")
    other = await served.headers("operate", name="other")
    mine, theirs = [await follow(path, each) for each in (headers, other)]
    assert (await served.operator.delete("/tokens/test")).status_code == 200
    assert await mine.closed() == (4401, "the token test was revoked")
    with trio.move_on_after(0.1) as waited:
        await theirs.closed()
    assert waited.cancelled_caught


async def test_a_stream_ends_with_its_token(served: Served) -> None:
    """With a last event that says why, and a proper end."""
    headers = await served.headers("read")
    async with served.http.stream("GET", "/events/sse", headers=headers, timeout=20) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        assert await anext(lines) == "retry: 2000"
        assert (await served.operator.delete("/tokens/test")).status_code == 200
        rest = [line async for line in lines if line]
    assert rest == ["event: dropped", 'data: {"detail": "the token test was revoked"}']


async def test_revoked_while_the_database_is_away(served: Served, follow: Follow) -> None:
    """It is refused from now on, and so is what it has open."""
    made = await follow("/events/ws", await served.headers("read"))
    served.control.storage.away = True
    assert (await served.operator.delete("/tokens/test")).status_code == 503
    assert (await made.closed())[0] == 4401


async def test_a_socket_ends_with_its_session(served: Served, follow: Follow) -> None:
    """Logging out ends what this browser has open, and no other one's."""
    token = await served.token("read")
    mine, other = await logged_in(served, token), await logged_in(served, token)
    served.http.cookies.clear()
    here, there = [await follow("/events/ws", each) for each in (mine, other)]
    assert (await served.http.delete("/session", headers=mine)).status_code == 204
    assert await here.closed() == (4401, "the session has ended; log in again")
    with trio.move_on_after(0.1) as waited:
        await there.closed()
    assert waited.cancelled_caught
    assert (await served.operator.delete("/tokens/test")).status_code == 200
    assert await there.closed() == (4401, "the token test was revoked")


@attrs.define
class Place:
    """A doorway with one token and one session, in virtual time; and an app that lasts."""

    keeper: TokenKeeper
    sessions: Sessions
    token: str
    jump: float = 0.0  # seconds by which the wall clock is off

    @classmethod
    async def make(cls, expires_in: float | None = None) -> "Place":
        sessions = Sessions(trio.current_time)
        place = cls(t.cast("t.Any", None), sessions, "")
        began = trio.current_time()
        place.keeper = TokenKeeper(
            MemoryStorage(), lambda: 1e9 + trio.current_time() - began + place.jump
        )
        await place.keeper.load()
        expires = None
        if expires_in is not None:
            expires = place.keeper._now() + dt.timedelta(seconds=expires_in)
        _row, place.token = await place.keeper.create("test", ["read"], expires)
        return place

    async def ask(
        self, kind: str, path: str, steps: list[str], headers: dict[str, str] | None = None
    ) -> list[dict[str, t.Any]]:
        """What is sent for one request to an app that sends ``steps`` and waits for ever."""
        sent: list[dict[str, t.Any]] = []

        async def app(_scope: t.Any, _receive: t.Any, send: t.Any) -> None:
            for step in steps:
                await send({"type": step, "headers": [], "more_body": True})
            await trio.sleep_forever()

        async def send(message: t.Any) -> None:
            sent.append(message)

        given = headers or {"authorization": f"Bearer {self.token}"}
        lines = [(name.encode(), value.encode()) for name, value in given.items()]
        doorway = HttpDoorway(
            Lasting(app, self.keeper, self.sessions), self.keeper, self.sessions, ()
        )
        scope: t.Any = {"type": kind, "method": "GET", "path": path, "headers": lines}
        await doorway(scope, t.cast("t.Any", None), send)
        return sent


async def test_expiry_ends_it_to_the_second(autojump_clock: trio.testing.MockClock) -> None:
    """Also when the token lasts for longer than it is looked at, and when the clock is put on."""
    place = await Place.make(expires_in=1000)
    sent = await place.ask("websocket", "/events/ws", ["websocket.accept"])
    assert trio.current_time() == pytest.approx(1000, abs=1)
    assert [each["type"] for each in sent] == ["websocket.accept", "websocket.close"]
    assert (sent[1]["code"], "expired" in sent[1]["reason"]) == (4401, True)

    place = await Place.make(expires_in=10_000)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.ask, "websocket", "/events/ws", ["websocket.accept"])
        await trio.sleep(100)
        place.jump = 20_000
    assert trio.current_time() - began <= 100 + LOOK


async def test_a_session_that_nobody_uses_ends(autojump_clock: trio.testing.MockClock) -> None:
    """Requests keep it, and with it what is open; to watch it is no use of it."""
    place = await Place.make()
    secret = place.sessions.open(place.keeper.check(place.token).id)
    headers = {"cookie": f"zapvisor_session={secret}", "host": "[::1]", "origin": "http://[::1]"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.ask, "websocket", "/events/ws", [], headers)
        await trio.sleep(IDLE - 1)
        assert place.sessions.find(secret) is not None
    assert trio.current_time() == pytest.approx(2 * IDLE - 1, abs=1)
    with pytest.raises(TokenError):
        place.sessions.left(secret)


async def test_files_are_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    """One that has not begun is refused; half a file gets no end that would make it look whole.
    What is over soon is left alone."""
    place = await Place.make(expires_in=10)
    [start, body] = await place.ask("http", "/messages/1/media", [])
    assert (start["status"], b"expired" in body["body"]) == (401, True)
    place = await Place.make(expires_in=10)
    begun = ["http.response.start", "http.response.body"]
    assert len(await place.ask("http", "/messages/1/media", begun)) == 2
    place = await Place.make(expires_in=10)
    with trio.move_on_after(100) as waited:
        await place.ask("http", "/status", [])
    assert waited.cancelled_caught


async def test_a_session_that_makes_room_ends() -> None:
    """So does what it has open: the event is set."""
    sessions = Sessions(lambda: 0.0)
    oldest = sessions.open("first")
    changed = sessions.changed
    for _ in range(MOST):
        sessions.open("other")
    assert changed.is_set()
    with pytest.raises(TokenError):
        sessions.left(oldest)


class TestStrangers:
    """People without a token, who hold what they can get."""

    @pytest.fixture
    def config(self) -> HttpConfig:
        return HttpConfig(rate_limit=1000)

    async def test_half_logins_keep_nobody_out(self, served: Served) -> None:
        """More of them than there are places for requests; who has a token is served, and the
        login is there again as soon as one of them is gone."""
        headers = await served.headers("read")
        half = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n"
        streams = []
        for number in range(MAX_REQUESTS + HELD):
            path = (b"/session", b"//session/")[number % 2]
            streams.append(await trio.open_tcp_stream("127.0.0.1", served.port))
            await streams[-1].send_all(half % path)
        for stream in streams[MAX_LOGINS:]:
            assert (await drained(stream)).startswith(b"HTTP/1.1 503")
        assert (await served.http.get("/status", headers=headers)).status_code == 200
        refused = await served.http.post("/session", json={"token": "zv_x"})
        assert refused.status_code == 503
        assert problem(refused)["type"] == "urn:zapvisor:busy"
        for stream in streams:
            await trio.aclose_forcefully(stream)
        while (await served.http.post("/session", json={"token": "zv_x"})).status_code == 503:
            await trio.sleep(0.01)

    async def test_they_take_half_of_the_places(self, autojump_clock: t.Any) -> None:
        """Whatever they ask for; probes and people with a token are served beside them."""
        answered: list[int] = []

        async def hang(_scope: t.Any, _receive: t.Any, send: t.Any) -> None:
            await trio.sleep(10)
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message: t.Any) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])

        app = Strangers(hang)

        async def ask(path: str, who: Caller | None = None) -> None:
            scope: t.Any = {"type": "http", "path": path}
            if who is not None:
                scope["zapvisor.caller"] = who
            await app(scope, t.cast("t.Any", None), send)

        async with trio.open_nursery() as nursery:
            for _ in range(MAX_STRANGERS):
                nursery.start_soon(ask, "/dashboard/x/app.js")
            await trio.testing.wait_all_tasks_blocked()
            await ask("/dashboard/x/app.js")
            assert answered == [503]
            nursery.start_soon(ask, "/health/ready")
            nursery.start_soon(ask, "/status", Caller(name="a", scopes=frozenset()))
        assert sorted(answered) == [*[200] * (MAX_STRANGERS + 2), 503]


class TestProbes:
    """With hardly any requests allowed."""

    @pytest.fixture
    def config(self) -> HttpConfig:
        return HttpConfig(rate_limit=1)

    async def test_probes_are_never_told_to_come_later(self, served: Served) -> None:
        """With a token or without; other addresses are limited as before."""
        headers = await served.headers("read")
        for path in ("/health/live", "/health/ready", "/health/ready/"):
            for given in ({}, headers):
                for _ in range(10):
                    answer = await served.http.get(path, headers=given)
                    assert answer.status_code == 200
        codes = {(await served.http.get("/health", headers=headers)).status_code for _ in range(10)}
        assert 429 in codes
