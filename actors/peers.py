"""What the own phone tells this device: keys, offers of history, address pairs, answers. Pure.

Only the phone of the own account is believed; what anybody else marks as such is kept unread.
"""

import typing as t

import attrs
import structlog

from storage.api import RecordChange, RecordKind
from storage.facts import AddressPair, Fact, HistoryOffered
from whatsapp.appstate.requests import read_key_share
from whatsapp.content import Content
from whatsapp.errors import RemoteProtocolError
from whatsapp.history import read_notification
from whatsapp.peer import PeerKind, kind_of, parse_lid_mappings
from whatsapp.stanzas import MessageStanza

MAX_KEY: t.Final = 256  # characters of a record's key

log: structlog.stdlib.BoundLogger = structlog.get_logger("peers")


@attrs.frozen(kw_only=True)
class PeerNews:
    """What one message of the phone changes, and who should hear of it."""

    kind: PeerKind
    raw: bytes = attrs.field(repr=False)
    records: tuple[RecordChange, ...] = ()
    facts: tuple[Fact, ...] = ()


def is_from_phone(stanza: MessageStanza) -> bool:
    """Whether the own phone wrote it."""
    return stanza.from_me and stanza.sender.device == 0


def read_peer(stanza: MessageStanza, content: Content) -> PeerNews:
    """Read one message of the phone; what cannot be read is kept as it came."""
    key = (stanza.id or "")[:MAX_KEY]
    kept = () if not key else (RecordChange(RecordKind.PEER, key, content.raw),)
    other = PeerNews(kind=PeerKind.OTHER, raw=content.raw, records=kept)
    if not is_from_phone(stanza):
        return other
    try:
        return _read(key, content.raw) or other
    except RemoteProtocolError as error:
        log.warning("peers.unreadable", error=str(error))
        return other


def _read(key: str, raw: bytes) -> PeerNews | None:
    kind = kind_of(raw)
    match kind:
        case PeerKind.HISTORY_NOTIFICATION if key:
            notice = read_notification(raw)
            offered = HistoryOffered(
                key=key,
                notification=notice.fields,
                sync_type=notice.sync_type,
                chunk_order=notice.chunk_order,
                progress=notice.progress,
                request_id=notice.request_id,
            )
            return PeerNews(kind=kind, raw=raw, facts=(offered,))
        case PeerKind.KEY_SHARE:
            records = tuple(
                RecordChange(RecordKind.APP_STATE_KEY, key_id, data)
                for key_id, data in read_key_share(raw)
            )
            return PeerNews(kind=kind, raw=raw, records=records)
        case PeerKind.LID_MAPPINGS:
            pairs = tuple(
                AddressPair(str(item.number), str(item.lid), "phone")
                for item in parse_lid_mappings(raw)
            )
            return PeerNews(kind=kind, raw=raw, facts=pairs)
        case PeerKind.RESPONSE:
            return PeerNews(kind=kind, raw=raw)  # taken in by whoever asked
        case _:
            return None
