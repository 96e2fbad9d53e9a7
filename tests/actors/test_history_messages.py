"""What the messages of a chunk become: rows as live deliveries would have made them."""

import typing as t

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.history_facts import chunk_facts
from actors.history_messages import Chat, chat_of, facts_of, messages_of
from storage.api import ChatKind, Lane, ReceivedMessage
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Delivery,
    DeliveryStatus,
    GroupChange,
    GroupMember,
    NameSource,
)
from whatsapp import compose
from whatsapp.addons import option_hash
from whatsapp.content import TargetKey, read_content
from whatsapp.errors import RemoteProtocolError
from whatsapp.history import (
    FOREVER,
    HistoryConversation,
    InlineContact,
    Member,
    build_history,
    read_history,
)
from whatsapp.jid import Jid
from whatsapp.peer import build_protocol
from whatsapp.web_message import (
    AttachedMessage,
    AttachedReaction,
    AttachedVote,
    HistoryMessage,
    UserReceipt,
    read_web_message,
)

NOW: t.Final = 1_790_000_000.0
SENT: t.Final = 1_780_000_000
OWN = (Jid.parse("15550009999@s.whatsapp.net"), Jid.parse("900900@lid"))
CUSTOMER = "15550001111@s.whatsapp.net"
LID = "77@lid"
GROUP = "120363000000000001@g.us"
DIRECT = Chat(jid=Jid.parse(CUSTOMER), alt=Jid.parse(LID))
CROWD = Chat(jid=Jid.parse(GROUP))


def message(chat: str = CUSTOMER, **changes: t.Any) -> HistoryMessage:
    made = HistoryMessage(
        key=TargetKey(remote_jid=chat, id="3EB0"),
        participant=CUSTOMER if chat == GROUP else None,
        timestamp=SENT,
        push_name="Ana",
        message=compose.text("hello"),
    )
    return attrs.evolve(made, **changes)


def stub(name: str, *parameters: str, chat: str = GROUP, **changes: t.Any) -> HistoryMessage:
    return message(chat, message=b"", stub=name, stub_parameters=parameters, **changes)


def mine(chat: str = CUSTOMER) -> TargetKey:
    return TargetKey(remote_jid=chat, from_me=True, id="3EB0")


def only(chat: Chat, item: HistoryMessage) -> ReceivedMessage:
    [row] = messages_of(chat, item, OWN)
    return row


# ---- messages


def test_a_text_of_a_customer() -> None:
    """Both addresses of the person, the time and the name come from history."""
    row = only(DIRECT, message())
    assert (row.chat, row.chat_alt, row.chat_kind) == (CUSTOMER, LID, ChatKind.DIRECT)
    assert (row.sender, row.sender_alt, row.sender_name) == (CUSTOMER, LID, "Ana")
    assert (row.kind, row.text, row.sent_at, row.lane) == ("text", "hello", SENT, Lane.HISTORY)
    assert (row.external_id, row.from_me) == ("3EB0", False)


def test_a_text_of_the_team() -> None:
    """What was sent from the phone belongs to the account, in the customer's chat."""
    row = only(DIRECT, message(key=mine()))
    assert (row.from_me, row.sender, row.sender_alt) == (True, str(OWN[0]), str(OWN[1]))
    assert row.chat == CUSTOMER


def test_a_text_in_a_group() -> None:
    """The author is the participant; a message without one cannot be placed."""
    row = only(CROWD, message(GROUP))
    assert (row.chat, row.chat_kind, row.sender) == (GROUP, ChatKind.GROUP, CUSTOMER)
    with pytest.raises(RemoteProtocolError):
        messages_of(CROWD, message(GROUP, participant=None), OWN)
    with pytest.raises(RemoteProtocolError):
        messages_of(CROWD, message(GROUP, participant="nobody"), OWN)


def test_chats_know_both_addresses() -> None:
    """A chat under a LID has the number beside it, and the other way round."""
    number, lid = Jid.parse(CUSTOMER), Jid.parse(LID)
    by_lid = HistoryConversation(chat=LID, number="15550001111:3@s.whatsapp.net")
    assert chat_of(by_lid) == Chat(jid=lid, alt=number)
    assert chat_of(HistoryConversation(chat=CUSTOMER, lid=LID)) == Chat(jid=number, alt=lid)
    assert chat_of(HistoryConversation(chat=CUSTOMER, lid="nonsense")) == Chat(jid=number)
    assert chat_of(HistoryConversation(chat=GROUP, lid=LID)) == CROWD
    for nothing in ("", "@", "s.whatsapp.net", "a:b@lid"):
        with pytest.raises(RemoteProtocolError):
            chat_of(HistoryConversation(chat=nothing))


def test_what_serves_the_protocol_makes_no_row() -> None:
    """Key exchanges and the like are not shown."""
    assert messages_of(DIRECT, message(message=build_protocol(9)), OWN) == ()


def test_what_is_not_understood_is_kept() -> None:
    """Unreadable bytes are unknown messages with every byte; so is an entry of nothing."""
    row = only(DIRECT, message(message=b"\xff\xff"))
    assert (row.kind, row.raw) == ("unknown", b"\xff\xff")
    assert only(DIRECT, message(message=b"")).kind == "unknown"


# ---- lines that nobody wrote


@pytest.mark.parametrize(
    ("item", "detail", "text"),
    [
        (stub("group_create", "Team"), {"action": "create"}, "Team"),
        (stub("group_change_subject", "New @ name"), {"action": "subject"}, "New @ name"),
        (stub("group_change_announce", "on"), {"action": "announce", "on": True}, None),
        (stub("group_change_restrict", "off"), {"action": "locked", "on": False}, None),
        (
            stub("group_participant_add", CUSTOMER, LID),
            {"action": "add", "people": [CUSTOMER, LID]},
            None,
        ),
        (
            stub("group_participant_leave", "15550001111:4@s.whatsapp.net"),
            {"action": "leave", "people": [CUSTOMER]},
            None,
        ),
        (
            stub("change_ephemeral_setting", "86400"),
            {"action": "ephemeral", "expiration": 86_400},
            None,
        ),
        (
            stub("stub_999", "what", "ever"),
            {"action": "stub_999", "parameters": ["what", "ever"]},
            None,
        ),
    ],
)
def test_changes_of_a_group(
    item: HistoryMessage, detail: dict[str, t.Any], text: str | None
) -> None:
    """They read as live changes do, under the id that the live change has."""
    row = only(CROWD, item)
    assert (row.kind, row.detail, row.text) == ("system", detail, text)
    assert (row.external_id, row.lane, row.sender) == ("system-3EB0-0", Lane.HISTORY, CUSTOMER)


def test_a_change_by_nobody_is_the_groups() -> None:
    """A line without an author belongs to the chat itself."""
    assert only(CROWD, stub("group_delete", participant=None)).sender == GROUP


@pytest.mark.parametrize(
    ("name", "video"), [("call_missed_voice", False), ("call_missed_group_video", True)]
)
def test_missed_calls(name: str, video: bool) -> None:
    """A missed call has the id under which its end is stored live."""
    row = only(DIRECT, stub(name, chat=CUSTOMER))
    assert (row.kind, row.external_id) == ("call", "call-end-3EB0")
    assert row.detail == {"event": "missed", "call_id": "3EB0", "video": video}


@pytest.mark.parametrize("name", ["e2e_encrypted", "stub_10", "stub_66", "stub_99", "stub_200"])
def test_noise_is_not_shown(name: str) -> None:
    """Lines about encryption and kinds of business are no part of a conversation."""
    assert messages_of(DIRECT, stub(name, chat=CUSTOMER), OWN) == ()


def test_what_the_phone_could_not_read_is_a_placeholder() -> None:
    """It waits for its message like any other placeholder."""
    row = only(DIRECT, stub("ciphertext", chat=CUSTOMER))
    assert (row.kind, row.external_id) == ("undecryptable", "3EB0")
    assert row.reason is not None


def test_a_deleted_message_is_a_deletion() -> None:
    """The deletion is a row of its own: content that is here already stays."""
    row = only(DIRECT, stub("revoke", chat=CUSTOMER, revoked_at=SENT + 5))
    assert (row.kind, row.lane, row.external_id) == ("revoke", Lane.SIDE, "revoke-3EB0")
    assert (row.target_id, row.target_author, row.sender) == ("3EB0", CUSTOMER, CUSTOMER)
    assert row.sent_at == SENT + 5
    own = only(DIRECT, stub("revoke", chat=CUSTOMER, key=mine()))
    assert (own.from_me, own.target_author) == (True, str(OWN[0]))
    assert messages_of(DIRECT, stub("revoke", key=TargetKey(id="")), OWN) == ()


def test_an_admin_deletes_what_others_wrote() -> None:
    """The author of the message and the one of the deletion differ."""
    other = "15550002222@s.whatsapp.net"
    row = only(CROWD, stub("admin_revoke", other))
    assert (row.sender, row.target_author, row.from_me) == (other, CUSTOMER, False)
    by_us = only(CROWD, stub("admin_revoke", str(OWN[1])))
    assert (by_us.sender, by_us.target_author, by_us.from_me) == (str(OWN[0]), CUSTOMER, True)
    unknown = only(CROWD, stub("admin_revoke"))
    assert (unknown.sender, unknown.target_author) == (GROUP, CUSTOMER)


def test_a_view_once_message_that_was_viewed() -> None:
    """That there was one is told, under its id."""
    row = only(DIRECT, stub("viewed_once", chat=CUSTOMER))
    assert (row.kind, row.external_id) == ("view_once", "3EB0")


# ---- what hangs on a message


def test_reactions_are_rows_of_their_authors() -> None:
    """Each reaction reads as it would have live: author, target, and the time it was given."""
    theirs = AttachedReaction(
        key=TargetKey(remote_jid=CUSTOMER, id="R1"), text="👍", sent_at_ms=(SENT + 9) * 1000
    )
    ours = AttachedReaction(
        key=TargetKey(remote_jid=CUSTOMER, from_me=True, id="R2"), text="", sent_at_ms=0
    )
    _main, first, second = messages_of(DIRECT, message(reactions=(theirs, ours)), OWN)
    assert (first.kind, first.text, first.external_id) == ("reaction", "👍", "R1")
    assert (first.sender, first.sent_at, first.lane) == (CUSTOMER, SENT + 9, Lane.SIDE)
    assert (first.target_id, first.target_author) == ("3EB0", CUSTOMER)
    assert (second.from_me, second.target_author, second.sent_at) == (True, CUSTOMER, SENT)
    assert second.sender_name is None


@pytest.mark.parametrize("from_me", [False, True])
def test_reactions_name_the_author_of_their_target(from_me: bool) -> None:
    """Whoever wrote and whoever reacts, the target's author comes out, in groups too."""
    for reactor in (LID, CUSTOMER, None):
        reaction = AttachedReaction(
            key=TargetKey(remote_jid=GROUP, from_me=reactor is None, id="R", participant=reactor),
            text="👍",
        )
        key = TargetKey(remote_jid=GROUP, from_me=from_me, id="3EB0")
        item = message(GROUP, key=key, reactions=(reaction,))
        _main, row = messages_of(CROWD, item, OWN)
        assert row.target_author == (str(OWN[0]) if from_me else CUSTOMER)
        assert row.raw == compose.reaction(
            read_content(row.raw).target or TargetKey(id=""), "👍", SENT * 1000
        )


def test_an_answer_never_takes_the_id_of_its_message() -> None:
    """A phone that writes the message's own key into a reaction loses neither of the two."""
    reaction = AttachedReaction(key=TargetKey(remote_jid=CUSTOMER, id="3EB0"), text="👍")
    main, row = messages_of(DIRECT, message(reactions=(reaction,)), OWN)
    assert (main.external_id, row.external_id) == ("3EB0", "answer-3EB0")


def test_votes_are_read_with_the_polls_options() -> None:
    """A vote in history is a row as the live vote would be, opened already."""
    poll = compose.poll("lunch?", ["yes", "no"], selectable=1, secret=b"\x07" * 32)
    vote = AttachedVote(
        key=TargetKey(remote_jid=GROUP, id="V1", participant=LID),
        options=(option_hash(b"yes"),),
        sent_at_ms=(SENT + 3) * 1000,
    )
    _main, row = messages_of(CROWD, message(GROUP, message=poll, votes=(vote,)), OWN)
    assert (row.kind, row.sender, row.target_id) == ("poll_vote", LID, "3EB0")
    assert row.detail["options"] == ["yes"]
    assert read_content(row.raw).kind == "poll_vote"
    without_secret = message(GROUP, message=compose.text("no poll"), votes=(vote,))
    assert len(messages_of(CROWD, without_secret, OWN)) == 1


def test_other_answers_come_whole() -> None:
    """A message attached to another one is read like any message."""
    edit = compose.edit(TargetKey(remote_jid=CUSTOMER, from_me=True, id="3EB0"), "hullo", 5)
    attached = AttachedMessage(key=TargetKey(remote_jid=CUSTOMER, id="E1"), message=edit)
    keys = AttachedMessage(key=TargetKey(remote_jid=CUSTOMER, id="E2"), message=build_protocol(9))
    _main, row = messages_of(DIRECT, message(attached=(attached, keys)), OWN)
    assert (row.kind, row.text, row.target_id) == ("edit", "hullo", "3EB0")
    nobody = AttachedMessage(key=TargetKey(remote_jid=GROUP, id="E1"), message=edit)
    assert len(messages_of(CROWD, message(GROUP, attached=(nobody,)), OWN)) == 1


# ---- facts of messages


def test_receipts_of_ours() -> None:
    """Every recipient's receipts count, with their own times; ours do not."""
    item = message(
        GROUP,
        key=mine(GROUP),
        receipts=(
            UserReceipt(user=CUSTOMER, delivered_at=SENT + 1, read_at=SENT + 2),
            UserReceipt(user=str(OWN[1]), read_at=SENT + 1),
            UserReceipt(user="nobody", read_at=SENT + 1),
        ),
    )
    facts = [fact for fact in facts_of(CROWD, item, OWN, NOW) if isinstance(fact, Delivery)]
    assert [(fact.recipient, fact.status, fact.at) for fact in facts] == [
        (CUSTOMER, DeliveryStatus.DELIVERED, SENT + 1),
        (CUSTOMER, DeliveryStatus.READ, SENT + 2),
    ]
    assert {(fact.chat, fact.direct, fact.ids) for fact in facts} == {(GROUP, False, ("3EB0",))}


def test_a_status_without_times_is_known_by_now() -> None:
    """Of a chat of two the status alone says who got it, at the latest now."""
    [fact] = facts_of(DIRECT, message(key=mine(), status="read"), OWN, NOW)
    assert isinstance(fact, Delivery)
    assert (fact.recipient, fact.status, fact.at) == (CUSTOMER, DeliveryStatus.READ, NOW)
    for item in (
        message(key=mine(), status="server_ack"),
        message(status="read"),
        message(GROUP, key=mine(GROUP), status="read"),
    ):
        assert facts_of(CROWD if item.participant else DIRECT, item, OWN, NOW) == ()


def test_verified_names_of_businesses() -> None:
    """A verified name belongs to the author of the message."""
    [fact] = facts_of(DIRECT, message(business_name="Ana Ltd"), OWN, NOW)
    assert fact == ContactName(
        address=CUSTOMER, source=NameSource.BUSINESS, name="Ana Ltd", at=SENT
    )


# ---- facts of chunks


def test_what_a_chunk_says_besides_messages() -> None:
    """Pairs come before the names that need them; settings give way to dated ones."""
    chunk = read_history(
        build_history(
            sync_type="recent",
            push_names=[(CUSTOMER, "Ana"), ("nobody", "x"), (GROUP, "x"), (CUSTOMER, "")],
            address_pairs=[(CUSTOMER, LID), (LID, CUSTOMER), (CUSTOMER, CUSTOMER), ("x", "y")],
            contacts=[InlineContact(lid="78@lid", first_name="Bia", username="bia")],
            conversations=[
                HistoryConversation(
                    chat="79@lid",
                    number="15550003333@s.whatsapp.net",
                    name="Caio",
                    archived=True,
                    pinned_at=SENT,
                    muted_until=FOREVER,
                    unread=0,
                    last_message_at=SENT,
                    expiration=86_400,
                    expiration_at=SENT,
                ),
                HistoryConversation(
                    chat=GROUP,
                    name="Team",
                    conversation_at=SENT,
                    members=(Member(address=LID, role="admin"), Member(address="x", role="member")),
                ),
                HistoryConversation(chat="status@broadcast", name="x", archived=True),
                HistoryConversation(chat="nonsense@", archived=True),
                HistoryConversation(chat=CUSTOMER),
            ],
        )
    )
    assert list(chunk_facts(chunk, NOW)) == [
        AddressPair(CUSTOMER, LID, "history"),
        AddressPair(CUSTOMER, LID, "history"),
        AddressPair("15550003333@s.whatsapp.net", "79@lid", "history"),
        ContactName(address=CUSTOMER, source=NameSource.PUSH, name="Ana", at=0.0),
        ContactName(address="78@lid", source=NameSource.SAVED, name="Bia", at=0.0),
        ContactName(address="78@lid", source=NameSource.USERNAME, name="bia", at=0.0),
        ContactName(address="79@lid", source=NameSource.SAVED, name="Caio", at=0.0),
        ChatSettings(chat="79@lid", direct=True, at=float(SENT), expiration=86_400),
        ChatSettings(
            chat="79@lid",
            direct=True,
            at=0.0,
            archived=True,
            muted_until=-1.0,
            pinned=True,
            read_until=float(SENT),
        ),
        GroupChange(
            group=GROUP,
            at=float(SENT),
            subject="Team",
            joined=(GroupMember(address=LID, role="admin"),),
        ),
    ]


def test_absurd_times_do_not_reach_the_database() -> None:
    """No fact of a chunk is from the future."""
    chunk = read_history(
        build_history(
            sync_type="recent",
            conversations=[
                HistoryConversation(
                    chat=GROUP,
                    name="x",
                    conversation_at=2**63,
                    muted_until=10**11,
                    unread=0,
                    last_message_at=2**63,
                    expiration=1,
                    expiration_at=2**62,
                )
            ],
        )
    )
    change, expiration, chat = chunk_facts(chunk, NOW)
    assert isinstance(change, GroupChange)
    assert isinstance(expiration, ChatSettings)
    assert isinstance(chat, ChatSettings)
    assert (change.at, expiration.at, chat.read_until) == (NOW, NOW, NOW)
    assert chat.muted_until == -1.0


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_message_becomes_rows_or_the_peers_error(data: bytes) -> None:
    """Nothing but RemoteProtocolError comes out of what a phone writes."""
    for raw in (data, b"\x0a\x02\x1a\x00" + data):
        for chat in (DIRECT, CROWD):
            try:
                item = read_web_message(raw)
                messages_of(chat, item, OWN)
                facts_of(chat, item, OWN, NOW)
            except RemoteProtocolError:
                continue


@given(
    timestamp=st.integers(0, 2**64 - 1),
    sent_at_ms=st.integers(-(2**63), 2**63 - 1),
    name=st.sampled_from(["", "R", "3EB0"]),
)
@settings(max_examples=100, deadline=None)
def test_absurd_times_of_answers(timestamp: int, sent_at_ms: int, name: str) -> None:
    """Whatever time a phone writes, the rows can be made."""
    key = TargetKey(remote_jid=CUSTOMER, id=name)
    poll = compose.poll("lunch?", ["yes", "no"], selectable=1, secret=b"\x07" * 32)
    item = message(
        timestamp=timestamp,
        message=poll,
        reactions=(AttachedReaction(key=key, text="👍", sent_at_ms=sent_at_ms),),
        votes=(AttachedVote(key=key, options=(), sent_at_ms=sent_at_ms),),
    )
    assert len(messages_of(DIRECT, item, OWN)) == 3
