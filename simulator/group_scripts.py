"""What people do with groups on their phones; the server tells the members, as always."""

import typing as t

import trio

from simulator.handset import Handset
from simulator.model import Account, Group
from whatsapp.iq.groups import GROUPS_JID, XMLNS
from whatsapp.jid import Jid
from whatsapp.node import Node

Who: t.TypeAlias = Account | Jid | str
Which: t.TypeAlias = Group | Jid | str


class GroupScripts(Handset):
    """Every call raises ``SimulatorError`` when the server refuses."""

    async def create_group(self, subject: str, *members: Who) -> Group:
        """A group with oneself as its administrator."""
        create = Node("create", {"subject": subject, "key": self._new_id()}, _people(members))
        answer = await self._group_request("set", GROUPS_JID, create)
        return self._world.group(Jid(answer.required_child("group").required_text("id"), "g.us"))

    async def add_to_group(self, group: Which, *who: Who) -> dict[Jid, int]:
        """Add members; what became of each (200, 403, 404 or 409), by the address answered."""
        return await self._members("add", group, who)

    async def remove_from_group(self, group: Which, *who: Who) -> dict[Jid, int]:
        """Remove members."""
        return await self._members("remove", group, who)

    async def promote_in_group(self, group: Which, *who: Who) -> dict[Jid, int]:
        """Make members administrators."""
        return await self._members("promote", group, who)

    async def demote_in_group(self, group: Which, *who: Who) -> dict[Jid, int]:
        """Make administrators mere members."""
        return await self._members("demote", group, who)

    async def leave_group(self, group: Which) -> None:
        """Go."""
        left = Node("leave", {}, (Node("group", {"id": _address(group)}),))
        await self._group_request("set", GROUPS_JID, left)

    async def set_group_subject(self, group: Which, subject: str) -> None:
        """Give the group another name."""
        await self._change(group, Node("subject", {}, subject.encode()))

    async def set_group_description(self, group: Which, text: str | None) -> None:
        """Describe the group; None takes the description away."""
        previous = self._world.group(_address(group)).description
        told = {"prev": None if previous is None else previous.id}
        if text is None:
            await self._change(group, Node("description", {**told, "delete": "true"}))
        else:
            body = Node("body", {}, text.encode())
            await self._change(group, Node("description", {**told, "id": self._new_id()}, (body,)))

    async def set_group_announce(self, group: Which, on: bool = True) -> None:
        """Let only administrators write, or everybody."""
        await self._change(group, Node("announcement" if on else "not_announcement"))

    async def set_group_locked(self, group: Which, on: bool = True) -> None:
        """Let only administrators edit the group, or everybody."""
        await self._change(group, Node("locked" if on else "unlocked"))

    async def set_group_expiration(self, group: Which, seconds: int) -> None:
        """Let messages disappear after so long; 0: let them stay."""
        timed = Node("ephemeral", {"expiration": seconds}) if seconds else Node("not_ephemeral")
        await self._change(group, timed)

    async def set_group_adding(self, group: Which, everybody: bool) -> None:
        """Let every member add others, or only administrators."""
        mode = b"all_member_add" if everybody else b"admin_add"
        await self._change(group, Node("member_add_mode", {}, mode))

    async def set_group_approval(self, group: Which, on: bool = True) -> None:
        """Let administrators decide who joins by invitation."""
        join = Node("group_join", {"state": "on" if on else "off"})
        await self._change(group, Node("membership_approval_mode", {}, (join,)))

    async def approve_in_group(self, group: Which, *who: Who) -> None:
        """Let those in who asked."""
        approve = Node("approve", {}, _people(who))
        await self._change(group, Node("membership_requests_action", {}, (approve,)))

    async def group_invitation(self, group: Which, *, reset: bool = False) -> str:
        """The group's invitation code, or a fresh one."""
        answer = await self._group_request(
            "set" if reset else "get", _address(group), Node("invite")
        )
        return answer.required_child("invite").required_text("code")

    async def join_group(self, code: str) -> bool:
        """Use an invitation; False: an administrator must approve first."""
        answer = await self._group_request("set", GROUPS_JID, Node("invite", {"code": code}))
        return answer.child("group") is not None

    async def _members(self, tag: str, group: Which, who: tuple[Who, ...]) -> dict[Jid, int]:
        answer = await self._group_request("set", _address(group), Node(tag, {}, _people(who)))
        return {
            child.required_jid("jid"): child.integer("error") or 200
            for child in answer.required_child(tag).children_named("participant")
        }

    async def _change(self, group: Which, change: Node) -> None:
        await self._group_request("set", _address(group), change)

    async def _group_request(self, kind: str, to: Jid, content: Node) -> Node:
        await trio.lowlevel.checkpoint()
        return self._request(XMLNS, kind, to, content)


def _people(who: tuple[Who, ...]) -> tuple[Node, ...]:
    return tuple(Node("participant", {"jid": person_jid(person)}) for person in who)


def person_jid(person: Who) -> Jid:
    """The address of a person, however given."""
    match person:
        case Account():
            return person.lid
        case Jid():
            return person
        case _:
            return Jid.parse(person)


def _address(group: Which) -> Jid:
    match group:
        case Group():
            return group.jid
        case Jid():
            return group
        case _:
            return Jid.parse(group)
