"""Comparing what is stored with what is expected, all differences at once."""

import collections.abc as cabc
import typing as t


def differences(actual: t.Any, expected: t.Any, path: str = "") -> list[str]:
    """Where ``actual`` is not as expected.

    Of a mapping only the expected keys count; a function decides for itself; a set is contained
    in the list it is compared with.
    """
    match expected:
        case cabc.Mapping():
            if not isinstance(actual, cabc.Mapping):
                return [f"{path}: {actual!r} is no mapping"]
            return [
                line
                for key, value in expected.items()
                for line in differences(actual.get(key), value, f"{path}.{key}")
            ]
        case list():
            if not isinstance(actual, list) or len(actual) != len(expected):
                return [f"{path}: {actual!r}, expected {expected!r}"]
            return [
                line
                for number, value in enumerate(expected)
                for line in differences(actual[number], value, f"{path}[{number}]")
            ]
        case set() | frozenset():
            missing = set(expected) - set(actual or ())
            return [f"{path}: {actual!r} lacks {missing!r}"] if missing else []
        case cabc.Callable():
            return [] if expected(actual) else [f"{path}: {actual!r} is not acceptable"]
        case _:
            return [] if actual == expected else [f"{path}: {actual!r}, expected {expected!r}"]
