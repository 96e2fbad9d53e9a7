"""The judgement on a connection: suspicions, probes, resets and verdicts, in made-up time."""

import importlib.util
import itertools
import pathlib
import typing as t

import attrs
import pytest

from actors.hearing import Ear
from actors.hearing_words import HearingSettings, Kind, Load, Order, Tally

HOUR: t.Final = 3600.0
DAY: t.Final = 24 * HOUR
WALL: t.Final = 1_790_000_000.0
BENCH: t.Final = pathlib.Path(__file__).parents[2] / "bench" / "bench_deaf_alarms.py"


@attrs.define
class Play:
    """An ear, and the time."""

    now: float = 1000.0
    ear: Ear = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ear = Ear(HearingSettings(checkup=0.0), lambda: self.now, lambda: WALL + self.now)

    def busy(self, per_hour: int = 20, weeks: int = 4) -> "Play":
        """Like clockwork, until now."""
        until = int((WALL + self.now) // HOUR)
        for hour in range(until - weeks * 168, until):
            self.ear.traffic.learn(hour, per_hour)
        return self

    def log_in(self, *waiting: float, kind: Kind = Kind.MESSAGE) -> str | None:
        """A socket, with stanzas of these times in its queue; what people read."""
        self.ear.logged_in(int(WALL + self.now))
        self.ear.announced(len(waiting))
        for sent_at in waiting:
            self.ear.take(kind, offline=True, sent_at=int(WALL + sent_at))
        self.ear.drained()
        return self.ear.online()

    def wait(self, seconds: float, load: Load | None = None) -> Order | None:
        """The first order within so many seconds."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 10)
            if (order := self.ear.consider(load or Load())) is not None:
                return order
        return None

    def reset(self, seconds: float = 6 * HOUR) -> bool:
        """Whether it comes to a reset, with a phone that is off."""
        until = self.now + seconds
        while self.now < until:
            order = self.wait(until - self.now)
            if order is Order.PROBE:
                self.ear.probe_sent("probe")
            elif order is Order.RESET:
                self.ear.ended()
                self.now += 2
                return True
        return False


def test_an_unusual_silence_is_asked_about_then_reset_then_judged() -> None:
    """Deaf: what was sent in the silence comes from the queue of the next socket."""
    play = Play().busy()
    assert play.log_in() is None
    began = play.now
    assert play.wait(6 * HOUR) is Order.PROBE
    assert 600 < play.now - began < 2 * HOUR
    assert play.ear.suspicion is None
    play.ear.probe_sent("probe")
    assert play.reset()
    assert play.ear.suspicion is not None
    assert play.ear.suspicion.since.timestamp() == pytest.approx(WALL + began)
    found = play.log_in(began + 300, began + 400)
    assert found is not None
    assert "2 stanzas were held back" in found
    assert play.ear.suspicion is None
    assert play.ear.tally == Tally(suspicions=1, probes=1, resets=1, deaf=1)
    assert play.ear.online() is None


@pytest.mark.parametrize(
    ("kind", "offsets"),
    [
        (Kind.MESSAGE, ()),
        (Kind.MESSAGE, (-60.0,)),  # redelivered: it had been heard
        (Kind.OTHER, (300.0, 400.0)),  # two receipts, dated by others
    ],
)
def test_a_false_suspicion_makes_the_next_one_need_a_longer_silence(
    kind: Kind, offsets: tuple[float, ...]
) -> None:
    """Four times as long, and nobody reads of it."""
    play = Play().busy()
    play.log_in()
    began = play.now
    assert play.reset()
    first = play.now - began
    assert play.log_in(*(began + offset for offset in offsets), kind=kind) is None
    assert (play.ear.tally.false, play.ear.tally.deaf) == (1, 0)
    began = play.now
    assert play.reset(DAY)
    assert 3.5 * first < play.now - began < 5 * first


def test_the_silence_of_a_deaf_connection_is_not_learned() -> None:
    """A false suspicion is: that silence was one."""
    for deaf in (True, False):
        play = Play().busy()
        play.log_in()
        began = play.now
        assert play.reset()
        play.log_in(*((began + 60,) if deaf else ()))
        play.ear.traffic._enter(0)
        learned = play.ear.traffic._hours - 4 * 168
        assert learned == 0 if deaf else learned > 0.3


def test_time_without_a_socket_teaches_nothing() -> None:
    """Neither an operator's stop nor an outage is a silence of the account."""
    play = Play().busy()
    play.log_in()
    play.ear.ended()
    play.now += 5 * DAY
    play.log_in()
    play.ear.traffic._enter(0)
    assert play.ear.traffic._hours == 4 * 168


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.PEER])
def test_any_message_ends_a_suspicion(kind: Kind) -> None:
    """The answer of the phone, or whatever comes first; then it waits for longer."""
    play = Play().busy()
    play.log_in()
    began = play.now
    assert play.wait(DAY) is Order.PROBE
    first = play.now - began
    play.ear.probe_sent("probe")
    play.now += 3
    play.ear.take(kind)
    began = play.now
    assert play.wait(DAY) is Order.PROBE
    assert play.now - began > first if kind is Kind.PEER else play.now - began <= first + 10
    assert play.ear.tally.answered == (kind is Kind.PEER)


def test_receipts_alone_do_not_end_it() -> None:
    """The phone confirms the question, its answer does not come: messages are not heard."""
    play = Play().busy()
    play.log_in()
    assert play.wait(DAY) is Order.PROBE
    play.ear.probe_sent("probe")
    play.now += 2
    play.ear.take(Kind.OTHER)
    play.ear.receipt("probe", "own")
    began = play.now
    assert play.wait(HOUR) is Order.RESET
    assert play.now - began < 30
    assert "the phone got a question" in play.ear.why


def test_no_trouble_of_ours_is_taken_for_deafness() -> None:
    """A late writer, a late loop, a full backlog: nothing is asked, and not at once after."""
    for load in (
        Load(oldest_in_flight=6),
        Load(loop_lag=6),
        Load(busy_for=6),
        Load(backlog=100),
        Load(held_back=True),
    ):
        play = Play().busy()
        play.log_in()
        assert load.trouble() is not None
        assert play.wait(DAY, load) is None
        recovered = play.now
        assert play.wait(HOUR) is Order.PROBE
        assert play.now - recovered >= 60


def test_resets_are_few_and_their_pauses_grow() -> None:
    """A queue that stands still for ever is reset four times a day."""
    play = Play()
    at: list[float] = []
    began = play.now
    while play.now - began < DAY - 1:
        play.ear.logged_in(int(WALL + play.now))
        play.ear.announced(9)
        play.ear.take(Kind.MESSAGE, offline=True, sent_at=int(WALL + 1))
        if play.wait(began + DAY - play.now) is Order.RESET:
            at.append(play.now - began)
            play.ear.ended()
            play.now += 2
    assert len(at) == 4
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= 600
    assert play.ear.suspicion is not None
    assert "9 stanzas were waiting, and sent 1 of them" in play.ear.suspicion.why


def test_a_queue_that_makes_progress_is_left_alone() -> None:
    """However long it takes."""
    play = Play()
    play.ear.logged_in(int(WALL + play.now))
    play.ear.announced(100)
    for number in range(100):
        assert play.wait(80) is None
        play.ear.take(Kind.MESSAGE, offline=True, sent_at=int(WALL - number))
    play.ear.drained()
    assert play.ear.tally == Tally()


def test_messages_that_nobody_confirms_any_more() -> None:
    """People confirm within minutes; then ten chats in a row do not."""
    play = Play()
    play.log_in()
    for number in range(60):
        play.ear.acknowledged(f"chat {number}")
        play.now += 30
        play.ear.receipt(f"id {number}", f"chat {number}")
    for number in range(10):
        play.ear.acknowledged(f"other {number}")
    assert play.wait(590) is None
    assert play.wait(HOUR) is Order.PROBE
    assert "nobody confirms messages to 10 chats" in play.ear.why


def test_messages_that_were_never_confirmed_mean_nothing() -> None:
    """Whom the account writes to may have no phone that is on; or it is one chat."""
    play = Play()
    play.log_in()
    for number in range(500):
        play.ear.acknowledged(f"chat {number % 60}")
    assert play.wait(DAY) is None


def test_a_silence_of_days_is_looked_into() -> None:
    """Where the usual traffic says nothing; again and again, however often it was nothing."""
    play = Play()
    play.ear = Ear(HearingSettings(), lambda: play.now, lambda: WALL + play.now)
    play.log_in()
    began = play.now
    assert play.wait(3 * DAY) is Order.PROBE
    assert play.now - began >= 2 * DAY
    play.ear.probe_sent("probe")
    play.ear.take(Kind.PEER)
    assert play.wait(1.9 * DAY) is None
    assert play.wait(DAY) is Order.PROBE
    play.ear.probe_sent("probe")
    assert play.wait(HOUR) is Order.RESET


def test_a_socket_that_broke_under_suspicion_is_judged_too() -> None:
    """The next one's queue tells, whoever closed the last one."""
    play = Play().busy()
    play.log_in()
    began = play.now
    assert play.wait(DAY) is Order.PROBE
    play.ear.probe_sent("probe")
    play.now += 30
    play.ear.ended()
    play.now += 5
    assert play.log_in(began + 60) is not None
    assert play.ear.tally.resets == 0
    assert play.ear.tally.deaf == 1


def test_weeks_of_accounts_raise_no_alarm() -> None:
    """A short run of bench/bench_deaf_alarms.py: bounds on results in virtual time."""
    spec = importlib.util.spec_from_file_location("bench_deaf_alarms", BENCH)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    for name in bench.SORTS:
        found = bench.run(name, accounts=1, weeks=3, seed=7)
        assert found["false_alarms"] == 0, name
        assert found["resets_per_week"] <= 1, name
        assert found["probes_per_week"] <= (0 if name == "quiet" else 14), name
        assert found["found"] + found["before_a_message"] == found["deaf"] == 3, name
        slowest = found["hours_from_deaf"][1]
        assert slowest is not None, name
        assert slowest < (1 if name == "busy" else 72), name
