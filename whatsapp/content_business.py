"""What the kinds of business messages have besides text: buttons, lists, products, and choices.

Source: docs/protocol.md#message-content
"""

import collections.abc as cabc
import json
import typing as t

from whatsapp.content_parts import Detail, Reader, clean, fields, follow, lenient, pick, reader
from whatsapp.proto import wa_pb2

MAX_CHOICES: t.Final = 128  # buttons, or rows of a list
MAX_CARDS: t.Final = 32  # of a carousel
MAX_PARAMS: t.Final = 65_536  # bytes of JSON in a reply


def _buttons(message: wa_pb2.ButtonsMessage) -> Detail:
    buttons = [
        {
            **pick(button, id="button_id"),
            **pick(button.button_text, text="display_text"),
            **pick(button.native_flow_info, name="name", params="params_json"),
        }
        for button in message.buttons[:MAX_CHOICES]
    ]
    return {"buttons": buttons, **pick(message, footer="footer_text")}


def _list(message: wa_pb2.ListMessage) -> Detail:
    sections, left = [], MAX_CHOICES
    for section in message.sections[:MAX_CHOICES]:
        rows = [
            pick(row, id="row_id", title="title", description="description")
            for row in section.rows[:left]
        ]
        left -= len(rows)
        sections.append({**pick(section, title="title"), "rows": rows})
    return {"sections": sections, **pick(message, button="button_text", footer="footer_text")}


def _list_reply(message: wa_pb2.ListResponseMessage) -> Detail:
    return {
        **pick(message.single_select_reply, id="selected_row_id"),
        **pick(message, description="description"),
    }


def _template(*paths: tuple[int, ...]) -> Reader:
    def read(payload: bytes) -> Detail:
        data = next((data for path in paths if (data := follow(payload, path)) is not None), b"")
        template = lenient(wa_pb2.HydratedFourRowTemplate, data)
        buttons = [_template_button(item) for item in template.hydrated_buttons[:MAX_CHOICES]]
        detail = pick(
            template, title="hydrated_title_text", footer="hydrated_footer_text", id="template_id"
        )
        return {**detail, "buttons": buttons} if buttons else detail

    return read


def _template_button(button: wa_pb2.HydratedTemplateButton) -> Detail:
    if button.HasField("url_button"):
        return pick(button.url_button, text="display_text", url="value")
    if button.HasField("call_button"):
        return pick(button.call_button, text="display_text", phone="value")
    return pick(button.quick_reply_button, text="display_text", id="value")


def _interactive(message: wa_pb2.InteractiveMessage) -> Detail:
    cards = [
        {
            "text": clean(follow(card, (2, 1)) or b""),
            **_flow(lenient(wa_pb2.InteractiveMessage, card)),
        }
        for card in message.carousel_message.cards[:MAX_CARDS]
    ]
    return {**_flow(message), "cards": cards}


def _flow(message: wa_pb2.InteractiveMessage) -> Detail:
    buttons = [
        pick(button, name="name", params="button_params_json")
        for button in message.native_flow_message.buttons[:MAX_CHOICES]
    ]
    return {"buttons": buttons, **pick(message.footer, footer="text")}


def _interactive_reply(message: wa_pb2.InteractiveResponseMessage) -> Detail:
    flow = message.native_flow_response_message
    return {**pick(flow, name="name", params="params_json"), "id": _chosen(flow.params_json)}


def _chosen(params: bytes) -> str | None:
    """The id of the choice inside the parameters of a flow, where they have one."""
    try:
        values = json.loads(params[:MAX_PARAMS])
    except (ValueError, RecursionError):
        return None
    chosen = values.get("id") if isinstance(values, dict) else None
    return clean(chosen.encode(errors="replace")) if isinstance(chosen, str) else None


def _product(message: wa_pb2.ProductMessage) -> Detail:
    return {
        **pick(
            message.product,
            id="product_id",
            title="title",
            description="description",
            currency="currency_code",
            price_1000="price_amount1000",
            sku="retailer_id",
            url="url",
        ),
        **pick(message, seller="business_owner_jid", footer="footer"),
    }


BUSINESS_READERS: t.Final[cabc.Mapping[str, Reader]] = {
    "buttons_message": reader(wa_pb2.ButtonsMessage, _buttons),
    "buttons_response_message": fields(wa_pb2.ButtonsResponseMessage, id="selected_button_id"),
    "list_message": reader(wa_pb2.ListMessage, _list),
    "list_response_message": reader(wa_pb2.ListResponseMessage, _list_reply),
    "template_message": _template((4,), (2,)),
    "highly_structured_message": _template((9, 4), (9, 2)),
    "template_button_reply_message": fields(
        wa_pb2.TemplateButtonReplyMessage, id="selected_id", index="selected_index"
    ),
    "interactive_message": reader(wa_pb2.InteractiveMessage, _interactive),
    "interactive_response_message": reader(wa_pb2.InteractiveResponseMessage, _interactive_reply),
    "product_message": reader(wa_pb2.ProductMessage, _product),
    "order_message": fields(
        wa_pb2.OrderMessage,
        id="order_id",
        items="item_count",
        status="status",
        title="order_title",
        seller="seller_jid",
        currency="total_currency_code",
        total_1000="total_amount1000",
    ),
}
