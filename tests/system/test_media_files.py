"""Files of messages against the simulator's media host, over TLS, with rows in a storage."""

import collections.abc as cabc
import os
import pathlib
import ssl
import typing as t

import attrs
import pytest
import trio

from actors.media import MediaKeeper, MediaSettings
from actors.media_http import HttpSettings, MediaHttp, MediaUnavailableError
from simulator import Settings, Simulator, open_simulator
from storage.api import ChatKind, ConversationRules, Envelope, MediaFile, ReceivedMessage
from storage.blobs import LocalBlobs
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from storage.queues import MediaRow
from whatsapp import media_retry as retry
from whatsapp.iq.media_conn import MediaConnection, MediaHost, media_conn_result
from whatsapp.jid import Jid
from whatsapp.media import MediaCorruptError
from whatsapp.media_source import MediaSource
from whatsapp.node import Node
from whatsapp.proto import wa_pb2

NAME: t.Final = "sales"
OWN: t.Final = Jid.parse("15559990000@s.whatsapp.net")
CUSTOMER: t.Final = "15550001111@s.whatsapp.net"
FILE: t.Final = bytes(range(256)) * 16_000  # 4 MB
LIMIT: t.Final = 64 << 20


class Line:
    """The line of a connection that the simulator's phone is behind."""

    name = NAME
    online = True

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.keeper: MediaKeeper | None = None
        self.sources: dict[str, MediaSource] = {}

    async def request(self, build: cabc.Callable[[str], Node], timeout: float = 30.0) -> Node:
        hosts = (MediaHost(name=self._simulator.media.host),)
        auth = self._simulator.media.auth
        granted = MediaConnection(hosts=hosts, auth=auth, ttl=300, auth_ttl=300)
        return media_conn_result(build("1"), granted)

    async def send(self, node: Node) -> None:
        """A request for a file that is gone: the phone uploads it again, and answers."""
        request = retry.parse_retry_receipt(node)
        source = self.sources[request.media.id]
        revived = self._simulator.media.revive(source.direct_path)
        assert revived is not None
        assert self.keeper is not None
        answer = retry.retry_notification(
            request,
            retry.RetryVerdict(result=retry.RetryResult.SUCCESS, direct_path=revived.direct_path),
            own=OWN,
            timestamp=1,
            media_key=source.media_key,
            iv=os.urandom(12),
        )
        self.keeper.media_answered(NAME, answer)

    async def send_peer(
        self, message: bytes, *, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        raise NotImplementedError


@attrs.frozen
class Office:
    """A keeper at work, and what is around it."""

    simulator: Simulator
    storage: MemoryStorage
    blobs: LocalBlobs
    http: MediaHttp
    line: Line
    keeper: MediaKeeper

    async def receive(self, external_id: str, source: MediaSource) -> int:
        """A customer's picture; the message's id."""
        image = wa_pb2.ImageMessage(
            direct_path=source.direct_path.encode(),
            media_key=source.media_key,
            file_sha256=source.sha256,
            file_enc_sha256=source.enc_sha256,
            file_length=source.length or 0,
        )
        self.line.sources[external_id] = source
        message = ReceivedMessage(
            chat=CUSTOMER,
            chat_kind=ChatKind.DIRECT,
            sender=CUSTOMER,
            from_me=False,
            external_id=external_id,
            kind="image",
            sent_at=1_790_000_000,
            raw=wa_pb2.Message(image_message=image).SerializeToString(),
            media=MediaFile(kind="image", size=source.length, sha256=source.sha256),
        )
        (outcome,) = await self.storage.apply([Envelope(connection=NAME, message=message)])
        assert outcome.message_id is not None
        self.keeper.wake()
        return outcome.message_id

    async def settled(self, message_id: int) -> MediaRow:
        """The row once it is not pending any more."""
        while True:
            row = await self.storage.media_file(message_id)
            assert row is not None
            if row.state != "pending":
                return row
            await trio.sleep(0.01)


def now() -> float:
    """Unix seconds, the same for the keeper and its rows."""
    return 1_790_000_000.0 + trio.current_time()


@pytest.fixture
async def office(tmp_path: pathlib.Path) -> cabc.AsyncIterator[Office]:
    """Everything runs, on real sockets; bounded by a deadline."""
    settings = Settings(media_file_limit=16 << 20)
    with trio.fail_after(60):
        async with (
            open_simulator(seed=1, listen=("127.0.0.1", 0), settings=settings) as simulator,
            trio.open_nursery() as nursery,
        ):
            trusted = tmp_path / "ca.pem"
            await trio.Path(trusted).write_text(simulator.certificate)
            line = Line(simulator)
            blobs = LocalBlobs(tmp_path / "media")
            http = MediaHttp(
                HttpSettings(spool=tmp_path / "media" / "tmp", ca_file=trusted),
                lines=lambda _name: line,
                random=os.urandom,
            )
            storage = MemoryStorage(now)
            await storage.ensure_connection(NAME, ConversationRules())
            line.keeper = keeper = MediaKeeper(
                storage,
                blobs,
                http,
                lines=lambda _name: line,
                own_address=lambda _name: OWN,
                settings=MediaSettings(),
                wall_clock=now,
                random=os.urandom,
                uniform=lambda: 0.5,
            )
            await blobs.prepare()
            await nursery.start(keeper.run)
            yield Office(simulator, storage, blobs, http, line, keeper)
            await http.aclose()
            nursery.cancel_scope.cancel()


async def test_a_picture_is_kept(office: Office) -> None:
    """From the message to the blob, verified."""
    source = office.simulator.media.put_sealed("image", FILE)
    row = await office.settled(await office.receive("3EB01", source))
    assert (row.state, row.blob_sha256, row.blob_size) == ("stored", source.sha256, len(FILE))
    pieces = [piece async for piece in office.blobs.open(source.sha256)]
    assert b"".join(pieces) == FILE


async def test_an_expired_picture_comes_from_the_phone(office: Office) -> None:
    """The servers have it no more; the phone uploads it again, and it is kept."""
    source = office.simulator.media.put_sealed("image", FILE)
    office.simulator.media.expire()
    row = await office.settled(await office.receive("3EB01", source))
    assert (row.state, row.blob_sha256) == ("stored", source.sha256)
    assert len(office.simulator.media) == 2


async def test_uploads_come_back(office: Office) -> None:
    """What we put there is what others fetch."""

    async def chunks() -> cabc.AsyncIterator[bytes]:
        for start in range(0, len(FILE), 100_000):
            yield FILE[start : start + 100_000]

    source = await office.http.upload(office.line, "document", chunks())
    assert await office.http.fetch_small(NAME, source, LIMIT) == FILE
    assert office.simulator.media.open(attrs.evolve(source, kind="document")) == FILE


async def test_a_download_may_end_in_the_middle(office: Office) -> None:
    """The file is longer than it may be, its consumer fails, or is cancelled: the socket goes,
    nothing else does, and the next download works."""
    source = office.simulator.media.put_sealed("image", FILE)

    async def fail(chunks: cabc.AsyncIterator[bytes]) -> t.NoReturn:
        await anext(chunks)
        raise StorageUnavailableError("no room left")

    async def hang(chunks: cabc.AsyncIterator[bytes]) -> t.NoReturn:
        await anext(chunks)
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(MediaCorruptError, match="more than"):
        await office.http.fetch_small(NAME, attrs.evolve(source, length=1_000_000), LIMIT)
    with pytest.raises(StorageUnavailableError):
        await office.http.fetch(source, fail, line=office.line, limit=LIMIT)
    with trio.move_on_after(0.2) as scope:
        await office.http.fetch(source, hang, line=office.line, limit=LIMIT)
    assert scope.cancelled_caught
    assert await office.http.fetch_small(NAME, source, LIMIT) == FILE


async def test_strangers_are_not_trusted(office: Office, tmp_path: pathlib.Path) -> None:
    """Without its certificate among the trusted ones, the host is not spoken to."""
    source = office.simulator.media.put_sealed("image", b"secret")
    http = MediaHttp(
        HttpSettings(spool=tmp_path), lines=lambda _name: office.line, random=os.urandom
    )
    with pytest.raises(MediaUnavailableError, match="ConnectError") as caught:
        await http.fetch_small(NAME, source, LIMIT)
    cause: BaseException | None = caught.value
    seen = []
    while cause is not None:
        seen.append(type(cause))
        cause = cause.__cause__ or cause.__context__
    assert any(issubclass(kind, ssl.SSLCertVerificationError) for kind in seen)
    await http.aclose()
