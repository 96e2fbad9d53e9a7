"""Answers of a NATS server, and of others on it who answer what is not meant for them."""

import pytest
import trio
import trio.testing

from actors.nats_link import NatsError, NatsLink, check_stored
from actors.nats_protocol import Message, NatsParser

INBOX = "_INBOX.x"


async def asked(said: bytes) -> list[Message]:
    """What comes of two questions when the server says this."""
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(said)
    return await NatsLink(ours, NatsParser(), INBOX).ask([("a", b"", {}), ("b", b"", {})])


def answer(number: str, text: str) -> bytes:
    return f"MSG {INBOX}.{number} 1 {len(text)}\r\n{text}\r\n".encode()


async def test_answers_find_their_questions(autojump_clock: trio.testing.MockClock) -> None:
    """In any order; what is no answer to a question of ours counts for none, and the first one
    counts."""
    noise = answer("7", "x") + answer("9" * 2000, "x") + answer("-1", "x")
    said = noise + answer("1", "second") + answer("1", "again") + answer("0", "first")
    assert [each.payload for each in await asked(said)] == [b"first", b"second"]


async def test_no_answer_is_one_kind_of_error(autojump_clock: trio.testing.MockClock) -> None:
    """Only foreign subjects came."""
    with pytest.raises(NatsError, match="no answer within"):
        await asked(answer("7", "x") + answer("x", "x") + answer("8" * 2000, "x"))


@pytest.mark.parametrize(
    "said", ["{}", '{"ok": true}', '{"stream": "EVENTS"}', '{"seq": 1}', "[]", "no JSON"]
)
def test_only_jetstream_confirms(said: str) -> None:
    """Another subscriber that replies does not make an event stored."""
    with pytest.raises(NatsError):
        check_stored(Message("x", said.encode()))


def test_what_jetstream_says() -> None:
    """Stored now, or before."""
    check_stored(Message("x", b'{"stream": "EVENTS", "seq": 5}'))
    check_stored(Message("x", b'{"stream": "EVENTS", "seq": 5, "duplicate": true}'))
