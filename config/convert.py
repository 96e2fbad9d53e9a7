"""What TOML or a variable holds → what the model holds, by the annotation of the field."""

import enum
import typing as t

import cattrs

from config.kinds import Choice, Flag, Kind

_METADATA: t.Final = "__metadata__"  # of an ``Annotated`` type


def read_value(value: object, annotation: t.Any) -> t.Any:
    """The value as the model holds it.

    Raises:
        BadValueError: it is of another type, malformed or out of range.
    """
    return _converter.structure(value, annotation)


def _has_kind(annotation: t.Any) -> bool:
    return any(hasattr(each, "read") for each in getattr(annotation, _METADATA, ()))


def _is_enum(annotation: t.Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _hook(kind: Kind) -> t.Callable[[object, t.Any], t.Any]:
    return lambda value, _: kind.read(value)


def _kind_hook(annotation: t.Any) -> t.Callable[[object, t.Any], t.Any]:
    return _hook(next(each for each in annotation.__metadata__ if hasattr(each, "read")))


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook_factory(_is_enum, lambda members: _hook(Choice(members)))
    converter.register_structure_hook_factory(_has_kind, _kind_hook)
    converter.register_structure_hook(bool, _hook(Flag()))
    return converter


_converter: t.Final = _make_converter()
