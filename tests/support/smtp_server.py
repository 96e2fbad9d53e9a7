"""A real SMTP server in a thread of its own, which answers as it is told."""

import asyncio
import collections.abc as cabc
import contextlib
import email
import email.message
import email.policy
import pathlib
import queue
import ssl
import threading
import typing as t
import warnings

import attrs
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER = "robot@example.com"
PASSWORD = "p@ss/w0rd hush"
HANG = "hang"  # an answer that never comes

Security: t.TypeAlias = t.Literal["plain", "starttls", "tls"]


@attrs.frozen
class Mail:
    """One that was taken."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    tls: bool
    user: str | None

    @property
    def message(self) -> email.message.EmailMessage:
        """Parsed."""
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, email.message.EmailMessage)
        return parsed

    def part(self, kind: str) -> str:
        """The body in this form: "plain" or "html"."""
        found = self.message.get_body((kind,))
        assert found is not None
        text: str = found.get_content()
        return text.replace("\r\n", "\n")


@attrs.define
class SmtpServer:
    """``answers`` are given to the next mails, then all are taken; ``refused`` recipients never
    get one."""

    security: Security = "plain"
    authentication: bool = False
    certificate: pathlib.Path | None = None
    refused: dict[str, str] = attrs.field(factory=dict)  # address → answer
    answers: list[str] = attrs.field(factory=list)
    port: int = 0
    mails: list[Mail] = attrs.field(factory=list)
    connections: int = 0
    _arrived: queue.Queue[Mail] = attrs.field(factory=queue.Queue)

    def arrival(self, seconds: float = 20) -> Mail:
        """The next mail that is taken; blocks."""
        return self._arrived.get(timeout=seconds)

    async def handle_RCPT(
        self, _smtp: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _smtp: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer == HANG:
            await asyncio.Event().wait()
        if answer.startswith("2"):
            assert envelope.content is not None
            mail = Mail(
                envelope.mail_from or "",
                tuple(envelope.rcpt_tos),
                t.cast("bytes", envelope.content),
                session.ssl is not None or self.security == "tls",
                None if session.auth_data is None else session.auth_data.decode(),
            )
            self.mails.append(mail)
            self._arrived.put(mail)
        return answer

    def authenticate(
        self, _smtp: SMTP, _session: Session, _envelope: Envelope, mechanism: str, data: t.Any
    ) -> AuthResult:
        """AUTH PLAIN and LOGIN of one user."""
        assert mechanism in ("PLAIN", "LOGIN")
        assert isinstance(data, LoginPassword)
        right = data == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False, auth_data=data.login if right else None)

    def protocol(self, loop: asyncio.AbstractEventLoop) -> SMTP:
        """For one connection."""
        self.connections += 1
        with warnings.catch_warnings():  # passwords without TLS are unsafe, and that is the test
            warnings.simplefilter("ignore", UserWarning)
            return self._protocol(loop)

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> SMTP:
        return SMTP(
            self,
            hostname="mx.example.com",
            loop=loop,
            tls_context=self.tls() if self.security == "starttls" else None,
            require_starttls=self.security == "starttls",
            authenticator=self.authenticate if self.authentication else None,
            auth_required=self.authentication,
            auth_require_tls=self.security == "starttls",
        )

    def tls(self) -> ssl.SSLContext:
        """What it shows of itself."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert self.certificate is not None
        context.load_cert_chain(self.certificate)
        return context


@contextlib.contextmanager
def open_smtp(server: SmtpServer) -> cabc.Iterator[SmtpServer]:
    """Serve until the end of the context."""
    ready: queue.Queue[int | BaseException] = queue.Queue()
    stopping: list[cabc.Callable[[], object]] = []

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        tls = server.tls() if server.security == "tls" else None
        listening = await loop.create_server(
            lambda: server.protocol(loop), "127.0.0.1", server.port, ssl=tls
        )
        ready.put(listening.sockets[0].getsockname()[1])
        await stop.wait()
        listening.close()
        for task in asyncio.all_tasks(loop):
            if task is not asyncio.current_task():
                task.cancel()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            ready.put(error)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    port = ready.get(timeout=20)
    assert isinstance(port, int), port
    server.port = port
    try:
        yield server
    finally:
        stopping[0]()
        thread.join(20)
        assert not thread.is_alive()
