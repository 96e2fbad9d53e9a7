"""A prepared batch as the arguments of ``apply_batch``, and its answer as outcomes."""

import collections.abc as cabc
import json
import typing as t

import attrs

from storage.api import ChatKind, Outcome, Verdict
from storage.prepare import PreparedBatch, PreparedMessage
from storage.seal import Sealer


@attrs.frozen
class BatchArguments:
    """The parameters of the statement, in order."""

    batch: str = attrs.field(repr=False)  # jsonb
    texts: list[str | None] = attrs.field(repr=False)
    raws: list[bytes] = attrs.field(repr=False)
    sealed: list[bytes | None] = attrs.field(repr=False)


def encode_batch(batch: PreparedBatch, sealer: Sealer, now: float) -> BatchArguments:
    """Number the messages from 1 in their order and seal the records."""
    messages = [message for message in batch.messages if message is not None]
    document = {
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
    )


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
    return {
        "ord": ord_,
        "connection": message.connection,
        "chat": message.chat,
        "chat_alt": message.chat_alt,
        "chat_address": message.chat_address,
        "direct": message.chat_kind is ChatKind.DIRECT,
        "sender": message.sender,
        "sender_alt": message.sender_alt,
        "sender_name": message.sender_name,
        "from_me": message.from_me,
        "external_id": message.external_id,
        "handled_keys": message.handled_keys,
        "kind": message.kind,
        "undecryptable": message.undecryptable,
        "remote_timestamp": message.remote_timestamp,
        "sent_at": message.sent_at,
        "lane": message.lane.value,
        "reason": message.reason,
    }


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
