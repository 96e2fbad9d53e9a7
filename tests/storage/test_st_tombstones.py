"""Tombstones: what a batch loses to them, without any storage."""

import attrs
from hypothesis import given
from hypothesis import strategies as st
from st_helpers import CUSTOMER, CUSTOMER_LID, DAY, GROUP, KEY, NOW, OTHER, envelope

from storage.api import Envelope, Lane, Outcome, RecordChange, RecordKind, Verdict
from storage.facts import AddressPair, ChatSettings, ContactName, NameSource
from storage.tombstones import StoneRow, Tombstones
from whatsapp.proto import wa_pb2


def buried(*addresses: str, at: float = NOW) -> Tombstones:
    stones = Tombstones(KEY)
    stones.bury("sales", addresses, at)
    return stones


def test_nobody_forgotten_changes_nothing() -> None:
    """The batch is the very same, and nothing is noted; so for other connections."""
    batch = [envelope("A1")]
    assert Tombstones(KEY).sift(batch, NOW).batch is batch
    sifted = buried(CUSTOMER).sift([envelope("A1", connection="support")], NOW)
    assert (sifted.dropped, sifted.notes) == (frozenset(), None)


def test_hashes_need_the_key() -> None:
    """Another secret gives other hashes; they are as long as they are stored."""
    one, other = Tombstones(KEY), Tombstones(bytes(32))
    assert len(one.hash(CUSTOMER)) == 32
    assert one.hash(CUSTOMER) != other.hash(CUSTOMER)
    assert one.hash(CUSTOMER) != one.hash(OTHER)


def test_loaded_ones_are_as_those_made() -> None:
    """After a restart."""
    stones = Tombstones(KEY)
    stones.load([StoneRow("sales", stones.hash(CUSTOMER), NOW, returned=False)])
    assert stones.sift([envelope("A1")], NOW).dropped == {0}


def test_the_rest_of_an_envelope_stays() -> None:
    """Positions, records and other people's facts; the outcomes fit the batch."""
    name = ContactName(address=OTHER, source=NameSource.PUSH, name="Bia", at=NOW)
    theirs = ContactName(address=CUSTOMER, source=NameSource.PUSH, name="Ana", at=NOW)
    item = attrs.evolve(envelope("A1"), facts=(name, theirs))
    sifted = buried(CUSTOMER).sift([envelope("B1", chat=OTHER), item], NOW)
    assert sifted.dropped == {1}
    assert sifted.batch[1] == attrs.evolve(item, message=None, facts=(name,))
    assert sifted.notes == {"dropped": {"sales": 1}, "returned": [], "joined": []}


def test_another_address_is_forgotten_with_the_first() -> None:
    """However it shows; for as long as the person has not come back."""
    stones = buried(CUSTOMER)
    pair = Envelope(connection="sales", facts=(AddressPair(CUSTOMER, CUSTOMER_LID, "usync"),))
    sifted = stones.sift([pair, envelope("A1", chat=CUSTOMER_LID)], NOW + DAY)
    assert sifted.dropped == {1}
    assert sifted.batch[0].facts == ()
    assert sifted.notes is not None
    assert [each["known"] for each in sifted.notes["joined"]] == [stones.hash(CUSTOMER).hex()]


def test_who_has_come_back_is_known_again() -> None:
    """Pairs and settings are taken, if they are young enough."""
    stones = buried(CUSTOMER)
    young = envelope("A1", sent_at=int(NOW) + 60)
    assert stones.sift([young], NOW + 60).dropped == frozenset()
    settings = [ChatSettings(chat=CUSTOMER, direct=True, at=NOW + each) for each in (-1, 1)]
    pair = AddressPair(CUSTOMER, CUSTOMER_LID, "usync")
    [item] = stones.sift([Envelope(connection="sales", facts=(*settings, pair))], NOW + 60).batch
    assert item.facts == (settings[1], pair)
    assert stones.sift([envelope("A0")], NOW + 60).dropped == {0}


def test_sessions_are_not_stored_again() -> None:
    """With the devices of somebody who is forgotten: they are deleted, so that no older one is
    left; with the message that shows that they are back they are kept, from then on always."""
    user, lid = CUSTOMER.partition("@")[0], CUSTOMER_LID.partition("@")[0]
    theirs = (
        RecordChange(RecordKind.SESSION, f"{user}.0", b"s"),
        RecordChange(RecordKind.SESSION, f"{lid}_1.3", b"s"),
        RecordChange(RecordKind.IDENTITY, f"{user}_128.7", b"i"),
        RecordChange(RecordKind.SENDER_KEY, f"{GROUP}::{lid}_129.0", b"k"),
    )
    others = (
        RecordChange(RecordKind.SESSION, f"{OTHER.partition('@')[0]}.0", b"s"),
        RecordChange(RecordKind.SESSION, f"{lid}.0", b"a number like the LID"),
        RecordChange(RecordKind.SENDER_KEY, f"{GROUP}::distributed", b"{}"),
        RecordChange(RecordKind.PREKEY, user, b"p"),
    )
    stones = buried(CUSTOMER, CUSTOMER_LID)
    item = attrs.evolve(envelope("A1"), records=(*theirs, *others))
    group = attrs.evolve(envelope("O1", chat=GROUP, from_me=True), records=item.records)
    for each in stones.sift([item, group], NOW).batch:
        gone = tuple(attrs.evolve(change, value=None) for change in theirs)
        assert each.records == (*gone, *others)
    back = attrs.evolve(item, message=envelope("A2", sent_at=int(NOW) + 60).message)
    pair = AddressPair(CUSTOMER, CUSTOMER_LID, "usync")
    lids = envelope("A3", chat=CUSTOMER_LID, sent_at=int(NOW) + 60)
    kept = stones.sift([back, lids, attrs.evolve(item, facts=(pair,))], NOW + 60).batch
    assert kept[0].records[0] == theirs[0]
    assert kept[2].records == (*theirs, *others)


def test_others_are_redacted_if_it_is_as_old() -> None:
    """A quote of the person in somebody's older message; a younger one is as it was written."""
    made = wa_pb2.Message()
    made.extended_text_message.text = b"yes"
    made.extended_text_message.context_info.participant = CUSTOMER.encode()
    made.extended_text_message.context_info.quoted_message = b"secret"
    item = envelope(
        "B1",
        chat=GROUP,
        sender=OTHER,
        quoted_id="A1",
        quoted_author=CUSTOMER,
        mentions=(CUSTOMER, OTHER),
        raw=made.SerializeToString(),
    )
    [old] = buried(CUSTOMER).sift([item], NOW).batch
    assert old.message is not None
    assert (old.message.quoted_id, old.message.mentions) == (None, (OTHER,))
    assert b"secret" not in old.message.raw
    assert buried(CUSTOMER, at=NOW - 1).sift([item], NOW).batch == [item]


@given(
    at=st.integers(-5, 5),
    lane=st.sampled_from(Lane),
    from_me=st.booleans(),
    group=st.booleans(),
    external=st.sampled_from(["A1", None]),
)
def test_the_moment_divides(
    at: int, lane: Lane, from_me: bool, group: bool, external: str | None
) -> None:
    """Of the person, or in the chat with them: up to the moment dropped, from then on taken."""
    where = GROUP if group else CUSTOMER
    item = envelope(external, chat=where, lane=lane, from_me=from_me, sent_at=int(NOW) + at)
    sifted = buried(CUSTOMER).sift([item], NOW + 10)
    gone = at <= 0 and not (group and from_me)
    assert sifted.dropped == ({0} if gone else frozenset())
    fate = sifted.outcomes([Outcome(verdict=Verdict.RECORDED)])[0].verdict
    assert (fate is Verdict.FORGOTTEN) == gone
