"""Reads stored messages anew, from the bytes that came: what this version understands better."""

import collections.abc as cabc
import typing as t

import attrs
import structlog

from actors.reading import PROTOCOL, message_of
from actors.rereading import Rows, origin_of_row, own_addresses
from storage.api import Lane, ReceivedMessage
from storage.errors import StorageRejectedError
from storage.inbox import ADDON_KINDS, StoredMessage
from storage.prepare import prepare_message
from whatsapp.content import NONE, UNKNOWN, read_content
from whatsapp.content_kinds import KINDS
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid

PAGE: t.Final = 200  # rows read at once

log: structlog.stdlib.BoundLogger = structlog.get_logger("reprocess")


@attrs.frozen(kw_only=True)
class ReprocessReport:
    """What reading all messages anew changed."""

    read: int = 0
    changed: int = 0
    still_unknown: int = 0
    rejected: int = 0  # a new reading that storage refused: the row is as it was


async def reprocess(storage: Rows, connection: str | None = None) -> ReprocessReport:
    """Read the messages of one connection, or of all, and rewrite those that read differently.

    Can be stopped and repeated at any time: each row is rewritten by itself.

    Raises:
        StorageUnavailableError: what was rewritten so far stays so.
    """
    own = await own_addresses(storage)
    report, after = ReprocessReport(), 0
    while page := await storage.unread_kinds(after, PAGE, connection=connection, kinds=None):
        for stored in page:
            report = await _reread(storage, stored, own.get(stored.connection, ()), report)
        after = page[-1].id
    log.info("reprocess.done", connection=connection, **attrs.asdict(report))
    return report


async def _reread(
    storage: Rows, stored: StoredMessage, own: cabc.Sequence[Jid], report: ReprocessReport
) -> ReprocessReport:
    if stored.kind not in KINDS or not stored.raw:
        return report  # not a message that somebody wrote: there is nothing to read in it
    report = attrs.evolve(report, read=report.read + 1)
    message = _reading(stored, own)
    if (stored.kind if message is None else message.kind) == UNKNOWN:
        report = attrs.evolve(report, still_unknown=report.still_unknown + 1)
    if message is None:
        return report
    try:
        if not (_differs(stored, message) or await _lacks_file(storage, stored, message)):
            return report
        changed = await storage.rewrite(stored.connection, stored.id, message, expected=stored.kind)
    except StorageRejectedError as error:
        log.error(
            "reprocess.rejected", connection=stored.connection, id=stored.id, error=str(error)
        )
        return attrs.evolve(report, rejected=report.rejected + 1)
    return attrs.evolve(report, changed=report.changed + changed)


def _reading(stored: StoredMessage, own: cabc.Sequence[Jid]) -> ReceivedMessage | None:
    """How the message reads now; None if it is not to be touched."""
    origin = origin_of_row(stored, own)
    if origin is None:
        return None
    try:
        content = read_content(stored.raw)
    except RemoteProtocolError:
        return None
    if content.kind in ADDON_KINDS and not _is_closed(stored):
        return None  # opened since: the bytes alone say less than the row
    message = message_of(content, origin)
    for person in (stored.senders, tuple(str(jid) for jid in own)):
        if message.target_author in person and stored.target_author in person:
            message = attrs.evolve(message, target_author=stored.target_author)
    if content.kind == NONE:
        lane = Lane.SIDE if origin.lane is Lane.LIVE else origin.lane
        return attrs.evolve(message, kind=PROTOCOL, lane=lane)
    return message


def _is_closed(stored: StoredMessage) -> bool:
    """Whether an encrypted answer still waits to be opened, or was never known as one."""
    return stored.kind == UNKNOWN or (
        stored.kind in ADDON_KINDS and not {"options", "response"} & stored.detail.keys()
    )


def _differs(stored: StoredMessage, message: ReceivedMessage) -> bool:
    """Whether the row says something else than the message, once that is made storable.

    Raises:
        StorageRejectedError: the message cannot be stored.
    """
    new = prepare_message(stored.connection, message, stored.sent_at.timestamp())
    return (
        (stored.kind, stored.text, stored.target_id, stored.target_author)
        != (new.kind, new.text, new.target_id, new.target_author)
        or (stored.quoted_id, stored.quoted_author) != (new.quoted_id, new.quoted_author)
        or (stored.mentions, set(stored.flags)) != (new.mentions, set(new.flags))
        or stored.detail != (new.detail or {})
    )


async def _lacks_file(storage: Rows, stored: StoredMessage, message: ReceivedMessage) -> bool:
    """Whether the message carries a file that an older reading did not see."""
    if message.media is None:
        return False
    shown = await storage.message(stored.id)
    return shown is not None and shown.media is None
