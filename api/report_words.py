"""Words, numbers, dates and durations of the report, in each of its languages."""

import collections.abc as cabc
import datetime as dt
import functools
import importlib.resources
import json
import typing as t

from babel import Locale, dates, numbers, units

LANGUAGES: t.Final[cabc.Mapping[str, str]] = {"en": "en", "pt-BR": "pt_BR"}
"""By name; and what babel calls them."""
TEMPLATES: t.Final = importlib.resources.files("api") / "report_templates"
DASH: t.Final = "–"  # for what there is nothing to say of

_STEPS: t.Final[tuple[tuple[str, int], ...]] = (
    ("day", 86_400),
    ("hour", 3600),
    ("minute", 60),
    ("second", 1),
)
_SIZES: t.Final[tuple[tuple[str, float], ...]] = (
    ("gigabyte", 1e9),
    ("megabyte", 1e6),
    ("kilobyte", 1e3),
    ("byte", 1.0),
)


class Words:
    """One language. Times are told as they are in the time zone that they come with."""

    def __init__(self, language: str) -> None:
        """Raises KeyError for a language that there is not."""
        self.language = language
        self._locale = Locale.parse(LANGUAGES[language])
        self._texts = catalogue(language)
        self._reasons = reasons(language)

    def text(self, key: str, **values: t.Any) -> str:
        """A text with ``{name}`` filled in. With a ``count``, its plural form where it has some
        (``key.one``, ``key.zero``), and the count as numbers are written here."""
        forms = [key]
        if (count := values.get("count")) is not None:
            values["count"] = self.number(count)
            forms = [f"{key}.{self._locale.plural_form(count)}", f"{key}.other", key]
            if count == 0:
                forms.insert(0, f"{key}.zero")
        for form in forms:
            if form in self._texts:
                return self._texts[form].format(**values)
        raise KeyError(key)

    def reason(self, code: str) -> str:
        """What a reason code means; the code itself where there are no words for it."""
        return self._reasons.get(code, code)

    def number(self, value: float) -> str:
        """With its thousands apart."""
        return str(numbers.format_decimal(value, locale=self._locale))

    def percent(self, percent: float | None) -> str:
        """With up to two digits, never rounded up to a perfection that was none."""
        if percent is None:
            return DASH
        whole = percent if percent >= 100 else min(percent, 99.99)
        return str(numbers.format_percent(whole / 100, "#,##0.##%", locale=self._locale))

    def duration(self, seconds: float | None) -> str:
        """The largest unit and the one after it, as far as there is anything of it."""
        if seconds is None:
            return DASH
        left = round(seconds)
        for number, (unit, size) in enumerate(_STEPS):
            if left >= size or unit == "second":
                parts = [self._unit(left // size, unit)]
                for smaller, its_size in _STEPS[number + 1 : number + 2]:
                    if rest := left % size // its_size:
                        parts.append(self._unit(rest, smaller))
                return " ".join(parts)
        raise AssertionError("seconds are the last unit")

    def _unit(self, value: int, unit: str) -> str:
        return str(units.format_unit(value, f"duration-{unit}", "short", locale=self._locale))

    def size(self, count: int) -> str:
        """Bytes in a unit that makes them short."""
        unit, size = next(each for each in _SIZES if count >= each[1] or each[0] == "byte")
        pattern = "#,##0.#" if size > 1 else "#,##0"
        return str(
            units.format_unit(
                count / size, f"digital-{unit}", "short", format=pattern, locale=self._locale
            )
        )

    def date(self, day: dt.date) -> str:
        """The whole of it, weekday included."""
        return str(dates.format_date(day, "full", locale=self._locale))

    def short_date(self, day: dt.date) -> str:
        """Weekday, day and month."""
        return str(dates.format_skeleton("MMMEd", day, locale=self._locale))

    def weekday(self, day: dt.date) -> str:
        """Its name."""
        return str(dates.format_date(day, "EEEE", locale=self._locale))

    def time(self, moment: dt.datetime, day: dt.date | None = None) -> str:
        """Hours and minutes; with the date unless it is of ``day``."""
        shown = str(dates.format_skeleton("Hm", moment, moment.tzinfo, locale=self._locale))
        if day is None or moment.date() == day:
            return shown
        return f"{self.short_date(moment.date())}, {shown}"


@functools.cache
def words(language: str) -> Words:
    """A language, read once. Raises KeyError for one that there is not."""
    return Words(language)


@functools.cache
def catalogue(language: str) -> cabc.Mapping[str, str]:
    """The texts of a language by key."""
    return _read(TEMPLATES / f"{language}.json")


@functools.cache
def reasons(language: str) -> cabc.Mapping[str, str]:
    """What reason codes mean, as the dashboard has it."""
    texts = _read(importlib.resources.files("api") / "dashboard" / "texts" / f"{language}.json")
    return {
        key.removeprefix("reason."): text
        for key, text in texts.items()
        if key.startswith("reason.")
    }


def _read(file: t.Any) -> dict[str, str]:
    texts: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return texts
