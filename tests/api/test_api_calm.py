"""Front ends come, stall, flood and vanish; messages are stored all the same."""

import contextlib
import typing as t

import trio

from actors.messages import Commit, Settled
from actors.writer import Writer, WriterSettings
from actors.writer_inbox import writer_inbox
from storage.api import ChatKind, ConversationRules, Envelope, ReceivedMessage, Verdict
from storage.memory import MemoryStorage
from tests.api.conftest import Served
from tests.daemon.daemon_fakes import ANA, NOON

STALLED: t.Final = 60  # of each kind
FLOODING: t.Final = 10
MESSAGES: t.Final = 50
ROUNDS: t.Final = 4  # answers that each flooder may have got while one message is stored
GET: t.Final = b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n"


def message(number: int) -> Envelope:
    """A customer's text."""
    received = ReceivedMessage(
        chat=ANA,
        chat_kind=ChatKind.DIRECT,
        sender=ANA,
        from_me=False,
        external_id=f"A{number}",
        kind="text",
        text="olá",
        sent_at=int(NOON.timestamp()),
        raw=b"raw",
    )
    return Envelope(connection="sales", message=received)


async def test_messages_flow_whatever_clients_do(served: Served) -> None:
    """While some are silent, some half way through a request, some read nothing, and some ask as
    fast as they can or leave without a word, each message is stored after a bounded number of
    steps of the others. (Steps, not seconds: those are the machine's.)"""
    storage = MemoryStorage(NOON.timestamp)
    await storage.ensure_connection("sales", ConversationRules())
    inbox = writer_inbox(1000)
    writer = Writer(storage, inbox, WriterSettings(), uniform=lambda: 0.5)
    reply, settled = trio.open_memory_channel[Settled](MESSAGES)
    answered = 0
    stalled: list[trio.SocketStream] = []

    async def connect() -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", served.port)

    async def flood() -> None:
        nonlocal answered
        while True:
            async with await connect() as stream:
                for _ in range(5):
                    await stream.send_all(GET)
                    await stream.receive_some()
                    answered += 1
                await stream.send_all(GET)  # and leave

    async with trio.open_nursery() as nursery:
        for sent in (
            b"",
            GET[:20],
            b"POST /session HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n",
        ):
            for _ in range(STALLED):
                stream = await connect()
                stalled.append(stream)
                await stream.send_all(sent)
        for _ in range(FLOODING):
            nursery.start_soon(flood)
        await nursery.start(writer.run)
        while answered < FLOODING:
            await trio.sleep(0.01)
        for number in range(MESSAGES):
            before = answered
            inbox.post_nowait(Commit(message(number), number, reply))
            answer = await settled.receive()
            assert answer.outcome is not None
            assert answer.outcome.verdict == Verdict.STORED
            assert answered - before <= ROUNDS * FLOODING
        assert answered > FLOODING, "nobody flooded"
        nursery.cancel_scope.cancel()
    with contextlib.suppress(trio.BrokenResourceError):
        for stream in stalled:
            await stream.aclose()
    assert len(await storage.list_messages("sales", after=0, limit=100)) == MESSAGES
