"""What app state says of contacts, chats and labels."""

import typing as t

import hypothesis
import hypothesis.strategies as st
import pytest
from google.protobuf.message import DecodeError

from actors.app_state_facts import actions_to_facts
from storage.facts import (
    AddressPair,
    ChatSettings,
    ContactName,
    Fact,
    Label,
    LabelLink,
    NameSource,
)
from whatsapp.appstate import actions
from whatsapp.appstate.actions import Action
from whatsapp.appstate.mutations import Mutation, Operation
from whatsapp.jid import Jid
from whatsapp.proto.sync_pb2 import SyncActionValue

NUMBER: t.Final = Jid.parse("15550001111@s.whatsapp.net")
LID: t.Final = Jid.parse("100000000000001@lid")
GROUP: t.Final = Jid.parse("120363000000000001@g.us")
OWN: t.Final = "15550009999@s.whatsapp.net"
NOW: t.Final = 1_790_000_500.0
THEN_MS: t.Final = 1_790_000_000_000
THEN: t.Final = THEN_MS / 1000


def facts_of(action: Action, operation: Operation = Operation.SET) -> tuple[Fact, ...]:
    mutation = Mutation(operation, action.index, action.value, action.version)
    return actions_to_facts([mutation], NOW, OWN)


def saved(address: Jid, name: str) -> ContactName:
    return ContactName(address=str(address), source=NameSource.SAVED, name=name, at=THEN)


def test_a_contact_has_a_name_and_perhaps_another_address() -> None:
    """Whichever address it is filed under."""
    pair = AddressPair(str(NUMBER), str(LID), "app_state")
    by_number = actions.contact(
        NUMBER, full_name="Ana Souza", first_name="Ana", lid=LID, at=THEN_MS
    )
    assert facts_of(by_number) == (pair, saved(NUMBER, "Ana Souza"))
    by_lid = actions.contact(LID, first_name="Ana", number=NUMBER, at=THEN_MS)
    assert facts_of(by_lid) == (pair, saved(LID, "Ana"))
    alone = actions.contact(NUMBER, full_name="Ana", at=THEN_MS)
    assert facts_of(alone) == (saved(NUMBER, "Ana"),)
    assert facts_of(alone, Operation.REMOVE) == (saved(NUMBER, ""),)
    assert facts_of(actions.lid_contact(LID, full_name="Bia", at=THEN_MS)) == (saved(LID, "Bia"),)


def test_usernames_are_names_too() -> None:
    """From their own source."""
    action = actions.contact(NUMBER, full_name="Ana", at=THEN_MS)
    action.value.contact_action.username = b"ana.s"
    username = ContactName(address=str(NUMBER), source=NameSource.USERNAME, name="ana.s", at=THEN)
    assert facts_of(action) == (saved(NUMBER, "Ana"), username)


def test_a_pair_needs_both_forms() -> None:
    """Two numbers or two LIDs are nobody's two addresses."""
    assert facts_of(actions.number_of_lid(LID, NUMBER, at=THEN_MS)) == (
        AddressPair(str(NUMBER), str(LID), "app_state"),
    )
    assert facts_of(actions.number_of_lid(LID, LID, at=THEN_MS)) == ()
    assert facts_of(actions.number_of_lid(NUMBER, NUMBER, at=THEN_MS)) == ()
    assert facts_of(actions.number_of_lid(LID, NUMBER, at=THEN_MS), Operation.REMOVE) == ()


def test_the_own_name() -> None:
    """As the account chose it."""
    name = ContactName(address=OWN, source=NameSource.PUSH, name="Vendas", at=THEN)
    assert facts_of(actions.push_name("Vendas", at=THEN_MS)) == (name,)
    mutation = Mutation(Operation.SET, ("setting_pushName",), SyncActionValue())
    assert actions_to_facts([mutation], NOW) == ()


@pytest.mark.parametrize(
    ("action", "settings"),
    [
        (actions.mute(GROUP, THEN_MS + 60_000, at=THEN_MS), {"muted_until": THEN + 60}),
        (actions.mute(GROUP, actions.FOR_EVER, at=THEN_MS), {"muted_until": -1}),
        (actions.mute(GROUP, 1 << 62, at=THEN_MS), {"muted_until": -1}),
        (actions.mute(GROUP, None, at=THEN_MS), {"muted_until": 0}),
        (actions.archive(GROUP, True, at=THEN_MS), {"archived": True}),
        (actions.archive(GROUP, False, at=THEN_MS), {"archived": False}),
        (actions.pin(GROUP, True, at=THEN_MS), {"pinned": True}),
        (actions.mark_read(GROUP, False, at=THEN_MS), {"unread": True}),
        (
            actions.mark_read(GROUP, True, at=THEN_MS, last_message=int(THEN) - 5),
            {"unread": False, "read_until": THEN - 5},
        ),
    ],
)
def test_settings_of_chats(action: Action, settings: dict[str, t.Any]) -> None:
    """One fact each, which says nothing of the other settings."""
    assert facts_of(action) == (ChatSettings(chat=str(GROUP), direct=False, at=THEN, **settings),)


def test_removed_settings_are_off() -> None:
    """A read mark that is removed says nothing."""
    for action, off in (
        (actions.mute(NUMBER, actions.FOR_EVER, at=THEN_MS), {"muted_until": 0.0}),
        (actions.archive(NUMBER, True, at=THEN_MS), {"archived": False}),
        (actions.pin(NUMBER, True, at=THEN_MS), {"pinned": False}),
    ):
        assert facts_of(action, Operation.REMOVE) == (
            ChatSettings(chat=str(NUMBER), direct=True, at=THEN, **off),
        )
    assert facts_of(actions.mark_read(NUMBER, True, at=THEN_MS), Operation.REMOVE) == ()


def test_labels() -> None:
    """What they are, and what they are on."""
    label = actions.label_edit("7", "Novo", color=3, at=THEN_MS)
    assert facts_of(label) == (Label(id="7", name="Novo", color=3, at=THEN),)
    gone = Label(id="7", name="Novo", color=3, deleted=True, at=THEN)
    assert facts_of(label, Operation.REMOVE) == (gone,)
    link = LabelLink(label="7", chat=str(NUMBER), direct=True, labelled=True, at=THEN)
    assert facts_of(actions.label_chat("7", NUMBER, True, at=THEN_MS)) == (link,)
    on_message = actions.label_message("7", GROUP, "AABB", False, at=THEN_MS)
    assert facts_of(on_message) == (
        LabelLink(
            label="7", chat=str(GROUP), direct=False, message_id="AABB", labelled=False, at=THEN
        ),
    )


def test_nothing_stored_is_ever_deleted() -> None:
    """Deleted chats, cleared ones, deleted and starred messages: passed over."""
    for index in (
        ("deleteChat", str(NUMBER), "1"),
        ("clearChat", str(NUMBER), "1", "0"),
        ("deleteMessageForMe", str(NUMBER), "AABB", "0", "0"),
        ("star", str(NUMBER), "AABB", "0", "0"),
        ("tomorrow's invention",),
        (),
    ):
        assert facts_of(Action("regular", index, SyncActionValue(timestamp=THEN_MS), 1)) == ()
    assert facts_of(actions.delete_chat(NUMBER, at=THEN_MS)) == ()


def test_times_are_never_in_the_future() -> None:
    """Nothing could replace such a fact; one without a time is as of now."""
    for told in (0, -5, THEN_MS * 2, (1 << 63) - 1):
        [fact] = facts_of(actions.pin(NUMBER, True, at=told))
        assert isinstance(fact, ChatSettings)
        assert fact.at == NOW


@pytest.mark.parametrize(
    "text", ["", "x", "status@broadcast", "1@newsletter", "@s.whatsapp.net", "1:x@lid", "9" * 999]
)
def test_what_is_no_chat_is_passed_over(text: str) -> None:
    """Whatever the action."""
    for kind in ("contact", "lid_contact", "mute", "archive", "pin_v1", "markChatAsRead"):
        assert facts_of(Action("regular", (kind, text), SyncActionValue(), 1)) == ()
    assert facts_of(Action("regular", ("label_jid", "7", text), SyncActionValue(), 1)) == ()


@hypothesis.given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
        | st.sampled_from(
            [str(NUMBER), str(LID), "contact", "mute", "label_jid", "label_message", "pin_v1"]
        ),
        max_size=6,
    ),
    st.binary(max_size=40),
    st.sampled_from(Operation),
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_any_action_is_facts(index: list[str], value: bytes, operation: Operation) -> None:
    """Or none; there is no action that cannot be read."""
    try:
        parsed = SyncActionValue.FromString(value)
    except DecodeError:  # reads as empty, see read_action
        parsed = SyncActionValue()
    for fact in actions_to_facts([Mutation(operation, tuple(index), parsed)], NOW, OWN):
        assert isinstance(fact, t.get_args(Fact))
