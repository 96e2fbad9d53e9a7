"""Mail that the database refused, until the poison in it is found and quarantined.

Theory of operation. A connection whose mail was refused is *suspect*: its lane is paused, so its
order holds, and what is in question is halved step by step, between the batches of the others.
A step is one call of storage. So others wait for a few steps, never for all of them, and when
only the quarantine does not work, they do not wait for it at all.
"""

import collections
import collections.abc as cabc
import math
import typing as t

import attrs
import structlog
import trio

from actors.messages import Commit, Fence, Quarantine
from actors.writer_inbox import Inbox
from storage.api import Outcome, Storage
from storage.crash_points import crash_point
from storage.errors import StorageRejectedError, StorageUnavailableError
from supervisor.backoff import Backoff

log: structlog.stdlib.BoundLogger = structlog.get_logger("writer")

Writable: t.TypeAlias = Commit | Quarantine
Settle: t.TypeAlias = cabc.Callable[[cabc.Sequence[Commit], cabc.Sequence[Outcome]], None]
Answer: t.TypeAlias = cabc.Callable[[Writable, Outcome | None], None]


@attrs.frozen
class _Poison:
    """To be quarantined."""

    mail: Writable
    error: str


@attrs.frozen
class _Retry:
    """Out of the quarantine, to be stored by itself."""

    mail: Commit


_Item: t.TypeAlias = list[Commit] | _Poison | _Retry | Fence


@attrs.define(eq=False)
class _Suspect:
    source: Inbox
    name: str
    items: collections.deque[_Item] = attrs.field(factory=collections.deque)
    failures: int = 0  # of storage, in a row
    due_at: float = -math.inf


class Suspects:
    """The connections whose mail waits for a verdict; one step at a time."""

    def __init__(
        self,
        storage: Storage,
        settle: Settle,
        answer: Answer,
        backoff: Backoff,
        uniform: cabc.Callable[[], float],
    ) -> None:
        """``settle`` and ``answer`` are called with what is committed, and quarantined."""
        self._storage = storage
        self._settle = settle
        self._answer = answer
        self._backoff = backoff
        self._uniform = uniform
        self._all: collections.OrderedDict[tuple[int, str], _Suspect] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def due_at(self) -> float:
        """When the next step may be taken, on trio's clock; ``inf``: there is none."""
        return min((each.due_at for each in self._all.values()), default=math.inf)

    def clear(self) -> None:
        """Forget all of it; nobody is answered."""
        self._all.clear()

    def quarantine(self, source: Inbox, mail: Quarantine) -> None:
        """Keep a stanza that cannot be read; its connection's later mail comes after it."""
        self._of(source, mail.envelope.connection).items.append(_Poison(mail, mail.error))

    def resolve(self, source: Inbox, mail: Commit) -> None:
        """Store what a quarantined row became; its connection's later mail comes after it."""
        self._of(source, mail.envelope.connection).items.append(_Retry(mail))

    def refused(self, source: Inbox, mails: cabc.Sequence[Commit], error: str) -> None:
        """The database refused this mail of one connection, in one transaction."""
        name = mails[0].envelope.connection
        self._split(self._of(source, name), mails, error)

    def hold(self, source: Inbox, fence: Fence) -> bool:
        """Keep a fence until its connection is no suspect any more; False: it is none."""
        suspect = self._all.get((id(source), fence.connection or ""))
        if suspect is None:
            return False
        suspect.items.append(fence)
        return True

    async def step(self) -> bool:
        """Take one step for the connection whose turn it is; False: none is due."""
        now = trio.current_time()
        due = next((key for key, each in self._all.items() if each.due_at <= now), None)
        if due is None:
            return False
        self._all.move_to_end(due)
        suspect = self._all[due]
        item = suspect.items[0]
        try:
            await self._judge(suspect, item)
        except StorageUnavailableError as error:
            suspect.failures += 1
            suspect.due_at = trio.current_time() + self._backoff.delay(
                suspect.failures, self._uniform()
            )
            if math.log2(suspect.failures).is_integer():
                log.warning(
                    "writer.suspect_waits",
                    connection=suspect.name,
                    error=str(error),
                    tries=suspect.failures,
                )
            return True
        suspect.failures = 0
        while suspect.items and isinstance(fence := suspect.items[0], Fence):
            suspect.items.popleft()
            fence.passed.set()
        if not suspect.items:
            del self._all[due]
            suspect.source.resume(suspect.name)
        return True

    async def _judge(self, suspect: _Suspect, item: _Item) -> None:
        match item:
            case list():
                try:
                    outcomes = await self._storage.apply([mail.envelope for mail in item])
                except StorageRejectedError as error:
                    suspect.items.popleft()
                    self._split(suspect, item, str(error))
                else:
                    suspect.items.popleft()
                    self._settle(item, outcomes)
            case _Retry(mail=mail):
                try:
                    resolved = await self._storage.resolve(mail.envelope)
                except StorageRejectedError as error:
                    suspect.items[0] = _Poison(mail, str(error))
                else:
                    suspect.items.popleft()
                    self._settle([mail], [resolved])
            case _Poison(mail=mail, error=error):
                outcome = await self._quarantined(mail, error)
                suspect.items.popleft()
                self._answer(mail, outcome)
            case Fence(passed=passed):
                suspect.items.popleft()
                passed.set()
            case other:
                t.assert_never(other)

    async def _quarantined(self, mail: Writable, error: str) -> Outcome | None:
        connection = mail.envelope.connection
        crash_point("quarantine.before")
        try:
            outcome = await self._storage.quarantine(mail.envelope, error)
            crash_point("quarantine.committed")
        except StorageRejectedError as refusal:
            log.error(
                "Message could not be quarantined",
                connection=connection,
                error=str(refusal),
                cause=error,
            )
            return None
        log.error("Message quarantined", connection=connection, error=error)
        return outcome

    def _split(self, suspect: _Suspect, mails: cabc.Sequence[Commit], error: str) -> None:
        if len(mails) == 1:
            suspect.items.appendleft(_Poison(mails[0], error))
            return
        middle = len(mails) // 2
        suspect.items.appendleft(list(mails[middle:]))
        suspect.items.appendleft(list(mails[:middle]))

    def _of(self, source: Inbox, name: str) -> _Suspect:
        key = (id(source), name)
        if (suspect := self._all.get(key)) is None:
            suspect = self._all[key] = _Suspect(source, name)
            source.pause(name)
        return suspect
