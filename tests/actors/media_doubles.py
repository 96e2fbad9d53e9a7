"""WhatsApp's media servers, a line and the rows of files, as far as the tests need them."""

import collections.abc as cabc
import datetime as dt
import json
import typing as t

import attrs
import httpx
import trio

from actors.line import NotOnlineError
from storage.errors import StorageUnavailableError
from storage.inbox import StoredMessage
from storage.queues import MediaJob, MediaResult, MediaRow, MediaState
from whatsapp.iq.media_conn import MediaConnection, MediaHost, media_conn_result
from whatsapp.jid import Jid
from whatsapp.media import encrypt
from whatsapp.media_source import MediaSource
from whatsapp.node import Node
from whatsapp.proto import wa_pb2

OWN: t.Final = Jid.parse("15559990000@s.whatsapp.net")
CUSTOMER: t.Final = "15550001111@s.whatsapp.net"
CUSTOMER_LID: t.Final = "900000000001@lid"
NAME: t.Final = "sales"
KEY: t.Final = bytes(range(32))


def streamed(data: bytes) -> httpx.Response:
    """An answer that comes in pieces, as from a socket."""

    async def pieces() -> cabc.AsyncIterator[bytes]:
        for start in range(0, len(data), 4096):
            await trio.lowlevel.checkpoint()
            yield data[start : start + 4096]

    headers = {"Content-Length": str(len(data))}
    return httpx.Response(200, headers=headers, content=pieces())


@attrs.define
class Servers:
    """Files by path; what they do wrong is settable. ``handle`` serves ``httpx.MockTransport``."""

    files: dict[str, bytes] = attrs.field(factory=dict)
    uploads: dict[str, bytes] = attrs.field(factory=dict)
    requests: list[httpx.Request] = attrs.field(factory=list)
    statuses: dict[str, list[int]] = attrs.field(factory=dict)
    """Per host: what the next requests are answered with, before anything else."""
    before_answer: cabc.Callable[[httpx.Request], cabc.Awaitable[None]] | None = None
    answer: t.Any = None
    """What uploads are answered with, instead of where the file lies."""

    @property
    def hosts(self) -> list[str]:
        return [request.url.netloc.decode() for request in self.requests]

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.before_answer is not None:
            await self.before_answer(request)
        host = request.url.netloc.decode()
        if (planned := self.statuses.get(host)) and (status := planned.pop(0)) != 200:
            return httpx.Response(status, headers={"Retry-After": "120"})
        if request.method == "POST":
            body = await request.aread()
            self.uploads[request.url.path] = body
            where = f"/v/{len(self.uploads)}?x=1"
            self.files[where.partition("?")[0]] = body
            answer = {"url": f"https://{host}{where}", "direct_path": where}
            return streamed(json.dumps(answer if self.answer is None else self.answer).encode())
        if (data := self.files.get(request.url.path)) is None:
            return httpx.Response(404)
        return streamed(data)

    def put(self, path: str, plaintext: bytes, kind: str = "image") -> MediaSource:
        """Upload a file as a phone does; how a message describes it."""
        file, encryptor = encrypt(kind, KEY, plaintext)
        self.files[path] = file
        return encryptor.source(direct_path=f"{path}?ccb=1")


@attrs.define
class FakeLine:
    """A line that answers requests for hosts, and keeps what is sent."""

    name: str = NAME
    online: bool = True
    hosts: tuple[str, ...] = ("a.example", "b.example")
    ttl: int = 300
    asked: int = 0
    sent: list[Node] = attrs.field(factory=list)
    on_send: cabc.Callable[[Node], None] | None = None

    async def request(self, build: cabc.Callable[[str], Node], timeout: float = 30.0) -> Node:
        self._require()
        self.asked += 1
        hosts = tuple(MediaHost(name=host, max_length=1 << 20) for host in self.hosts)
        granted = MediaConnection(hosts=hosts, auth="AUTH", ttl=self.ttl, auth_ttl=self.ttl)
        return media_conn_result(build("1"), granted)

    async def send(self, node: Node) -> None:
        self._require()
        self.sent.append(node)
        if self.on_send is not None:
            self.on_send(node)

    async def send_peer(
        self, message: bytes, *, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        raise NotImplementedError

    def _require(self) -> None:
        if not self.online:
            raise NotOnlineError("offline")


def image_message(source: MediaSource) -> bytes:
    """The plaintext of an image message."""
    image = wa_pb2.ImageMessage(
        url=source.url.encode(),
        direct_path=source.direct_path.encode(),
        media_key=source.media_key,
        file_sha256=source.sha256,
        file_enc_sha256=source.enc_sha256,
        mimetype=b"image/jpeg",
    )
    if source.length is not None:
        image.file_length = source.length
    return wa_pb2.Message(image_message=image).SerializeToString()


@attrs.define
class FakeFile:
    """One row of ``media`` with its message."""

    raw: bytes
    external_id: str
    chat: str = CUSTOMER
    sender: str = CUSTOMER
    state: MediaState = MediaState.PENDING
    attempts: int = 0
    due: float = 0.0
    leased_until: float = 0.0
    direct_path: str | None = None
    blob: bytes | None = None
    error: str | None = None
    stored_at: float = 0.0

    def job(self, number: int) -> MediaJob:
        other = () if self.chat.endswith("g.us") else (CUSTOMER_LID,)
        return MediaJob(
            connection=NAME,
            message_id=number,
            external_id=self.external_id,
            chat=self.chat,
            chat_addresses=(self.chat, *other),
            from_me=False,
            sender=self.sender,
            senders=(self.sender, CUSTOMER_LID),
            kind="image",
            size=None,
            raw=self.raw,
            direct_path=self.direct_path,
            attempts=self.attempts,
        )


@attrs.define
class FakeQueues:
    """The rows of files, by the rules of ``storage.queues``."""

    clock: cabc.Callable[[], float]
    files: dict[int, FakeFile] = attrs.field(factory=dict)
    away: bool = False
    finished: list[tuple[int, MediaResult]] = attrs.field(factory=list)
    on_finish: cabc.Callable[[int, MediaResult], None] | None = None
    hold_finish: trio.Event | None = None
    """What became of files is only recorded once it is set."""
    erased: list[bytes] = attrs.field(factory=list)
    """Files that messages lost to an erasure."""

    def erase(self, number: int) -> None:
        """A message loses its content, and with it its file."""
        file = self.files.pop(number)
        if file.blob is not None:
            self.erased.append(file.blob)

    async def erased_blobs(self, limit: int) -> list[bytes]:
        self._require()
        return self.erased[:limit]

    async def blob_erased(self, sha256: bytes) -> None:
        self._require()
        self.erased.remove(sha256)

    def add(self, raw: bytes, **fields: t.Any) -> int:
        number = len(self.files) + 1
        self.files[number] = FakeFile(raw, f"3EB0{number:04}", **fields)
        return number

    def _require(self) -> None:
        if self.away:
            raise StorageUnavailableError("the database is away")

    async def claim_media(self, limit: int, *, lease: float = 300.0) -> list[MediaJob]:
        self._require()
        now = self.clock()
        due = [
            (number, file)
            for number, file in self.files.items()
            if file.state is MediaState.PENDING and max(file.due, file.leased_until) <= now
        ][:limit]
        for _, file in due:
            file.attempts += 1
            file.leased_until = now + lease
        return [file.job(number) for number, file in due]

    async def release_media(self) -> int:
        self._require()
        claimed = [file for file in self.files.values() if file.leased_until > self.clock()]
        for file in claimed:
            file.leased_until = 0.0
        return len(claimed)

    async def next_media_at(self) -> float | None:
        self._require()
        times = [
            max(file.due, file.leased_until)
            for file in self.files.values()
            if file.state is MediaState.PENDING
        ]
        return min(times, default=None)

    async def finish_media(self, connection: str, message_id: int, result: MediaResult) -> bool:
        self._require()
        if self.hold_finish is not None:
            await self.hold_finish.wait()
        file = self.files.get(message_id)
        if file is None or file.state in (MediaState.STORED, MediaState.REMOVED):
            return False
        file.state, file.error, file.leased_until = result.state, result.error, 0.0
        file.due = result.retry_at or 0.0
        file.direct_path = result.direct_path or file.direct_path
        if result.state is MediaState.STORED:
            file.blob, file.stored_at = result.blob_sha256, self.clock()
        self.finished.append((message_id, result))
        if self.on_finish is not None:
            self.on_finish(message_id, result)
        return True

    async def media_to_expire(self, before: float, limit: int) -> list[MediaRow]:
        self._require()
        return [
            MediaRow(
                connection=NAME,
                message_id=number,
                kind="image",
                mimetype=None,
                name=None,
                size=None,
                sha256=b"",
                state=file.state,
                attempts=file.attempts,
                next_attempt_at=None,
                blob_sha256=file.blob,
                blob_size=None,
                error=None,
                stored_at=dt.datetime.fromtimestamp(file.stored_at, dt.UTC),
            )
            for number, file in self.files.items()
            if file.state is MediaState.STORED and file.stored_at < before
        ][:limit]

    async def blob_users(self, blob_sha256: bytes) -> int:
        self._require()
        return sum(
            file.blob == blob_sha256 and file.state is MediaState.STORED
            for file in self.files.values()
        )

    async def forget_media(self, connection: str, message_id: int) -> bool:
        self._require()
        file = self.files[message_id]
        stored, file.state = file.state is MediaState.STORED, MediaState.REMOVED
        return stored

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        self._require()
        for number, file in self.files.items():
            if file.external_id == external_id and chat in (None, file.chat):
                return StoredMessage(
                    id=number,
                    connection=NAME,
                    conversation=1,
                    chat=file.chat,
                    chat_alt=None,
                    direct=True,
                    senders=(file.sender,),
                    from_me=False,
                    external_id=external_id,
                    kind="image",
                    state="stored",
                    lane="live",
                    text=None,
                    raw=file.raw,
                    target_id=None,
                    target_author=None,
                    quoted_id=None,
                    quoted_author=None,
                    mentions=(),
                    flags=(),
                    detail={},
                    sent_at=dt.datetime.fromtimestamp(0, dt.UTC),
                )
        return None
