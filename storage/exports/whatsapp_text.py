"""Reads the text of WhatsApp's "export chat", of any phone: pure, line by line.

A message begins with a date, a time and its author; further lines belong to it. How date and time
look depends on the phone's language and system, and the file does not tell: that days come before
months follows from a day after the twelfth, from a dot between them, or from dates that would go
back in time otherwise. If nothing tells, somebody has to.
"""

import collections.abc as cabc
import datetime as dt
import enum
import re
import typing as t

import attrs

from storage.errors import StorageRejectedError

GUARD: t.Final = "\u2060"  # a word joiner before a line that would look like a message of its own
LONGEST: t.Final = 65_536  # characters of one message, as WhatsApp has it
SHOWN: t.Final = 3  # dates that a question shows

_INVISIBLE: t.Final = "\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_SPACE: t.Final = "[ \u00a0\u202f]"
_DATE: t.Final = r"(?P<a>\d{1,4})(?P<sep>[./-])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{1,4})\.?"
_TIME: t.Final = (
    rf"(?P<hour>\d{{1,2}})[:.](?P<minute>\d\d)(?:[:.](?P<second>\d\d))?"
    rf"(?:{_SPACE}*(?P<half>[AaPp]\.?{_SPACE}?[Mm]\.?))?"
)
_JOINT: t.Final = rf",?{_SPACE}+(?:às{_SPACE}+|um{_SPACE}+)?"
_ANDROID: t.Final = re.compile(rf"{_DATE}{_JOINT}{_TIME}(?:{_SPACE}Uhr)?{_SPACE}[-–]{_SPACE}")
_IOS: t.Final = re.compile(rf"\[{_DATE}{_JOINT}{_TIME}\]{_SPACE}")

_ATTACHED: t.Final = re.compile(
    r"<(?:attached|anexado|adjunto|Anhang):\s?(?P<ios>[^<>\n]{1,255})>"
    r"|(?P<android>[^\n:*?<>|]{1,250}\.\w{1,10})"
    r" \((?:file attached|arquivo anexado|archivo adjunto|Datei angehängt)\)"
)
_OMITTED: t.Final = re.compile(
    r"<(?:Media omitted|Mídia oculta|Arquivo de mídia oculto|Multimedia omitido"
    r"|Archivo omitido|Medien ausgeschlossen|Medien weggelassen)>"
    r"|(?P<word>image|imagem|imagen|Bild|video|vídeo|Video|audio|áudio|Audio|sticker|figurinha"
    r"|Sticker|GIF|document|documento|Dokument|Contact card|Cartão do contato)"
    r" (?:omitted|ocultad[oa]|omitid[oa]|weggelassen)",
)
_DELETED: t.Final = frozenset(
    {
        "this message was deleted",
        "you deleted this message",
        "mensagem apagada",
        "essa mensagem foi apagada",
        "você apagou esta mensagem",
        "você apagou essa mensagem",
        "se eliminó este mensaje",
        "eliminaste este mensaje",
        "diese nachricht wurde gelöscht",
        "du hast diese nachricht gelöscht",
    }
)
_EDITED: t.Final = re.compile(
    r" ?\u200e?<(?:This message was edited|Mensagem editada|Esta mensagem foi editada"
    r"|Se editó este mensaje\.?|Diese Nachricht wurde bearbeitet\.?)>\Z"
)
_KINDS: t.Final[cabc.Mapping[str, str]] = {
    "image": "image",
    "imagem": "image",
    "imagen": "image",
    "bild": "image",
    "video": "video",
    "vídeo": "video",
    "audio": "audio",
    "áudio": "audio",
    "sticker": "sticker",
    "figurinha": "sticker",
    "gif": "gif",
    "document": "document",
    "documento": "document",
    "dokument": "document",
    "contact card": "contact",
    "cartão do contato": "contact",
}


class DateOrder(enum.Enum):
    """What the numbers of a date are."""

    DMY = "dmy"
    MDY = "mdy"
    YMD = "ymd"


class TextError(StorageRejectedError):
    """A file is no export of a chat, or cannot be understood."""


class AmbiguousDatesError(TextError):
    """Nothing in the file tells whether days or months come first."""


@attrs.frozen(kw_only=True)
class Line:
    """One message, or one line that nobody wrote."""

    at: dt.datetime  # local to the phone, without a zone
    exact: bool  # to the second
    sender: str | None = attrs.field(repr=False)  # as the phone calls them; None: nobody
    text: str = attrs.field(repr=False)  # of a file: its caption
    attachment: str | None = attrs.field(default=None, repr=False)  # the name of its file
    omitted: str | None = None  # a file that was left out: its kind, "media" if that is not told
    edited: bool = False
    deleted: bool = False
    number: int  # of its first line in the file


def looks_like_head(line: str) -> bool:
    """Whether a line begins a message."""
    return _head(line) is not None


def _head(line: str) -> re.Match[str] | None:
    line = line.lstrip(_INVISIBLE)
    return _IOS.match(line) or _ANDROID.match(line)


class Survey:
    """Finds out what the numbers of the dates are; sees all lines, keeps a few."""

    def __init__(self) -> None:
        self.messages = 0
        self._possible = {
            DateOrder.DMY: True,
            DateOrder.MDY: True,
            DateOrder.YMD: True,
        }
        self._backwards = dict.fromkeys(DateOrder, 0)
        self._last: dict[DateOrder, dt.date] = {}
        self._dots = True
        self._shown: list[str] = []

    def see(self, line: str) -> None:
        """The next line of the file."""
        match = _head(line)
        if match is None:
            return
        self.messages += 1
        self._dots &= match["sep"] == "."
        if len(self._shown) < SHOWN:
            date = f"{match['a']}{match['sep']}{match['b']}{match['sep']}{match['c']}"
            if date not in self._shown:
                self._shown.append(date)
        for order in DateOrder:
            date_read = _date(match, order)
            if date_read is None:
                self._possible[order] = False
                continue
            if (last := self._last.get(order)) is not None and date_read < last:
                self._backwards[order] += 1
            self._last[order] = date_read

    def order(self, asked: DateOrder | None = None) -> DateOrder:
        """The order of all dates.

        Raises:
            TextError: there is none, or the one that was asked for does not fit.
            AmbiguousDatesError: more than one fits.
        """
        if self.messages == 0:
            raise TextError(
                "this is no text of WhatsApp's export chat: no line of it begins with a date, a"
                " time and a name"
            )
        fitting = [order for order, possible in self._possible.items() if possible]
        if asked is not None:
            if asked not in fitting:
                raise TextError(
                    f"dates of this file, such as {self._examples()}, cannot be read as"
                    f" {asked.value}"
                )
            return asked
        if not fitting:
            raise TextError(
                f"the dates of this file, such as {self._examples()}, follow no single order;"
                " was it put together of several?"
            )
        if len(fitting) > 1 and self._dots and DateOrder.DMY in fitting:
            return DateOrder.DMY
        forwards = [order for order in fitting if self._backwards[order] == 0]
        choice = forwards if len(forwards) == 1 else fitting
        if len(choice) > 1:
            words = " or ".join(f"--date-order {order.value}" for order in choice)
            raise AmbiguousDatesError(
                f"does {self._shown[0]} begin with the day or with the month? Nothing in the file"
                f" tells; say {words}"
            )
        return choice[0]

    def _examples(self) -> str:
        return " and ".join(self._shown)


class Reader:
    """Makes messages of lines. Feed it all lines, then :meth:`end`."""

    def __init__(self, order: DateOrder) -> None:
        self._order = order
        self._number = 0
        self._match: re.Match[str] | None = None  # of the message that is being read
        self._begun = 0
        self._texts: list[str] = []
        self._length = 0

    def feed(self, line: str) -> Line | None:
        """The next line, without its end; the message that is complete with it."""
        self._number += 1
        bare = line.lstrip(_INVISIBLE)
        match = _IOS.match(bare) or _ANDROID.match(bare)
        if match is not None and _moment(match, self._order) is None:
            match = None
        if match is None:
            self._more(line)
            return None
        finished = self.end()
        self._match, self._begun = match, self._number
        self._texts, self._length = [bare[match.end() :]], len(bare)
        return finished

    def end(self) -> Line | None:
        """There are no more lines."""
        match, self._match = self._match, None
        if match is None:
            return None
        at = _moment(match, self._order)
        if at is None:
            raise AssertionError("a head was taken that has no time")
        ios = match.re is _IOS
        return _line(at, match["second"] is not None, self._texts, self._begun, ios=ios)

    def _more(self, line: str) -> None:
        if self._match is None:
            if line.strip(_INVISIBLE + " "):
                raise TextError(f"line {self._number} belongs to no message")
            return
        self._length += len(line) + 1
        if self._length > LONGEST + 1024:
            raise TextError(
                f"the message of line {self._begun} is longer than any that WhatsApp takes; is"
                " this a file of its export chat?"
            )
        self._texts.append(line.removeprefix(GUARD))


def read_lines(lines: cabc.Iterable[str], order: DateOrder) -> cabc.Iterator[Line]:
    """All messages of a file.

    Raises:
        TextError: a line belongs to no message, or one is too long.
    """
    reader = Reader(order)
    for line in lines:
        if (found := reader.feed(line)) is not None:
            yield found
    if (found := reader.end()) is not None:
        yield found


def in_zone(lines: cabc.Iterable[Line], zone: dt.tzinfo) -> cabc.Iterator[tuple[dt.datetime, Line]]:
    """The moments of messages. An hour that a clock shows twice is the second one if the messages
    would go back in time otherwise."""
    last: dt.datetime | None = None
    for line in lines:
        moment = line.at.replace(tzinfo=zone)
        if last is not None and moment.astimezone(dt.UTC) < last:
            later = moment.replace(fold=1)
            if later.astimezone(dt.UTC) >= last:
                moment = later
        last = moment.astimezone(dt.UTC)
        yield last, line


def _line(at: dt.datetime, exact: bool, texts: list[str], number: int, *, ios: bool) -> Line:
    first, *rest = texts
    sender, text = _parted(first)
    marked = text.startswith("\u200e")
    text = "\n".join([text.lstrip("\u200e") if ios or marked else text, *rest])
    common: dict[str, t.Any] = {"at": at, "exact": exact, "number": number}
    if sender is None:
        return Line(sender=None, text=first.strip(_INVISIBLE), **common)
    edited = _EDITED.search(text)
    if edited is not None:
        text = text[: edited.start()]
    common |= {"sender": sender, "edited": edited is not None}
    head, _newline, caption = text.partition("\n")
    if (found := _ATTACHED.fullmatch(head.strip(_INVISIBLE + " "))) is not None:
        name = (found["ios"] or found["android"]).strip()
        return Line(text=caption, attachment=name, **common)
    found = _OMITTED.fullmatch(head.strip(_INVISIBLE + " "))
    if found is not None and (found["word"] is None or (ios and marked)):
        word = (found["word"] or "").lower()
        return Line(text=caption, omitted=_KINDS.get(word, "media"), **common)
    if text.strip(_INVISIBLE + " .").lower() in _DELETED:
        return Line(text="", deleted=True, **common)
    if ios and marked:
        return Line(**{**common, "sender": None}, text=text)
    return Line(text=text, **common)


def _parted(first: str) -> tuple[str | None, str]:
    """Author and text; no author if nobody wrote it."""
    name, colon, text = first.partition(":")
    name = name.strip(_INVISIBLE + "\u00a0\u202f ")
    if name.startswith("~"):  # somebody whom the phone does not know, by their own name
        name = name.lstrip("~\u00a0\u202f ")
    if not colon or not name or any(mark in name for mark in '"“”„«»'):
        return None, first
    if text and text[0] not in " \u00a0\u202f":
        return None, first
    return name, text[1:]


def _moment(match: re.Match[str], order: DateOrder) -> dt.datetime | None:
    date = _date(match, order)
    hour = int(match["hour"])
    if (half := match["half"]) is not None:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    if date is None or hour > 23 or int(match["minute"]) > 59 or int(match["second"] or 0) > 59:
        return None
    time = dt.time(hour, int(match["minute"]), int(match["second"] or 0))
    return dt.datetime.combine(date, time)


def _date(match: re.Match[str], order: DateOrder) -> dt.date | None:
    a, b, c = match["a"], match["b"], match["c"]
    parts = {
        DateOrder.DMY: (c, b, a),
        DateOrder.MDY: (c, a, b),
        DateOrder.YMD: (a, b, c),
    }
    year, month, day = parts[order]
    if len(year) not in (2, 4) or len(day) > 2 or len(month) > 2:
        return None
    if order is DateOrder.YMD and len(year) != 4:
        return None
    try:
        return dt.date(int(year) + (2000 if len(year) == 2 else 0), int(month), int(day))
    except ValueError:
        return None
