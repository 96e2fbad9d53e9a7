"""Stored messages are read anew from the bytes that came, and only then rewritten."""

import pytest
from stored_rows import CUSTOMER, NAME, OWN, StoredRows

from actors import reprocess as module
from actors.addons import AddonResolver
from actors.reprocess import ReprocessReport, reprocess
from storage.errors import StorageUnavailableError
from whatsapp import addons, compose
from whatsapp.content import TargetKey, build_sender_key_distribution
from whatsapp.jid import Jid
from whatsapp.proto import wa_pb2

KEY = TargetKey(remote_jid=OWN[0], from_me=False, id="A1")
UNKNOWN = b"\xa2\x1f\x02\x08\x01"  # a field that no version knows


@pytest.fixture
def rows() -> StoredRows:
    return StoredRows()


async def test_what_was_unknown_is_read_by_a_later_version(rows: StoredRows) -> None:
    """The row gets kind, text and detail; what is unknown still is counted."""
    place = rows.add(
        compose.location(1.0, 2.0, name="Office"),
        external_id="A1",
        kind="unknown",
        text=None,
        detail={},
    )
    reaction = rows.add(
        compose.reaction(KEY, "👍", 5),
        external_id="A2",
        kind="unknown",
        lane="live",
        target_id=None,
        target_author=None,
    )
    rows.add(UNKNOWN, external_id="A3")
    assert await reprocess(rows) == ReprocessReport(read=3, changed=2, still_unknown=1)  # type: ignore[arg-type]
    assert (rows.row(place).kind, rows.row(place).text) == ("location", "Office")
    assert rows.row(place).detail["latitude"] == 1.0
    row = rows.row(reaction)
    assert (row.kind, row.lane, row.target_id, row.target_author) == (
        "reaction",
        "side",
        "A1",
        OWN[0],
    )
    again = await reprocess(rows, NAME)  # type: ignore[arg-type]
    assert again == ReprocessReport(read=3, still_unknown=1)


async def test_a_reading_that_changed_is_rewritten(rows: StoredRows) -> None:
    """Not only unknown ones: any column that reads differently now."""
    poll = compose.poll("Lunch?", ["a", "b"], selectable=1, secret=b"s" * 32)
    for number, (name, value) in enumerate(
        [
            ("text", "old"),
            ("detail", {}),
            ("flags", ("odd",)),
            ("mentions", ("1@lid",)),
            ("quoted_id", "Q"),
        ]
    ):
        rows.add(poll, external_id=f"A{number}", **{name: value})
    rows.add(poll, external_id="SAME")
    report = await reprocess(rows)  # type: ignore[arg-type]
    assert report == ReprocessReport(read=6, changed=5)
    assert {row.text for row in rows.rows} == {"Lunch?"}
    assert all(row.detail["options"] == ["a", "b"] and not row.flags for row in rows.rows)


async def test_rows_that_nobody_wrote_are_left_alone(rows: StoredRows) -> None:
    """System messages, calls, and messages without bytes: there is nothing to read in them."""
    rows.add(compose.text("x"), external_id="S", kind="system", text="joined")
    rows.add(compose.text("x"), external_id="C", kind="call", raw=b"", text=None)
    rows.add(compose.text("x"), external_id="P", kind="protocol", raw=b"", text=None)
    before = list(rows.rows)
    assert await reprocess(rows) == ReprocessReport()  # type: ignore[arg-type]
    assert rows.rows == before


async def test_messages_that_turn_out_to_be_none_show_nothing(rows: StoredRows) -> None:
    """They go to the side lane, under the kind of messages that show nothing."""
    raw = build_sender_key_distribution("12036300000@g.us", b"key")
    row = rows.add(raw, external_id="A1", kind="unknown", lane="live")
    await reprocess(rows)  # type: ignore[arg-type]
    assert (rows.row(row).kind, rows.row(row).lane) == ("protocol", "side")


async def test_opened_answers_stay_open(rows: StoredRows) -> None:
    """Their bytes alone say less than the row does."""
    poll = compose.poll("Lunch?", ["Tea", "Café"], selectable=1, secret=b"s" * 32)
    rows.add(poll, external_id="A1", from_me=True)
    parent = addons.Parent(id="A1", authors=OWN, raw=poll)
    vote = addons.encrypt_vote(["Tea"], parent, CUSTOMER[0], b"i" * 12)
    answer = rows.add(compose.poll_vote(KEY, vote, 5), external_id="V")
    sealed = addons.encrypt_reaction("👍", 5, parent, CUSTOMER[0], b"i" * 12)
    reaction = rows.add(compose.encrypted_reaction(KEY, sealed), external_id="R")
    resolver = AddonResolver(rows, lambda _name: tuple(Jid.parse(jid) for jid in OWN))  # type: ignore[arg-type]
    await resolver._look()
    before = list(rows.rows)
    assert before[answer - 1].detail["options"] == ["Tea"]
    assert before[reaction - 1].kind == "reaction"
    assert (await reprocess(rows)).changed == 0  # type: ignore[arg-type]
    assert rows.rows == before


async def test_encrypted_answers_of_an_unknown_kind_become_pending(rows: StoredRows) -> None:
    """An older version did not know them; the resolver then opens them."""
    add_on = wa_pb2.EncryptedAddOn(enc_payload=b"p" * 20, enc_iv=b"i" * 12)
    add_on.target_message_key.id = b"A1"
    message = wa_pb2.Message(enc_reaction_message=add_on.SerializeToString())
    row = rows.add(message.SerializeToString(), external_id="R", kind="unknown", target_id=None)
    await reprocess(rows)  # type: ignore[arg-type]
    assert (rows.row(row).kind, rows.row(row).target_id) == ("encrypted_reaction", "A1")


async def test_another_address_of_the_same_person_is_no_change(rows: StoredRows) -> None:
    """The author of a target may be known by number or by LID."""
    edit = compose.edit(TargetKey(remote_jid=OWN[0], from_me=True, id="A1"), "new", 5)
    rows.add(edit, external_id="E", target_author=CUSTOMER[1])
    rows.add(compose.reaction(KEY, "👍", 5), external_id="R", target_author=OWN[1])
    assert (await reprocess(rows)).changed == 0  # type: ignore[arg-type]


async def test_a_refused_row_stops_nothing(rows: StoredRows) -> None:
    """It is counted; and messages of accounts that are not known are left as they are."""
    refused = rows.add(compose.text("a"), external_id="A1", kind="unknown")
    fine = rows.add(compose.text("b"), external_id="A2", kind="unknown")
    rows.add(compose.text("c"), external_id="A3", kind="unknown", connection="unpaired")
    rows.add(compose.text("d"), external_id="A4", kind="unknown", chat="a:b@x")
    rows.add(compose.text("e"), external_id="A5", kind="unknown", raw=b"\xff")
    rows.refused.add(refused)
    report = await reprocess(rows)  # type: ignore[arg-type]
    assert report == ReprocessReport(read=5, changed=1, still_unknown=3, rejected=1)
    assert rows.row(fine).kind == "text"


async def test_all_pages_are_read(rows: StoredRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a database that goes away ends it: what was rewritten stays so."""
    monkeypatch.setattr(module, "PAGE", 2)
    rows.lid_known = False
    for number in range(5):
        rows.add(compose.text("a"), external_id=f"A{number}", kind="unknown", text=None)
    assert (await reprocess(rows)).changed == 5  # type: ignore[arg-type]
    assert rows.reads == [0, 2, 4, 5]
    rows.away = 1
    with pytest.raises(StorageUnavailableError):
        await reprocess(rows)  # type: ignore[arg-type]
