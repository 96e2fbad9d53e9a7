"""Messages as WhatsApp's "export chat" writes them: a file of plain text for each chat.

The lines are those of an English phone with days before months and 24 hours, on Android or on an
iPhone. ``storage.exports.whatsapp_text`` reads them back, and those of other phones.
"""

import collections.abc as cabc
import re
import typing as t
import zoneinfo

from storage.exports.container import Block
from storage.exports.form import cursor_of, file_name, files_of, in_words, is_notice
from storage.exports.rows import Conversation, Message, Place, Stretch
from storage.exports.whatsapp_text import GUARD, looks_like_head

FILE: t.Final = 4 * 1024 * 1024  # characters after which the chat goes on in another file
NAME: t.Final = 150  # bytes of a chat's name in that of its file, which may have 255
_MARK: t.Final = "\u200e"  # left-to-right: an iPhone puts it before what nobody wrote
_LINES: t.Final = re.compile(r"\r\n|\r|\n")
_UNSAFE: t.Final = re.compile(r"[^\w .()-]+")
_FIRST: t.Final = (
    "Messages and calls are end-to-end encrypted. Only people in this chat can read, listen to, or"
    " share them."
)


class TextForm:
    """See the module."""

    def __init__(
        self, zone: str, *, ios: bool, media: bool, state: cabc.Mapping[str, t.Any] | None = None
    ) -> None:
        """``state``: of the cursor to go on from."""
        self.header = b""
        self._zone = zoneinfo.ZoneInfo(zone)
        self._ios = ios
        self._media = media
        state = state or {}
        self._chat: tuple[int, int] | None = None  # that is being written
        if state.get("chat") is not None:
            self._chat = (int(state["chat"][0]), int(state["chat"][1]))
        self._number = int(state.get("number", 1))  # of its file
        self._conversation: Conversation | None = None
        self._lines: list[str] = []
        self._length = 0
        self._held: list[Message] = []  # those of the lines
        self._ended = 0
        self._place = Place()

    def take(self, stretch: Stretch) -> cabc.Iterator[Block]:
        """The file of the chat before, if this is another one; and files that are full."""
        conversation = stretch.conversation
        chat = (conversation.connection_id, conversation.chat_id)
        if chat != self._chat:
            yield from self.end()
            self._chat, self._number = chat, 1
        self._conversation = conversation
        for message in stretch.messages:
            if not self._lines and self._number == 1:
                self._add(self._head(message) + self._said_by_nobody(conversation, _FIRST))
            self._add(self._line(conversation, message))
            self._held.append(message)
            self._place = conversation.behind(message)
            if self._length >= FILE:
                yield self._block(self._number + 1)
                self._number += 1
        if stretch.ends:
            self._ended += 1
            self._place = conversation.done

    def end(self) -> cabc.Iterator[Block]:
        """The last file."""
        if self._lines:
            yield self._block(self._number + 1)

    def index(
        self, _rows: cabc.Sequence[Conversation], _number: int, _more: bool
    ) -> cabc.Iterator[Block]:
        """None."""
        return iter(())

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._length += len(line) + 1

    def _block(self, following: int) -> Block:
        conversation = self._conversation
        if conversation is None:
            raise AssertionError("there are lines of no conversation")
        block = Block(
            data="\n".join([*self._lines, ""]).encode("utf-8", "replace"),
            cursor=cursor_of(self._place, chat=self._chat, number=following),
            counts={
                "messages": len(self._held),
                "conversations": self._ended,
                "chats": int(self._number == 1),
            },
            page=self._page(conversation),
            files=files_of(self._held) if self._media else (),
        )
        self._lines, self._held = [], []
        self._length = self._ended = 0
        return block

    def _page(self, conversation: Conversation) -> str:
        name = _safe(conversation.title, "chat")
        more = f" ({self._number})" if self._number > 1 else ""
        folder = _safe(conversation.connection, "connection")
        return f"chats/{folder}/{conversation.chat_id} {name}{more}.txt"

    def _head(self, message: Message) -> str:
        at = message.sent_at.astimezone(self._zone)
        return f"[{at:%d/%m/%Y, %H:%M:%S}] " if self._ios else f"{at:%d/%m/%Y, %H:%M} - "

    def _line(self, conversation: Conversation, message: Message) -> str:
        head = self._head(message)
        if is_notice(message):
            return head + self._said_by_nobody(conversation, in_words(message))
        author = _name(message.author)
        if message.deleted_at is not None:
            text = "You deleted this message" if message.from_me else "This message was deleted"
            return f"{head}{author}: {_MARK if self._ios else ''}{text}"
        text = self._text(message)
        if message.edited:
            text += f" {_MARK if self._ios else ''}<This message was edited>"
        first, *rest = _LINES.split(text)
        return "\n".join([f"{head}{author}: {first}", *map(_guarded, rest)])

    def _said_by_nobody(self, conversation: Conversation, text: str) -> str:
        text = " ".join(_LINES.split(text))
        if self._ios:
            return f"{_name(conversation.title)}: {_MARK}{text}"
        return text.replace(": ", " ")  # else it has an author

    def _text(self, message: Message) -> str:
        file = message.file
        if file is None:
            text = in_words(message)
            return text.lstrip(_MARK) if self._ios else text
        caption = message.text if message.text and message.text != file.name else None
        name = file_name(file) if self._media else None
        if self._ios:
            kind = {"audio": "audio", "video": "video", "sticker": "sticker", "image": "image"}
            word = kind.get(message.kind, "document")
            said = f"{_MARK}<attached: {name}>" if name else f"{_MARK}{word} omitted"
        else:
            said = f"{name} (file attached)" if name else "<Media omitted>"
        return said if caption is None else f"{said}\n{caption}"


def _safe(name: str, otherwise: str) -> str:
    """A part of a path."""
    cut = _UNSAFE.sub("_", name).encode("utf-8", "ignore")[:NAME].decode("utf-8", "ignore")
    return cut.strip(" ._") or otherwise


def _name(name: str) -> str:
    """An author, who ends with the first colon."""
    return " ".join(_LINES.split(name)).replace(":", "\ua789").strip() or "?"


def _guarded(line: str) -> str:
    """A further line of a message, which does not look like the first one of another."""
    return GUARD + line if line.startswith(GUARD) or looks_like_head(line) else line
