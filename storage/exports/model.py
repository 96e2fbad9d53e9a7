"""What an export is asked to hold, and what it says of itself."""

import collections.abc as cabc
import datetime as dt
import enum
import json
import re
import typing as t

import attrs

from storage.errors import StorageRejectedError

FORMAT: t.Final = "zapvisor-export"
VERSION: t.Final = 1
MANIFEST: t.Final = "manifest.json"
SUMS: t.Final = "SHA256SUMS"
JOURNAL: t.Final = "journal.jsonl"
UNFINISHED: t.Final = ".part"
"""The end of the name of what is not complete: a file, or the directory of an export."""
NAME: t.Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,119}")
BOUNDS: t.Final = ("newest_contact", "newest_chat", "newest_conversation", "newest_message")
LONGEST: t.Final = 16 * 1024 * 1024  # bytes of a manifest, or of a line of a journal
NOT_WHOLE: t.Final = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,  # a number that is infinite
    RecursionError,  # nested without end
)
"""What reading a manifest, or a line of a journal, raises that is damaged."""


class Form(enum.Enum):
    """How messages are written."""

    JSONL = "jsonl"  # everything, for programs: see docs/archive.md
    HTML = "html"
    CSV = "csv"
    WHATSAPP = "whatsapp"  # what "export chat" writes on Android
    WHATSAPP_IOS = "whatsapp-ios"  # and on an iPhone

    @property
    def streamed(self) -> bool:
        """Whether it is one stream that is cut into parts, instead of many files."""
        return self in (Form.JSONL, Form.CSV)


@attrs.frozen(kw_only=True)
class Request:
    """What is wanted. Filters that are None leave all in."""

    form: Form = Form.JSONL
    connection: str | None = None
    contact: str | None = None  # one of their addresses: a bare JID
    conversation: int | None = None
    since: dt.datetime | None = None  # of the time of sending
    until: dt.datetime | None = None  # exclusive
    zone: str = "UTC"  # of the times that people read
    compress: bool = False
    recipients: tuple[str, ...] = ()  # "age1…" or "ssh-… …"
    media: bool = False

    def as_json(self) -> dict[str, t.Any]:
        """For a journal, a manifest, or the table of exports."""
        return {
            "form": self.form.value,
            "connection": self.connection,
            "contact": self.contact,
            "conversation": self.conversation,
            "since": time_text(self.since),
            "until": time_text(self.until),
            "zone": self.zone,
            "compress": self.compress,
            "recipients": list(self.recipients),
            "media": self.media,
        }

    @classmethod
    def from_json(cls, facts: cabc.Mapping[str, t.Any]) -> t.Self:
        """The reverse.

        Raises:
            LookupError, TypeError, ValueError: it is none.
        """
        return cls(
            form=Form(facts["form"]),
            connection=_optional(str, facts["connection"]),
            contact=_optional(str, facts["contact"]),
            conversation=_optional(int, facts["conversation"]),
            since=_moment(facts["since"]),
            until=_moment(facts["until"]),
            zone=str(facts["zone"]),
            compress=bool(facts["compress"]),
            recipients=tuple(str(each) for each in facts["recipients"]),
            media=bool(facts["media"]),
        )


@attrs.frozen(kw_only=True)
class Start:
    """What is settled when an export begins, and stays so when it is resumed."""

    name: str  # of its directory, or the beginning of its keys
    request: Request
    bounds: tuple[int, int, int, int]
    """Numbers of the newest contact, chat, conversation and message when it began: what came
    later is not in it."""
    created_at: str  # ISO 8601, UTC
    program: str  # version of zapvisor
    previous: str | None = None  # the name of the one before it, of the same schedule

    @property
    def bound(self) -> int:
        """The newest message that is in it."""
        return self.bounds[-1]

    def as_json(self) -> dict[str, t.Any]:
        """The first line of a journal."""
        facts = attrs.asdict(self, recurse=False)
        return facts | {"request": self.request.as_json(), "format": FORMAT, "version": VERSION}

    @classmethod
    def from_json(cls, facts: cabc.Mapping[str, t.Any]) -> t.Self:
        """The reverse.

        Raises:
            LookupError, TypeError, ValueError: it is none.
        """
        if facts["format"] != FORMAT or facts["version"] != VERSION:
            raise ValueError("another format")
        return cls(
            name=str(facts["name"]),
            request=Request.from_json(facts["request"]),
            bounds=_bounds(facts["bounds"]),
            created_at=str(facts["created_at"]),
            program=str(facts["program"]),
            previous=_optional(str, facts["previous"]),
        )


@attrs.frozen(kw_only=True)
class FileFacts:
    """One file of an export."""

    name: str  # relative, with "/"
    size: int  # bytes
    sha256: str  # hexadecimal
    part: bool = False
    """Of the stream, instead of a page, a chat or a file of a message."""

    @classmethod
    def from_json(cls, facts: cabc.Mapping[str, t.Any], *, part: bool | None = None) -> t.Self:
        """Out of a journal, or with ``part`` out of a manifest.

        Raises:
            LookupError, TypeError, ValueError: it is none.
        """
        return cls(
            name=safe_name(facts["name"]),
            size=int(facts["size"]),
            sha256=str(facts["sha256"]),
            part=bool(facts["part"]) if part is None else part,
        )


@attrs.frozen(kw_only=True)
class Manifest:
    """What a complete export says of itself."""

    start: Start
    finished_at: str  # ISO 8601, UTC
    counts: dict[str, int]  # what is in it, by kind
    files: int  # without the manifest and the list of checksums
    size: int  # bytes of those files
    sums_sha256: str  # of the list of checksums
    parts: tuple[FileFacts, ...]  # of the stream, in order; empty for pages

    def as_text(self) -> bytes:
        """The file."""
        request = self.start.request
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.start.name,
            "form": request.form.value,
            "program": self.start.program,
            "created_at": self.start.created_at,
            "finished_at": self.finished_at,
            "filters": {
                "connection": request.connection,
                "contact": request.contact,
                "conversation": request.conversation,
            },
            "period": {
                "from": time_text(request.since),
                "to": time_text(request.until),
                "timezone": request.zone,
            },
            "bounds": dict(zip(BOUNDS, self.start.bounds, strict=True)),
            "compressed": request.compress,
            "recipients": list(request.recipients),
            "media": request.media,
            "counts": self.counts,
            "files": self.files,
            "bytes": self.size,
            "sums": {"name": SUMS, "sha256": self.sums_sha256},
            "parts": [
                {"name": each.name, "size": each.size, "sha256": each.sha256} for each in self.parts
            ],
            "previous": self.start.previous,
        }
        return json.dumps(facts, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_text(cls, text: bytes, where: object) -> t.Self:
        """The reverse; ``where`` names it in errors.

        Raises:
            StorageRejectedError: it is none, damaged, or of a later version.
        """
        try:
            facts = json.loads(text)
            if facts["format"] != FORMAT:
                raise StorageRejectedError(f"{where} is no manifest of an export of zapvisor")
            if facts["version"] > VERSION:
                raise StorageRejectedError(
                    f"{where}: the export was made by zapvisor {facts['program']}, in version"
                    f" {facts['version']} of the format; this zapvisor reads up to {VERSION}:"
                    " use a newer one"
                )
            return cls._read(facts)
        except NOT_WHOLE as error:
            raise StorageRejectedError(f"{where} is damaged: it is no whole manifest") from error

    @classmethod
    def _read(cls, facts: dict[str, t.Any]) -> t.Self:
        request = Request.from_json(
            {
                **facts["filters"],
                "form": facts["form"],
                "since": facts["period"]["from"],
                "until": facts["period"]["to"],
                "zone": facts["period"]["timezone"],
                "compress": facts["compressed"],
                "recipients": facts["recipients"],
                "media": facts["media"],
            }
        )
        start = Start(
            name=str(facts["name"]),
            request=request,
            bounds=_bounds(facts["bounds"][each] for each in BOUNDS),
            created_at=str(facts["created_at"]),
            program=str(facts["program"]),
            previous=_optional(str, facts["previous"]),
        )
        return cls(
            start=start,
            finished_at=str(facts["finished_at"]),
            counts={str(kind): int(count) for kind, count in facts["counts"].items()},
            files=int(facts["files"]),
            size=int(facts["bytes"]),
            sums_sha256=str(facts["sums"]["sha256"]),
            parts=tuple(FileFacts.from_json(each, part=True) for each in facts["parts"]),
        )


def safe_name(name: str) -> str:
    """A relative path that stays inside its directory.

    Raises:
        ValueError: it does not. Without the name, which may be that of a person.
    """
    parts = name.split("/")
    if not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise ValueError("it is no name of a file of an export")
    return name


def check_export_name(name: str) -> str:
    """The name of an export.

    Raises:
        StorageRejectedError: it cannot be one.
    """
    if not NAME.fullmatch(name) or name.endswith(UNFINISHED):
        raise StorageRejectedError(
            f"{name[:80]!r} cannot be the name of an export: letters, digits and . _ - only, at"
            f" most 120, not beginning with . and not ending in {UNFINISHED}"
        )
    return name


def time_text(moment: dt.datetime | None) -> str | None:
    """ISO 8601 in UTC; None stays None."""
    return None if moment is None else moment.astimezone(dt.UTC).isoformat()


def _moment(text: t.Any) -> dt.datetime | None:
    if text is None:
        return None
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment


def _bounds(numbers: cabc.Iterable[t.Any]) -> tuple[int, int, int, int]:
    first, second, third, fourth = map(int, numbers)
    return first, second, third, fourth


_T = t.TypeVar("_T", int, str)


def _optional(kind: cabc.Callable[[t.Any], _T], value: t.Any) -> _T | None:
    return None if value is None else kind(value)
