"""Harness for nodes: every reader of a stanza is given every node."""

import typing as t

import attrs

from actors.notices import Calls, Moments, group_facts, group_message, receipt_facts
from fuzz import keys
from fuzz.harness import Target, ensure, refused
from whatsapp import (
    calls,
    lifecycle,
    media_retry,
    notifications,
    pairing,
    pairing_code,
    stanzas,
)
from whatsapp.binary import codec
from whatsapp.iq import (
    app_state,
    bulletins,
    bundles,
    core,
    groups,
    media_conn,
    ping,
    prekeys,
    usync,
)
from whatsapp.jid import LID_SERVER, SERVER, Jid
from whatsapp.node import Node

OWN: t.Final = Jid("5511900000001", SERVER, 7)
OWN_LID: t.Final = Jid("100000000000001", LID_SERVER, 7)
_OWN: t.Final = (OWN.bare, OWN_LID.bare)
_NUMBERS: t.Final = ("5511900000002", "5511900000003")

_READERS: t.Final = (
    app_state.parse_server_sync,
    app_state.parse_sync_request,
    app_state.parse_sync_response,
    bulletins.parse_bulletin,
    bundles.parse_fetch_response,
    calls.parse_call,
    core.error,
    core.parse_error,
    core.require_result,
    groups.parse_group,
    groups.parse_group_response,
    groups.parse_groups_response,
    lifecycle.parse_end,
    lifecycle.parse_failure,
    lifecycle.parse_stream_error,
    lifecycle.parse_success,
    media_conn.is_media_conn_request,
    media_conn.parse_media_conn,
    media_retry.is_retry_notification,
    media_retry.parse_retry_notification,
    media_retry.parse_retry_receipt,
    notifications.parse_devices_changed,
    notifications.parse_group_events,
    notifications.parse_identity_changed,
    pairing.is_secret_rotation,
    pairing.parse_pair_device,
    pairing_code.needs_new_code,
    pairing_code.parse_companion_hello,
    pairing_code.parse_hello_answer,
    pairing_code.parse_primary_hello,
    ping.is_ping,
    prekeys.parse_count,
    prekeys.parse_digest,
    prekeys.parse_low_notification,
    stanzas.parse_ack,
    stanzas.parse_receipt,
    usync.parse_devices_response,
)


def _read(reader: t.Any, node: Node, *arguments: t.Any) -> t.Any:
    with refused:
        return reader(node, *arguments)
    return None


def stanza(data: bytes) -> None:
    """No reader raises anything but the one error, and each answer to a stanza can be written."""
    with refused:
        node = codec.decode(data)
        for reader in _READERS:
            if reader is core.error:
                _read(reader, node, 500, "no")
            else:
                _read(reader, node)
        _read(usync.parse_numbers_response, node, _NUMBERS)
        _read(usync.parse_numbers_response, node, _NUMBERS[:1])
        _message(node)
        _notices(node)


def _message(node: Node) -> None:
    with refused:
        message = stanzas.parse_message(node, OWN, OWN_LID)
        for answer in (
            stanzas.delivery_receipt(message),
            stanzas.delivery_receipt(message, "sender"),
            stanzas.delivery_receipt(message, "peer_msg"),
            stanzas.retry_receipt(message, keys.DEVICE, count=1, prekey=(1, keys.pair("one"))),
        ):
            codec.encode(answer)
    codec.encode(stanzas.ack(node, 487))


def _notices(node: Node) -> None:
    """What the actors make of it."""
    moments, known = Moments(), Calls()
    for event in _read(notifications.parse_group_events, node) or ():
        group_facts(event, moments.of(event))
        group_message(event, _OWN)
    if (call := _read(calls.parse_call, node)) is not None:
        known.message(call, _OWN)
        known.message(attrs.evolve(call, event="terminate"), _OWN)
    if (receipt := _read(stanzas.parse_receipt, node)) is not None:
        receipt_facts(receipt, _OWN)
        ensure(receipt.ids, "a receipt for nothing")


TARGETS: t.Final = (Target(name="stanza", run=stanza, form="node"),)
