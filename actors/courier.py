"""The one way a message leaves: encrypted, committed, and only then written.

Whatever goes wrong before the commit leaves no trace; after it the message counts as one that
may have left.
"""

import collections.abc as cabc
import typing as t

import attrs
import structlog

from actors.composition import Destination, UnsendableError
from actors.devices import AddressStorage, Devices, Person, UnreachableError
from actors.encryption import Bundles, Encryptor, Sealing, Target
from actors.in_flight import InFlight
from actors.line import Line
from actors.records import RecordCache
from actors.settings import Tools
from storage.api import Envelope, Outcome, ReceivedMessage, Verdict
from storage.crash_points import crash_point
from storage.facts import Fact
from whatsapp import sending
from whatsapp.content import build_device_sent
from whatsapp.device import Device
from whatsapp.e2ee.x3dh import PreKeyBundle
from whatsapp.iq import bundles as bundle_iq
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.sending import Outline, Sealed

MAX_FETCHED: t.Final = 200  # devices in one request for keys

P = t.TypeVar("P")
log: structlog.stdlib.BoundLogger = structlog.get_logger("courier")


@attrs.frozen(kw_only=True)
class Parcel:
    """A message on its way, and what is to be committed with it."""

    id: str
    to: Destination
    plaintext: bytes = attrs.field(repr=False)
    outline: Outline
    message: ReceivedMessage | None = None
    facts: tuple[Fact, ...] = ()


class Courier(t.Generic[P]):
    """Turns parcels into stanzas, for one device."""

    def __init__(
        self,
        name: str,
        device: Device,
        cache: RecordCache,
        in_flight: InFlight[P],
        tools: Tools,
        line: Line,
        storage: AddressStorage,
        purpose: P,
    ) -> None:
        """``purpose`` goes with the envelopes posted here: nothing is owed for them."""
        self.name = name
        self.devices = Devices(
            name, device, storage, line, wall_clock=tools.wall_clock, random=tools.random
        )
        self.encryptor = Encryptor(cache, device, tools.random)
        self.identity = device.account
        self._in_flight = in_flight
        self._line = line
        self._purpose = purpose

    async def write(self, node: Node) -> None:
        """Send what is committed.

        Raises:
            NotOnlineError: whether it left is unknown.
        """
        await self._line.send(node)

    async def commit(
        self, *, message: ReceivedMessage | None = None, facts: tuple[Fact, ...] = ()
    ) -> Outcome | None:
        """Commit something that nothing was encrypted for."""
        facts += self.devices.take_facts()
        envelope = Envelope(connection=self.name, message=message, facts=facts)
        return await self._in_flight.commit(envelope, self._purpose)

    async def commit_sealed(
        self,
        sealing: Sealing,
        message: ReceivedMessage | None = None,
        facts: tuple[Fact, ...] = (),
    ) -> cabc.Callable[[], cabc.Awaitable[Outcome | None]]:
        """Post what ``sealing`` changed, before its end; the result waits for the commit."""
        facts += self.devices.take_facts()
        envelope = Envelope(
            connection=self.name, message=message, records=sealing.changes, facts=facts
        )
        crash_point("outbox.encrypted")
        entry = await self._in_flight.post(envelope, self._purpose)

        async def committed() -> Outcome | None:
            await entry.settled.wait()
            return entry.done[0]

        return committed

    # ---- where to

    async def destination(self, chat: Jid) -> Destination:
        """The chat as messages to it name it: hidden addresses wherever they are known.

        Raises:
            UnreachableError: nothing can be sent there.
            RemoteProtocolError: WhatsApp refused to tell (``IqError``), or made no sense.
        """
        own = self.devices.own
        if chat.is_group:
            group = await self.devices.group(chat)
            role = self.devices.role_in(group)
            if group.announce and role == "member":
                raise UnreachableError("only administrators may write to this group")
            lid = group.lid_addressing and own.lid is not None
            admin = role in ("admin", "superadmin")
            return Destination(jid=chat, own=own.form(lid), group=group, admin=admin)
        if not (chat.is_person and chat.user):
            raise UnreachableError("messages go to people and to groups only")
        person = await self.devices.person(chat)
        lid = person.lid is not None and own.lid is not None
        return Destination(jid=person.form(lid), own=own.form(lid), person=person)

    # ---- messages

    async def prepare(self, parcel: Parcel) -> Node:
        """The stanza of a parcel; when this returns, everything about it is committed.

        Raises:
            UnreachableError: no device of the recipient can be encrypted for.
            UnsendableError: the message cannot be stored.
            RemoteProtocolError: WhatsApp refused to tell (``IqError``), or made no sense.
            NotOnlineError: there is no answer.
        """
        if parcel.to.group is not None:
            return await self._to_group(parcel, parcel.to.group.jid)
        assert parcel.to.person is not None  # noqa: S101 - a destination is one or the other
        return await self._to_person(parcel, parcel.to.person)

    async def _to_person(self, parcel: Parcel, person: Person) -> Node:
        own, to = self.devices.own, parcel.to
        people = list(dict.fromkeys((person, own)))
        targets = await self.devices.targets(people, lid=to.lid)
        theirs = set(targets[person])
        if not theirs:
            raise UnreachableError("this person has no device on WhatsApp")
        copy = build_device_sent(to.jid, parcel.plaintext)
        letters = [
            (target, copy if someone == own else parcel.plaintext)
            for someone in people
            for target in targets[someone]
        ]
        bundles = await self.missing_bundles([target for target, _plaintext in letters])
        async with self.encryptor.sealing() as sealing:
            sealed = await sealing.seal_all(letters, bundles)
            if not {item.device for item in theirs} & {item.device for item in sealed}:
                raise UnreachableError("WhatsApp has no keys of any of this person's devices")
            committed = await self.commit_sealed(sealing, parcel.message, parcel.facts)
        _require_stored(await committed())
        return sending.direct_message(
            parcel.id, to.jid, sealed, parcel.outline, self.identity, number=person.number
        )

    async def _to_group(self, parcel: Parcel, group: Jid) -> Node:
        assert parcel.to.group is not None  # noqa: S101 - of a group, that is why we are here
        members, lid = self.devices.members(parcel.to.group), parcel.to.lid
        by_person = await self.devices.targets(members, lid=lid)
        targets = [target for devices in by_person.values() for target in devices]
        lacking = await self.encryptor.without_group_key(group, targets)
        bundles = await self.missing_bundles(lacking)
        async with self.encryptor.sealing() as sealing:
            made = await sealing.seal_for_group(group, targets, parcel.plaintext, bundles)
            committed = await self.commit_sealed(sealing, parcel.message, parcel.facts)
        _require_stored(await committed())
        everyone = [self.devices.this_device(lid), *(target.device for target in targets)]
        return sending.group_message(
            parcel.id,
            group,
            made.sealed,
            made.skmsg,
            parcel.outline,
            self.identity,
            phash=sending.participants_hash(everyone),
            lid=lid,
        )

    async def to_phone(
        self, stanza_id: str, message: bytes, priority: str | None, *, count: int | None = None
    ) -> Node:
        """A message to the own phone; its session is committed. See :meth:`prepare`."""
        phone = self.devices.phone()
        bundles = await self.missing_bundles([phone])
        async with self.encryptor.sealing() as sealing:
            sealed = await sealing.seal_all([(phone, message)], bundles)
            if not sealed:
                raise UnreachableError("WhatsApp has no keys of the own phone")
            committed = await self.commit_sealed(sealing)
        _require_stored(await committed())
        return self.peer_stanza(stanza_id, sealed[0], priority, count=count)

    def peer_stanza(
        self, stanza_id: str, sealed: Sealed, priority: str | None, *, count: int | None = None
    ) -> Node:
        """The stanza around a message to the own phone."""
        return sending.peer_message(
            stanza_id,
            self.devices.own.form(False),
            sealed.ciphertext,
            self.identity,
            priority=priority,
            count=count,
        )

    # ---- keys

    async def missing_bundles(self, targets: cabc.Sequence[Target]) -> Bundles:
        """The keys of those devices that there is no session with."""
        return await self.fetch_bundles(await self.encryptor.without_session(targets))

    async def fetch_bundles(self, targets: cabc.Sequence[Target], *, anew: bool = False) -> Bundles:
        """Keys from the server; a device that has none is left out. ``anew``: there was a
        session, and it is of no use any more."""
        found: dict[Jid, PreKeyBundle] = {}
        reason: t.Literal["identity"] | None = "identity" if anew else None
        for start in range(0, len(targets), MAX_FETCHED):
            devices = [target.device for target in targets[start : start + MAX_FETCHED]]
            answer = await self._line.request(
                lambda iq_id, devices=devices: bundle_iq.fetch_request(iq_id, devices, reason)  # type: ignore[misc]
            )
            fetched = bundle_iq.parse_fetch_response(answer)
            found.update(fetched.bundles)
            if fetched.errors:
                log.info("courier.no_keys", connection=self.name, devices=len(fetched.errors))
        return found

    async def forget_sessions(self, account: Jid) -> None:
        """Begin anew with every device of an account, with the next message."""
        person = await self.devices.stored(account)
        targets = await self.devices.known_targets(person)
        async with self.encryptor.sealing() as sealing:
            await sealing.load_sessions(targets)
            for target in targets:
                await sealing.drop(target)
            if sealing.changes:
                await self.commit_sealed(sealing)


def _require_stored(outcome: Outcome | None) -> None:
    if outcome is None or outcome.verdict is Verdict.QUARANTINED:
        raise UnsendableError("the message cannot be stored, so it is not sent; see the log")
