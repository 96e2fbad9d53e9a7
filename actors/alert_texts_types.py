"""What there is to say of an alert, in one language."""

import collections.abc as cabc

import attrs


@attrs.frozen(kw_only=True)
class RuleText:
    """What is said of the alerts of one rule."""

    title: str
    cause: str
    cure: str


@attrs.frozen(kw_only=True)
class Texts:
    """All in one language."""

    rules: cabc.Mapping[str, RuleText]
    causes: cabc.Mapping[str, str]
    """What makes a connection be down, by group; see ``actors.alert_texts.CAUSES``."""
    words: cabc.Mapping[str, str]
