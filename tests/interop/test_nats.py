"""Events in a real NATS JetStream: all of them, once, whatever dies in between."""

import collections.abc as cabc
import itertools
import typing as t
from pathlib import Path

import attrs
import pytest
import trio
from nats_server import NatsServer, open_nats

from actors.event_hub import EventSignal
from actors.nats import NatsPublisher
from actors.nats_link import NatsError, NatsSettings, open_link
from storage.memory import MemoryStorage
from tests.support.certificates import authority


@attrs.define
class Publishing:
    """A storage with events, and publishers that come and go."""

    storage: MemoryStorage
    nursery: trio.Nursery
    signal: EventSignal = attrs.field(factory=EventSignal)
    _random: cabc.Iterator[int] = attrs.field(factory=itertools.count)

    async def start(self, settings: NatsSettings) -> tuple[NatsPublisher, trio.CancelScope]:
        """Publish, until the scope is cancelled."""
        made = NatsPublisher(
            settings,
            self.storage,
            self.signal,
            uniform=lambda: 0.02,
            random=lambda size: next(self._random).to_bytes(size, "big"),
        )
        scope = await self.nursery.start(self._run, made)
        return made, scope

    async def _run(
        self, made: NatsPublisher, *, task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await made.run()

    async def happen(self, count: int = 1, connection: str | None = "sales") -> int:
        """Some events; the id of the last."""
        last = 0
        for number in range(count):
            last = await self.storage.append_event(
                "message.stored", connection, {"number": number, "text": "olá\r\n"}
            )
        self.signal.wake()
        return last


@pytest.fixture
async def publishing() -> cabc.AsyncIterator[Publishing]:
    async with trio.open_nursery() as nursery:
        storage = MemoryStorage(lambda: 1_800_000_000.0)
        await storage.follow("nats")
        yield Publishing(storage, nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def server(tmp_path: Path) -> cabc.AsyncIterator[NatsServer]:
    async with open_nats(tmp_path) as server:
        yield server


async def until(condition: t.Callable[[], bool], seconds: float = 30) -> None:
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.01)


async def position(storage: MemoryStorage) -> int:
    [row] = await storage.consumers()
    return row.position


async def test_events_are_published(publishing: Publishing, server: NatsServer) -> None:
    """In order, under subjects of their own, with their ids; the stream is made when it is
    missing."""
    first = await publishing.happen(150)
    made, _scope = await publishing.start(server.settings())
    await until(lambda: made.view().position == first)
    last = await publishing.happen(connection=None)
    await until(lambda: made.view().position == last)
    stored = await server.stored()
    assert [event["id"] for _subject, event, _headers in stored] == list(range(1, last + 1))
    subject, event, headers = stored[0]
    assert subject == "zapvisor.events.sales.message.stored"
    assert event["data"] == {"number": 0, "text": "olá\r\n"}
    assert headers["Nats-Msg-Id"] == "1"
    assert stored[-1][0] == "zapvisor.events._.message.stored"
    assert (made.view().state, made.view().published) == ("publishing", 151)
    assert await position(publishing.storage) == last


async def test_a_death_before_the_position_is_stored(
    publishing: Publishing, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What JetStream has confirmed is published again, and JetStream drops it."""
    reached = trio.Event()
    advance = publishing.storage.advance

    async def die(*_args: object, **_options: object) -> None:
        reached.set()
        await trio.sleep_forever()

    monkeypatch.setattr(publishing.storage, "advance", die)
    last = await publishing.happen(20)
    _made, scope = await publishing.start(server.settings())
    with trio.fail_after(20):
        await reached.wait()
    scope.cancel()
    assert len(await server.stored()) == 20
    assert await position(publishing.storage) == 0
    monkeypatch.setattr(publishing.storage, "advance", advance)
    made, _scope = await publishing.start(server.settings())
    await until(lambda: made.view().position == last)
    assert [event["id"] for _subject, event, _headers in await server.stored()] == list(
        range(1, last + 1)
    )


async def test_the_server_is_restarted(publishing: Publishing, server: NatsServer) -> None:
    """Killed in the middle, away for a while: nothing is missing and nothing is there twice."""
    made, _scope = await publishing.start(server.settings())
    first = await publishing.happen(30)
    await until(lambda: made.view().position == first)
    await publishing.happen(300)
    await until(lambda: (made.view().position or 0) > first)
    await server.stop(kill=True)
    last = await publishing.happen(30)
    await until(lambda: made.view().state == "failing")
    assert made.view().error
    await server.start()
    await until(lambda: made.view().position == last)
    assert [event["id"] for _subject, event, _headers in await server.stored()] == list(
        range(1, last + 1)
    )


async def test_nobody_takes_them(publishing: Publishing, server: NatsServer) -> None:
    """Without a stream nothing counts as published, and it is said what to do."""
    await publishing.happen()
    made, _scope = await publishing.start(server.settings(stream=""))
    await until(lambda: made.view().state == "failing")
    assert "no stream of JetStream takes the subject" in (made.view().error or "")
    assert await position(publishing.storage) == 0


@pytest.mark.parametrize(
    ("allowed", "login", "wrong"),
    [
        ('user: "zap", password: "hush"', {"user": "zap", "password": "hush"}, {"user": "zap"}),
        ('token: "hush"', {"token": "hush"}, {"token": "no"}),
    ],
)
async def test_logging_in(
    publishing: Publishing,
    tmp_path: Path,
    allowed: str,
    login: dict[str, str],
    wrong: dict[str, str],
) -> None:
    """With user and password, or a token; a refusal is told without them."""
    async with open_nats(tmp_path, f"authorization {{ {allowed} }}") as server:
        for refused in (wrong, {}):
            with pytest.raises(NatsError, match="Authorization Violation"):
                async with open_link(server.settings(**refused), "_INBOX.x"):
                    pytest.fail("let in")
        made, _scope = await publishing.start(server.settings(**login))
        last = await publishing.happen()
        await until(lambda: made.view().position == last)
        assert len(await server.stored(**login)) == 1
        assert "hush" not in f"{made.view()}{server.settings(**login)}"


async def test_over_tls(publishing: Publishing, tmp_path: Path) -> None:
    """The certificate is verified against the file, or the system's authorities."""
    pem = authority().issue(tmp_path, "localhost")
    config = f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}'
    async with open_nats(tmp_path, config) as server:
        url = f"tls://localhost:{server.port}"
        with pytest.raises(NatsError, match="connection broke"):
            async with open_link(server.settings(url=url), "_INBOX.x"):
                pytest.fail("let in")
        trusted = server.settings(url=url, ca_file=authority().write(tmp_path))
        made, _scope = await publishing.start(trusted)
        last = await publishing.happen()
        await until(lambda: made.view().position == last)


async def test_old_events_are_gone(publishing: Publishing, server: NatsServer) -> None:
    """Those that were deleted while NATS was away are counted as lost; the rest goes on."""
    await publishing.happen(10)
    await publishing.storage.trim_events(2e9, 4)
    made, _scope = await publishing.start(server.settings())
    await until(lambda: made.view().position == 10)
    assert [event["id"] for _subject, event, _headers in await server.stored()] == [*range(5, 11)]
    [row] = await publishing.storage.consumers()
    assert row.lost == 1
