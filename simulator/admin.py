"""The admin endpoints: scan a code, read the ledger, break things.

POST /admin/mock-phone/scan-qr[?phone=&name=]   body: the QR text
GET  /admin/root, /admin/stats, /admin/ledger[?device=]
POST /admin/fault                               body: {"fault": …, "target": …, "count": …}
"""

import collections.abc as cabc
import json
import typing as t
import urllib.parse

import h11
import trio

from simulator.errors import ScanRefusedError, SimulatorError, UnknownNameError
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid

if t.TYPE_CHECKING:
    from simulator.core import Simulator

MAX_BODY: t.Final = 64 * 1024

Query: t.TypeAlias = cabc.Mapping[str, str]


class _BadRequest(Exception):
    """Answered with 400 and this text."""


async def serve_request(simulator: "Simulator", head: bytes, stream: trio.abc.Stream) -> None:
    """Answer one HTTP request and close."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BODY)
    connection.receive_data(head)
    try:
        request, body = await _read(connection, stream)
        status, answer = await _answer(simulator, request, body)
    except h11.RemoteProtocolError as error:
        status, answer = 400, str(error)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    kind = "text/plain; charset=utf-8" if isinstance(answer, str) else "application/json"
    data = text.encode() + b"\n"
    headers = [("content-type", kind), ("content-length", str(len(data))), ("connection", "close")]
    if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        parts = (
            connection.send(h11.Response(status_code=status, headers=headers)),
            connection.send(h11.Data(data=data)),
            connection.send(h11.EndOfMessage()),
        )
        await stream.send_all(b"".join(part for part in parts if part))


async def _read(connection: h11.Connection, stream: trio.abc.Stream) -> tuple[h11.Request, bytes]:
    request: h11.Request | None = None
    body = b""
    while True:
        match event := connection.next_event():
            case h11.Request():
                request = event
            case h11.Data():
                body += event.data
                if len(body) > MAX_BODY:
                    raise h11.RemoteProtocolError("the body is too long", 413)
            case h11.EndOfMessage() if request is not None:
                return request, body
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            case _:
                raise h11.RemoteProtocolError("the request ended early")


async def _answer(simulator: "Simulator", request: h11.Request, body: bytes) -> tuple[int, t.Any]:
    target = urllib.parse.urlsplit(request.target.decode("latin-1"))
    query = dict(urllib.parse.parse_qsl(target.query))
    try:
        match request.method, target.path:
            case b"POST", "/admin/mock-phone/scan-qr":
                return 200, await _scan(simulator, query, body)
            case b"GET", "/admin/root":
                return 200, simulator.root_key.hex()
            case b"GET", "/admin/stats":
                return 200, simulator.stats()
            case b"GET", "/admin/ledger":
                device = Jid.parse(query["device"]) if "device" in query else None
                return 200, list(simulator.ledger.export(device))
            case b"POST", "/admin/fault":
                return 200, await _fault(simulator, body)
    except ScanRefusedError as error:
        return 410 if "too late" in str(error) else 422, str(error)
    except UnknownNameError as error:
        return 404, str(error)
    except (SimulatorError, RemoteProtocolError, _BadRequest) as error:
        return 400, str(error)
    return 404, "no such endpoint"


async def _scan(simulator: "Simulator", query: Query, body: bytes) -> dict[str, str]:
    phone = query.get("phone")
    if phone is not None and not (phone.isascii() and phone.isdigit() and len(phone) <= 15):
        raise _BadRequest("phone must be digits only")
    device = await simulator.scan_qr(
        body.decode(errors="replace"), phone=phone, name=query.get("name")
    )
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
    return {"fault": kind, "struck": await inject(simulator, kind, target, count, order)}


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
        case "end":
            return await simulator.end(str(more.get("ending")), target)
        case "expire_qr":
            simulator.expire_qr()
        case "corrupt":
            faults.corrupt(target, count)
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
        case "clear":
            faults.clear()
        case _:
            raise UnknownNameError(f"no fault called {kind!r}")
    return None
