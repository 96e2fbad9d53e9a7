"""The import of history: everything once, wherever it is interrupted."""

import collections.abc as cabc
import contextlib
import datetime as dt
import random
import typing as t

import attrs
import pytest
import structlog.testing
import trio
import trio.testing

from actors import history
from actors.errors import ActorError
from actors.history import HistoryImporter, HistorySettings, NoHistoryError, request_older
from actors.line import NotOnlineError
from actors.media_http import MediaGoneError
from actors.messages import Commit, Settled
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from storage.api import ConversationRules, Envelope, Outcome
from storage.errors import SealError
from storage.facts import HistoryOffered
from storage.inbox import StoredMessage
from storage.queues import HistoryProgress, PendingHistory
from supervisor.backoff import Backoff
from tests.actors.conftest import CUSTOMER, NAME, START, FaultyStorage, make_envelope
from whatsapp import compose
from whatsapp.content import TargetKey
from whatsapp.history import (
    HistoryConversation,
    build_history,
    build_notification,
    deflate,
    read_notification,
)
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource
from whatsapp.peer import parse_request
from whatsapp.protobuf_fields import length_delimited
from whatsapp.web_message import AttachedReaction, HistoryMessage

OWN = (Jid.parse("15550009999@s.whatsapp.net"), Jid.parse("900900@lid"))
GROUP = "120363000000000001@g.us"
OTHER = "15550002222@s.whatsapp.net"


class Storage(FaultyStorage):
    """Ends the daemon after a number of commits, as a kill would."""

    def __init__(self) -> None:
        super().__init__()
        self.kill_after = 0  # commits from now; 0: never
        self.kill: cabc.Callable[[], None] = lambda: None
        self.unsealable = ""  # the offers of this connection do not open
        self.after_commit: cabc.Callable[[cabc.Sequence[Envelope]], None] = lambda _batch: None

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        outcomes = await super().apply(batch)
        self.after_commit(batch)
        if self.kill_after:
            self.kill_after -= 1
            if not self.kill_after:
                self.kill()
                await trio.lowlevel.checkpoint()  # dies here: committed, and nobody was told
        return outcomes

    async def history_pending(self, connection: str | None, limit: int) -> list[PendingHistory]:
        pending = await super().history_pending(connection, limit)
        if any(job.connection == self.unsealable for job in pending):
            raise SealError("an offer does not open")
        return pending


class Files:
    """The media servers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[tuple[float, str]] = []
        self.error: Exception | None = None

    async def fetch(self, _connection: str, source: MediaSource, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.fetched.append((trio.current_time(), source.direct_path))
        if self.error is not None:
            raise self.error
        assert len(self.files[source.direct_path]) <= limit
        return self.files[source.direct_path]


@attrs.define
class Daemon:
    """A writer and an importer over one storage."""

    storage: Storage
    files: Files = attrs.field(factory=Files)
    settings: HistorySettings = attrs.field(
        factory=lambda: HistorySettings(backoff=Backoff(initial=10, maximum=10), attempts=3)
    )
    own: tuple[Jid, ...] = OWN
    wanted: t.Any = history.people_and_groups
    writer: Writer = attrs.field(init=False)
    importer: HistoryImporter = attrs.field(init=False)

    @contextlib.asynccontextmanager
    async def running(self, low_batch: int = 64) -> cabc.AsyncIterator[None]:
        """From its start to its end, or to its kill."""
        inbox = writer_inbox(1000)
        settings = WriterSettings(low_batch=low_batch)
        self.writer = Writer(self.storage, inbox, settings, uniform=lambda: 0.5)
        self.importer = HistoryImporter(
            self.storage,
            self.writer.low,
            self.files.fetch,
            lambda _name: self.own,
            wall_clock=lambda: float(START + 1000),
            uniform=lambda: 1.0,
            wanted=self.wanted,
            settings=self.settings,
        )
        async with trio.open_nursery() as nursery:
            self.storage.kill = nursery.cancel_scope.cancel
            await nursery.start(self.writer.run)
            await nursery.start(self.importer.run)
            yield
            nursery.cancel_scope.cancel()

    async def until_settled(self) -> HistoryProgress:
        """Wait until no chunk is pending."""
        with trio.fail_after(100_000):
            while await self.storage.history_pending(NAME, 1):
                await trio.sleep(1)
        return await self.storage.history_progress(NAME)

    async def offer(
        self,
        key: str,
        payload: bytes,
        *,
        inline: bool = True,
        connection: str = NAME,
        **told: t.Any,
    ) -> None:
        """The phone offers a chunk."""
        self.files.files[f"/{key}"] = deflate(payload)
        source = MediaSource(kind="history", media_key=b"k" * 32, direct_path=f"/{key}")
        told = {"sync_type": "recent", **told}
        raw = build_notification(
            source=None if inline else source, inline=deflate(payload) if inline else None, **told
        )
        await self.offer_raw(key, read_notification(raw).fields, connection, **told)

    async def offer_raw(
        self, key: str, notification: bytes, connection: str = NAME, **told: t.Any
    ) -> None:
        """An offer as it is stored."""
        offered = HistoryOffered(
            key=key,
            notification=notification,
            sync_type=told.get("sync_type", "recent"),
            chunk_order=told.get("chunk_order", 0),
            progress=told.get("progress", 0),
            request_id=told.get("request_id"),
        )
        await self.storage.apply([Envelope(connection=connection, facts=(offered,))])

    def content(self) -> list[tuple[t.Any, ...]]:
        """The messages, whatever the order in which they came."""
        return sorted(
            (row["chat"], row["external_id"], row["kind"], row["text"] or "", row["from_me"])
            for row in self.storage.messages(NAME)
        )


@pytest.fixture
async def storage() -> Storage:
    storage = Storage()
    await storage.ensure_connection(NAME, ConversationRules())
    return storage


def text(chat: str, number: int, **changes: t.Any) -> HistoryMessage:
    """A text; the higher the number, the newer."""
    message = HistoryMessage(
        key=TargetKey(remote_jid=chat, id=f"{chat[-12:-10]}{number:04}"),
        participant=OTHER if chat == GROUP else None,
        timestamp=START - 10_000 + number,
        push_name="Ana",
        message=compose.text(f"text {number}"),
    )
    return attrs.evolve(message, **changes)


def conversation(chat: str, *messages: HistoryMessage, **told: t.Any) -> HistoryConversation:
    """As phones send it: the newest first."""
    return HistoryConversation(chat=chat, messages=messages[::-1], **told)


def chunk(*conversations: HistoryConversation, **parts: t.Any) -> bytes:
    return build_history(sync_type="recent", conversations=conversations, **parts)


def texts(chat: str, first: int, last: int) -> list[HistoryMessage]:
    return [text(chat, number) for number in range(first, last + 1)]


BIG: t.Final = chunk(
    conversation(CUSTOMER, *texts(CUSTOMER, 1, 90), name="Ana Silva"),
    conversation(
        GROUP,
        *texts(GROUP, 1, 40),
        text(GROUP, 41, message=b"", stub="group_change_subject", stub_parameters=("New",)),
        text(
            GROUP,
            42,
            reactions=(
                AttachedReaction(
                    key=TargetKey(remote_jid=GROUP, id="R1", participant=CUSTOMER), text="👍"
                ),
            ),
        ),
    ),
    conversation(OTHER, *texts(OTHER, 1, 30)),
    push_names=[(CUSTOMER, "Ana")],
)


async def until_killed() -> None:
    """The storage ends the daemon."""
    await trio.sleep_forever()


# ---- the whole way


async def test_a_chunk_is_imported_whole(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Every message is stored under its chat, and the counts add up to the messages."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG, progress=70)
    with structlog.testing.capture_logs() as logs:
        async with daemon.running():
            progress = await daemon.until_settled()
    assert progress.chunks == {"pending": 0, "importing": 0, "done": 1, "failed": 0}
    assert (progress.position, progress.total, progress.percent) == (162, 162, 70)
    counts = {item.chat: (item.offered, item.stored) for item in progress.chats}
    assert counts == {CUSTOMER: (90, 90), GROUP: (42, 42), OTHER: (30, 30)}
    content = daemon.content()
    assert len(content) == 163  # the reaction is a row of its own
    assert (GROUP, "R1", "reaction", "👍", False) in content
    [line] = [entry for entry in logs if entry["event"] == "History sync"]
    assert (line["percent"], line["messages"], line["chats"]) == (100, 162, 3)
    assert "text 1" not in repr(logs)
    assert CUSTOMER not in repr(logs)


async def test_messages_arrive_from_the_oldest_to_the_newest(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Within a chat the order of arrival is the order of time, and no conversation opens."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG)
    async with daemon.running():
        await daemon.until_settled()
    ids = [row["external_id"] for row in storage.messages(NAME) if row["chat"] == CUSTOMER]
    assert ids == sorted(ids)
    rows = await storage.conversations(status=None, connection=NAME, limit=9)
    assert {row.status for row in rows} == {"closed"}


async def test_a_chunk_on_the_media_servers(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """A chunk is fetched where the offer says, and only once."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG, inline=False)
    async with daemon.running():
        await daemon.until_settled()
    assert len(daemon.content()) == 163
    assert [path for _at, path in daemon.files.fetched] == ["/A"]


async def test_large_chunks_are_opened_in_a_thread(storage: Storage) -> None:
    """What takes long to open does not hold the other tasks up."""
    noise = random.Random(5)
    messages = [
        text(CUSTOMER, number, message=compose.text(noise.randbytes(60).hex()))
        for number in range(1, 1501)
    ]
    daemon = Daemon(storage)
    await daemon.offer("A", chunk(conversation(CUSTOMER, *messages)), inline=False)
    assert len(daemon.files.files["/A"]) > history.SMALL
    async with daemon.running():
        with trio.fail_after(60):
            while await storage.history_pending(NAME, 1):
                await trio.sleep(0.01)
    assert len(daemon.content()) == 1500


# ---- interruptions


async def test_killed_after_every_commit_it_ends_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whichever commit is the last of a daemon, the next one goes on: same rows, none twice."""
    whole = await _imported(Storage())
    for kill_after in range(1, 1000):
        storage = Storage()
        storage.kill_after = kill_after
        daemon = await _imported(storage)
        assert daemon.content() == whole.content(), kill_after
        progress = await daemon.storage.history_progress(NAME)
        assert (progress.position, progress.chunks["done"]) == (162, 1)
        assert sum(item.offered for item in progress.chats) == 162, kill_after
        assert sum(item.stored + item.duplicate for item in progress.chats) == 162, kill_after
        if storage.kill_after:
            break  # it had fewer commits: every one was the last of a daemon (their number varies)
    assert 10 < kill_after < 999


async def _imported(storage: Storage) -> Daemon:
    """Imported by one daemon, and by another if that one is killed."""
    await storage.ensure_connection(NAME, ConversationRules())
    daemon = Daemon(storage)
    await daemon.offer("A", BIG)
    async with daemon.running(low_batch=16):
        await daemon.until_settled()
    async with daemon.running(low_batch=16):
        await daemon.until_settled()
    return daemon


async def test_it_goes_on_after_the_last_step(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """What is behind a committed position is not even offered to the database again."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG)
    positions: list[int] = []

    def note(batch: cabc.Sequence[Envelope]) -> None:
        steps = [fact for item in batch for fact in item.facts if hasattr(fact, "position")]
        positions.extend(step.position for step in steps if step.position)
        if positions:
            storage.kill()

    storage.after_commit = note
    async with daemon.running():
        await until_killed()
    assert positions == [64]
    storage.after_commit = lambda _batch: None
    before = len(storage.committed)
    async with daemon.running():
        await daemon.until_settled()
    assert len(storage.committed) - before == 163 - 64


async def test_a_lost_answer_to_a_commit_changes_nothing(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """A commit whose answer is lost is repeated by the writer, and known as such."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG)
    storage.away_after_commit = 3
    async with daemon.running():
        progress = await daemon.until_settled()
    assert len(daemon.content()) == 163
    assert progress.chunks["done"] == 1
    assert sum(item.stored + item.duplicate for item in progress.chats) == 162


async def test_it_outlives_a_database_that_is_away(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """It waits for the database, before and during an import."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG)
    storage.away = True
    async with daemon.running():
        await trio.sleep(100)
        storage.away = False
        await daemon.until_settled()
    assert len(daemon.content()) == 163


async def test_it_outlives_a_writer_that_begins_anew(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """What a crashed writer had taken is never answered: it is posted again after a while."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG)

    def crash(batch: cabc.Sequence[Envelope]) -> None:
        if any(item.message for item in batch) and len(daemon.writer.low):
            storage.after_commit = lambda _batch: None
            while len(daemon.writer.low):
                daemon.writer.low.receive_nowait()  # taken, and lost with the crash

    storage.after_commit = crash
    async with daemon.running(low_batch=8):
        progress = await daemon.until_settled()
    assert trio.current_time() > 600
    assert progress.chunks["done"] == 1
    assert len(daemon.content()) == 163


# ---- the same message twice


async def test_chunks_repeated_and_out_of_order(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Two chunks that overlap, one of them offered twice, the later one first: all of it once."""
    older = chunk(conversation(CUSTOMER, *texts(CUSTOMER, 1, 50)))
    newer = chunk(conversation(CUSTOMER, *texts(CUSTOMER, 40, 100)))
    daemon = Daemon(storage)
    await daemon.offer("N", newer, chunk_order=2)
    await daemon.offer("O", older, chunk_order=1)
    await daemon.offer("N again", newer, chunk_order=2)
    await daemon.offer("N", b"the same offer again changes nothing")
    async with daemon.running():
        progress = await daemon.until_settled()
    assert [row[1][-4:] for row in daemon.content()] == [f"{n:04}" for n in range(1, 101)]
    [counts] = progress.chats
    assert (counts.offered, counts.stored, counts.duplicate) == (172, 100, 72)


async def test_live_messages_overtake(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """A live message is in the very next commit, and its copy in history is known."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG)
    reply, answers = trio.open_memory_channel[Settled](1)
    live = make_envelope(text(CUSTOMER, 90).key.id, "text 90")
    since: list[int] = []

    def note(batch: cabc.Sequence[Envelope]) -> None:
        if live in batch:
            storage.after_commit = lambda _batch: None
        elif not since and any(item.message for item in batch):
            daemon.writer.inbox.post_nowait(Commit(live, 1, reply))
            since.append(0)
        elif since:
            since.append(len(batch))

    storage.after_commit = note
    async with daemon.running(low_batch=8):
        with trio.fail_after(100_000):
            await answers.receive()
        assert since == [0]
        progress = await daemon.until_settled()
    assert len(daemon.content()) == 163
    [row] = [
        row
        for row in await storage.conversations(status=None, connection=NAME, limit=9)
        if row.chat == CUSTOMER and row.status == "waiting"
    ]
    assert row.messages >= 1
    [counts] = [item for item in progress.chats if item.chat == CUSTOMER]
    assert (counts.stored, counts.duplicate) == (89, 1)


async def test_messages_without_an_id_that_are_alike_stay_apart(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Two equal texts within one second are two, also when the import stops between them."""
    nameless = text(CUSTOMER, 1, key=TargetKey(remote_jid=CUSTOMER, id=""))
    alike = conversation(CUSTOMER, *[nameless] * 70)
    daemon = Daemon(storage)
    await daemon.offer("A", chunk(alike))
    storage.kill_after = 3
    async with daemon.running():
        await until_killed()
    async with daemon.running():
        await daemon.until_settled()
    assert len(daemon.content()) == 70


# ---- what cannot be stored, read or fetched


async def test_poison_fails_alone(autojump_clock: trio.testing.MockClock, storage: Storage) -> None:
    """I5: what cannot be stored, and what cannot be read, is quarantined and counted as failed."""
    poison = text(CUSTOMER, 2, message=compose.text("poison"))
    anonymous = text(GROUP, 1, participant=None)
    whole = chunk(
        conversation(CUSTOMER, text(CUSTOMER, 1), poison, text(CUSTOMER, 3)),
        conversation(GROUP, anonymous),
        conversation("nowhere@", text(OTHER, 1)),
    )
    broken = build_history(sync_type="recent") + length_delimited(
        2, length_delimited(1, OTHER.encode()) + length_delimited(2, b"\x0a\x01\xff")
    )
    daemon = Daemon(storage)
    await daemon.offer("A", whole + broken)
    async with daemon.running():
        progress = await daemon.until_settled()
    assert [row[1][-4:] for row in daemon.content()] == ["0001", "0003"]
    failed = {item.chat: item.failed for item in progress.chats}
    assert failed == {CUSTOMER: 1, GROUP: 1, "nowhere@": 1, OTHER: 1}
    assert progress.chunks["done"] == 1
    assert (await storage.statistics())["quarantined"] == 4


async def test_poison_at_the_end_of_a_step_does_not_stop_it(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """A step whose last message is refused costs nothing but that message."""
    messages = texts(CUSTOMER, 1, 200)
    for index in (63, 127, 199):
        messages[index] = attrs.evolve(messages[index], message=compose.text("poison"))
    daemon = Daemon(storage)
    await daemon.offer("A", chunk(conversation(CUSTOMER, *messages)))
    async with daemon.running():
        progress = await daemon.until_settled()
    [counts] = progress.chats
    assert (counts.offered, counts.stored, counts.failed) == (200, 197, 3)
    assert (progress.position, progress.chunks["done"]) == (200, 1)


async def test_what_is_stored_nowhere_ends_the_chunk_before_it(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """A message that cannot even be quarantined is not passed by: a retry begins with it."""
    messages = texts(CUSTOMER, 1, 200)
    messages[150] = attrs.evolve(messages[150], message=compose.text("poison"))
    daemon = Daemon(storage)
    await daemon.offer("A", chunk(conversation(CUSTOMER, *messages)))
    storage.refuse_quarantine = True
    async with daemon.running():
        progress = await daemon.until_settled()
        assert progress.chunks["failed"] == 1
        assert progress.position == 128
        assert "retry" in progress.errors[0]
        storage.refuse_quarantine = False
        assert await storage.history_retry(NAME) == 1
        daemon.importer.wake()
        progress = await daemon.until_settled()
    assert progress.chunks["done"] == 1
    assert len(daemon.content()) == 199


async def test_a_chunk_that_cannot_be_fetched_is_tried_again_and_given_up(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Attempts are spaced and counted; the error says what to do; a retry starts afresh."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG, inline=False)
    daemon.files.error = ActorError("the host is away")
    async with daemon.running():
        progress = await daemon.until_settled()
        assert [at for at, _path in daemon.files.fetched] == [0, 10, 20]
        assert progress.chunks["failed"] == 1
        [error] = progress.errors
        assert "3 attempts" in error
        assert "the host is away" in error
        assert "link the device again" in error
        daemon.files.error = None
        await storage.history_retry(NAME)
        daemon.importer.wake()
        await daemon.until_settled()
    assert len(daemon.content()) == 163


async def test_a_chunk_that_is_gone_is_given_up_sooner(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """The servers may be slow to have a file; they are not asked for hours when they do not."""
    daemon = Daemon(storage, settings=HistorySettings(attempts_at_gone=2))
    await daemon.offer("A", BIG, inline=False)
    daemon.files.error = MediaGoneError("the host answered 404")
    async with daemon.running():
        progress = await daemon.until_settled()
    assert len(daemon.files.fetched) == 2
    assert progress.chunks["failed"] == 1


async def test_a_chunk_that_waits_holds_no_other_up(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """While one chunk waits for its next attempt, the others are imported."""
    daemon = Daemon(storage)
    await daemon.offer("A", BIG, inline=False)
    daemon.files.error = ActorError("the host is away")
    async with daemon.running():
        await trio.sleep(5)
        await daemon.offer("B", chunk(conversation(CUSTOMER, text(CUSTOMER, 500))))
        daemon.importer.wake()
        await trio.sleep(1)
        assert len(daemon.content()) == 1


async def test_being_offline_is_no_failure(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Without a socket, or without a device, a chunk waits for as long as it takes."""
    daemon = Daemon(storage, own=())
    await daemon.offer("A", BIG, inline=False)
    daemon.files.error = NotOnlineError("offline")
    async with daemon.running():
        await trio.sleep(600)
        assert daemon.files.fetched == []
        daemon.own = OWN
        await trio.sleep(600)
        assert len(daemon.files.fetched) > daemon.settings.attempts
        daemon.files.error = None
        daemon.importer.wake()
        await trio.sleep(1)
        assert not await storage.history_pending(NAME, 1)
    assert len(daemon.content()) == 163


@pytest.mark.parametrize(
    "payload", [b"no history at all \xff", b"\x12\xff\xff\xff\xff\x0f", b"\x0f"]
)
async def test_a_chunk_that_cannot_be_read_is_kept_as_failed(
    autojump_clock: trio.testing.MockClock, storage: Storage, payload: bytes
) -> None:
    """What is no chunk fails at once, with a reason, and the next one is imported."""
    daemon = Daemon(storage)
    await daemon.offer("A", payload)
    await daemon.offer("B", BIG)
    async with daemon.running():
        progress = await daemon.until_settled()
    assert (progress.chunks["failed"], progress.chunks["done"]) == (1, 1)
    assert "cannot be read" in progress.errors[0]


async def test_a_bomb_fails_alone(autojump_clock: trio.testing.MockClock, storage: Storage) -> None:
    """A payload that inflates beyond the limit is refused."""
    daemon = Daemon(storage, settings=HistorySettings(max_inflated=100_000))
    await daemon.offer("A", b"\x0a" * 1_000_000)
    async with daemon.running():
        progress = await daemon.until_settled()
    assert progress.chunks["failed"] == 1
    assert "more than 100000 bytes" in progress.errors[0]


@pytest.mark.parametrize("notification", [b"", b"\xff", b"\x30\x03"])
async def test_an_offer_of_nothing_fails(
    autojump_clock: trio.testing.MockClock, storage: Storage, notification: bytes
) -> None:
    """An offer that is damaged, or does not say where the chunk lies, fails with a reason."""
    daemon = Daemon(storage)
    await daemon.offer_raw("A", notification)
    async with daemon.running():
        progress = await daemon.until_settled()
    assert progress.chunks["failed"] == 1


# ---- kinds of chunks


async def test_chunks_without_messages(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Names alone are a chunk; so is the news that there is no history."""
    names = [(f"1555{number:07}@s.whatsapp.net", f"Name {number}") for number in range(300)]
    daemon = Daemon(storage)
    await daemon.offer(
        "A", build_history(sync_type="push_name", push_names=names), sync_type="push_name"
    )
    await daemon.offer("B", b"", sync_type="no_history")
    async with daemon.running():
        progress = await daemon.until_settled()
    assert progress.chunks["done"] == 2
    assert progress.total == 0


@pytest.mark.parametrize("wanted", [False, True])
async def test_statuses_are_passed_over_unless_wanted(
    autojump_clock: trio.testing.MockClock, storage: Storage, wanted: bool
) -> None:
    """Statuses count as messages of the chunk, and are stored only where they are wanted."""
    status = text("status@broadcast", 1, participant=CUSTOMER)
    daemon = Daemon(storage)
    if wanted:
        daemon.wanted = lambda _connection, _chat: True
    payload = build_history(sync_type="initial_status_v3", status_messages=[status])
    await daemon.offer("A", payload, sync_type="initial_status_v3")
    async with daemon.running():
        progress = await daemon.until_settled()
    assert (progress.position, progress.total) == (1, 1)
    assert len(daemon.content()) == int(wanted)


async def test_urgent_chunks_come_first(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """What somebody asked for, and what shows the inbox first, overtakes the long tail."""
    daemon = Daemon(storage)
    for number, sync_type in enumerate(("full", "recent", "initial_bootstrap", "on_demand")):
        message = text(CUSTOMER, number)
        await daemon.offer(sync_type, chunk(conversation(CUSTOMER, message)), sync_type=sync_type)
    async with daemon.running():
        await daemon.until_settled()
    assert [row["external_id"][-1] for row in storage.messages(NAME)] == ["3", "2", "1", "0"]


async def test_connections_take_turns(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """Of two connections with chunks of one kind neither waits for all of the other's."""
    await storage.ensure_connection("support", ConversationRules())
    daemon = Daemon(storage)
    for number in range(4):
        payload = chunk(conversation(CUSTOMER, text(CUSTOMER, number)))
        await daemon.offer(f"{number}", payload, connection="support" if number > 1 else NAME)
    async with daemon.running():
        with trio.fail_after(100_000):
            while await storage.history_pending(None, 1):
                await trio.sleep(1)
    assert [name[-1] for name in storage.committed] == ["0", "2", "1", "3"]


async def test_a_damaged_offer_holds_up_its_own_connection_only(
    autojump_clock: trio.testing.MockClock, storage: Storage
) -> None:
    """An offer that does not open under our key is told; other connections go on."""
    await storage.ensure_connection("damaged", ConversationRules())
    storage.unsealable = "damaged"
    daemon = Daemon(storage)
    await daemon.offer("A", BIG, connection="damaged")
    await daemon.offer("B", BIG)
    with structlog.testing.capture_logs() as logs:
        async with daemon.running():
            await daemon.until_settled()
    assert len(daemon.content()) == 163
    assert "history.damaged" in {entry["event"] for entry in logs}


# ---- older history on demand


class Phone:
    """A line that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, str | None]] = []

    async def send_peer(
        self, message: bytes, *, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        self.sent.append((message, priority))
        return "3EB0REQUEST"


class Oldest:
    """A storage that knows one message."""

    def __init__(self, message: StoredMessage | None) -> None:
        self.message = message

    async def oldest_message(self, connection: str, chat: str) -> StoredMessage | None:
        return self.message


async def test_older_history_is_asked_for_before_the_oldest_message() -> None:
    """The request names the oldest message that is stored, and its id comes back."""
    oldest = t.cast(
        StoredMessage,
        attrs.make_class("Row", ["external_id", "from_me", "sent_at"], frozen=True)(
            "3EB0OLD", True, dt.datetime.fromtimestamp(START, dt.UTC)
        ),
    )
    phone = Phone()
    request = await request_older(t.cast(t.Any, phone), Oldest(oldest), NAME, CUSTOMER, 50)
    assert request == "3EB0REQUEST"
    [(raw, priority)] = phone.sent
    wanted = parse_request(raw).on_demand
    assert wanted is not None
    assert (wanted.chat, wanted.oldest_id, wanted.count) == (CUSTOMER, "3EB0OLD", 50)
    assert (wanted.oldest_from_me, wanted.oldest_at) == (True, START)
    assert priority == "high_force"


async def test_nothing_is_older_than_nothing() -> None:
    """A chat without messages has no older ones; absurd counts are refused."""
    line = t.cast(t.Any, Phone())
    with pytest.raises(NoHistoryError):
        await request_older(line, Oldest(None), NAME, CUSTOMER, 50)
    for count in (0, 501):
        with pytest.raises(ValueError, match="between 1 and 500"):
            await request_older(line, Oldest(None), NAME, CUSTOMER, count)
