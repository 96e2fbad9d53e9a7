"""Which devices accounts have, and their other address.

Source: docs/protocol.md#device-lists
"""

import collections.abc as cabc
import typing as t

import attrs

from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.jid import Jid
from whatsapp.node import Node

XMLNS: t.Final = "usync"
MAX_DEVICES: t.Final = 256  # of one account


@attrs.frozen(kw_only=True)
class DeviceList:
    """The devices of one account; the phone is number 0."""

    account: Jid  # in the form that was asked
    devices: tuple[int, ...]
    lid: Jid | None = None
    key_index_list: bytes = attrs.field(default=b"", repr=False)  # ADVSignedKeyIndexList

    @property
    def jids(self) -> tuple[Jid, ...]:
        """The devices' JIDs."""
        return tuple(self.account.with_device(device) for device in self.devices)


def devices_request(iq_id: str, sid: str, accounts: cabc.Iterable[Jid]) -> Node:
    """Asks for the devices and the LID of each account; ``sid`` is any new text."""
    query = Node("query", {}, (Node("devices", {"version": 2}), Node("lid")))
    users = Node("list", {}, tuple(Node("user", {"jid": jid.bare}) for jid in accounts))
    usync = Node(
        "usync",
        {"sid": sid, "mode": "query", "last": "true", "index": 0, "context": "message"},
        (query, users),
    )
    return core.get(iq_id, XMLNS, usync)


def parse_devices_response(node: Node) -> tuple[DeviceList, ...]:
    """The devices of the accounts that were asked for; accounts without any are left out.

    Raises:
        IqError: refused as a whole, or for one account.
        RemoteProtocolError: malformed.
    """
    usync = core.require_result(node).required_child("usync")
    users = usync.required_child("list").children_named("user")
    lists = (_parse_user(user) for user in users)
    return tuple(devices for devices in lists if devices is not None)


def _parse_user(user: Node) -> DeviceList | None:
    account = user.required_jid("jid").bare
    if (devices := user.child("devices")) is None:
        return None
    if (error := devices.child("error")) is not None:
        raise core.parse_error(error)
    if (device_list := devices.child("device-list")) is None:
        return None
    index_list, lid = devices.child("key-index-list"), user.child("lid")
    return DeviceList(
        account=account,
        devices=_parse_device_list(device_list),
        lid=None if lid is None else lid.jid("val"),
        key_index_list=b"" if index_list is None else index_list.data(),
    )


def _parse_device_list(node: Node) -> tuple[int, ...]:
    numbers: dict[int, None] = {}
    for child in node.children_named("device"):
        number = child.integer("id")
        if number is None or not 0 <= number < MAX_DEVICES:
            raise RemoteProtocolError(f"device number {number}")
        if child.text("is_hosted") != "true":
            numbers[number] = None
    return tuple(numbers)
