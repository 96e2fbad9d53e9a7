"""The kinds of content, and where each keeps its text, its target and its context.

The numbers are those of the fields inside the content. Source: docs/protocol.md#message-content
"""

import collections.abc as cabc
import typing as t

import attrs


@attrs.frozen
class Shape:
    """What to read from one field of a message."""

    kind: str
    text: tuple[tuple[int, ...], ...] = ()
    """Paths to the texts in order of preference; the first one there is shown."""
    context: int | None = None
    """The field with quote, mentions and expiration."""
    key: tuple[int, ...] = ()
    """Path to the key of the message that is meant."""
    all_texts: bool = False
    """Show all the texts, one per line."""


_TEMPLATE_TEXTS: t.Final = ((4, 6), (2, 6), (5, 2, 1))
_POLL: t.Final = Shape("poll", ((2,),), context=5)
_POLL_RESULT: t.Final = Shape("poll_result", ((1,),), context=3)
_PAYMENT: t.Final = Shape("payment")

SHAPES: t.Final[cabc.Mapping[str, Shape]] = {
    "conversation": Shape("text"),
    "extended_text_message": Shape("text", ((1,),), context=17),
    "image_message": Shape("image", ((3,),), context=17),
    "video_message": Shape("video", ((7,),), context=17),
    "ptv_message": Shape("video_note", ((7,),), context=17),
    "audio_message": Shape("audio", context=17),
    "document_message": Shape("document", ((20,), (8,), (3,)), context=17),
    "sticker_message": Shape("sticker", context=17),
    "sticker_pack_message": Shape("sticker_pack", ((10,), (2,)), context=11),
    "album_message": Shape("album", context=17),
    "contact_message": Shape("contact", ((1,),), context=17),
    "contacts_array_message": Shape("contacts", ((1,),), context=17),
    "location_message": Shape("location", ((3,), (4,)), context=17, all_texts=True),
    "live_location_message": Shape("live_location", ((6,),), context=17),
    "reaction_message": Shape("reaction", ((2,),), key=(1,)),
    "enc_reaction_message": Shape("encrypted_reaction", key=(1,)),
    "poll_creation_message": _POLL,
    "poll_creation_message_v2": _POLL,
    "poll_creation_message_v3": _POLL,
    "poll_creation_message_v5": _POLL,
    "poll_creation_message_v6": _POLL,
    "poll_update_message": Shape("poll_vote", key=(1,)),
    "poll_result_snapshot_message": _POLL_RESULT,
    "poll_result_snapshot_message_v2": _POLL_RESULT,
    "poll_result_snapshot_message_v3": _POLL_RESULT,
    "event_message": Shape("event", ((3,), (4,)), context=1, all_texts=True),
    "enc_event_response_message": Shape("event_response", key=(1,)),
    "comment_message": Shape("comment", ((1, 1), (1, 6, 1)), key=(2,)),
    "enc_comment_message": Shape("encrypted_comment", key=(1,)),
    "secret_encrypted_message": Shape("secret_encrypted", key=(1,)),
    "pin_in_chat_message": Shape("pin", key=(1,)),
    "keep_in_chat_message": Shape("keep", key=(1,)),
    "template_message": Shape("template", _TEMPLATE_TEXTS, context=3),
    "highly_structured_message": Shape("template", tuple((9, *path) for path in _TEMPLATE_TEXTS)),
    "template_button_reply_message": Shape("template_reply", ((2,), (1,)), context=3),
    "buttons_message": Shape("buttons", ((1,), (6,)), context=8, all_texts=True),
    "buttons_response_message": Shape("buttons_reply", ((2,), (1,)), context=3),
    "list_message": Shape("list", ((1,), (2,)), context=8, all_texts=True),
    "list_response_message": Shape("list_reply", ((1,), (3, 1)), context=4),
    "interactive_message": Shape("interactive", ((1, 1), (2, 1)), context=15, all_texts=True),
    "interactive_response_message": Shape("interactive_reply", ((1, 1),), context=15),
    "product_message": Shape("product", ((5,), (1, 3)), context=17),
    "order_message": Shape("order", ((6,), (7,)), context=17),
    "group_invite_message": Shape("group_invite", ((6,), (4,)), context=7),
    "send_payment_message": _PAYMENT,
    "request_payment_message": _PAYMENT,
    "decline_payment_request_message": _PAYMENT,
    "cancel_payment_request_message": _PAYMENT,
    "payment_invite_message": _PAYMENT,
    "invoice_message": _PAYMENT,
    "call": Shape("call"),
    "bcall_message": Shape("call", ((4,),)),
    "call_log_messsage": Shape("call_log"),
    "scheduled_call_creation_message": Shape("scheduled_call", ((3,),)),
    "scheduled_call_edit_message": Shape("scheduled_call", key=(1,)),
    "request_phone_number_message": Shape("phone_number_request", context=1),
    "placeholder_message": Shape("placeholder"),
}
"""Keys are the fields of ``Message``, in no order of meaning."""

SILENT: t.Final = (
    "sender_key_distribution_message",
    "fast_ratchet_key_sender_key_distribution_message",
    "sticker_sync_rmr_message",
    "group_root_key_share",
    "root_secret_distribute_message",
)
"""Fields of ``Message`` that hand something to the client and show nothing."""

KINDS: t.Final = frozenset(
    {
        *(shape.kind for shape in SHAPES.values()),
        "disappearing",
        "edit",
        "gif",
        "none",
        "revoke",
        "unknown",
        "view_once",
        "voice",
    }
)
"""All that reading a message can call it."""

STORED_KINDS: t.Final = (KINDS - {"none"}) | {"call", "protocol", "system"}
"""All that a stored message with content may be called: what no message says is told by the
program, of calls, of changes of groups, and of messages that show nothing."""
