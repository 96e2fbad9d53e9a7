"""What goes wrong, on command. The server consults it at fixed points; nothing happens by chance.

A target is a device's JID, a bare JID (every companion of that account) or None (everybody).
"""

import typing as t

import attrs
import trio

from simulator import adv, replies
from simulator.errors import UnknownNameError
from simulator.model import Device
from whatsapp.jid import Jid
from whatsapp.node import Node

Counted: t.TypeAlias = t.Literal[
    "corrupt",
    "duplicate",
    "reorder",
    "lose_ack",
    "fail_login",
    "withhold",
    "mute_queue",
    "corrupt_patch",
    "corrupt_snapshot",
    "miscount",
    "lose_queued",
    "no_end_marker",
]
MediaFault: t.TypeAlias = t.Literal["download", "upload", "corrupt"]
Unheard: t.TypeAlias = t.Literal["everything", "messages"]
Twist: t.TypeAlias = t.Literal["none", "twice", "other", "empty", "error", "garbage"]
Forgery: t.TypeAlias = t.Literal["root", "leaf"]

ENDINGS: t.Final[dict[str, Node]] = {
    "515": Node("stream:error", {"code": 515}),
    "516": Node("stream:error", {"code": 516}),
    "503": Node("stream:error", {"code": 503}),
    "429": Node("stream:error", {"code": 429}),
    "conflict": Node("stream:error", {}, (Node("conflict", {"type": "replaced"}),)),
    "removed": Node("stream:error", {"code": 401}, (Node("conflict", {"type": "device_removed"}),)),
    "end": Node("xmlstreamend"),
    "400": Node("failure", {"reason": 400, "location": "sim"}),
    "401": Node("failure", {"reason": 401, "location": "sim"}),
    "ban": Node("failure", {"reason": 402, "location": "sim", "code": 101, "expire": 3600}),
    "403": Node("failure", {"reason": 403, "location": "sim"}),
    "405": Node("failure", {"reason": 405, "location": "sim"}),
    "406": Node("failure", {"reason": 406, "location": "sim"}),
    "500": Node("failure", {"reason": 500, "location": "sim"}),
    "unavailable": Node("failure", {"reason": 503, "location": "sim"}),
}


_GARBAGE: t.Final = Node(
    "count", {"value": "many"}, (Node("list", {}, (Node("user", {"jid": "nobody:x@"}),)),)
)


def ending(name: str) -> Node:
    """The last stanza of a connection that ends this way.

    Raises:
        UnknownNameError: no such ending.
    """
    try:
        return ENDINGS[name]
    except KeyError:
        raise UnknownNameError(f"no ending called {name!r}; known: {', '.join(ENDINGS)}") from None


@attrs.define(eq=False)
class _Countdown:
    kind: Counted
    target: Jid | None
    left: int
    detail: str


class Faults:
    """The switches; all off in a new simulator."""

    def __init__(self) -> None:
        self.refuse_connections = False
        self.latency = 0.0  # seconds before each stanza to a client
        self.forged_certificate: Forgery | None = None
        self.forged_pairing: adv.Forgery | None = None
        self._countdowns: list[_Countdown] = []
        self._stalled: list[Jid | None] = []
        self._media: dict[MediaFault, tuple[int, int]] = {}  # how often, which HTTP status
        self._twists: dict[str | None, Twist | None] = {}
        self._moved = trio.Event()

    def corrupt(self, target: Jid | None = None, count: int = 1) -> None:
        """Break the ciphertexts of the next messages routed to the target."""
        self._add("corrupt", target, count)

    def withhold(self, target: Jid | None = None, count: int = 1, kind: str = "") -> None:
        """Say of the next messages routed to the target only that they are unavailable there.

        ``kind`` is the reason that is told, such as ``view_once``; by default there is none.
        """
        self._add("withhold", target, count, kind)

    def duplicate(self, target: Jid | None = None, count: int = 1) -> None:
        """Write each of the next stanzas to the target twice."""
        self._add("duplicate", target, count)

    def reorder(self, target: Jid | None = None, count: int = 1) -> None:
        """Let the next stanza to the target be overtaken by the one after it, if one is due."""
        self._add("reorder", target, count)

    def lose_acks(self, target: Jid | None = None, count: int = 1) -> None:
        """Lose the target's next receipts and acks before the server sees them."""
        self._add("lose_ack", target, count)

    def fail_login(self, name: str, target: Jid | None = None, count: int = 1) -> None:
        """Answer the target's next logins with an ending.

        Raises:
            UnknownNameError: no such ending.
        """
        ending(name)
        self._add("fail_login", target, count, name)

    def mute_queues(self, target: Jid | None = None, count: int = 1) -> None:
        """Announce to the target's next logins what waits for them, and send none of it."""
        self._add("mute_queue", target, count)

    def corrupt_patches(self, target: Jid | None = None, count: int = 1) -> None:
        """Change a MAC of the next app-state patches that the target fetches."""
        self._add("corrupt_patch", target, count)

    def corrupt_snapshots(self, target: Jid | None = None, count: int = 1) -> None:
        """Change the MAC of the next app-state snapshots that the target fetches."""
        self._add("corrupt_snapshot", target, count)

    def miscount(self, target: Jid | None = None, more: int = 1, count: int = 1) -> None:
        """Announce so many more stanzas than wait in the target's next offline queues."""
        self._add("miscount", target, count, str(more))

    def lose_queued(self, target: Jid | None = None, count: int = 1) -> None:
        """Lose the next messages of the target's offline queue for good, once announced."""
        self._add("lose_queued", target, count)

    def withhold_end_marker(self, target: Jid | None = None, count: int = 1) -> None:
        """Never say that the target's next offline queues have ended."""
        self._add("no_end_marker", target, count)

    def fail_media(self, kind: MediaFault = "download", status: int = 404, count: int = 1) -> None:
        """Refuse the next downloads or uploads with an HTTP status, or change a bit of the file."""
        self._media[kind] = (count, status)

    def take_media(self, kind: MediaFault) -> int | None:
        """The status to answer this media request with, if a fault strikes; uses it up."""
        count, status = self._media.pop(kind, (0, 0))
        if count > 1:
            self._media[kind] = (count - 1, status)
        return status if count else None

    def stall(self, target: Jid | None = None, on: bool = True) -> None:
        """Leave the target's connections open but deaf and silent, or let them go on."""
        if on:
            self._stalled.append(target)
        else:
            self._stalled = [stalled for stalled in self._stalled if stalled != target]
        self._moved.set()
        self._moved = trio.Event()

    def clear(self) -> None:
        """Everything works again."""
        self.refuse_connections = False
        self.latency = 0.0
        self.forged_certificate = None
        self.forged_pairing = None
        self._countdowns.clear()
        self._media.clear()
        self._twists.clear()
        self._stalled.clear()
        self._moved.set()
        self._moved = trio.Event()

    def twist_answers(self, how: Twist | None, namespace: str | None = None) -> None:
        """Answer the requests of a namespace (None: all) wrongly from now on; None: rightly."""
        self._twists[namespace] = how

    def answers(self, request: Node, answer: Node) -> tuple[Node, ...]:
        """What to send in the place of one answer."""
        match self._twists.get(request.text("xmlns"), self._twists.get(None)):
            case "none":
                return ()
            case "twice":
                return (answer, answer)
            case "other":
                return (attrs.evolve(answer, attrs={**answer.attrs, "id": "another"}),)
            case "empty":
                return (replies.result(request),)
            case "error":
                return (replies.error(request, 500, "internal-server-error"),)
            case "garbage":
                return (attrs.evolve(answer, content=(_GARBAGE,)),)
            case _:
                return (answer,)

    def take(self, kind: Counted, device: Device) -> str | None:
        """Whether this fault strikes the device now (its detail, or ""); uses it up."""
        for countdown in self._countdowns:
            if countdown.kind == kind and _aims_at(countdown.target, device):
                countdown.left -= 1
                if countdown.left <= 0:
                    self._countdowns.remove(countdown)
                return countdown.detail
        return None

    def is_stalled(self, device: Device | None) -> bool:
        """Whether the device's connection is deaf and silent just now."""
        return device is not None and any(_aims_at(target, device) for target in self._stalled)

    async def until_flowing(self, device: Device | None) -> None:
        """Return once the device is not stalled."""
        while self.is_stalled(device):
            await self._moved.wait()

    def _add(self, kind: Counted, target: Jid | None, count: int, detail: str = "") -> None:
        self._countdowns.append(_Countdown(kind, target, count, detail))


def _aims_at(target: Jid | None, device: Device) -> bool:
    if target is None:
        return not device.is_phone
    if target.device == 0:
        return target in (device.account.pn, device.account.lid) and not device.is_phone
    return target in (device.pn, device.lid)
