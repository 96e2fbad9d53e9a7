"""Messages as CSV (RFC 4180, UTF-8), a line each.

Spreadsheets take a cell for a formula when it begins with certain characters, whoever wrote it.
Such characters get an apostrophe in front, phone numbers with their plus included. Where the comma
is for decimals, a spreadsheet expects semicolons: there cells begin within ours, and lines too.
"""

import collections.abc as cabc
import csv
import io
import re
import typing as t
import zoneinfo

from storage.exports.container import Block
from storage.exports.form import cursor_of, file_name, files_of, in_words
from storage.exports.rows import Conversation, Message, Stretch

COLUMNS: t.Final = (
    "connection",
    "chat",
    "chat_name",
    "group",
    "conversation",
    "sent_at",
    "sender",
    "sender_name",
    "from_me",
    "kind",
    "text",
    "edited",
    "deleted_at",
    "reactions",
    "answers",
    "file",
    "file_name",
    "file_type",
    "file_size",
    "message_id",
    "removed",
)
_FORMULA: t.Final = re.compile(r'(?<![;\s"])([;\s"]*+)(?=[=+\-@＝＋－＠])')
"""A sign of formulas with all before it that may separate or be skipped: found once for each run,
so that many semicolons take no longer than other text."""
_SEPARATORS: t.Final = frozenset(";\t\r\n")


class CsvForm:
    """See the module. Times are of the zone, with their offset."""

    def __init__(self, zone: str, *, media: bool) -> None:
        self._zone = zoneinfo.ZoneInfo(zone)
        self._media = media
        self.header = _written([COLUMNS])

    def take(self, stretch: Stretch) -> cabc.Iterator[Block]:
        """A block for a stretch."""
        if not stretch.messages:
            return
        conversation, last = stretch.conversation, stretch.messages[-1]
        place = conversation.done if stretch.ends else conversation.behind(last)
        yield Block(
            data=_written(self._row(conversation, each) for each in stretch.messages),
            cursor=cursor_of(place),
            counts={"messages": len(stretch.messages), "conversations": int(stretch.ends)},
            files=files_of(stretch.messages) if self._media else (),
        )

    def end(self) -> cabc.Iterator[Block]:
        """Nothing is kept back."""
        return iter(())

    def index(
        self, _rows: cabc.Sequence[Conversation], _number: int, _more: bool
    ) -> cabc.Iterator[Block]:
        """None."""
        return iter(())

    def _row(self, conversation: Conversation, message: Message) -> list[str]:
        file = message.file
        written = "" if file is None or not self._media else file_name(file) or ""
        deleted = message.deleted_at
        return [
            guarded(conversation.connection),
            guarded(conversation.address),
            guarded(conversation.name or ""),
            _flag(not conversation.direct),
            str(conversation.id),
            message.sent_at.astimezone(self._zone).isoformat(),
            guarded(message.sender),
            guarded(message.sender_name or ""),
            _flag(message.from_me),
            guarded(message.kind),
            guarded(self._text(message)),
            _flag(message.edited),
            "" if deleted is None else deleted.astimezone(self._zone).isoformat(),
            guarded(" ".join(emoji for emoji, _who in message.reactions)),
            guarded(message.quoted_id or ""),
            written,
            "" if file is None else guarded(file.name or ""),
            "" if file is None else guarded(file.type or ""),
            "" if file is None or file.size is None else str(file.size),
            guarded(message.external_id),
            message.removed or "",
        ]

    def _text(self, message: Message) -> str:
        if message.file is not None or message.empty:
            return message.text or ""
        return in_words(message)


def guarded(cell: str) -> str:
    """A cell of which no spreadsheet takes any part for a formula."""
    safe = _FORMULA.sub(_apart, cell)
    return f"'{safe}" if safe.startswith(("\t", "\r")) else safe


def _apart(found: re.Match[str]) -> str:
    begins = found.start() == 0 or not _SEPARATORS.isdisjoint(found[1])
    return f"{found[1]}'" if begins else found[1]


def _flag(value: bool) -> str:
    return "yes" if value else "no"


def _written(rows: cabc.Iterable[cabc.Sequence[str]]) -> bytes:
    target = io.StringIO(newline="")
    csv.writer(target, lineterminator="\r\n").writerows(rows)
    return target.getvalue().encode("utf-8", "replace")
