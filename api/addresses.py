"""What people write for an address, and the address it means."""

import typing as t

from actors.drafts import BadRequestError
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import SERVER, Jid
from whatsapp.pairing_code import phone_digits

_LONGEST_ID: t.Final = 20  # digits


def bare_address(text: str) -> str:
    """The bare address of a person or a group: ``+55 11 …``, digits, or an address as it is.

    Raises:
        BadRequestError: it is neither a phone number nor such an address.
    """
    text = text.strip()
    try:
        jid = Jid.parse(text).bare if "@" in text else Jid(phone_digits(text), SERVER)
    except (LocalProtocolError, RemoteProtocolError) as error:
        raise BadRequestError(f"{_cut(text)!r} is no address: {error}") from error
    if not (jid.is_person or jid.is_group) or not jid.user:
        raise BadRequestError(f"{_cut(text)!r} is the address of neither a person nor a group")
    return str(jid)


def _cut(text: str) -> str:
    return text if len(text) <= 64 else text[:64] + "…"


def contact_place(text: str | None) -> tuple[int | None, str | None]:
    """What a filter by contact means: a contact's id, an address, or, of plain digits, both.

    Raises:
        BadRequestError: it is none of these.
    """
    if text is None:
        return None, None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < _LONGEST_ID:
        number = int(text)
        try:
            return number, bare_address(text)
        except BadRequestError:
            return number, None  # too short for a phone number
    return None, bare_address(text)
