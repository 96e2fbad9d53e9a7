"""The records: one form each, to the byte; the schema; and what is refused."""

import contextlib
import datetime as dt
import json
import typing as t

import attrs
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from st_archive import archive_of, fill
from st_helpers import Clock

from scripts.archive_schema import TARGET, text
from storage import archive_records
from storage.archive_codec import RecordError, dump_line
from storage.archive_records import (
    KINDS,
    Address,
    Contact,
    Conversation,
    ConversationKey,
    Media,
    Message,
    decode_record,
    encode_record,
    schema,
)
from storage.postgres import PostgresStorage

AT = dt.datetime(2026, 11, 21, 9, 30, 0, 5, tzinfo=dt.UTC)
MESSAGE = Message(
    connection="sales",
    chat_kind="direct",
    chat="1@lid",
    external_id="A",
    conversation=ConversationKey(opened_at=AT),
    kind="text",
    state="stored",
    from_me=False,
    lane="live",
    remote_timestamp=-5,
    sent_at=AT,
    received_at=AT,
    retries=0,
    text="olá",
    raw=b"\x00\xff",
)
MEDIA = Media(kind="image", sha256=b"", live=True, state="pending")

storable = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"))
ids = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"),
    min_size=1,
    max_size=512,
)
moments = st.datetimes(timezones=st.just(dt.UTC))
details = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | storable,
    lambda inner: st.lists(inner) | st.dictionaries(storable, inner),
    max_leaves=8,
)
messages = st.builds(
    attrs.evolve,
    st.just(MESSAGE),
    external_id=ids,
    text=st.none() | storable,
    raw=st.binary(),
    sent_at=moments,
    remote_timestamp=st.integers(-(2**63), 2**63 - 1),
    mentions=st.none() | st.lists(storable).map(tuple),
    detail=st.none() | st.dictionaries(storable, details, min_size=1),
    media=st.none() | st.just(MEDIA),
)


@given(messages)
def test_a_record_reads_back_as_itself(message: Message) -> None:
    """Any message, by one line of UTF-8, whose form is the only one."""
    line = encode_record(message)
    assert line.count(b"\n") == 1
    assert decode_record(line) == message
    assert encode_record(decode_record(line)) == line
    jsonschema.Draft202012Validator(schema()).validate(json.loads(line))


def test_the_form_is_canonical() -> None:
    """Sorted keys, no spaces, what is not there left out, UTC with microseconds."""
    assert encode_record(MESSAGE).decode() == (
        '{"chat":"1@lid","chat_kind":"direct","connection":"sales","conversation":{"nth":1,'
        '"opened_at":"2026-11-21T09:30:00.000005Z"},"external_id":"A","from_me":false,'
        '"kind":"text","lane":"live","raw":"AP8=","received_at":"2026-11-21T09:30:00.000005Z",'
        '"record":"message","remote_timestamp":-5,"retries":0,'
        '"sent_at":"2026-11-21T09:30:00.000005Z","state":"stored","text":"olá"}\n'
    )


async def test_every_line_fits_the_published_schema(
    postgres: PostgresStorage, clock: Clock, dsn: str
) -> None:
    """The file in docs says of each kind of line what it is, and is the one that belongs to the
    code."""
    published = TARGET.read_text(encoding="utf-8")
    assert published == text(schema()), "a record has changed: run python scripts/archive_schema.py"
    validator = jsonschema.Draft202012Validator(json.loads(published))
    jsonschema.Draft202012Validator.check_schema(json.loads(published))
    await fill(postgres, clock)
    lines = (await archive_of(dsn)).splitlines()
    for line in lines:
        validator.validate(json.loads(line))
    assert {json.loads(line)["record"] for line in lines} == KINDS.keys()
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**json.loads(lines[20]), "more": 1})


def changed(**fields: t.Any) -> bytes:
    """A message with some other fields; None: without."""
    value = json.loads(encode_record(MESSAGE)) | fields
    return dump_line({name: each for name, each in value.items() if each is not None})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\xff\n", "it is not text in UTF-8"),
        (b"{\n", "it is not JSON"),
        (b"[]\n", "it is not a JSON object"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"record":"message","x":NaN}\n', "it is not JSON"),
        (b'{"record":["message"]}\n', '"record" is missing or not known'),
        (changed(external_id=""), "external_id is empty"),
        (changed(external_id="x" * 513), "external_id has 513 characters; 512 are allowed"),
        (changed(external_id=7), "external_id is not a string"),
        (changed(external_id=None), "external_id is missing"),
        (changed(text="a\0b"), "text holds a NUL character"),
        (changed(text="a").replace(b'"a"', b'"\\ud800"'), "text holds half a character"),
        (changed(colour="red"), "colour is not known"),
        (changed(from_me=1), "from_me is neither true nor false"),
        (changed(retries=True), "retries is not a whole number"),
        (changed(retries=2**31), "retries is not between"),
        (changed(remote_timestamp=2**63), "remote_timestamp is not between"),
        (changed(sent_at="2026-11-21"), "sent_at is not a time such as"),
        (changed(sent_at="2026-13-21T09:30:00.000000Z"), "sent_at is not a time such as"),
        (changed(raw="a"), "raw is not base64"),
        (changed(raw="é"), "raw is not base64"),
        (changed(mentions="x"), "mentions is not a list"),
        (changed(mentions=["x", 1]), r"mentions\[1\] is not a string"),
        (changed(conversation={"nth": 0, "opened_at": "x"}), "conversation.nth is not between"),
        (changed(conversation=[]), "conversation is not an object"),
        (changed(detail={"a": {"b": ["\0"]}}), "detail holds a NUL character"),
        (changed(detail={"\0": 1}), "detail holds a NUL character"),
        (changed(kind="undecryptable"), "state does not go with kind"),
        (changed(verdict="gave_up"), "verdict does not go with state"),
        (changed(media={"kind": "image"}), "media.live is missing"),
        (
            changed(connection=".."),
            "connection is no name that a connection can have: 1 to 63 of a-z",
        ),
        (changed(connection="sales\n"), "connection is no name"),
        (changed(connection="a/b"), "connection is no name"),
        (changed(connection="x" * 64), "connection is no name"),
        (changed(connection=7), "connection is no name"),
    ],
)
def test_what_is_no_record_says_why(line: bytes, said: str) -> None:
    """The field and what is wrong with it."""
    with pytest.raises(RecordError, match=said):
        decode_record(line)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            attrs.evolve(MESSAGE, media=attrs.evolve(MEDIA, state="stored")),
            "media.state does not go with",
        ),
        (
            attrs.evolve(
                MESSAGE,
                media=attrs.evolve(
                    MEDIA, state="stored", blob_sha256=b"x", blob_size=1, stored_at=AT
                ),
            ),
            "media.blob_sha256 is not 32 bytes",
        ),
        (
            Conversation(
                connection="sales",
                chat_kind="direct",
                chat="1@lid",
                key=ConversationKey(opened_at=AT),
                status="closed",
                messages=1,
                last_message_at=AT,
                reopened=0,
            ),
            "closed_at does not go with status",
        ),
        (
            Contact(connection="sales", is_self=False, created_at=AT, addresses=(), names=()),
            "addresses is empty",
        ),
        (
            Contact(
                connection="sales",
                is_self=False,
                created_at=AT,
                addresses=(Address(address="1@lid", created_at=AT),),
                names=(archive_records.Name(address="2@lid", source="push", name="Ana", at=AT),),
            ),
            "names has an address",
        ),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    record: archive_records.Record, said: str
) -> None:
    """What no single field tells."""
    with pytest.raises(RecordError, match=said):
        decode_record(encode_record(record))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_record_or_refused(line: bytes) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(RecordError):
        decode_record(line)
