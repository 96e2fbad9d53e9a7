"""App state in virtual time: first sync, increments, and every cure."""

import collections.abc as cabc
import contextlib
import typing as t

import hypothesis
import hypothesis.strategies as st
import pytest
import trio
import trio.testing

from actors import app_state as subject
from actors.app_state_steps import MUTATIONS_PER_ENVELOPE
from storage.api import ConversationRules, Envelope, Outcome
from storage.facts import AppStateStep, ChatSettings, ContactName
from storage.memory import MemoryStorage
from tests.actors.app_state_world import NAME, START, World
from whatsapp.appstate import COLLECTIONS, actions, requests
from whatsapp.appstate.mutations import Operation
from whatsapp.iq.app_state import CollectionAnswer, CollectionRequest
from whatsapp.iq.core import IqError
from whatsapp.jid import Jid

Clock: t.TypeAlias = trio.testing.MockClock

ANA: t.Final = Jid.parse("15550001111@s.whatsapp.net")
BIA: t.Final = Jid.parse("15550002222@s.whatsapp.net")
LOW: t.Final = "regular_low"
CONTACTS: t.Final = "critical_unblock_low"
AT: t.Final = 1_789_000_000_000


@pytest.fixture
def world() -> World:
    """A phone with one contact and one pinned chat; no keys shared yet."""
    world = World()
    world.phone.write(actions.contact(ANA, full_name="Ana", at=AT))
    world.phone.write(actions.pin(ANA, True, at=AT))
    return world


@contextlib.asynccontextmanager
async def living(world: World) -> cabc.AsyncIterator[None]:
    """The connection is online for a while."""
    async with trio.open_nursery() as nursery:
        await nursery.start(world.app_state.run)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: cabc.Callable[[], object]) -> None:
    """Wait in virtual time."""
    with trio.fail_after(20_000):
        while not condition():
            await trio.sleep(0.5)


async def synced(world: World) -> None:
    """A first life with keys, up to being in step."""
    async with living(world):
        world.share_keys()
        await until(lambda: world.in_step)
    world.start()
    world.requests.clear()


def pins(world: World) -> list[bool | None]:
    return [fact.pinned for fact in world.database.facts if isinstance(fact, ChatSettings)]


async def test_the_first_sync_waits_for_keys(autojump_clock: Clock, world: World) -> None:
    """Then every collection comes as a snapshot, in one request; empty ones are fine."""
    async with living(world):
        await trio.sleep(subject.FIRST_KEYS / 2)
        assert world.requests == []
        world.share_keys()
        await until(lambda: world.in_step)
        await trio.sleep(60)
    [wanted] = world.requests
    assert [(one.name, one.snapshot) for one in wanted] == [(name, True) for name in COLLECTIONS]
    assert {step.collection for step in world.database.steps} == {CONTACTS, LOW}
    assert all(step.reset for step in world.database.steps)
    names = [fact.name for fact in world.database.facts if isinstance(fact, ContactName)]
    assert (names, pins(world)) == (["Ana"], [True])
    assert {status.state.value for status in world.app_state.status()} == {"current"}
    assert world.peer == []


async def test_keys_that_never_come_are_asked_for(autojump_clock: Clock, world: World) -> None:
    """After half a minute it looks; what it cannot read makes it ask the phone."""
    async with living(world):
        await trio.sleep(subject.FIRST_KEYS + 5)
        assert world.state_of(LOW) == "waiting_for_keys"
        [(message, priority)] = world.peer
        assert requests.parse_key_request(message) == (world.phone.key_id,)
        assert priority == "high"
        world.share_keys()
        await until(lambda: world.in_step)
    assert world.database.steps


async def test_keys_of_an_earlier_life_are_not_waited_for(
    autojump_clock: Clock, world: World
) -> None:
    """It ended before any collection was written: the next one begins at once."""
    async with living(world):
        world.share_keys()
    world.start()
    began = trio.current_time()
    async with living(world):
        await until(lambda: world.in_step)
    assert trio.current_time() - began < subject.FIRST_KEYS
    assert world.peer == []


async def test_changes_come_as_patches(autojump_clock: Clock, world: World) -> None:
    """A later life asks for what is new since; a notification makes it ask again."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    async with living(world):
        await until(lambda: world.in_step)
        [wanted] = world.requests
        asked = {one.name: (one.version, one.snapshot) for one in wanted}
        assert asked[LOW] == (1, False)
        assert asked["regular"] == (0, True)
        world.phone.write(
            actions.pin(BIA, True, at=AT + 2000), actions.pin(ANA, True, at=AT + 2000)
        )
        world.phone.write(actions.pin(BIA, True, at=AT + 3000), operation=Operation.REMOVE)
        world.app_state.dirty([LOW, "unheard of"])
        await until(lambda: world.in_step)
        assert [one.name for one in world.requests[-1]] == [LOW]
    assert pins(world) == [True, False, True, True, False]
    assert [step.version for step in world.database.steps if step.collection == LOW] == [1, 2, 3, 4]


async def test_an_envelope_holds_a_step_and_all_it_says(
    autojump_clock: Clock, world: World
) -> None:
    """Facts and the new hash commit together."""
    await synced(world)
    world.database.envelopes.clear()
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    async with living(world):
        await until(lambda: world.in_step)
    [envelope] = world.database.envelopes
    fact, step = envelope.facts
    assert isinstance(fact, ChatSettings)
    assert isinstance(step, AppStateStep)
    assert (step.collection, step.version, step.reset) == (LOW, 2, False)


async def test_more_patches_are_asked_for(autojump_clock: Clock, world: World) -> None:
    """As long as the server says that there are more."""
    await synced(world)
    for moment in range(7):
        world.phone.write(actions.pin(ANA, bool(moment % 2), at=AT + moment))
    world.page = 2
    async with living(world):
        await until(lambda: world.in_step)
    versions = [one.version for wanted in world.requests for one in wanted if one.name == LOW]
    assert versions == [1, 3, 5, 7]


async def test_mutations_may_lie_in_a_file(autojump_clock: Clock, world: World) -> None:
    """Then they are fetched, and verified like all others."""
    await synced(world)
    world.phone.external = True
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.files_away = True
    async with living(world):
        await until(lambda: world.state_of(LOW) == "retrying")
        world.files_away = False
        await until(lambda: world.in_step)
    assert pins(world) == [True, False]


async def test_a_missing_key_parks_one_collection(autojump_clock: Clock, world: World) -> None:
    """The others go on. The key is asked for once a day, until it comes."""
    await synced(world)
    world.phone.key_id = bytes([0, 0, 0, 0, 0, 2])
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    async with living(world):
        await until(lambda: world.peer)
        world.app_state.dirty()
        world.app_state.keys_arrived()  # others, it turns out
        await trio.sleep(3600)
        assert world.state_of(LOW) == "waiting_for_keys"
        assert world.state_of(CONTACTS) == "current"
        assert len(world.peer) == 1
        await trio.sleep(subject.ASK_AGAIN)
        assert len(world.peer) == 2
    world.start()  # reconnecting does not ask again
    async with living(world):
        await until(lambda: world.state_of(LOW) == "waiting_for_keys")
        assert len(world.peer) == 2
        world.share_keys()
        await until(lambda: world.in_step)
        assert world.state_of(LOW) == "current"


async def test_a_key_that_comes_while_it_is_asked_for_is_used(
    autojump_clock: Clock, world: World
) -> None:
    """Its arrival is not slept over."""
    await synced(world)
    world.phone.key_id = bytes([0, 0, 0, 0, 0, 2])
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.on_peer = lambda message: world.share_keys()
    async with living(world):
        await until(lambda: world.in_step)
        assert trio.current_time() < 3600


async def test_a_damaged_key_is_asked_for_again(autojump_clock: Clock, world: World) -> None:
    """It counts as absent; the phone's copy replaces it."""
    await synced(world)
    world.database.records[world.phone.key_id.hex()] = b"\xff"
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    async with living(world):
        await until(lambda: world.peer)
        world.share_keys()
        await until(lambda: world.in_step)


async def test_a_broken_patch_is_replaced_by_a_snapshot(
    autojump_clock: Clock, world: World
) -> None:
    """The collection starts over, and nothing of the broken one was kept."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.garbled = {LOW}
    async with living(world):
        await until(lambda: world.in_step)
        assert world.state_of(LOW) == "current"
    steps = [step for step in world.database.steps if step.collection == LOW]
    assert [(step.version, step.reset) for step in steps] == [(1, True), (2, True)]
    assert world.peer == []


async def test_a_snapshot_may_fail_once(autojump_clock: Clock, world: World) -> None:
    """It is fetched twice before the phone is troubled."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.garbled = {LOW}
    world.bad_snapshots = 1
    async with living(world):
        await until(lambda: world.in_step)
    assert world.peer == []


async def test_the_phone_has_the_last_word(autojump_clock: Clock, world: World) -> None:
    """What no snapshot cures is asked of the phone, once a day, and then goes on from there."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.garbled = {LOW}
    world.bad_snapshots = 1000
    async with living(world):
        await until(lambda: world.state_of(LOW) == "broken")
        asked = [one.snapshot for wanted in world.requests for one in wanted if one.name == LOW]
        assert asked == [False, True, True]
        [(message, priority)] = world.peer
        assert requests.parse_recovery_request(message) == LOW
        assert priority == "high_force"
        await trio.sleep(subject.ASK_AGAIN / 2)
        assert len(world.peer) == 1
        assert world.state_of(CONTACTS) == "current"
        assert world.database.states[LOW][0] == 1  # still as it was

        world.app_state.recovery_arrived(world.phone.recovery(LOW))
        await until(lambda: world.in_step)
        assert world.state_of(LOW) == "current"
        world.garbled = set()
        world.phone.write(actions.pin(ANA, True, at=AT + 2000))
        world.app_state.dirty([LOW])
        await until(lambda: world.in_step)
    assert pins(world) == [True, False, True]


async def test_a_recovery_may_need_a_key(autojump_clock: Clock, world: World) -> None:
    """It is kept until the key is there."""
    await synced(world)
    world.garbled = {LOW}
    world.bad_snapshots = 1000
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    async with living(world):
        await until(lambda: world.state_of(LOW) == "broken")
        world.phone.key_id = bytes([0, 0, 0, 0, 0, 2])
        world.phone.write(actions.pin(BIA, True, at=AT + 2000))
        world.app_state.recovery_arrived(world.phone.recovery(LOW))
        await until(lambda: world.state_of(LOW) == "waiting_for_keys")
        world.share_keys()
        await until(lambda: world.in_step)
        assert world.state_of(LOW) == "current"


@pytest.mark.parametrize("raw", [b"\xff", b"", requests.build_key_request([b"k"])])
async def test_recoveries_nobody_can_read(autojump_clock: Clock, world: World, raw: bytes) -> None:
    """They change nothing; neither does one that nobody needs."""
    await synced(world)
    async with living(world):
        for _ in range(20):
            world.app_state.recovery_arrived(raw)
        world.app_state.recovery_arrived(world.phone.recovery(LOW))
        await until(lambda: world.requests)
        await trio.sleep(60)
        assert len([step for step in world.database.steps if step.collection == LOW]) == 1


async def test_a_crash_between_two_patches_repeats_nothing(
    autojump_clock: Clock, world: World
) -> None:
    """The next life goes on behind the last one that was committed."""
    await synced(world)
    for moment in range(4):
        world.phone.write(actions.pin(ANA, bool(moment % 2), at=AT + moment))
    world.database.crash_at = 2
    async with living(world):
        await until(lambda: world.database.crash_at == 0)
        await trio.sleep(5)
    assert world.database.states[LOW][0] == 3
    world.database.crash_at = None
    world.start()
    async with living(world):
        await until(lambda: world.in_step)
    versions = [step.version for step in world.database.steps if step.collection == LOW]
    assert versions == [1, 2, 3, 4, 5]
    assert pins(world) == [True, False, True, False, True]


async def test_a_large_snapshot_commits_in_parts(autojump_clock: Clock, world: World) -> None:
    """The step comes last, so that a crash repeats the facts and forgets none."""
    people = 2 * MUTATIONS_PER_ENVELOPE + 10
    world.phone.write(
        *(
            actions.contact(Jid(f"1555{n:07}", "s.whatsapp.net"), full_name=f"P{n}", at=AT)
            for n in range(people)
        )
    )
    world.database.crash_at = 2
    async with living(world):
        world.share_keys()
        await until(lambda: world.database.crash_at == 0)
        await trio.sleep(5)
    assert CONTACTS not in world.database.states
    world.database.crash_at = None
    world.start()
    async with living(world):
        await until(lambda: world.in_step)
    names = {fact.address for fact in world.database.facts if isinstance(fact, ContactName)}
    assert len(names) == people + 1
    sizes = [len(envelope.facts) for envelope in world.database.envelopes]
    assert max(sizes) <= MUTATIONS_PER_ENVELOPE + 1


async def test_refusals_are_waited_out(autojump_clock: Clock, world: World) -> None:
    """Of everything or of one collection, with growing pauses."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.refusal = IqError(503, "later")
    async with living(world):
        await trio.sleep(600)
        assert 3 < len(world.requests) < 12
        assert {status.state.value for status in world.app_state.status()} == {"retrying"}
        world.refusal, world.refused = None, {CONTACTS: IqError(404, "gone")}
        await until(lambda: world.in_step)
        await trio.sleep(7200)
        assert world.state_of(CONTACTS) == "retrying"
        last = [one for wanted in world.requests for one in wanted if one.name == CONTACTS][-1]
        assert last.snapshot  # perhaps the version was the trouble
        world.refused = {}
        await until(lambda: world.state_of(CONTACTS) == "current")


async def test_an_absent_line_or_database_is_waited_out(
    autojump_clock: Clock, world: World
) -> None:
    """Neither ends the task."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.database.away, world.online = True, False
    async with living(world):
        await trio.sleep(60)
        world.database.away = False
        await until(lambda: world.state_of(LOW) == "retrying")
        world.online, world.database.away = True, True
        await trio.sleep(1800)
        assert not world.in_step
        world.database.away = False
        await until(lambda: world.in_step)


async def test_a_step_that_cannot_be_stored_is_tried_again(
    autojump_clock: Clock, world: World
) -> None:
    """Until then the collection stays where it is."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.database.refuses = 2
    async with living(world):
        await until(lambda: world.in_step)
    assert [step.version for step in world.database.steps if step.collection == LOW] == [1, 2]


async def test_patches_that_are_known_are_passed_over(autojump_clock: Clock, world: World) -> None:
    """And a server that promises more without sending any is not asked in a circle."""
    await synced(world)

    def stubborn(wanted: CollectionRequest) -> CollectionAnswer:
        known = tuple(world.phone.collections[wanted.name].patches)
        return CollectionAnswer(name=wanted.name, patches=known, more=True)

    world.answer = stubborn
    async with living(world):
        await trio.sleep(3600)
    assert len(world.requests) < 60
    assert [step.version for step in world.database.steps if step.collection == LOW] == [1]


async def test_a_server_may_send_all_patches_in_place_of_a_snapshot(
    autojump_clock: Clock, world: World
) -> None:
    """From the first one on; then nothing that is stored counts."""
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))

    def patches_only(wanted: CollectionRequest) -> CollectionAnswer:
        written = world.phone.collections[wanted.name]
        return CollectionAnswer(name=wanted.name, patches=tuple(written.patches))

    world.answer = patches_only
    async with living(world):
        world.share_keys()
        await until(lambda: world.in_step)
    steps = [(step.version, step.reset) for step in world.database.steps if step.collection == LOW]
    assert steps == [(1, True), (2, False)]


async def test_a_snapshot_nobody_asked_for(autojump_clock: Clock, world: World) -> None:
    """It is taken when it is newer than what is there."""
    await synced(world)
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))

    def snapshots_only(wanted: CollectionRequest) -> CollectionAnswer:
        return world.honest(CollectionRequest(name=wanted.name, snapshot=True))

    world.answer = snapshots_only
    async with living(world):
        await until(lambda: world.in_step)
        world.app_state.dirty()
        await trio.sleep(60)
    steps = [(step.version, step.reset) for step in world.database.steps if step.collection == LOW]
    assert steps == [(1, True), (2, True)]


async def test_a_collection_left_out_is_asked_for_again(
    autojump_clock: Clock, world: World
) -> None:
    """Its absence from an answer is no answer."""
    await synced(world)
    world.answer = lambda wanted: CollectionAnswer(name="another")
    async with living(world):
        await until(lambda: world.state_of(LOW) == "retrying")
        world.answer = world.honest
        await until(lambda: world.state_of(LOW) == "current")


async def test_a_phone_that_cannot_be_asked_is_asked_later(
    autojump_clock: Clock, world: World
) -> None:
    """What did not leave does not count as asked."""
    await synced(world)
    world.phone.key_id = bytes([0, 0, 0, 0, 0, 2])
    world.phone.write(actions.pin(ANA, False, at=AT + 1000))
    world.phone_away = True
    async with living(world):
        await until(lambda: world.state_of(LOW) == "waiting_for_keys")
        await trio.sleep(60)
        world.phone_away = False
        await trio.sleep(3600)
        assert len(world.peer) == 1


async def test_what_was_asked_is_remembered_within_bounds(autojump_clock: Clock) -> None:
    """For a day, and not without end."""
    asked = subject.Asked()
    for number in range(subject.MAX_ASKED + 1):
        assert asked.may(str(number))
        asked.note(str(number))
    assert asked.may("0")
    assert not asked.may("1")
    await trio.sleep(subject.ASK_AGAIN)
    assert asked.may("1")


class Answers(t.NamedTuple):
    """What a hostile server says of one collection."""

    snapshot: bytes | None
    patches: tuple[bytes, ...]
    file: bytes
    more: bool


@hypothesis.given(
    st.lists(
        st.builds(
            Answers,
            st.none() | st.binary(max_size=40) | st.just(b"reference"),
            st.lists(st.binary(max_size=80) | st.just(b"patch"), max_size=3).map(tuple),
            st.binary(max_size=80),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.binary(max_size=40), max_size=2),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_no_bytes_end_the_task(answers: list[Answers], recoveries: list[bytes]) -> None:
    """And none of them is taken for app state."""

    async def attack() -> None:
        world = World()
        world.phone.write(actions.pin(ANA, True, at=AT))
        real = world.phone.collections[LOW].patches[0]

        def answer(wanted: CollectionRequest) -> CollectionAnswer:
            said = answers[len(world.requests) % len(answers)]
            snapshot = said.snapshot
            if snapshot == b"reference":
                snapshot = world.phone.upload(said.file)
            patches = tuple(real[:-3] if data == b"patch" else data for data in said.patches)
            return CollectionAnswer(
                name=wanted.name, snapshot=snapshot, patches=patches, more=said.more
            )

        world.answer = answer
        async with living(world):
            world.share_keys()
            for raw in recoveries:
                world.app_state.recovery_arrived(raw)
            await trio.sleep(600)
        assert world.database.steps == []

    trio.run(attack, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_it_works_on_a_whole_storage(
    autojump_clock: Clock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the small database of these tests leaves out changes nothing."""
    storage = MemoryStorage(clock=lambda: START)
    await storage.ensure_connection(NAME, ConversationRules())

    async def apply(envelope: Envelope) -> Outcome | None:
        [outcome] = await storage.apply([envelope])
        return outcome

    monkeypatch.setattr(world.database, "apply", apply)
    monkeypatch.setattr(world.database, "app_state", storage.app_state)
    monkeypatch.setattr(world.database, "app_state_values", storage.app_state_values)
    world.start()
    written = world.phone.collections[LOW]

    async def in_step() -> bool:
        state = written.state
        return await storage.app_state(NAME, LOW) == (state.version, state.hash)

    async with living(world):
        world.share_keys()
        await trio.sleep(60)
        assert await in_step()
        world.phone.write(actions.pin(ANA, False, at=AT + 1000))
        world.phone.write(actions.pin(ANA, False, at=AT + 2000), operation=Operation.REMOVE)
        world.app_state.dirty()
        await trio.sleep(60)
        assert await in_step()
    assert written.state.version == 3
    assert await storage.app_state_values(NAME, LOW, list(written.values)) == written.values
