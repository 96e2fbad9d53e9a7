"""Chunks of history: what the phone writes is what is read, whatever it writes."""

import zlib

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import compose
from whatsapp.content import TargetKey, message_secret, read_content
from whatsapp.errors import RemoteProtocolError
from whatsapp.history import (
    FOREVER,
    HistoryChunk,
    HistoryConversation,
    InlineContact,
    Member,
    build_history,
    build_notification,
    deflate,
    inflate,
    parse_notification,
    read_history,
    read_notification,
)
from whatsapp.media_source import MediaSource
from whatsapp.protobuf_fields import length_delimited, walk
from whatsapp.web_message import (
    AttachedMessage,
    AttachedReaction,
    AttachedVote,
    HistoryMessage,
    UserReceipt,
    build_web_message,
    read_web_message,
)

CUSTOMER = "15550001111@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
SECRET = b"\x05" * 32


def message(number: int, **changes: object) -> HistoryMessage:
    """A text of the customer; the higher the number, the newer."""
    text = HistoryMessage(
        key=TargetKey(remote_jid=CUSTOMER, id=f"3EB0{number:04}"),
        timestamp=1_790_000_000 + number,
        push_name="Ana",
        message=compose.text(f"text {number}"),
        order=number,
    )
    return attrs.evolve(text, **changes)  # type: ignore[arg-type]


def chunk_of(**parts: object) -> HistoryChunk:
    return read_history(build_history(sync_type="recent", **parts))  # type: ignore[arg-type]


# ---- the offer


def test_an_offer_tells_where_the_chunk_lies() -> None:
    """What the phone announces is read, from the whole message and from the stored part of it."""
    source = MediaSource(
        kind="history",
        media_key=b"\x01" * 32,
        direct_path="/v/t62/file?ccb=1",
        sha256=b"\x02" * 32,
        enc_sha256=b"\x03" * 32,
        length=77,
    )
    raw = build_notification(
        sync_type="on_demand", chunk_order=3, progress=41, source=source, request_id="3EB0AA"
    )
    offer = read_notification(raw)
    assert (offer.sync_type, offer.chunk_order, offer.progress) == ("on_demand", 3, 41)
    assert (offer.source, offer.inline, offer.request_id) == (source, None, "3EB0AA")
    assert parse_notification(offer.fields) == offer


def test_an_offer_may_hold_the_chunk() -> None:
    """Small chunks come inside the offer."""
    offer = read_notification(build_notification(sync_type="initial_bootstrap", inline=b"zlib"))
    assert (offer.source, offer.inline) == (None, b"zlib")


def test_secrets_do_not_show() -> None:
    """The text form of an offer has neither keys nor places."""
    source = MediaSource(kind="history", media_key=b"sesame", direct_path="/treasure")
    offer = read_notification(
        build_notification(sync_type="full", source=source, inline=b"precious")
    )
    for secret in ("sesame", "treasure", "precious"):
        assert secret not in repr(offer)


@pytest.mark.parametrize("raw", [b"", compose.text("hello"), b"\x62\x02\x08\x05", b"\xff"])
def test_other_messages_are_no_offer(raw: bytes) -> None:
    """A message without an offer is refused."""
    with pytest.raises(RemoteProtocolError):
        read_notification(raw)


# ---- compression


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_payloads_inflate_in_pieces(pieces: int) -> None:
    """A payload comes out whole, in however many pieces it comes in."""
    payload = bytes(range(256)) * 3000
    packed = deflate(payload)
    size = -(-len(packed) // pieces)
    parts = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert inflate(parts) == payload
    assert inflate(packed) == payload


def test_a_bomb_is_stopped_at_the_limit() -> None:
    """What inflates beyond the limit is refused, and no claim about its size is asked."""
    bomb = zlib.compress(bytes(64 * 1024 * 1024))
    with pytest.raises(RemoteProtocolError, match="more than 1048576 bytes"):
        inflate(bomb, limit=1024 * 1024)
    assert len(inflate(zlib.compress(bytes(1000)), limit=1000)) == 1000
    with pytest.raises(RemoteProtocolError):
        inflate(zlib.compress(bytes(1001)), limit=1000)


@pytest.mark.parametrize("packed", [b"", b"no zlib", zlib.compress(b"hello" * 99)[:-5]])
def test_broken_payloads_are_refused(packed: bytes) -> None:
    """Nothing, something else, and half of a payload are the peer's errors."""
    with pytest.raises(RemoteProtocolError):
        inflate(packed)


# ---- the chunk


def test_a_conversation_comes_back_as_it_was() -> None:
    """Settings, people and messages of a chat are read as they were written."""
    written = HistoryConversation(
        chat=GROUP,
        name="Customers",
        description="all of them",
        last_message_at=1_790_000_003,
        conversation_at=1_790_000_004,
        created_at=1_780_000_000,
        created_by=CUSTOMER,
        members=(
            Member(address=CUSTOMER, role="superadmin"),
            Member(address="7@lid", role="member"),
        ),
        archived=False,
        pinned_at=0,
        muted_until=FOREVER,
        marked_unread=True,
        unread=4,
        expiration=86_400,
        expiration_at=1_785_000_000,
        end=1,
    )
    messages = [message(number) for number in (3, 2, 1)]
    [read] = chunk_of(conversations=[attrs.evolve(written, messages=messages)]).conversations
    assert attrs.evolve(read, messages=()) == written
    assert list(read.messages) == messages
    assert read.messages[1:] == tuple(messages[1:])
    assert [read.messages[index].order for index in read.oldest_first()] == [1, 2, 3]


def test_what_is_not_told_is_none() -> None:
    """A chat without settings has none, rather than all of them off."""
    [read] = chunk_of(conversations=[HistoryConversation(chat=CUSTOMER)]).conversations
    assert attrs.evolve(read, messages=()) == HistoryConversation(chat=CUSTOMER)
    assert len(read.messages) == 0


def test_milliseconds_and_seconds_mute_alike() -> None:
    """The end of a mute is in seconds, whichever the phone wrote."""
    conversations = [
        HistoryConversation(chat=CUSTOMER, muted_until=until)
        for until in (1_790_000_000, 1_790_000_000_000, 0)
    ]
    read = chunk_of(conversations=conversations).conversations
    assert [item.muted_until for item in read] == [1_790_000_000, 1_790_000_000, 0]


def test_the_other_parts_of_a_chunk() -> None:
    """Names, address pairs, contacts and statuses come along with conversations, or alone."""
    contact = InlineContact(number=CUSTOMER, lid="7@lid", full_name="Ana Silva", username="ana")
    chunk = chunk_of(
        push_names=[(CUSTOMER, "Ana")],
        address_pairs=[(CUSTOMER, "7@lid")],
        contacts=[contact],
        status_messages=[message(1, order=None)],
        conversations=[HistoryConversation(chat=CUSTOMER, messages=[message(2)])],
        chunk_order=5,
        progress=100,
    )
    assert chunk.push_names == ((CUSTOMER, "Ana"),)
    assert chunk.address_pairs == ((CUSTOMER, "7@lid"),)
    assert chunk.contacts == (contact,)
    assert list(chunk.status_messages) == [message(1, order=None)]
    assert (chunk.sync_type, chunk.chunk_order, chunk.progress) == ("recent", 5, 100)
    assert chunk.total == 2


def test_one_broken_message_spoils_no_other() -> None:
    """A message that cannot be read raises by itself; its bytes are at hand."""
    good = build_history(
        sync_type="full",
        conversations=[HistoryConversation(chat=CUSTOMER, messages=[message(1)])],
    )
    [field] = [item for item in walk(good) if item.number == 2]
    broken = length_delimited(2, b"\x0a\x02\x0a\xff")
    data = length_delimited(2, good[field.begin : field.end] + broken)
    [conversation] = read_history(data).conversations
    assert conversation.messages[0] == message(1)
    with pytest.raises(RemoteProtocolError):
        conversation.messages[1]
    assert conversation.messages.raw(1) == b"\x0a\x02\x0a\xff"  # type: ignore[attr-defined]
    assert list(conversation.oldest_first()) == [1, 0]


def test_conversations_that_come_oldest_first_are_recognised() -> None:
    """The order of the two ends decides; the explicit order where the times are equal."""
    same = {"timestamp": 1_790_000_000}
    cases = [
        ([message(1), message(2)], [0, 1]),
        ([message(2), message(1)], [1, 0]),
        ([message(1, **same), message(2, **same)], [0, 1]),
        ([message(2, **same), message(1, **same)], [1, 0]),
        ([message(1, order=None, **same), message(2, order=None, **same)], [1, 0]),
        ([message(1)], [0]),
    ]
    for messages, order in cases:
        [read] = chunk_of(
            conversations=[HistoryConversation(chat=CUSTOMER, messages=messages)]
        ).conversations
        assert list(read.oldest_first()) == order


# ---- one message


def test_a_message_comes_back_with_all_that_is_attached() -> None:
    """Author, receipts, reactions, votes and other answers are read."""
    written = HistoryMessage(
        key=TargetKey(remote_jid=GROUP, from_me=True, id="3EB0", participant="7@lid"),
        participant="7@lid",
        timestamp=1_790_000_000,
        message=compose.text("hello"),
        business_name="Ana Ltd",
        status="read",
        starred=True,
        receipts=(UserReceipt(user=CUSTOMER, delivered_at=1, read_at=2),),
        reactions=(
            AttachedReaction(
                key=TargetKey(remote_jid=GROUP, id="R1", participant=CUSTOMER),
                text="👍",
                sent_at_ms=5,
            ),
        ),
        votes=(
            AttachedVote(
                key=TargetKey(remote_jid=GROUP, id="V1"), options=(b"\x01" * 32,), sent_at_ms=6
            ),
        ),
        attached=(
            AttachedMessage(
                key=TargetKey(remote_jid=GROUP, id="P1"), message=b"\x0a\x01x", sent_at_ms=7
            ),
        ),
    )
    assert read_web_message(build_web_message(written)) == written


def test_lines_that_nobody_wrote() -> None:
    """A stub has a name and parameters; unknown ones keep their number."""
    written = message(
        1, message=b"", stub="group_participant_add", stub_parameters=(CUSTOMER,), order=None
    )
    assert read_web_message(build_web_message(written)) == written
    unknown = message(1, message=b"", stub="stub_999", order=None)
    assert read_web_message(build_web_message(unknown)).stub == "stub_999"


def test_the_author_may_stand_beside_the_key() -> None:
    """In groups either place names the author."""
    written = message(1, participant=CUSTOMER, order=None)
    read = read_web_message(build_web_message(written))
    assert (read.key.participant, read.participant) == (None, CUSTOMER)


def test_the_secret_is_put_where_live_messages_have_it() -> None:
    """The secret beside a message takes the place of the one inside it; the text stays."""
    poll = compose.poll("lunch?", ["yes", "no"], selectable=1, secret=b"\x09" * 32)
    read = read_web_message(build_web_message(message(1, message=poll), secret=SECRET))
    assert message_secret(read.message) == SECRET
    assert read_content(read.message).kind == "poll"
    short = read_web_message(build_web_message(message(1, message=poll), secret=b"short"))
    assert short.message == poll


# ---- hostile bytes


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_chunk_or_the_peers_error(data: bytes) -> None:
    """Nothing but RemoteProtocolError comes out, down to the last message."""
    try:
        chunk = read_history(data)
    except RemoteProtocolError:
        return
    for conversation in chunk.conversations:
        assert len(conversation.oldest_first()) == len(conversation.messages)
        for index in range(len(conversation.messages)):
            try:
                assert conversation.messages[index].timestamp >= 0
            except RemoteProtocolError:
                continue


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_chunks_are_read_or_refused(data: st.DataObject) -> None:
    """One wrong byte anywhere in a chunk raises nothing else either."""
    whole = build_history(
        sync_type="recent",
        push_names=[(CUSTOMER, "Ana")],
        conversations=[
            HistoryConversation(chat=CUSTOMER, name="Ana", messages=[message(2), message(1)])
        ],
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255))
    damaged = whole[:at] + bytes([value]) + whole[at + 1 :]
    try:
        chunk = read_history(damaged)
        found = [item for conversation in chunk.conversations for item in conversation.messages]
    except RemoteProtocolError:
        return
    assert len(found) <= 2


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_an_offer_or_the_peers_error(data: bytes) -> None:
    """Offers, bare or wrapped, and single messages are as safe."""
    for read in (read_notification, parse_notification, read_web_message):
        try:
            read(data)
        except RemoteProtocolError:
            continue


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_fields_cover_the_bytes(data: bytes) -> None:
    """A walk gives every byte to one field, in order, or refuses."""
    try:
        fields = list(walk(data))
    except RemoteProtocolError:
        return
    assert [field.start for field in fields] == [0, *(field.end for field in fields[:-1])][
        : len(fields)
    ]
    assert not data or fields[-1].end == len(data)
