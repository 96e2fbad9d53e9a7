"""The report as a mail: both languages, sound HTML, and nothing from people but as text."""

import datetime as dt
import html.parser
import json
import pathlib
import re
import string
import typing as t
import zoneinfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import api
from actors.report_values import (
    AlertLine,
    ConnectionDay,
    DayFigures,
    DayOutage,
    HourCount,
    Report,
    Responses,
    Segment,
    Unreported,
    Way,
)
from api.report_mail import mail_of
from api.report_rows import CARDS, ROWS
from api.report_verdict import level_of, verdict_of
from api.report_view import view_of
from api.report_words import LANGUAGES, TEMPLATES, catalogue, words

ZONE: t.Final = zoneinfo.ZoneInfo("America/Sao_Paulo")
DAY: t.Final = dt.date(2026, 11, 21)
CLIPPED: t.Final = 102_000  # bytes, after which Gmail cuts a mail off
VOID: t.Final = frozenset({"br", "meta"})
WHOLE: t.Final = (Segment(way=Way.ONLINE, quarters=96),)


def at(hour: int, minute: int = 0, day: int = 21) -> dt.datetime:
    return dt.datetime(2026, 11, day, hour, minute, tzinfo=ZONE)


def connection(name: str = "sales", down: float = 0.0, **changes: t.Any) -> ConnectionDay:
    """One that was wanted all day."""
    day = 86_400.0
    figures = DayFigures(
        uptime=100 * (day - down) / day, online=day - down, down=down, received=12_345, sent=7
    )
    facts: dict[str, t.Any] = {
        "name": name,
        "figures": figures,
        "track": WHOLE,
        "longest": (),
        "waiting": 0,
        "waiting_since": None,
    }
    return ConnectionDay(**facts | changes)


def report(*connections: ConnectionDay, **changes: t.Any) -> Report:
    """A whole day of these connections."""
    shown = connections or (connection(),)
    online, down = (sum(getattr(each.figures, key) for each in shown) for key in ("online", "down"))
    facts: dict[str, t.Any] = {
        "day": DAY,
        "zone": ZONE.key,
        "begins_at": at(0),
        "ends_at": at(0, day=22),
        "complete": True,
        "made_at": at(8, day=22),
        "total": DayFigures(
            uptime=100 * online / (online + down) if online + down else None,
            online=online,
            down=down,
            responses=Responses(conversations=9, answered=8, median=252.4, ninetieth=7260.0),
        ),
        "connections": shown,
        "idle": (),
        "hours": tuple(
            HourCount(begins_at=at(hour), received=hour, sent=hour // 2) for hour in range(24)
        ),
        "waiting": 0,
        "waiting_since": None,
        "day_before": None,
        "week_before": None,
        "unreported": None,
        "alerts": None,
    }
    return Report(**facts | changes)


class Checker(html.parser.HTMLParser):
    """Fails on tags that do not match; collects attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def checked(content: str | None) -> Checker:
    checker = Checker()
    checker.feed(content or "")
    checker.close()
    assert checker.open == []
    return checker


def test_both_languages_have_every_text() -> None:
    """The same keys, the same gaps to fill, no text empty, no key unused."""
    english, portuguese = (catalogue(language) for language in ("en", "pt-BR"))
    assert list(english) == list(portuguese)

    def gaps(text: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(text) if field}

    for key in english:
        assert english[key].strip()
        assert portuguese[key].strip()
        assert gaps(english[key]) == gaps(portuguese[key]), key
    files = [
        *(file.read_text() for file in TEMPLATES.iterdir() if file.name.endswith(".j2")),
        *(
            (pathlib.Path(api.__file__).parent / f"report_{name}.py").read_text()
            for name in ("view", "rows", "verdict")
        ),
    ]
    asked = set(re.findall(r'"([a-zA-Z]+(?:\.[a-zA-Z]+)*)"', "\n".join(files)))
    asked |= {f"key.{name}" for name in CARDS} | {f"row.{name}" for name in ROWS}
    asked |= {"outages.open", "alerts.open", *(f"way.{way.value}" for way in Way)}
    plural = re.compile(r"\.(zero|one|other)$")
    assert {plural.sub("", key) for key in english} <= asked


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_full_report_renders(language: str) -> None:
    """With everything that there can be, in HTML and in text."""
    outage = DayOutage(began_at=at(23, 50, 20), ended_at=None, seconds=7380.0, reason="network")
    full = report(
        connection("sales", down=7380.0, longest=(outage,), waiting=2, waiting_since=at(17)),
        idle=("old", "training"),
        waiting=2,
        waiting_since=at(17),
        day_before=DayFigures(uptime=100.0, received=10),
        week_before=DayFigures(),
        unreported=Unreported(first=DAY - dt.timedelta(days=3), last=DAY, days=3),
        alerts=(
            AlertLine(
                connection="sales",
                sentence="is down",
                since=at(2),
                resolved_at=at(3),
                translations={"pt-BR": "está fora"},
            ),
            AlertLine(connection=None, sentence="the disk is full", since=at(4), resolved_at=None),
        ),
        complete=False,
    )
    mail = mail_of(full, language)
    text = " ".join(checked(mail.html).texts)
    for shown in (
        "sales",
        "old, training",
        {"en": "is down", "pt-BR": "está fora"}[language],
        "the disk is full",
        words(language).reason("network"),
    ):
        assert shown in mail.text
        assert shown in text
    assert words(language).number(12_345) in mail.text
    assert "{" not in mail.text + mail.subject
    assert max(map(len, mail.text.splitlines())) <= 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_text(language: str) -> None:
    """Whatever somebody calls a thing, it is no markup."""
    evil = "<script>alert('1')</script>\"&"
    outage = DayOutage(began_at=at(1), ended_at=at(2), seconds=3600.0, reason=evil)
    mail = mail_of(
        report(
            connection(evil, down=3600.0, longest=(outage,)),
            idle=(evil,),
            alerts=(AlertLine(connection=evil, sentence=evil, since=at(1), resolved_at=None),),
        ),
        language,
    )
    found = checked(mail.html)
    assert "script" not in found.tags
    assert "<script" not in (mail.html or "")
    assert evil in "".join(found.texts)
    assert evil in mail.text


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No images, links, styles or scripts; only tables and what they hold."""
    found = checked(mail_of(report(), "en").html)
    assert found.tags <= {
        *("html", "head", "meta", "title", "body", "table", "tr", "td", "span", "b", "br")
    }
    names = {name for name, _value in found.attributes}
    assert not names & {"src", "href", "background", "class", "id", "onclick"}
    for name, value in found.attributes:
        assert not re.search(r"url\(|https?:|//|@import", value or ""), (name, value)


def test_the_largest_mail_is_not_cut_off() -> None:
    """Many connections that flap all day: those in most trouble are shown, the rest is counted."""
    flapping = tuple(
        Segment(way=way, quarters=1) for _ in range(48) for way in (Way.ONLINE, Way.DOWN)
    )
    outages = tuple(
        DayOutage(
            began_at=at(hour), ended_at=at(hour, 15), seconds=900.0, reason="heartbeat_missed"
        )
        for hour in range(20)
    )
    names = [f"connection-with-a-long-name-{number:03}" + "x" * 30 for number in range(200)]
    mail = mail_of(
        report(
            *(
                connection(name, down=600.0 + number, track=flapping, longest=outages)
                for number, name in enumerate(names)
            ),
            idle=tuple(names),
        ),
        "pt-BR",
    )
    assert len((mail.html or "").encode()) < CLIPPED
    checked(mail.html)
    assert names[199] in mail.text
    assert f"{names[0]} " not in mail.text.partition("Paradas")[0]
    assert "Mais 180 conexões" in mail.text
    assert len(mail.subject) < 200


@given(st.lists(st.tuples(st.sampled_from(Way), st.integers(1, 30)), min_size=1, max_size=100))
def test_a_track_fills_its_row(parts: list[tuple[Way, int]]) -> None:
    """Whole per cents, none of them nothing, a hundred together."""
    track = tuple(Segment(way=way, quarters=quarters) for way, quarters in parts)
    whole = sum(each.quarters for each in track)
    if whole > 100:
        return
    [line] = view_of(report(connection(track=track)), words("en")).connections
    assert sum(piece.percent for piece in line.track) == 100
    assert all(piece.percent >= 1 for piece in line.track)


@pytest.mark.parametrize(
    ("changes", "verdict", "level"),
    [
        ({}, "sales was online all day; no conversation waits.", "good"),
        (
            {"connections": (connection("a"), connection("b"))},
            "All 2 connections were online all day; no conversation waits.",
            "good",
        ),
        (
            {
                "connections": (connection("a"), connection("b", down=40.0)),
                "waiting": 1,
                "waiting_since": at(7, day=22),
            },
            "All 2 connections were online 99.98% of the time; 1 conversation waits, the first"
            " since Sun, Nov 22, 07:00.",
            "good",
        ),
        (
            {"connections": (connection("a"), connection("b", down=7380.0))},
            "b was offline for 2 hr 3 min; no conversation waits.",
            "bad",
        ),
        (
            {"connections": (connection("a", down=5000.0), connection("b", down=7380.0))},
            "2 of 2 connections were offline at times, b for 2 hr 3 min; no conversation waits.",
            "bad",
        ),
        (
            {"connections": (connection(figures=DayFigures(received=1)),)},
            "No connection was wanted online; no conversation waits.",
            "good",
        ),
        (
            {"total": DayFigures(uptime=100.0, missing=2, undecryptable=1)},
            "sales was online all day; no conversation waits; 2 announced messages are missing;"
            " 1 message cannot be read.",
            "bad",
        ),
        ({"complete": False}, "sales was online 100% of the time; no conversation waits.", "good"),
        (
            {
                "connections": (
                    connection(figures=DayFigures(uptime=98.7, online=60.0, down=0.8)),
                ),
                "complete": False,
                "total": DayFigures(uptime=98.7, online=60.0, down=0.8),
            },
            "sales was online 98.7% of the time; no conversation waits.",
            "good",
        ),
        (
            {"waiting": 1234, "waiting_since": at(7)},
            "sales was online all day; 1,234 conversations wait, the first since 07:00.",
            "fair",
        ),
    ],
)
def test_the_verdict(changes: dict[str, t.Any], verdict: str, level: str) -> None:
    """What matters, in one sentence, and how good that is."""
    connections = changes.pop("connections", ())
    shown = attrs.evolve(report(*connections), **changes)
    assert verdict_of(shown, words("en")) == verdict
    assert level_of(shown) == level


def test_numbers_as_people_write_them() -> None:
    """Uptime is not rounded up to a perfection; the rest by the language."""
    english, portuguese = words("en"), words("pt-BR")
    assert [english.percent(each) for each in (99.9999, 100.0, 0.0, 98.6, None)] == [
        *("99.99%", "100%", "0%", "98.6%", "–")
    ]
    assert portuguese.percent(99.98) == "99,98%"
    assert [portuguese.duration(each) for each in (0, 59.6, 252, 7380, 90_000, None)] == [
        *("0 s", "1 min", "4 min 12 s", "2 h 3 min", "1 dia 1 h", "–")
    ]
    assert [english.size(each) for each in (0, 999, 1500, 263_400_000)] == [
        *("0 byte", "999 byte", "1.5 kB", "263.4 MB")
    ]
    assert portuguese.date(DAY) == "sábado, 21 de novembro de 2026"
    assert english.text("waiting", count=1_000_000).startswith("1,000,000")
    assert portuguese.text("waiting", count=1_000_000) == "1.000.000 conversas esperam"
    with pytest.raises(KeyError):
        english.text("no such text")


def test_reasons_are_those_of_the_dashboard() -> None:
    """A code without words is shown as it is."""
    assert words("pt-BR").reason("network") == "Falha de rede"
    assert words("en").reason("something_new") == "something_new"


def test_catalogues_are_json() -> None:
    """Sorted as they are read: one text for each key."""
    for language in LANGUAGES:
        text = (TEMPLATES / f"{language}.json").read_text(encoding="utf-8")
        pairs = json.loads(text, object_pairs_hook=list)
        assert len(pairs) == len(dict(pairs))
