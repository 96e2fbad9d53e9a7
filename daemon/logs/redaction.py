"""What must not be in a line is taken out of it: secrets, phone numbers, passwords in URLs.

A safety net below the rule that nothing of the kind is logged at all.
"""

import collections.abc as cabc
import math
import re
import typing as t

from structlog.typing import EventDict, WrappedLogger

from daemon.logs.tracebacks import safe_message

REDACTED: t.Final = "[redacted]"
MAX_TEXT: t.Final = 8_192  # characters of one value
MAX_DEPTH: t.Final = 6
MAX_ITEMS: t.Final = 200  # of one list or mapping

_SECRETS: t.Final = (
    "authorization body caption ciphertext content cookie credentials key keys passphrase password"
    " plaintext qr raw secret secrets signature text token"
)
_SECRET_WORDS: t.Final = frozenset(_SECRETS.split())
_WORDS: t.Final = re.compile(r"[a-z]+")
_LETTER_OR_DIGIT: t.Final = "0-9A-Za-z"
_PHONE: t.Final = re.compile(
    rf"(?<![{_LETTER_OR_DIGIT}])\+?[0-9]{{4,}}([0-9]{{4}})(?![{_LETTER_OR_DIGIT}])"
    r"|\+[0-9][0-9 ().-]{5,18}([0-9]{4})(?![0-9])"
)
_LOGIN: t.Final = re.compile(r"(://[^/\s:@]*):\S*@")
_TOKEN_LOGIN: t.Final = re.compile(r"(://)[^/\s:@]+@")  # as in nats://TOKEN@host
_PASSWORD: t.Final = re.compile(
    r"\b([a-z_-]*(?:password|passwd|token|secret|key))=('[^']*'|[^\s&;]+)", re.IGNORECASE
)
_BEARER: t.Final = re.compile(r"\b(Bearer|Basic) +[\w.~+/=-]+", re.IGNORECASE)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank what is named like a secret and mask what looks like one or like a phone number."""
    for key, value in event.items():
        event[key] = _clean(key, value, MAX_DEPTH)
    return event


def mask_phones(text: str) -> str:
    """Leave the last four digits of every run that is as long as a phone number."""
    return _PHONE.sub(lambda found: "***" + (found[1] or found[2]), text)


def clean_text(text: str) -> str:
    """A text without numbers and passwords, and of bounded length."""
    more = len(text) - MAX_TEXT
    if more > 0:
        text = f"{text[:MAX_TEXT]}… ({more} more characters)"
    if "://" in text:
        text = _TOKEN_LOGIN.sub(r"\1***@", _LOGIN.sub(r"\1:***@", text))
    if "=" in text:
        text = _PASSWORD.sub(r"\1=***", text)
    return mask_phones(_BEARER.sub(r"\1 ***", text))


def _clean(key: str, value: t.Any, depth: int) -> t.Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no others
    if isinstance(value, int):
        return value if abs(value) < 2**63 else REDACTED
    if isinstance(value, bytes | bytearray | memoryview) or _is_secret(key):
        return REDACTED
    if isinstance(value, str):
        return clean_text(value)
    if depth == 0:
        return REDACTED
    if isinstance(value, BaseException):
        return clean_text(f"{type(value).__name__}: {safe_message(value)}")
    if isinstance(value, cabc.Mapping):
        pairs = list(value.items())[:MAX_ITEMS]
        return {clean_text(str(k)): _clean(str(k), v, depth - 1) for k, v in pairs}
    if isinstance(value, cabc.Sequence | cabc.Set):
        return [_clean("", item, depth - 1) for item in list(value)[:MAX_ITEMS]]
    return clean_text(repr(value))


def _is_secret(key: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(_WORDS.findall(key.lower()))
