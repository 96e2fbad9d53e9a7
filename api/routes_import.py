"""Takes over the device that another program has linked."""

import base64
import typing as t

import attrs
from litestar import post
from litestar.params import FromPath, FromQuery, JSONBody

from actors.adoption import KINDS, Adoption
from actors.drafts import BadRequestError
from api.auth import CONTROL
from api.backend import Backend
from api.views import ConnectionView
from storage.api import RecordChange, RecordKind
from whatsapp.device import Device
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.jid import Jid

MAX_IMPORT: t.Final = 256 * 1024 * 1024  # bytes
MAX_RECORDS: t.Final = 500_000
MAX_KEY: t.Final = 256  # characters


@attrs.frozen(kw_only=True)
class ImportRequest:
    """A device and its records, as ``zapvisor import-baileys`` makes them; all values base64."""

    device: str = attrs.field(repr=False)
    records: list[list[str]] = attrs.field(factory=list, repr=False)
    """Of three texts each: kind, key, value."""
    pairs: list[list[str]] = attrs.field(factory=list, repr=False)
    """Of two addresses each: by number, and hidden."""


def import_routes(backend: Backend) -> list[t.Any]:
    """The routes of this module."""

    @post(
        "/connections/{name:str}/import",
        tags=["connections"],
        status_code=200,
        opt={"scope": CONTROL},
        request_max_body_size=MAX_IMPORT,
        summary="Take over the device that another program has linked, with its keys",
        description="The connection must be stopped, and stays so. All keys that it had are"
        " replaced in one transaction. `zapvisor import-baileys` makes the request.",
    )
    async def adopt(
        name: FromPath[str], data: JSONBody[ImportRequest], force: FromQuery[bool] = False
    ) -> ConnectionView:
        await backend.fleet.adopt(name, read_import(data), force=force)
        (facts,) = backend.fleet.status(name)
        return ConnectionView.of(facts)

    return [adopt]


def read_import(data: ImportRequest) -> Adoption:
    """The request, checked.

    Raises:
        BadRequestError: something in it is wrong.
    """
    if len(data.records) > MAX_RECORDS or len(data.pairs) > MAX_RECORDS:
        raise BadRequestError(f"more than {MAX_RECORDS} records")
    try:
        device = Device.from_bytes(_decoded(data.device, "device"))
        if not device.paired or not device.account:
            raise BadRequestError("device: it is not linked to any phone")
        return Adoption(
            device=device,
            records=tuple(_record(each) for each in data.records),
            pairs=tuple(_pair(each) for each in data.pairs),
        )
    except (LocalProtocolError, RemoteProtocolError) as error:
        raise BadRequestError(f"device: {error}") from error


def _record(each: list[str]) -> RecordChange:
    if len(each) != 3:
        raise BadRequestError("records: each has a kind, a key and a value")
    kind, key, value = each
    try:
        known = RecordKind(kind)
    except ValueError:
        known = None
    if known not in KINDS:
        raise BadRequestError(f"records: {kind[:MAX_KEY]!r} is no kind that can be imported")
    if not (0 < len(key) <= MAX_KEY and key.isprintable() and key.isascii()):
        raise BadRequestError(f"records: a key of the kind {kind} is no name")
    return RecordChange(known, key, _decoded(value, f"records: {kind}"))


def _pair(each: list[str]) -> tuple[str, str]:
    number, lid = (Jid.parse(text) for text in each) if len(each) == 2 else (None, None)
    if number is None or lid is None or number.is_lid or not lid.is_lid:
        raise BadRequestError("pairs: each has a phone-number address and a hidden one")
    return str(number.bare), str(lid.bare)


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BadRequestError(f"{what}: is not base64") from None
