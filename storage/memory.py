"""MemoryStorage: storage without a database, for tests of everything above it.

It is a verified fake: the same tests run on it and on PostgreSQL, and a property test compares
the two. Nothing survives the process, and nothing is sealed.
"""

import collections.abc as cabc
import datetime as dt
import itertools
import time
import typing as t

import attrs
import trio

from storage.api import (
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
    SyncRun,
    Verdict,
)
from storage.errors import StorageRejectedError
from storage.identity import clean_text
from storage.memory_media import MediaOrigin
from storage.memory_queues import MemoryQueues
from storage.prepare import (
    PreparedBatch,
    PreparedMessage,
    PreparedQuarantine,
    prepare,
    prepare_quarantine,
)

HANDLED_LIFETIME: t.Final = 14 * 86_400  # seconds


@attrs.define
class _Connection:
    name: str
    rules: ConversationRules
    wanted: bool = True
    jid: str | None = None
    arrivals: int = 0
    messages: int = 0
    duplicates: int = 0
    quarantined: int = 0
    undecryptable: int = 0
    last_message_at: float | None = None
    addresses: dict[str, int] = attrs.field(factory=dict)  # to contact ids; 0 is the account
    names: dict[int, str] = attrs.field(factory=dict)
    chats: dict[int | str, "_Chat"] = attrs.field(factory=dict)  # by contact id or group
    messages_by_key: dict[tuple[int, int, str], "_Message"] = attrs.field(factory=dict)
    handled: dict[str, float] = attrs.field(factory=dict)
    quarantine: dict[str, PreparedQuarantine] = attrs.field(factory=dict)
    records: dict[RecordKind, dict[str, bytes]] = attrs.field(
        factory=lambda: {kind: {} for kind in RecordKind}
    )
    events: list[tuple[float, ConnectionEvent]] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Chat:
    id: int
    address: str
    contact: int | None
    conversations: list["_Conversation"] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Conversation:
    id: int
    chat: _Chat
    status: str
    opened_at: float
    last_message_at: float
    closed_at: float | None = None
    messages: int = 0
    reopened: int = 0

    @property
    def live(self) -> bool:
        return self.status != "closed"


@attrs.define(eq=False)
class _Message:
    id: int
    conversation: _Conversation
    content: PreparedMessage
    arrival: int
    placeholder: bool
    retries: int = 0


class MemoryStorage(MemoryQueues):
    """Keeps everything in dictionaries; ``clock`` gives unix seconds."""

    def __init__(self, clock: cabc.Callable[[], float] = time.time) -> None:  # noqa: TID251
        super().__init__()
        self._clock = clock
        self._ids = itertools.count(1)
        self._connections: dict[str, _Connection] = {}
        self._sync_runs: list[tuple[float, SyncRun]] = []

    async def ensure_connection(self, name: str, rules: ConversationRules) -> None:
        """See :meth:`storage.api.Storage.ensure_connection`."""
        await trio.lowlevel.checkpoint()
        self._connections.setdefault(name, _Connection(name, rules)).rules = rules

    async def set_wanted(self, name: str, wanted: bool) -> None:
        """See :meth:`storage.api.Storage.set_wanted`."""
        await trio.lowlevel.checkpoint()
        self._connection(name).wanted = wanted

    async def apply(self, batch: cabc.Sequence[Envelope]) -> list[Outcome]:
        """See :meth:`storage.api.Storage.apply`."""
        await trio.lowlevel.checkpoint()
        now = self._clock()
        return self._commit(prepare(batch, now), now)

    async def quarantine(self, envelope: Envelope, error: str) -> Outcome:
        """See :meth:`storage.api.Storage.quarantine`."""
        connection = self._connection(envelope.connection)
        row, rest = prepare_quarantine(envelope, error, self._clock())
        await trio.lowlevel.checkpoint()
        self._commit(rest, self._clock())
        if row.fingerprint not in connection.quarantine:
            connection.quarantined += 1
        connection.quarantine.setdefault(row.fingerprint, row)
        return Outcome(verdict=Verdict.QUARANTINED, error=row.error)

    async def record_event(self, event: ConnectionEvent) -> None:
        """See :meth:`storage.api.Storage.record_event`."""
        await trio.lowlevel.checkpoint()
        self._connection(event.connection).events.append(
            (self._clock(), attrs.evolve(event, sentence=clean_text(event.sentence)))
        )

    async def record_sync(self, run: SyncRun) -> None:
        """See :meth:`storage.api.Storage.record_sync`."""
        await trio.lowlevel.checkpoint()
        self._connection(run.connection)
        self._sync_runs.append((self._clock(), run))

    async def load_records(
        self, connection: str, kind: RecordKind, keys: cabc.Sequence[str]
    ) -> dict[str, bytes]:
        """See :meth:`storage.api.Storage.load_records`."""
        await trio.lowlevel.checkpoint()
        if connection not in self._connections:
            return {}
        records = self._connections[connection].records[kind]
        return {key: records[clean_text(key)] for key in keys if clean_text(key) in records}

    async def connections(self) -> list[ConnectionRow]:
        """See :meth:`storage.api.Storage.connections`."""
        await trio.lowlevel.checkpoint()
        return [
            ConnectionRow(
                name=connection.name,
                wanted=connection.wanted,
                paired=connection.jid is not None,
                jid=connection.jid,
                last_message_at=_optional_time(connection.last_message_at),
                messages=connection.messages,
                duplicates=connection.duplicates,
                quarantined=connection.quarantined,
                undecryptable=connection.undecryptable,
            )
            for _name, connection in sorted(self._connections.items())
        ]

    async def events(self, connection: str, limit: int) -> list[dict[str, t.Any]]:
        """See :meth:`storage.api.Storage.events`."""
        await trio.lowlevel.checkpoint()
        if connection not in self._connections:
            return []
        newest = self._connections[connection].events[::-1][:limit]
        return [{"at": _time(at), **attrs.asdict(event)} for at, event in newest]

    async def conversations(
        self, *, status: str | None, connection: str | None, limit: int
    ) -> list[ConversationRow]:
        """See :meth:`storage.api.Storage.conversations`."""
        await trio.lowlevel.checkpoint()
        found = [
            (owner, conversation)
            for owner, conversation in self._all_conversations()
            if status in (None, conversation.status) and connection in (None, owner.name)
        ]
        found.sort(key=lambda item: (item[1].last_message_at, item[1].id), reverse=True)
        return [_row(owner, conversation) for owner, conversation in found[:limit]]

    async def open_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.api.Storage.open_conversation`."""
        await trio.lowlevel.checkpoint()
        for owner, conversation in self._all_conversations():
            if conversation.id == conversation_id:
                live = _live(conversation.chat)
                if live is not None and live is not conversation:
                    raise StorageRejectedError(f"conversation {live.id} of the same chat is live")
                conversation.status, conversation.closed_at = "open", None
                return _row(owner, conversation)
        return None

    async def close_conversation(self, conversation_id: int) -> ConversationRow | None:
        """See :meth:`storage.api.Storage.close_conversation`."""
        await trio.lowlevel.checkpoint()
        for owner, conversation in self._all_conversations():
            if conversation.id == conversation_id:
                if conversation.live:
                    conversation.status, conversation.closed_at = "closed", self._clock()
                return _row(owner, conversation)
        return None

    async def list_messages(self, connection: str, *, after: int, limit: int) -> list[MessageRow]:
        """See :meth:`storage.api.Storage.list_messages`."""
        await trio.lowlevel.checkpoint()
        if connection not in self._connections:
            return []
        owner = self._connections[connection]
        found = [
            (message, sender)
            for (_chat, sender, _id), message in owner.messages_by_key.items()
            if message.id > after
        ]
        found.sort(key=lambda item: item[0].id)
        return [_message_row(owner, message, sender) for message, sender in found[:limit]]

    async def statistics(self) -> dict[str, t.Any]:
        """See :meth:`storage.api.Storage.statistics`."""
        await trio.lowlevel.checkpoint()
        connections = list(self._connections.values())
        conversations = [conversation for _owner, conversation in self._all_conversations()]
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
            "sync": {"at": _time(self._sync_runs[-1][0]), **attrs.asdict(self._sync_runs[-1][1])}
            if self._sync_runs
            else None,
        }

    async def ping(self) -> float:
        """See :meth:`storage.api.Storage.ping`."""
        await trio.lowlevel.checkpoint()
        return 0.0

    def messages(self, connection: str) -> list[dict[str, t.Any]]:
        """The messages of a connection by arrival: for tests."""
        stored = sorted(
            self._connection(connection).messages_by_key.values(), key=lambda item: item.arrival
        )
        return [
            {
                "id": item.id,
                "chat": item.conversation.chat.address,
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
        outcomes = []
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
        for name in prepared.resets:
            self._connection(name).records = {kind: {} for kind in RecordKind}
            self._connection(name).jid = None
            self._reset_queues(name)
        for record in prepared.records:
            connection = self._connection(record.connection)
            if record.value is None:
                connection.records[record.kind].pop(record.key, None)
            else:
                connection.records[record.kind][record.key] = record.value
            if record.kind is RecordKind.DEVICE:
                connection.jid = record.jid
        self._apply_queue_facts(prepared.facts, now)
        return outcomes

    def _check_connection(self, name: str) -> None:
        self._connection(name)

    def _media_origin(self, connection: str, message_id: int) -> MediaOrigin:
        owner = self._connection(connection)
        for (_chat, sender, _id), message in owner.messages_by_key.items():
            if message.id == message_id:
                row = _message_row(owner, message, sender)
                contact = message.conversation.chat.contact
                chats = {name for name, known in owner.addresses.items() if known == contact}
                return MediaOrigin(
                    external_id=row.external_id,
                    chat=row.chat,
                    chat_addresses=tuple(sorted(chats)) or (row.chat,),
                    from_me=row.from_me,
                    senders=row.senders,
                    raw=message.content.raw,
                )
        raise KeyError(message_id)

    def _connection(self, name: str) -> _Connection:
        try:
            return self._connections[name]
        except KeyError:
            raise StorageRejectedError(f"unknown connection {name!r}") from None

    def _all_conversations(self) -> cabc.Iterator[tuple[_Connection, _Conversation]]:
        for connection in self._connections.values():
            for chat in connection.chats.values():
                for conversation in chat.conversations:
                    yield connection, conversation

    def _take(self, connection: _Connection, message: PreparedMessage, now: float) -> Outcome:
        chat = self._chat(connection, message)
        sender = self._sender(connection, message)
        key = (chat.id, sender, message.external_id)
        known = connection.messages_by_key.get(key)
        seen = any(
            connection.handled.get(name, now - HANDLED_LIFETIME - 1) >= now - HANDLED_LIFETIME
            for name in message.handled_keys
        )
        if seen or (known is not None and not known.placeholder):
            connection.duplicates += 1
            return _outcome(Verdict.DUPLICATE, known)
        if message.sender_name is not None and not message.from_me:
            if message.live:
                connection.names[sender] = message.sender_name
            else:
                connection.names.setdefault(sender, message.sender_name)
        if known is not None:
            return self._retried(connection, known, message)
        conversation, opened, reopened = self._converse(connection.rules, chat, message)
        conversation.messages += 1
        if message.lane is not Lane.SIDE:
            conversation.last_message_at = max(conversation.last_message_at, message.sent_at)
        connection.last_message_at = max(connection.last_message_at or 0, message.sent_at)
        connection.arrivals += 1
        placeholder = message.undecryptable
        known = connection.messages_by_key[key] = _Message(
            id=next(self._ids),
            conversation=conversation,
            content=message,
            arrival=connection.arrivals,
            placeholder=placeholder,
            retries=int(placeholder),
        )
        if message.media is not None and not placeholder:
            self._add_media(connection.name, known.id, message.media, live=_is_live(message))
        if placeholder:
            connection.undecryptable += 1
        else:
            connection.messages += 1
        verdict = Verdict.PLACEHOLDER if placeholder else Verdict.STORED
        return _outcome(verdict, known, opened=opened, reopened=reopened)

    def _retried(
        self, connection: _Connection, known: _Message, message: PreparedMessage
    ) -> Outcome:
        if message.undecryptable:
            known.retries += 1
            return _outcome(Verdict.PLACEHOLDER, known)
        known.placeholder = False
        if message.media is not None:
            live = _is_live(known.content)
            self._add_media(connection.name, known.id, message.media, live=live)
        known.content = attrs.evolve(
            known.content, kind=message.kind, text=message.text, raw=message.raw
        )
        connection.undecryptable -= 1
        connection.messages += 1
        return _outcome(Verdict.STORED, known, filled=True)

    def _converse(
        self, rules: ConversationRules, chat: _Chat, message: PreparedMessage
    ) -> tuple[_Conversation, bool, bool]:
        """The conversation of a new message, and whether it was opened or reopened for it."""
        if not message.live:
            return self._converse_history(chat, message), False, False
        live = _live(chat)
        if live is not None:
            return live, False, False
        latest = max(chat.conversations, key=lambda item: item.id, default=None)
        if latest is not None and message.sent_at <= _window_end(rules, latest):
            if message.from_me and not rules.team_reopens:
                return latest, False, False
            latest.status = "open" if message.from_me else "waiting"
            latest.closed_at = None
            latest.reopened += 1
            return latest, False, True
        return self._new(chat, "open" if message.from_me else "waiting", message), True, False

    def _converse_history(self, chat: _Chat, message: PreparedMessage) -> _Conversation:
        begun = [item for item in chat.conversations if item.opened_at <= message.sent_at]
        if begun:
            return max(begun, key=lambda item: (item.opened_at, item.id))
        if chat.conversations:
            return min(chat.conversations, key=lambda item: (item.opened_at, item.id))
        return self._new(chat, "closed", message)

    def _new(self, chat: _Chat, status: str, message: PreparedMessage) -> _Conversation:
        conversation = _Conversation(
            id=next(self._ids),
            chat=chat,
            status=status,
            opened_at=message.sent_at,
            last_message_at=message.sent_at,
            closed_at=message.sent_at if status == "closed" else None,
        )
        chat.conversations.append(conversation)
        return conversation

    def _chat(self, connection: _Connection, message: PreparedMessage) -> _Chat:
        contact = None
        if message.chat_kind is ChatKind.DIRECT:
            contact = self._contact(connection, message.chat, message.chat_alt)
        key = message.chat if contact is None else contact
        if key not in connection.chats:
            connection.chats[key] = _Chat(
                next(self._ids),
                next(
                    (
                        item
                        for item in (message.chat_alt, message.chat)
                        if item and item.endswith("@s.whatsapp.net")
                    ),
                    message.chat,
                ),
                contact,
            )
        return connection.chats[key]

    def _sender(self, connection: _Connection, message: PreparedMessage) -> int:
        if not message.from_me:
            return self._contact(connection, message.sender, message.sender_alt)
        for address in (message.sender, message.sender_alt):
            if address is not None:
                connection.addresses.setdefault(address, 0)
        return 0

    def _contact(self, connection: _Connection, address: str, alternative: str | None) -> int:
        pair = (address, alternative) if alternative is not None else (address,)
        known = [connection.addresses[item] for item in pair if item in connection.addresses]
        contact = min(known) if known else next(self._ids)
        for item in pair:
            connection.addresses.setdefault(item, contact)
        return contact


def _is_live(message: PreparedMessage) -> bool:
    """Whether its file is fetched before those of the history."""
    return message.lane is not Lane.HISTORY


def _forget_old(connection: _Connection, now: float) -> None:
    old = [key for key, at in connection.handled.items() if at < now - HANDLED_LIFETIME]
    for key in old:
        del connection.handled[key]


def _live(chat: _Chat) -> _Conversation | None:
    return next((item for item in chat.conversations if item.live), None)


def _window_end(rules: ConversationRules, conversation: _Conversation) -> float:
    counted = conversation.closed_at
    if rules.reopen_from is ReopenFrom.LAST_MESSAGE or counted is None:
        counted = conversation.last_message_at
    return counted + rules.reopen_window


def _outcome(
    verdict: Verdict,
    message: _Message | None,
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


def _row(connection: _Connection, conversation: _Conversation) -> ConversationRow:
    contact = conversation.chat.contact
    return ConversationRow(
        id=conversation.id,
        connection=connection.name,
        chat=conversation.chat.address,
        title=None if contact is None else connection.names.get(contact),
        status=conversation.status,
        messages=conversation.messages,
        opened_at=_time(conversation.opened_at),
        last_message_at=_time(conversation.last_message_at),
        closed_at=_optional_time(conversation.closed_at),
        reopened=conversation.reopened,
    )


def _message_row(connection: _Connection, message: _Message, sender: int) -> MessageRow:
    addresses = (item for item, contact in connection.addresses.items() if contact == sender)
    return MessageRow(
        id=message.id,
        connection=connection.name,
        conversation=message.conversation.id,
        chat=message.conversation.chat.address,
        senders=tuple(sorted(addresses)),
        external_id=message.content.external_id,
        kind=message.content.kind,
        text=message.content.text,
        from_me=message.content.from_me,
        sent_at=_time(message.content.sent_at),
    )


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _optional_time(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else _time(seconds)
