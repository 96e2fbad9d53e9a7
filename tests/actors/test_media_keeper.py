"""The keeper of files: every row moves on, nothing unverified shows, nothing is asked for ever."""

import collections.abc as cabc
import contextlib
import hashlib
import itertools
import os
import pathlib
import typing as t

import attrs
import httpx
import media_doubles as doubles
import pytest
import structlog.testing
import trio
import trio.testing
from trio.testing import MockClock

from actors.keyed_locks import KeyedLocks
from actors.media import (
    CORRUPT_ATTEMPTS,
    EXPIRE_INTERVAL,
    POLL,
    ROOM_PAUSE,
    MediaKeeper,
    MediaSettings,
)
from actors.media_http import HttpSettings, MediaHttp
from actors.media_phone import PhoneSettings
from storage import blobs
from storage.blobs import LocalBlobs
from storage.errors import NoRoomError, StorageUnavailableError
from storage.queues import MediaState
from supervisor.backoff import Backoff
from whatsapp import media_retry as retry
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.node import Node

PICTURE = bytes(range(256)) * 40
START = 1_790_000_000.0
SHA = hashlib.sha256(PICTURE).digest()


@attrs.define
class Desk:
    """A keeper with everything around it, in virtual time."""

    directory: pathlib.Path
    servers: doubles.Servers = attrs.field(factory=doubles.Servers)
    line: doubles.FakeLine = attrs.field(factory=doubles.FakeLine)
    settings: MediaSettings = attrs.field(factory=MediaSettings)
    queues: doubles.FakeQueues = attrs.field(init=False)
    blobs: LocalBlobs = attrs.field(init=False)
    http: MediaHttp = attrs.field(init=False)
    keeper: MediaKeeper = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.queues = doubles.FakeQueues(self.now)
        self.blobs = LocalBlobs(self.directory)
        self.restart()

    def restart(self, **changes: t.Any) -> None:
        """A new process with the same rows and files."""
        self.settings = attrs.evolve(self.settings, **changes)
        self.http = MediaHttp(
            HttpSettings(spool=self.directory / "tmp"),
            lines=lambda _name: self.line,
            random=lambda size: b"\7" * size,
            transport=httpx.MockTransport(self.servers.handle),
        )
        self.keeper = MediaKeeper(
            self.queues,
            self.blobs,
            self.http,
            lines=lambda _name: self.line,
            own_address=lambda _name: doubles.OWN,
            settings=self.settings,
            wall_clock=self.now,
            random=lambda size: b"\7" * size,
            uniform=lambda: 0.5,
        )

    def now(self) -> float:
        return START + trio.current_time()

    @contextlib.asynccontextmanager
    async def running(self) -> cabc.AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.keeper.run)
            yield
            nursery.cancel_scope.cancel()

    async def run_for(self, seconds: float) -> None:
        async with self.running():
            await trio.sleep(seconds)

    def receive(
        self, path: str = "/v/1", plaintext: bytes = PICTURE, **fields: t.Any
    ) -> tuple[int, MediaSource]:
        """A message with a file that lies on the servers; its row is there."""
        source = self.servers.put(path, plaintext)
        return self.queues.add(doubles.image_message(source), **fields), source

    def state(self, number: int) -> MediaState:
        return self.queues.files[number].state

    def stored_files(self) -> list[str]:
        return [name for _, _, names in os.walk(self.directory) for name in names]


async def inline(work: cabc.Callable[[], t.Any]) -> t.Any:
    """Virtual time does not wait for threads: what blocks for a moment is done at once."""
    await trio.lowlevel.checkpoint()
    return work()


@pytest.fixture
def desk(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    """Nothing runs yet."""
    monkeypatch.setattr(blobs, "in_thread", inline)
    return Desk(tmp_path / "media")


# ---- fetching


async def test_files_are_stored(autojump_clock: MockClock, desk: Desk) -> None:
    """What waits at the start, and what comes later as soon as the keeper is woken."""
    first, _ = desk.receive()
    async with desk.running():
        await trio.sleep(0.1)
        assert desk.state(first) is MediaState.STORED
        assert desk.queues.files[first].blob == SHA
        assert desk.blobs.path(SHA).read_bytes() == PICTURE
        second, _ = desk.receive("/v/2", b"another")
        before = trio.current_time()
        desk.keeper.wake()
        await trio.sleep(0.1)
        assert desk.state(second) is MediaState.STORED
        third, _ = desk.receive("/v/3", b"unannounced")
        await trio.sleep(POLL + 1)
        assert desk.state(third) is MediaState.STORED
    assert before < 1


async def test_no_more_at_once_than_allowed(autojump_clock: MockClock, desk: Desk) -> None:
    """And no fewer, as long as there are files."""
    under_way = most = 0

    async def count(_request: httpx.Request) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(5)
        under_way -= 1

    desk.servers.before_answer = count
    desk.restart(concurrency=3)
    numbers = [desk.receive(f"/v/{each}", str(each).encode())[0] for each in range(10)]
    await desk.run_for(21)
    assert most == 3
    assert {desk.state(number) for number in numbers} == {MediaState.STORED}


async def test_the_same_file_twice(autojump_clock: MockClock, desk: Desk) -> None:
    """Two messages, one blob."""
    numbers = [desk.receive()[0] for _ in range(4)]
    await desk.run_for(1)
    assert {desk.queues.files[number].blob for number in numbers} == {SHA}
    assert desk.stored_files() == [SHA.hex()]


async def test_what_is_here_is_not_fetched_again(autojump_clock: MockClock, desk: Desk) -> None:
    """A file that was forwarded, or sent from here; a false claim of its length is fetched."""
    _, source = desk.receive()
    await desk.run_for(1)
    desk.servers.requests.clear()
    again = desk.queues.add(doubles.image_message(attrs.evolve(source, direct_path="/v/new")))
    await desk.run_for(1)
    assert desk.queues.files[again].blob == SHA
    assert desk.servers.requests == []
    odd = desk.queues.add(doubles.image_message(attrs.evolve(source, length=5)))
    await desk.run_for(3600)
    assert desk.state(odd) is MediaState.FAILED
    assert desk.servers.requests != []


async def test_killed_in_the_middle(autojump_clock: MockClock, desk: Desk) -> None:
    """Nothing is visible, nothing is left, and the next run fetches it whole."""
    number, _ = desk.receive()

    async def stall(_request: httpx.Request) -> None:
        await trio.sleep_forever()

    desk.servers.before_answer = stall
    await desk.run_for(5)
    assert desk.state(number) is MediaState.PENDING
    assert desk.stored_files() == []
    desk.servers.before_answer = None
    desk.restart()
    await desk.run_for(0.1)
    assert desk.state(number) is MediaState.STORED


async def test_killed_with_half_a_file(autojump_clock: MockClock, desk: Desk) -> None:
    """The same, with bytes on the disk and more to come."""
    number, _ = desk.receive()
    file, go_on = desk.servers.files["/v/1"], trio.Event()

    async def half() -> cabc.AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield file[:5000]
        await go_on.wait()

    async def handle(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=half())

    desk.http._client(None)._transport = httpx.MockTransport(handle)
    async with desk.running():
        await trio.sleep(1)
        assert len(desk.stored_files()) == 1  # a temporary one
        assert await desk.blobs.size(SHA) is None
    assert desk.stored_files() == []
    desk.restart()
    await desk.run_for(0.1)
    assert desk.state(number) is MediaState.STORED


async def test_killed_before_the_row_is_finished(autojump_clock: MockClock, desk: Desk) -> None:
    """The blob is there, the row does not say so: it is fetched again, and kept once."""
    number, _ = desk.receive()
    desk.queues.hold_finish = trio.Event()
    await desk.run_for(1)
    desk.queues.hold_finish = None
    assert desk.stored_files() == [SHA.hex()]
    assert desk.state(number) is MediaState.PENDING
    desk.restart()
    await desk.run_for(0.1)
    assert desk.state(number) is MediaState.STORED
    assert desk.stored_files() == [SHA.hex()]


async def test_storage_away_for_a_while(autojump_clock: MockClock, desk: Desk) -> None:
    """Neither the service nor the file suffers."""
    number, _ = desk.receive()
    desk.queues.away = True
    async with desk.running():
        await trio.sleep(60)
        desk.queues.away = False
        await trio.sleep(30)
        assert desk.state(number) is MediaState.STORED


async def test_no_room_never_fails_a_file(
    autojump_clock: MockClock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it lasts: it is no fault of the file's."""
    number, _ = desk.receive()
    writing = LocalBlobs.writing

    def refuse(_blobs: LocalBlobs) -> t.NoReturn:
        raise StorageUnavailableError("no room left")

    monkeypatch.setattr(LocalBlobs, "writing", refuse)
    async with desk.running():
        await trio.sleep(86_400)
        assert desk.state(number) is MediaState.PENDING
        assert desk.queues.files[number].error == "no room left"
        assert desk.queues.files[number].attempts > 12
        monkeypatch.setattr(LocalBlobs, "writing", writing)
        await trio.sleep(3600)
        assert desk.state(number) is MediaState.STORED


async def test_a_full_disk(
    autojump_clock: MockClock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said once, however many files wait and however long; nothing is tried meanwhile, so no
    file uses its attempts up; soon after there is room again all are there."""
    room, writing = 0, LocalBlobs.writing

    @contextlib.asynccontextmanager
    async def bounded(store: LocalBlobs) -> cabc.AsyncIterator[blobs.BlobWriter]:
        async with writing(store) as writer:
            write, left = writer.write, room

            async def write_if_it_fits(data: bytes) -> None:
                nonlocal left
                left -= len(data)
                if left < 0:
                    raise NoRoomError("no room left for files")
                await write(data)

            monkeypatch.setattr(writer, "write", write_if_it_fits)
            yield writer

    monkeypatch.setattr(LocalBlobs, "writing", bounded)
    numbers = [desk.receive()[0] for _ in range(20)]
    with structlog.testing.capture_logs() as logs:
        async with desk.running():
            await trio.sleep(86_400)
            files = [desk.queues.files[number] for number in numbers]
            assert {desk.state(number) for number in numbers} == {MediaState.PENDING}
            assert max(file.attempts for file in files) <= 2
            assert [each["event"] for each in logs if each["log_level"] == "error"] == [
                "media.no_room"
            ]
            room = 1 << 30
            await trio.sleep(2 * ROOM_PAUSE)
            assert {desk.state(number) for number in numbers} == {MediaState.STORED}
    assert [each["event"] for each in logs].count("media.room_again") == 1


# ---- what goes wrong


async def test_failures_back_off_and_end(autojump_clock: MockClock, desk: Desk) -> None:
    """Ever longer waits, then failed for good, with the reason."""
    number, _ = desk.receive()
    desk.servers.statuses = {"a.example": [500] * 999, "b.example": [500] * 999}
    desk.restart(max_attempts=4, backoff=Backoff(initial=100.0, maximum=300.0))
    planned: list[float] = []
    desk.queues.on_finish = lambda _number, result: planned.append(
        (result.retry_at or desk.now()) - desk.now()
    )
    await desk.run_for(3600)
    # The server asked for 120 s at least.
    assert planned == pytest.approx([120, 150, 225, 0])
    assert desk.state(number) is MediaState.FAILED
    assert desk.queues.files[number].error == "the file's host answered 500"


async def test_a_plan_is_kept_on_time(autojump_clock: MockClock, desk: Desk) -> None:
    """Also one that is made while the keeper already waits for something later."""
    for turn in range(2):
        desk.receive(f"/v/{turn}")
    desk.servers.files.clear()  # gone: the phone is asked for one after the other
    desk.queues.hold_finish = trio.Event()
    async with desk.running():
        await trio.sleep(POLL / 4)  # the keeper has seen nothing else to do, and waits
        assert len(desk.line.sent) == 1
        desk.queues.hold_finish.set()
        await trio.sleep(POLL / 4)
        assert len(desk.line.sent) == 2


async def test_offline_nothing_fails_for_good(autojump_clock: MockClock, desk: Desk) -> None:
    """Without a connection it may be our own network that is down."""
    number, _ = desk.receive()
    desk.servers.statuses = {"mmg.whatsapp.net": [500] * 999}
    desk.line.online = False
    async with desk.running():
        await trio.sleep(86_400)
        assert desk.state(number) is MediaState.PENDING
        desk.line.online = True
        await trio.sleep(3601)
        assert desk.state(number) is MediaState.STORED


async def test_corrupt_files_end_soon(autojump_clock: MockClock, desk: Desk) -> None:
    """Some tries; nothing of it is ever visible."""
    number, _ = desk.receive()
    desk.servers.files["/v/1"] = desk.servers.files["/v/1"][:-1] + b"\0"
    await desk.run_for(3600)
    assert desk.state(number) is MediaState.FAILED
    assert desk.queues.files[number].attempts == CORRUPT_ATTEMPTS
    assert "hash of the file" in (desk.queues.files[number].error or "")
    assert desk.stored_files() == []


async def test_messages_that_name_no_file(autojump_clock: MockClock, desk: Desk) -> None:
    """Unreadable, or nothing in them: failed at once."""
    numbers = [desk.queues.add(raw) for raw in (b"\xff\xff", b"")]
    await desk.run_for(1)
    assert {desk.state(number) for number in numbers} == {MediaState.FAILED}


async def test_one_bad_file_delays_no_other(autojump_clock: MockClock, desk: Desk) -> None:
    """Rows are worked on by themselves."""
    bad = desk.queues.add(b"\xff")
    good = [desk.receive(f"/v/{each}", str(each).encode())[0] for each in range(5)]
    await desk.run_for(1)
    assert desk.state(bad) is MediaState.FAILED
    assert {desk.state(number) for number in good} == {MediaState.STORED}


async def test_what_is_not_wanted(autojump_clock: MockClock, desk: Desk) -> None:
    """Too large, another kind, downloads off: skipped, until somebody asks for it."""
    desk.restart(max_size=1000)
    number, source = desk.receive()
    unclaimed = desk.queues.add(doubles.image_message(attrs.evolve(source, length=None)))
    await desk.run_for(1)
    assert (desk.state(number), desk.state(unclaimed)) == (MediaState.SKIPPED, MediaState.SKIPPED)
    desk.restart(max_size=1 << 20, kinds=frozenset({"audio"}))
    other, _ = desk.receive("/v/2", b"x")
    await desk.run_for(1)
    assert desk.queues.files[other].error == "files of kind image are not fetched"
    desk.restart(kinds=None, download=False)
    off, _ = desk.receive("/v/3", b"y")
    async with desk.running():
        await trio.sleep(1)
        assert desk.queues.files[off].error == "downloads are off"
        assert await desk.keeper.fetch_now(doubles.NAME, off)
        assert await desk.keeper.fetch_now(doubles.NAME, number)
        await trio.sleep(1)
        assert desk.state(off) is desk.state(number) is MediaState.STORED
        assert not await desk.keeper.fetch_now(doubles.NAME, off)
        assert not await desk.keeper.fetch_now(doubles.NAME, 99)


# ---- the phone


def answer_to(node: Node, verdict: retry.RetryVerdict) -> Node:
    request = retry.parse_retry_receipt(node)
    retry.verify_request(request, doubles.KEY)
    return retry.retry_notification(
        request,
        verdict,
        own=doubles.OWN,
        timestamp=int(START),
        media_key=doubles.KEY,
        iv=b"\1" * 12,
    )


async def test_the_phone_brings_it_back(autojump_clock: MockClock, desk: Desk) -> None:
    """Gone from the servers: one request, and the file is fetched from its new place at once."""
    number, _ = desk.receive()
    desk.servers.files["/v/new"] = desk.servers.files.pop("/v/1")
    verdict = retry.RetryVerdict(result=retry.RetryResult.SUCCESS, direct_path="/v/new?x=1")
    desk.line.on_send = lambda node: desk.keeper.media_answered(
        doubles.NAME, answer_to(node, verdict)
    )
    await desk.run_for(1)
    assert desk.state(number) is MediaState.STORED
    (node,) = desk.line.sent
    request = retry.parse_retry_receipt(node)
    assert node.attrs["to"] == doubles.OWN
    assert request.media == retry.MediaOf(
        id="3EB00001", chat=Jid.parse(doubles.CUSTOMER), from_me=False
    )


async def test_the_answer_comes_after_a_restart(autojump_clock: MockClock, desk: Desk) -> None:
    """Whoever asked: the answer is about a row."""
    number, _ = desk.receive()
    desk.servers.files["/v/new"] = desk.servers.files.pop("/v/1")
    await desk.run_for(1)
    assert desk.state(number) is MediaState.PENDING
    assert "the phone was asked" in (desk.queues.files[number].error or "")
    desk.restart()
    async with desk.running():
        verdict = retry.RetryVerdict(result=retry.RetryResult.SUCCESS, direct_path="/v/new?x=1")
        await desk.keeper.retry_answered(doubles.NAME, answer_to(desk.line.sent[0], verdict))
        await trio.sleep(1)
    assert desk.state(number) is MediaState.STORED


async def test_the_phone_does_not_have_it(autojump_clock: MockClock, desk: Desk) -> None:
    """Then it is expired for good."""
    number, _ = desk.receive()
    desk.servers.files.clear()

    def refuse(node: Node) -> None:
        request = retry.parse_retry_receipt(node)
        refusal = retry.refusal_notification(request, own=doubles.OWN, timestamp=int(START))
        desk.keeper.media_answered(doubles.NAME, refusal)

    desk.line.on_send = refuse
    await desk.run_for(86_400)
    assert desk.state(number) is MediaState.EXPIRED
    assert desk.queues.files[number].error == "not on the phone either"
    assert len(desk.line.sent) == 1


@pytest.mark.parametrize("liar", [False, True])
async def test_the_phone_is_asked_twice_at_most(
    autojump_clock: MockClock, desk: Desk, liar: bool
) -> None:
    """A phone that is silent, and one that always promises a place where nothing is."""
    number, _ = desk.receive()
    desk.servers.files.clear()
    if liar:
        verdict = retry.RetryVerdict(result=retry.RetryResult.SUCCESS, direct_path="/v/lie?x=1")
        desk.line.on_send = lambda node: desk.keeper.media_answered(
            doubles.NAME, answer_to(node, verdict)
        )
    await desk.run_for(86_400)
    assert desk.state(number) is MediaState.EXPIRED
    chats = [str(retry.parse_retry_receipt(node).media.chat) for node in desk.line.sent]
    assert chats == [doubles.CUSTOMER, doubles.CUSTOMER_LID]
    assert len(desk.servers.requests) == (3 if liar else 1)


async def test_a_phone_is_not_flooded(autojump_clock: MockClock, desk: Desk) -> None:
    """Old history may be gone by the thousand: one request after the other."""
    numbers = [desk.receive(f"/v/{each}", str(each).encode())[0] for each in range(20)]
    desk.servers.files.clear()
    times: list[float] = []
    desk.line.on_send = lambda _node: times.append(trio.current_time())
    await desk.run_for(1000)
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert len(times) == 20
    assert min(gaps) >= desk.settings.phone.gap - 0.01
    assert len(desk.servers.requests) == 20  # what is known to be gone is not looked for again
    assert {desk.state(number) for number in numbers} == {MediaState.PENDING}


async def test_offline_the_phone_is_asked_later(autojump_clock: MockClock, desk: Desk) -> None:
    """A request that could not leave is no request."""
    number, _ = desk.receive()
    desk.servers.files.clear()
    desk.line.online = False
    async with desk.running():
        await trio.sleep(5000)
        assert desk.line.sent == []
        desk.line.online = True
        await trio.sleep(1000)
        assert len(desk.line.sent) == 1
        assert desk.state(number) is MediaState.PENDING


async def test_without_asking(autojump_clock: MockClock, desk: Desk) -> None:
    """By the settings, or because nobody could open the answer: expired at once."""
    desk.restart(phone=PhoneSettings(ask=False))
    number, source = desk.receive()
    desk.servers.files.clear()
    await desk.run_for(1)
    assert desk.state(number) is MediaState.EXPIRED
    desk.restart(phone=PhoneSettings())
    plain = desk.queues.add(doubles.image_message(attrs.evolve(source, media_key=b"")))
    await desk.run_for(1)
    assert desk.state(plain) is MediaState.EXPIRED
    assert desk.line.sent == []


async def test_a_message_without_a_place(autojump_clock: MockClock, desk: Desk) -> None:
    """The phone is asked for what was never said to lie anywhere."""
    source = attrs.evolve(desk.servers.put("/v/1", PICTURE), direct_path="", url="")
    number = desk.queues.add(doubles.image_message(source))
    await desk.run_for(1)
    assert desk.state(number) is MediaState.PENDING
    assert len(desk.line.sent) == 1
    assert desk.servers.requests == []


async def test_in_a_group_the_author_is_named(autojump_clock: MockClock, desk: Desk) -> None:
    """The phone finds the message by chat, id and author."""
    desk.receive(chat="120363000000000001@g.us")
    desk.servers.files.clear()
    await desk.run_for(1)
    media = retry.parse_retry_receipt(desk.line.sent[0]).media
    assert (str(media.chat), str(media.participant)) == (
        "120363000000000001@g.us",
        doubles.CUSTOMER,
    )


async def test_answers_that_make_no_sense(autojump_clock: MockClock, desk: Desk) -> None:
    """About no message, under another key, broken: nothing happens."""
    number, _ = desk.receive()
    desk.servers.files.clear()
    await desk.run_for(1)
    request = retry.parse_retry_receipt(desk.line.sent[0])
    verdict = retry.RetryVerdict(result=retry.RetryResult.SUCCESS, direct_path="/v/new?x=1")
    fields: dict[str, t.Any] = {"own": doubles.OWN, "timestamp": 1, "iv": b"\1" * 12}
    other = attrs.evolve(request, media=attrs.evolve(request.media, id="3EB0FFFF"))
    before = attrs.evolve(desk.queues.files[number])
    for node in (
        Node("notification", {"id": "1", "type": "mediaretry"}),
        retry.retry_notification(request, verdict, media_key=bytes(32), **fields),
        retry.retry_notification(other, verdict, media_key=doubles.KEY, **fields),
        answer_to(desk.line.sent[0], retry.RetryVerdict(result=retry.RetryResult.DECRYPTION_ERROR)),
    ):
        await desk.keeper.retry_answered(doubles.NAME, node)
    assert desk.queues.files[number] == before


async def test_too_many_answers_are_dropped(autojump_clock: MockClock, desk: Desk) -> None:
    """The queue is bounded; nothing breaks."""
    for _ in range(3000):
        desk.keeper.media_answered(doubles.NAME, Node("notification", {"id": "1"}))
    number, _ = desk.receive()
    await desk.run_for(1)
    assert desk.state(number) is MediaState.STORED


# ---- retention


async def test_kept_for_ever_by_default(autojump_clock: MockClock, desk: Desk) -> None:
    """No file is removed unless an operator says so."""
    number, _ = desk.receive()
    await desk.run_for(100 * 3600)
    assert desk.state(number) is MediaState.STORED


async def test_retention(autojump_clock: MockClock, desk: Desk) -> None:
    """A blob goes with the last message that has it."""
    desk.restart(retention=10 * 3600.0)
    first, _ = desk.receive()
    async with desk.running():
        await trio.sleep(5 * 3600)
        second, _ = desk.receive()
        await trio.sleep(6.5 * 3600)
        assert desk.state(first) is MediaState.REMOVED
        assert desk.state(second) is MediaState.STORED
        assert desk.blobs.path(SHA).read_bytes() == PICTURE
        await trio.sleep(5 * 3600)
        assert desk.state(second) is MediaState.REMOVED
        assert desk.stored_files() == []


async def test_a_removal_that_was_interrupted(autojump_clock: MockClock, desk: Desk) -> None:
    """The blob is gone and the row does not say so: the next run sets it right."""
    desk.restart(retention=86_400.0)
    number, _ = desk.receive()
    await desk.run_for(1)
    await desk.blobs.delete(SHA)
    async with desk.running():
        await trio.sleep(86_400 + EXPIRE_INTERVAL)
        assert desk.state(number) is MediaState.REMOVED


async def test_a_file_is_not_removed_while_it_is_stored_again(
    autojump_clock: MockClock, desk: Desk
) -> None:
    """From the moment a blob is seen to be there until its row says so, nobody removes it."""
    desk.restart(retention=86_400.0)
    first, _ = desk.receive()
    await desk.run_for(1)
    await trio.sleep(86_400)
    second, _ = desk.receive()
    held = desk.queues.hold_finish = trio.Event()
    async with desk.running():
        await trio.sleep(100)
        assert await desk.blobs.size(SHA) == len(PICTURE)
        held.set()
        await trio.sleep(EXPIRE_INTERVAL)
    assert desk.state(first) is MediaState.REMOVED
    assert desk.state(second) is MediaState.STORED
    assert await desk.blobs.size(SHA) == len(PICTURE)


# ---- locks by key


async def test_locks_by_key(autojump_clock: MockClock) -> None:
    """One after the other under one key, side by side under two; nothing stays behind."""
    locks: KeyedLocks[str] = KeyedLocks()
    steps: list[str] = []

    async def work(key: str, name: str) -> None:
        async with locks.hold(key):
            steps.append(f"+{name}")
            await trio.sleep(1)
            steps.append(f"-{name}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "a", "1")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(work, "a", "2")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(work, "b", "3")
    assert steps[:2] == ["+1", "+3"]
    assert steps.index("-1") < steps.index("+2")
    assert trio.current_time() == 2
    with trio.move_on_after(1):
        async with locks.hold("a"):
            await trio.sleep_forever()
    assert len(locks) == 0
