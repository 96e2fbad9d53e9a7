"""What is asked of the queues made storable: requests and results. Shared by every storage.

Facts are made storable in ``storage.prepare_facts``.
"""

import collections.abc as cabc
import hashlib
import json
import typing as t

import attrs

from storage.errors import StorageRejectedError
from storage.facts import AppStateStep, DeviceList, HistoryChatCount, HistoryStep, OutboxStep
from storage.identity import MAX_ID_LENGTH, clean_text
from storage.queues import OUTBOX_RANK, MediaResult, MediaState, OutboxRequest, OutboxState
from whatsapp.jid import SERVER

MAX_BODY: t.Final = 256 * 1024  # bytes of a request's JSON
MAX_KEY: t.Final = 512  # characters of an idempotency key
MAX_KIND: t.Final = 64
MAX_TEXT: t.Final = 1_000  # characters of a reason, an error or a small field

_INT64_MAX: t.Final = 2**63 - 1
_LATEST: t.Final = 253_402_300_799.0  # unix seconds: the end of the year 9999
_CHUNK_STEPS: t.Final = frozenset({"importing", "done", "failed"})
_OUTBOX_STEPS: t.Final = frozenset(OUTBOX_RANK) - {OutboxState.QUEUED}
_CLAIMED_PATH: t.Final = 2_048  # characters

OF_DEVICE: t.Final = (AppStateStep, DeviceList)
"""Facts that belong to the linked device: a new one starts without them."""


@attrs.frozen(kw_only=True)
class PreparedRequest:
    """A request whose every field fits its column."""

    key: str
    external_id: str
    kind: str
    chat: str
    body: str = attrs.field(repr=False)  # JSON
    fingerprint: bytes  # equal for equal requests


def check_step(fact: OutboxStep | HistoryStep) -> None:
    """A step must lead to a state that there is.

    Raises:
        StorageRejectedError: it does not; nothing of its envelope is committed.
    """
    states = _OUTBOX_STEPS if isinstance(fact, OutboxStep) else _CHUNK_STEPS
    if fact.state not in states:
        raise StorageRejectedError(f"no {type(fact).__name__} leads to the state {fact.state!r}")


def prepare_request(key: str, request: OutboxRequest, external_id: str) -> PreparedRequest:
    """Make a request storable.

    Raises:
        StorageRejectedError: a field is empty or too long, or the body is no JSON.
    """
    try:
        body = json.dumps(
            _clean_json(request.body), ensure_ascii=False, allow_nan=False, sort_keys=True
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageRejectedError(f"the request is no JSON: {error}") from error
    if len(body.encode()) > MAX_BODY:
        raise StorageRejectedError(f"the request has more than {MAX_BODY // 1024} KiB")
    kind = _required("kind", request.kind, MAX_KIND)
    chat = _required("chat", request.chat, MAX_ID_LENGTH)
    return PreparedRequest(
        key=_required("idempotency key", key, MAX_KEY),
        external_id=_required("external id", external_id, MAX_ID_LENGTH),
        kind=kind,
        chat=chat,
        body=body,
        fingerprint=hashlib.sha256(json.dumps([kind, chat, body]).encode()).digest(),
    )


def prepare_result(result: MediaResult) -> MediaResult:
    """A result whose every field fits its column.

    Raises:
        StorageRejectedError: a stored file without hash and size, or a state that no attempt
            leads to.
    """
    stored = result.state is MediaState.STORED
    if result.state is MediaState.REMOVED:
        raise StorageRejectedError("fetching a file does not remove it")
    if stored and (result.blob_sha256 is None or len(result.blob_sha256) != 32):
        raise StorageRejectedError("a stored file needs its SHA-256")
    if stored and (result.blob_size is None or not 0 <= result.blob_size <= _INT64_MAX):
        raise StorageRejectedError("a stored file needs its size")
    retrying = result.state is MediaState.PENDING
    path = None if result.direct_path is None else clean_text(result.direct_path)
    if path is not None and len(path) > _CLAIMED_PATH:
        raise StorageRejectedError(f"a path of {len(path)} characters")
    return MediaResult(
        state=result.state,
        error=_optional(result.error),
        retry_at=None if result.retry_at is None or not retrying else _time(result.retry_at),
        direct_path=path if retrying else None,
        blob_sha256=result.blob_sha256 if stored else None,
        blob_size=result.blob_size if stored else None,
    )


def shown_address(addresses: cabc.Sequence[str]) -> str:
    """Of one person's addresses the one to show: the phone number's where it is known."""
    numbers = (address for address in addresses if address.endswith("@" + SERVER))
    return next(numbers, addresses[0] if addresses else "")


def added(one: HistoryChatCount, other: HistoryChatCount) -> HistoryChatCount:
    """Two counts of one chat together."""
    return HistoryChatCount(
        chat=one.chat,
        offered=one.offered + other.offered,
        stored=one.stored + other.stored,
        duplicate=one.duplicate + other.duplicate,
        failed=one.failed + other.failed,
    )


def _clean_json(value: t.Any) -> t.Any:
    """The same with all its text storable; mappings become objects."""
    match value:
        case str():
            return clean_text(value)
        case cabc.Mapping():
            if not all(isinstance(key, str) for key in value):
                raise TypeError("a key of an object must be text")
            return {clean_text(key): _clean_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean_json(item) for item in value]
        case _:
            return value


def _required(name: str, value: str, limit: int) -> str:
    value = clean_text(value)
    if not 0 < len(value) <= limit:
        raise StorageRejectedError(f"{name} of {len(value)} characters")
    return value


def _text(value: str) -> str:
    return clean_text(value)[:MAX_TEXT]


def _optional(value: str | None) -> str | None:
    return None if value is None else _text(value)


def _time(at: float) -> float:
    """``at`` as the database can hold it; what is no time becomes 0."""
    return max(0.0, min(float(at), _LATEST)) if at == at else 0.0
