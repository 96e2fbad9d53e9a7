"""What may be changed about a group, by whom, and how the change is told.

Source: docs/protocol.md#group-requests
"""

import collections.abc as cabc
import typing as t

import attrs

from simulator.errors import RefusedError, UnknownNameError
from simulator.model import Account, Description, Group
from simulator.replies import Attributes
from simulator.world import World
from whatsapp.node import Node

MAX_MEMBERS: t.Final = 1024
MAX_SUBJECT: t.Final = 100
MAX_DESCRIPTION: t.Final = 2048

_FORBIDDEN: t.Final = 403
_NOT_FOUND: t.Final = 404
_NOT_ACCEPTABLE: t.Final = 406
_CONFLICT: t.Final = 409
_INVITED_FOR: t.Final = 3 * 86400  # seconds


@attrs.frozen
class Change:
    """One change: the answer's content, and what all members are told."""

    answer: tuple[Node, ...] = ()
    told: tuple[Node, ...] = ()
    removed: tuple[Account, ...] = ()  # no members any more, and told for the last time


def change(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    """Carry out one change.

    Raises:
        RefusedError: not allowed, not understood, or not acceptable.
        RemoteProtocolError: malformed.
    """
    handler = _HANDLERS.get(wanted.tag)
    if handler is None:
        raise RefusedError(501, "feature-not-implemented")
    return handler(world, group, actor, wanted)


def member(group: Group, account: Account, failure: int | None = None) -> Node:
    """A member as the group's stanzas name it."""
    lid = group.lid_addressing
    attributes: Attributes = {
        "jid": account.address(lid),
        "phone_number" if lid else "lid": account.address(not lid),
        "error": failure,
    }
    return Node("participant", attributes)


def added(world: World, group: Group, accounts: t.Iterable[Account], reason: str) -> Node:
    """How members are told of new ones."""
    people = tuple(member(group, account) for account in accounts)
    previous, group.version = group.version, group.version + 1
    told: Attributes = {"reason": reason, "prev_v_id": previous, "v_id": group.version}
    return Node("add", told, people)


def leave(group: Group, account: Account) -> None:
    """Take a member out.

    Raises:
        RefusedError: not a member.
    """
    if group.members.pop(account.lid, None) is None:
        raise RefusedError(_NOT_FOUND, "item-not-found")
    group.admins.discard(account.lid)


def join(group: Group, account: Account) -> bool:
    """Let somebody in who has the invitation; False: an administrator must approve first.

    Raises:
        RefusedError: a member already, or the group is full.
    """
    if account.lid in group.members:
        raise RefusedError(_CONFLICT, "conflict")
    check_size("", len(group.members) + 1)
    if group.approval:
        group.waiting[account.lid] = account
        return False
    group.members[account.lid] = account
    return True


def invited(world: World, invite: Node) -> Group:
    """The group of an invitation code.

    Raises:
        UnknownNameError: there is none.
    """
    code = invite.required_text("code")
    for group in world.groups.values():
        if group.invite_code == code:
            return group
    raise UnknownNameError(f"no group with the invitation {code}")


def require_admin(group: Group, actor: Account) -> None:
    """Refuse everybody but administrators.

    Raises:
        RefusedError: not an administrator.
    """
    if actor.lid not in group.admins:
        raise RefusedError(_FORBIDDEN, "forbidden")


def check_size(subject: str, members: int) -> None:
    """Refuse what no group can be.

    Raises:
        RefusedError: the subject is too long, or there are too many members.
    """
    if len(subject) > MAX_SUBJECT or members > MAX_MEMBERS:
        raise RefusedError(_NOT_ACCEPTABLE, "not-acceptable")


def _add(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    if group.member_add_mode == "admin_add":
        require_admin(group, actor)
    answer, new = [], []
    for child in wanted.children_named("participant"):
        jid = child.required_jid("jid")
        try:
            account = world.account(jid)
        except UnknownNameError:
            answer.append(Node("participant", {"jid": jid, "error": _NOT_FOUND}))
            continue
        if account.lid in group.members:
            answer.append(member(group, account, _CONFLICT))
        elif not account.may_be_added:
            invitation: Attributes = {
                "code": group.invite_code,
                "expiration": int(world.now()) + _INVITED_FOR,
            }
            refused = member(group, account, _FORBIDDEN)
            answer.append(attrs.evolve(refused, content=(Node("add_request", invitation),)))
        else:
            check_size("", len(group.members) + 1)
            group.members[account.lid] = account
            new.append(account)
            answer.append(member(group, account))
    told = (added(world, group, new, "invite"),) if new else ()
    return Change((Node("add", {}, tuple(answer)),), told)


def _remove(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    require_admin(group, actor)
    answer, gone = _named(world, group, wanted)
    for account in gone:
        leave(group, account)
    return Change(*_same(wanted.tag, group, answer, gone), tuple(gone))


def _promote(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    require_admin(group, actor)
    answer, named = _named(world, group, wanted)
    group.admins.update(account.lid for account in named)
    return Change(*_same(wanted.tag, group, answer, named))


def _demote(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    require_admin(group, actor)
    answer, named = _named(world, group, wanted)
    group.admins.difference_update(account.lid for account in named)
    return Change(*_same(wanted.tag, group, answer, named))


def _named(world: World, group: Group, wanted: Node) -> tuple[list[Node], list[Account]]:
    """The members a request names, and the answer for each name."""
    answer, named = [], []
    for child in wanted.children_named("participant"):
        jid = child.required_jid("jid")
        try:
            account = world.account(jid)
        except UnknownNameError:
            account = None
        if account is None or account.lid not in group.members:
            answer.append(Node("participant", {"jid": jid, "error": _NOT_FOUND}))
        else:
            named.append(account)
            answer.append(member(group, account))
    return answer, named


def _same(
    tag: str, group: Group, answer: list[Node], named: list[Account]
) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    people = tuple(member(group, account) for account in named)
    return (Node(tag, {}, tuple(answer)),), (Node(tag, {}, people),) if people else ()


def _subject(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    _require_editor(group, actor)
    subject = wanted.data().decode(errors="replace")
    check_size(subject, 0)
    group.subject, group.subject_at, group.subject_by = subject, int(world.now()), actor
    told: Attributes = {
        "subject": subject,
        "s_t": group.subject_at,
        "s_o": actor.address(group.lid_addressing),
        "s_o_pn": actor.pn,
    }
    return Change((), (Node("subject", told),))


def _description(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    _require_editor(group, actor)
    previous = None if group.description is None else group.description.id
    if wanted.text("prev") != previous:
        raise RefusedError(_CONFLICT, "conflict")
    if wanted.text("delete") == "true":
        group.description = None
        gone = Node("description", {"id": world.next_id("D")}, (Node("delete"),))
        return Change((), (gone,))
    text = wanted.required_child("body").data().decode(errors="replace")
    if len(text) > MAX_DESCRIPTION:
        raise RefusedError(_NOT_ACCEPTABLE, "not-acceptable")
    number = wanted.required_text("id")
    group.description = Description(number, text, actor, int(world.now()))
    body = Node("body", {}, text.encode())
    return Change((), (Node("description", {"id": number}, (body,)),))


def _switch(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    require_admin(group, actor)
    match wanted.tag:
        case "announcement" | "not_announcement":
            group.announce = wanted.tag == "announcement"
        case "locked" | "unlocked":
            group.locked = wanted.tag == "locked"
    group.version += 1
    return Change((), (Node(wanted.tag, {"v_id": group.version}),))


def _ephemeral(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    _require_editor(group, actor)
    group.expiration = wanted.integer("expiration") or 0
    if not group.expiration:
        return Change((), (Node("not_ephemeral"),))
    return Change((), (Node("ephemeral", {"expiration": group.expiration}),))


def _member_add_mode(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    require_admin(group, actor)
    mode = wanted.data().decode(errors="replace")
    if mode not in ("admin_add", "all_member_add"):
        raise RefusedError(_NOT_ACCEPTABLE, "not-acceptable")
    group.member_add_mode = mode
    return Change((), (Node("member_add_mode", {}, mode.encode()),))


def _approval(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    require_admin(group, actor)
    state = wanted.required_child("group_join").required_text("state")
    group.approval = state == "on"
    told = Node("membership_approval_mode", {}, (Node("group_join", {"state": state}),))
    return Change((), (told,))


def _invite(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    require_admin(group, actor)
    group.invite_code = world.invite_code()
    fresh = Node("invite", {"code": group.invite_code})
    return Change((fresh,), (fresh,))


def _requests(world: World, group: Group, actor: Account, wanted: Node) -> Change:
    """Let those in who asked, or not."""
    require_admin(group, actor)
    answers, told = [], []
    for action in wanted.children:
        people, accepted = [], []
        for child in action.children_named("participant"):
            jid = child.required_jid("jid")
            account = next((a for a in group.waiting.values() if jid in (a.pn, a.lid)), None)
            if account is None:
                people.append(Node("participant", {"jid": jid, "error": _NOT_FOUND}))
                continue
            del group.waiting[account.lid]
            people.append(member(group, account))
            if action.tag == "approve":
                group.members[account.lid] = account
                accepted.append(account)
            else:
                rejected = (member(group, account),)
                told.append(Node("revoked_membership_requests", {}, rejected))
        if accepted:
            told.append(added(world, group, accepted, "linked_group_join"))
        answers.append(Node(action.tag, {}, tuple(people)))
    return Change((Node(wanted.tag, {}, tuple(answers)),), tuple(told))


def _require_editor(group: Group, actor: Account) -> None:
    if group.locked:
        require_admin(group, actor)


_HANDLERS: t.Final[dict[str, cabc.Callable[[World, Group, Account, Node], Change]]] = {
    "add": _add,
    "remove": _remove,
    "promote": _promote,
    "demote": _demote,
    "subject": _subject,
    "description": _description,
    "announcement": _switch,
    "not_announcement": _switch,
    "locked": _switch,
    "unlocked": _switch,
    "ephemeral": _ephemeral,
    "not_ephemeral": _ephemeral,
    "member_add_mode": _member_add_mode,
    "membership_approval_mode": _approval,
    "invite": _invite,
    "membership_requests_action": _requests,
}
