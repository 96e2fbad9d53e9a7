"""Facts made storable: checked, cleaned, cut to size. Shared by every storage.

A field that says what a fact is about (an address, an id, a key, a collection) must be storable,
or the whole envelope is rejected and ends in quarantine, like a message without identity: dropping
such a fact would lose it silently. Everything else is made to fit: texts are cut, odd alternatives
and members' odd roles left out, absurd times replaced. A time that decides which of two facts is
the newer counts as unknown (0) when nothing can have happened then, and as now when it lies in the
future; the time of an event is then its arrival.
"""

import collections.abc as cabc
import math
import typing as t

import attrs

from storage.errors import StorageRejectedError
from storage.facts import (
    AddressPair,
    AppStateStep,
    ChatSettings,
    ContactName,
    Delivery,
    DeviceList,
    Fact,
    GroupChange,
    GroupMember,
    GroupSnapshot,
    HistoryChatCount,
    HistoryOffered,
    HistoryStep,
    Label,
    LabelLink,
    OutboxStep,
    PlaceholderVerdict,
)
from storage.identity import MAX_ID_LENGTH, bounded, clean_text
from storage.prepare_queues import check_step

MAX_NAME_LENGTH: t.Final = 256  # characters of a person's name
MAX_ADDRESS_BYTES: t.Final = 256  # of an address in a fact; two and an id fit an index entry
MAX_TOKEN_LENGTH: t.Final = 64  # characters of a state, role, source, …
MAX_SUBJECT_LENGTH: t.Final = 1_024
MAX_TEXT_LENGTH: t.Final = 8_192
EARLIEST: t.Final = 1_230_768_000  # 2009-01-01: there was no WhatsApp before
FUTURE_TOLERANCE: t.Final = 86_400  # seconds a sender's clock may run ahead of ours

_INT32_MAX: t.Final = 2**31 - 1
_INT64_MAX: t.Final = 2**63 - 1


@attrs.frozen
class PreparedPair:
    """Addresses that are one person's; the contact is made if need be."""

    connection: str
    address: str
    alternative: str | None = None
    is_self: bool = False  # the account's own
    source: str = "stanza"  # where it was learned


def plausible_time(sent_at: float, now: float) -> float:
    """WhatsApp's time, or the arrival ``now`` when no message can have been sent then."""
    return float(sent_at) if EARLIEST <= sent_at <= now + FUTURE_TOLERANCE else now


def prepare_fact(connection: str, fact: Fact, now: float) -> tuple[Fact, list[PreparedPair]]:
    """A fact whose every field fits its column, and the addresses it shows to be one person's.

    Raises:
        StorageRejectedError: it cannot be told what the fact is about.
    """
    pairs: list[PreparedPair] = []

    def pair(address: str, alternative: str | None, source: str = "stanza") -> None:
        pairs.append(PreparedPair(connection, address, alternative, source=source))

    match fact:
        case AddressPair():
            number, lid = _address("number", fact.number), _address("LID", fact.lid)
            fact = AddressPair(number, lid, _token(fact.source))
            pair(number, lid if lid != number else None, fact.source)
        case ContactName():
            fact = attrs.evolve(
                fact,
                address=_address("contact", fact.address),
                name=clean_text(fact.name)[:MAX_NAME_LENGTH].strip(),
                at=_version_time(fact.at, now),
            )
            pair(fact.address, None)
        case Delivery():
            fact = _delivery(fact, now)
            if fact.recipient_alt is not None:
                pair(fact.recipient, fact.recipient_alt)
            if fact.chat_alt is not None:
                pair(fact.chat, fact.chat_alt)
        case GroupSnapshot():
            fact = _snapshot(fact, now)
            for member in fact.members:
                if member.alt is not None:
                    pair(member.address, member.alt, "group")
        case GroupChange():
            fact = _change(fact, now)
            for member in fact.joined:
                if member.alt is not None:
                    pair(member.address, member.alt, "group")
        case ChatSettings():
            fact = _settings(fact, now)
        case Label():
            fact = attrs.evolve(
                fact,
                id=_address("label", fact.id),
                name=clean_text(fact.name)[:MAX_NAME_LENGTH],
                color=max(-_INT32_MAX, min(fact.color, _INT32_MAX)),
                at=_version_time(fact.at, now),
            )
        case LabelLink():
            fact = attrs.evolve(
                fact,
                label=_address("label", fact.label),
                chat=_address("chat", fact.chat),
                message_id=_id("message", fact.message_id) if fact.message_id else None,
                at=_version_time(fact.at, now),
            )
        case HistoryOffered():
            fact = attrs.evolve(
                fact,
                key=_id("history", fact.key),
                sync_type=_token(fact.sync_type),
                chunk_order=max(-_INT32_MAX, min(fact.chunk_order, _INT32_MAX)),
                progress=max(0, min(fact.progress, 100)),
                request_id=_id("request", fact.request_id) if fact.request_id else None,
            )
        case HistoryStep():
            check_step(fact)
            fact = _step(fact)
        case AppStateStep():
            fact = attrs.evolve(
                fact,
                collection=_address("collection", fact.collection),
                version=max(0, min(fact.version, _INT64_MAX)),
                values=tuple(dict(fact.values).items()),
            )
        case OutboxStep():
            check_step(fact)
            fact = attrs.evolve(
                fact,
                state=_token(fact.state),
                reason=_optional_text(fact.reason),
                at=_event_time(fact.at, now),
            )
        case PlaceholderVerdict():
            fact = attrs.evolve(
                fact,
                chat=_address("chat", fact.chat),
                sender=_address("sender", fact.sender),
                external_id=_id("message", fact.external_id),
                verdict=_token(fact.verdict),
            )
        case DeviceList():
            fact = attrs.evolve(
                fact,
                account=_address("account", fact.account),
                devices=tuple(sorted({item for item in fact.devices if 0 <= item <= 0xFFFF})),
                at=_version_time(fact.at, now),
            )
        case other:
            t.assert_never(other)
    return fact, pairs


def _delivery(fact: Delivery, now: float) -> Delivery:
    chat, recipient = _address("chat", fact.chat), _address("recipient", fact.recipient)
    return attrs.evolve(
        fact,
        chat=chat,
        chat_alt=_alternative(fact.chat_alt, chat) if fact.direct else None,
        ids=tuple(dict.fromkeys(_id("message", item) for item in fact.ids)),
        recipient=recipient,
        recipient_alt=_alternative(fact.recipient_alt, recipient),
        at=_event_time(fact.at, now),
    )


def _snapshot(fact: GroupSnapshot, now: float) -> GroupSnapshot:
    created = fact.created_at
    return attrs.evolve(
        fact,
        group=_address("group", fact.group),
        at=_version_time(fact.at, now),
        subject=clean_text(fact.subject)[:MAX_SUBJECT_LENGTH],
        description=_optional_text(fact.description),
        owner=_alternative(fact.owner, ""),
        created_at=created if created is not None and EARLIEST <= created <= now else None,
        expiration=max(0, min(fact.expiration, _INT32_MAX)),
        members=_members(fact.members),
    )


def _change(fact: GroupChange, now: float) -> GroupChange:
    expiration = fact.expiration
    return attrs.evolve(
        fact,
        group=_address("group", fact.group),
        at=_version_time(fact.at, now),
        subject=None if fact.subject is None else clean_text(fact.subject)[:MAX_SUBJECT_LENGTH],
        description=_optional_text(fact.description),
        expiration=None if expiration is None else max(0, min(expiration, _INT32_MAX)),
        joined=_members(fact.joined),
        left=tuple(dict.fromkeys(_address("member", item) for item in fact.left)),
    )


def _members(members: cabc.Iterable[GroupMember]) -> tuple[GroupMember, ...]:
    found: dict[str, GroupMember] = {}
    for member in members:
        address = _address("member", member.address)
        role = clean_text(member.role)
        found[address] = GroupMember(
            address=address,
            alt=_alternative(member.alt, address),
            role=role if 0 < len(role) <= MAX_TOKEN_LENGTH else "member",
        )
    return tuple(found.values())


def _settings(fact: ChatSettings, now: float) -> ChatSettings:
    muted, read, expiration = fact.muted_until, fact.read_until, fact.expiration
    return attrs.evolve(
        fact,
        chat=_address("chat", fact.chat),
        at=_version_time(fact.at, now),
        muted_until=None if muted is None else _bounded_time(muted),
        read_until=None if read is None else _bounded_time(read),
        expiration=None if expiration is None else max(0, min(expiration, _INT32_MAX)),
    )


def _step(fact: HistoryStep) -> HistoryStep:
    return attrs.evolve(
        fact,
        key=_id("history", fact.key),
        state=_token(fact.state),
        position=max(0, min(fact.position, _INT64_MAX)),
        total=max(0, min(fact.total, _INT64_MAX)),
        counts=tuple(
            attrs.evolve(count, chat=_address("chat", count.chat))
            for count in fact.counts
            if count != HistoryChatCount(chat=count.chat)
        ),
        error=_optional_text(fact.error),
    )


def _address(name: str, value: str) -> str:
    value = clean_text(value)
    if not value or len(value.encode()) > MAX_ADDRESS_BYTES:
        raise StorageRejectedError(f"{name} of {len(value)} characters in a fact")
    return value


def _alternative(value: str | None, address: str) -> str | None:
    value = clean_text(value) if value else None
    fits = value and value != address and len(value.encode()) <= MAX_ADDRESS_BYTES
    return value if fits else None


def _id(name: str, value: str) -> str:
    if not value:
        raise StorageRejectedError(f"{name} id of 0 characters in a fact")
    return bounded(value, MAX_ID_LENGTH, "hashed-")


def _token(value: str) -> str:
    return clean_text(value)[:MAX_TOKEN_LENGTH]


def _optional_text(value: str | None) -> str | None:
    return None if value is None else clean_text(value)[:MAX_TEXT_LENGTH]


def _version_time(at: float, now: float) -> float:
    if not math.isfinite(at) or at < EARLIEST:
        return 0.0
    return min(float(at), now) if at > now + FUTURE_TOLERANCE else float(at)


def _event_time(at: float, now: float) -> float:
    return plausible_time(at, now)


def _bounded_time(at: float) -> float:
    """-1 (for ever), 0 (not) and any time that a timestamp can hold."""
    if not math.isfinite(at):
        return 0.0
    return max(-1.0, min(float(at), 32_503_680_000.0))  # the year 3000
