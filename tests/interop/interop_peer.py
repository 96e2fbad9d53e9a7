"""A real client as tests hold it: orders to the node process behind JSON lines, and its events."""

import base64
import collections.abc as cabc
import hashlib
import json
import time
import typing as t

import attrs
import trio

TIMEOUT: t.Final = 40.0  # seconds; far above what anything here takes

Event: t.TypeAlias = cabc.Mapping[str, t.Any]
Marker: t.TypeAlias = dict[str, t.Any]


def known(message_id: str) -> Marker:
    """In an order: a message that the client has sent or received, such as one to quote."""
    return {"$message": message_id}


def key(message_id: str) -> Marker:
    """In an order: the key of such a message."""
    return {"$key": message_id}


def content(message_id: str) -> Marker:
    """In an order: what is in such a message, to wrap it."""
    return {"$content": message_id}


def raw(data: bytes) -> Marker:
    """In an order: bytes."""
    return {"$bytes": base64.b64encode(data).decode()}


def date(unix_ms: int) -> Marker:
    """In an order: a point in time."""
    return {"$date": unix_ms}


class PeerError(Exception):
    """The client refused an order; the text is its own."""


@attrs.define(eq=False)
class Peer:
    """One real client. Everything it reports is kept in ``events``, oldest first."""

    driver: "Driver"
    name: str
    jid: str = ""  # own device, by phone number
    lid: str = ""
    events: list[Event] = attrs.field(factory=list)

    @property
    def account(self) -> str:
        """The bare address others write to."""
        user, _, server = self.jid.partition("@")
        return f"{user.partition(':')[0]}@{server}"

    @property
    def account_lid(self) -> str:
        """The bare hidden address."""
        user, _, server = self.lid.partition("@")
        return f"{user.partition(':')[0]}@{server}"

    async def connect(self, phone: str | None = None, directory: str | None = None) -> None:
        """Pair as a new companion of ``phone`` (derived from the name if missing) and log in;
        with a ``directory`` the client keeps its credentials there, in its own form."""
        self._is(await self.call_driver("connect", phone=phone, directory=directory))

    async def show_code(self, phone: str) -> str:
        """Ask to be linked to a phone number; the code to type there."""
        return str(await self.call_driver("pairingCode", phone=phone))

    async def wait_until_open(self) -> None:
        """Return once the shown code was typed and the client has logged in."""
        self._is(await self.call_driver("opened"))

    async def disconnect(self) -> None:
        """Close the connection; the credentials stay."""
        await self.call_driver("disconnect")

    async def reconnect(self) -> None:
        """Log in again with the same credentials."""
        self._is(await self.call_driver("reconnect"))

    async def send(self, to: str, text: str, **content: t.Any) -> str:
        """Send a text (or other content); the message id."""
        return await self.send_content(to, content or {"text": text})

    async def send_content(
        self, to: str, content: cabc.Mapping[str, t.Any], **options: t.Any
    ) -> str:
        """Send anything that the client can build, such as ``{"image": {"url": path}}``; the id.

        In ``content`` and ``options`` (``quoted``, ``ephemeralExpiration``) the functions
        `known`, `key`, `raw` and `date` stand for what JSON cannot hold.
        """
        sent = await self.call_driver("send", to=to, content=content, options=options)
        return "" if sent is None else str(sent["id"])

    async def reply(self, to: str, quoted: str, text: str) -> str:
        """Answer a message that was sent or received."""
        return await self.send_content(to, {"text": text}, quoted=known(quoted))

    async def react(self, to: str, target: str, emoji: str) -> str:
        """React to a message; an empty text takes the reaction back."""
        return await self.send_content(to, {"react": {"key": key(target), "text": emoji}})

    async def edit(self, to: str, target: str, text: str) -> str:
        """Give a message of one's own another text."""
        return await self.send_content(to, {"text": text, "edit": key(target)})

    async def delete(self, to: str, target: str) -> str:
        """Delete a message for everyone."""
        return await self.send_content(to, {"delete": key(target)})

    async def relay(self, to: str, message: cabc.Mapping[str, t.Any], **attributes: str) -> str:
        """Send a ``Message`` that the client has no content for, its fields as in the .proto."""
        sent = await self.call_driver("relay", to=to, message=message, attributes=attributes)
        return str(sent["id"])

    async def vote(
        self, to: str, poll: str, options: cabc.Sequence[str], *, creator: str, voter: str = ""
    ) -> str:
        """Vote in a poll; ``creator`` and ``voter`` (itself) are the addresses that go into the
        key."""
        chosen = [raw(hashlib.sha256(option.encode()).digest()) for option in options]
        vote = await self.seal(
            poll,
            "Poll Vote",
            "Message.PollVoteMessage",
            {"selectedOptions": chosen},
            creator=creator,
            author=voter or self.account,
            bound=True,
        )
        update = {
            "pollCreationMessageKey": key(poll),
            "vote": vote,
            "senderTimestampMs": int(time.time() * 1000),
        }
        sent = await self.call_driver(
            "relay",
            to=to,
            message={"pollUpdateMessage": update},
            nodes=[{"tag": "meta", "attrs": {"polltype": "vote"}}],
        )
        return str(sent["id"])

    async def seal(
        self,
        parent: str,
        use: str,
        kind: str,
        fields: cabc.Mapping[str, t.Any],
        *,
        creator: str,
        author: str,
        bound: bool = False,
    ) -> dict[str, t.Any]:
        """Encrypt an answer with the secret of the message ``parent``: payload and IV."""
        sealed = await self.call_driver(
            "seal", parent=parent, use=use, type=kind, fields=fields,
            creator=creator, author=author, bound=bound,
        )  # fmt: skip
        return {part: {"$bytes": value} for part, value in sealed.items()}

    async def options(self, poll: str, vote: str, *, creator: str, voter: str) -> list[str]:
        """What a received vote chose."""
        chosen: list[str] = await self.call_driver(
            "options", poll=poll, vote=vote, creator=creator, voter=voter
        )
        return chosen

    async def download(self, message_id: str) -> bytes:
        """The file of a received message, decrypted."""
        return base64.b64decode(await self.call_driver("download", message=message_id))

    async def call(self, method: str, *arguments: t.Any) -> t.Any:
        """Call any method of the client's socket, such as ``groupCreate``."""
        return await self.call_driver("call", method=method, args=arguments)

    async def wait_for(
        self, predicate: cabc.Callable[[Event], object], timeout: float = TIMEOUT
    ) -> Event:
        """The first event, past or future, that the predicate accepts."""
        position = 0
        with trio.move_on_after(timeout):
            while True:
                while position < len(self.events):
                    if predicate(event := self.events[position]):
                        return event
                    position += 1
                await self.driver.something_happened()
        raise AssertionError(
            f"{self.name} reported nothing of the kind within {timeout} s, only {self.events[-5:]}"
        )

    async def wait_for_text(self, text: str, timeout: float = TIMEOUT) -> Event:
        """The received message with this text."""
        await self.wait_for(lambda _: self.find_text(text), timeout)
        return self.messages_with(text)[0]

    async def wait_for_delivery(self, message_id: str, timeout: float = TIMEOUT) -> None:
        """Return once the client has learned that this message of its own was delivered."""
        await self.wait_for(lambda event: delivered(event, message_id), timeout)

    def messages(self) -> list[Event]:
        """Every message reported so far, own ones included."""
        return [
            message
            for event in self.events
            if event["event"] == "messages.upsert"
            for message in event["data"]["messages"]
        ]

    def texts(self, *, from_me: bool = False) -> list[str]:
        """The texts of others' messages (or of the own ones) in order of arrival."""
        return [
            text
            for message in self.messages()
            if bool(message["key"].get("fromMe")) is from_me and (text := text_of(message))
        ]

    def messages_with(self, text: str) -> list[Event]:
        """The messages with this text, from others."""
        return [
            message
            for message in self.messages()
            if text_of(message) == text and not message["key"].get("fromMe")
        ]

    def find_text(self, text: str) -> bool:
        """Whether a message with this text has come."""
        return bool(self.messages_with(text))

    async def call_driver(self, operation: str, **parameters: t.Any) -> t.Any:
        """One order of the driver, for this client."""
        return await self.driver.call(operation, name=self.name, **parameters)

    def _is(self, identity: cabc.Mapping[str, t.Any]) -> None:
        self.jid, self.lid = identity["jid"], identity["lid"]


def text_of(message: Event) -> str | None:
    """The text of a message as the client reports it."""
    content = message.get("message") or {}
    extended = content.get("extendedTextMessage") or {}
    return content.get("conversation") or extended.get("text")


def delivered(event: Event, message_id: str) -> bool:
    """Whether an event tells that an own message arrived at a device of the other side.

    The client may report a status by name or number, on its own or folded into the message; for
    groups it reports receipts.
    """
    match event["event"]:
        case "messages.update":
            entries = [(entry["key"], entry["update"].get("status")) for entry in event["data"]]
        case "messages.upsert":
            entries = [(m["key"], m.get("status")) for m in event["data"]["messages"]]
        case "message-receipt.update":
            entries = [(entry["key"], "DELIVERY_ACK") for entry in event["data"]]
        case _:
            return False
    arrived = ("DELIVERY_ACK", "READ", "PLAYED", 3, 4, 5)
    return any(key["id"] == message_id and status in arrived for key, status in entries)


class Driver:
    """The node process; one per test, because it belongs to the test's event loop."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lock = trio.Lock()
        self._answers: dict[int, Event] = {}
        self._peers: dict[str, Peer] = {}
        self._calls = 0
        self._news = trio.Event()
        self.ended = False

    async def connect(self, name: str, phone: str | None = None) -> Peer:
        """A new client, paired and online."""
        peer = self.peer(name)
        await peer.connect(phone)
        return peer

    async def connect_all(self, *names: str) -> list[Peer]:
        """Several at once, in the order of their names."""
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self.peer(name).connect)
        return [self._peers[name] for name in names]

    def peer(self, name: str) -> Peer:
        """A new client that has done nothing yet."""
        peer = self._peers[name] = Peer(self, name)
        return peer

    async def call(self, operation: str, **parameters: t.Any) -> t.Any:
        """Give an order and wait for its answer.

        Raises:
            PeerError: it failed.
        """
        self._calls += 1
        number = self._calls
        line = json.dumps({"id": number, "op": operation, **parameters}) + "\n"
        assert self._process.stdin is not None
        async with self._lock:
            await self._process.stdin.send_all(line.encode())
        with trio.fail_after(TIMEOUT):
            while number not in self._answers:
                assert not self.ended, "the node process ended"
                await self.something_happened()
        answer = self._answers.pop(number)
        if not answer["ok"]:
            raise PeerError(f"{operation} {parameters}: {answer['error']}")
        return answer["value"]

    async def something_happened(self) -> None:
        """Return at the next event or answer of any client."""
        await self._news.wait()

    async def read(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take in lines until the process ends; started once it is ready."""
        assert self._process.stdout is not None
        buffered = b""
        async for data in self._process.stdout:
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line), task_status)
            self._news.set()
            self._news = trio.Event()
        self.ended = True
        self._news.set()

    def _take(self, message: Event, task_status: trio.TaskStatus[None]) -> None:
        if "re" in message:
            self._answers[message["re"]] = message
        elif message["event"] == "ready":
            task_status.started()
        elif message["name"] in self._peers:
            self._peers[message["name"]].events.append(message)
        else:
            raise AssertionError(f"the client failed: {message}")
