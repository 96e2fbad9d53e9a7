"""What may be asked to be sent: one class per kind of request, and the reading of its JSON body.

Whoever queues a request checks it first with :func:`read_request`; the sender reads it with the
same function, so nothing that was accepted is refused for its shape later.
"""

import collections.abc as cabc
import typing as t

import attrs
import cattrs
from attrs.validators import ge, in_, le, max_len, min_len, optional

from actors.errors import ActorError
from storage.queues import OutboxRequest

MAX_TEXT: t.Final = 65_536  # characters
MAX_CAPTION: t.Final = 4_096
MAX_ID: t.Final = 256
MAX_EMOJI: t.Final = 64
MAX_CARDS: t.Final = 100
MAX_MENTIONS: t.Final = 256
MAX_READ: t.Final = 10_000  # messages in one request

FILE_KINDS: t.Final = ("image", "video", "audio", "document", "sticker")

_Id: t.TypeAlias = str


class BadRequestError(ActorError):
    """A request that can never be sent; the text says what is wrong with it."""


@attrs.frozen(kw_only=True)
class Text:
    """A text; answers the message ``quoted`` if that is given."""

    text: str = attrs.field(repr=False, validator=[min_len(1), max_len(MAX_TEXT)])
    quoted: _Id | None = attrs.field(default=None, validator=optional(max_len(MAX_ID)))
    mentions: tuple[str, ...] = attrs.field(default=(), validator=max_len(MAX_MENTIONS))
    """Bare addresses; the text names each as ``@`` and its user part."""


@attrs.frozen(kw_only=True)
class Reaction:
    """A reaction to a message; an empty one takes the former back."""

    target: _Id = attrs.field(validator=[min_len(1), max_len(MAX_ID)])
    emoji: str = attrs.field(validator=max_len(MAX_EMOJI))


@attrs.frozen(kw_only=True)
class Edit:
    """A new text, or caption, for a message of ours."""

    target: _Id = attrs.field(validator=[min_len(1), max_len(MAX_ID)])
    text: str = attrs.field(repr=False, validator=[min_len(1), max_len(MAX_TEXT)])


@attrs.frozen(kw_only=True)
class Revoke:
    """Deletes a message for everyone: one of ours or, as a group's administrator, anyone's."""

    target: _Id = attrs.field(validator=[min_len(1), max_len(MAX_ID)])


@attrs.frozen(kw_only=True)
class Media:
    """A file, which is uploaded when its turn comes."""

    file: str = attrs.field(validator=[min_len(1), max_len(4096)])
    """What the uploader knows it by: the SHA-256 of a stored file, in hexadecimal."""
    kind: str = attrs.field(validator=in_(FILE_KINDS))
    mimetype: str | None = attrs.field(default=None, validator=optional(max_len(256)))
    name: str | None = attrs.field(default=None, repr=False, validator=optional(max_len(1024)))
    caption: str | None = attrs.field(
        default=None, repr=False, validator=optional(max_len(MAX_CAPTION))
    )
    width: int | None = attrs.field(default=None, validator=optional(ge(0)))  # pixels
    height: int | None = attrs.field(default=None, validator=optional(ge(0)))  # pixels
    seconds: int | None = attrs.field(default=None, validator=optional(ge(0)))
    voice: bool = False  # audio recorded as a voice note
    gif: bool = False  # a video that loops without sound
    video_note: bool = False  # a round video
    animated: bool = False  # of stickers
    quoted: _Id | None = attrs.field(default=None, validator=optional(max_len(MAX_ID)))
    mentions: tuple[str, ...] = attrs.field(default=(), validator=max_len(MAX_MENTIONS))


@attrs.frozen(kw_only=True)
class Location:
    """A place, in degrees."""

    latitude: float = attrs.field(repr=False, validator=[ge(-90), le(90)])
    longitude: float = attrs.field(repr=False, validator=[ge(-180), le(180)])
    name: str | None = attrs.field(default=None, repr=False, validator=optional(max_len(1024)))
    address: str | None = attrs.field(default=None, repr=False, validator=optional(max_len(1024)))
    quoted: _Id | None = attrs.field(default=None, validator=optional(max_len(MAX_ID)))


@attrs.frozen(kw_only=True)
class Card:
    """One contact card."""

    name: str = attrs.field(repr=False, validator=[min_len(1), max_len(1024)])
    vcard: str = attrs.field(repr=False, validator=[min_len(1), max_len(MAX_TEXT)])


@attrs.frozen(kw_only=True)
class Contact:
    """Contact cards."""

    cards: tuple[Card, ...] = attrs.field(validator=[min_len(1), max_len(MAX_CARDS)])
    quoted: _Id | None = attrs.field(default=None, validator=optional(max_len(MAX_ID)))


@attrs.frozen(kw_only=True)
class Poll:
    """A poll of 2 to 12 options; ``selectable`` 0: as many as one likes."""

    name: str = attrs.field(repr=False, validator=[min_len(1), max_len(MAX_CAPTION)])
    options: tuple[str, ...] = attrs.field(repr=False, validator=[min_len(2), max_len(12)])
    selectable: int = attrs.field(default=1, validator=[ge(0), le(12)])
    quoted: _Id | None = attrs.field(default=None, validator=optional(max_len(MAX_ID)))


@attrs.frozen(kw_only=True)
class PollVote:
    """A vote in a poll, by the names of the options; it replaces the former one."""

    target: _Id = attrs.field(validator=[min_len(1), max_len(MAX_ID)])
    options: tuple[str, ...] = attrs.field(repr=False, validator=max_len(12))


@attrs.frozen(kw_only=True)
class Read:
    """Read receipts for messages of one chat; ``author`` is needed in groups only."""

    ids: tuple[str, ...] = attrs.field(validator=[min_len(1), max_len(MAX_READ)])
    author: str | None = attrs.field(default=None, validator=optional(max_len(512)))
    played: bool = False  # voice notes: listened to


Body: t.TypeAlias = (
    Text | Reaction | Edit | Revoke | Media | Location | Contact | Poll | PollVote | Read
)

KINDS: t.Final[cabc.Mapping[str, type[Body]]] = {
    "text": Text,
    "reply": Text,
    "reaction": Reaction,
    "edit": Edit,
    "revoke": Revoke,
    "media": Media,
    "location": Location,
    "contact": Contact,
    "poll": Poll,
    "poll_vote": PollVote,
    "read": Read,
}
"""The kinds of requests, by the name in ``OutboxRequest.kind``."""


def read_request(request: OutboxRequest) -> Body:
    """The request, typed and checked.

    Raises:
        BadRequestError: an unknown kind, a missing, unknown or malformed field.
    """
    if (kind := KINDS.get(request.kind)) is None:
        raise BadRequestError(f"nothing of kind {request.kind[:64]!r} can be sent")
    try:
        body: Body = _converter.structure(dict(request.body), kind)
    except (cattrs.BaseValidationError, ValueError, TypeError) as error:
        problems = "; ".join(
            cattrs.transform_error(error, path=request.kind, format_exception=_told)
        )
        raise BadRequestError(problems[:1000]) from error
    if request.kind == "reply" and isinstance(body, Text) and body.quoted is None:
        raise BadRequestError("a reply without the message that it answers (quoted)")
    return body


def _told(error: BaseException, wanted: type | None) -> str:
    """What is wrong with one field, in a few words."""
    match error:
        case KeyError():
            return "is missing"
        case cattrs.ForbiddenExtraKeysError():
            return f"has unknown fields: {', '.join(sorted(error.extra_fields))}"
        case _ if error.args:
            return str(error.args[0])
        case _:
            return f"is not {wanted}"


def _strict(*kinds: type) -> cabc.Callable[[t.Any, t.Any], t.Any]:
    """JSON's own types, and no conversion between them."""

    def structure(value: t.Any, wanted: t.Any) -> t.Any:
        if type(value) not in kinds:
            raise TypeError(f"must be {' or '.join(kind.__name__ for kind in kinds)}")
        return wanted(value)

    return structure


def _is_tuple(wanted: t.Any) -> bool:
    return t.get_origin(wanted) is tuple


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def structure_list(value: t.Any, wanted: t.Any) -> tuple[t.Any, ...]:
        if not isinstance(value, list | tuple):
            raise TypeError("must be a list")
        return tuple(converter.structure(item, t.get_args(wanted)[0]) for item in value)

    converter.register_structure_hook_func(_is_tuple, structure_list)
    converter.register_structure_hook(str, _strict(str))
    converter.register_structure_hook(int, _strict(int))
    converter.register_structure_hook(float, _strict(int, float))
    converter.register_structure_hook(bool, _strict(bool))
    return converter


_converter: t.Final = _make_converter()
