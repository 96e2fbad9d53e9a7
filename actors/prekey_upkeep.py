"""The device record and its one-time prekeys: each is stored before anyone can use it."""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.in_flight import InFlight
from actors.link import Link
from actors.settings import ConnectionSettings, Tools
from storage.api import Envelope, RecordChange, RecordKind
from storage.crash_points import crash_point
from storage.errors import SealError
from whatsapp.device import Device
from whatsapp.e2ee import prekeys
from whatsapp.e2ee.curve import KeyPair
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.iq import prekeys as prekey_iq

MORE: t.Final = 100  # one-time prekeys added when they run low
LOW: t.Final = 20
NOT_FOUND: t.Final = 404

P = t.TypeVar("P")
log: structlog.stdlib.BoundLogger = structlog.get_logger("prekeys")


class PrekeyUpkeep(t.Generic[P]):
    """Owns the device record of one life; every change of it is committed in order."""

    def __init__(
        self,
        name: str,
        device: Device,
        in_flight: InFlight[P],
        tools: Tools,
        settings: ConnectionSettings,
        purpose: P,
    ) -> None:
        """``purpose`` goes with the envelopes posted here: nothing is owed for them."""
        self.device = device
        self._name = name
        self._in_flight = in_flight
        self._tools = tools
        self._timeout = settings.request_timeout
        self._purpose = purpose
        self._low = trio.Event()

    def one_more(self) -> tuple[tuple[int, KeyPair], tuple[RecordChange, ...]]:
        """A fresh one-time prekey outside the server's pool, and what stores it."""
        made = self._make(1)
        return made[0], self._changes(made)

    async def replenish(self, link: Link) -> None:
        """Upload one-time prekeys if the server is short of them."""
        answer = await link.request(prekey_iq.count_request(link.ids.next()), self._timeout)
        try:
            count = prekey_iq.parse_count(answer)
        except RemoteProtocolError as error:  # refused, or nonsense: no reason to leave
            log.warning("prekeys.count_refused", connection=self._name, error=str(error))
            return
        if count < LOW:
            await self._upload(link, prekey_iq.INITIAL_UPLOAD if count == 0 else MORE)

    async def renew(self, link: Link) -> bool:
        """Upload fresh ones whatever the server has; whether it took them."""
        return await self._upload(link, prekey_iq.INITIAL_UPLOAD)

    async def verify(self, link: Link) -> None:
        """Compare what the server holds of us with what we hold; repair it if they differ."""
        answer = await link.request(prekey_iq.digest_request(link.ids.next()), self._timeout)
        try:
            digest = prekey_iq.parse_digest(answer)
        except core.IqError as error:
            if error.code != NOT_FOUND:
                log.warning("prekeys.digest_refused", connection=self._name, error=str(error))
                return
            digest = None
        except RemoteProtocolError as error:
            log.warning("prekeys.digest_refused", connection=self._name, error=str(error))
            return
        if digest is None or not await self._agrees(digest):
            log.warning("prekeys.differ_from_server", connection=self._name)
            await self._upload(link, prekey_iq.INITIAL_UPLOAD)

    async def _agrees(self, digest: prekey_iq.Digest) -> bool:
        ids = [str(key_id) for key_id in digest.prekey_ids]
        try:
            found = await self._tools.storage.load_records(self._name, RecordKind.PREKEY, ids)
        except SealError as error:
            log.error("prekeys.damaged", connection=self._name, error=str(error))
            return False
        publics = [KeyPair.from_private(found[key]).public for key in ids if key in found]
        own = prekey_iq.signed_prekey_of(self.device)
        expected = prekey_iq.digest_hash(self.device.identity.public, own, publics)
        return len(publics) == len(ids) and digest.hash == expected

    async def keep(self, link: Link) -> t.NoReturn:
        """Replenish whenever the server says that it runs low."""
        while True:
            await self._low.wait()
            self._low = trio.Event()
            await self.replenish(link)

    def running_low(self) -> None:
        """The server said so."""
        self._low.set()

    async def remember_routing(self, routing_info: bytes) -> None:
        """Store the routing hint that the next connection starts with."""
        if routing_info == self.device.routing_info:
            return
        self.device = attrs.evolve(self.device, routing_info=routing_info)
        await self._post(())

    async def _upload(self, link: Link, count: int) -> bool:
        made = self._make(count)
        crash_point("prekeys.made")
        await self._in_flight.commit(
            Envelope(connection=self._name, records=self._changes(made)), self._purpose
        )
        crash_point("prekeys.stored")
        request = prekey_iq.upload_request(link.ids.next(), self.device, made)
        try:
            core.require_result(await link.request(request, self._timeout))
        except RemoteProtocolError as error:
            log.warning("prekeys.upload_refused", connection=self._name, error=str(error))
            return False
        crash_point("prekeys.uploaded")
        log.info("prekeys.uploaded", connection=self._name, count=count)
        return True

    def _make(self, count: int) -> tuple[tuple[int, KeyPair], ...]:
        made = prekeys.generate(self.device.next_prekey_id, count, self._tools.random)
        following = made[-1][0] % prekeys.MAX_PREKEY_ID + 1
        self.device = attrs.evolve(self.device, next_prekey_id=following)
        return made

    async def _post(self, made: cabc.Sequence[tuple[int, KeyPair]]) -> None:
        await self._in_flight.post(
            Envelope(connection=self._name, records=self._changes(made)), self._purpose
        )

    def _changes(self, made: cabc.Sequence[tuple[int, KeyPair]]) -> tuple[RecordChange, ...]:
        keys = tuple(RecordChange(RecordKind.PREKEY, str(key), pair.private) for key, pair in made)
        return (*keys, RecordChange(RecordKind.DEVICE, "", self.device.to_bytes()))
