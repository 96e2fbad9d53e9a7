"""What was forgotten does not come back with an archive: record by record."""

import datetime as dt

from st_archive import fill, read
from st_helpers import CUSTOMER, CUSTOMER_LID, GROUP, NOW, OTHER, Clock

from storage.archive_records import (
    Address,
    Chat,
    Contact,
    Conversation,
    ConversationKey,
    Group,
    Member,
    Message,
    Name,
    Receipt,
    Record,
)
from storage.archive_sieve import ArchiveSieve
from storage.postgres import PostgresStorage
from storage.tombstones import Tombstones

THEN = dt.datetime.fromtimestamp(NOW, dt.UTC)
YOUNG = THEN + dt.timedelta(days=1)


def sieve_of(*addresses: str, at: float = NOW) -> ArchiveSieve:
    """Where these are forgotten."""
    stones = Tombstones(bytes(32))
    stones.bury("sales", addresses, at)
    return ArchiveSieve(stones)


def contact(*names: Name, created_at: dt.datetime = THEN) -> Contact:
    """The customer, with both addresses."""
    return Contact(
        connection="sales",
        is_self=False,
        created_at=created_at,
        addresses=tuple(
            Address(address=each, created_at=created_at) for each in (CUSTOMER_LID, CUSTOMER)
        ),
        names=names,
    )


def message(chat: str, sender: str | None, sent_at: dt.datetime, text: str = "hello") -> Message:
    return Message(
        connection="sales",
        chat_kind="group" if chat == GROUP else "direct",
        chat=chat,
        sender=sender,
        external_id="A1",
        kind="text",
        state="stored",
        from_me=sender is None,
        lane="history",
        remote_timestamp=0,
        sent_at=sent_at,
        received_at=sent_at,
        retries=0,
        text=text,
        raw=b"",
    )


CHAT = Chat(connection="sales", kind="direct", address=CUSTOMER_LID, created_at=THEN)


async def test_what_is_younger_is_taken(postgres: PostgresStorage, clock: Clock, dsn: str) -> None:
    """Nothing changes for those who were forgotten before all of it and have come back, nor for
    connections that forgot nobody."""
    await fill(postgres, clock)
    records = await read(dsn)
    young = sieve_of(CUSTOMER, CUSTOMER_LID, at=1.0)
    for hashed in young._stones._stones["sales"].values():
        hashed.returned = True
    for record in records:
        assert young.take("sales", record) == [record]
        assert sieve_of(CUSTOMER).take("support", record) == [record]
    assert young.left_out.total() == 0


def test_another_address_of_theirs_is_forgotten_too() -> None:
    """As the archive knows both as one person's; that is to be written down."""
    sieve = sieve_of(CUSTOMER)
    assert sieve.take("sales", contact()) == []
    assert sieve.take("sales", CHAT) == []
    assert sieve.take("sales", message(GROUP, CUSTOMER_LID, THEN)) == []
    assert sieve.take("sales", message(CUSTOMER_LID, None, THEN)) == []
    notes = sieve.take_notes()
    assert notes is not None
    assert notes["dropped"] == {"sales": 2}
    assert len(notes["joined"]) == 1
    assert sieve.take_notes() is None
    assert dict(sieve.left_out) == {"contact": 1, "chat": 1, "message": 2}


def test_who_writes_later_is_somebody_new() -> None:
    """With the contact and the chat of the archive, as of then, and names that are younger."""
    names = [
        Name(address=CUSTOMER, source=source, name=name, at=at)
        for source, name, at in [("push", "Ana", THEN), ("saved", "Ana S.", YOUNG)]
    ]
    sieve = sieve_of(CUSTOMER, CUSTOMER_LID)
    assert sieve.take("sales", contact(*names)) == []
    assert sieve.take("sales", CHAT) == []
    late = message(CUSTOMER_LID, CUSTOMER_LID, YOUNG)
    person, chat, kept = sieve.take("sales", late)
    assert isinstance(person, Contact)
    assert [each.name for each in person.names] == ["Ana S."]
    assert {person.created_at, *(each.created_at for each in person.addresses)} == {YOUNG}
    assert isinstance(chat, Chat)
    assert (chat.created_at, kept) == (YOUNG, late)
    assert sieve.take("sales", late) == [late]
    assert sieve.left_out.total() == 0
    notes = sieve.take_notes()
    assert notes is not None
    assert len(notes["returned"]) == 1


def test_a_conversation_that_went_on_needs_its_chat() -> None:
    """It is kept if its last message is younger."""
    sieve = sieve_of(CUSTOMER_LID)
    sieve.take("sales", contact())
    sieve.take("sales", CHAT)
    for last, expected in ((THEN, []), (YOUNG, [Contact, Chat, Conversation])):
        record = Conversation(
            connection="sales",
            chat_kind="direct",
            chat=CUSTOMER_LID,
            key=ConversationKey(opened_at=THEN),
            status="waiting",
            messages=2,
            last_message_at=last,
            reopened=0,
        )
        assert [type(each) for each in sieve.take("sales", record)] == expected


def test_members_owners_and_receipts() -> None:
    """Those who have not come back are in no list, however young it is."""
    members = tuple(
        Member(address=each, present=True, role="", at=YOUNG) for each in (CUSTOMER, OTHER)
    )
    group = Group(connection="sales", address=GROUP, owner=CUSTOMER, members=members)
    [kept] = sieve_of(CUSTOMER).take("sales", group)
    assert isinstance(kept, Group)
    assert (kept.owner, [each.address for each in kept.members]) == (None, [OTHER])
    receipt: Record = Receipt(
        connection="sales", external_id="A", chat=GROUP, recipient=CUSTOMER, read_at=YOUNG
    )
    assert sieve_of(CUSTOMER).take("sales", receipt) == []
    assert sieve_of(OTHER).take("sales", receipt) == [receipt]


def test_a_number_in_what_others_wrote_is_removed() -> None:
    """In older messages, wherever it stands in a longer one."""
    number = CUSTOMER.partition("@")[0]
    sieve = sieve_of(CUSTOMER)
    sieve.take("sales", contact())
    for at, expected in ((THEN, "call 00removed!"), (YOUNG, f"call 00{number}!")):
        [kept] = sieve.take("sales", message(GROUP, OTHER, at, f"call 00{number}!"))
        assert isinstance(kept, Message)
        assert kept.text == expected
