"""What is left of a message where its former content must not show. (Pure: see also the API.)"""

import datetime as dt
import typing as t

import attrs
from hypothesis import given
from hypothesis import strategies as st

from api.former import withhold
from storage.inbox import (
    Deletion,
    MediaDetail,
    MessageDetail,
    Person,
    PollVote,
    Quoted,
    Version,
)

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ANA = Person(contact=1, name="Ana", addresses=("551@s.whatsapp.net",), shown="+551", is_self=False)
BIA = attrs.evolve(ANA, contact=2, addresses=("552@s.whatsapp.net", "9002@lid"))
SECRET = "segredo"


def message(**changes: t.Any) -> MessageDetail:
    """One in which everything that tells of its content holds the secret."""
    facts: dict[str, t.Any] = {
        "id": 1,
        "connection": "sales",
        "conversation": 1,
        "chat": "551@s.whatsapp.net",
        "direct": True,
        "sender": ANA,
        "from_me": False,
        "external_id": "A",
        "kind": "image",
        "state": "stored",
        "lane": "live",
        "text": SECRET,
        "original_text": SECRET,
        "versions": (),
        "deleted": None,
        "reactions": (),
        "votes": (PollVote(voter=ANA, options=(SECRET,), at=NOON),),
        "quoted": Quoted(external_id="Q", id=7, author=ANA, text=SECRET, kind="text"),
        "mentions": (),
        "flags": (),
        "detail": {"title": SECRET},
        "media": MediaDetail(
            kind="image",
            state="stored",
            mimetype=SECRET,
            size=1,
            name=SECRET,
            blob_sha256=SECRET,
            error=SECRET,
        ),
        "receipts": (),
        "status": None,
        "target_id": None,
        "reason": None,
        "verdict": None,
        "retries": 0,
        "sent_at": NOON,
        "received_at": NOON,
    }
    return MessageDetail(**facts | changes)


def edited(*texts: str | None) -> dict[str, t.Any]:
    versions = [Version(text=text, at=NOON, external_id=str(n)) for n, text in enumerate(texts)]
    return {"versions": tuple(versions), "text": texts[-1], "original_text": texts[0]}


def said(found: MessageDetail) -> str:
    """Everything, also what its own text for people leaves out."""
    return str(attrs.asdict(found))


@given(
    st.lists(st.just(SECRET), min_size=0, max_size=4),
    st.sampled_from([None, "edit", "poll_vote"]),
)
def test_a_deleted_message_says_nothing(texts: list[str], kind: str | None) -> None:
    """Nor does an edit or a vote by itself, which holds content of another."""
    versions = edited(*texts) if len(texts) > 1 else {}
    state: dict[str, t.Any] = (
        {"deleted": Deletion(by=ANA, at=NOON)} if kind is None else {"kind": kind}
    )
    found = withhold(message(**versions, **state), frozenset())
    assert SECRET not in said(found)
    assert found.withheld
    assert len(found.versions) == len(versions.get("versions", ()))
    assert found.media is not None


def test_an_edited_message_says_what_it_says_now() -> None:
    """The versions before are there with their times; those whom it mentions now as well."""
    changes = edited(SECRET, None, "olá @552 e @9002x") | {"mentions": (ANA, BIA), "votes": ()}
    before = message(**changes, media=None, quoted=None)
    found = withhold(before, frozenset())
    assert SECRET not in said(found)
    assert found.text == "olá @552 e @9002x"
    assert [each.text for each in found.versions] == [None, None, found.text]
    assert [each.at for each in found.versions] == [NOON] * 3
    assert found.mentions == (BIA,)
    assert found.withheld


def test_an_unchanged_message_is_as_it_was() -> None:
    """But for the quote of one that was deleted."""
    assert withhold(message(), frozenset({1, 8})) == message()
    found = withhold(message(text="sim", original_text="sim"), frozenset({7}))
    assert found.quoted is not None
    assert (found.quoted.text, found.quoted.id, found.text) == (None, 7, "sim")
    assert not found.withheld
