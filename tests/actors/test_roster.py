"""What a changed configuration adds, removes and changes."""

import attrs
import pytest

from actors.roster import APPLIED, plan
from config.events import WebhookConfig
from config.model import Config, ConnectionConfig, ReopenFrom


def connections(*names: str, **fields: object) -> tuple[ConnectionConfig, ...]:
    """Tables of these names."""
    return tuple(ConnectionConfig(name=name, **fields) for name in names)  # type: ignore[arg-type]


def change(config: Config, section: str, **keys: object) -> Config:
    """The configuration with other values of a section."""
    return attrs.evolve(config, **{section: attrs.evolve(getattr(config, section), **keys)})


OLD = Config(connections=connections("a", "b", "c"))


def test_nothing_changed() -> None:
    """Then nothing is touched; not even for another order of the tables, or another file."""
    assert plan(OLD, OLD).unchanged == ("a", "b", "c")
    made = plan(OLD, attrs.evolve(OLD, connections=connections("c", "a", "b")))
    assert made.unchanged == ("c", "a", "b")
    assert (made.added, made.removed, made.changed, made.rules, made.restart) == ((),) * 5


def test_added_and_removed() -> None:
    """The others are not touched."""
    made = plan(OLD, attrs.evolve(OLD, connections=connections("b", "d", "c", "e")))
    assert (made.added, made.removed, made.unchanged) == (("d", "e"), ("a",), ("b", "c"))
    assert [each.name for each in made.config.connections] == ["b", "d", "c", "e"]


def test_one_that_is_built_otherwise() -> None:
    """It alone is built anew."""
    tables = (*connections("a"), *connections("b", groups=False), *connections("c"))
    made = plan(OLD, attrs.evolve(OLD, connections=tables))
    assert (made.changed, made.unchanged) == (("b",), ("a", "c"))


def test_rules_stop_nothing() -> None:
    """How messages find their conversation changes under a running connection."""
    tables = (*connections("a"), *connections("b", reopen_window=60.0), *connections("c"))
    made = plan(OLD, attrs.evolve(OLD, connections=tables))
    assert (made.rules, made.changed, made.unchanged) == (("b",), (), ("a", "c"))
    own = attrs.evolve(OLD, connections=(*connections("a"), *connections("b", team_reopens=False)))
    common = change(own, "conversations", team_reopens=True, reopen_from=ReopenFrom.LAST_MESSAGE)
    assert plan(own, common).rules == ("a", "b")
    common = change(own, "conversations", team_reopens=True)
    assert (plan(own, common).rules, plan(own, common).unchanged) == (("a",), ("b",))


def test_autostart_is_for_the_next_start() -> None:
    """It neither stops nor starts anything now."""
    made = plan(OLD, attrs.evolve(OLD, connections=connections("a", "b", "c", autostart=False)))
    assert made.unchanged == ("a", "b", "c")
    assert made.restart == ()


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("whatsapp", {"version": "2.3000.9"}),
        ("supervision", {"retry_limit": 3}),
        ("sending", {"gap": 9.0}),
        ("conversations", {"status_broadcasts": True}),
    ],
)
def test_what_all_are_built_from(section: str, keys: dict[str, object]) -> None:
    """All are built anew; no restart of the daemon is needed."""
    made = plan(OLD, change(OLD, section, **keys))
    assert (made.changed, made.restart) == (("a", "b", "c"), ())
    assert getattr(made.config, section) == getattr(change(OLD, section, **keys), section)


def test_webhooks_need_a_restart() -> None:
    """A changed one is not in force before, and that is told."""
    hook = WebhookConfig(name="crm", url="https://crm.example.com/", secret="x" * 24)
    made = plan(Config(), Config(webhooks=(hook,)))
    assert (made.restart, made.config.webhooks) == (("webhooks",), ())


def test_what_needs_a_restart_is_named() -> None:
    """And stays as it was; asked again, it is named again."""
    new = change(OLD, "storage", dsn="postgresql://other/db")
    new = change(new, "daemon", data_dir="elsewhere", log_level="debug")
    new = change(new, "whatsapp", url="wss://other.example/ws", version="2.3000.9")
    made = plan(OLD, new)
    assert made.restart == ("daemon.data_dir", "daemon.log_level", "storage.dsn", "whatsapp.url")
    assert made.config.storage == OLD.storage
    assert made.config.whatsapp.version == "2.3000.9"
    assert plan(made.config, new).restart == made.restart
    assert plan(made.config, new).changed == ()


def test_every_key_is_one_or_the_other() -> None:
    """A key that changes either takes effect or is named; none is passed over in silence."""
    for section in attrs.fields(Config):
        if not (isinstance(section.type, type) and attrs.has(section.type)):
            continue
        for key in attrs.fields(section.type):
            value = getattr(getattr(OLD, section.name), key.name)
            new = change(OLD, section.name, **{key.name: _other(value)})
            applied = key.name in (APPLIED.get(section.name, ()) or ()) or (
                section.name in APPLIED and APPLIED[section.name] is None
            )
            made = plan(OLD, new)
            assert (made.restart == ()) is applied, (section.name, key.name)
            assert made.restart or made.config == new


def _other(value: object) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case "2.3000.1047769893":
            return "2.3000.1"
        case str():
            return value + "x"
        case tuple():
            return (*value, "other")
    return next(each for each in type(value) if each is not value)  # type: ignore[call-overload]
