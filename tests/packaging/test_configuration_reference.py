"""docs/configuration.md says what the configuration is."""

import pathlib
import re
import sys

import attrs
import pytest

from config.environment import variables
from config.model import Config

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"


@pytest.fixture(scope="module")
def reference() -> str:
    """As it would be written now."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import make_config_reference
    finally:
        sys.path.pop(0)
    return make_config_reference.reference()


def test_it_is_up_to_date(reference: str) -> None:
    """Otherwise: make manuals."""
    assert PAGE.read_text() == reference, "run: make manuals"


def test_every_key_is_explained() -> None:
    """With default, type, variable and what a reload does; most with a sentence."""
    sections = re.split(r"(?m)^## ", PAGE.read_text())[1:]
    entries = {
        (section.split("]")[0].strip("["), part.split("`")[0]): part
        for section in sections
        for part in section.split("\n### `")[1:]
    }
    assert set(entries) == set(variables().values())
    for (section, key), text in entries.items():
        assert f"- Variable: `ZAPVISOR_{section}_{key}`".upper() in text.upper()
        for fact in ("Default", "Takes", "Reload"):
            assert f"\n- {fact}: " in text, (section, key)


def test_what_a_reload_does() -> None:
    """A few that are known: tried, not guessed."""
    text = PAGE.read_text()

    def effect(section: str, key: str) -> str:
        part = text.split(f"\n## [{section}]\n")[1].split(f"\n### `{key}`\n")[1]
        found = re.search(r"- Reload: (.*)", part)
        assert found is not None
        return found[1]

    assert effect("storage", "dsn") == "restart"
    assert effect("supervision", "heartbeat_interval") == "yes"
    assert effect("conversations", "reopen_window") == "at once"
    assert effect("conversations", "groups") == "yes"


def test_the_whole_model_is_covered() -> None:
    """One heading for each section."""
    headings = re.findall(r"(?m)^## \[+([a-z_]+)\]+$", PAGE.read_text())
    sections = [
        field.name
        for field in attrs.fields(Config)
        if isinstance(field.type, type) and attrs.has(field.type)
    ]
    assert headings == [
        *sections,
        "webhooks",
        "channels",
        "maintenance",
        "retention",
        "connections",
    ]
