"""Files that come with the program and are no code: in the package, or beside it in a checkout."""

import typing as t
from pathlib import Path

_PACKAGE: t.Final = Path(__file__).parent / "shipped"
_CHECKOUT: t.Final = Path(__file__).parents[1]


def shipped(name: str) -> str:
    """The text of a file, by its path in a checkout, such as ``deploy/systemd/zapvisor.service``.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    packaged = _PACKAGE / name
    return (packaged if packaged.is_file() else _CHECKOUT / name).read_text(encoding="utf-8")
