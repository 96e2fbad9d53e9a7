"""Files to fetch: claimed by one worker at a time, with a state each, on both storages."""

import attrs
import pytest
import trio
from st_helpers import ACCOUNT, CUSTOMER, CUSTOMER_LID, GROUP, KEY, NOW, Clock, envelope, take
from st_queues import queued, step, tell

from storage.api import Lane, MediaFile, Storage
from storage.errors import StorageRejectedError
from storage.postgres import PostgresStorage
from storage.queues import (
    CLAIM_LEASE,
    MediaJob,
    MediaResult,
    MediaRow,
    MediaState,
    OutboxRequest,
)

PHOTO = MediaFile(
    kind="image", mimetype="image/jpeg", size=1000, name="praia.jpg", sha256=bytes(range(32))
)
BLOB = bytes(range(32, 64))
STORED = MediaResult(state=MediaState.STORED, blob_sha256=BLOB, blob_size=990)


async def photo(storage: Storage, external_id: str = "A1", **fields: object) -> int:
    """A message with a file; its id."""
    outcome = await take(storage, external_id, kind="image", media=PHOTO, **fields)
    assert outcome.message_id is not None
    return outcome.message_id


async def row_of(storage: Storage, message_id: int) -> MediaRow:
    """The file of that message."""
    row = await storage.media_file(message_id)
    assert row is not None
    return row


async def test_a_file_is_there_with_its_message(storage: Storage) -> None:
    """Pending, with what the sender claims; messages without a file have none."""
    message_id = await photo(storage)
    text = await take(storage, "A2")
    assert text.message_id is not None
    assert await storage.media_file(text.message_id) is None
    assert await storage.media_file(2**70) is None
    assert await storage.media_file(-1) is None
    assert await storage.media_file(message_id) == MediaRow(
        connection="sales",
        message_id=message_id,
        kind="image",
        mimetype="image/jpeg",
        name="praia.jpg",
        size=1000,
        sha256=bytes(range(32)),
        state="pending",
        attempts=0,
        next_attempt_at=None,
        blob_sha256=None,
        blob_size=None,
        error=None,
        stored_at=None,
    )


async def test_a_claim_says_what_is_needed(storage: Storage) -> None:
    """Where the file lies, whose it is, and how to ask the phone for it again."""
    direct = await photo(storage, raw=b"plain", sender_alt=CUSTOMER_LID, chat_alt=CUSTOMER_LID)
    group = await photo(storage, "A2", chat=GROUP)
    own = await photo(storage, "A3", from_me=True)
    one, two, three = await storage.claim_media(9)
    assert one == MediaJob(
        connection="sales",
        message_id=direct,
        external_id="A1",
        chat=CUSTOMER,
        chat_addresses=tuple(sorted([CUSTOMER, CUSTOMER_LID])),
        from_me=False,
        sender=CUSTOMER,
        senders=tuple(sorted([CUSTOMER, CUSTOMER_LID])),
        kind="image",
        size=1000,
        raw=b"plain",
        direct_path=None,
        attempts=1,
    )
    assert (two.message_id, two.chat, two.chat_addresses) == (group, GROUP, (GROUP,))
    assert two.sender == CUSTOMER
    assert (three.message_id, three.from_me, three.sender) == (own, True, ACCOUNT)


async def test_each_file_has_one_worker(storage: Storage, clock: Clock) -> None:
    """What is claimed is nobody else's until its lease ends."""
    ids = [await photo(storage, f"A{number}") for number in range(3)]
    assert [job.message_id for job in await storage.claim_media(2)] == ids[:2]
    assert [job.message_id for job in await storage.claim_media(2)] == ids[2:]
    assert await storage.claim_media(2) == []
    clock.now += CLAIM_LEASE
    again = await storage.claim_media(9, lease=10)
    assert [(job.message_id, job.attempts) for job in again] == [(number, 2) for number in ids]
    clock.now += 9
    assert await storage.claim_media(9) == []
    assert await storage.claim_media(0) == []


async def test_live_messages_come_first(storage: Storage) -> None:
    """A long history does not keep a customer's photo waiting."""
    old = await photo(storage, "A1", lane=Lane.HISTORY)
    new = await photo(storage, "A2")
    older = await photo(storage, "A0", lane=Lane.HISTORY)
    claimed = [await storage.claim_media(1) for _ in range(3)]
    assert [job.message_id for jobs in claimed for job in jobs] == [new, old, older]


async def test_a_file_that_was_put_off_by_a_wrong_clock_is_due(
    storage: Storage, clock: Clock
) -> None:
    """A clock that was a year ahead, and is right again, strands nothing."""
    message_id = await photo(storage)
    clock.now = NOW + 365 * 86_400
    assert len(await storage.claim_media(9)) == 1
    later = MediaResult(state=MediaState.PENDING, error="later", retry_at=clock.now + 3600)
    assert await storage.finish_media("sales", message_id, later)
    assert await storage.claim_media(9) == []
    clock.now = NOW + 60
    assert [job.message_id for job in await storage.claim_media(9)] == [message_id]
    assert await storage.claim_media(9) == []


async def test_a_crash_leaves_nothing_claimed(storage: Storage) -> None:
    """A worker that starts anew gets everything at once; planned attempts keep their time."""
    first, second, third = [await photo(storage, f"A{number}") for number in range(3)]
    await storage.claim_media(2)
    retry = MediaResult(state=MediaState.PENDING, retry_at=NOW + 60)
    await storage.finish_media("sales", second, retry)
    assert await storage.release_media() == 1
    assert await storage.release_media() == 0
    assert {job.message_id for job in await storage.claim_media(9)} == {first, third}


async def test_attempts_are_planned(storage: Storage, clock: Clock) -> None:
    """A failed attempt is due again at its time, and with the place that the phone told."""
    assert await storage.next_media_at() is None
    message_id = await photo(storage)
    assert await storage.next_media_at() == 0
    await storage.claim_media(1)
    assert await storage.next_media_at() == NOW + CLAIM_LEASE
    retry = MediaResult(
        state=MediaState.PENDING, retry_at=NOW + 60, error="404\0", direct_path="/v/new"
    )
    assert await storage.finish_media("sales", message_id, retry)
    row = await row_of(storage, message_id)
    assert (row.state, row.attempts, row.error) == ("pending", 1, "404␀")
    assert row.next_attempt_at is not None
    assert row.next_attempt_at.timestamp() == NOW + 60 == await storage.next_media_at()
    assert await storage.claim_media(1) == []
    clock.now += 60
    [job] = await storage.claim_media(1)
    assert (job.attempts, job.direct_path) == (2, "/v/new")
    await storage.finish_media("sales", message_id, MediaResult(state=MediaState.PENDING))
    [job] = await storage.claim_media(1)
    assert (job.attempts, job.direct_path) == (3, "/v/new")


@pytest.mark.parametrize("state", [MediaState.EXPIRED, MediaState.FAILED, MediaState.SKIPPED])
async def test_given_up_and_taken_up_again(storage: Storage, state: MediaState) -> None:
    """A file that was given up waits for nothing, until somebody takes it up again."""
    message_id = await photo(storage)
    await storage.claim_media(1)
    result = MediaResult(state=state, error="no", retry_at=NOW, direct_path="/ignored")
    assert await storage.finish_media("sales", message_id, result)
    row = await row_of(storage, message_id)
    assert (row.state, row.error, row.next_attempt_at) == (state, "no", None)
    assert await storage.claim_media(9) == []
    assert await storage.next_media_at() is None
    assert await storage.release_media() == 0
    again = MediaResult(state=MediaState.PENDING, direct_path="/v/new")
    assert await storage.finish_media("sales", message_id, again)
    [job] = await storage.claim_media(9)
    assert (job.attempts, job.direct_path) == (1, "/v/new")


async def test_what_is_stored_stays(storage: Storage, clock: Clock) -> None:
    """No later word about fetching changes it; only its time of keeping ends."""
    message_id = await photo(storage)
    await storage.claim_media(1)
    assert await storage.finish_media("sales", message_id, STORED)
    stored = await row_of(storage, message_id)
    assert (stored.state, stored.blob_sha256, stored.blob_size) == ("stored", BLOB, 990)
    assert stored.stored_at is not None
    assert stored.stored_at.timestamp() == NOW
    clock.now += 5
    for late in (MediaState.FAILED, MediaState.PENDING):
        assert not await storage.finish_media("sales", message_id, MediaResult(state=late))
    for result in (STORED, attrs.evolve(STORED, blob_size=1)):
        assert not await storage.finish_media("sales", message_id, result)
    assert await row_of(storage, message_id) == stored
    assert await storage.forget_media("sales", message_id)
    assert not await storage.forget_media("sales", message_id)
    assert await row_of(storage, message_id) == attrs.evolve(stored, state="removed")
    assert not await storage.finish_media("sales", message_id, STORED)


@pytest.mark.parametrize(
    "result",
    [
        MediaResult(state=MediaState.REMOVED),
        MediaResult(state=MediaState.STORED, blob_sha256=BLOB),
        MediaResult(state=MediaState.STORED, blob_size=1),
        MediaResult(state=MediaState.STORED, blob_sha256=b"short", blob_size=1),
        MediaResult(state=MediaState.STORED, blob_sha256=BLOB, blob_size=-1),
        MediaResult(state=MediaState.PENDING, direct_path="x" * 5000),
    ],
)
async def test_results_that_cannot_be(storage: Storage, result: MediaResult) -> None:
    """A result that says half of what it should is rejected and changes nothing."""
    message_id = await photo(storage)
    with pytest.raises(StorageRejectedError):
        await storage.finish_media("sales", message_id, result)
    assert (await row_of(storage, message_id)).state == "pending"


async def test_files_of_others(storage: Storage) -> None:
    """A connection finishes and forgets its own files only."""
    message_id = await photo(storage)
    assert not await storage.finish_media("support", message_id, STORED)
    assert not await storage.finish_media("sales", message_id + 1, STORED)
    assert await storage.finish_media("sales", message_id, STORED)
    assert not await storage.forget_media("support", message_id)
    assert (await row_of(storage, message_id)).state == "stored"


async def test_the_end_of_keeping(storage: Storage, clock: Clock) -> None:
    """The oldest first; a file that two messages share is deleted with the last of them."""
    ids = [await photo(storage, f"A{number}") for number in range(4)]
    for message_id in ids[:3]:
        await storage.finish_media("sales", message_id, STORED)
        clock.now += 10
    assert await storage.media_to_expire(NOW, 9) == []
    old = await storage.media_to_expire(NOW + 15, 9)
    assert [row.message_id for row in old] == ids[:2]
    assert [row.message_id for row in await storage.media_to_expire(NOW + 99, 1)] == ids[:1]
    users = []
    for message_id in ids[:3]:
        users.append(await storage.blob_users(BLOB))
        await storage.forget_media("sales", message_id)
    assert users == [3, 2, 1]
    assert await storage.blob_users(BLOB) == 0
    assert await storage.media_to_expire(NOW + 99, 9) == []


async def test_a_file_to_be_sent_is_kept(storage: Storage) -> None:
    """A message that waits to be sent with it uses a file as long as it waits."""
    request = OutboxRequest(kind="media", chat=CUSTOMER, body={"file": BLOB.hex().upper()})
    row = await queued(storage, request=request)
    await queued(storage, "k2", request=attrs.evolve(request, kind="text"))
    await storage.finish_media("sales", await photo(storage), STORED)
    users = [await storage.blob_users(BLOB)]
    for state in ("sending", "sent"):
        await tell(storage, step(row, state))
        users.append(await storage.blob_users(BLOB))
    assert users == [2, 2, 1]


async def test_counts(storage: Storage) -> None:
    """By state, of one connection or of all."""
    assert await storage.media_counts() == {}
    ids = [await photo(storage, f"A{number}") for number in range(3)]
    await photo(storage, connection="support")
    await storage.finish_media("sales", ids[0], STORED)
    assert await storage.media_counts("sales") == {"pending": 2, "stored": 1}
    assert await storage.media_counts() == {"pending": 3, "stored": 1}
    assert await storage.media_counts("nobody") == {}


async def test_a_placeholder_brings_its_file_when_filled(storage: Storage) -> None:
    """Once, however often it is delivered."""
    failed = await take(storage, "A1", kind="undecryptable", text=None, raw=b"")
    assert await storage.claim_media(9) == []
    assert await photo(storage) == failed.message_id
    await photo(storage)
    [job] = await storage.claim_media(9)
    assert (job.message_id, job.raw) == (failed.message_id, b"raw")


async def test_twice_in_one_batch(storage: Storage) -> None:
    """A message that comes twice at once has one file."""
    fields = {"kind": "image", "media": PHOTO}
    await storage.apply([envelope("A1", **fields), envelope("A1", **fields)])
    assert len(await storage.claim_media(9)) == 1


async def test_absurd_times(storage: Storage) -> None:
    """An attempt planned for the end of time does not fail; no clock that is right said that, so
    it is due."""
    message_id = await photo(storage)
    for at in (1e300, float("inf")):
        result = MediaResult(state=MediaState.PENDING, retry_at=at)
        assert await storage.finish_media("sales", message_id, result)
        assert [job.message_id for job in await storage.claim_media(9)] == [message_id]


async def test_many_workers_claim_apart(postgres: PostgresStorage) -> None:
    """Claims at the same time never give out one file twice, and leave none out."""
    batch = [envelope(f"A{number}", kind="image", media=PHOTO) for number in range(40)]
    await postgres.apply(batch)
    claimed: list[int] = []

    async def claim() -> None:
        while jobs := await postgres.claim_media(3):
            claimed.extend(job.message_id for job in jobs)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(claim)
    assert len(claimed) == len(set(claimed)) == 40


async def test_claims_survive_a_new_start(
    postgres: PostgresStorage, dsn: str, clock: Clock
) -> None:
    """The daemon that follows a killed one finds the work where it was."""
    message_id = await photo(postgres)
    await postgres.claim_media(1)
    async with PostgresStorage.open(dsn, key=KEY, clock=clock) as again:
        assert await again.claim_media(1) == []
        assert await again.release_media() == 1
        [job] = await again.claim_media(1)
        assert (job.message_id, job.attempts) == (message_id, 2)
