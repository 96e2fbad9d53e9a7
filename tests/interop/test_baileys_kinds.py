"""Every kind of message that a real client can write, and what is stored of it."""

import pathlib
import typing as t

import attrs
from interop_expect import differences
from interop_peer import Driver, Peer, content, date, key, known, raw

from simulator import Account
from tests.support.daemon_process import DaemonProcess

FILE: t.Final = bytes(range(256)) * 16
VCARD: t.Final = "BEGIN:VCARD\nVERSION:3.0\nFN:Ana Lima\nEND:VCARD"
STARTS_AT: t.Final = 1_900_000_000  # unix seconds
BIT: t.Final = raw(b"\xff\xd8")  # a thumbnail, so that the client does not try to make one


@attrs.frozen(kw_only=True)
class Case:
    """Something to send, and what `message_details` must tell of it."""

    kind: str
    send: dict[str, t.Any] | None = None  # as the client's own content
    relay: dict[str, t.Any] | None = None  # as the fields of a Message
    options: dict[str, t.Any] = attrs.field(factory=dict)
    text: str | None = None
    expect: dict[str, t.Any] = attrs.field(factory=dict)


def in_ephemeral(message: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"ephemeralMessage": {"message": message}}


def texts_and_cards() -> dict[str, Case]:
    card = {"displayName": "Ana Lima", "vcard": VCARD}
    place = {"degreesLatitude": -23.5, "degreesLongitude": -46.5}
    return {
        "text": Case(kind="text", send={"text": "olá 👋"}, text="olá 👋"),
        "plain text": Case(kind="text", relay={"conversation": "plain"}, text="plain"),
        "preview": Case(
            kind="text",
            send={
                "text": "see https://example.com/a",
                "linkPreview": {
                    "canonical-url": "https://example.com/a",
                    "matched-text": "https://example.com/a",
                    "title": "A title",
                    "description": "A description",
                },
            },
            text="see https://example.com/a",
            expect={
                "detail": {
                    "preview": {
                        "url": "https://example.com/a",
                        "title": "A title",
                        "description": "A description",
                    }
                }
            },
        ),
        "forwarded": Case(
            kind="text",
            send={"forward": known("text"), "force": True},
            text="olá 👋",
            expect={"flags": {"forwarded"}},
        ),
        "ephemeral text": Case(
            kind="text",
            send={"text": "for a day"},
            options={"ephemeralExpiration": 86400},
            text="for a day",
            expect={"flags": {"ephemeral"}},
        ),
        "ephemeral wrapper": Case(
            kind="text",
            relay=in_ephemeral({"extendedTextMessage": {"text": "wrapped"}}),
            text="wrapped",
            expect={"flags": {"ephemeral"}},
        ),
        "from an advertisement": Case(
            kind="text",
            relay={
                "extendedTextMessage": {
                    "text": "I saw your ad",
                    "contextInfo": {
                        "externalAdReply": {
                            "title": "Sale",
                            "sourceUrl": "https://example.com/ad",
                            "sourceId": "77",
                        }
                    },
                }
            },
            text="I saw your ad",
            expect={
                "detail": {
                    "referral": {"title": "Sale", "url": "https://example.com/ad", "id": "77"}
                }
            },
        ),
        "contact": Case(
            kind="contact",
            send={"contacts": {"contacts": [card]}},
            text="Ana Lima",
            expect={"detail": {"name": "Ana Lima", "vcard": VCARD}},
        ),
        "contacts": Case(
            kind="contacts",
            send={"contacts": {"displayName": "2 contacts", "contacts": [card, card]}},
            text="2 contacts",
            expect={"detail": {"contacts": [{"name": "Ana Lima"}, {"vcard": VCARD}]}},
        ),
        "location": Case(
            kind="location",
            send={"location": {**place, "name": "Praça", "address": "Rua 1"}},
            text="Praça\nRua 1",
            expect={"detail": {"latitude": -23.5, "longitude": -46.5, "name": "Praça"}},
        ),
        "live location": Case(
            kind="live_location",
            relay={"liveLocationMessage": {**place, "caption": "on my way", "sequenceNumber": 3}},
            text="on my way",
            expect={"detail": {"latitude": -23.5, "longitude": -46.5, "sequence": 3}},
        ),
        "poll": Case(
            kind="poll",
            send={"poll": {"name": "Lunch?", "values": ["yes", "no"], "selectableCount": 1}},
            text="Lunch?",
            expect={"detail": {"options": ["yes", "no"], "selectable": 1}},
        ),
        "poll of many": Case(
            kind="poll",
            send={"poll": {"name": "Fruit", "values": ["fig", "kiwi"], "selectableCount": 0}},
            text="Fruit",
            expect={"detail": {"options": ["fig", "kiwi"], "selectable": 0}},
        ),
        "event": Case(
            kind="event",
            send={
                "event": {
                    "name": "Party",
                    "description": "with cake",
                    "startDate": date(STARTS_AT * 1000),
                    "location": {**place, "name": "Praça"},
                }
            },
            text="Party\nwith cake",
            expect={
                "detail": {
                    "name": "Party",
                    "start": STARTS_AT,
                    "canceled": False,
                    "location": {"name": "Praça"},
                }
            },
        ),
        "group invitation": Case(
            kind="group_invite",
            relay={
                "groupInviteMessage": {
                    "groupJid": "120363000000000099@g.us",
                    "inviteCode": "CODE",
                    "inviteExpiration": STARTS_AT,
                    "groupName": "Club",
                    "caption": "join us",
                }
            },
            text="join us",
            expect={"detail": {"group": "120363000000000099@g.us", "code": "CODE", "name": "Club"}},
        ),
        "phone number wanted": Case(kind="phone_number_request", send={"requestPhoneNumber": True}),
        "payment": Case(
            kind="payment",
            relay={"declinePaymentRequestMessage": {"key": key("text")}},
            expect={"detail": {"payment": "declined"}},
        ),
        "call log": Case(
            kind="call_log",
            relay={"callLogMesssage": {"isVideo": True, "callOutcome": 1, "durationSecs": 7}},
            expect={"detail": {"outcome": "missed", "video": True}},
        ),
        "placeholder": Case(kind="placeholder", relay={"placeholderMessage": {"type": 0}}),
    }


def hostile() -> dict[str, Case]:
    """NUL characters, lone surrogates (three bytes that are not UTF-8), 64 KiB."""
    sent = {
        "a\0b": "a\u2400b",
        "lone \ud83d surrogate": "lone \ufffd\ufffd\ufffd surrogate",
        "x" * 65536: "x" * 65536,
    }
    return {
        f"hostile text {number}": Case(kind="text", send={"text": text}, text=stored)
        for number, (text, stored) in enumerate(sent.items())
    }


def business() -> dict[str, Case]:
    button = {"buttonId": "b1", "buttonText": {"displayText": "Yes"}, "type": 1}
    return {
        "buttons": Case(
            kind="buttons",
            relay={
                "buttonsMessage": {
                    "contentText": "Agree?",
                    "footerText": "Shop",
                    "headerType": 1,
                    "buttons": [button],
                }
            },
            text="Agree?",
            expect={"detail": {"buttons": [{"id": "b1", "text": "Yes"}], "footer": "Shop"}},
        ),
        "button chosen": Case(
            kind="buttons_reply",
            send={"buttonReply": {"displayText": "Yes", "id": "b1"}, "type": "plain"},
            text="Yes",
            expect={"detail": {"id": "b1"}},
        ),
        "template": Case(
            kind="template",
            relay={
                "templateMessage": {
                    "hydratedTemplate": {
                        "hydratedContentText": "Your order",
                        "hydratedButtons": [
                            {
                                "index": 0,
                                "quickReplyButton": {"displayText": "Thanks", "id": "t1"},
                            }
                        ],
                    }
                }
            },
            text="Your order",
            expect={"detail": {"buttons": [{"id": "t1", "text": "Thanks"}]}},
        ),
        "template answered": Case(
            kind="template_reply",
            send={
                "buttonReply": {"displayText": "Thanks", "id": "t1", "index": 0},
                "type": "template",
            },
            text="Thanks",
            expect={"detail": {"id": "t1"}},
        ),
        "list": Case(
            kind="list",
            relay={
                "listMessage": {
                    "title": "Menu",
                    "description": "Choose",
                    "buttonText": "Open",
                    "listType": 1,
                    "sections": [{"title": "S", "rows": [{"rowId": "r1", "title": "Soup"}]}],
                }
            },
            text="Menu\nChoose",
            expect={"detail": {"sections": [{"rows": [{"id": "r1", "title": "Soup"}]}]}},
        ),
        "list answered": Case(
            kind="list_reply",
            send={
                "listReply": {
                    "title": "Soup",
                    "listType": 1,
                    "singleSelectReply": {"selectedRowId": "r1"},
                }
            },
            text="Soup",
            expect={"detail": {"id": "r1"}},
        ),
        "interactive": Case(
            kind="interactive",
            relay={
                "interactiveMessage": {
                    "body": {"text": "Pick a date"},
                    "nativeFlowMessage": {
                        "buttons": [{"name": "cta", "buttonParamsJson": '{"id":"f1"}'}]
                    },
                }
            },
            text="Pick a date",
            expect={"detail": {"buttons": [{"name": "cta", "params": '{"id":"f1"}'}]}},
        ),
        "interactive answered": Case(
            kind="interactive_reply",
            relay={
                "interactiveResponseMessage": {
                    "body": {"text": "Monday"},
                    "nativeFlowResponseMessage": {"name": "cta", "paramsJson": '{"id":"f1"}'},
                }
            },
            text="Monday",
            expect={"detail": {"name": "cta", "id": "f1"}},
        ),
        "order": Case(
            kind="order",
            relay={
                "orderMessage": {
                    "orderId": "o1",
                    "itemCount": 2,
                    "orderTitle": "Basket",
                    "message": "please",
                    "totalAmount1000": 5000,
                    "totalCurrencyCode": "BRL",
                }
            },
            text="please",
            expect={"detail": {"id": "o1", "items": 2, "currency": "BRL"}},
        ),
    }


def files(path: pathlib.Path) -> dict[str, Case]:
    file = {"url": str(path)}
    video = {"video": file, "jpegThumbnail": BIT, "seconds": 3}
    image = {"image": file, "jpegThumbnail": BIT}
    document = {"document": file, "fileName": "a.pdf", "mimetype": "application/pdf"}

    def media(kind: str, mimetype: str, **more: t.Any) -> dict[str, t.Any]:
        claimed = {"kind": kind, "mimetype": mimetype, "size": len(FILE), **more}
        return {"media": {**claimed, "state": "stored"}}

    return {
        "image": Case(
            kind="image",
            send={**image, "caption": "a view", "width": 3, "height": 4},
            text="a view",
            expect={**media("image", "image/jpeg"), "detail": {"width": 3, "height": 4}},
        ),
        "video": Case(
            kind="video",
            send={**video, "caption": "a film"},
            text="a film",
            expect={**media("video", "video/mp4"), "detail": {"seconds": 3}},
        ),
        "gif": Case(
            kind="gif", send={**video, "gifPlayback": True}, expect=media("video", "video/mp4")
        ),
        "video note": Case(
            kind="video_note", send={**video, "ptv": True}, expect=media("video", "video/mp4")
        ),
        "audio": Case(
            kind="audio",
            send={"audio": file, "mimetype": "audio/mp4", "seconds": 3},
            expect={**media("audio", "audio/mp4"), "detail": {"seconds": 3}},
        ),
        "voice": Case(
            kind="voice",
            send={"audio": file, "ptt": True, "seconds": 3, "waveform": raw(b"\1" * 64)},
            expect=media("audio", "audio/ogg; codecs=opus"),
        ),
        "document": Case(
            kind="document",
            send={**document, "caption": "the contract"},
            text="the contract",
            expect=media("document", "application/pdf", name="a.pdf"),
        ),
        "document without caption": Case(
            kind="document",
            send=document,
            text="a.pdf",
            expect=media("document", "application/pdf", name="a.pdf"),
        ),
        "document with caption": Case(
            kind="document",
            relay={"documentWithCaptionMessage": {"message": content("document")}},
            text="the contract",
            expect=media("document", "application/pdf", name="a.pdf"),
        ),
        "sticker": Case(
            kind="sticker", send={"sticker": file}, expect=media("sticker", "image/webp")
        ),
        "view once": Case(
            kind="image",
            send={**image, "viewOnce": True},
            expect={**media("image", "image/jpeg"), "flags": {"view_once"}},
        ),
        "view once, newer": Case(
            kind="image",
            relay={"viewOnceMessageV2": {"message": content("image")}},
            text="a view",
            expect={**media("image", "image/jpeg"), "flags": {"view_once"}},
        ),
        "album": Case(
            kind="album",
            send={"album": {"expectedImageCount": 1, "expectedVideoCount": 1}},
            expect={"detail": {"images": 1, "videos": 1}},
        ),
        "picture of the album": Case(
            kind="image",
            send={**image, "albumParentKey": key("album")},
            expect={**media("image", "image/jpeg"), "detail": {"album": {"$id": "album"}}},
        ),
        "film of the album": Case(
            kind="video",
            send={**video, "albumParentKey": key("album")},
            expect={**media("video", "video/mp4"), "detail": {"album": {"$id": "album"}}},
        ),
        "answer to a picture": Case(
            kind="text",
            send={"text": "nice"},
            options={"quoted": known("image")},
            text="nice",
            expect={"quoted": {"external_id": {"$id": "image"}, "kind": "image"}},
        ),
        "product": Case(
            kind="product",
            send={
                "product": {
                    "productImage": file,
                    "productId": "p1",
                    "title": "Lamp",
                    "currencyCode": "BRL",
                },
                "businessOwnerJid": "15550000000@s.whatsapp.net",
            },
            text="Lamp",
            expect={"detail": {"id": "p1", "title": "Lamp", "currency": "BRL"}},
        ),
    }


def resolved(order: t.Any, sent: dict[str, str]) -> t.Any:
    """The order, with the ids of messages in the place of the names of their cases."""
    match order:
        case {"$id": name}:
            return sent[name]
        case {"$message": name} | {"$key": name} | {"$content": name}:
            (marker,) = order
            return {marker: sent[name]}
        case dict():
            return {field: resolved(value, sent) for field, value in order.items()}
        case list():
            return [resolved(value, sent) for value in order]
        case _:
            return order


async def send_all(peer: Peer, to: str, cases: dict[str, Case]) -> dict[str, str]:
    """Send what the cases say, in their order; the message ids by name."""
    sent: dict[str, str] = {}
    for name, case in cases.items():
        if case.send is not None:
            sent[name] = await peer.send_content(
                to, resolved(case.send, sent), **resolved(case.options, sent)
            )
        else:
            sent[name] = await peer.relay(to, resolved(case.relay, sent))
    return sent


async def test_every_kind_is_stored_as_what_it_is(
    daemon: DaemonProcess,
    team: Account,
    baileys: Driver,
    tmp_path: pathlib.Path,
) -> None:
    """Kind, text, detail, flags, and the files fetched; each message once, in its order."""
    path = tmp_path / "file.bin"
    path.write_bytes(FILE)
    alice = await baileys.connect("alice")
    cases = texts_and_cards() | hostile() | business() | files(path)
    sent = await send_all(alice, str(team.pn), cases)
    last = await alice.send(str(team.pn), "the end")
    await daemon.until_message(last)

    async def fetched() -> bool:
        return not await daemon.query("SELECT 1 FROM media WHERE state = 'pending'")

    await daemon.until(fetched, "all files are fetched")
    rows = {row["external_id"]: row for row in await daemon.details()}
    wrong = []
    for name, case in cases.items():
        expected = {"kind": case.kind, "text": case.text, "sender": {"name": "alice"}}
        found = rows.get(sent[name], {})
        wrong += differences(found, expected | resolved(case.expect, sent), name)
    assert wrong == []
    assert [row["external_id"] for row in rows.values()] == [*sent.values(), last]
