"""What the devices of one account ask of each other, and tell each other: peer messages.

Both sides are here: a companion asks, the phone answers.

Source: docs/protocol.md#peer-messages
"""

import collections.abc as cabc
import enum
import typing as t

import attrs

from whatsapp import protobuf
from whatsapp.content import TargetKey
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import LID_SERVER, SERVER, Jid
from whatsapp.proto import history_pb2
from whatsapp.web_message import build_key, read_key, text

MAX_COPIES: t.Final = 4  # device-sent wrappers around one another
MAX_FIELDS: t.Final = 1 << 19  # of a message of the phone, which may tell every address it knows
MAX_RESULTS: t.Final = 1024
PRIORITY: t.Final = "high_force"  # of every data operation


class PeerKind(enum.StrEnum):
    """What a peer message is about."""

    HISTORY_NOTIFICATION = "history_notification"
    KEY_SHARE = "key_share"
    KEY_REQUEST = "key_request"
    SECURITY_SETTING = "security_setting"
    APP_STATE_FAILURE = "app_state_failure"
    REQUEST = "request"  # a peer data operation
    RESPONSE = "response"
    LID_MAPPINGS = "lid_mappings"
    OTHER = "other"


_KINDS: t.Final = {
    5: PeerKind.HISTORY_NOTIFICATION,
    6: PeerKind.KEY_SHARE,
    7: PeerKind.KEY_REQUEST,
    9: PeerKind.SECURITY_SETTING,
    10: PeerKind.APP_STATE_FAILURE,
    16: PeerKind.REQUEST,
    17: PeerKind.RESPONSE,
    22: PeerKind.LID_MAPPINGS,
}
_NUMBERS: t.Final = {kind: number for number, kind in _KINDS.items()}


class Operation(enum.IntEnum):
    """The peer data operations that are read here; others keep their number."""

    HISTORY_ON_DEMAND = 3
    PLACEHOLDER_RESEND = 4
    SNAPSHOT_RECOVERY = 8


def kind_of(raw: bytes) -> PeerKind:
    """What a peer message is about; ``OTHER`` for what is no protocol message.

    Raises:
        RemoteProtocolError: not a message.
    """
    protocol = _find(raw)
    if protocol is None:
        return PeerKind.OTHER
    return _KINDS.get(protocol.type, PeerKind.OTHER)


# ---- requests


@attrs.frozen(kw_only=True)
class OnDemand:
    """Asks for messages that are older than the oldest one that the companion has of a chat."""

    chat: str
    oldest_id: str
    oldest_from_me: bool
    oldest_at: int  # unix seconds
    count: int
    account_lid: str | None = None


@attrs.frozen(kw_only=True)
class PeerRequest:
    """A request of a companion; only what goes with its operation is set."""

    operation: int  # one of Operation, or another number
    keys: tuple[TargetKey, ...] = ()  # PLACEHOLDER_RESEND
    on_demand: OnDemand | None = None
    collection: str | None = None  # SNAPSHOT_RECOVERY


def placeholder_resend_request(keys: cabc.Iterable[TargetKey]) -> bytes:
    """Asks the phone for messages that could not be read here."""
    request = history_pb2.HistoryPeerRequest(type=Operation.PLACEHOLDER_RESEND)
    for key in keys:
        request.placeholders.add(key=build_key(key))
    return build_protocol(_NUMBERS[PeerKind.REQUEST], request=request)


def history_on_demand_request(wanted: OnDemand) -> bytes:
    """Asks the phone for older history of a chat; the answer is an ordinary history offer."""
    request = history_pb2.HistoryPeerRequest(type=Operation.HISTORY_ON_DEMAND)
    fields = request.on_demand
    fields.chat_jid = wanted.chat.encode()
    fields.oldest_id = wanted.oldest_id.encode()
    fields.oldest_from_me = wanted.oldest_from_me
    fields.oldest_timestamp = wanted.oldest_at
    fields.count = wanted.count
    if wanted.account_lid is not None:
        fields.account_lid = wanted.account_lid.encode()
    return build_protocol(_NUMBERS[PeerKind.REQUEST], request=request)


def parse_request(raw: bytes) -> PeerRequest:
    """Read a request: the phone's side.

    Raises:
        RemoteProtocolError: not a request.
    """
    protocol = protocol_of(raw)
    if not protocol.HasField("request"):
        raise RemoteProtocolError("no peer request")
    request = protocol.request
    return PeerRequest(
        operation=request.type,
        keys=tuple(read_key(item.key) for item in request.placeholders[:MAX_RESULTS]),
        on_demand=_on_demand(request.on_demand) if request.HasField("on_demand") else None,
        collection=text(request.snapshot.collection) if request.HasField("snapshot") else None,
    )


def _on_demand(fields: history_pb2.HistoryPeerRequest.OnDemand) -> OnDemand:
    return OnDemand(
        chat=text(fields.chat_jid),
        oldest_id=text(fields.oldest_id),
        oldest_from_me=fields.oldest_from_me,
        oldest_at=fields.oldest_timestamp,
        count=fields.count,
        account_lid=text(fields.account_lid) or None,
    )


# ---- responses


@attrs.frozen(kw_only=True)
class PeerResult:
    """One result of a response; all None: the phone does not have it."""

    web_message: bytes | None = attrs.field(default=None, repr=False)
    """A ``WebMessageInfo``, for ``web_message.read_web_message``."""
    snapshot: bytes | None = attrs.field(default=None, repr=False)
    compressed: bool = False  # the snapshot


@attrs.frozen(kw_only=True)
class PeerResponse:
    """The phone's answer to a request."""

    operation: int
    request_id: str  # stanza id of the request
    results: tuple[PeerResult, ...]


def build_response(operation: int, request_id: str, results: cabc.Iterable[PeerResult]) -> bytes:
    """The phone's side of :func:`parse_response`."""
    response = history_pb2.HistoryPeerResponse(type=operation, stanza_id=request_id.encode())
    for result in results:
        fields = response.results.add()
        if result.web_message is not None:
            fields.placeholder.web_message = result.web_message
        if result.snapshot is not None:
            fields.snapshot.collection_snapshot = result.snapshot
            fields.snapshot.is_compressed = result.compressed
    return build_protocol(_NUMBERS[PeerKind.RESPONSE], response=response)


def parse_response(raw: bytes) -> PeerResponse:
    """Read a response of the phone.

    Raises:
        RemoteProtocolError: not a response.
    """
    protocol = protocol_of(raw)
    if not protocol.HasField("response"):
        raise RemoteProtocolError("no peer response")
    response = protocol.response
    return PeerResponse(
        operation=response.type,
        request_id=text(response.stanza_id),
        results=tuple(
            PeerResult(
                web_message=item.placeholder.web_message or None,
                snapshot=item.snapshot.collection_snapshot or None,
                compressed=item.snapshot.is_compressed,
            )
            for item in response.results[:MAX_RESULTS]
        ),
    )


# ---- address pairs


@attrs.frozen(kw_only=True)
class LidMapping:
    """A phone number and the LID of the same person."""

    number: Jid
    lid: Jid


def build_lid_mappings(mappings: cabc.Iterable[LidMapping], migrated_at: int = 0) -> bytes:
    """The plaintext in which the phone tells its address pairs."""
    payload = history_pb2.HistoryLidPayload(migrated_at=migrated_at or None)
    for mapping in mappings:
        payload.pairs.add(pn=int(mapping.number.user), assigned_lid=int(mapping.lid.user))
    message = history_pb2.HistoryLidMappings(payload=payload.SerializeToString())
    return build_protocol(_NUMBERS[PeerKind.LID_MAPPINGS], lid_mappings=message)


def parse_lid_mappings(raw: bytes) -> tuple[LidMapping, ...]:
    """Every pair, with the latest LID where there are two.

    Raises:
        RemoteProtocolError: no such message.
    """
    protocol = protocol_of(raw)
    if not protocol.HasField("lid_mappings"):
        raise RemoteProtocolError("no address pairs")
    payload = protobuf.parse(
        history_pb2.HistoryLidPayload, protocol.lid_mappings.payload, MAX_FIELDS
    )
    return tuple(
        LidMapping(
            number=Jid(str(item.pn), SERVER),
            lid=Jid(str(item.latest_lid or item.assigned_lid), LID_SERVER),
        )
        for item in payload.pairs
        if item.pn and (item.latest_lid or item.assigned_lid)
    )


# ---- the message around all of them


def protocol_of(raw: bytes) -> history_pb2.HistoryPeerProtocol:
    """The protocol message in a plaintext, which some clients wrap as a copy to own devices.

    Raises:
        RemoteProtocolError: not a message, or one without it.
    """
    protocol = _find(raw)
    if protocol is None:
        raise RemoteProtocolError("no protocol message")
    return protocol


def build_protocol(number: int, **fields: t.Any) -> bytes:
    """The plaintext of a protocol message of that type."""
    protocol = history_pb2.HistoryPeerProtocol(type=number, **fields)
    return history_pb2.HistoryPeer(protocol_message=protocol).SerializeToString()


def _find(raw: bytes) -> history_pb2.HistoryPeerProtocol | None:
    message = protobuf.parse(history_pb2.HistoryPeer, raw, MAX_FIELDS)
    for _copy in range(MAX_COPIES):
        if message.HasField("protocol_message"):
            return message.protocol_message
        message = message.device_sent_message.message
    return None
