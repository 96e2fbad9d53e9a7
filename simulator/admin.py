"""The admin endpoints: scan a code, read the ledger, break things.

POST /admin/mock-phone/scan-qr[?phone=&name=]   body: the QR text
POST /admin/mock-phone/enter-code?phone=[&name=]  body: the eight characters
POST /admin/mock-phone/say?to=&name=[&phone=][&edit=|&delete=]   body: the text; ``to`` is a number
or an address, ``edit`` and ``delete`` the id of a message to change or to delete for everyone
POST /admin/mock-phone/unlink?jid=, /admin/mock-phone/reinstall?jid=
GET  /admin/root, /admin/certificate, /admin/stats, /admin/ledger[?device=]
POST /admin/fault                               body: {"fault": …, "target": …, "count": …}
"""

import collections.abc as cabc
import json
import typing as t

from simulator.errors import ScanRefusedError, SimulatorError, UnknownNameError
from simulator.faults import MediaFault
from simulator.letters import Wrapping
from simulator.model import Device
from whatsapp import compose
from whatsapp.content import TargetKey
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import SERVER, Jid

if t.TYPE_CHECKING:
    from simulator.core import Simulator
    from simulator.web import Request

MAX_BODY: t.Final = 64 * 1024

Query: t.TypeAlias = cabc.Mapping[str, str]


class _BadRequest(Exception):
    """Answered with 400 and this text."""


async def answer(simulator: "Simulator", request: "Request") -> tuple[int, t.Any]:
    """Status and answer (text, or an object to be told as JSON) of one request."""
    try:
        match request.method, request.path:
            case "POST", "/admin/mock-phone/scan-qr":
                return 200, await _scan(simulator, request.query, request.body)
            case "POST", "/admin/mock-phone/enter-code":
                return 200, await _enter_code(simulator, request.query, request.body)
            case "POST", "/admin/mock-phone/say":
                return 200, await _say(simulator, request.query, request.body)
            case "POST", "/admin/mock-phone/unlink":
                return 200, await _unlink(simulator, request.query)
            case "POST", "/admin/mock-phone/reinstall":
                account = simulator.world.account(_jid(request.query))
                await account.reinstall()
                return 200, {"account": str(account.pn)}
            case "GET", "/admin/root":
                return 200, simulator.root_key.hex()
            case "GET", "/admin/certificate":
                return 200, simulator.certificate
            case "GET", "/admin/stats":
                return 200, simulator.stats()
            case "GET", "/admin/ledger":
                device = Jid.parse(named) if (named := request.query.get("device")) else None
                return 200, list(simulator.ledger.export(device))
            case "POST", "/admin/fault":
                return 200, await _fault(simulator, request.body)
    except ScanRefusedError as error:
        return 410 if "too late" in str(error) else 422, str(error)
    except UnknownNameError as error:
        return 404, str(error)
    except (SimulatorError, RemoteProtocolError, _BadRequest) as error:
        return 400, str(error)
    return 404, "no such endpoint"


async def _scan(simulator: "Simulator", query: Query, body: bytes) -> dict[str, str]:
    device = await simulator.scan_qr(
        body.decode(errors="replace"), phone=_phone(query), name=query.get("name")
    )
    return _linked(device)


async def _enter_code(simulator: "Simulator", query: Query, body: bytes) -> dict[str, str]:
    if (phone := _phone(query)) is None:
        raise _BadRequest("the phone's number is missing")
    text = body.decode(errors="replace").strip()
    return _linked(await simulator.enter_code(text, phone, query.get("name")))


async def _say(simulator: "Simulator", query: Query, body: bytes) -> dict[str, str]:
    """Somebody, whose account is made if need be, writes to a person or a group."""
    phone, to = _phone(query), query.get("to", "")
    edited, deleted = query.get("edit"), query.get("delete")
    if not (name := query.get("name") or phone):
        raise _BadRequest("who writes is missing: give a name, a phone or both")
    if not to:
        raise _BadRequest("to is missing: the number or the address of who shall read it")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _BadRequest("the text is no UTF-8") from None
    if not text and not deleted:
        raise _BadRequest("the text is missing: it is the body of the request")
    address = Jid(to, SERVER) if to.isascii() and to.isdigit() else Jid.parse(to)
    if not address.is_group:
        simulator.world.account(address)  # nobody new is made for a reader who does not exist
    handset = simulator.create_account(name, phone).phone
    if (target := edited or deleted) is None:
        message = await handset.send_text(address, text)
    else:
        key = TargetKey(remote_jid=str(address), from_me=True, id=target)
        content, mark = (
            (compose.edit(key, text, int(simulator.world.now() * 1000)), "1")
            if edited
            else (compose.revoke(key), "7")
        )
        message = await handset.send_message(address, content, Wrapping(edit=mark))
    return {"id": message, "from": str(handset.device.pn), "to": str(address)}


async def _unlink(simulator: "Simulator", query: Query) -> dict[str, str]:
    device = simulator.world.device(_jid(query))
    await device.account.phone.unlink(device)
    return {"jid": str(device.pn)}


def _jid(query: Query) -> Jid:
    if "jid" not in query:
        raise _BadRequest("the jid is missing")
    return Jid.parse(query["jid"])


def _phone(query: Query) -> str | None:
    phone = query.get("phone")
    if phone is not None and not (phone.isascii() and phone.isdigit() and len(phone) <= 15):
        raise _BadRequest("phone must be digits only")
    return phone


def _linked(device: Device) -> dict[str, str]:
    account = device.account
    return {
        "account": str(account.pn),
        "account_lid": str(account.lid),
        "jid": str(device.pn),
        "lid": str(device.lid),
        "name": account.name,
    }


async def _fault(simulator: "Simulator", body: bytes) -> dict[str, t.Any]:
    try:
        order = json.loads(body)
        kind, count = order["fault"], int(order.get("count", 1))
        target = Jid.parse(order["target"]) if order.get("target") else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _BadRequest(f"not a fault order: {error}") from None
    try:
        struck = await inject(simulator, kind, target, count, order)
    except (ValueError, TypeError) as error:
        raise _BadRequest(f"not a fault order: {error}") from None
    return {"fault": kind, "struck": struck}


async def inject(
    simulator: "Simulator",
    kind: str,
    target: Jid | None = None,
    count: int = 1,
    order: cabc.Mapping[str, t.Any] | None = None,
) -> int | None:
    """Carry out one fault by its name; how many connections it hit, where that is known at once.

    Raises:
        UnknownNameError: no such fault, ending or account.
    """
    more = order or {}
    faults = simulator.faults
    match kind:
        case "drop":
            return simulator.drop(target)
        case "half_open":
            return simulator.half_open(target)
        case "deaf":
            return simulator.deafen(target)
        case "deaf_messages":
            return simulator.deafen(target, "messages")
        case "mute_queues":
            faults.mute_queues(target, count)
        case "end":
            return await simulator.end(str(more.get("ending")), target)
        case "expire_qr":
            simulator.expire_qr()
        case "corrupt":
            faults.corrupt(target, count)
        case "withhold":
            faults.withhold(target, count, str(more.get("kind", "")))
        case "duplicate":
            faults.duplicate(target, count)
        case "reorder":
            faults.reorder(target, count)
        case "lose_acks":
            faults.lose_acks(target, count)
        case "fail_login":
            faults.fail_login(str(more.get("ending")), target, count)
        case "stall":
            faults.stall(target, bool(more.get("on", True)))
        case "refuse":
            faults.refuse_connections = bool(more.get("on", True))
        case "slow":
            faults.latency = float(more.get("seconds", 0))
        case "forge_certificate":
            faults.forged_certificate = more.get("part", "root")
        case "forge_pairing":
            faults.forged_pairing = more.get("part", "hmac")
        case "corrupt_patches":
            faults.corrupt_patches(target, count)
        case "corrupt_snapshots":
            faults.corrupt_snapshots(target, count)
        case "miscount":
            faults.miscount(target, int(more.get("more", 1)), count)
        case "lose_queued":
            faults.lose_queued(target, count)
        case "no_end_marker":
            faults.withhold_end_marker(target, count)
        case "fail_media":
            part, status = more.get("part", "download"), int(more.get("status", 404))
            if part not in t.get_args(MediaFault):
                raise UnknownNameError(f"media requests cannot fail at {part!r}")
            faults.fail_media(part, status, count)
        case "expire_media":
            return simulator.media.expire(more.get("path"), int(more.get("status", 404)))
        case "clear":
            faults.clear()
        case _:
            raise UnknownNameError(f"no fault called {kind!r}")
    return None
