"""The simulator on a port: WebSocket, TLS, admin requests and nonsense, side by side."""

import collections.abc as cabc
import json
import ssl

import httpx
import pytest
import trio
import trio_websocket
from scripted_companion import Companion

from simulator import Simulator, open_simulator
from simulator.run import serve
from whatsapp import pairing, payload
from whatsapp.e2ee.curve import KeyPair
from whatsapp.proto import wa_pb2
from whatsapp.stream import ClientStream, HandshakeCompleted, NodeReceived


@pytest.fixture
async def simulator() -> cabc.AsyncIterator[Simulator]:
    """A simulator on a free port."""
    with trio.fail_after(30):
        async with open_simulator(seed=1, listen=("127.0.0.1", 0)) as running:
            yield running


@pytest.fixture
async def admin(simulator: Simulator) -> cabc.AsyncIterator[httpx.AsyncClient]:
    """A client of the admin endpoints."""
    async with httpx.AsyncClient(base_url=simulator.http_url) as client:
        yield client


def untrusting_context() -> ssl.SSLContext:
    """The certificate is self-signed: what matters here is that TLS is spoken."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_websocket_with_and_without_tls(
    simulator: Simulator, nursery: trio.Nursery, scheme: str
) -> None:
    """A handshake and the offer to pair get through on the same port, plain or encrypted."""
    device = Companion(simulator, nursery, "desk").device
    stream = ClientStream(
        noise_key=device.noise,
        ephemeral=KeyPair.from_private(bytes(range(32))),
        client_payload=payload.registration_payload(device=device),
        root_key=simulator.root_key,
        now=int(simulator.world.now()),
    )
    url = simulator.url.replace("ws:", f"{scheme}:")
    context = untrusting_context() if scheme == "wss" else None
    async with trio_websocket.open_websocket_url(url, ssl_context=context) as socket:
        await socket.send_message(stream.start())
        while True:
            data = await socket.get_message()
            assert isinstance(data, bytes)
            for event in stream.receive(data):
                match event:
                    case HandshakeCompleted():
                        await socket.send_message(event.to_send)
                    case NodeReceived():
                        assert len(pairing.parse_pair_device(event.node)) == 6
                        return


async def test_phones_over_http(simulator: Simulator, admin: httpx.AsyncClient) -> None:
    """Scripts can give a person another phone; only companions can be unlinked."""
    ana = simulator.create_account("Ana")
    before = ana.devices[0].keys.identity
    response = await admin.post("/admin/mock-phone/reinstall", params={"jid": str(ana.lid)})
    assert response.json() == {"account": str(ana.pn)}
    assert ana.devices[0].keys.identity != before
    response = await admin.post("/admin/mock-phone/unlink", params={"jid": str(ana.pn)})
    assert (response.status_code, "no companion" in response.text) == (404, True)
    assert "BEGIN CERTIFICATE" in (await admin.get("/admin/certificate")).text


async def test_admin_endpoints(simulator: Simulator, admin: httpx.AsyncClient) -> None:
    """Root key, counts and ledger are readable by people and scripts."""
    ana, rui = simulator.create_account("Ana"), simulator.create_account("Rui")
    await ana.phone.send_text(rui.pn, "olá")
    assert (await admin.get("/admin/root")).text.strip() == simulator.root_key.hex()
    assert (await admin.get("/admin/stats")).json()["accounts"] == 2
    assert (await admin.get("/admin/ledger")).json() == []  # phones are not devices to prove
    response = await admin.get("/admin/ledger", params={"device": "15550001:1@s.whatsapp.net"})
    assert response.json() == []


async def test_scan_over_http(
    simulator: Simulator, admin: httpx.AsyncClient, nursery: trio.Nursery
) -> None:
    """The endpoint answers with the addresses of the new device."""
    companion = Companion(simulator, nursery, "desk")
    await companion.connect()
    offer = await companion.wait_for("iq")
    (ref, *_) = pairing.parse_pair_device(offer)
    answers: list[httpx.Response] = []

    async def scan() -> None:
        text = pairing.qr_text(ref, companion.device)
        answers.append(
            await admin.post(
                "/admin/mock-phone/scan-qr", params={"phone": "15550001111"}, content=text
            )
        )

    async with trio.open_nursery() as scanning:
        scanning.start_soon(scan)
        success = await companion.wait_for("iq", lambda n: n.child("pair-success") is not None)
        device, reply = pairing.accept_pair_success(
            companion.device, success, lambda size: bytes(size)
        )
        await companion.send(reply)
    assert answers[0].json()["jid"] == str(device.jid) == "15550001111:1@s.whatsapp.net"


async def test_people_write_over_http(simulator: Simulator, admin: httpx.AsyncClient) -> None:
    """Somebody who need not exist yet writes to a number; a reader who does not is an error and
    makes nobody."""
    rui = simulator.create_account("Rui")
    query = {"name": "Ana", "to": rui.pn.user}
    response = await admin.post("/admin/mock-phone/say", params=query, content="olá".encode())
    assert response.json()["to"] == str(rui.pn)
    assert [(each.name, str(each.pn)) for each in simulator.accounts] == [
        ("Rui", str(rui.pn)),
        ("Ana", response.json()["from"]),
    ]
    (read,) = rui.phone.inbox
    assert (read.id, read.text) == (response.json()["id"], "olá")
    about = {"edit": read.id, **query}
    await admin.post("/admin/mock-phone/say", params=about, content="olá!")
    await admin.post("/admin/mock-phone/say", params={"delete": read.id, **query})
    _first, edited, deleted = (
        wa_pb2.Message.FromString(each.message).protocol_message for each in rui.phone.kept.values()
    )
    assert (edited.key.id, edited.edited_message.conversation) == (
        read.id.encode(),
        "olá!".encode(),
    )
    assert (deleted.key.id, deleted.type) == (read.id.encode(), wa_pb2.ProtocolMessage.REVOKE)
    query = {"phone": "15550001111", "to": "15559999999"}
    assert (await admin.post("/admin/mock-phone/say", params=query, content="?")).status_code == 404
    assert len(simulator.accounts) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/admin/mock-phone/scan-qr", "hello", 422, "not the QR text"),
        ("POST", "/admin/mock-phone/scan-qr?phone=x", "hello", 400, "digits"),
        ("POST", "/admin/fault", "{", 400, "not a fault order"),
        ("POST", "/admin/fault", "[]", 400, "not a fault order"),
        ("POST", "/admin/fault", '{"fault": "rain"}', 404, "rain"),
        ("POST", "/admin/fault", '{"fault": "end", "ending": "x"}', 404, "known:"),
        ("POST", "/admin/fault", '{"fault": "drop", "target": "1@s.whatsapp.net"}', 404, "1@s"),
        ("GET", "/admin/ledger?device=@", "", 400, "JID"),
        ("POST", "/admin/mock-phone/enter-code", "ABCDEFGH", 400, "missing"),
        ("POST", "/admin/mock-phone/enter-code?phone=15550001", "hello", 422, "eight"),
        ("POST", "/admin/mock-phone/say?to=15550001", "Hi", 400, "who writes is missing"),
        ("POST", "/admin/mock-phone/say?name=Ana", "Hi", 400, "to is missing"),
        ("POST", "/admin/mock-phone/say?name=Ana&to=15550001", "", 400, "text is missing"),
        ("POST", "/admin/mock-phone/say?name=Ana&to=15550001", "Hi", 404, "no account 15550001@"),
        ("POST", "/admin/mock-phone/say?name=Ana&to=1@g.us", "Hi", 404, "1@g.us"),
        ("POST", "/admin/mock-phone/say?phone=x&to=15550001", "Hi", 400, "digits"),
        ("POST", "/admin/mock-phone/unlink", "", 400, "jid is missing"),
        ("POST", "/admin/mock-phone/unlink?jid=1@s.whatsapp.net", "", 404, "no account"),
        ("POST", "/admin/mock-phone/reinstall?jid=1@lid", "", 404, "no account"),
        ("GET", "/", "", 404, "no such endpoint"),
    ],
)
async def test_bad_requests_are_explained(
    admin: httpx.AsyncClient, method: str, path: str, body: str, status: int, text: str
) -> None:
    """Each wrong request gets its own status and a sentence."""
    response = await admin.request(method, path, content=body)
    assert (response.status_code, text in response.text) == (status, True)


async def test_expired_code_over_http(
    simulator: Simulator, admin: httpx.AsyncClient, nursery: trio.Nursery
) -> None:
    """A code scanned too late is gone: 410, and the sentence says so."""
    companion = Companion(simulator, nursery, "desk")
    await companion.connect()
    offer = await companion.wait_for("iq")
    (ref, *_) = pairing.parse_pair_device(offer)
    assert (await admin.post("/admin/fault", content='{"fault": "expire_qr"}')).is_success
    text = pairing.qr_text(ref, companion.device)
    response = await admin.post("/admin/mock-phone/scan-qr", content=text)
    assert response.status_code == 410
    assert "QR scanned too late" in response.text


@pytest.mark.parametrize(
    "order",
    [
        {"fault": "drop"},
        {"fault": "end", "ending": "503"},
        {"fault": "corrupt", "count": 2},
        {"fault": "withhold", "kind": "view_once"},
        {"fault": "corrupt_patches"},
        {"fault": "corrupt_snapshots"},
        {"fault": "fail_media", "part": "upload", "status": 500},
        {"fault": "expire_media", "status": 410},
        {"fault": "half_open"},
        {"fault": "deaf"},
        {"fault": "deaf_messages"},
        {"fault": "mute_queues"},
        {"fault": "duplicate"},
        {"fault": "reorder"},
        {"fault": "lose_acks"},
        {"fault": "fail_login", "ending": "405"},
        {"fault": "stall"},
        {"fault": "slow", "seconds": 0.01},
        {"fault": "forge_certificate", "part": "leaf"},
        {"fault": "forge_pairing", "part": "hmac"},
        {"fault": "clear"},
    ],
)
async def test_every_fault_can_be_ordered(
    admin: httpx.AsyncClient, order: dict[str, object]
) -> None:
    """All switches are within reach of a script."""
    response = await admin.post("/admin/fault", content=json.dumps(order))
    assert response.json()["fault"] == order["fault"]


async def test_refused_connections(simulator: Simulator, admin: httpx.AsyncClient) -> None:
    """A server that is down takes the connection and hangs up."""
    simulator.faults.refuse_connections = True
    with pytest.raises(httpx.RemoteProtocolError):
        await admin.get("/admin/stats")


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", b"\x16\x03\x01garbage" * 9, b"GET /ws/chat HTTP/1.1\r\n", b""]
)
async def test_nonsense_does_not_hurt(
    simulator: Simulator, admin: httpx.AsyncClient, data: bytes
) -> None:
    """Bytes that are no request end their own connection only."""
    port = int(simulator.http_url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        await stream.send_eof()
        async for _ in stream:
            pass
    assert (await admin.get("/admin/stats")).is_success


async def test_wrong_websocket_path_is_refused(admin: httpx.AsyncClient) -> None:
    """Only one path speaks the protocol."""
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    response = await admin.get("/ws/other", headers=upgrade)
    assert (response.status_code, "/ws/chat" in response.text) == (404, True)


async def test_port_in_use(simulator: Simulator) -> None:
    """A taken port is one clear error."""
    port = int(simulator.http_url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        async with open_simulator(listen=("127.0.0.1", port)):
            pass


async def test_serving_alone(nursery: trio.Nursery) -> None:
    """The command's entry point listens, says so, and makes its one group."""
    started: list[Simulator] = []
    up = trio.Event()

    def ready(simulator: Simulator) -> None:
        started.append(simulator)
        up.set()

    nursery.start_soon(lambda: serve(("127.0.0.1", 0), "everyone", ready=ready))
    with trio.fail_after(30):
        await up.wait()
        started[0].create_account("Ana")
        async with httpx.AsyncClient(base_url=started[0].http_url) as client:
            assert (await client.get("/admin/stats")).json()["groups"] == 1
    nursery.cancel_scope.cancel()
