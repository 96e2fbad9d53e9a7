"""What alerts tell people to run can be run as it stands."""

import re
import typing as t

import pytest
from cyclopts import App

from actors.alert_texts import LANGUAGES
from daemon.cli import app

VALUES: t.Final = {"{name}": "sales", "{export}": "daily-2026-11-21"}


def told() -> list[str]:
    """Every order in the texts, with the words behind it that may belong to it."""
    texts = [
        text
        for each in LANGUAGES.values()
        for text in (*(rule.cure for rule in each.rules.values()), each.words["acknowledge"])
    ]
    for placeholder, value in VALUES.items():
        texts = [text.replace(placeholder, value) for text in texts]
    return [
        re.sub("N[UÚ]M[BE]+RO?", "17", order)
        for text in texts
        for order in re.findall("zapvisor ([^.;,:]+)", text)
    ]


def runs(order: str) -> bool:
    """Whether it is a command with all that it needs. Prose follows an order, so what counts is
    its longest beginning that is one, and that goes as far as its options and names do."""
    words = order.split()
    arguments = [
        place
        for place, word in enumerate(words, start=1)
        if word.startswith("-") or word in ("17", *VALUES.values())
    ]
    least = max([1, *arguments])
    return any(_parses(words[:count]) for count in range(least, min(least + 2, len(words)) + 1))


def _parses(words: list[str]) -> bool:
    try:
        command, _bound, _ignored = app.parse_args(words, exit_on_error=False, print_error=False)
    except Exception:  # whatever it is: not to be run like this
        return False
    return getattr(command, "__func__", None) is not App.help_print


@pytest.mark.parametrize("order", sorted(set(told())))
def test_the_orders_in_alerts_are_commands(order: str) -> None:
    """In each language, with their subcommands, names and options."""
    assert runs(order)


def test_a_wrong_order_is_found() -> None:
    """The test can fail: no such command, a group alone, a missing name, an unknown option."""
    assert len(told()) > 30
    for wrong in ("fly sales", "db", "quarantine shows the errors", "gaps sales --fly", "start"):
        assert not runs(wrong), wrong
