"""The keeper of files: fetches what messages carry, stores it once it is verified, and gives it
up when its time is over.

Every file is a row; this service only moves rows on. A file becomes visible under its hash after
its last byte was checked, and its row says "stored" after that: whatever dies in between is done
again.
"""

import collections.abc as cabc
import contextlib
import functools
import typing as t

import attrs
import structlog
import trio

from actors.keyed_locks import KeyedLocks
from actors.line import Line
from actors.media_http import (
    MediaGoneError,
    MediaHttp,
    MediaTooLargeError,
    MediaUnavailableError,
)
from actors.media_phone import FileKey, PhoneRequests, PhoneSettings, PhoneStorage
from storage.blobs import Blob, Blobs
from storage.crash_points import crash_point
from storage.errors import NoRoomError, StorageRejectedError, StorageUnavailableError
from storage.queues import MediaJob, MediaResult, MediaRow, MediaState
from supervisor.backoff import Backoff
from whatsapp.content import media_source
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.media import MediaCorruptError
from whatsapp.media_source import MediaSource
from whatsapp.node import Node

ROOM_PAUSE: t.Final = 30.0  # seconds between two looks for room on a full disk
ROOM_TRIED: t.Final = 8 << 20  # bytes, at most, that have to fit there
POLL: t.Final = 60.0  # seconds without a wake after which rows are looked at anyway
LEAST_WAIT: t.Final = 1.0  # seconds between two looks that found nothing
EXPIRE_INTERVAL: t.Final = 3600.0  # seconds
EXPIRE_PAGE: t.Final = 100  # rows
CORRUPT_ATTEMPTS: t.Final = 3  # of a file that is not what was announced
MAX_ANSWERS: t.Final = 1024  # waiting to be taken in
EVENTS: t.Final = {
    MediaState.PENDING: "media.pending",
    MediaState.STORED: "media.stored",
    MediaState.EXPIRED: "media.expired",
    MediaState.FAILED: "media.failed",
    MediaState.SKIPPED: "media.skipped",
    MediaState.REMOVED: "media.removed",
}
"""What the log calls them."""

T = t.TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("media")


class MediaStorage(PhoneStorage, t.Protocol):
    """What the keeper needs of storage; see ``storage.queues.Queues``."""

    async def claim_media(self, limit: int, *, lease: float = ...) -> list[MediaJob]:
        """Take files that are due."""
        ...

    async def release_media(self) -> int:
        """End all claims."""
        ...

    async def next_media_at(self) -> float | None:
        """Unix seconds when the next file is due."""
        ...

    async def media_to_expire(self, before: float, limit: int) -> list[MediaRow]:
        """Files stored before that time."""
        ...

    async def blob_users(self, blob_sha256: bytes) -> int:
        """How many messages have this file."""
        ...

    async def forget_media(self, connection: str, message_id: int) -> bool:
        """stored → removed."""
        ...

    async def erased_blobs(self, limit: int) -> list[bytes]:
        """Files that erased messages had."""
        ...

    async def blob_erased(self, sha256: bytes) -> None:
        """One of them is dealt with."""
        ...


@attrs.frozen(kw_only=True)
class MediaSettings:
    """What the operator may set; times in seconds, sizes in bytes."""

    download: bool = True  # else only what is asked for
    kinds: frozenset[str] | None = None  # fetched without being asked for; None: all
    max_size: int = 256 * 1024 * 1024
    concurrency: int = 4
    retention: float = 0.0
    """How long files are kept after they were stored; 0: for ever."""
    max_attempts: int = 12
    backoff: Backoff = attrs.field(factory=lambda: Backoff(initial=15.0, maximum=3600.0))
    phone: PhoneSettings = attrs.field(factory=PhoneSettings)


class MediaKeeper:
    """See the module. One per daemon; its memory outlives restarts of ``run``."""

    def __init__(
        self,
        storage: MediaStorage,
        blobs: Blobs,
        http: MediaHttp,
        *,
        lines: cabc.Callable[[str], Line],
        own_address: cabc.Callable[[str], Jid | None],
        settings: MediaSettings,
        wall_clock: cabc.Callable[[], float],
        random: cabc.Callable[[int], bytes],
        uniform: cabc.Callable[[], float],
        deleting_clock: cabc.Callable[[], float] | None = None,
    ) -> None:
        """``lines``: the line of a connection. ``own_address``: the phone-number address of its
        account. ``wall_clock``: unix seconds. ``random``: secret bytes. ``uniform``: [0, 1).
        ``deleting_clock``: the wall clock that says what is old enough to be deleted."""
        self._storage = storage
        self._blobs = blobs
        self._http = http
        self._lines = lines
        self._settings = settings
        self._wall_clock = wall_clock
        self._deleting_clock = deleting_clock or wall_clock
        self._uniform = uniform
        self._files: KeyedLocks[FileKey] = KeyedLocks()
        self._contents: KeyedLocks[bytes] = KeyedLocks()
        self._phone = PhoneRequests(
            storage,
            self._files,
            lines=lines,
            own_address=own_address,
            settings=settings.phone,
            wall_clock=wall_clock,
            random=random,
        )
        self._asked_for: set[FileKey] = set()
        self._full_for = 0
        """Bytes for which there was no room; 0: there is room, as far as is known."""
        self._told_full = False
        self._woken = trio.Event()
        self._slots = trio.Semaphore(settings.concurrency)
        self._answers, self._to_take_in = trio.open_memory_channel[tuple[str, Node]](MAX_ANSWERS)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; what was under way is taken up again by the next run."""
        task_status.started()
        self._slots = trio.Semaphore(self._settings.concurrency)
        left = await self._patiently(self._blobs.prepare)
        released = await self._patiently(self._storage.release_media)
        if left or released:
            log.info("media.resumed", files=released, temporary=left)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_in_answers)
            if self._settings.retention:
                nursery.start_soon(self._expire)
            await self._fetch_all(nursery)

    def wake(self) -> None:
        """There may be new files to fetch."""
        self._woken.set()

    async def fetch_now(self, connection: str, message_id: int) -> bool:
        """Somebody wants this file: fetch it whatever the settings leave out, and even if it was
        given up before. False when there is no such file, or it is stored or removed.

        Raises:
            StorageUnavailableError: try again.
        """
        key = (connection, message_id)
        async with self._files.hold(key):
            self._phone.forget(key)
            self._asked_for.add(key)
            known = await self._storage.finish_media(*key, MediaResult(state=MediaState.PENDING))
        if not known:
            self._asked_for.discard(key)
        self.wake()
        return known

    def media_answered(self, connection: str, notification: Node) -> None:
        """The phone answered a request; it is taken in soon. Waits for nothing."""
        try:
            self._answers.send_nowait((connection, notification))
        except trio.WouldBlock:  # the file is asked for again in time
            log.warning("media.answer_dropped", connection=connection)

    async def retry_answered(self, connection: str, notification: Node) -> None:
        """The same, done when this returns.

        Raises:
            StorageUnavailableError: nothing was recorded.
        """
        if await self._phone.answered(connection, notification):
            self.wake()

    # ---- fetching

    async def _fetch_all(self, nursery: trio.Nursery) -> t.NoReturn:
        lease = 2 * self._http.longest(self._settings.max_size)
        while True:
            self._woken = trio.Event()
            await self._wait_for_room()
            await self._slots.acquire()
            free = 1 + self._slots.value
            self._slots.release()
            claim = functools.partial(self._storage.claim_media, free, lease=lease)
            jobs = await self._patiently(claim)
            for job in jobs:
                self._slots.acquire_nowait()
                nursery.start_soon(self._work, job)
            if len(jobs) < free:
                await self._wait_for_more()

    async def _wait_for_more(self) -> None:
        due = await self._patiently(self._storage.next_media_at)
        wait = POLL if due is None else min(POLL, due - self._wall_clock())
        with trio.move_on_after(max(LEAST_WAIT, wait)):
            await self._woken.wait()

    async def _work(self, job: MediaJob) -> None:
        key = (job.connection, job.message_id)
        crash_point("media.claimed")
        try:
            async with self._files.hold(key), contextlib.AsyncExitStack() as held:
                result = await self._attempt(job, held)
                if result.state is MediaState.STORED:
                    crash_point("media.stored")
                finish = functools.partial(self._storage.finish_media, *key, result)
                if not await self._patiently(finish) and result.blob_sha256 is not None:
                    await self._drop_unused(result.blob_sha256)  # its message was erased meanwhile
                crash_point("media.recorded")
        except StorageRejectedError as error:
            log.error("media.rejected", connection=key[0], message=key[1], error=str(error))
            return
        finally:
            self._slots.release()
        if result.state is MediaState.PENDING:
            self.wake()  # it may be due before what the loop waits for
        else:
            self._asked_for.discard(key)
        if result.state is MediaState.STORED:
            self._phone.forget(key)
            if self._told_full:
                self._told_full = False
                log.info("media.room_again")
        log.info(
            EVENTS[result.state],
            connection=job.connection,
            message=job.message_id,
            kind=job.kind,
            size=result.blob_size,
            attempts=job.attempts,
            error=result.error,
        )

    async def _attempt(self, job: MediaJob, held: contextlib.AsyncExitStack) -> MediaResult:
        """One try; ``held`` keeps the stored blob from removal until its row says so."""
        try:
            source = media_source(job.raw)
            if source is None:
                return _failed("the message names no file")
            if job.direct_path:
                source = attrs.evolve(source, direct_path=job.direct_path, url="")
            if (reason := self._unwanted(job, source)) is not None:
                return MediaResult(state=MediaState.SKIPPED, error=reason)
            if self._phone.knows_gone(job):
                return await self._phone.ask(job, source, "gone from the servers")
            return await self._download(job, source, held)
        except MediaTooLargeError as error:
            return MediaResult(state=MediaState.SKIPPED, error=str(error))
        except MediaCorruptError as error:
            if job.attempts >= CORRUPT_ATTEMPTS:
                return _failed(str(error))
            return self._later(job, str(error))
        except MediaUnavailableError as error:
            last = job.attempts >= self._settings.max_attempts
            if last and self._lines(job.connection).online:  # else it may be our own network
                return _failed(str(error))
            return self._later(job, str(error), error.retry_after or 0.0)
        except NoRoomError as error:
            self._out_of_room(job)
            return self._soon(str(error))
        except StorageUnavailableError as error:  # no fault of the file's
            return self._later(job, str(error))
        except (RemoteProtocolError, LocalProtocolError) as error:
            return _failed(str(error))

    async def _download(
        self, job: MediaJob, source: MediaSource, held: contextlib.AsyncExitStack
    ) -> MediaResult:
        async def store(chunks: cabc.AsyncIterator[bytes]) -> Blob:
            async with self._blobs.writing() as writer:
                async for chunk in chunks:
                    await writer.write(chunk)
                # The chunks have ended: the file is verified.
                crash_point("media.downloaded")
                await held.enter_async_context(self._contents.hold(writer.sha256))
                return await writer.commit()

        if (known := await self._known(source, held)) is not None:
            return known
        line, limit = self._lines(job.connection), self._settings.max_size
        try:
            blob = await self._http.fetch(source, store, line=line, limit=limit)
        except MediaCorruptError:
            raise
        except (MediaGoneError, RemoteProtocolError) as error:  # the latter: no usable place
            return await self._phone.ask(job, source, str(error))
        return _stored(blob)

    async def _known(
        self, source: MediaSource, held: contextlib.AsyncExitStack
    ) -> MediaResult | None:
        """The file is here already: forwarded before, or sent from here."""
        if not source.sha256 or await self._blobs.size(source.sha256) is None:
            return None
        await held.enter_async_context(self._contents.hold(source.sha256))
        size = await self._blobs.size(source.sha256)
        if size is None or source.length not in (None, size):
            await held.aclose()
            return None
        return _stored(Blob(source.sha256, size))

    def _unwanted(self, job: MediaJob, source: MediaSource) -> str | None:
        if (source.length or 0) > self._settings.max_size:
            return f"{source.length} bytes, more than {self._settings.max_size}"
        if (job.connection, job.message_id) in self._asked_for:
            return None
        if not self._settings.download:
            return "downloads are off"
        if self._settings.kinds is not None and source.kind not in self._settings.kinds:
            return f"files of kind {source.kind} are not fetched"
        return None

    def _out_of_room(self, job: MediaJob) -> None:
        """Fetch nothing until there is room again: said once, however many files wait."""
        if not self._told_full:
            self._told_full = True
            log.error(
                "media.no_room",
                advice="messages are stored, their files wait; make room in media.directory",
            )
        self._full_for = max(self._full_for, job.size or 0, 1)

    async def _wait_for_room(self) -> None:
        """Until what did not fit the last time would fit, or as much of it as is tried."""
        while self._full_for:
            await trio.sleep(ROOM_PAUSE)
            with contextlib.suppress(StorageUnavailableError):
                await self._blobs.try_room(min(self._full_for, ROOM_TRIED))
                self._full_for = 0

    def _soon(self, error: str) -> MediaResult:
        return MediaResult(state=MediaState.PENDING, error=error, retry_at=self._wall_clock())

    def _later(self, job: MediaJob, error: str, at_least: float = 0.0) -> MediaResult:
        spread = 0.5 + self._uniform() / 2
        wait = max(at_least, self._settings.backoff.delay(max(1, job.attempts), spread))
        at = self._wall_clock() + wait
        return MediaResult(state=MediaState.PENDING, error=error, retry_at=at)

    # ---- the rest

    async def _take_in_answers(self) -> None:
        async for connection, node in self._to_take_in:
            await self._patiently(functools.partial(self.retry_answered, connection, node))

    async def _expire(self) -> t.NoReturn:
        while True:
            removed = await self._patiently(self._remove_expired)
            if removed:
                log.info("media.removed", files=removed)
            await trio.sleep(EXPIRE_INTERVAL)

    async def _remove_expired(self) -> int:
        """Give up everything whose time is over; how many files."""
        before, removed = self._deleting_clock() - self._settings.retention, 0
        while True:
            rows = await self._storage.media_to_expire(before, EXPIRE_PAGE)
            given_up = [await self._give_up(row) for row in rows]
            removed += sum(given_up)
            if len(rows) < EXPIRE_PAGE or not any(given_up):
                return removed

    async def _give_up(self, row: MediaRow) -> bool:
        sha256 = row.blob_sha256 or b""
        async with self._contents.hold(sha256):
            if sha256 and await self._storage.blob_users(sha256) <= 1:
                await self._blobs.delete(sha256)
            return await self._storage.forget_media(row.connection, row.message_id)

    async def remove_erased(self) -> int:
        """Give up the files that erased messages had and no other message has; how many.

        Raises:
            StorageUnavailableError: some are left.
        """
        removed = 0
        while page := await self._storage.erased_blobs(EXPIRE_PAGE):
            for sha256 in page:
                async with self._contents.hold(sha256):
                    removed += await self._drop_unused(sha256)
                await self._storage.blob_erased(sha256)
        return removed

    async def _drop_unused(self, sha256: bytes) -> bool:
        """Delete a file, whose content is held, unless a message has it."""
        if await self._storage.blob_users(sha256):
            return False
        await self._blobs.delete(sha256)
        return True

    async def _patiently(self, call: cabc.Callable[[], cabc.Awaitable[T]]) -> T:
        """The same call until storage is there."""
        backoff, failures = Backoff(initial=0.5, maximum=10.0), 0
        while True:
            try:
                return await call()
            except StorageUnavailableError as error:
                failures += 1
                if failures == 1:
                    log.warning("media.storage_unavailable", error=str(error))
                await trio.sleep(backoff.delay(failures, 0.5 + self._uniform() / 2))


def _stored(blob: Blob) -> MediaResult:
    return MediaResult(state=MediaState.STORED, blob_sha256=blob.sha256, blob_size=blob.size)


def _failed(error: str) -> MediaResult:
    return MediaResult(state=MediaState.FAILED, error=error)
