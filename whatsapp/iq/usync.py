"""Which devices accounts have, their other address, and who is on WhatsApp at all.

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


@attrs.frozen(kw_only=True)
class NumberCheck:
    """What WhatsApp says of one phone number."""

    number: str  # as asked: digits
    jid: Jid | None  # bare; None: not on WhatsApp. May differ from the digits that were asked
    lid: Jid | None = None  # bare


def devices_request(iq_id: str, sid: str, accounts: cabc.Iterable[Jid]) -> Node:
    """Asks for the devices and the LID of each account; ``sid`` is any new text."""
    asked = (Node("devices", {"version": 2}), Node("lid"))
    users = tuple(Node("user", {"jid": jid.bare}) for jid in accounts)
    return _request(iq_id, sid, "message", asked, users)


def numbers_request(iq_id: str, sid: str, numbers: cabc.Iterable[str]) -> Node:
    """Asks which phone numbers (digits with country code) are on WhatsApp, and under which LID."""
    asked = (Node("contact"), Node("lid"))
    users = tuple(
        Node("user", {}, (Node("contact", {}, f"+{number}".encode()),)) for number in numbers
    )
    return _request(iq_id, sid, "interactive", asked, users)


def _request(
    iq_id: str, sid: str, context: str, asked: tuple[Node, ...], users: tuple[Node, ...]
) -> Node:
    usync = Node(
        "usync",
        {"sid": sid, "mode": "query", "last": "true", "index": 0, "context": context},
        (Node("query", {}, asked), Node("list", {}, users)),
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


def parse_numbers_response(node: Node, numbers: cabc.Sequence[str]) -> tuple[NumberCheck, ...]:
    """The verdict on each of ``numbers``; one that the answer leaves out is not on WhatsApp.

    Raises:
        IqError: refused as a whole, or for one number.
        RemoteProtocolError: malformed.
    """
    usync = core.require_result(node).required_child("usync")
    users = usync.required_child("list").children_named("user")
    found: dict[str, NumberCheck] = {}
    for user in users:
        contact = user.child("contact")
        if contact is None:
            continue
        if (error := contact.child("error")) is not None:
            raise core.parse_error(error)
        check = _parse_contact(user, contact, numbers[0] if len(numbers) == len(users) == 1 else "")
        found[check.number] = check
    return tuple(found.get(number, NumberCheck(number=number, jid=None)) for number in numbers)


def _parse_contact(user: Node, contact: Node, only: str) -> NumberCheck:
    """The number is repeated by some servers; else it is the one asked, or that of the JID."""
    jid, lid = user.jid("jid"), user.child("lid")
    asked = "" if contact.children else contact.data().decode(errors="replace").removeprefix("+")
    number = asked or only or ("" if jid is None else jid.user)
    if contact.text("type") != "in" or jid is None or not jid.user:
        return NumberCheck(number=number, jid=None)
    other = None if lid is None else lid.jid("val")
    return NumberCheck(number=number, jid=jid.bare, lid=None if other is None else other.bare)


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
