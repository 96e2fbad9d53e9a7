"""One connection to a NATS server: connects, logs in, asks and waits for the answers."""

import collections.abc as cabc
import contextlib
import json
import ssl
import typing as t
import urllib.parse
from pathlib import Path

import attrs
import trio

from actors import nats_protocol as protocol
from actors.nats_protocol import Info, Message, NatsParser, Ping, Pong, ServerError

PORT: t.Final = 4222
PATIENCE: t.Final = 10.0  # seconds for connecting, and for each answer
RECEIVE: t.Final = 64 * 1024  # bytes


class NatsError(Exception):
    """The server cannot be reached, refuses us, or does not do what it should."""


@attrs.frozen(kw_only=True)
class NatsSettings:
    """Where events are published."""

    url: str = attrs.field(repr=False)  # nats:// or tls://, which may hold user and password
    user: str = attrs.field(default="", repr=False)
    password: str = attrs.field(default="", repr=False)
    token: str = attrs.field(default="", repr=False)
    ca_file: Path | None = None
    subject: str = "zapvisor.events"
    types: frozenset[str] | None = None
    stream: str = ""  # made when there is none; "": it is somebody else's affair

    @property
    def parts(self) -> urllib.parse.SplitResult:
        return urllib.parse.urlsplit(self.url)

    @property
    def shown_url(self) -> str:
        """Without what is secret."""
        return f"{self.parts.scheme}://{self.parts.netloc.rpartition('@')[2]}"

    def login(self) -> dict[str, str]:
        """Who we are, in the words of ``CONNECT``."""
        if self.token:
            return {"auth_token": self.token}
        user = self.user or urllib.parse.unquote(self.parts.username or "")
        password = self.password or urllib.parse.unquote(self.parts.password or "")
        if user and not password:
            return {"auth_token": user}
        return {"user": user, "pass": password} if user else {}


class NatsLink:
    """Use :func:`open_link`. One task uses it at a time."""

    def __init__(self, stream: trio.abc.Stream, parser: NatsParser, inbox: str) -> None:
        self._stream = stream
        self._parser = parser
        self._inbox = inbox
        self._asked = 0

    async def ask(
        self, questions: cabc.Sequence[tuple[str, bytes, cabc.Mapping[str, str]]]
    ) -> list[Message]:
        """Publish messages (subject, payload, headers) in order, and return their answers.

        Raises:
            NatsError: an answer did not come in time.
        """
        inboxes = [f"{self._inbox}.{self._asked + number}" for number in range(len(questions))]
        self._asked += len(questions)
        wanted = {inbox: number for number, inbox in enumerate(inboxes)}
        answers: dict[int, Message] = {}
        try:
            with trio.fail_after(PATIENCE):
                await self._stream.send_all(
                    b"".join(
                        protocol.publish(subject, inbox, body, headers)
                        for inbox, (subject, body, headers) in zip(inboxes, questions, strict=True)
                    )
                )
                while len(answers) < len(questions):
                    for message in await self.receive():
                        if (number := wanted.get(message.subject)) is not None:
                            answers.setdefault(number, message)
        except trio.TooSlowError as error:
            raise NatsError(f"no answer within {PATIENCE:g} s") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NatsError("the connection broke") from error
        return [answers[number] for number in range(len(questions))]

    async def receive(self) -> list[Message]:
        """The next messages to us, perhaps none; pings are answered.

        Raises:
            NatsError: the server ended the connection, or says what makes no sense.
        """
        try:
            data = await self._stream.receive_some(RECEIVE)
            if not data:
                raise NatsError("the server closed the connection")
            messages: list[Message] = []
            for event in self._parser.feed(bytes(data)):
                if isinstance(event, Ping):
                    await self._stream.send_all(protocol.PONG)
                elif isinstance(event, ServerError):
                    raise NatsError(event.text)
                elif isinstance(event, Message):
                    messages.append(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NatsError("the connection broke") from error
        except protocol.NatsProtocolError as error:
            raise NatsError(str(error)) from error
        return messages

    async def ensure_stream(self, name: str, subjects: cabc.Sequence[str]) -> None:
        """Make a stream unless there is one of that name.

        Raises:
            NatsError: it cannot be made.
        """
        [known] = await self.ask([(f"$JS.API.STREAM.INFO.{name}", b"", {})])
        if known.status is None and "error" not in _object(known):
            return
        wanted = {
            "name": name,
            "subjects": list(subjects),
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": 14 * 86_400 * 10**9,  # nanoseconds
            "duplicate_window": 600 * 10**9,
            "num_replicas": 1,
        }
        body = json.dumps(wanted).encode()
        [made] = await self.ask([(f"$JS.API.STREAM.CREATE.{name}", body, {})])
        check_answer(made)


def check_answer(answer: Message) -> dict[str, t.Any]:
    """What JetStream says.

    Raises:
        NatsError: that it did not take it.
    """
    if answer.status is not None:
        raise NatsError(
            "no stream of JetStream takes the subject; make one, or set nats.stream"
            if answer.status == 503
            else f"JetStream answered {answer.status}"
        )
    found = _object(answer)
    if (refusal := found.get("error")) is not None:
        raise NatsError(f"JetStream refused it: {refusal}"[:500])
    return found


def check_stored(answer: Message) -> None:
    """That JetStream holds what was published.

    Raises:
        NatsError: it does not, or somebody else answered, who subscribes to the subject.
    """
    found = check_answer(answer)
    if not isinstance(found.get("stream"), str) or not isinstance(found.get("seq"), int):
        raise NatsError(
            "what answered is not JetStream: somebody who subscribes to the events replies to them"
        )


def _object(answer: Message) -> dict[str, t.Any]:
    try:
        return answer.json()
    except protocol.NatsProtocolError as error:
        raise NatsError(str(error)) from error


@contextlib.asynccontextmanager
async def open_link(settings: NatsSettings, inbox: str) -> cabc.AsyncIterator[NatsLink]:
    """A connection that is logged in; ``inbox`` is a subject of its own.

    Raises:
        NatsError: it cannot be had.
    """
    with contextlib.ExitStack() as closing:
        try:
            with trio.fail_after(PATIENCE):
                plain = await trio.open_tcp_stream(
                    settings.parts.hostname or "", settings.parts.port or PORT
                )
                closing.callback(plain.socket.close)
                link = await _log_in(settings, plain, inbox)
        except trio.TooSlowError as error:
            raise NatsError(f"no answer within {PATIENCE:g} s") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            raise NatsError(f"the connection broke: {error.__cause__ or error}") from error
        except OSError as error:
            raise NatsError(f"cannot be reached: {error.strerror or error}") from error
        except protocol.NatsProtocolError as error:
            raise NatsError(str(error)) from error
        yield link


async def _log_in(settings: NatsSettings, plain: trio.SocketStream, inbox: str) -> NatsLink:
    parser = NatsParser()
    stream: trio.abc.Stream = plain
    info = await _expect(stream, parser, Info)
    if settings.parts.scheme == "tls" or info.tls_required:
        context = ssl.create_default_context(cafile=settings.ca_file)
        secured = trio.SSLStream(plain, context, server_hostname=settings.parts.hostname)
        await secured.do_handshake()
        stream = secured
    elif settings.ca_file is not None:
        raise NatsError("nats.ca_file is set, but the server does not speak TLS")
    if not info.headers:
        raise NatsError("the server is too old: it knows no headers")
    options = {
        "verbose": False,
        "pedantic": False,
        "tls_required": stream is not plain,
        "name": "zapvisor",
        "lang": "python-trio",
        "version": "1",
        "protocol": 1,
        "headers": True,
        "no_responders": True,
        **settings.login(),
    }
    await stream.send_all(
        protocol.connect(options) + protocol.subscribe(f"{inbox}.*", 1) + protocol.PING
    )
    await _expect(stream, parser, Pong)
    return NatsLink(stream, parser, inbox)


_E = t.TypeVar("_E")


async def _expect(stream: trio.abc.Stream, parser: NatsParser, kind: type[_E]) -> _E:
    """The next event of that kind."""
    while True:
        data = await stream.receive_some(RECEIVE)
        if not data:
            raise NatsError("the server closed the connection")
        for event in parser.feed(bytes(data)):
            if isinstance(event, ServerError):
                raise NatsError(event.text)
            if isinstance(event, Ping):
                await stream.send_all(protocol.PONG)
            if isinstance(event, kind):
                return event
