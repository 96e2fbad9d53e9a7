"""The listener: plain and TLS, WebSocket, media and admin requests, all on one port."""

import contextlib
import datetime
import ipaddress
import pathlib
import ssl
import tempfile
import typing as t

import attrs
import structlog
import trio
import trio_websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simulator import web
from simulator.transport import WebSocketTransport

if t.TYPE_CHECKING:
    from simulator.core import Simulator

log = structlog.get_logger(__name__)

CHAT_PATH: t.Final = "/ws/chat"
MAX_HEAD: t.Final = 16 * 1024
MAX_MESSAGE: t.Final = 16 * 1024 * 1024
MAX_CONNECTIONS: t.Final = 2000
HEAD_DEADLINE: t.Final = 20.0  # seconds, for TLS and the request's head

_TLS_HANDSHAKE: t.Final = b"\x16"
_USAGE: t.Final = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class ReplayStream(trio.abc.Stream):
    """A stream whose first bytes were read already and are given again."""

    def __init__(self, first: bytes, rest: trio.abc.Stream) -> None:
        self._first = first
        self._rest = rest

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What was read before, then what comes."""
        if self._first:
            await trio.lowlevel.checkpoint()
            size = len(self._first) if max_bytes is None else max_bytes
            given, self._first = self._first[:size], self._first[size:]
            return given
        return await self._rest.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Straight through."""
        await self._rest.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Straight through."""
        await self._rest.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close what is below."""
        await self._rest.aclose()


async def serve_port(
    simulator: "Simulator",
    listeners: list[trio.SocketListener],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections until cancelled, then close the listeners."""
    host, port = listeners[0].socket.getsockname()[:2]
    pem = _self_signed(host)
    simulator.listening_on((host, port), pem.certificate)
    tls = _tls_context(pem)
    slots = trio.CapacityLimiter(MAX_CONNECTIONS)

    async def serve(stream: trio.SocketStream) -> None:
        async with slots:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await _serve(simulator, stream, tls)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        task_status.started()


async def _serve(simulator: "Simulator", raw: trio.SocketStream, tls: ssl.SSLContext) -> None:
    async with raw:
        if simulator.faults.refuse_connections:
            return
        with trio.move_on_after(HEAD_DEADLINE):
            opened = await _open(raw, tls)
        if opened is None:
            return
        head, stream = opened
        if b"upgrade: websocket" in head.lower():
            await _serve_websocket(simulator, ReplayStream(head, stream), raw)
        else:
            await web.serve_request(simulator, head, stream)


async def _open(
    raw: trio.SocketStream, tls: ssl.SSLContext
) -> tuple[bytes, trio.abc.Stream] | None:
    """Peek whether it is TLS, then read up to the end of the request's head."""
    first = bytes(await raw.receive_some(MAX_HEAD))
    stream: trio.abc.Stream = raw
    if first.startswith(_TLS_HANDSHAKE):
        stream = trio.SSLStream(ReplayStream(first, raw), tls, server_side=True)
        first = bytes(await stream.receive_some(MAX_HEAD))
    head = first
    while b"\r\n\r\n" not in head:
        more = await stream.receive_some(MAX_HEAD)
        if not more or len(head) > MAX_HEAD:
            return None
        head += more
    return head, stream


async def _serve_websocket(
    simulator: "Simulator", stream: trio.abc.Stream, raw: trio.SocketStream
) -> None:
    try:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            if request.path.partition("?")[0] != CHAT_PATH:
                await request.reject(404, body=b"WebSocket is at " + CHAT_PATH.encode())
                nursery.cancel_scope.cancel()
                return
            socket = await request.accept()
            await simulator.serve(WebSocketTransport(socket, raw))
            nursery.cancel_scope.cancel()
    except* (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError) as group:
        log.debug("simulator.websocket_ended", errors=[str(error) for error in group.exceptions])


@attrs.frozen
class _Pem:
    certificate: str
    private: str = attrs.field(repr=False)


def _tls_context(pem: _Pem) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "simulator.pem"
        path.touch(0o600)
        path.write_text(pem.private + pem.certificate)
        context.load_cert_chain(path)
    return context


def _self_signed(host: str) -> _Pem:
    """A fresh certificate for the address, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "zapvisor simulator")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    with contextlib.suppress(ValueError):
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return _Pem(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())
