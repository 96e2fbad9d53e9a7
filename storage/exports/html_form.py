"""Messages as pages for people: those of one conversation each, and an index; no scripts.

All that people wrote is escaped by the templates, and links lead to files of the export only.
"""

import collections.abc as cabc
import functools
import re
import typing as t
import zoneinfo

import attrs
import jinja2

from storage.exports.container import Block
from storage.exports.form import cursor_of, file_name, files_of, in_words, is_notice
from storage.exports.rows import Attachment, Conversation, Message, Place, Stretch

PAGE: t.Final = 200  # messages
_SHARD: t.Final = 1000  # conversations whose pages share a folder
_ROOT: t.Final = "../../"  # from a page of a conversation
_NOT_TEXT: t.Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("storage.exports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


class HtmlForm:
    """See the module."""

    def __init__(
        self, zone: str, *, media: bool, state: cabc.Mapping[str, t.Any] | None = None
    ) -> None:
        """``state``: of the cursor to go on from."""
        self.header = b""
        self._zone_name = zone
        self._zone = zoneinfo.ZoneInfo(zone)
        self._media = media
        state = state or {}
        self._number = int(state.get("number", 1))  # of the page that is being filled
        self._of = int(state.get("of", 0))  # the conversation of it
        self._messages: list[Message] = []

    def take(self, stretch: Stretch) -> cabc.Iterator[Block]:
        """Pages that are full, and the last one of a conversation."""
        conversation = stretch.conversation
        if conversation.id != self._of:
            self._of, self._number, self._messages = conversation.id, 1, []
        self._messages.extend(stretch.messages)
        while len(self._messages) > PAGE:
            page, self._messages = self._messages[:PAGE], self._messages[PAGE:]
            place = conversation.behind(page[-1])
            yield self._page(conversation, page, place, more=True)
        if stretch.ends and self._messages:
            page, self._messages = self._messages, []
            yield self._page(conversation, page, conversation.done, more=False)

    def end(self) -> cabc.Iterator[Block]:
        """Nothing: every conversation has ended."""
        return iter(())

    def index(
        self, rows: cabc.Sequence[Conversation], number: int, more: bool
    ) -> cabc.Iterator[Block]:
        """A page of the index."""
        place = rows[-1].done if rows else Place()
        text = (
            _templates()
            .get_template("index.html")
            .render(
                rows=[
                    {
                        "path": _path(each.id, 1),
                        "title": _clean(each.title),
                        "connection": each.connection,
                        "status": each.status,
                        "opened": self._time(each.opened_at),
                        "last": self._time(each.last_message_at),
                    }
                    for each in rows
                ],
                number=number,
                zone=self._zone_name,
                before=_index(number - 1) if number > 1 else None,
                after=_index(number + 1) if more else None,
            )
        )
        yield Block(
            data=_bytes(text),
            cursor=cursor_of(place, index=number + 1),
            page=_index(number),
            counts={"pages": 1},
        )

    def _page(
        self, conversation: Conversation, messages: list[Message], place: Place, *, more: bool
    ) -> Block:
        number = self._number
        self._number += 1
        text = (
            _templates()
            .get_template("conversation.html")
            .render(
                conversation=attrs.evolve(
                    conversation,
                    name=_clean(conversation.title),
                    connection=_clean(conversation.connection),
                ),
                opened=self._time(conversation.opened_at),
                zone=self._zone_name,
                root=_ROOT,
                messages=list(self._shown(messages)),
                before=_file(conversation.id, number - 1) if number > 1 else None,
                after=_file(conversation.id, number + 1) if more else None,
            )
        )
        return Block(
            data=_bytes(text),
            cursor=cursor_of(place, number=self._number, of=conversation.id),
            page=_path(conversation.id, number),
            counts={"messages": len(messages), "conversations": int(not more), "pages": 1},
            files=files_of(messages) if self._media else (),
        )

    def _shown(self, messages: cabc.Iterable[Message]) -> cabc.Iterator[dict[str, t.Any]]:
        day = None
        for each in messages:
            at = each.sent_at.astimezone(self._zone)
            new_day, day = at.date() != day, at.date()
            file = self._file_of(each.file) if each.file is not None else None
            yield {
                "id": each.id,
                "day": f"{at:%Y-%m-%d}" if new_day else None,
                "time": f"{at:%H:%M:%S}",
                "iso": at.isoformat(),
                "mine": each.from_me,
                "notice": is_notice(each),
                "author": _clean(each.author),
                "removed": each.empty,
                "text": _clean(
                    each.text or "" if file is not None or each.empty else in_words(each)
                ),
                "edited": each.edited,
                "deleted": None if each.deleted_at is None else self._time(each.deleted_at),
                "quoted": None
                if each.quoted_id is None
                else _clean(each.quoted_text or "a message that is not here"),
                "reactions": [(_clean(emoji), _clean(who)) for emoji, who in each.reactions],
                "file": file,
            }

    def _file_of(self, file: Attachment) -> dict[str, t.Any]:
        path = file_name(file) if self._media else None
        show = (file.type or "").partition("/")[0].lower()
        return {
            "path": path,
            "show": "" if path is None or path.endswith(".bin") else show,
            "label": _clean(file.name or file.kind),
        }

    def _time(self, moment: t.Any) -> str:
        return f"{moment.astimezone(self._zone):%Y-%m-%d %H:%M}"


def _path(conversation: int, number: int) -> str:
    return f"conversations/{conversation // _SHARD:06}/{_file(conversation, number)}"


def _file(conversation: int, number: int) -> str:
    return f"{conversation}-{number}.html"


def _index(number: int) -> str:
    return "index.html" if number == 1 else f"index-{number}.html"


def _clean(text: str) -> str:
    """Text without what neither HTML nor XML can hold."""
    return _NOT_TEXT.sub("\ufffd", text)


def _bytes(text: str) -> bytes:
    return text.encode()
