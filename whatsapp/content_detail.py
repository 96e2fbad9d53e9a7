"""What each kind of content has besides its text: coordinates, cards, options, choices.

Everything is ready for JSON and bounded: texts in length and without NUL, lists in number,
numbers finite. What cannot be read is left out.
Source: docs/protocol.md#message-content
"""

import collections.abc as cabc
import typing as t

from whatsapp.content_business import BUSINESS_READERS
from whatsapp.content_parts import (
    Detail,
    Reader,
    clean,
    fields,
    fitting,
    lenient,
    named,
    pick,
    reader,
)
from whatsapp.proto import wa_pb2

MAX_CARDS: t.Final = 257  # contacts in one message
MAX_VCARD: t.Final = 16_384  # characters: a card may hold a picture
MAX_VCARDS: t.Final = 131_072  # characters in one message; further contacts are names only
MAX_OPTIONS: t.Final = 64  # of a poll
MAX_OPTION: t.Final = 1_024  # characters

RESPONSES: t.Final = ("unknown", "going", "not_going", "maybe")
SECRET_TYPES: t.Final = (
    "unknown",
    "event_edit",
    "message_edit",
    "message_schedule",
    "poll_edit",
    "poll_add_option",
)
_OUTCOMES: t.Final = (
    "connected",
    "missed",
    "failed",
    "rejected",
    "accepted_elsewhere",
    "ongoing",
    "silenced",
    "silenced_unknown_caller",
)
_ASSOCIATIONS: t.Final = (
    "unknown",
    "album",
    "bot_plugin",
    "event_cover_image",
    "status_poll",
    "hd_video",
    "status_reshare",
    "media_poll",
    "status_add_yours",
    "status_notification",
    "hd_image",
    "sticker_annotation",
    "motion_photo",
)
_ALBUM: t.Final = 1


def read_detail(field: str, payload: bytes) -> Detail:
    """The detail of one field of a message; empty where the kind has none."""
    read = READERS.get(field)
    return {} if read is None else fitting(read(payload))


def context_detail(context: wa_pb2.ContextInfo) -> Detail:
    """What the context of a message tells besides quote and mentions."""
    detail: Detail = {}
    if context.external_ad_reply:
        ad = lenient(wa_pb2.ExternalAdReplyInfo, context.external_ad_reply)
        referral = pick(
            ad,
            title="title",
            body="body",
            url="source_url",
            source="source_type",
            id="source_id",
            media_url="media_url",
            thumbnail_url="thumbnail_url",
            click_id="ctwa_clid",
            ref="ref",
            app="source_app",
        )
        if referral:
            detail["referral"] = referral
    if context.stanza_id and context.remote_jid:
        detail["quoted_chat"] = clean(context.remote_jid)
    detail |= pick(context, entry_point="entry_point_conversion_source")
    return detail


def association_detail(data: bytes | None) -> Detail:
    """To which message another one belongs: ``album`` names the head of an album."""
    association = lenient(wa_pb2.MessageAssociation, data)
    parent = clean(association.parent_message_key.id)
    if not parent:
        return {}
    if association.association_type == _ALBUM:
        return {"album": parent}
    kind = named(association.association_type, _ASSOCIATIONS)
    return {"association": {"kind": kind, "id": parent}}


def _preview(message: wa_pb2.ExtendedTextMessage) -> Detail:
    return {"preview": pick(message, url="matched_text", title="title", description="description")}


def _card(message: wa_pb2.ContactMessage) -> Detail:
    return {"name": clean(message.display_name), "vcard": clean(message.vcard, MAX_VCARD)}


def _cards(message: wa_pb2.ContactsArrayMessage) -> Detail:
    contacts, left = [], MAX_VCARDS
    for contact in message.contacts[:MAX_CARDS]:
        card = _card(contact)
        left -= len(card["vcard"])
        contacts.append(card if left >= 0 else {"name": card["name"]})
    return {"name": clean(message.display_name), "contacts": contacts}


def _place(message: wa_pb2.LocationMessage) -> Detail:
    return pick(
        message,
        latitude="degrees_latitude",
        longitude="degrees_longitude",
        name="name",
        address="address",
        url="url",
        comment="comment",
        accuracy="accuracy_in_meters",
        live="is_live",
    )


def _poll(message: wa_pb2.PollCreationMessage) -> Detail:
    detail: Detail = {
        "name": clean(message.name),
        "options": [option_name(option) for option in message.options[:MAX_OPTIONS]],
        "selectable": message.selectable_options_count,
        **pick(message, ends_at="end_time"),
    }
    if message.HasField("correct_answer"):
        detail["correct"] = option_name(message.correct_answer)
    return detail


def option_name(option: wa_pb2.PollCreationMessage.Option) -> str:
    """An option of a poll as it is shown, in the poll and in votes alike."""
    return clean(option.option_name, MAX_OPTION)


def _poll_result(message: wa_pb2.PollResultSnapshotMessage) -> Detail:
    votes = [
        {"option": clean(vote.option_name), "votes": vote.option_vote_count}
        for vote in message.poll_votes[:MAX_OPTIONS]
    ]
    return {"name": clean(message.name), "votes": votes}


def event_detail(message: wa_pb2.EventMessage) -> Detail:
    """An event: also what an encrypted change of one holds."""
    return {
        **pick(
            message,
            name="name",
            description="description",
            start="start_time",
            end="end_time",
            link="join_link",
        ),
        "canceled": message.is_canceled,
        "location": _place(message.location),
    }


def response_detail(message: wa_pb2.EventResponseMessage) -> Detail:
    """The answer to an event, decrypted."""
    return {
        "response": named(message.response, RESPONSES),
        **pick(message, sent_at_ms="timestamp_ms", guests="extra_guest_count"),
    }


def _secret(message: wa_pb2.EncryptedAddOn) -> Detail:
    return {"type": named(message.secret_enc_type, SECRET_TYPES)}


def _mark(*names: str) -> Reader:
    def build(message: wa_pb2.MarkInChatMessage) -> Detail:
        return {"action": named(message.type, names), **pick(message, sent_at_ms="timestamp_ms")}

    return reader(wa_pb2.MarkInChatMessage, build)


def _call_log(message: wa_pb2.CallLogMessage) -> Detail:
    return {
        "outcome": named(message.call_outcome, _OUTCOMES),
        **pick(message, video="is_video", seconds="duration_secs"),
    }


def _payment(kind: str) -> Reader:
    return lambda _payload: {"payment": kind}


_DIMENSIONS: t.Final = {"width": "width", "height": "height"}
_POLL: t.Final = reader(wa_pb2.PollCreationMessage, _poll)
_POLL_RESULT: t.Final = reader(wa_pb2.PollResultSnapshotMessage, _poll_result)
_VIDEO: t.Final = fields(wa_pb2.VideoMessage, **_DIMENSIONS, seconds="seconds")

READERS: t.Final[cabc.Mapping[str, Reader]] = {
    "extended_text_message": reader(wa_pb2.ExtendedTextMessage, _preview),
    "image_message": fields(wa_pb2.ImageMessage, **_DIMENSIONS),
    "video_message": _VIDEO,
    "ptv_message": _VIDEO,
    "audio_message": fields(wa_pb2.AudioMessage, seconds="seconds"),
    "document_message": fields(
        wa_pb2.DocumentMessage, title="title", name="file_name", pages="page_count"
    ),
    "sticker_message": fields(
        wa_pb2.StickerMessage, **_DIMENSIONS, animated="is_animated", emojis="emojis"
    ),
    "sticker_pack_message": fields(
        wa_pb2.StickerPackMessage, id="sticker_pack_id", name="name", publisher="publisher"
    ),
    "album_message": fields(
        wa_pb2.AlbumMessage, images="expected_image_count", videos="expected_video_count"
    ),
    "contact_message": reader(wa_pb2.ContactMessage, _card),
    "contacts_array_message": reader(wa_pb2.ContactsArrayMessage, _cards),
    "location_message": reader(wa_pb2.LocationMessage, _place),
    "live_location_message": fields(
        wa_pb2.LiveLocationMessage,
        latitude="degrees_latitude",
        longitude="degrees_longitude",
        accuracy="accuracy_in_meters",
        speed="speed_in_mps",
        heading="degrees_clockwise_from_magnetic_north",
        sequence="sequence_number",
    ),
    "reaction_message": fields(wa_pb2.ReactionMessage, sent_at_ms="sender_timestamp_ms"),
    "poll_creation_message": _POLL,
    "poll_creation_message_v2": _POLL,
    "poll_creation_message_v3": _POLL,
    "poll_creation_message_v5": _POLL,
    "poll_creation_message_v6": _POLL,
    "poll_update_message": fields(wa_pb2.PollUpdateMessage, sent_at_ms="sender_timestamp_ms"),
    "poll_result_snapshot_message": _POLL_RESULT,
    "poll_result_snapshot_message_v2": _POLL_RESULT,
    "poll_result_snapshot_message_v3": _POLL_RESULT,
    "event_message": reader(wa_pb2.EventMessage, event_detail),
    "secret_encrypted_message": reader(wa_pb2.EncryptedAddOn, _secret),
    "pin_in_chat_message": _mark("unknown", "pin", "unpin"),
    "keep_in_chat_message": _mark("unknown", "keep", "undo"),
    "group_invite_message": fields(
        wa_pb2.GroupInviteMessage,
        group="group_jid",
        code="invite_code",
        name="group_name",
        expires_at="invite_expiration",
    ),
    "call_log_messsage": reader(wa_pb2.CallLogMessage, _call_log),
    "scheduled_call_creation_message": fields(
        wa_pb2.ScheduledCallCreationMessage, at_ms="scheduled_timestamp_ms"
    ),
    "send_payment_message": _payment("sent"),
    "request_payment_message": _payment("requested"),
    "decline_payment_request_message": _payment("declined"),
    "cancel_payment_request_message": _payment("cancelled"),
    "payment_invite_message": _payment("invited"),
    "invoice_message": _payment("invoice"),
    **BUSINESS_READERS,
}
"""Keys are the fields of ``Message``; kinds that are all text, or not understood, have none."""
