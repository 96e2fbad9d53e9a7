"""What people do with their phones besides writing: reading, being there, typing, calling."""

import collections
import typing as t

import trio

from simulator import calls, presence, receipts
from simulator.errors import SimulatorError
from simulator.handset import INBOX, Handset
from simulator.model import Account
from simulator.replies import Attributes
from simulator.world import World
from whatsapp.jid import Jid
from whatsapp.node import Node

Activity: t.TypeAlias = t.Literal["composing", "recording", "paused"]


class TalkScripts(Handset):
    """Reading, presence and calls."""

    def __init__(self, world: World, account: Account) -> None:
        super().__init__(world, account)
        self.calls: collections.deque[Node] = collections.deque(maxlen=INBOX)
        self._lines: dict[str, tuple[tuple[Jid, ...], Jid]] = {}  # call: the others, who began it

    # -- reading

    async def read(
        self, chat: Jid | str, *ids: str, author: Jid | None = None, quietly: bool = False
    ) -> None:
        """Open a chat: the author of these messages (needed in groups) and the own devices hear.

        ``quietly`` is with read receipts switched off: only the own devices do.
        """
        await self._open(chat, ids, author, "read-self" if quietly else "read")

    async def play(
        self, chat: Jid | str, *ids: str, author: Jid | None = None, quietly: bool = False
    ) -> None:
        """Listen to voice notes, or look at what can be looked at once."""
        await self._open(chat, ids, author, "played-self" if quietly else "played")

    async def _open(
        self, chat: Jid | str, ids: t.Sequence[str], author: Jid | None, kind: str
    ) -> None:
        await trio.lowlevel.checkpoint()
        if not ids:
            raise SimulatorError("no message was named")
        told: Attributes = {
            "id": ids[0],
            "to": _jid(chat),
            "participant": author,
            "type": kind,
            "t": int(self._world.now()),
        }
        more = tuple(Node("item", {"id": other}) for other in ids[1:])
        children = (Node("list", {}, more),) if more else ()
        receipts.on_receipt(self._world, self.device, Node("receipt", told, children))
        self._world.settle()

    # -- presence

    async def come(self) -> None:
        """Be online."""
        await trio.lowlevel.checkpoint()
        presence.set_available(self._world, self.device, True)
        self._world.settle()

    async def go(self) -> None:
        """Be online no more."""
        await trio.lowlevel.checkpoint()
        presence.set_available(self._world, self.device, False)
        self._world.settle()

    async def type_in(self, chat: Jid | str, activity: Activity = "composing") -> None:
        """Write (or record) something in a chat, without sending it; or stop doing so."""
        await trio.lowlevel.checkpoint()
        media = "audio" if activity == "recording" else None
        state = Node("composing" if media else activity, {"media": media})
        presence.on_chatstate(
            self._world, self.device, Node("chatstate", {"to": _jid(chat)}, (state,))
        )
        self._world.settle()

    # -- calls

    async def call(self, to: Jid | str, *, video: bool = False) -> str:
        """Ring a person, or everybody in a group; the call's id."""
        await trio.lowlevel.checkpoint()
        jid, call_id = _jid(to), self._entropy(16).hex().upper()
        offer: Attributes = {}
        others: tuple[Jid, ...] = (jid,)
        if jid.is_group:
            group = self._world.group(jid)
            offer |= {"type": "group", "group-jid": jid}
            others = tuple(a.lid for a in group.members.values() if a is not self._account)
        lid = others[0].is_lid if others else False
        if lid:
            offer["caller_pn"] = self._account.pn
        sound = Node("audio", {"enc": "opus", "rate": 16000})
        media = (sound, Node("video", {"enc": "vp8"})) if video else (sound,)
        self._lines[call_id] = (others, self._account.address(lid))
        self._step(call_id, "offer", offer, media)
        return call_id

    async def hang_up(self, call_id: str, reason: str = "timeout") -> None:
        """End a call, answered or not."""
        await trio.lowlevel.checkpoint()
        self._step(call_id, "terminate", {"reason": reason})

    async def accept_call(self, call_id: str) -> None:
        """Answer a call."""
        await trio.lowlevel.checkpoint()
        self._step(call_id, "accept", {})

    async def reject_call(self, call_id: str) -> None:
        """Refuse a call."""
        await trio.lowlevel.checkpoint()
        self._step(call_id, "reject", {"count": 0})

    def _on_call(self, node: Node) -> None:
        self.calls.append(node)
        for step in node.children[:1]:
            if step.tag == "offer":
                caller = step.jid("call-creator") or node.required_jid("from")
                self._lines[step.required_text("call-id")] = ((node.required_jid("from"),), caller)

    def _step(
        self, call_id: str, tag: str, more: Attributes, children: tuple[Node, ...] = ()
    ) -> None:
        if (line := self._lines.get(call_id)) is None:
            raise SimulatorError(f"{self._account.pn} knows of no call {call_id}")
        others, creator = line
        told: Attributes = {"call-id": call_id, "call-creator": creator, **more}
        for other in others:
            stanza: Attributes = {"to": other, "id": self._world.next_id("P")}
            step = Node(tag, told, children or None)
            calls.on_call(self._world, self.device, Node("call", stanza, (step,)))
        self._world.settle()


def _jid(address: Jid | str) -> Jid:
    return Jid.parse(address) if isinstance(address, str) else address
