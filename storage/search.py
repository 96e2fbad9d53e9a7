"""Finding conversations and messages: what is asked, what is found, and the words of a text.

A text is searched by its words, folded: without accents, in lower case. The words are made in the
background (``index_messages``), so the writer never waits for them and a large database that had
no index starts at once: new messages first, then the old ones from the newest down. Measured in
batches of 512: an index on the messages themselves, by expression or by a generated column, costs
the writer's session a fifth more CPU per message; this one nothing that can be measured.

Names of contacts and groups are few beside messages, and change seldom: an index on them is kept
by PostgreSQL itself, so a name is found at once.

``words_of`` is what ``search_words`` in ``sql/search.sql`` does; a test keeps the two alike.
"""

import datetime as dt
import re
import typing as t
import unicodedata

import attrs

from storage.inbox import Person

if t.TYPE_CHECKING:
    from storage.api import ConversationRow

WAITING_COUNTED: t.Final = 10_000  # messages that are not in the index
CANDIDATES: t.Final = 5000  # texts that one search looks at, the newest first
MAX_WORDS: t.Final = 16  # in a query
MAX_TEXT: t.Final = 65_536  # characters of a text that are indexed
MAX_NAME: t.Final = 1024  # characters of a name that are indexed
MAX_WORD: t.Final = 48  # characters of a word that count
MAX_DISTINCT: t.Final = 4000  # words of one text
SNIPPET: t.Final = 160  # characters, about

_SEPARATORS: t.Final = (
    r"[\x01-\x2f\x3a-\x40\x5b-\x60\x7b-\xbf\u2000-\u206f\u3000-\u303f\ufe00-\ufe0f]+"
)
_SEPARATED: t.Final = re.compile(_SEPARATORS)
_TOKEN: t.Final = re.compile(_SEPARATORS.replace("[", "[^", 1))
_MARKS: t.Final = re.compile(r"[\u0300-\u036f]+")


class NoWordsError(ValueError):
    """There is nothing in a query to search for, or too much."""


@attrs.frozen(kw_only=True)
class Query:
    """What to search for; words as written."""

    words: tuple[str, ...] = ()  # all of them have to be there
    beginnings: tuple[str, ...] = ()  # and words that begin so
    without: tuple[str, ...] = ()  # none of these

    @classmethod
    def parse(cls, text: str) -> "Query":
        """``pedido entreg* -troca``: words, beginnings of words, words that must not be there.

        Raises:
            NoWordsError: there are none, only such that must not be there, or too many.
        """
        found: dict[str, list[str]] = {"words": [], "beginnings": [], "without": []}
        terms = text.split()
        for term in terms:
            kind = "without" if term.startswith("-") else "words"
            if kind == "words" and term.endswith("*"):
                kind = "beginnings"
            if words_of(term):
                found[kind].append(term)
        count = sum(len(words_of(term)) for terms in found.values() for term in terms)
        if not found["words"] and not found["beginnings"]:
            raise NoWordsError("there is no word in it to search for")
        if count > MAX_WORDS:
            raise NoWordsError(f"it has {count} words; at most {MAX_WORDS} can be searched for")
        return cls(**{kind: tuple(terms) for kind, terms in found.items()})

    def fits(self, words: t.Collection[str]) -> bool:
        """Whether a text with these words is found."""
        return (
            all(word in words for term in self.words for word in words_of(term))
            and all(_begins(term, words) for term in self.beginnings)
            and not any(set(words_of(term)) <= set(words) for term in self.without)
        )

    def marks(self, token: str) -> bool:
        """Whether a part of a text between separators is one of the reasons why it is found."""
        words = words_of(token)
        whole = {word for term in self.words for word in words_of(term)}
        whole |= {word for term in self.beginnings for word in words_of(term)[:-1]}
        begun = tuple(words_of(term)[-1] for term in self.beginnings)
        return any(word in whole or word.startswith(begun) for word in words)


def _begins(term: str, words: t.Collection[str]) -> bool:
    *whole, last = words_of(term)
    return all(word in words for word in whole) and any(word.startswith(last) for word in words)


def words_of(text: str) -> list[str]:
    """The words of a text, folded, in its order; as ``search_words`` in SQL."""
    folded = _MARKS.sub("", unicodedata.normalize("NFKD", text[:MAX_TEXT]))
    lower = "".join(character.lower() for character in folded[:MAX_TEXT])
    return [word[:MAX_WORD] for word in _SEPARATED.split(lower.replace("\0", " ")) if word]


@attrs.frozen
class Piece:
    """A stretch of a snippet; plain text, whatever somebody wrote: escape it where it is shown."""

    text: str = attrs.field(repr=False)
    match: bool = False


def snippet(text: str, query: Query) -> tuple[Piece, ...]:
    """About :data:`SNIPPET` characters around the first match, in pieces."""
    text = text[:MAX_TEXT]
    spans = [found.span() for found in _TOKEN.finditer(text) if query.marks(found[0])]
    first = spans[0][0] if spans else 0
    begin = 0 if first < SNIPPET // 2 else first - SNIPPET // 3
    end = min(len(text), begin + SNIPPET)
    pieces = [Piece("…")] if begin else []
    at = begin
    for start, stop in spans:
        if begin <= start and stop <= end:
            pieces += [Piece(text[at:start]), Piece(text[start:stop], match=True)]
            at = stop
    pieces.append(Piece(text[at:end] + ("…" if end < len(text) else "")))
    return tuple(piece for piece in pieces if piece.text)


Position: t.TypeAlias = tuple[dt.datetime, int]
"""Where a page ended: a time and an id; what follows is older."""


@attrs.frozen(kw_only=True)
class Filter:
    """Which conversations, or messages; None: any."""

    connection: str | None = None
    status: str | None = None  # of conversations
    contact: int | None = None  # a contact's id
    address: str | None = None  # of a contact or a group; with ``contact``: either will do
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    """Messages: sent in [since, until). Conversations: active at some time in it."""
    former: bool = False  # what messages said before they were edited, too
    deleted: bool = False  # messages that were deleted for everyone, too


@attrs.frozen(kw_only=True)
class Hit:
    """A message that is found, or one former version of it."""

    message: int
    version: int  # id of the row with this text: the message itself, or an edit of it
    connection: str
    conversation: int
    chat: str
    title: str | None = attrs.field(repr=False)  # of the chat
    sender: Person
    from_me: bool
    kind: str
    at: dt.datetime  # of this version
    current: bool  # it reads like this now
    deleted: bool
    text: str = attrs.field(repr=False)


@attrs.frozen
class Hits:
    """A page of hits, the newest first, and where the search goes on; None: it is over."""

    hits: tuple[Hit, ...]
    next: Position | None


@attrs.frozen
class Found:
    """A page of conversations, the most recently active first."""

    rows: tuple["ConversationRow", ...]
    cut: bool = False  # more texts or names fit than one search looks at: some are missing


@attrs.frozen
class IndexStep:
    """What one step of making the index did."""

    indexed: int  # rows looked at
    behind: bool  # messages that came since the index exists are waiting
    filling: bool  # older ones are


class Search(t.Protocol):
    """The part of storage that finds; raises as ``Storage`` does."""

    async def find_conversations(
        self,
        wanted: Filter,
        *,
        query: Query | None = None,
        before: Position | None = None,
        limit: int = 50,
    ) -> Found:
        """Conversations by ``(last_message_at, id)``, the greatest first, from below ``before``;
        with ``query`` those with a message, or the name of their contact or group, that fits."""
        ...

    async def conversation(self, conversation_id: int) -> "ConversationRow | None":
        """One conversation, one that went into another too."""
        ...

    async def reopen_conversation(self, conversation_id: int) -> "ConversationRow | None":
        """closed → waiting; a live one stays as it is. None when there is no such conversation.

        Raises:
            StorageRejectedError: another conversation of the chat is live.
        """
        ...

    async def live_conversation(self, conversation_id: int) -> int | None:
        """The live conversation of the same chat, itself perhaps."""
        ...

    async def search_messages(
        self, query: Query, wanted: Filter, *, before: Position | None = None, limit: int = 50
    ) -> Hits:
        """Messages whose text fits. A page may be short, or empty, though the search goes on: one
        call looks at no more than :data:`CANDIDATES` texts."""
        ...

    async def index_messages(self, limit: int) -> IndexStep:
        """Make the words of up to ``limit`` messages; call it until nothing is left.

        What has changed comes first, and in steps of its own: the writer may have to wait for
        them, and never waits for steps with new or older messages."""
        ...

    async def search_complete(self) -> bool:
        """Whether all messages of before the last start are in the index."""
        ...

    async def search_waiting(self) -> int:
        """How many messages cannot be found yet; ``WAITING_COUNTED`` stands for that many or
        more, so that it is cheap."""
        ...
