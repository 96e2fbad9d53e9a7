"""From an opened stanza to the envelope: what makes a message, and what only changes records."""

import typing as t

import attrs
import pytest

from actors.decryption import Opened
from actors.inbound import envelope_for, is_ignored, peer_news, receipt_types
from actors.settings import ConnectionSettings
from storage.api import ChatKind, Lane, RecordKind
from storage.facts import ChatSettings
from whatsapp.content import Content
from whatsapp.device import Device
from whatsapp.errors import DecryptionError, DecryptionFailure
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.stanzas import MessageStanza, parse_message

OWN = Jid.parse("15550009999:3@s.whatsapp.net")
OWN_LID = Jid.parse("900900:3@lid")
DEVICE = attrs.evolve(Device.generate(lambda n: b"\x07" * n), jid=OWN, lid=OWN_LID)


def stanza(count: int | None = None, **attributes: t.Any) -> MessageStanza:
    given = {
        "id": "3EB0",
        "from": Jid.parse("15550001111:2@s.whatsapp.net"),
        "t": 1_790_000_000,
        "notify": "Ana",
    }
    enc = Node("enc", {"type": "msg", "v": 2, "count": count}, b"ciphertext")
    return parse_message(Node("message", given | attributes, (enc,)), OWN, OWN_LID)


def opened(*contents: Content, failure: DecryptionError | None = None) -> Opened:
    return Opened(contents=contents, changes=(), failure=failure)


TEXT = Content(kind="text", text="hello", raw=b"raw")
NOTHING = Content(kind="none", raw=b"keys")


def test_a_text_is_a_live_message_of_its_author() -> None:
    """Chat and author are bare addresses, with the other address beside them where it is known."""
    envelope = envelope_for("sales", DEVICE, stanza(sender_lid="77@lid"), opened(TEXT))
    message = envelope.message
    assert message is not None
    assert (message.chat, message.chat_alt) == ("15550001111@s.whatsapp.net", "77@lid")
    assert (message.sender, message.sender_alt) == ("15550001111@s.whatsapp.net", "77@lid")
    assert (message.kind, message.text, message.lane) == ("text", "hello", Lane.LIVE)
    assert message.chat_kind is ChatKind.DIRECT
    assert envelope.handled is None


def test_a_copy_of_the_teams_own_message_belongs_to_the_recipient() -> None:
    """From the phone to a customer: the customer's chat, written by ourselves."""
    copy = stanza(
        **{"from": OWN.with_device(0), "recipient": Jid.parse("15550001111@s.whatsapp.net")}
    )
    message = envelope_for("sales", DEVICE, copy, opened(TEXT)).message
    assert message is not None
    assert message.from_me
    assert message.chat == "15550001111@s.whatsapp.net"
    assert (message.sender, message.sender_alt) == ("15550009999@s.whatsapp.net", "900900@lid")
    assert receipt_types(copy, opened(TEXT)) == ("sender",)


def test_answers_to_other_messages_open_nothing() -> None:
    """A reaction is stored beside the conversations' own course."""
    reaction = Content(kind="reaction", text="👍", target_id="X", raw=b"")
    message = envelope_for("sales", DEVICE, stanza(), opened(reaction)).message
    assert message is not None
    assert message.lane is Lane.SIDE


def test_the_time_of_disappearing_messages_is_a_setting_of_the_chat() -> None:
    """What the other side chose, since the second of the message; switched off: 0."""
    for seconds in (86_400, 0):
        told = Content(kind="disappearing", detail={"expiration": seconds}, raw=b"")
        [fact] = envelope_for("sales", DEVICE, stanza(), opened(told)).facts
        assert fact == ChatSettings(
            chat="15550001111@s.whatsapp.net", direct=True, at=1_790_000_000, expiration=seconds
        )


def test_keys_alone_are_remembered_as_handled() -> None:
    """A stanza without a message leaves a key, so that its redelivery is known."""
    envelope = envelope_for("sales", DEVICE, stanza(), opened(NOTHING))
    assert envelope.message is None
    assert envelope.handled == "15550001111@s.whatsapp.net 15550001111@s.whatsapp.net 3EB0"


def test_a_retry_without_content_resolves_its_placeholder() -> None:
    """What we asked for again may turn out to be no message; the placeholder must not stay."""
    message = envelope_for("sales", DEVICE, stanza(count=1), opened(NOTHING)).message
    assert message is not None
    assert (message.kind, message.lane, message.raw) == ("protocol", Lane.SIDE, b"")


def test_what_cannot_be_read_is_a_placeholder_with_the_reason() -> None:
    """I5: an undecryptable and a withheld message are rows."""
    failure = DecryptionError(DecryptionFailure.BAD_MAC, "tampered")
    message = envelope_for("sales", DEVICE, stanza(), opened(failure=failure)).message
    assert message is not None
    assert message.kind == "undecryptable"
    assert message.reason == "bad_mac: tampered"
    withheld = attrs.evolve(stanza(), encs=(), unavailable="view_once")
    message = envelope_for("sales", DEVICE, withheld, opened()).message
    assert message is not None
    assert message.reason == "withheld: view_once"


def test_messages_of_the_own_phone_to_this_device_are_kept_sealed() -> None:
    """They are records, never rows of the inbox."""
    peer = stanza(category="peer", **{"from": OWN.with_device(0)})
    offer = Content(kind="none", protocol="history_sync_notification", raw=b"offer")
    envelope = envelope_for("sales", DEVICE, peer, opened(offer), peer_news(peer, opened(offer)))
    assert envelope.message is None
    [record] = envelope.records
    assert (record.kind, record.key, record.value) == (RecordKind.PEER, "3EB0", b"offer")
    assert receipt_types(peer, opened(offer)) == ("peer_msg", "hist_sync")


@pytest.mark.parametrize(
    ("chat", "option"),
    [
        ("1-2@g.us", "groups"),
        ("status@broadcast", "status_broadcasts"),
        ("99@newsletter", "newsletters"),
    ],
)
def test_chats_nobody_wants_are_ignored(chat: str, option: str) -> None:
    """Groups, status broadcasts and channels follow their switches."""
    message = stanza(**{"from": Jid.parse(chat), "participant": Jid.parse("5:1@lid")})
    settings = ConnectionSettings(version=(2, 3000, 1), root_key=bytes(32))
    assert is_ignored(message, attrs.evolve(settings, **{option: False}))
    assert not is_ignored(message, attrs.evolve(settings, **{option: True}))
    assert not is_ignored(stanza(), settings)
