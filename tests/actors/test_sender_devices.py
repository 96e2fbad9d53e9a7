"""Whom a message is for: people, device lists and groups, and how fresh they are."""

import collections.abc as cabc
import datetime as dt
import random
import typing as t

import attrs
import pytest
import trio
import trio.testing

from actors.devices import Devices, Person, UnreachableError
from actors.encryption import Target
from storage.facts import AddressPair, DeviceList, GroupSnapshot
from storage.inbox import ContactDetail
from tests.actors.conftest import NAME
from tests.actors.outbox_people import ANNA, BEN, GROUP, OWN, device
from whatsapp.iq.core import IqError
from whatsapp.jid import Jid
from whatsapp.node import Node

Clock: t.TypeAlias = trio.testing.MockClock
START = 1_790_000_000


@attrs.define
class Book:
    """What storage knows of people and devices."""

    lists: dict[str, tuple[int, ...]] = attrs.field(factory=dict)
    pairs: dict[str, str] = attrs.field(factory=dict)
    chats: set[str] = attrs.field(factory=set)
    reads: int = 0
    while_reading: cabc.Callable[[], object] = lambda: None

    async def contact(self, connection: str, address: str) -> ContactDetail | None:
        pairs = self.pairs | {lid: number for number, lid in self.pairs.items()}
        known = [address, *([pairs[address]] if address in pairs else [])]
        if len(known) == 1 and address not in self.chats:
            return None
        return ContactDetail(
            id=1,
            connection=connection,
            name=None,
            names={},
            addresses=tuple(known),
            shown="",
            is_self=False,
            chat=1 if address in self.chats else None,
            created_at=dt.datetime.fromtimestamp(START, dt.UTC),
        )

    async def device_lists(
        self, connection: str, accounts: cabc.Sequence[str]
    ) -> dict[str, tuple[int, ...]]:
        self.reads += 1
        found = {name: self.lists[name] for name in accounts if name in self.lists}
        self.while_reading()
        return found


@attrs.define
class Server:
    """Answers usync and group questions."""

    devices: dict[Jid, tuple[int, ...]] = attrs.field(factory=dict)
    lids: dict[Jid, Jid] = attrs.field(factory=dict)
    groups: dict[Jid, Node] = attrs.field(factory=dict)
    asked: list[tuple[Jid, ...]] = attrs.field(factory=list)
    while_asked: cabc.Callable[[], object] = lambda: None

    async def request(self, build: cabc.Callable[[str], Node], timeout: float = 30.0) -> Node:
        await trio.lowlevel.checkpoint()
        node = build("1")
        self.while_asked()
        if node.text("xmlns") == "w:g2":
            group = self.groups.get(node.required_jid("to"))
            if group is None:
                error = Node("error", {"code": 404, "text": "item-not-found"})
                return Node("iq", {"type": "error", "id": "1"}, (error,))
            return Node("iq", {"type": "result", "id": "1"}, (group,))
        users = node.required_child("usync").required_child("list").children
        self.asked.append(tuple(self._who(user) for user in users))
        found = tuple(self._user(user) for user in users)
        usync = Node("usync", {}, (Node("list", {}, found),))
        return Node("iq", {"type": "result", "id": "1"}, (usync,))

    def _who(self, user: Node) -> Jid:
        number = user.child("contact")
        if number is None:
            return user.required_jid("jid")
        return Jid.parse(f"{number.data().decode().removeprefix('+')}@s.whatsapp.net")

    def _user(self, user: Node) -> Node:
        jid = self._who(user)
        children: list[Node] = []
        if user.child("contact") is not None:
            children.append(Node("contact", {"type": "in" if jid in self.devices else "out"}))
        elif jid in self.devices:
            listed = tuple(Node("device", {"id": number}) for number in self.devices[jid])
            children.append(Node("devices", {}, (Node("device-list", {}, listed),)))
        if jid in self.lids:
            children.append(Node("lid", {"val": self.lids[jid]}))
        return Node("user", {"jid": jid}, tuple(children))


def make(book: Book, server: Server) -> Devices:
    return Devices(
        NAME,
        device(),
        book,
        server,
        wall_clock=lambda: START + trio.current_time(),
        random=random.Random(1).randbytes,
    )


def names(targets: cabc.Iterable[Target]) -> list[str]:
    return [str(target.device) for target in targets]


async def test_what_is_stored_is_not_asked_for() -> None:
    """After a restart, lists and address pairs come from the database."""
    book = Book(lists={str(ANNA.lid): (0, 3)}, pairs={str(ANNA.number): str(ANNA.lid)})
    server = Server()
    devices = make(book, server)
    assert ANNA.number is not None
    anna = await devices.person(ANNA.number)
    assert anna == ANNA
    for _ in range(2):
        targets = (await devices.targets([anna], lid=True))[anna]
        assert names(targets) == ["900001111@lid", "900001111:3@lid"]
    assert targets[1].addresses == ("900001111_1.3", "15550001111.3")
    assert server.asked == []
    assert book.reads == 1


async def test_what_is_unknown_is_asked_and_learned() -> None:
    """Number, LID and devices come from the server, and are facts for the next envelope."""
    assert ANNA.number is not None
    assert ANNA.lid is not None
    server = Server(devices={ANNA.number: (0,), ANNA.lid: (0, 1)}, lids={ANNA.number: ANNA.lid})
    devices = make(Book(), server)
    anna = await devices.person(ANNA.number)
    assert anna == ANNA
    assert names((await devices.targets([anna], lid=False))[anna]) == [
        "15550001111@s.whatsapp.net",
        "15550001111:1@s.whatsapp.net",
    ]
    facts = devices.take_facts()
    assert AddressPair(str(ANNA.number), str(ANNA.lid), "usync") in facts
    lists = {fact.account: fact.devices for fact in facts if isinstance(fact, DeviceList)}
    assert lists == {str(ANNA.lid): (0, 1), str(ANNA.number): (0, 1)}
    assert devices.take_facts() == ()


async def test_a_changed_list_is_asked_for_again() -> None:
    """What a notification calls old is not believed any more, not even from the database: its
    news may still be on their way there."""
    assert ANNA.lid is not None
    book = Book(lists={str(ANNA.lid): (0,)}, pairs={str(ANNA.number): str(ANNA.lid)})
    server = Server(devices={ANNA.lid: (0, 1)})
    devices = make(book, server)
    anna = await devices.person(ANNA.lid)
    await devices.targets([anna], lid=True)
    assert ANNA.number is not None
    facts = devices.changed(ANNA.number, None)
    assert {(fact.account, fact.devices) for fact in facts} == {
        (str(ANNA.number), ()),
        (str(ANNA.lid), ()),
    }
    targets = (await devices.targets([anna], lid=True))[anna]
    assert len(targets) == 2
    assert server.asked == [(ANNA.lid,)]


async def test_a_list_that_is_told_needs_no_question() -> None:
    assert ANNA.number is not None
    devices = make(Book(pairs={str(ANNA.number): str(ANNA.lid)}), Server())
    anna = await devices.person(ANNA.number)
    devices.changed(ANNA.number, (0, 7))
    assert len((await devices.targets([anna], lid=True))[anna]) == 2


async def test_a_notification_overtakes_an_answer() -> None:
    """An answer from before the change is used once, and not remembered."""
    assert ANNA.lid is not None
    server = Server(devices={ANNA.lid: (0,)})
    devices = make(Book(), server)
    anna = Person(None, ANNA.lid)
    server.while_asked = lambda: devices.changed(anna.form(True), None)
    await devices.targets([anna], lid=True)
    assert not [fact for fact in devices.take_facts() if isinstance(fact, DeviceList)]
    server.while_asked = lambda: None
    server.devices[ANNA.lid] = (0, 1)
    assert len((await devices.targets([anna], lid=True))[anna]) == 2
    assert len(server.asked) == 2


async def test_lists_that_disagree_are_asked_for() -> None:
    """Stored under both addresses with different devices: one of them is old."""
    assert ANNA.lid is not None
    book = Book(lists={str(ANNA.lid): (0,), str(ANNA.number): (0, 1)})
    server = Server(devices={ANNA.lid: (0, 1, 2)})
    devices = make(book, server)
    assert len((await devices.targets([ANNA], lid=True))[ANNA]) == 3
    assert server.asked == [(ANNA.lid,)]


async def test_lists_do_not_stay_for_ever(autojump_clock: Clock) -> None:
    """After a day a list is asked for, even if no notification came."""
    assert ANNA.lid is not None
    book = Book(lists={str(ANNA.lid): (0,)})
    server = Server(devices={ANNA.lid: (0, 1)})
    devices = make(book, server)
    await devices.targets([ANNA], lid=True)
    await trio.sleep(86_400)
    await trio.sleep(1)
    assert len((await devices.targets([ANNA], lid=True))[ANNA]) == 2


async def test_this_device_is_no_target() -> None:
    devices = make(Book(lists={str(OWN.lid): (0, 1, 2)}), Server())
    targets = (await devices.targets([OWN], lid=True))[OWN]
    assert names(targets) == ["900009999@lid", "900009999:1@lid"]
    assert names([devices.phone()]) == ["900009999@lid"]


async def test_who_has_written_exists() -> None:
    """A number that the server does not confirm is still written to if there is a chat."""
    assert ANNA.number is not None
    with pytest.raises(UnreachableError):
        await make(Book(), Server()).person(ANNA.number)
    devices = make(Book(chats={str(ANNA.number)}), Server())
    assert await devices.person(ANNA.number) == Person(ANNA.number, None)


async def test_a_number_without_lid_is_checked_once() -> None:
    assert ANNA.number is not None
    server = Server(devices={ANNA.number: (0,)})
    devices = make(Book(), server)
    for _ in range(3):
        assert await devices.person(ANNA.number) == Person(ANNA.number, None)
    assert len(server.asked) == 1


def group_node(*members: tuple[Person, str | None], announce: bool = False) -> Node:
    people = tuple(
        Node("participant", {"jid": who.lid, "phone_number": who.number, "type": role})
        for who, role in members
    )
    more = (Node("announcement"),) if announce else ()
    attributes: dict[str, t.Any] = {"id": GROUP.user, "addressing_mode": "lid", "subject": "g"}
    return Node("group", attributes, (*people, *more))


async def test_groups_are_kept_until_they_change() -> None:
    """Members, roles and address pairs of a group come with one question."""
    server = Server(groups={GROUP: group_node((OWN, "admin"), (ANNA, None))})
    devices = make(Book(), server)
    group = await devices.group(GROUP)
    assert devices.members(group) == (OWN, ANNA)
    assert devices.role_in(group) == "admin"
    facts = devices.take_facts()
    assert any(isinstance(fact, GroupSnapshot) for fact in facts)
    server.groups[GROUP] = group_node((OWN, None), (ANNA, None), (BEN, None))
    assert len((await devices.group(GROUP)).participants) == 2
    devices.group_changed(GROUP)
    group = await devices.group(GROUP)
    assert devices.members(group) == (OWN, ANNA, BEN)
    assert devices.role_in(group) == "member"


async def test_groups_that_are_closed_to_us() -> None:
    server = Server(groups={GROUP: group_node((ANNA, None))})
    with pytest.raises(UnreachableError, match="not a member"):
        await make(Book(), server).group(GROUP)
    with pytest.raises(UnreachableError, match="there is none"):
        await make(Book(), Server()).group(GROUP)


async def test_the_server_may_disagree_now_and_then(autojump_clock: Clock) -> None:
    """A hint that devices are missing is followed, but not again within the hour."""
    assert ANNA.lid is not None
    server = Server(devices={ANNA.lid: (0, 1)})
    devices = make(Book(lists={str(ANNA.lid): (0,)}), server)
    for expected in (0, 1, 1):
        await devices.targets([ANNA], lid=True)
        assert len(server.asked) == expected
        devices.disagreed(ANNA.lid, [ANNA])
    await trio.sleep(3601)
    devices.disagreed(ANNA.lid, [ANNA])
    await devices.targets([ANNA], lid=True)
    assert len(server.asked) == 2


class Busy(Server):
    """Answers nothing."""

    async def request(self, build: cabc.Callable[[str], Node], timeout: float = 30.0) -> Node:
        error = Node("error", {"code": 429, "text": "rate-overlimit", "backoff": 30})
        return Node("iq", {"type": "error", "id": "1"}, (error,))


async def test_a_refused_question_is_an_error() -> None:
    """With the pause that the server asks for."""
    with pytest.raises(IqError) as caught:
        await make(Book(), Busy()).targets([ANNA], lid=True)
    assert caught.value.backoff == 30
