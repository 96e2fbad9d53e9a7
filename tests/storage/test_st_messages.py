"""What becomes of messages: identity, duplicates, placeholders, odd content."""

import attrs
import pytest
from st_helpers import (
    ACCOUNT,
    CUSTOMER,
    CUSTOMER_LID,
    GROUP,
    NOW,
    OTHER,
    Clock,
    Cluster,
    envelope,
    take,
)

from storage.api import Envelope, Lane, Storage, Verdict, handled_key
from storage.errors import StorageRejectedError
from storage.postgres import PostgresStorage

FAILED = {"kind": "undecryptable", "text": None, "raw": b""}


async def test_a_message_is_stored_once(storage: Storage) -> None:
    """A redelivery is a duplicate that names the first row."""
    first = await take(storage, "A1")
    again = await take(storage, "A1")
    assert (first.verdict, first.opened) == (Verdict.STORED, True)
    assert again.verdict is Verdict.DUPLICATE
    assert not again.opened
    assert (again.message_id, again.conversation_id) == (first.message_id, first.conversation_id)
    statistics = await storage.statistics()
    assert (statistics["messages"], statistics["duplicates"]) == (1, 1)


async def test_twice_in_one_batch(storage: Storage) -> None:
    """Of two alike in one batch, the first is stored and the second a duplicate of it."""
    first, second = await storage.apply([envelope("A1"), envelope("A1")])
    assert (first.verdict, second.verdict) == (Verdict.STORED, Verdict.DUPLICATE)
    assert second.message_id == first.message_id
    assert second.conversation_id == first.conversation_id


async def test_same_id_of_two_senders_is_two_messages(storage: Storage) -> None:
    """In a group, in two chats, and on two connections."""
    outcomes = await storage.apply(
        [
            envelope("A1", chat=GROUP, sender=CUSTOMER),
            envelope("A1", chat=GROUP, sender=OTHER),
            envelope("A1", chat=CUSTOMER),
            envelope("A1", chat=OTHER),
            envelope("A1", chat=CUSTOMER, connection="support"),
            envelope("A1", chat=CUSTOMER, from_me=True),
        ]
    )
    assert {outcome.verdict for outcome in outcomes} == {Verdict.STORED}
    assert len({outcome.message_id for outcome in outcomes}) == 6
    assert len({outcome.conversation_id for outcome in outcomes}) == 4


async def test_the_same_batch_again_changes_nothing(storage: Storage) -> None:
    """Applying a batch whose outcome got lost is safe."""
    batch = [
        envelope("A1"),
        envelope("A2", from_me=True),
        envelope(None, text="sem id"),
        envelope("A3", chat=GROUP),
    ]
    first = await storage.apply(batch)
    before = await storage.conversations(status=None, connection=None, limit=10)
    again = await storage.apply(batch)
    assert [outcome.verdict for outcome in again] == [Verdict.DUPLICATE] * 4
    assert [outcome.message_id for outcome in again] == [item.message_id for item in first]
    assert await storage.conversations(status=None, connection=None, limit=10) == before


async def test_unknown_connection_is_rejected_whole(storage: Storage) -> None:
    """Nothing of the batch is committed."""
    with pytest.raises(StorageRejectedError, match="nobody"):
        await storage.apply([envelope("A1"), envelope("A2", connection="nobody")])
    assert (await storage.statistics())["messages"] == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"chat": ""},
        {"sender": ""},
        {"chat": "x" * 513},
        {"sender": "x" * 513},
        {"kind": ""},
        {"kind": "k" * 65},
    ],
)
async def test_without_identity_nothing_is_stored(storage: Storage, fields: dict[str, str]) -> None:
    """An address or kind that cannot be stored rejects the batch."""
    with pytest.raises(StorageRejectedError):
        await storage.apply([envelope("A1", **fields)])
    assert (await storage.statistics())["messages"] == 0


async def test_an_empty_batch(storage: Storage) -> None:
    """No envelopes, no outcomes."""
    assert await storage.apply([]) == []


@pytest.mark.parametrize("missing", [None, ""])
async def test_missing_id_is_derived(storage: Storage, missing: str | None) -> None:
    """A redelivery is known; other content, time, chat or ordinal is another message."""
    first = await take(storage, missing, text="um", raw=b"1")
    assert (await take(storage, missing, text="um", raw=b"1")).verdict is Verdict.DUPLICATE
    others = [
        envelope(missing, text="um", raw=b"2"),
        envelope(missing, text="um", raw=b"1", sent_at=int(NOW) + 1),
        envelope(missing, text="um", raw=b"1", chat=OTHER),
        envelope(missing, text="um", raw=b"1", ordinal=1),
    ]
    outcomes = await storage.apply(others)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.STORED] * 4
    assert first.verdict is Verdict.STORED


async def test_placeholder_is_filled_in_place(storage: Storage) -> None:
    """The retry's content takes the placeholder's row; its id and conversation stay."""
    failed = await take(storage, "A1", reason="no session", **FAILED)
    later = await take(storage, "A2")
    filled = await take(storage, "A1")
    again = await take(storage, "A1")
    assert (failed.verdict, failed.retries, failed.opened) == (Verdict.PLACEHOLDER, 1, True)
    assert (filled.verdict, filled.filled) == (Verdict.STORED, True)
    assert not filled.opened
    assert filled.message_id == failed.message_id != later.message_id
    assert filled.conversation_id == failed.conversation_id == later.conversation_id
    assert again.verdict is Verdict.DUPLICATE
    statistics = await storage.statistics()
    assert (statistics["messages"], statistics["undecryptable"]) == (2, 0)


async def test_placeholder_counts_its_failures(storage: Storage) -> None:
    """Each failure to decrypt is counted, in one row."""
    outcomes = [await take(storage, "A1", **FAILED) for _ in range(3)]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.PLACEHOLDER] * 3
    assert [outcome.retries for outcome in outcomes] == [1, 2, 3]
    assert len({outcome.message_id for outcome in outcomes}) == 1
    assert (await storage.statistics())["undecryptable"] == 1


async def test_failures_and_content_in_one_batch(storage: Storage) -> None:
    """Order within a batch counts as it does across batches."""
    failed = envelope("A1", **FAILED)
    outcomes = await storage.apply([failed, failed, envelope("A1"), failed, envelope("A1")])
    assert [outcome.verdict for outcome in outcomes] == [
        Verdict.PLACEHOLDER,
        Verdict.PLACEHOLDER,
        Verdict.STORED,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
    ]
    assert [outcome.retries for outcome in outcomes] == [1, 2, 0, 0, 0]
    assert [outcome.filled for outcome in outcomes] == [False, False, True, False, False]
    assert len({outcome.message_id for outcome in outcomes}) == 1
    [conversation] = await storage.conversations(status=None, connection=None, limit=10)
    assert conversation.messages == 1


async def test_a_failure_after_the_message_is_a_duplicate(storage: Storage) -> None:
    """What was decrypted once and is delivered again may not decrypt: nothing is lost."""
    first = await take(storage, "A1")
    again = await take(storage, "A1", **FAILED)
    assert (again.verdict, again.message_id) == (Verdict.DUPLICATE, first.message_id)


async def test_handled_stanza_is_known_for_14_days(storage: Storage, clock: Clock) -> None:
    """Protocol content that does not decrypt the second time leaves no placeholder."""
    handled = Envelope(connection="sales", handled=handled_key(CUSTOMER, CUSTOMER, "A1"))
    [recorded] = await storage.apply([handled])
    assert recorded.verdict is Verdict.RECORDED
    clock.now += 13 * 86_400
    assert (await take(storage, "A1", **FAILED)).verdict is Verdict.DUPLICATE
    assert (await take(storage, "A1", connection="support", **FAILED)).retries == 1
    clock.now += 2 * 86_400
    assert (await take(storage, "A1", **FAILED)).verdict is Verdict.PLACEHOLDER


async def test_handled_key_knows_the_other_address(storage: Storage) -> None:
    """Handled under the phone number, redelivered under the LID."""
    await storage.apply(
        [Envelope(connection="sales", handled=handled_key(CUSTOMER, CUSTOMER, "A"))]
    )
    outcome = await take(
        storage,
        "A",
        chat=CUSTOMER_LID,
        chat_alt=CUSTOMER,
        sender=CUSTOMER_LID,
        sender_alt=CUSTOMER,
        **FAILED,
    )
    assert outcome.verdict is Verdict.DUPLICATE


async def test_handled_order_within_a_batch(storage: Storage) -> None:
    """Only what precedes a message in its batch is known to it."""
    handled = Envelope(connection="sales", handled=handled_key(CUSTOMER, CUSTOMER, "A1"))
    outcomes = await storage.apply(
        [envelope("A1", **FAILED), handled, envelope("A1", **FAILED), envelope("A1")]
    )
    assert [outcome.verdict for outcome in outcomes] == [
        Verdict.PLACEHOLDER,
        Verdict.RECORDED,
        Verdict.DUPLICATE,
        Verdict.STORED,
    ]


async def test_pruned_handled_stanzas(
    postgres: PostgresStorage, clock: Clock, cluster: Cluster, dsn: str
) -> None:
    """Old keys go as new ones come."""
    await postgres.apply(
        [Envelope(connection="sales", handled=f"c s {number}") for number in range(50)]
    )
    clock.now += 15 * 86_400
    await postgres.apply([Envelope(connection="sales", handled="c s new")])
    rows = await cluster.sql(dsn, "SELECT key FROM handled_stanzas")
    assert [row["key"] for row in rows] == ["c s new"]


async def test_two_addresses_are_one_person(storage: Storage) -> None:
    """Phone number and LID lead to one chat; the number is shown; redelivery is known."""
    number = {"chat": CUSTOMER, "sender": CUSTOMER}
    lid = {"chat": CUSTOMER_LID, "sender": CUSTOMER_LID}
    both = {**lid, "chat_alt": CUSTOMER, "sender_alt": CUSTOMER}
    outcomes = await storage.apply(
        [envelope("A1", **both), envelope("A2", **number), envelope("A3", **lid)]
    )
    assert len({outcome.conversation_id for outcome in outcomes}) == 1
    assert (await take(storage, "A1", **number)).verdict is Verdict.DUPLICATE
    [conversation] = await storage.conversations(status=None, connection=None, limit=10)
    assert conversation.chat == CUSTOMER


async def test_two_contacts_found_to_be_one(storage: Storage) -> None:
    """From then on all messages go to the older one's conversation."""
    number = await take(storage, "A1", chat=CUSTOMER, sender=CUSTOMER)
    lid = await take(storage, "A2", chat=CUSTOMER_LID, sender=CUSTOMER_LID)
    both = await take(
        storage,
        "A3",
        chat=CUSTOMER_LID,
        chat_alt=CUSTOMER,
        sender=CUSTOMER_LID,
        sender_alt=CUSTOMER,
    )
    assert number.conversation_id != lid.conversation_id
    assert both.conversation_id == number.conversation_id
    assert (await take(storage, "A4", chat=CUSTOMER_LID)).conversation_id == number.conversation_id
    [conversation] = await storage.conversations(status=None, connection="sales", limit=10)
    assert (conversation.messages, conversation.chat) == (4, CUSTOMER)


async def test_team_messages_are_the_accounts(storage: Storage) -> None:
    """Own messages are known again whichever own address they came under."""
    first = await take(storage, "A1", from_me=True, sender=ACCOUNT)
    again = await take(storage, "A1", from_me=True, sender="900000000099@lid", sender_alt=ACCOUNT)
    assert (again.verdict, again.message_id) == (Verdict.DUPLICATE, first.message_id)


async def test_push_names(storage: Storage) -> None:
    """The name of the newest message counts, whenever it arrives; own ones do not."""
    now = int(NOW)

    async def title() -> str | None:
        [row] = await storage.conversations(status=None, connection="sales", limit=10)
        return row.title

    await take(storage, "A0", from_me=True, sender_name="Equipe")
    assert await title() is None
    await take(storage, "A1", sender_name="Ana H", lane=Lane.HISTORY, sent_at=now - 90)
    assert await title() == "Ana H"
    await storage.apply(
        [
            envelope("A2", sender_name="Ana B", sent_at=now),
            envelope("A3", sender_name="Ana", sent_at=now - 10),
        ]
    )
    assert await title() == "Ana B"
    await take(storage, "A4", sender_name="Antiga", lane=Lane.HISTORY, sent_at=now - 80)
    assert await title() == "Ana B"
    await take(storage, "A2", sender_name="Repetida", sent_at=now + 5)
    assert await title() == "Ana B"
    await take(storage, "A5", sender_name="N\0" + "x" * 5000, sent_at=now + 6)
    assert await title() == "N␀" + "x" * 254


@pytest.mark.parametrize(
    "sent_at", [0, -1, -(2**63), 2**63, 2**80, 2**31, int(NOW) + 10 * 86_400, 4_102_444_800]
)
async def test_absurd_times_are_not_fatal(storage: Storage, sent_at: int) -> None:
    """The arrival stands in for a time at which no message can have been sent."""
    assert (await take(storage, "A1", sent_at=sent_at)).verdict is Verdict.STORED
    [conversation] = await storage.conversations(status=None, connection=None, limit=10)
    assert conversation.last_message_at.timestamp() == NOW


async def test_odd_text_is_stored(postgres: PostgresStorage, cluster: Cluster, dsn: str) -> None:
    """NUL, lone surrogates and 64 KiB are stored; the raw bytes and time are kept as received."""
    raw = bytes(range(256)) * 256
    texts = {
        "nul": ("a\0b", "a␀b"),
        "surrogate": ("a\ud800b\udfff", "a�b�"),
        "pair": ("\ud83d\ude00", "😀"),
        "long": ("ç" * 65_536, "ç" * 65_536),
        "empty": ("", ""),
        "none": (None, None),
        "quotes": ("'\"\\{},NULL", "'\"\\{},NULL"),
    }
    batch = [
        envelope(name, text=given, raw=raw, sent_at=-5, sender_name=given)
        for name, (given, _stored) in texts.items()
    ]
    assert {outcome.verdict for outcome in await postgres.apply(batch)} == {Verdict.STORED}
    rows = await cluster.sql(dsn, "SELECT * FROM messages ORDER BY arrival")
    assert {row["external_id"]: row["text"] for row in rows} == {
        name: stored for name, (_given, stored) in texts.items()
    }
    assert {row["raw"] for row in rows} == {raw}
    assert {row["remote_timestamp"] for row in rows} == {-5}
    assert [row["arrival"] for row in rows] == list(range(1, 8))


async def test_odd_ids_are_stored(storage: Storage) -> None:
    """Ids of any length and content are ids."""
    ids = ["x" * 512, "x" * 513, "x" * 100_000, "\0", "\ud800", "𝔘" * 512, "é" * 600]
    batch = [envelope(name) for name in ids]
    assert [item.verdict for item in await storage.apply(batch)] == [Verdict.STORED] * len(ids)
    assert [item.verdict for item in await storage.apply(batch)] == [Verdict.DUPLICATE] * len(ids)


async def test_odd_addresses_are_stored(storage: Storage) -> None:
    """Addresses are text as long as an index can hold it; bad alternatives are left out."""
    outcomes = await storage.apply(
        [
            envelope("A1", chat="𝔘" * 512),
            envelope("A1", chat="\0\ud800@s.whatsapp.net"),
            envelope("A1", chat_alt="x" * 600, sender_alt=""),
        ]
    )
    assert [outcome.verdict for outcome in outcomes] == [Verdict.STORED] * 3


async def test_columns_of_a_placeholder(
    postgres: PostgresStorage, cluster: Cluster, dsn: str, clock: Clock
) -> None:
    """A filled placeholder keeps arrival and time, and its failures stay on record."""
    select = "SELECT kind, state, arrival, retries, reason, text, raw, sent_at FROM messages"
    failed = envelope("A1", reason="no session", **FAILED)
    await postgres.apply([failed, attrs.evolve(failed)])
    [before] = await cluster.sql(dsn, select)
    assert (before["kind"], before["state"]) == ("undecryptable", "undecryptable")
    assert (before["retries"], before["reason"], before["raw"]) == (2, "no session", b"")
    clock.now += 60
    await take(postgres, "A2")
    await take(postgres, "A1", sent_at=int(NOW) + 60)
    [after] = await cluster.sql(dsn, select + " WHERE external_id = 'A1'")
    assert (after["kind"], after["state"], after["text"]) == ("text", "stored", "olá")
    assert (after["arrival"], after["retries"], after["reason"]) == (1, 2, None)
    assert after["sent_at"] == before["sent_at"]
