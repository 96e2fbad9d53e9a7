"""The model, its sample file, and what is derived from it."""

import re
import tomllib
from pathlib import Path

import attrs
import pytest

from config.environment import OTHERS, variables
from config.errors import ConfigError
from config.events import WebhookConfig
from config.load import load_config
from config.media import MediaConfig
from config.model import Config, ConnectionConfig, ConversationsConfig, ReopenFrom

SAMPLE = Path(__file__).parents[2] / "supervisor.toml"


def test_the_sample_holds_the_defaults() -> None:
    """Loading ``supervisor.toml`` changes nothing."""
    loaded = load_config(SAMPLE, {})
    assert attrs.evolve(loaded, path=None, base_dir=Path("/")) == Config(base_dir=Path("/"))


def test_the_sample_holds_every_key() -> None:
    """Each section and key of the model is written out, in the model's order."""
    document = tomllib.loads(SAMPLE.read_text())
    sections = {
        field.name: [key.name for key in attrs.fields(field.type)]
        for field in attrs.fields(Config)
        if isinstance(field.type, type) and attrs.has(field.type)
    }
    assert {name: list(table) for name, table in document.items()} == sections


def test_the_sample_shows_a_connection() -> None:
    """The commented table holds every key, with the values that apply without it."""
    comment = SAMPLE.read_text().partition("# [[connections]]\n")[2]
    table = tomllib.loads(re.sub(r"(?m)^# ", "", comment))
    assert list(table) == [field.name for field in attrs.fields(ConnectionConfig)]
    text = "[[connections]]\n" + re.sub(r"(?m)^# ", "", comment)
    (connection,) = _load_text(text).connections
    rules = Config().conversations
    assert connection == ConnectionConfig(
        name="sales",
        proxy=Config().whatsapp.proxy,
        reopen_window=rules.reopen_window,
        reopen_from=rules.reopen_from,
        team_reopens=rules.team_reopens,
        groups=rules.groups,
    )


def test_the_sample_shows_a_webhook() -> None:
    """The commented table holds every key, with the values that apply without it."""
    comment = SAMPLE.read_text().partition("# [[webhooks]]\n")[2].partition("\n\n")[0]
    text = "[[webhooks]]\n" + re.sub(r"(?m)^# ", "", comment)
    assert list(tomllib.loads(text)["webhooks"][0]) == [
        field.name for field in attrs.fields(WebhookConfig)
    ]
    (webhook,) = _load_text(text).webhooks
    assert webhook == WebhookConfig(
        name="crm", url="https://crm.example.com/hooks/zapvisor", secret_file="crm.secret"
    )


def test_secrets_of_webhooks_and_nats_are_not_shown() -> None:
    """Nor are addresses that may hold some."""
    text = (
        '[nats]\nurl = "nats://user:hush@host"\ntoken = "hush"\n'
        '[[webhooks]]\nname = "crm"\nurl = "https://x/?key=hush"\nsecret = "hush"\n'
    )
    config = _load_text(text)
    assert config.webhooks[0].secret == "hush"
    assert "hush" not in repr(config)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('name = "crm"\nurl = "https://x/"', "either a secret or a secret_file"),
        ('name = "crm"\nurl = "https://x/"\nsecret = "a"\nsecret_file = "b"', "either a secret"),
        ('url = "https://x/"\nsecret = "a"', "has no name"),
        ('name = "crm"\nsecret = "a"', "has no url"),
        ('name = "crm"\nurl = "ftp://hush/"\nsecret = "a"', "no such URL"),
        ('name = "crm"\nurl = "https://x/"\nsecret = "a"\ntypes = ["message"]', "message.stored"),
    ],
)
def test_webhooks_that_cannot_be(table: str, words: str) -> None:
    """Each is told, without what may be secret."""
    with pytest.raises(ConfigError) as refused:
        _load_text(f"[[webhooks]]\n{table}\n")
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)


def test_two_webhooks_of_one_name() -> None:
    """The second one is told where the first is."""
    table = '[[webhooks]]\nname = "crm"\nurl = "https://x/"\nsecret = "a"\n'
    with pytest.raises(ConfigError, match=r"taken by .*:2"):
        _load_text(table + table)


def _load_text(text: str) -> Config:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "supervisor.toml"
        path.write_text(text)
        return load_config(path, {})


def test_every_comment_line_fits() -> None:
    """The sample reads well in a terminal."""
    assert max(len(line) for line in SAMPLE.read_text().splitlines()) <= 100


def test_paths_start_from_the_file(tmp_path: Path) -> None:
    """Relative to the directory of the file, absolute as they are, home expanded."""
    path = tmp_path / "etc" / "zapvisor.toml"
    path.parent.mkdir()
    path.write_text('[daemon]\ndata_dir = "../data"\n[storage]\nkey_file = "/run/key"\n')
    config = load_config(path, {})
    assert config.data_dir == tmp_path / "data"
    assert config.control_socket == tmp_path / "data" / "control.sock"
    assert config.key_file == Path("/run/key")
    assert (config.path, config.base_dir) == (path, path.parent)
    assert load_config(path, {"ZAPVISOR_CONTROL_SOCKET": "c.sock"}).control_socket == (
        path.parent / "c.sock"
    )


def test_the_default_key_file_is_in_the_data_directory() -> None:
    """So are the control socket and the files of messages."""
    config = Config(base_dir=Path("/srv/zapvisor"))
    assert config.key_file == Path("/srv/zapvisor/data/secret.key")
    assert config.control_socket == Path("/srv/zapvisor/data/control.sock")
    assert config.media_directory == Path("/srv/zapvisor/data/media")
    assert config.media_ca_file is None
    media = MediaConfig(directory="/files", ca_file="ca.pem", kinds=())
    config = attrs.evolve(config, media=media)
    assert config.media_directory == Path("/files")
    assert config.media_ca_file == Path("/srv/zapvisor/ca.pem")


def test_a_connection_overrides_the_conversation_rules() -> None:
    """Only in what it says itself."""
    config = Config(
        conversations=ConversationsConfig(reopen_window=60.0, team_reopens=True),
        connections=(
            ConnectionConfig(name="sales", reopen_from=ReopenFrom.LAST_MESSAGE, groups=False),
            ConnectionConfig(name="support", reopen_window=0.0, team_reopens=False),
        ),
    )
    assert config.conversations_for("sales") == ConversationsConfig(
        reopen_window=60.0, team_reopens=True, reopen_from=ReopenFrom.LAST_MESSAGE, groups=False
    )
    assert config.conversations_for("support") == ConversationsConfig(reopen_window=0.0)
    assert config.conversations_for("unknown") == config.conversations
    assert config.connection("sales") is config.connections[0]
    assert config.connection("unknown") is None


def test_derived_values() -> None:
    """What the program needs in another form."""
    config = Config()
    assert config.whatsapp.version_numbers == (2, 3000, 1047769893)
    assert config.whatsapp.root_key_bytes is None
    assert attrs.evolve(config.whatsapp, root_key="0a" * 32).root_key_bytes == b"\n" * 32
    assert config.storage.embedded
    assert config.control.mode == 0o660


def test_the_dsn_is_not_in_the_representation() -> None:
    """It may hold a password, and configurations get logged."""
    config = attrs.evolve(Config().storage, dsn="postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(config)
    assert not config.embedded


def test_every_key_has_a_variable_of_its_own() -> None:
    """No two keys share one, none is one of the others."""
    names = variables()
    assert len(set(names.values())) == len(names)
    assert not set(names) & set(OTHERS)
    assert names["ZAPVISOR_STORAGE_DSN"] == ("storage", "dsn")


def test_the_model_is_frozen() -> None:
    """Nobody changes the configuration of a running daemon."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().daemon.data_dir = "x"  # type: ignore[misc]


def test_each_connection_has_its_way_out() -> None:
    """A connection's own proxy counts, none at all included; else the one of all. None is shown."""
    config = _load_text(
        '[whatsapp]\nproxy = "socks5h://user:hunter2@proxy:1080"\n'
        '[[connections]]\nname = "one"\n'
        '[[connections]]\nname = "two"\nproxy = "http://other"\n'
        '[[connections]]\nname = "three"\nproxy = ""\n'
    )
    ways = [config.proxy_for(name) for name in ("one", "two", "three")]
    assert ways == ["socks5h://user:hunter2@proxy:1080", "http://other", ""]
    assert "hunter2" not in repr(config)
