"""A prepared batch as the arguments of ``apply_batch``, and its answer as outcomes.

A fact becomes an object with its ``type`` (the class name in snake_case), its ``connection`` (by
name) and its fields under their own names: enums as their values, times in unix seconds, tuples as
arrays. Bytes travel beside the document, in the array ``blobs``: in the object stands the number of
the element, counted from 1. The notification of an offer is sealed before it travels.
"""

import collections.abc as cabc
import enum
import json
import re
import typing as t

import attrs

from storage.api import ChatKind, Outcome, Verdict
from storage.facts import Fact, HistoryOffered
from storage.prepare import PreparedBatch, PreparedMessage
from storage.prepare_gaps import encode_steps
from storage.seal import Sealer

SEALED_OFFER: t.Final = "history"
"""The kind under which a :class:`HistoryOffered`'s notification is sealed, with the fact's key."""


@attrs.frozen
class BatchArguments:
    """The parameters of the statement, in order."""

    batch: str = attrs.field(repr=False)  # jsonb
    texts: list[str | None] = attrs.field(repr=False)
    raws: list[bytes] = attrs.field(repr=False)
    sealed: list[bytes | None] = attrs.field(repr=False)
    blobs: list[bytes] = attrs.field(repr=False)  # of the facts


def encode_batch(batch: PreparedBatch, sealer: Sealer, now: float) -> BatchArguments:
    """Number the messages from 1 in their order and seal the records."""
    messages = [message for message in batch.messages if message is not None]
    blobs: list[bytes] = []
    document: dict[str, t.Any] = {
        "now": now,
        "connections": list(dict.fromkeys(batch.connections)),
        "messages": [_message(ord_, message) for ord_, message in enumerate(messages, 1)],
        "handled": _handled(batch),
        "resets": batch.resets,
        "records": [
            {
                "connection": record.connection,
                "kind": record.kind.value,
                "key": record.key,
                "jid": record.jid,
            }
            for record in batch.records
        ],
    }
    if batch.pairs:
        document["pairs"] = [attrs.asdict(pair) for pair in batch.pairs]
    if batch.facts:
        document["facts"] = [
            encode_fact(connection, fact, sealer, blobs) for connection, fact in batch.facts
        ]
    if batch.gaps:
        document["gaps"] = encode_steps(batch)
    return BatchArguments(
        batch=json.dumps(document, ensure_ascii=False, separators=(",", ":")),
        texts=[message.text for message in messages],
        raws=[message.raw for message in messages],
        sealed=[
            None
            if record.value is None
            else sealer.seal(record.connection, record.kind.value, record.key, record.value)
            for record in batch.records
        ],
        blobs=blobs,
    )


def encode_fact(
    connection: str, fact: Fact, sealer: Sealer, blobs: list[bytes]
) -> dict[str, t.Any]:
    """One fact as an object; its bytes are appended to ``blobs``."""
    if isinstance(fact, HistoryOffered):
        sealed = sealer.seal(connection, SEALED_OFFER, fact.key, fact.notification)
        fact = attrs.evolve(fact, notification=sealed)
    return {
        "type": fact_type(type(fact)),
        "connection": connection,
        **{field.name: _value(getattr(fact, field.name), blobs) for field in _fields(type(fact))},
    }


def fact_type(kind: type) -> str:
    """``ContactName`` → ``contact_name``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _fields(kind: type) -> tuple[t.Any, ...]:
    return tuple(attrs.fields(kind))


def _value(value: t.Any, blobs: list[bytes]) -> t.Any:
    match value:
        case bytes():
            blobs.append(value)
            return len(blobs)
        case enum.Enum():
            return value.value
        case tuple():
            return [_value(item, blobs) for item in value]
        case _ if attrs.has(type(value)):
            return {
                field.name: _value(getattr(value, field.name), blobs)
                for field in _fields(type(value))
            }
    return value


def decode_outcomes(
    batch: PreparedBatch, rows: cabc.Iterable[cabc.Sequence[t.Any]]
) -> list[Outcome]:
    """One outcome per envelope; ``rows`` answer the messages in order."""
    answers = iter(rows)
    return [
        Outcome(verdict=Verdict.RECORDED) if message is None else _outcome(next(answers))
        for message in batch.messages
    ]


def _message(ord_: int, message: PreparedMessage) -> dict[str, t.Any]:
    encoded = {
        "ord": ord_,
        "connection": message.connection,
        "chat": message.chat,
        "chat_alt": message.chat_alt,
        "direct": message.chat_kind is ChatKind.DIRECT,
        "sender": message.sender,
        "sender_alt": message.sender_alt,
        "sender_name": message.sender_name,
        "from_me": message.from_me,
        "external_id": message.external_id,
        "kind": message.kind,
        "undecryptable": message.undecryptable,
        "remote_timestamp": message.remote_timestamp,
        "sent_at": message.sent_at,
        "lane": message.lane.value,
    }
    # Most messages have none of these, and what is left out is null.
    for name in _OPTIONAL:
        if value := getattr(message, name):
            encoded[name] = value
    if message.media is not None:
        encoded["media"] = {**attrs.asdict(message.media), "sha256": message.media.sha256.hex()}
    return encoded


_OPTIONAL: t.Final = (
    "reason",
    "handled_keys",
    "target_id",
    "target_author",
    "quoted_id",
    "quoted_author",
    "mentions",
    "flags",
    "detail",
    "quiet",
)


def _handled(batch: PreparedBatch) -> list[dict[str, t.Any]]:
    """The handled keys, each with the number of messages that came before it or with it."""
    keys = []
    before = 0
    for connection, message, key in zip(
        batch.connections, batch.messages, batch.handled, strict=True
    ):
        before += message is not None
        if key is not None:
            keys.append({"connection": connection, "key": key, "after": before})
    return keys


def _outcome(row: cabc.Sequence[t.Any]) -> Outcome:
    _ord, verdict, message_id, conversation_id, opened, reopened, filled, retries = row
    return Outcome(
        verdict=Verdict(verdict),
        message_id=message_id,
        conversation_id=conversation_id,
        opened=opened,
        reopened=reopened,
        filled=filled,
        retries=retries,
    )
