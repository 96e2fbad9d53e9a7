"""How a file of a stranger is handed out: nothing in it may run where it is shown."""

import re
import typing as t
import urllib.parse

import attrs

ANY: t.Final = "application/octet-stream"
INLINE: t.Final = frozenset(
    {
        "image/jpeg",
        "image/png",
        "image/gif",
        "image/webp",
        "audio/ogg",
        "audio/mpeg",
        "audio/mp4",
        "audio/aac",
        "audio/amr",
        "video/mp4",
        "video/3gpp",
    }
)
"""Types that a browser shows and never executes; all others are downloads without a type."""

MAX_NAME: t.Final = 120  # characters

_RANGE: t.Final = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")

_EXTENSIONS: t.Final = {
    "image/jpeg": ".jpg",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "video/3gpp": ".3gp",
}
_UNSAFE: t.Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]'  # controls, and what file systems give a meaning
    r"|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # what turns the direction of reading
    r"|[\ud800-\udfff]"
)


def download_headers(
    kind: str, mimetype: str | None, name: str | None, size: int
) -> dict[str, str]:
    """The headers of a file of ``size`` bytes; ``mimetype`` and ``name`` are what its sender
    claims."""
    claimed = (mimetype or "").partition(";")[0].strip().lower()
    shown = claimed in INLINE
    disposition = "inline" if shown and kind != "document" else "attachment"
    file_name = safe_name(name, kind, claimed if shown else "")
    return {
        "content-type": claimed if shown else ANY,
        "content-length": str(size),
        "content-disposition": f"{disposition}; {_named(file_name)}",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "cache-control": "private",
    }


def safe_name(name: str | None, kind: str, mimetype: str) -> str:
    """A name for the file that no file system and no reader takes for more than that."""
    last = re.split(r"[/\\]", name or "")[-1]
    cleaned = _UNSAFE.sub("_", last).strip(" .")
    if not cleaned:
        return f"{_word(kind)}{_EXTENSIONS.get(mimetype, _extension(mimetype))}"
    if len(cleaned) > MAX_NAME:
        stem, dot, extension = cleaned.rpartition(".")
        kept = dot + extension if stem and len(extension) <= 10 else ""
        cleaned = cleaned[: MAX_NAME - len(kept)] + kept
    return cleaned


def _named(name: str) -> str:
    """Both forms of RFC 6266: plain ASCII for old clients, all characters for others."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"filename=\"{plain}\"; filename*=UTF-8''{urllib.parse.quote(name, safe='')}"


def _extension(mimetype: str) -> str:
    return f".{mimetype.partition('/')[2]}" if mimetype else ""


def _word(kind: str) -> str:
    return re.sub(r"[^a-z_]", "", kind.lower()) or "file"


@attrs.frozen
class Part:
    """A stretch of a file: bytes from ``start`` up to ``end``."""

    start: int
    end: int


class UnsatisfiableRangeError(ValueError):
    """There are no such bytes."""


def wanted_part(header: str | None, size: int) -> Part | None:
    """The one stretch that a ``Range`` header asks for (RFC 9110); None: the whole file, as for
    whatever else it says.

    Raises:
        UnsatisfiableRangeError: the file has no byte of it.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None:
        return None
    first, last = found["first"], found["last"]
    if first:
        start, end = int(first), int(last) + 1 if last else size
        if last and end <= start:
            return None
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return None
    if start >= size:
        raise UnsatisfiableRangeError(f"the file has {size} bytes")
    return Part(start, min(end, size))
