"""Makes records of an archive (docs/archive.md) out of the text of WhatsApp's "export chat".

Such a file has no ids. They are derived from what there is (chat, author, time and text, and a
number where these repeat), so the same chat, exported again later, adds only what is new. What
nobody wrote, and messages that were deleted, are left out: there is nothing of them to keep.
"""

import collections
import collections.abc as cabc
import datetime as dt
import hashlib
import mimetypes
import typing as t

import attrs

from storage.archive_records import Address, Chat, Contact, Media, Message, Name, Record
from storage.errors import StorageRejectedError
from storage.exports.whatsapp_text import Line

OMITTED: t.Final = "placeholder"
"""The kind of a message whose file was left out, and nobody knows what it was."""
SHOWN: t.Final = 10  # names that an error lists

_UNKNOWN_TIME: t.Final = dt.datetime.fromtimestamp(0, dt.UTC)


@attrs.frozen(kw_only=True)
class ChatFacts:
    """What the file does not tell."""

    connection: str
    chat: str  # bare JID
    me: str = attrs.field(repr=False)  # what the account is called in the file
    people: cabc.Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Addresses of those who are in a group, by what they are called in the file."""

    @property
    def direct(self) -> bool:
        """Whether it is a chat with one person."""
        return not self.chat.endswith("@g.us")


@attrs.frozen
class StoredFile:
    """A file of a message that is in the store of files."""

    sha256: bytes
    size: int


@attrs.define(kw_only=True)
class ChatCounts:
    """What became of the lines."""

    messages: int = 0
    notices: int = 0  # that nobody wrote
    deleted: int = 0
    later: int = 0  # left out, for they are stored as WhatsApp delivered them
    files: int = 0
    files_missing: int = 0


class UnknownSenderError(StorageRejectedError):
    """Nobody knows whose messages these are."""


def check_senders(facts: ChatFacts, senders: cabc.Collection[str]) -> dict[str, str | None]:
    """The address of each; None is the account itself.

    Raises:
        UnknownSenderError: there are others than it can be.
    """
    others = sorted(each for each in senders if each != facts.me)
    if facts.me not in senders and len(others) > 1:
        raise UnknownSenderError(
            f"nobody is called {facts.me!r} in this chat; there are {_listed(others)}: --me says"
            " which one is this account"
        )
    if facts.direct:
        if len(others) > 1:
            raise UnknownSenderError(
                f"{_listed(others)} wrote in this chat besides {facts.me!r}; it is a group's: give"
                " the group's address (--chat …@g.us), or the right --me"
            )
        return {facts.me: None} | dict.fromkeys(others, facts.chat)
    unknown = [each for each in others if each not in facts.people]
    if unknown:
        raise UnknownSenderError(
            f"the numbers of {_listed(unknown)} are not known; say them, each with"
            ' --person "NAME=+55…"'
        )
    return {facts.me: None} | {each: facts.people[each] for each in others}


def chat_records(
    facts: ChatFacts, senders: cabc.Mapping[str, str | None], now: dt.datetime
) -> list[Record]:
    """Those that come before the messages; ``now``: when what is missing here is made."""
    connection = facts.connection
    contacts: list[Record] = [
        Contact(
            connection=connection,
            is_self=False,
            created_at=now,
            addresses=(Address(address=address, created_at=now),),
            names=(Name(address=address, source="saved", name=name, at=_UNKNOWN_TIME),)
            if not name.startswith("+")
            else (),
        )
        for name, address in senders.items()
        if address is not None
    ]
    if facts.direct and facts.chat not in senders.values():
        contacts.append(
            Contact(
                connection=connection,
                is_self=False,
                created_at=now,
                addresses=(Address(address=facts.chat, created_at=now),),
                names=(),
            )
        )
    kind = "direct" if facts.direct else "group"
    chat = Chat(connection=connection, kind=kind, address=facts.chat, created_at=now)
    return [*contacts, chat]


class MessageMaker:
    """Makes records of the lines of one chat, in their order."""

    def __init__(self, facts: ChatFacts, senders: cabc.Mapping[str, str | None]) -> None:
        self.counts = ChatCounts()
        self._facts = facts
        self._senders = senders
        self._moment: dt.datetime | None = None
        self._same: collections.Counter[bytes] = collections.Counter()

    def make(
        self, at: dt.datetime, line: Line, received_at: dt.datetime, file: StoredFile | None
    ) -> Message | None:
        """The record of a line; None: there is nothing to keep. ``file``: its, if there is one."""
        if line.sender is None:
            self.counts.notices += 1
            return None
        if line.deleted:
            self.counts.deleted += 1
            return None
        self.counts.messages += 1
        media = self._media(line, received_at, file)
        sender = self._senders[line.sender]
        seconds = int(at.timestamp())
        return Message(
            connection=self._facts.connection,
            chat_kind="direct" if self._facts.direct else "group",
            chat=self._facts.chat,
            sender=sender,
            external_id=self._id(at, line),
            kind=_kind(line),
            state="stored",
            from_me=sender is None,
            lane="history",
            remote_timestamp=seconds,
            sent_at=at,
            received_at=received_at,
            retries=0,
            text=_storable(line.text) or (None if media is not None else ""),
            raw=b"",
            media=media,
        )

    def _id(self, at: dt.datetime, line: Line) -> str:
        """Derived; lines that are alike within a moment are counted."""
        if at != self._moment:
            self._moment, self._same = at, collections.Counter()
        parts = (
            self._facts.chat,
            line.sender or "",
            str(int(at.timestamp())),
            line.text,
            line.attachment or line.omitted or "",
        )
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
        self._same[digest] += 1
        number = self._same[digest].to_bytes(8, "big")
        return f"generated-{hashlib.sha256(digest + number).hexdigest()[:40]}"

    def _media(self, line: Line, received_at: dt.datetime, file: StoredFile | None) -> Media | None:
        if line.attachment is None and line.omitted in (None, "media", "contact"):
            return None
        kind = _kind(line)
        name = line.attachment.rpartition("/")[2] if line.attachment is not None else None
        mimetype = mimetypes.guess_type(name)[0] if name is not None else None
        claims: dict[str, t.Any] = {
            "kind": kind,
            "mimetype": mimetype,
            "name": None if name is None else _storable(name)[:512],
            "live": False,
            "sha256": b"",
        }
        if file is None:
            self.counts.files_missing += 1
            return Media(
                **claims, state="failed", error="the file is not in the export of the chat"
            )
        self.counts.files += 1
        return Media(
            **{**claims, "sha256": file.sha256, "size": file.size},
            state="stored",
            blob_sha256=file.sha256,
            blob_size=file.size,
            stored_at=received_at,
        )


def _kind(line: Line) -> str:
    if line.omitted is not None:
        return OMITTED if line.omitted == "media" else line.omitted
    if line.attachment is None:
        return "text"
    name = line.attachment.rpartition("/")[2].lower()
    if name.endswith(".vcf"):
        return "contact"
    if name.endswith(".webp"):
        return "sticker"
    family = (mimetypes.guess_type(name)[0] or "").partition("/")[0]
    if name.endswith(".opus"):
        family = "audio"
    return family if family in ("image", "video", "audio") else "document"


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _listed(names: cabc.Sequence[str]) -> str:
    shown = ", ".join(repr(each) for each in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
