"""Derived ids and cleaned text, as pure functions."""

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from st_helpers import CUSTOMER, NOW, envelope, message

from storage.identity import MAX_ID_LENGTH, MAX_KEY_BYTES, bounded, clean_text, external_id
from storage.prepare import prepare, prepare_quarantine
from storage.prepare_facts import EARLIEST, FUTURE_TOLERANCE, plausible_time


@settings(deadline=None)
@given(st.text(st.characters(), max_size=50))
def test_clean_text_can_be_stored(text: str) -> None:
    """UTF-8 without NUL, and the same when cleaned again."""
    cleaned = clean_text(text)
    assert "\0" not in cleaned.encode().decode()
    assert clean_text(cleaned) == cleaned


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_good_text_is_left_alone(text: str) -> None:
    """Only NUL and surrogates change."""
    assert clean_text(text) == text


@settings(deadline=None)
@given(st.text(st.characters(), max_size=3000))
def test_bounded_fits_an_index(text: str) -> None:
    """Whatever comes in, the result fits its column and an index entry."""
    result = bounded(text, MAX_ID_LENGTH, "hashed-")
    assert len(result) <= MAX_ID_LENGTH
    assert len(result.encode()) <= MAX_KEY_BYTES


def test_derived_id_depends_on_every_part() -> None:
    """Chat, sender, time, content and ordinal; text counts where there are no raw bytes."""
    base = message(None)
    variants = [
        base,
        attrs.evolve(base, chat="x"),
        attrs.evolve(base, sender="x"),
        attrs.evolve(base, sent_at=1),
        attrs.evolve(base, raw=b"x"),
        attrs.evolve(base, ordinal=1),
        attrs.evolve(base, raw=b"", text="a"),
        attrs.evolve(base, raw=b"", text="b"),
        attrs.evolve(base, raw=b"", text="\ud800"),
    ]
    ids = [external_id(variant) for variant in variants]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("generated-") for name in ids)
    assert external_id(attrs.evolve(base, sender_name="other", kind="other")) == ids[0]


def test_given_ids_are_kept() -> None:
    """WhatsApp's own id is the identity, unless it is too long for one."""
    assert external_id(message("3EB0C0FFEE")) == "3EB0C0FFEE"
    assert external_id(message("x" * 600)).startswith("hashed-")
    assert external_id(message("x" * 600)) != external_id(message("x" * 601))


def test_plausible_times() -> None:
    """From WhatsApp's first year to a day ahead of our clock."""
    for sent_at in (EARLIEST, int(NOW), int(NOW) + FUTURE_TOLERANCE):
        assert plausible_time(sent_at, NOW) == sent_at
    for sent_at in (0, EARLIEST - 1, int(NOW) + FUTURE_TOLERANCE + 1, 2**63):
        assert plausible_time(sent_at, NOW) == NOW


@settings(deadline=None)
@given(
    chat=st.text(st.characters(), max_size=600),
    error=st.text(st.characters(), max_size=2000),
    name=st.none() | st.text(st.characters(), max_size=600),
)
def test_quarantine_takes_anything(chat: str, error: str, name: str | None) -> None:
    """Preparing a quarantine row never fails, and a redelivery has the same fingerprint."""
    bad = envelope(name, chat=chat, sender=chat)
    row, rest = prepare_quarantine(bad, error, NOW)
    assert row == prepare_quarantine(bad, error, NOW + 1)[0]
    assert rest.messages == (None,)


def test_the_phone_number_is_shown() -> None:
    """Of two addresses the number's names the chat."""
    lid = envelope(chat="9@lid", chat_alt=CUSTOMER)
    [prepared] = prepare([lid], NOW).messages
    assert prepared is not None
    assert (prepared.chat, prepared.chat_alt) == ("9@lid", CUSTOMER)
