"""Asks the own phone for messages that could not be read here, and fills their placeholders.

Theory of operation. A message that cannot be decrypted has a row already, and its sender has been
asked to encrypt it again; this is the second way to it. One task per life. Every message waits for
one thing at a time, due at a known moment: its turn to be asked for (the sender may be faster),
the phone's answer, or nothing but the sender. The rows are the memory: what is forgotten here is
found again by the next life, which begins to look once its offline queue is empty.

Source: docs/protocol.md#placeholder-resend
"""

import collections
import collections.abc as cabc
import math
import typing as t

import attrs
import structlog
import trio

from actors.errors import ActorError
from actors.line import Line, NotOnlineError
from actors.reading import PROTOCOL, Origin, message_of
from actors.rereading import origin_of_row
from actors.waiting import (
    MAX_WAITING,
    Phase,
    Waiting,
    WaitingList,
    origin_of_placeholder,
    origin_of_stanza,
)
from storage.api import UNDECRYPTABLE, Envelope, Outcome, Verdict
from storage.crash_points import crash_point
from storage.errors import StorageUnavailableError
from storage.facts import PlaceholderVerdict
from storage.inbox import StoredMessage, WaitingPlaceholder
from whatsapp.content import NONE, UNKNOWN, Content, read_content
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import Jid
from whatsapp.peer import (
    PRIORITY,
    Operation,
    PeerResponse,
    parse_response,
    placeholder_resend_request,
)
from whatsapp.stanzas import MessageStanza
from whatsapp.web_message import HistoryMessage, read_web_message

MAX_KEYS: t.Final = 64  # in one request
MAX_REQUESTS: t.Final = 256  # whose answers are remembered to be due
MAX_ANSWERS: t.Final = 64  # of the phone, not yet taken in; more come again in another life
PAGE: t.Final = 256  # placeholders read from storage at once
PATIENCE: t.Final = 5.0  # seconds that the sender has before the phone is asked
LOOK_AGAIN: t.Final = 30.0  # seconds between two looks at what earlier lives left waiting
ANSWER_TIMEOUT: t.Final = 60.0  # seconds
SENDER_TIMEOUT: t.Final = 3600.0  # seconds that the sender has once the phone cannot help
SEND_AGAIN: t.Final = 30.0  # seconds after a request that could not be sent
MAX_AGE: t.Final = 14 * 86_400.0  # seconds: the phone does not resend older ones
NEVER_SENT: t.Final = frozenset(
    {
        "bot_unavailable_fanout",
        "hosted_unavailable_fanout",
        "view_once_unavailable_fanout",
    }
)
"""What WhatsApp withholds from companions for good; the phone does not give it either."""
WITHHELD: t.Final = "withheld: "  # begins the reason of a placeholder without a ciphertext

Post: t.TypeAlias = cabc.Callable[[Envelope], cabc.Awaitable[Outcome | None]]
"""Commits an envelope; None: it could not be stored."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("placeholders")


class PlaceholderRows(t.Protocol):
    """What is read of storage here."""

    async def waiting_placeholders(
        self, connection: str | None, limit: int, *, after: int = 0
    ) -> list[WaitingPlaceholder]:
        """See :meth:`storage.inbox.Inbox.waiting_placeholders`."""
        ...

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        """See :meth:`storage.inbox.Inbox.find_message`."""
        ...


class Placeholders:
    """The task of one life of a connection."""

    def __init__(
        self,
        name: str,
        storage: PlaceholderRows,
        post: Post,
        line: Line,
        wall_clock: cabc.Callable[[], float],
        own: tuple[Jid, ...],
        *,
        retry_limit: int = 5,
    ) -> None:
        """``own`` are the account's bare addresses, the phone number first; ``wall_clock`` gives
        unix seconds; ``retry_limit`` is how often a sender is asked."""
        self._name = name
        self._storage = storage
        self._post = post
        self._line = line
        self._wall_clock = wall_clock
        self._own = own
        self._retry_limit = retry_limit
        self._waiting = WaitingList()
        self._requests: collections.OrderedDict[str, tuple[Waiting, ...]] = (
            collections.OrderedDict()
        )
        self._answers: collections.deque[bytes] = collections.deque()
        self._look_at = math.inf  # it runs first
        self._read_to = 0  # id of the last placeholder read from storage
        self._rung = trio.Event()

    # ---- what others tell: none of it waits ----------------------------------------------

    def undecryptable(self, stanza: MessageStanza, outcome: Outcome) -> None:
        """The placeholder of a stanza is committed."""
        if stanza.id is None or stanza.is_peer or outcome.verdict is not Verdict.PLACEHOLDER:
            return
        item = Waiting(
            origin=origin_of_stanza(stanza, self._own),
            retries=outcome.retries,
            withheld=stanza.unavailable is not None,
        )
        known = self._waiting.same(item)
        if known is None:
            patience = 0.0 if item.withheld else PATIENCE
            self._take_on(item, withheld_as=stanza.unavailable, patience=patience)
        else:
            self._failed_again(known, outcome.retries)
        self._rung.set()

    def filled(self, stanza: MessageStanza) -> None:
        """The message of a stanza took the place of its placeholder."""
        probe = Waiting(origin=origin_of_stanza(stanza, self._own), retries=0, withheld=False)
        known = self._waiting.same(probe)
        if known is not None:
            self._waiting.settle(known)

    def answered(self, raw: bytes) -> None:
        """The own phone sent a response; one to something else is passed over."""
        if len(self._answers) >= MAX_ANSWERS:
            log.warning("placeholders.answer_dropped", connection=self._name)
            return
        self._answers.append(raw)
        self._rung.set()

    # ---- the task ------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; nothing that the phone sends ends it. Starts when the offline
        queue has been received, with all that senders sent again meanwhile."""
        self._look_at = trio.current_time() + PATIENCE
        task_status.started()
        while True:
            self._rung = trio.Event()
            now = trio.current_time()
            if self._answers:
                await self._take_in(self._answers.popleft())
            elif due := self._waiting.due(now):
                await self._advance(due)
            elif self._look_at <= now:
                await self._look()
            else:
                with trio.move_on_at(min(self._look_at, self._waiting.next_due())):
                    await self._rung.wait()

    async def _advance(self, due: list[Waiting]) -> None:
        to_ask = [item for item in due if item.phase is Phase.TO_ASK][:MAX_KEYS]
        if to_ask:
            await self._ask(to_ask)
            return
        for item in due:
            if item.phase is Phase.ASKED and self._sender_may_help(item):
                item.phase = Phase.LEFT_TO_SENDER
                item.due_at = trio.current_time() + SENDER_TIMEOUT
            else:
                await self._give_up(item)

    async def _ask(self, items: list[Waiting]) -> None:
        """One request for all of them; each message is asked for once."""
        message = placeholder_resend_request(item.key for item in items)
        try:
            request = await self._line.send_peer(message, priority=PRIORITY)
        except (NotOnlineError, ActorError, RemoteProtocolError) as error:
            log.warning("placeholders.not_asked", connection=self._name, error=str(error))
            for item in items:
                item.due_at = trio.current_time() + SEND_AGAIN
            return
        crash_point("placeholder.asked_phone")
        log.info("placeholders.asked", connection=self._name, messages=len(items))
        self._requests[request] = tuple(items)
        while len(self._requests) > MAX_REQUESTS:
            self._requests.popitem(last=False)
        for item in items:
            item.phase = Phase.ASKED
            item.due_at = trio.current_time() + ANSWER_TIMEOUT

    async def _look(self) -> None:
        """Find what earlier lives left waiting, as much as there is room for."""
        room = min(PAGE, MAX_WAITING - len(self._waiting))
        self._look_at = trio.current_time() + LOOK_AGAIN
        if room <= 0:
            return
        try:
            rows = await self._storage.waiting_placeholders(self._name, room, after=self._read_to)
        except StorageUnavailableError as error:
            log.warning("placeholders.storage_unavailable", error=str(error))
            return
        for row in rows:
            self._read_to = max(self._read_to, row.id)
            self._resume(row)
        if len(rows) < room:
            self._look_at = math.inf

    def _resume(self, row: WaitingPlaceholder) -> None:
        origin = origin_of_placeholder(row, self._own)
        if origin is None:
            return
        reason = row.reason or ""
        withheld = reason.startswith(WITHHELD)
        item = Waiting(origin=origin, retries=row.retries, withheld=withheld)
        if self._waiting.same(item) is None:
            kind = reason.removeprefix(WITHHELD) if withheld else None
            self._take_on(item, withheld_as=kind, patience=0.0)

    # ---- what a message waits for --------------------------------------------------------

    def _take_on(self, item: Waiting, *, withheld_as: str | None, patience: float) -> None:
        now = trio.current_time()
        item.due_at = now + patience
        if withheld_as in NEVER_SENT:
            item.phase, item.verdict = Phase.LEFT_TO_SENDER, "withheld"
        elif item.origin.timestamp < self._wall_clock() - MAX_AGE:
            item.phase, item.verdict = Phase.LEFT_TO_SENDER, "too_old"
            if self._sender_may_help(item):
                item.due_at = now + SENDER_TIMEOUT
        if not self._waiting.add(item) and len(self._waiting) >= MAX_WAITING:
            self._look_at = min(self._look_at, now + LOOK_AGAIN)  # its row is found then

    def _failed_again(self, item: Waiting, retries: int) -> None:
        """What the sender sent once more could not be read either."""
        item.retries = max(item.retries, retries)
        if item.phase is not Phase.TO_ASK and not self._sender_may_help(item):
            item.due_at = trio.current_time() + ANSWER_TIMEOUT

    def _sender_may_help(self, item: Waiting) -> bool:
        return not item.withheld and item.retries < self._retry_limit

    async def _give_up(self, item: Waiting) -> None:
        """Everything was tried. The message still takes its place, should it ever come."""
        self._waiting.settle(item)
        origin = item.origin
        verdict = PlaceholderVerdict(
            chat=str(origin.chat),
            direct=origin.direct,
            sender=item.names[0][1],
            external_id=origin.id or "",
            verdict=item.verdict,
        )
        log.warning("placeholders.gave_up", connection=self._name, verdict=item.verdict)
        await self._post(Envelope(connection=self._name, facts=(verdict,)))

    # ---- what the phone answers ----------------------------------------------------------

    async def _take_in(self, raw: bytes) -> None:
        try:
            response = parse_response(raw)
        except RemoteProtocolError as error:
            log.warning("placeholders.unreadable", connection=self._name, error=str(error))
            return
        if response.operation != Operation.PLACEHOLDER_RESEND:
            return
        try:
            filled = await self._fill_all(response)
        except StorageUnavailableError as error:
            log.warning("placeholders.storage_unavailable", error=str(error))
            self._answers.append(raw)
            await trio.sleep(PATIENCE)
            return
        asked = self._requests.pop(response.request_id, ())
        log.info("placeholders.answered", connection=self._name, asked=len(asked), filled=filled)
        if len(response.results) < len(asked):
            return  # the rest may come in another answer, or not at all
        for item in asked:
            if item in self._waiting:
                self._not_on_phone(item)

    def _not_on_phone(self, item: Waiting) -> None:
        if item.verdict == "gave_up":
            item.verdict = "not_on_phone"
        item.phase = Phase.LEFT_TO_SENDER
        patience = SENDER_TIMEOUT if self._sender_may_help(item) else 0.0
        item.due_at = trio.current_time() + patience

    async def _fill_all(self, response: PeerResponse) -> int:
        filled = 0
        for result in response.results:
            if result.web_message is None:
                continue
            try:
                filled += await self._fill(read_web_message(result.web_message))
            except RemoteProtocolError as error:
                log.warning("placeholders.unreadable", connection=self._name, error=str(error))
        return filled

    async def _fill(self, message: HistoryMessage) -> bool:
        """Put a message in its place; whether it is there now.

        Addresses in the answer may be of the other family, so its id says which one it is.
        """
        if not message.key.id:
            return False
        item = self._asked_for(message)
        content = _content(message)
        if content is None:
            if item is not None and message.stub in ("revoke", "admin_revoke"):
                item.verdict = "revoked"
            return False
        origin = await self._stored(message) if item is None else item.origin
        if origin is None:
            return False
        origin = attrs.evolve(origin, push_name=origin.push_name or message.push_name)
        row = message_of(content, origin)
        crash_point("placeholder.found")
        outcome = await self._post(Envelope(connection=self._name, message=row))
        if item is not None:
            self._waiting.settle(item)
        return outcome is not None and outcome.filled

    def _asked_for(self, message: HistoryMessage) -> Waiting | None:
        """The one that waits for this message; of several with its id, by its author."""
        found = self._waiting.with_id(message.key.id)
        if len(found) > 1:
            author = message.participant or message.key.remote_jid
            found = [item for item in found if (message.key.id, author) in item.names]
        return next(iter(found), None)

    async def _stored(self, message: HistoryMessage) -> Origin | None:
        """Where it belongs, for a late answer: from the row of its placeholder."""
        key = message.key
        author = message.participant or (None if key.from_me else key.remote_jid)
        row = await self._storage.find_message(self._name, None, key.id, author=author)
        if row is None or row.state != UNDECRYPTABLE:
            return None
        return origin_of_row(row, self._own)


def _content(message: HistoryMessage) -> Content | None:
    """What the phone has of a message; None: nothing."""
    if not message.message:
        return None
    try:
        content = read_content(message.message)
    except RemoteProtocolError:
        return Content(kind=UNKNOWN, raw=message.message)
    # What only served the protocol still takes the place of its placeholder.
    return Content(kind=PROTOCOL, raw=b"") if content.kind == NONE else content
