"""A channel at work: in order, later and later, given up, never twice; and threads that hang."""

import collections
import collections.abc as cabc
import threading
import typing as t

import attrs
import pytest
import structlog
import trio
import trio.testing

from actors.channel_sending import HANGING, HOPELESS_ATTEMPTS, LAST_RETRY, POLL, retry_delay
from actors.channels import Attempt, ChannelSettings, Letter, Outcome
from actors.notifier import STALE, TEST_PATIENCE, Notifier
from storage.errors import StorageUnavailableError
from storage.memory import MemoryStorage
from storage.notifications import (
    ChannelRow,
    ChannelRule,
    Content,
    Notification,
    NotificationKind,
    Severity,
)

Mock: t.TypeAlias = trio.testing.MockClock

NOW = 1_800_000_000.0
ALERTS = frozenset({NotificationKind.ALERT, NotificationKind.RECOVERY})
REAL = 20.0  # seconds that real threads may take


def notification(key: str, **fields: t.Any) -> Notification:
    """An alert."""
    return Notification(
        key=key, kind=NotificationKind.ALERT, subject=f"subject of {key}", text="text", **fields
    )


class FakeCarrier:
    """Takes letters, unless it is told what to answer; one that hangs does until it is let go."""

    service = "fake"

    def __init__(self) -> None:
        self.answers: collections.deque[Outcome | str | Exception] = collections.deque()
        self.letters: list[Letter] = []
        self.tried: list[str] = []
        self.let_go = threading.Event()

    def send(self, letter: Letter, attempt: Attempt) -> Outcome:
        self.tried.append(letter.content.subject)
        answer = self.answers.popleft() if self.answers else Outcome()
        if answer == "hang":
            assert self.let_go.wait(REAL)
            return Outcome(error="let go")
        if answer == "slow":  # it ends when it is abandoned
            ended = threading.Event()
            attempt.ends_by(ended.set)
            assert ended.wait(REAL)
            answer = Outcome(error="abandoned")
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Outcome)
        if answer.error is None:
            self.letters.append(letter)
        return answer

    @property
    def subjects(self) -> list[str]:
        """What was taken."""
        return [each.content.subject.removeprefix("subject of ") for each in self.letters]


class FaultyStorage(MemoryStorage):
    """Away when told so, for all or for single methods."""

    away: frozenset[str] = frozenset()
    begun: list[str]

    def __getattribute__(self, name: str) -> t.Any:
        if name in object.__getattribute__(self, "away"):
            raise StorageUnavailableError(f"{name}: the database is away")
        return super().__getattribute__(name)


@attrs.define
class World:
    """A storage, channels, and a clock that only the test moves."""

    storage: FaultyStorage
    nursery: trio.Nursery
    clock: trio.testing.MockClock
    carriers: dict[str, FakeCarrier] = attrs.field(factory=dict)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    notifier: Notifier = attrs.field(init=False)

    def wall_clock(self) -> float:
        return NOW + trio.current_time() if _running() else NOW

    async def start(self, *names: str, **settings: t.Any) -> Notifier:
        """Run channels of these names, in place of those that run."""
        self.scope.cancel()
        self.scope = trio.CancelScope()
        chosen = []
        for name in names or ("mail",):
            rule = ChannelRule(name=name, kinds=ALERTS, severity=Severity.INFO)
            carrier = self.carriers.setdefault(name, FakeCarrier())
            chosen.append((ChannelSettings(rule=rule, url="", **settings), carrier))
        self.notifier = Notifier(
            chosen, self.storage, wall_clock=self.wall_clock, uniform=lambda: 0.5
        )
        await self.notifier.begin()
        await self.nursery.start(self._run)
        return self.notifier

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self.scope:
            async with trio.open_nursery() as channels:
                for child in self.notifier.children():
                    await channels.start(child.start)
                task_status.started()

    async def forward(self, seconds: float) -> None:
        """Let virtual time pass; whoever polls gets its turns."""
        while seconds > 0:
            await trio.testing.wait_all_tasks_blocked(0.001)
            self.clock.jump(min(seconds, POLL))
            seconds -= POLL
        await trio.testing.wait_all_tasks_blocked(0.001)

    async def row(self, name: str = "mail") -> ChannelRow:
        """How far a channel is."""
        [found] = [each for each in await self.storage.channels() if each.name == name]
        return found

    async def until(self, condition: cabc.Callable[[], t.Any]) -> None:
        """Let threads and tasks run, in real time, until it is true."""
        deadline = threading.Event()
        timer = threading.Timer(REAL, deadline.set)
        timer.start()
        try:
            while not (condition() if not _is_async(condition) else await condition()):
                assert not deadline.is_set(), "it does not come true"
                await trio.testing.wait_all_tasks_blocked(0.001)
        finally:
            timer.cancel()

    async def settled(self, *, sent: int = 0, failed: int = 0, name: str = "mail") -> ChannelRow:
        """Wait until so many were sent, and so many attempts failed."""

        async def there() -> bool:
            row = await self.row(name)
            return (row.sent, row.failed) == (sent, failed)

        await self.until(there)
        return await self.row(name)


def _running() -> bool:
    try:
        trio.current_time()
    except RuntimeError:
        return False
    return True


def _is_async(condition: t.Any) -> bool:
    import inspect

    return inspect.iscoroutinefunction(condition)


@pytest.fixture
async def world(mock_clock: Mock, nursery: trio.Nursery) -> cabc.AsyncIterator[World]:
    made = World(FaultyStorage(), nursery, mock_clock)
    made.storage._clock = made.wall_clock
    try:
        yield made
    finally:
        for carrier in made.carriers.values():
            carrier.let_go.set()
        made.scope.cancel()


def test_retries_wait_longer_and_longer() -> None:
    """Threefold, up to half an hour, give or take a fifth."""
    assert [retry_delay(number, 0.5) for number in (1, 2, 3)] == [10, 30, 90]
    assert retry_delay(50, 0.5) == LAST_RETRY
    assert retry_delay(1, 0.0) == pytest.approx(8)
    assert retry_delay(1, 1.0) == pytest.approx(12)


async def test_told_in_order_and_once(mock_clock: Mock, world: World) -> None:
    """Soon after they are queued; each in the language of the channel."""
    notifier = await world.start(language="pt-BR")
    portuguese = {"pt-BR": Content(subject="subject of b em português", text="texto")}
    told = [notification("a"), notification("b", translations=portuguese)]
    assert await notifier.notify(told) == 2
    row = await world.settled(sent=2)
    assert await notifier.notify([notification("a")]) == 0
    assert world.carriers["mail"].subjects == ["a", "b em português"]
    assert (row.pending, row.failing_since) == (0, None)
    first, second = world.carriers["mail"].letters
    assert first.identity != second.identity


async def test_queued_elsewhere_they_are_found_soon(mock_clock: Mock, world: World) -> None:
    """Nobody needs to wake the channel."""
    await world.start()
    await world.storage.enqueue_notifications([notification("a")])
    await trio.testing.wait_all_tasks_blocked()
    assert world.carriers["mail"].subjects == []
    await world.forward(5.0)
    await world.settled(sent=1)


async def test_failures_are_retried_in_order(mock_clock: Mock, world: World) -> None:
    """10 s, 30 s, 90 s later; what comes after waits; the log says it once, and when it is over."""
    notifier = await world.start()
    carrier = world.carriers["mail"]
    carrier.answers.extend([Outcome(error="no route")] * 3)
    with structlog.testing.capture_logs() as logs:
        await notifier.notify([notification("a"), notification("b")])
        for number, delay in enumerate((10, 30, 90), start=1):
            row = await world.settled(failed=number)
            assert row.error == "no route"
            assert (row.pending, row.retrying) == (2, 1)
            await world.forward(delay - 6)
            await trio.testing.wait_all_tasks_blocked()
            assert (await world.row()).failed == number
            await world.forward(12)  # a poll may come as late as that
        row = await world.settled(sent=2, failed=3)
    assert carrier.subjects == ["a", "b"]
    assert row.failing_since is None
    events = [each["event"] for each in logs if each["log_level"] != "debug"]
    assert events == ["channel.failing", "channel.recovered"]


async def test_given_up_after_so_many_attempts(mock_clock: Mock, world: World) -> None:
    """Then the next one has its turn."""
    notifier = await world.start(attempts=2)
    world.carriers["mail"].answers.extend([Outcome(error="no route")] * 2)
    with structlog.testing.capture_logs() as logs:
        await notifier.notify([notification("a"), notification("b")])
        await world.settled(failed=1)
        await world.forward(16)
        row = await world.settled(failed=2, sent=1)
    assert world.carriers["mail"].subjects == ["b"]
    assert (row.given_up, row.pending) == (1, 0)
    [given_up] = [each for each in logs if each["event"] == "channel.given_up"]
    assert (given_up["key"], given_up["error"], given_up["channel"]) == ("a", "no route", "mail")


async def test_what_is_refused_for_good_is_given_up_soon(mock_clock: Mock, world: World) -> None:
    """Asking thirty times would be of no use, and hold up the others."""
    notifier = await world.start()
    refusal = Outcome(error="550 no", hopeless=True)
    world.carriers["mail"].answers.extend([refusal] * HOPELESS_ATTEMPTS)
    await notifier.notify([notification("a")])
    for number in range(1, HOPELESS_ATTEMPTS):
        await world.settled(failed=number)
        await world.forward(retry_delay(number, 0.5) + POLL)
    row = await world.settled(failed=HOPELESS_ATTEMPTS)
    assert row.given_up == 1


async def test_a_channel_that_hangs_delays_no_other(mock_clock: Mock, world: World) -> None:
    """Each has a task and threads of its own."""
    notifier = await world.start("mail", "chat")
    world.carriers["mail"].answers.append("hang")
    await notifier.notify([notification("a"), notification("b")])
    await world.settled(sent=2, name="chat")  # no time has passed
    assert trio.current_time() == 0
    row = await world.row("mail")
    assert (row.sent, row.pending) == (0, 2)


async def test_hanging_threads_are_told_and_bounded(mock_clock: Mock, world: World) -> None:
    """An attempt ends with its timeout; its thread may not. With all places taken nothing more is
    begun; when they end it goes on."""
    notifier = await world.start(timeout=30.0)
    carrier = world.carriers["mail"]
    carrier.answers.extend(["hang"] * HANGING)
    with structlog.testing.capture_logs() as logs:
        await notifier.notify([notification("a")])
        for number in range(HANGING):
            await world.until(lambda number=number: len(carrier.tried) == number + 1)
            await world.forward(30)
            await world.settled(failed=number + 1)
            await world.forward(retry_delay(number + 1, 0.5) + POLL)
        await world.forward(30)
        row = await world.settled(failed=HANGING + 1)
    assert row.error is not None
    assert "3 earlier attempts hang" in row.error
    assert len(carrier.tried) == HANGING
    assert [each["hanging"] for each in logs if each["event"] == "channel.hangs"] == [1, 2, 3, 3]
    [view] = await notifier.views()
    assert (view.hanging, view.state) == (HANGING, "failing")
    carrier.let_go.set()
    await world.until(lambda: notifier._channels["mail"].hanging == 0)
    await world.forward(LAST_RETRY)
    await world.settled(failed=HANGING + 1, sent=1)


async def test_an_abandoned_thread_is_told(mock_clock: Mock, world: World) -> None:
    """So that what it waits in is closed, and it sends nothing later."""
    notifier = await world.start(timeout=30.0)
    carrier = world.carriers["mail"]
    carrier.answers.append("slow")
    await notifier.notify([notification("a")])
    await world.until(lambda: carrier.tried)
    await world.forward(30)
    row = await world.settled(failed=1)
    assert row.error == "no answer within 30 s"
    await world.until(lambda: notifier._channels["mail"].hanging == 0)


async def test_a_restart_goes_on_where_it_was(mock_clock: Mock, world: World) -> None:
    """What waits is sent; what was being sent when the daemon was killed is sent again at once,
    as the same mail; what was sent is not."""
    notifier = await world.start(timeout=30.0)
    await notifier.notify([notification("a")])
    await world.settled(sent=1)
    await world.storage.enqueue_notifications([notification("b"), notification("c")])
    world.scope.cancel()
    killed = await world.storage.claim_notification("mail", world.wall_clock() + 90)
    assert killed is not None
    await world.start(timeout=30.0)
    await world.settled(sent=3)
    assert world.carriers["mail"].subjects == ["a", "b", "c"]
    assert f"mail:b:{killed.created_at}" == world.carriers["mail"].letters[1].identity


async def test_an_orderly_end_waits_for_the_attempt(mock_clock: Mock, world: World) -> None:
    """What the service takes in the last moment is not sent again."""
    notifier = await world.start()
    carrier = world.carriers["mail"]
    entered, leave = threading.Event(), threading.Event()
    send = carrier.send

    def slowly(letter: Letter, attempt: Attempt) -> Outcome:
        entered.set()
        assert leave.wait(REAL)
        return send(letter, attempt)

    carrier.send = slowly  # type: ignore[method-assign]
    await notifier.notify([notification("a")])
    await world.until(entered.is_set)
    world.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    leave.set()
    await world.settled(sent=1)
    carrier.send = send  # type: ignore[method-assign]
    await world.start()
    await world.forward(200)
    await trio.testing.wait_all_tasks_blocked()
    assert carrier.subjects == ["a"]


async def test_an_orderly_end_does_not_wait_for_ever(mock_clock: Mock, world: World) -> None:
    """A thread that hangs is left; the notification is sent after the next start."""
    notifier = await world.start(timeout=30.0)
    world.carriers["mail"].answers.append("hang")
    await notifier.notify([notification("a")])
    await world.until(lambda: world.carriers["mail"].tried)
    world.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    await world.forward(2)
    await world.start(timeout=30.0)
    await world.settled(sent=1)


async def test_an_outcome_waits_for_the_database(mock_clock: Mock, world: World) -> None:
    """It was sent while the database went away: it is recorded when that is back, and not sent
    again."""
    notifier = await world.start()
    world.storage.away = frozenset({"settle_notification"})
    await notifier.notify([notification("a"), notification("b")])
    await world.until(lambda: world.carriers["mail"].tried)
    for _ in range(4):
        await world.forward(30)
        await trio.testing.wait_all_tasks_blocked()
    assert world.carriers["mail"].subjects == ["a"]
    world.storage.away = frozenset()
    await world.forward(30)
    await world.settled(sent=2)
    assert world.carriers["mail"].subjects == ["a", "b"]


async def test_what_was_always_interrupted_is_given_up(mock_clock: Mock, world: World) -> None:
    """A notification that kills the daemon does so only so often."""
    await world.start(attempts=2)
    world.scope.cancel()
    await world.storage.enqueue_notifications([notification("a")])
    for _ in range(2):
        assert await world.storage.claim_notification("mail", world.wall_clock() + 1)
        await world.forward(2)
    await world.start(attempts=2)
    row = await world.settled(failed=1)
    assert (row.given_up, row.error) == (1, "every attempt was interrupted")
    assert world.carriers["mail"].tried == []


async def test_a_bug_in_a_carrier_stops_nothing(mock_clock: Mock, world: World) -> None:
    """It is logged, and the channel goes on after a pause."""
    notifier = await world.start("mail", "chat", timeout=30.0)
    world.carriers["mail"].answers.append(RuntimeError("bug"))
    with structlog.testing.capture_logs() as logs:
        await notifier.notify([notification("a")])
        await world.settled(sent=1, name="chat")
        await world.until(lambda: any(each["event"] == "service.failed" for each in logs))
    await world.forward(95)
    await world.settled(sent=1)


async def test_some_recipients_are_refused(mock_clock: Mock, world: World) -> None:
    """The others have it: it is sent, and the log says who has not."""
    notifier = await world.start()
    world.carriers["mail"].answers.append(Outcome(refused="the server refused boss@example.com"))
    with structlog.testing.capture_logs() as logs:
        await notifier.notify([notification("a")])
        await world.settled(sent=1)
    assert "channel.recipients_refused" in [each["event"] for each in logs]


async def test_without_a_database_it_is_sent_directly(mock_clock: Mock, world: World) -> None:
    """To those that take it; each outcome is told, and the queue does not send it again to those
    that have it."""
    notifier = await world.start("mail", "chat")
    world.carriers["chat"].answers.append(Outcome(error="no route"))
    world.storage.away = frozenset({"claim_notification", "count_sent"})
    alert = notification("database-down", severity=Severity.CRITICAL)
    with trio.fail_after(1):
        outcomes = await notifier.send_now(alert, REAL)
    assert outcomes == {"mail": Outcome(), "chat": Outcome(error="no route")}
    world.storage.away = frozenset()
    told = tuple(name for name, outcome in outcomes.items() if outcome.error is None)
    await notifier.notify([attrs.evolve(alert, told=told)])
    await world.forward(60)
    await world.settled(sent=1, name="chat")
    await trio.testing.wait_all_tasks_blocked()
    assert world.carriers["mail"].subjects == ["database-down"]
    assert world.carriers["chat"].subjects == ["database-down"]


async def test_directly_beside_an_unrecorded_outcome(mock_clock: Mock, world: World) -> None:
    """While the queue holds an outcome that the database does not take, the channel is free."""
    notifier = await world.start()
    world.storage.away = frozenset({"settle_notification", "count_sent"})
    await notifier.notify([notification("a")])
    await world.until(lambda: world.carriers["mail"].tried)
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(1):
        assert await notifier.send_now(notification("now"), REAL) == {"mail": Outcome()}


async def test_a_test_is_sent_at_once(mock_clock: Mock, world: World) -> None:
    """Past what waits for its next attempt, which is then tried, too."""
    notifier = await world.start()
    world.carriers["mail"].answers.append(Outcome(error="no route"))
    await notifier.notify([notification("a")])
    await world.settled(failed=1)
    with trio.fail_after(1):
        result = await notifier.test("mail")
    assert (result.ok, result.error) == (True, None)
    await world.settled(failed=1, sent=2)
    test, waited = world.carriers["mail"].letters
    assert (test.kind, waited.content.subject) == (NotificationKind.TEST, "subject of a")
    with pytest.raises(KeyError):
        await notifier.test("nobody")


async def test_a_test_that_fails(mock_clock: Mock, world: World) -> None:
    """It says why, is counted, and is not sent again."""
    notifier = await world.start()
    world.carriers["mail"].answers.append(Outcome(error="535 no"))
    result = await notifier.test("mail")
    assert (result.ok, result.error) == (False, "535 no")
    await world.forward(60)
    row = await world.settled(failed=1)
    assert (row.pending, row.error) == (0, "535 no")


async def test_a_test_of_a_channel_that_hangs(mock_clock: Mock, world: World) -> None:
    """Has an end before the API's; also while another attempt hangs."""
    notifier = await world.start(timeout=60.0)
    world.carriers["mail"].answers.append("hang")
    results: list[t.Any] = []

    async def try_out() -> None:
        results.append(await notifier.test("mail"))

    world.nursery.start_soon(try_out)
    await world.until(lambda: world.carriers["mail"].tried)
    await world.forward(TEST_PATIENCE)
    await world.until(lambda: results)
    assert results[0].error == "no outcome within 25 s"
    await notifier.notify([notification("a")])
    await world.settled(sent=1)


async def test_old_news_is_not_told(mock_clock: Mock, world: World) -> None:
    """A daemon that was off for days says how much it does not tell any more."""
    await world.start()
    world.scope.cancel()
    await world.storage.enqueue_notifications([notification("a")])
    world.clock.jump(STALE + 1)
    with structlog.testing.capture_logs() as logs:
        await world.start()
    assert [each["notifications"] for each in logs] == [1]
    assert (await world.row()).given_up == 1


async def test_without_channels_there_is_nothing_to_do(mock_clock: Mock, world: World) -> None:
    """No task, no question to the database."""
    notifier = Notifier((), world.storage, wall_clock=world.wall_clock, uniform=lambda: 0.5)
    await notifier.begin()
    assert notifier.children() == []
    world.storage.away = frozenset({"channels"})
    assert await notifier.views() == []
    assert await notifier.send_now(notification("a"), REAL) == {}


async def test_past_the_queue_who_took_it_is_known_in_any_case(
    mock_clock: Mock, world: World
) -> None:
    """A channel that hangs, and a database that does not answer, hide no other one's outcome: it
    would be told again."""
    notifier = await world.start("mail", "pager", timeout=300.0)
    world.carriers["pager"].answers.append("slow")
    hung = trio.Event()

    async def hangs(_channel: str, _error: str | None = None) -> None:
        hung.set()
        await trio.sleep_forever()

    world.storage.count_sent = hangs  # type: ignore[method-assign]
    outcomes: dict[str, Outcome] = {}

    async def send() -> None:
        outcomes.update(await notifier.send_now(notification("now"), 100.0))

    world.nursery.start_soon(send)
    await world.until(hung.is_set)
    await world.until(lambda: world.carriers["pager"].tried)
    await world.forward(100)
    assert outcomes == {"mail": Outcome()}
    await world.until(lambda: notifier._channels["pager"].hanging == 0)
