"""MemoryStorage: storage without a database, for tests of everything above it.

It is a verified fake: the same tests run on it and on PostgreSQL, and a property test compares
the two. Nothing survives the process, and nothing is sealed.
"""

import collections.abc as cabc
import time
import typing as t

import attrs
import trio

from storage.api import (
    TRAFFIC_KEPT,
    ChatKind,
    ConnectionEvent,
    ConnectionRow,
    ConversationRow,
    ConversationRules,
    Envelope,
    Lane,
    MessageRow,
    Outcome,
    RecordKind,
    ReopenFrom,
    TrafficHour,
    Verdict,
)
from storage.errors import StorageRejectedError
from storage.facts import NameSource
from storage.identity import clean_text
from storage.memory_alerts import MemoryAlerts
from storage.memory_changes import MemoryChanges
from storage.memory_epochs import MemoryEpochs
from storage.memory_erasure import MemoryErasure
from storage.memory_exports import MemoryExports
from storage.memory_facts import apply_fact
from storage.memory_figures import MemoryFigures
from storage.memory_made import MemoryMade
from storage.memory_media import MediaOrigin
from storage.memory_merge import resolve
from storage.memory_reports import MemoryReports
from storage.memory_search import MemorySearch, conversation_row
from storage.memory_state import (
    SELF,
    Chat,
    Connection,
    Contact,
    Conversation,
    Message,
    StoredEvent,
    optional_utc,
    utc,
)
from storage.memory_tokens import MemoryTokens
from storage.prepare import PreparedBatch, PreparedMessage, prepare, prepare_quarantine

HANDLED_LIFETIME: t.Final = 14 * 86_400  # seconds
NAME_REFRESH: t.Final = 3_600.0  # seconds after which a name that stays the same is dated anew


class MemoryStorage(
    MemorySearch,
    MemoryErasure,
    MemoryMade,
    MemoryChanges,
    MemoryEpochs,
    MemoryFigures,
    MemoryReports,
    MemoryAlerts,
    MemoryTokens,
    MemoryExports,
):
    """Keeps everything in dictionaries; ``clock`` gives unix seconds."""

    def __init__(self, clock: cabc.Callable[[], float] = time.time) -> None:  # noqa: TID251
        super().__init__(clock)
        self._traffic: dict[str, dict[int, TrafficHour]] = {}
        self._learned: dict[tuple[str, tuple[str, NameSource]], tuple[float, str]] = {}
        self._news: dict[int, tuple[Connection, Message, bool]] = {}
        """Messages of the running batch to tell of, and whether they filled a placeholder."""

    async def ensure_connection(self, name: str, rules: ConversationRules) -> None:
        """See :meth:`storage.api.Storage.ensure_connection`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        connection = self._connections.setdefault(name, Connection(name, rules, now))
        connection.rules = rules
        connection.contacts.setdefault(SELF, Contact(SELF, now))

    async def set_wanted(self, name: str, wanted: bool) -> None:
        """See :meth:`storage.api.Storage.set_wanted`."""
        await trio.lowlevel.checkpoint()
        self._connection(name).wanted = wanted

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        """See :meth:`storage.api.Storage.apply`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        sifted = self._tombstones.sift(batch, now)
        return sifted.outcomes(self._commit(prepare(sifted.batch, now), now))

    async def quarantine(self, envelope: Envelope, error: str) -> Outcome:
        """See :meth:`storage.api.Storage.quarantine`."""
        connection = self._connection(envelope.connection)
        if self._tombstones.sift([envelope], self._clock()).dropped:
            [outcome] = await self.apply([envelope])
            return outcome
        row, rest = prepare_quarantine(envelope, error, self._clock())
        await trio.lowlevel.checkpoint()
        self._keep(connection, row, envelope.resolves)
        self._commit(rest, self._clock())
        return Outcome(verdict=Verdict.QUARANTINED, error=row.error)

    async def record_event(self, event: ConnectionEvent) -> None:
        """See :meth:`storage.api.Storage.record_event`."""
        await trio.lowlevel.checkpoint()
        self._append_event(attrs.evolve(event, sentence=clean_text(event.sentence)))

    async def save_traffic(self, connection: str, hours: cabc.Sequence[TrafficHour]) -> None:
        """See :meth:`storage.api.Storage.save_traffic`."""
        await trio.lowlevel.checkpoint()
        if connection not in self._connections or not hours:
            return
        known = self._traffic.setdefault(connection, {})
        for each in hours:
            before = known.get(each.hour, TrafficHour(each.hour, 0, 0.0))
            known[each.hour] = TrafficHour(
                each.hour,
                min(60, before.active + each.active),
                min(60.0, before.minutes + each.minutes),
            )
        oldest = max(each.hour for each in hours) - TRAFFIC_KEPT
        self._traffic[connection] = {hour: row for hour, row in known.items() if hour >= oldest}

    async def load_traffic(self, connection: str) -> list[TrafficHour]:
        """See :meth:`storage.api.Storage.load_traffic`."""
        await trio.lowlevel.checkpoint()
        return [row for _hour, row in sorted(self._traffic.get(connection, {}).items())]

    async def load_records(
        self, connection: str, kind: RecordKind, keys: cabc.Sequence[str]
    ) -> dict[str, bytes]:
        """See :meth:`storage.api.Storage.load_records`."""
        await trio.lowlevel.checkpoint()
        if connection not in self._connections:
            return {}
        records = self._connections[connection].records[kind]
        return {key: records[clean_text(key)] for key in keys if clean_text(key) in records}

    async def has_app_state_keys(self, connection: str) -> bool:
        """See :meth:`storage.api.Storage.has_app_state_keys`."""
        await trio.lowlevel.checkpoint()
        known = self._connections.get(connection)
        return known is not None and bool(known.records[RecordKind.APP_STATE_KEY])

    async def connections(self) -> list[ConnectionRow]:
        """See :meth:`storage.api.Storage.connections`."""
        await trio.lowlevel.checkpoint()
        return [
            ConnectionRow(
                name=connection.name,
                wanted=connection.wanted,
                paired=connection.jid is not None,
                jid=connection.jid,
                last_message_at=optional_utc(connection.last_message_at),
                messages=connection.messages,
                duplicates=connection.duplicates,
                quarantined=connection.quarantined,
                undecryptable=connection.undecryptable,
                **_standing(connection.events),
                alive_at=self._alive_at(connection),
            )
            for _name, connection in sorted(self._connections.items())
        ]

    async def events(self, connection: str, limit: int) -> list[dict[str, t.Any]]:
        """See :meth:`storage.api.Storage.events`."""
        await trio.lowlevel.checkpoint()
        if connection not in self._connections:
            return []
        newest = self._connections[connection].events[::-1][:limit]
        return [
            attrs.asdict(event) | {"at": utc(at), "until": optional_utc(event.until)}
            for at, event in ((each.at, each.event) for each in newest)
        ]

    async def conversations(
        self, *, status: str | None, connection: str | None, limit: int
    ) -> list[ConversationRow]:
        """See :meth:`storage.api.Storage.conversations`."""
        await trio.lowlevel.checkpoint()
        found = [
            (owner, conversation)
            for owner, conversation in self._all_conversations()
            if status in (None, conversation.status)
            and connection in (None, owner.name)
            and conversation.merged_into is None
        ]
        found.sort(key=lambda item: (item[1].last_message_at, item[1].id), reverse=True)
        return [conversation_row(owner, conversation) for owner, conversation in found[:limit]]

    async def open_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.api.Storage.open_conversation`."""
        await trio.lowlevel.checkpoint()
        for owner, conversation in self._all_conversations():
            if conversation.id == conversation_id:
                if conversation.merged_into is not None:
                    raise StorageRejectedError(
                        f"conversation {conversation_id} went into another one"
                    )
                live = _live(conversation.chat)
                if live is not None and live is not conversation:
                    raise StorageRejectedError(f"conversation {live.id} of the same chat is live")
                previous = conversation.status
                conversation.status, conversation.closed_at = "open", None
                if previous != "open":
                    self._tell_conversation(owner, conversation, previous)
                return conversation_row(owner, conversation)
        return None

    async def close_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.api.Storage.close_conversation`."""
        await trio.lowlevel.checkpoint()
        for owner, conversation in self._all_conversations():
            if conversation.id == conversation_id:
                if conversation.live:
                    previous = conversation.status
                    conversation.status, conversation.closed_at = "closed", self._clock()
                    self._tell_conversation(owner, conversation, previous)
                return conversation_row(owner, conversation)
        return None

    async def list_messages(self, connection: str, *, after: int, limit: int) -> list[MessageRow]:
        """See :meth:`storage.api.Storage.list_messages`."""
        await trio.lowlevel.checkpoint()
        if connection not in self._connections:
            return []
        owner = self._connections[connection]
        found = sorted(row.id for row in owner.rows.values() if row.id > after)
        return [_message_row(owner, owner.rows[name]) for name in found[:limit]]

    async def statistics(self) -> dict[str, t.Any]:
        """See :meth:`storage.api.Storage.statistics`."""
        await trio.lowlevel.checkpoint()
        connections = list(self._connections.values())
        conversations = [
            conversation
            for _owner, conversation in self._all_conversations()
            if conversation.merged_into is None
        ]
        return {
            "messages": sum(item.messages for item in connections),
            "duplicates": sum(item.duplicates for item in connections),
            "undecryptable": sum(item.undecryptable for item in connections),
            "quarantined": sum(item.quarantined for item in connections),
            "conversations": {
                status: sum(item.status == status for item in conversations)
                for status in ("waiting", "open", "closed")
            },
            "reopened": sum(item.reopened for item in conversations),
            "gaps": await self.gap_statistics(),
            "sync": {**attrs.asdict(self._sync_runs[-1][1]), "at": utc(self._sync_runs[-1][0])}
            if self._sync_runs
            else None,
        }

    async def ping(self) -> float:
        """See :meth:`storage.api.Storage.ping`."""
        await trio.lowlevel.checkpoint()
        return 0.0

    def messages(self, connection: str) -> list[dict[str, t.Any]]:
        """The messages of a connection by arrival: for tests."""
        stored = sorted(self._connection(connection).rows.values(), key=lambda item: item.arrival)
        return [
            {
                "id": item.id,
                "chat": item.chat.address,
                "conversation_id": item.conversation.id,
                "sender": item.content.sender,
                "external_id": item.content.external_id,
                "kind": item.content.kind,
                "text": item.content.text,
                "raw": item.content.raw,
                "from_me": item.content.from_me,
                "arrival": item.arrival,
                "retries": item.retries,
                "state": "undecryptable" if item.placeholder else "stored",
            }
            for item in stored
        ]

    def _commit(self, prepared: PreparedBatch, now: float) -> list[Outcome]:
        connections = [self._connection(name) for name in prepared.connections]
        self._join(prepared, now)
        outcomes = []
        self._learned, self._news = {}, {}
        for connection, message, handled in zip(
            connections, prepared.messages, prepared.handled, strict=True
        ):
            if message is None:
                outcomes.append(Outcome(verdict=Verdict.RECORDED))
            else:
                outcomes.append(self._take(connection, message, now))
            if handled is not None:
                _forget_old(connection, now)
                connection.handled.setdefault(handled, now)
        for (name, key), dated in self._learned.items():
            self._connection(name).names[key] = dated
        for name in prepared.resets:
            self._connection(name).records = {kind: {} for kind in RecordKind}
            self._connection(name).jid = None
            self._forget_stale(name)
            self._reset_queues(name)
        for record in prepared.records:
            connection = self._connection(record.connection)
            if record.value is None:
                connection.records[record.kind].pop(record.key, None)
            else:
                connection.records[record.kind][record.key] = record.value
            if record.kind is RecordKind.DEVICE:
                connection.jid = record.jid
        for name, fact in prepared.facts:
            apply_fact(self._connection(name), fact)
        self._apply_queue_facts(prepared.facts, now)
        self._apply_gaps(prepared, outcomes, now)
        for owner, row, filled in self._news.values():
            self._tell_message(owner, row, filled=filled)
        return outcomes

    def _join(self, prepared: PreparedBatch, now: float) -> None:
        """Make the people of a batch, and of several that are one, one."""
        for message in prepared.messages:
            if message is None:
                continue
            connection = self._connection(message.connection)
            if message.chat_kind is ChatKind.DIRECT:
                self._resolve(connection, (message.chat, message.chat_alt), now)
            sender = (message.sender, message.sender_alt)
            self._resolve(connection, sender, now, is_self=message.from_me)
        for pair in prepared.pairs:
            self._resolve(
                self._connection(pair.connection),
                (pair.address, pair.alternative),
                now,
                is_self=pair.is_self,
                source=pair.source,
            )
        for name in dict.fromkeys(prepared.connections):
            self._move_files(self._connection(name))

    def _resolve(
        self, owner: Connection, addresses: tuple[str | None, ...], now: float, **rest: t.Any
    ) -> None:
        known = len(owner.merges)
        resolve(owner, self._ids, addresses, now, **rest)
        for merge in owner.merges[known:]:
            for conversation, before in merge.conversations:
                if conversation.status != before.status:
                    self._tell_conversation(owner, conversation, before.status)

    def _check_connection(self, name: str) -> None:
        self._connection(name)

    def _media_origin(self, connection: str, message_id: int) -> MediaOrigin:
        owner = self._connection(connection)
        message = owner.rows[message_id]
        contact = message.chat.contact
        return MediaOrigin(
            external_id=message.content.external_id,
            chat=message.chat.address,
            chat_addresses=(message.chat.address,)
            if contact is None
            else tuple(sorted(owner.addresses_of(contact))),
            from_me=message.content.from_me,
            senders=tuple(sorted(owner.addresses_of(message.sender))),
            raw=message.content.raw,
        )

    def _all_conversations(self) -> cabc.Iterator[tuple[Connection, Conversation]]:
        for connection in self._connections.values():
            for chat in connection.chats.values():
                for conversation in chat.conversations:
                    yield connection, conversation

    def _take(self, connection: Connection, message: PreparedMessage, now: float) -> Outcome:
        chat = self._chat(connection, message)
        sender = SELF if message.from_me else connection.addresses[message.sender].contact
        known = connection.keys.get((chat.id, sender, message.external_id))
        seen = any(
            connection.handled.get(name, now - HANDLED_LIFETIME - 1) >= now - HANDLED_LIFETIME
            for name in message.handled_keys
        )
        if seen or (known is not None and not known.placeholder):
            connection.duplicates += 1
            if known is not None and message.live and known.content.lane is Lane.HISTORY:
                return self._make_live(connection, known, message)
            return _outcome(Verdict.DUPLICATE, known)
        self._learn_name(connection, message)
        if known is not None:
            return self._retried(connection, known, message)
        conversation, opened, reopened = self._converse(connection, chat, message)
        conversation.messages += 1
        if message.lane is not Lane.SIDE:
            conversation.last_message_at = max(conversation.last_message_at, message.sent_at)
        connection.last_message_at = max(connection.last_message_at or 0, message.sent_at)
        connection.arrivals += 1
        placeholder = message.undecryptable
        known = Message(
            id=next(self._ids),
            chat=chat,
            sender=sender,
            conversation=conversation,
            content=message,
            arrival=connection.arrivals,
            received_at=now,
            placeholder=placeholder,
            retries=int(placeholder),
        )
        connection.rows[known.id] = connection.keys[known.key] = known
        if not message.quiet:
            self._news[known.id] = (connection, known, False)
        if placeholder:
            connection.undecryptable += 1
        else:
            connection.messages += 1
            self._add_file(connection, known)
        verdict = Verdict.PLACEHOLDER if placeholder else Verdict.STORED
        return _outcome(verdict, known, opened=opened, reopened=reopened)

    def _make_live(
        self, connection: Connection, known: Message, message: PreparedMessage
    ) -> Outcome:
        """A message from the history has come live, too: it takes its place."""
        target, opened, reopened = self._converse(connection, known.chat, message)
        known.conversation.messages -= 1
        target.messages += 1
        target.last_message_at = max(target.last_message_at, message.sent_at)
        known.conversation = target
        known.content = attrs.evolve(known.content, lane=Lane.LIVE)
        self._news.setdefault(known.id, (connection, known, False))
        return _outcome(Verdict.DUPLICATE, known, opened=opened, reopened=reopened)

    def _retried(self, connection: Connection, known: Message, message: PreparedMessage) -> Outcome:
        if message.undecryptable:
            known.retries += 1
            known.content = attrs.evolve(known.content, reason=message.reason)
            return _outcome(Verdict.PLACEHOLDER, known)
        known.placeholder = False
        known.verdict = None
        self._news.setdefault(known.id, (connection, known, True))
        known.content = attrs.evolve(
            message,
            remote_timestamp=known.content.remote_timestamp,
            sent_at=known.content.sent_at,
            lane=Lane.SIDE if message.lane is Lane.SIDE else known.content.lane,
            reason=None,
        )
        connection.undecryptable -= 1
        connection.messages += 1
        self._add_file(connection, known)
        return _outcome(Verdict.STORED, known, filled=True)

    def _converse(
        self, connection: Connection, chat: Chat, message: PreparedMessage
    ) -> tuple[Conversation, bool, bool]:
        """The conversation of a new message, and whether it was opened or reopened for it."""
        found, opened, reopened = self._find(connection.rules, chat, message)
        if opened:
            self._tell_conversation(connection, found, None)
        elif reopened:
            self._tell_conversation(connection, found, "closed", reopened=True)
        return found, opened, reopened

    def _find(
        self, rules: ConversationRules, chat: Chat, message: PreparedMessage
    ) -> tuple[Conversation, bool, bool]:
        if not message.live:
            return self._converse_history(chat, message), False, False
        live = _live(chat)
        if live is not None:
            return live, False, False
        latest = max(_own(chat), key=lambda item: (item.opened_at, item.id), default=None)
        if latest is not None and message.sent_at <= _window_end(rules, latest):
            if message.from_me and not rules.team_reopens:
                return latest, False, False
            latest.status = "open" if message.from_me else "waiting"
            latest.closed_at = None
            latest.reopened += 1
            return latest, False, True
        return self._new(chat, "open" if message.from_me else "waiting", message), True, False

    def _converse_history(self, chat: Chat, message: PreparedMessage) -> Conversation:
        begun = [item for item in _own(chat) if item.opened_at <= message.sent_at]
        if begun:
            return max(begun, key=lambda item: (item.opened_at, item.id))
        if _own(chat):
            return min(_own(chat), key=lambda item: (item.opened_at, item.id))
        return self._new(chat, "closed", message)

    def _new(self, chat: Chat, status: str, message: PreparedMessage) -> Conversation:
        conversation = Conversation(
            id=next(self._ids),
            chat=chat,
            status=status,
            opened_at=message.sent_at,
            last_message_at=message.sent_at,
            closed_at=message.sent_at if status == "closed" else None,
        )
        chat.conversations.append(conversation)
        return conversation

    def _learn_name(self, connection: Connection, message: PreparedMessage) -> None:
        """A push name, as of its message: of a batch the newest, when it is news."""
        if message.sender_name is None or message.from_me:
            return
        key = (message.sender, NameSource.PUSH)
        new = (message.sent_at, message.sender_name)
        at, name = connection.names.get(key, (float("-inf"), ""))
        if (name != new[1] and (at, name) < new) or at < new[0] - NAME_REFRESH:
            learned = self._learned.get((connection.name, key), new)
            self._learned[connection.name, key] = max(learned, new)

    def _chat(self, connection: Connection, message: PreparedMessage) -> Chat:
        contact = None
        key: int | str = message.chat
        address = message.chat
        if message.chat_kind is ChatKind.DIRECT:
            key = contact = connection.addresses[message.chat].contact
            address = connection.addresses_of(contact)[0]
        if key not in connection.chats:
            connection.chats[key] = Chat(next(self._ids), address, contact)
        return connection.chats[key]


def _forget_old(connection: Connection, now: float) -> None:
    old = [key for key, at in connection.handled.items() if at < now - HANDLED_LIFETIME]
    for key in old:
        del connection.handled[key]


def _own(chat: Chat) -> list[Conversation]:
    return [item for item in chat.conversations if item.merged_into is None]


def _live(chat: Chat) -> Conversation | None:
    return next((item for item in chat.conversations if item.live), None)


def _window_end(rules: ConversationRules, conversation: Conversation) -> float:
    counted = conversation.closed_at
    if rules.reopen_from is ReopenFrom.LAST_MESSAGE or counted is None:
        counted = conversation.last_message_at
    return counted + rules.reopen_window


def _outcome(
    verdict: Verdict,
    message: Message | None,
    *,
    opened: bool = False,
    reopened: bool = False,
    filled: bool = False,
) -> Outcome:
    return Outcome(
        verdict=verdict,
        message_id=None if message is None else message.id,
        conversation_id=None if message is None else message.conversation.id,
        opened=opened,
        reopened=reopened,
        filled=filled,
        retries=message.retries if message and verdict is Verdict.PLACEHOLDER else 0,
    )


def _message_row(connection: Connection, message: Message) -> MessageRow:
    return MessageRow(
        id=message.id,
        connection=connection.name,
        conversation=message.conversation.id,
        chat=message.chat.address,
        senders=tuple(sorted(connection.addresses_of(message.sender))),
        external_id=message.content.external_id,
        kind=message.content.kind,
        text=message.content.text,
        from_me=message.content.from_me,
        sent_at=utc(message.content.sent_at),
    )


def _standing(events: cabc.Sequence[StoredEvent]) -> dict[str, t.Any]:
    """The newest transition that is not the end of a daemon."""
    for event in (each.event for each in reversed(events)):
        if event.reason != "shutdown":
            return {
                "state": event.state,
                "reason": event.reason,
                "sentence": event.sentence,
                "until": optional_utc(event.until),
            }
    return {}
