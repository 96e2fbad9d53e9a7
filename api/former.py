"""Former content: what messages said before they were deleted or changed.

No list and no message shows it, whoever asks. It is had from routes of its own, with the scope
``history``, and every time that is on record before anything is answered.
"""

import collections.abc as cabc
import typing as t

import attrs
from litestar.types import Scope

from api.auth import Caller, caller, demand
from api.ports_changes import ChangesPort
from api.problems import ProblemError
from api.request_id import PEER_UID, current_request
from storage.changes import Access, AccessKind, Viewer
from storage.errors import StorageError
from storage.inbox import MediaDetail, MessageDetail, Person, Quoted, Version
from storage.queues import OutboxRow

HISTORY: t.Final = "history"  # the scope
_OF_OTHERS: t.Final = frozenset({"edit", "poll_vote"})
"""The kinds that hold the content of another message."""


async def record(storage: ChangesPort, scope: Scope, what: AccessKind, **facts: t.Any) -> None:
    """Let who asks see former content, and put that on record first; ``facts``: of the access.

    Raises:
        ProblemError: they may not; or it cannot be recorded, and so not be shown.
    """
    access = Access(**attrs.asdict(viewer(scope)), what=what, **facts)
    try:
        await storage.record_access(access)
    except StorageError as error:
        detail = f"nothing is shown, for the access cannot be recorded: {error}"
        raise ProblemError("not-recorded", 503, detail) from error


def viewer(scope: Scope) -> Viewer:
    """Who asks, for the record.

    Raises:
        ProblemError: they may not see former content.
    """
    demand(scope, HISTORY)
    who = t.cast("Caller", caller(scope))
    state = t.cast("t.Any", scope).get("state") or {}
    return Viewer(
        who=who.name,
        token_id=who.token_id,
        uid=state.get(PEER_UID),
        request_id=current_request.get(),
    )


async def present(
    storage: ChangesPort, messages: cabc.Sequence[MessageDetail]
) -> list[MessageDetail]:
    """Messages as everybody may see them who may read: without their former content."""
    quoted = {each.quoted.id for each in messages if each.quoted is not None}
    gone = await storage.deleted_among({number for number in quoted if number is not None})
    return [withhold(each, gone) for each in messages]


def withhold(message: MessageDetail, gone: cabc.Container[int]) -> MessageDetail:
    """A message without what it said before; ``gone``: messages that were deleted, of which a
    quote may be left. What remains of a deleted one is that, and of what kind, it was. Votes are
    shown with their poll, as it is now; by itself, one would name options of a deleted poll."""
    quoted = message.quoted
    if quoted is not None and quoted.id in gone:
        quoted = attrs.evolve(quoted, text=None)
    if message.deleted is not None or message.kind in _OF_OTHERS:
        return attrs.evolve(
            message,
            text=None,
            original_text=None,
            versions=tuple(attrs.evolve(each, text=None) for each in message.versions),
            votes=(),
            quoted=None if quoted is None else _nameless(quoted),
            mentions=(),
            detail={},
            media=None if message.media is None else _bare(message.media),
            withheld=True,
        )
    if message.versions:
        *former, present_one = message.versions
        return attrs.evolve(
            message,
            original_text=None,
            versions=(*map(_silent, former), present_one),
            quoted=quoted,
            mentions=_mentioned(message.mentions, message.text or ""),
            detail={},
            withheld=True,
        )
    return attrs.evolve(message, quoted=quoted)


def _silent(version: Version) -> Version:
    return attrs.evolve(version, text=None)


def _nameless(quoted: Quoted) -> Quoted:
    return attrs.evolve(quoted, text=None)


def _bare(media: MediaDetail) -> MediaDetail:
    return attrs.evolve(media, mimetype=None, size=None, name=None, blob_sha256=None, error=None)


def _mentioned(people: cabc.Iterable[Person], text: str) -> tuple[Person, ...]:
    """Those whom the text still mentions."""
    return tuple(
        person
        for person in people
        if any(f"@{address.partition('@')[0]}" in text for address in person.addresses)
    )


async def present_outbox(storage: ChangesPort, rows: cabc.Sequence[OutboxRow]) -> list[OutboxRow]:
    """Rows of the outbox without the text of messages that were deleted or changed since."""
    outdated = await storage.outdated_outbox([row.id for row in rows])
    return [_without_text(row) if row.id in outdated else row for row in rows]


def _without_text(row: OutboxRow) -> OutboxRow:
    body = {key: value for key, value in row.body.items() if key in ("target", "quoted")}
    return attrs.evolve(row, body=body)
