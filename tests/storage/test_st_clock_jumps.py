"""I3 and I4 whatever the wall clock says: conversations go by the time of the messages."""

import random

import pytest
from st_helpers import DAY, HOUR, NOW, Clock, Cluster, opened_storage, take

from storage.api import ConversationRules, Storage, Verdict

JUMPS = (-400 * DAY, -30 * DAY, -3 * HOUR, 0, 0, 0, 2 * HOUR, 40 * DAY, 365 * DAY)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_no_jump_breaks_what_is_unique(cluster: Cluster, kind: str, seed: int) -> None:
    """Each message once, one live conversation per chat, counts that are right, after each step."""
    rng, clock = random.Random(seed), Clock()
    async with opened_storage(kind, cluster, clock) as storage:
        await storage.ensure_connection("sales", ConversationRules())
        sent: list[tuple[str, str, int]] = []
        real = NOW
        for number in range(60):
            real += rng.choice((1, 60, HOUR, 7 * HOUR))
            clock.now = real + rng.choice(JUMPS)
            chat = f"1555000{rng.randrange(3):04}@s.whatsapp.net"
            what = rng.random()
            if what < 0.2 and sent:
                again, chat, at = rng.choice(sent)
                outcome = await take(storage, again, chat=chat, sent_at=at)
                assert outcome.verdict is Verdict.DUPLICATE
            elif what < 0.4:
                rows = await storage.conversations(status=None, connection="sales", limit=100)
                if live := [row for row in rows if row.status != "closed"]:
                    await storage.close_conversation(rng.choice(live).id)
            else:
                outcome = await take(storage, f"id {number}", chat=chat, sent_at=int(real))
                assert outcome.verdict is Verdict.STORED
                sent.append((f"id {number}", chat, int(real)))
            await check(storage, len(sent))


async def check(storage: Storage, messages: int) -> None:
    rows = await storage.conversations(status=None, connection="sales", limit=200)
    live = [row.chat for row in rows if row.status != "closed"]
    assert len(live) == len(set(live))
    assert sum(row.messages for row in rows) == messages


async def test_a_customer_after_a_jump_finds_the_live_conversation(
    storage: Storage, clock: Clock
) -> None:
    """A clock that is a year ahead, then a year behind, parts no conversation in two."""
    first = await take(storage, "A1", sent_at=int(NOW))
    clock.now = NOW + 365 * DAY
    second = await take(storage, "A2", sent_at=int(NOW) + 60)
    clock.now = NOW - 365 * DAY
    third = await take(storage, "A3", sent_at=int(NOW) + 120)
    assert first.conversation_id == second.conversation_id == third.conversation_id
