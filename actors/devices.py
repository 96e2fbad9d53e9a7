"""Whom a message is encrypted for: people by both addresses, their devices, members of groups.

What is known comes from three places: memory, the database (which notifications keep up to date)
and, only when those do not tell, a question to WhatsApp. What WhatsApp answers is worth storing:
it goes with the next envelope as facts. A list that a notification declares old is asked for
again before anything more is sent to it. Source: docs/protocol.md#device-lists
"""

import collections
import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.encryption import Target, target_of
from actors.errors import ActorError
from actors.notices import asked_snapshot
from storage.facts import AddressPair, DeviceList, Fact
from storage.inbox import ContactDetail
from whatsapp.device import Device
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core, groups, usync
from whatsapp.iq.groups import Group
from whatsapp.jid import Jid
from whatsapp.node import Node

MAX_PEOPLE: t.Final = 8192  # remembered at once
MAX_GROUPS: t.Final = 512
MAX_ASKED: t.Final = 200  # accounts in one question
MAX_FACTS: t.Final = 1024  # that wait for an envelope
LIST_LIFETIME: t.Final = 86_400.0  # seconds; notifications keep a list fresh, this is for safety
GROUP_LIFETIME: t.Final = 3_600.0  # seconds
DISAGREEMENT_INTERVAL: t.Final = 3_600.0  # seconds

FORBIDDEN: t.Final = 403
NOT_FOUND: t.Final = 404

log: structlog.stdlib.BoundLogger = structlog.get_logger("devices")

V = t.TypeVar("V")


class UnreachableError(ActorError):
    """Nothing can be sent there; the text says why, for the person who wanted it."""


class Asking(t.Protocol):
    """How requests get to WhatsApp; a ``Line`` is one."""

    async def request(self, build: cabc.Callable[[str], Node], timeout: float = ...) -> Node:
        """The answer to the iq that ``build`` makes for an id."""
        ...


class AddressStorage(t.Protocol):
    """What storage knows of people and their devices."""

    async def contact(self, connection: str, address: str) -> ContactDetail | None:
        """The person behind an address."""
        ...

    async def device_lists(
        self, connection: str, accounts: cabc.Sequence[str]
    ) -> dict[str, tuple[int, ...]]:
        """The devices of those accounts that are known; an empty tuple: ask again."""
        ...


@attrs.frozen
class Person:
    """One account by its addresses, as far as they are known; at least one is."""

    number: Jid | None  # bare
    lid: Jid | None  # bare

    @property
    def forms(self) -> tuple[Jid, ...]:
        """Its addresses, the LID first."""
        return tuple(jid for jid in (self.lid, self.number) if jid is not None)

    def form(self, lid: bool) -> Jid:
        """The address in one family, or the other one where there is none."""
        first, second = (self.lid, self.number) if lid else (self.number, self.lid)
        found = first or second
        assert found is not None  # noqa: S101 - of every person one address is known
        return found

    def other(self, jid: Jid) -> Jid | None:
        """The address besides ``jid``."""
        return next((form for form in self.forms if form != jid.bare), None)


@attrs.frozen
class _Heard(t.Generic[V]):
    value: V
    at: float  # trio clock


class _Recent(collections.OrderedDict[Jid, V]):
    """What was used last, up to a bound."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def remember(self, key: Jid, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > self._limit:
            self.popitem(last=False)


class Devices:
    """The people, device lists and groups that one connection sends to."""

    def __init__(
        self,
        name: str,
        device: Device,
        storage: AddressStorage,
        line: Asking,
        *,
        wall_clock: cabc.Callable[[], float],
        random: cabc.Callable[[int], bytes],
    ) -> None:
        self._name = name
        self._storage = storage
        self._line = line
        self._wall_clock = wall_clock
        self._random = random
        self._device = device
        self.own = Person(
            None if device.jid is None else device.jid.bare,
            None if device.lid is None else device.lid.bare,
        )
        self._people: _Recent[Person] = _Recent(MAX_PEOPLE)  # with both addresses
        self._without_lid: _Recent[None] = _Recent(MAX_PEOPLE)  # WhatsApp told no LID of these
        self._lists: _Recent[_Heard[tuple[int, ...] | None]] = _Recent(MAX_PEOPLE)
        self._disagreed: _Recent[float] = _Recent(MAX_GROUPS)
        self._groups: _Recent[_Heard[Group]] = _Recent(MAX_GROUPS)
        self._asking: list[set[Jid]] = []  # what is being asked for, unless it changes meanwhile
        self._facts: collections.deque[Fact] = collections.deque(maxlen=MAX_FACTS)
        for jid in self.own.forms:
            self._people.remember(jid, self.own)

    def take_facts(self) -> tuple[Fact, ...]:
        """What was learned since the last call, to be committed with the next envelope."""
        facts = tuple(self._facts)
        self._facts.clear()
        return facts

    # ---- what notifications say

    def changed(
        self, account: Jid, devices: tuple[int, ...] | None, *, lid: Jid | None = None
    ) -> tuple[DeviceList, ...]:
        """The devices of an account are others now (None: which is not told, so ask).

        Returns what to commit with the notification, under each known address.
        """
        account = account.bare
        person = self._people.get(account)
        forms = {account, *(() if lid is None else (lid.bare,))}
        forms |= set() if person is None else set(person.forms)
        for asked in self._asking:
            asked -= forms
        now = self._wall_clock()
        for jid in forms:
            self._lists.remember(jid, _Heard(devices or None, trio.current_time()))
        return tuple(
            DeviceList(account=str(jid), devices=devices or (), at=now)
            for jid in sorted(forms, key=str)
        )

    def group_changed(self, group: Jid) -> None:
        """Ask for the group again before anything more is sent to it."""
        self._groups.pop(group, None)
        for asked in self._asking:
            asked.discard(group)

    def disagreed(self, chat: Jid, people: cabc.Iterable[Person]) -> None:
        """The server knows other devices of a chat than we do: ask again for all of them.

        Once in a while only: it may count them otherwise than we do.
        """
        now = trio.current_time()
        if now - self._disagreed.get(chat, -DISAGREEMENT_INTERVAL) < DISAGREEMENT_INTERVAL:
            return
        self._disagreed.remember(chat, now)
        log.info("devices.disagreed", connection=self._name)
        self.group_changed(chat)
        for person in people:
            self.changed(person.form(True), None)

    def learned(self, number: Jid, lid: Jid) -> Person:
        """Two addresses are one person's."""
        person = Person(number.bare, lid.bare)
        for jid in person.forms:
            self._people.remember(jid, person)
        return person

    # ---- people

    def remembered(self, jid: Jid) -> Person:
        """Who is behind an address, as far as memory tells."""
        jid = jid.bare
        alone = Person(None, jid) if jid.is_lid else Person(jid, None)
        return self._people.get(jid, alone)

    async def stored(self, jid: Jid) -> Person:
        """Who is behind an address, as far as memory and the database tell."""
        jid = jid.bare
        if (known := self._people.get(jid)) is not None:
            return known
        contact = await self._storage.contact(self._name, str(jid))
        return self._pair_in(contact, jid) or self.remembered(jid)

    async def check_number(self, number: str) -> Person | None:
        """Who has a phone number, in digits with country code; None: nobody on WhatsApp.

        Raises:
            RemoteProtocolError: refused (``IqError``), or an answer that makes no sense.
        """
        answer = await self._line.request(
            lambda iq_id: usync.numbers_request(iq_id, self._sid(), [number])
        )
        [check] = usync.parse_numbers_response(answer, [number])
        if check.jid is None:
            return None
        if check.jid.is_lid:
            return Person(None, check.jid)
        if check.lid is None:
            self._without_lid.remember(check.jid, None)
            return Person(check.jid, None)
        return self._paired(check.jid, check.lid)

    async def person(self, jid: Jid) -> Person:
        """Who is behind an address. A number that nobody has written from is checked.

        Raises:
            UnreachableError: the number is not on WhatsApp.
            RemoteProtocolError: refused (``IqError``), or an answer that makes no sense.
        """
        jid = jid.bare
        if (known := self._people.get(jid)) is not None:
            return known
        contact = await self._storage.contact(self._name, str(jid))
        if (stored := self._pair_in(contact, jid)) is not None:
            return stored
        alone = self.remembered(jid)
        if jid.is_lid or jid in self._without_lid:
            return alone
        if (found := await self.check_number(jid.user)) is not None:
            return found
        if contact is None or contact.chat is None:
            raise UnreachableError("this number is not on WhatsApp")
        return alone  # whoever has written to us exists, whatever the server says

    def _pair_in(self, contact: ContactDetail | None, jid: Jid) -> Person | None:
        for address in () if contact is None else contact.addresses:
            other = _person_jid(address)
            if other is not None and other.is_lid != jid.is_lid:
                return self.learned(*((other, jid) if jid.is_lid else (jid, other)))
        return None

    def _paired(self, number: Jid, lid: Jid) -> Person:
        person = self.learned(number, lid)
        self._facts.append(AddressPair(str(person.number), str(person.lid), "usync"))
        return person

    # ---- devices

    async def targets(
        self, people: cabc.Sequence[Person], *, lid: bool
    ) -> dict[Person, tuple[Target, ...]]:
        """The devices of each person, addressed in one family; this device is not among them.

        Raises:
            RemoteProtocolError: refused (``IqError``), or an answer that makes no sense.
        """
        lists = await self._device_lists(people)
        return {
            person: tuple(
                target_of(account.with_device(number), person.other(account))
                for number in lists[person]
                if person != self.own or number != self._own_number
            )
            for person in people
            for account in (person.form(lid),)
        }

    async def known_targets(self, person: Person) -> tuple[Target, ...]:
        """The devices of a person that are known without asking; the phone always is."""
        numbers = {0, *(self._remembered(person) or ())}
        if person.form(True) not in self._lists:
            numbers |= set((await self._stored_lists([person]))[person] or ())
        account = person.form(True)
        return tuple(
            target_of(account.with_device(number), person.other(account))
            for number in sorted(numbers)
        )

    def this_device(self, lid: bool) -> Jid:
        """The own device in one address family."""
        return self.own.form(lid).with_device(self._own_number)

    def phone(self) -> Target:
        """The phone of the own account."""
        account = self.own.form(True)
        return target_of(account, self.own.other(account))

    @property
    def _own_number(self) -> int:
        return 0 if self._device.jid is None else self._device.jid.device

    async def _device_lists(self, people: cabc.Sequence[Person]) -> dict[Person, tuple[int, ...]]:
        known = {person: self._remembered(person) for person in people}
        # What memory calls old is not looked up: the news may be on its way to the database.
        unheard = [person for person in people if person.form(True) not in self._lists]
        if unheard:
            known |= await self._stored_lists(unheard)
        unknown = [person for person, devices in known.items() if devices is None]
        for start in range(0, len(unknown), MAX_ASKED):
            known |= await self._asked_lists(unknown[start : start + MAX_ASKED])
        return {person: devices or () for person, devices in known.items()}

    def _remembered(self, person: Person) -> tuple[int, ...] | None:
        heard = self._lists.get(person.form(True))
        if heard is None or trio.current_time() - heard.at > LIST_LIFETIME:
            return None
        return heard.value

    async def _stored_lists(
        self, people: cabc.Sequence[Person]
    ) -> dict[Person, tuple[int, ...] | None]:
        """Lists under either address; where the two differ one of them is old, so ask."""
        names = [str(jid) for person in people for jid in person.forms]
        with self._unless_changed(people) as unchanged:
            stored = await self._storage.device_lists(self._name, names)
        found: dict[Person, tuple[int, ...] | None] = {}
        for person in people:
            lists = {stored[str(jid)] for jid in person.forms if str(jid) in stored}
            devices = lists.pop() if len(lists) == 1 else ()
            found[person] = devices or None
            if devices:
                self._remember_list(person, devices, unchanged)
        return found

    async def _asked_lists(
        self, people: cabc.Sequence[Person]
    ) -> dict[Person, tuple[int, ...] | None]:
        by_account = {person.form(True): person for person in people}
        with self._unless_changed(people) as unchanged:
            answer = await self._line.request(
                lambda iq_id: usync.devices_request(iq_id, self._sid(), by_account)
            )
        found: dict[Person, tuple[int, ...] | None] = dict.fromkeys(people)
        for item in usync.parse_devices_response(answer):
            if (person := by_account.get(item.account)) is None:
                continue
            found[person] = item.devices
            if item.lid is not None and person.lid is None and person.number is not None:
                self._paired(person.number, item.lid)
            if self._remember_list(person, item.devices, unchanged):
                now = self._wall_clock()
                self._facts.extend(
                    DeviceList(account=str(jid), devices=item.devices, at=now)
                    for jid in person.forms
                )
        return found

    def _remember_list(self, person: Person, devices: tuple[int, ...], unchanged: set[Jid]) -> bool:
        account = person.form(True)
        if account not in unchanged:
            return False  # a notification overtook the answer
        self._lists.remember(account, _Heard(devices, trio.current_time()))
        return True

    def _unless_changed(self, people: cabc.Iterable[Person]) -> "_Watch":
        return _Watch(self._asking, {person.form(True) for person in people})

    # ---- groups

    async def group(self, jid: Jid) -> Group:
        """A group that this account is a member of.

        Raises:
            UnreachableError: there is no such group, or it is closed to us.
            RemoteProtocolError: refused (``IqError``), or an answer that makes no sense.
        """
        heard = self._groups.get(jid)
        if heard is None or trio.current_time() - heard.at > GROUP_LIFETIME:
            heard = _Heard(await self._ask_group(jid), trio.current_time())
        if self.role_in(heard.value) is None:
            raise UnreachableError("this account is not a member of the group")
        return heard.value

    def role_in(self, group: Group) -> str | None:
        """Our role in a group: ``member``, ``admin`` or ``superadmin``; None: not in it."""
        for item in group.participants:
            if {item.jid.bare, item.alt and item.alt.bare} & set(self.own.forms):
                return item.role or "member"
        return None

    async def _ask_group(self, jid: Jid) -> Group:
        watch = _Watch(self._asking, {jid})
        try:
            with watch as unchanged:
                answer = await self._line.request(lambda iq_id: groups.group_request(iq_id, jid))
            group = groups.parse_group_response(answer)
        except core.IqError as error:
            if error.code in (FORBIDDEN, NOT_FOUND):
                raise UnreachableError(
                    "this account is not a member of the group, or there is none"
                ) from error
            raise
        self._facts.extend(asked_snapshot(group, self._wall_clock()))
        if jid in unchanged:
            self._groups.remember(jid, _Heard(group, trio.current_time()))
        return group

    def members(self, group: Group) -> tuple[Person, ...]:
        """Everybody in a group, the own account included."""
        people: dict[Person, None] = {}
        for item in group.participants:
            jid, alt = item.jid.bare, None if item.alt is None else item.alt.bare
            if alt is not None and alt.user and alt.is_lid != jid.is_lid:
                person = self.learned(*((alt, jid) if jid.is_lid else (jid, alt)))
            else:
                person = self.remembered(jid)
            people[self.own if set(person.forms) & set(self.own.forms) else person] = None
        return tuple(people)

    def _sid(self) -> str:
        return self._random(8).hex()


class _Watch:
    """While a question is under way: which of the accounts did not change meanwhile."""

    def __init__(self, asking: list[set[Jid]], accounts: set[Jid]) -> None:
        self._asking = asking
        self._accounts = accounts

    def __enter__(self) -> set[Jid]:
        self._asking.append(self._accounts)
        return self._accounts

    def __exit__(self, *_error: object) -> None:
        self._asking[:] = [item for item in self._asking if item is not self._accounts]


def _person_jid(address: str) -> Jid | None:
    try:
        jid = Jid.parse(address)
    except RemoteProtocolError:
        return None
    return jid.bare if jid.is_person and jid.user else None
