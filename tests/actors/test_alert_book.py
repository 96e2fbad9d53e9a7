"""The rules and the book of alerts: what fires, what is told, and what is not. Pure."""

import typing as t

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.alert_book import INTERVALS, AlertBook, Change
from actors.alert_facts import (
    ChannelHealth,
    ConnectionHealth,
    DiskHealth,
    ExportHealth,
    IncidentHealth,
    Snapshot,
    StoredHealth,
    WebhookHealth,
    WriterHealth,
)
from actors.alert_rules import DAY, HOUR, MINUTE, RULES, Thresholds, conditions
from actors.alert_watches import AlertSettings
from actors.alert_words import alert_text
from storage.alerts import Alert, Backlog

START: t.Final = 1_700_000_000.0
GRACE: t.Final = 180.0


def connection(name: str = "sales", state: str = "online", **facts: t.Any) -> ConnectionHealth:
    """One connection; a failing one fails for want of a network."""
    facts = {"reason": "network" if state != "online" else "online", "since": START, **facts}
    return ConnectionHealth(name=name, state=state, **facts)


def of(*connections: ConnectionHealth, **facts: t.Any) -> Snapshot:
    """All that is known."""
    return Snapshot(connections=connections, **{"stored": StoredHealth(), **facts})


class Story:
    """A book, and what it said."""

    def __init__(self, **options: t.Any) -> None:
        self.settings = AlertSettings(**options)
        self.book = AlertBook(self.settings, START)
        self.now = START
        self.changes: list[Change] = []
        self.silenced: set[str | None] = set()

    def look(self, snapshot: Snapshot, seconds: float = 0.0, step: float = 15.0) -> list[Change]:
        """So long it is like this; what changed meanwhile."""
        found: list[Change] = []
        end = self.now + seconds
        while True:
            found += self.book.evaluate(
                snapshot, self.now, lambda _rule, name: name in self.silenced
            )
            if self.now >= end:
                break
            self.now = min(end, self.now + step)
        self.changes += found
        return found

    def restart(self) -> None:
        """Another life of the daemon, with what was stored."""
        alerts = {change.alert.key: change.alert for change in self.changes}
        self.book = AlertBook(self.settings, self.now)
        self.book.load(each for each in alerts.values() if each.resolved_at is None)

    @property
    def told(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """What people read: what, rule, subjects."""
        return [
            (change.what, change.alert.rule, change.tell)
            for change in self.changes
            if change.tell is not None
        ]


@pytest.fixture
def story() -> Story:
    """After the grace period, with everything well."""
    made = Story()
    made.look(of(connection()), GRACE)
    return made


def test_a_connection_that_is_down_is_told_once_and_once_that_it_is_well(story: Story) -> None:
    """After five minutes; recovered after three minutes of being online."""
    story.look(of(connection(state="backoff")), 5 * MINUTE - 1)
    assert story.told == []
    story.look(of(connection(state="connecting")), MINUTE)
    assert story.told == [("fired", "down", ("sales",))]
    story.look(of(connection()), 179)
    assert len(story.told) == 1
    story.look(of(connection()), 10)
    assert story.told[1:] == [("resolved", "down", ("sales",))]


def test_flapping_is_one_alert(story: Story) -> None:
    """Online for a minute now and then is not well; and not being down for long adds up."""
    for _ in range(20):
        story.look(of(connection(state="backoff")), 2 * MINUTE)
        story.look(of(connection()), MINUTE)
    assert story.told == [("fired", "down", ("sales",))]
    story.look(of(connection()), 10 * MINUTE)
    assert [what for what, *_ in story.told] == ["fired", "resolved"]


def test_it_is_told_again_at_growing_intervals_until_somebody_acknowledges(story: Story) -> None:
    """1 h, 4 h, 12 h, then every day."""
    down = of(connection(state="backoff"))
    story.look(down, 5 * MINUTE)
    fired = story.now
    times: list[float] = []
    for _ in range(4 * 24 * 12):
        times += [story.now for each in story.look(down, 5 * MINUTE, 300) if each.tell]
    expected = [1, 5, 17, 41, 65, 89]
    assert [round((each - fired) / HOUR) for each in times] == expected
    assert len(INTERVALS) == 4
    [alert] = story.book.alerts
    acknowledged = story.book.acknowledge(alert.key, "ana", story.now)
    assert acknowledged is not None
    assert acknowledged.step == alert.step + 1
    assert story.look(down, 3 * DAY, 600) == []
    assert [each.what for each in story.look(of(connection()), 4 * MINUTE)] == ["resolved"]
    assert story.told[-1][0] == "resolved"


def test_connections_that_fail_alike_are_one_alert(story: Story) -> None:
    """Those that have been down for half as long are told with them; another reason is another
    alert."""
    names = [f"c{number}" for number in range(5)]
    begun = [connection(name, "backoff") for name in names[:3]]
    story.look(of(*begun), 2 * MINUTE)
    both = [connection(name, "backoff") for name in names]
    other = connection("odd", "backoff", reason="refused")
    story.look(of(*both, other), 10 * MINUTE)
    assert story.told == [
        ("fired", "down", tuple(names)),
        ("fired", "down", ("odd",)),
    ]
    story.look(of(*(connection(name) for name in names), other), 4 * MINUTE)
    assert story.told[2:] == [("resolved", "down", tuple(names))]


def test_more_of_the_same_join_and_are_told_with_it(story: Story) -> None:
    """Not at once each, but after some minutes together."""
    first = [connection(f"c{number}", "backoff") for number in range(3)]
    story.look(of(*first), 6 * MINUTE)
    more = [connection(f"d{number}", "backoff") for number in range(3)]
    story.look(of(*first, *more), 20 * MINUTE)
    assert [what for what, *_ in story.told] == ["fired", "repeated"]
    assert set(story.told[1][2]) == {each.name for each in (*first, *more)}
    assert len(story.book.alerts) == 1


def test_what_explains_it_is_told_instead(story: Story) -> None:
    """The database is away: connections close, the writer waits; one alert. They get some time to
    come back afterwards."""
    many = [connection(f"c{number}", "backoff") for number in range(5)]
    away = of(
        *many,
        database_error="connection refused",
        stored=None,
        writer=WriterHealth(depth=99, capacity=100, retrying=500.0),
    )
    story.look(away, 2 * HOUR)
    assert {rule for _what, rule, _ in story.told} == {"database"}
    story.look(of(*many), 4 * MINUTE)
    story.look(of(*(attrs.evolve(each, state="online") for each in many)), 20 * MINUTE)
    assert [what for what, *_ in story.told] == ["fired", "repeated", "resolved"]


def test_a_state_that_says_why_is_told_instead_of_down(story: Story) -> None:
    """Logged out is one alert, not two."""
    story.look(of(connection(state="logged_out", reason="logged_out")), HOUR)
    assert story.told[0] == ("fired", "logged_out", ("sales",))
    assert {rule for _what, rule, _ in story.told} == {"logged_out"}


def test_parked_after_down_is_the_same_alert(story: Story) -> None:
    """It was told that it is down; that it is tried more rarely now is no news."""
    story.look(of(connection(state="backoff")), 6 * MINUTE)
    story.look(of(connection(state="parked")), 30 * MINUTE)
    assert story.told == [("fired", "down", ("sales",))]
    story.look(of(connection()), 4 * MINUTE)
    assert [what for what, *_ in story.told] == ["fired", "resolved"]


def test_stopped_and_logged_out_on_order_are_no_trouble(story: Story) -> None:
    """An operator wished it."""
    story.look(of(connection(state="stopped", reason="stopped")), HOUR)
    story.look(of(connection(state="logged_out", reason="logged_out_by_operator")), HOUR)
    assert story.changes == []


def test_after_a_start_connections_may_take_their_time() -> None:
    """What is not up after the grace period has five minutes from then on."""
    story = Story()
    story.look(of(connection(state="connecting")), GRACE + 4 * MINUTE)
    assert story.told == []
    story.look(of(connection(state="connecting")), 2 * MINUTE)
    assert len(story.told) == 1


def test_silenced_is_recorded_and_told_when_the_silence_ends(story: Story) -> None:
    """If it still fires then."""
    story.silenced = {"sales"}
    changes = story.look(of(connection(state="backoff")), HOUR)
    assert [(each.what, each.tell) for each in changes] == [("fired", None)]
    story.silenced = set()
    story.look(of(connection(state="backoff")))
    assert story.told == [("repeated", "down", ("sales",))]


def test_what_was_never_told_has_no_recovery(story: Story) -> None:
    """Silenced from beginning to end."""
    story.silenced = {"sales"}
    story.look(of(connection(state="backoff")), HOUR)
    story.look(of(connection()), HOUR)
    assert [each.what for each in story.changes] == ["fired", "resolved"]
    assert story.told == []


def test_what_the_database_alone_knows_is_not_judged_without_it(story: Story) -> None:
    """An alert on the quarantine or on a webhook neither resolves nor is told meanwhile."""
    dead = StoredHealth(webhooks=(WebhookHealth(name="crm", dead=3),))
    story.look(of(connection(), stored=dead), 2 * MINUTE)
    assert story.told == [("fired", "webhook", ("crm",))]
    story.look(of(connection(), stored=None, database_error="away"), 2 * HOUR)
    assert {rule for _what, rule, _ in story.told} == {"webhook", "database"}
    assert [each for each in story.told if each[1] == "webhook"] == story.told[:1]


EVERYTHING: t.Final = of(
    connection("a", "backoff"),
    connection("b", "parked"),
    connection("c", "logged_out"),
    connection("d", "conflict"),
    connection("e", "banned"),
    connection("f", deaf_since=START, deaf_why="no message for 3 h"),
    connection("g", quarantined=2),
    connection("h", phone_seen_at=START - 11 * DAY),
    incidents=(
        IncidentHealth(code="outage", since=START, sentence="…", connections=5),
        IncidentHealth(code="outdated", since=START, sentence="…", connections=5),
    ),
    writer=WriterHealth(depth=90, capacity=100),
    database_error="away",
    disks=(
        DiskHealth(path="/data", free=2**20, total=2**40),
        DiskHealth(path="/data/media", free=2**20, total=2**40),
    ),
    exports=(ExportHealth(name="zapvisor-day-2026-11-20", since=START, error="no room"),),
    stored=StoredHealth(
        backlogs=(
            Backlog(connection="i", undecryptable=30, gaps=1, missing=4, delivered=20, errors=12),
        ),
        media=5000,
        webhooks=(WebhookHealth(name="crm", dead=1),),
        channels=(ChannelHealth(name="mail", failing_since=START, error="refused"),),
    ),
)


def test_every_rule_finds_what_it_is_for() -> None:
    """And is silent when it is switched off."""
    found = conditions(EVERYTHING, Thresholds(), START)
    assert {each.rule for each in found} == set(RULES)
    assert len([each for each in found if each.rule == "disk"]) == 1
    for rule in RULES:
        off = conditions(EVERYTHING, Thresholds(**{rule: 0}), START)
        assert {each.rule for each in off} == set(RULES) - {rule}
    assert set(attrs.fields_dict(Thresholds)) == set(RULES)


def test_nothing_is_wrong_with_what_is_well() -> None:
    """No rule fires on a healthy daemon, however long it is so."""
    story = Story()
    well = of(
        connection(phone_seen_at=START),
        disks=(DiskHealth(path="/data", free=2**35, total=2**40),),
        stored=StoredHealth(
            backlogs=(Backlog(connection="sales", undecryptable=2, delivered=999, errors=9),),
            media=10,
            webhooks=(WebhookHealth(name="crm", dead=0),),
            channels=(ChannelHealth(name="mail"),),
        ),
    )
    story.look(well, 3 * HOUR)
    assert story.changes == []


def test_the_least_severity() -> None:
    """What matters less is no alert at all."""
    story = Story(severity="critical")
    story.look(of(connection(state="backoff")), HOUR)
    assert story.changes == []
    story.look(of(connection(state="banned")), HOUR)
    assert {rule for _what, rule, _ in story.told} == {"banned"}


def test_a_month(story: Story) -> None:
    """With some trouble in it: what people read of it, and nothing else."""
    names = [f"c{number}" for number in range(6)]
    well = of(*(connection(name) for name in names))

    def but(name: str, state: str, reason: str = "network", **facts: t.Any) -> Snapshot:
        others = [connection(each) for each in names if each != name]
        return of(connection(name, state, reason=reason), *others, **facts)

    def pass_by(days: float) -> None:
        story.look(well, HOUR, step=60)
        story.look(well, days * DAY - HOUR, step=600)

    pass_by(3)
    story.look(but("c1", "backoff"), 2 * HOUR, step=60)
    pass_by(5)
    away = attrs.evolve(well, database_error="away", stored=None)
    story.look(away, 30 * MINUTE, step=30)
    pass_by(4)
    outage = IncidentHealth(code="outage", since=story.now, sentence="", connections=6)
    down = [connection(name, "backoff") for name in names]
    story.look(of(*down, incidents=(outage,)), 3 * HOUR, step=60)
    story.look(of(*down), 3 * MINUTE, step=30)
    pass_by(5)
    for _ in range(60):
        story.look(but("c2", "backoff"), 3 * MINUTE, step=30)
        story.look(well, 90.0, step=30)
    pass_by(4)
    for _ in range(40):
        story.look(but("c3", "connecting"), 45.0, step=15)
        story.look(well, 20 * MINUTE, step=60)
    pass_by(5)
    story.look(but("c4", "logged_out", "logged_out"), 5 * HOUR, step=60)
    [alert] = story.book.alerts
    acknowledged = story.book.acknowledge(alert.key, "ana", story.now)
    assert acknowledged is not None
    story.look(but("c4", "logged_out", "logged_out"), 2 * DAY, step=600)
    pass_by(1)
    assert [(what, rule, len(tell)) for what, rule, tell in story.told] == [
        ("fired", "down", 1),
        ("repeated", "down", 1),
        ("resolved", "down", 1),
        ("fired", "database", 1),
        ("resolved", "database", 1),
        ("fired", "outage", 1),
        ("repeated", "outage", 1),
        ("resolved", "outage", 1),
        ("fired", "down", 1),
        ("repeated", "down", 1),
        ("resolved", "down", 1),
        ("fired", "logged_out", 1),
        ("repeated", "logged_out", 1),
        ("resolved", "logged_out", 1),
    ]


# ---- properties


STATES: t.Final = ("online", "online", "backoff", "connecting", "parked", "logged_out", "stopped")
SNAPSHOT: t.Final = st.builds(
    lambda states, reasons, away, dead, outage: of(
        *(
            connection(f"c{number}", state, reason=reason)
            for number, (state, reason) in enumerate(zip(states, reasons, strict=True))
        ),
        database_error="away" if away else None,
        stored=None if away else StoredHealth(webhooks=(WebhookHealth(name="crm", dead=dead),)),
        incidents=(IncidentHealth(code="outage", since=START, sentence="", connections=4),)
        if outage
        else (),
    ),
    st.lists(st.sampled_from(STATES), min_size=5, max_size=5),
    st.lists(st.sampled_from(["network", "network", "refused"]), min_size=5, max_size=5),
    st.sampled_from([False, False, True]),
    st.sampled_from([0, 0, 2]),
    st.sampled_from([False, False, True]),
)
LENGTH: t.Final = st.sampled_from([15.0, 60.0, 200.0, 400.0, 4000.0, 20_000.0])
WHAT: t.Final = st.one_of(
    st.tuples(st.just("look"), SNAPSHOT, LENGTH),
    st.tuples(st.just("restart"), st.none(), st.none()),
    st.tuples(st.just("silence"), st.sampled_from(["c0", "c1", None]), st.booleans()),
    st.tuples(st.just("acknowledge"), st.integers(0, 3), st.none()),
)


def live(story: Story, steps: t.Iterable[tuple[str, t.Any, t.Any]]) -> None:
    """Carry out a story."""
    for what, which, more in steps:
        match what:
            case "look":
                story.look(which, more, step=60.0)
            case "restart":
                story.restart()
            case "silence":
                (story.silenced.add if more else story.silenced.discard)(which)
            case _:
                for alert in story.book.alerts[which : which + 1]:
                    taken = story.book.acknowledge(alert.key, "ana", story.now)
                    if taken is not None:
                        story.changes.append(Change(what="acknowledged", alert=taken))


@settings(max_examples=150, deadline=None)
@given(st.lists(WHAT, min_size=1, max_size=25))
def test_whatever_happens(steps: list[tuple[str, t.Any, t.Any]]) -> None:
    """No subject of a rule is in two alerts at a time; every alert that was told has exactly one
    recovery, no other has one; steps only grow. Restarts make no difference to that."""
    story = Story()
    live(story, steps)
    well = of(*(connection(f"c{number}") for number in range(5)))
    story.look(well, HOUR, step=60.0)
    assert story.book.alerts == []
    active: dict[str, Alert] = {}
    told: dict[str, int] = {}
    recovered: dict[str, int] = {}
    for change in story.changes:
        alert = change.alert
        before = active.get(alert.key)
        assert (change.what == "fired") == (before is None)
        assert before is None or alert.step > before.step
        active[alert.key] = alert
        if change.what == "resolved":
            recovered[alert.key] = recovered.get(alert.key, 0) + (change.tell is not None)
            assert alert.resolved_at is not None
            del active[alert.key]
            assert (change.tell is not None) == (told.get(alert.key, 0) > 0)
        elif change.tell is not None:
            told[alert.key] = told.get(alert.key, 0) + 1
            assert alert.times == told[alert.key]
        taken = [(each.rule, name) for each in active.values() for name in each.subjects or ("",)]
        assert len(taken) == len(set(taken))
    assert active == {}
    assert all(recovered[key] == 1 for key in told)


def tellings(story: Story, key: str) -> int:
    """How often people were told of an alert."""
    return sum(each.alert.key == key and each.tell is not None for each in story.changes)


@settings(max_examples=100, deadline=None)
@given(st.lists(WHAT, max_size=10), SNAPSHOT, st.integers(1, 5))
def test_a_restart_by_itself_says_nothing(
    before: list[tuple[str, t.Any, t.Any]], after: Snapshot, restarts: int
) -> None:
    """Whatever was told stays told: the same state, with and without restarts in between, tells
    nothing more within what connections may take after a start."""
    story = Story()
    live(story, before)
    story.look(after, 2 * MINUTE)
    known = [alert.key for alert in story.book.alerts]
    already = len(story.changes)
    for _ in range(restarts):
        story.restart()
        story.look(after, 30.0)
    plain = Story()
    live(plain, before)
    plain.look(after, 2 * MINUTE + restarts * 30.0)
    for key in known:
        assert tellings(story, key) <= tellings(plain, key)
    fired = [change.alert for change in story.changes[already:] if change.what == "fired"]
    assert not {(alert.rule, alert.subjects) for alert in fired} & {
        (alert.rule, alert.subjects) for alert in story.book.alerts if alert.key in known
    }


def test_the_figures_of_many_are_those_of_all_of_them(story: Story) -> None:
    """One alert of two connections counts what both of them have, not the connections."""
    both = of(connection("one", quarantined=7), connection("two", quarantined=40))
    story.look(both, 2 * MINUTE)
    [fired] = [change for change in story.changes if change.tell is not None]
    assert fired.tell == ("one", "two")
    assert fired.alert.facts == {"count": 47}
    assert "47 could not be stored" in alert_text(fired.alert, "en").cause
    story.look(of(connection("one", quarantined=9), connection("two", quarantined=40)), HOUR)
    assert story.changes[-1].alert.facts == {"count": 49}
