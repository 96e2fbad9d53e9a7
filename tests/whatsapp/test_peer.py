"""What own devices ask of each other: both sides agree, and hostile bytes are told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import compose, peer
from whatsapp.appstate.requests import build_key_request, build_recovery_request
from whatsapp.content import TargetKey, build_device_sent
from whatsapp.errors import RemoteProtocolError
from whatsapp.history import build_notification
from whatsapp.jid import Jid
from whatsapp.peer import LidMapping, OnDemand, Operation, PeerKind, PeerResult

PHONE = Jid.parse("15550009999@s.whatsapp.net")
GROUP = "120363000000000001@g.us"
KEYS = (
    TargetKey(remote_jid="15550001111@s.whatsapp.net", id="A"),
    TargetKey(remote_jid=GROUP, id="B", participant="7@lid"),
    TargetKey(remote_jid=GROUP, from_me=True, id="C"),
)
WANTED = OnDemand(
    chat=GROUP,
    oldest_id="3EB0",
    oldest_from_me=True,
    oldest_at=1_790_000_000,
    count=50,
    account_lid="900@lid",
)


def test_messages_are_asked_for_by_their_keys() -> None:
    """The phone reads the keys that the companion wrote."""
    request = peer.parse_request(peer.placeholder_resend_request(KEYS))
    assert (request.operation, request.keys) == (Operation.PLACEHOLDER_RESEND, KEYS)


def test_older_history_is_asked_for_by_the_oldest_message() -> None:
    """The phone reads what the companion has already."""
    request = peer.parse_request(peer.history_on_demand_request(WANTED))
    assert (request.operation, request.on_demand) == (Operation.HISTORY_ON_DEMAND, WANTED)


def test_a_collection_is_asked_for_by_name() -> None:
    """The phone reads which collection does not verify."""
    request = peer.parse_request(build_recovery_request("regular_low", 1_790_000_000))
    assert (request.operation, request.collection) == (Operation.SNAPSHOT_RECOVERY, "regular_low")


def test_the_answer_keeps_its_results_apart() -> None:
    """A message, nothing, and a snapshot come back in the order of the keys."""
    results = (
        PeerResult(web_message=b"\x0a\x00"),
        PeerResult(),
        PeerResult(snapshot=b"snapshot", compressed=True),
    )
    raw = peer.build_response(Operation.PLACEHOLDER_RESEND, "REQUEST", results)
    response = peer.parse_response(raw)
    assert (response.operation, response.request_id) == (Operation.PLACEHOLDER_RESEND, "REQUEST")
    assert response.results == results


def test_address_pairs_of_the_phone() -> None:
    """The phone's pairs of number and LID are read."""
    pairs = (
        LidMapping(number=Jid.parse("15550001111@s.whatsapp.net"), lid=Jid.parse("77@lid")),
        LidMapping(number=Jid.parse("15550002222@s.whatsapp.net"), lid=Jid.parse("78@lid")),
    )
    assert peer.parse_lid_mappings(peer.build_lid_mappings(pairs, 1_790_000_000)) == pairs


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (peer.placeholder_resend_request(KEYS), PeerKind.REQUEST),
        (peer.build_response(Operation.PLACEHOLDER_RESEND, "X", []), PeerKind.RESPONSE),
        (build_key_request([b"\x01"]), PeerKind.KEY_REQUEST),
        (peer.build_lid_mappings([]), PeerKind.LID_MAPPINGS),
        (build_notification(sync_type="recent"), PeerKind.HISTORY_NOTIFICATION),
        (peer.build_protocol(6), PeerKind.KEY_SHARE),
        (peer.build_protocol(999), PeerKind.OTHER),
        (compose.text("hello"), PeerKind.OTHER),
        (b"", PeerKind.OTHER),
    ],
)
def test_kinds_are_told_apart(raw: bytes, kind: PeerKind) -> None:
    """Every message between own devices is recognised, as a copy to own devices too."""
    assert peer.kind_of(raw) is kind
    assert peer.kind_of(build_device_sent(PHONE, raw)) is kind


def test_some_clients_wrap_what_they_ask() -> None:
    """A request inside a copy to own devices is the same request."""
    wrapped = build_device_sent(PHONE, peer.placeholder_resend_request(KEYS))
    assert peer.parse_request(wrapped).keys == KEYS


@pytest.mark.parametrize(
    "parse",
    [
        peer.parse_request,
        peer.parse_response,
        peer.parse_lid_mappings,
        peer.protocol_of,
    ],
)
def test_other_messages_are_refused(parse: "object") -> None:
    """What is asked for is there, or the peer is to blame."""
    for raw in (b"", compose.text("hello"), b"\xff\xff"):
        with pytest.raises(RemoteProtocolError):
            parse(raw)  # type: ignore[operator]


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_or_the_peers_error(data: bytes) -> None:
    """Nothing but RemoteProtocolError comes out."""
    wrapped = peer.build_protocol(17)[:1] + bytes([len(data) & 0x7F]) + data
    for raw in (data, wrapped):
        for parse in (peer.kind_of, peer.parse_request, peer.parse_response):
            try:
                parse(raw)
            except RemoteProtocolError:
                continue
