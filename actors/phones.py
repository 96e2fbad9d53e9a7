"""When each connection's phone was last seen, and asking those that have not been for long.

WhatsApp unlinks devices whose phone has been away for 14 days. What counts as a sign is what the
phone itself sends to this device: messages written on it, receipts, answers. A phone that only
receives says nothing, so it is asked now and then; its receipt for the question is the sign.
"""

import collections.abc as cabc
import typing as t

import structlog
import trio

from actors.errors import ActorError
from actors.line import NotOnlineError
from storage.errors import StorageError
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.node import Node

INTERVAL: t.Final = 300.0  # seconds between two looks
ASK_AFTER: t.Final = 2 * 86_400.0  # seconds without a sign
ASK_EVERY: t.Final = 86_400.0  # seconds
AT_ONCE: t.Final = 20  # questions in one look, so that a large fleet does not ask in one go

log: structlog.stdlib.BoundLogger = structlog.get_logger("phones")


class SignStorage(t.Protocol):
    """What is asked of storage here; see ``storage.alerts.Alerts``."""

    async def phone_signs(self) -> dict[str, float]: ...
    async def note_phone_signs(self, signs: cabc.Mapping[str, float]) -> None: ...


class PhoneFacts(t.Protocol):
    """What a fleet tells about one connection."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def paired(self) -> bool: ...
    @property
    def phone_seen_at(self) -> float | None:
        """Unix seconds; None: not since the daemon started."""
        ...


class PhoneFleet(t.Protocol):
    """The fleet."""

    def status(self) -> cabc.Sequence[PhoneFacts]: ...

    async def ask_phone(self, name: str) -> None:
        """Ask a connection's phone for a sign; raises ``NotOnlineError``."""
        ...


def phone_sign(node: Node, own: cabc.Container[Jid]) -> int | None:
    """When the account's own phone, which is its device 0, sent a stanza (unix seconds, by the
    server); None: somebody else did, or that is not known."""
    if node.tag not in ("message", "receipt"):
        return None
    try:
        sender = node.jid("participant") or node.jid("from")
        at = node.integer("t")
    except RemoteProtocolError:
        return None  # its reader says so
    return at if sender is not None and sender.device == 0 and sender.bare in own else None


class Phones:
    """Keeps the signs, in memory and in the database; the service that asks."""

    def __init__(
        self,
        storage: SignStorage,
        fleet: PhoneFleet,
        wall_clock: cabc.Callable[[], float],
    ) -> None:
        self._storage = storage
        self._fleet = fleet
        self._wall_clock = wall_clock
        self._known: dict[str, float] = {}
        self._stored: dict[str, float] | None = None
        self._asked: dict[str, float] = {}

    def seen_at(self, name: str) -> float | None:
        """The last sign (unix seconds), or since when it is waited for; None: not known yet."""
        return self._known.get(name)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> t.NoReturn:
        """Look every few minutes until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    await self._look(nursery)
                except StorageError as error:
                    log.warning("phones.not_stored", error=str(error))
                await trio.sleep(INTERVAL)

    async def _look(self, nursery: trio.Nursery) -> None:
        if self._stored is None:
            self._stored = await self._storage.phone_signs()
            self._known = {**self._stored, **self._known}
        now = self._wall_clock()
        statuses = self._fleet.status()
        for status in statuses:
            self._learn(status, now)
        news = {
            name: at
            for name, at in self._known.items()
            if at - self._stored.get(name, 0.0) >= INTERVAL
        }
        if news:
            await self._storage.note_phone_signs(news)
            self._stored |= news
        online = [each.name for each in statuses if each.state == "online"]
        for name in self._to_ask(online, now):
            self._asked[name] = now
            nursery.start_soon(self._ask, name, now - self._known[name])

    def _learn(self, status: PhoneFacts, now: float) -> None:
        known = self._known.get(status.name)
        if status.phone_seen_at is not None:
            seen = min(now, status.phone_seen_at)  # the server's clock may be ahead
            self._known[status.name] = seen if known is None else max(known, seen)
        elif known is None and status.paired:
            self._known[status.name] = now  # nothing is known of before

    def _to_ask(self, online: cabc.Iterable[str], now: float) -> list[str]:
        return [
            name
            for name in online
            if now - self._known.get(name, now) >= ASK_AFTER
            and now - self._asked.get(name, 0.0) >= ASK_EVERY
        ][:AT_ONCE]

    async def _ask(self, name: str, silence: float) -> None:
        """Not cut off by a deadline: what waits for its commit must not be abandoned. It ends with
        the life of the connection at the latest."""
        try:
            await self._fleet.ask_phone(name)
        except (NotOnlineError, ActorError, RemoteProtocolError, StorageError) as error:
            log.info("phones.not_asked", connection=name, error=str(error))
        else:
            log.info("phones.asked", connection=name, days=round(silence / 86_400, 1))
