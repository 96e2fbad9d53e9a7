"""``[[channels]]``: what may stand there, and that nothing of their URLs is shown."""

import re
import tomllib
from pathlib import Path

import attrs
import pytest

from config.alerts import Severity
from config.channels import ChannelConfig, Language
from config.errors import ConfigError
from config.load import load_config
from config.model import Config

SAMPLE = Path(__file__).resolve().parents[2] / "supervisor.toml"
URL = 'url = "mailtos://me:hush@smtp.example.com"'


def read(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    """The configuration of this text."""
    path = tmp_path / "supervisor.toml"
    path.write_text(text)
    return load_config(path, environ or {})


def test_the_sample_shows_a_channel(tmp_path: Path) -> None:
    """The commented table holds every key, with the values that apply without it."""
    comment = SAMPLE.read_text().partition("# [[channels]]\n")[2].partition("\n\n")[0]
    text = "[[channels]]\n" + re.sub(r"(?m)^# ", "", comment)
    assert list(tomllib.loads(text)["channels"][0]) == [
        field.name for field in attrs.fields(ChannelConfig)
    ]
    (channel,) = read(tmp_path, text).channels
    assert channel == ChannelConfig(name="mail", url_file="mail.url")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Paths start from the file; the URL is in no picture of it."""
    config = read(
        tmp_path,
        f'[[channels]]\nname = "mail"\n{URL}\nseverity = "critical"\nlanguage = "pt-BR"\n'
        'kinds = ["report"]\nconnections = ["sales"]\nca_file = "ca.pem"\n'
        '[[channels]]\nname = "chat"\nurl_file = "chat.url"\n',
    )
    mail, chat = config.channels
    assert (mail.severity, mail.language) == (Severity.CRITICAL, Language.PORTUGUESE)
    assert (mail.kinds, mail.connections) == (("report",), ("sales",))
    assert config.channel_ca_file(mail) == tmp_path / "ca.pem"
    assert config.channel_url_file(mail) is None
    assert config.channel_url_file(chat) == tmp_path / "chat.url"
    assert "hush" in mail.url
    assert "hush" not in repr(config)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('name = "mail"', "one of url, url_file and url_variable"),
        (f'name = "mail"\n{URL}\nurl_file = "x"', "one of url, url_file and url_variable"),
        (URL, "the channel has no name"),
        ('name = "mail"\nurl = "hush"', "no such URL"),
        ('name = "mail"\nurl = "mailto://hush hush"', "no such URL"),
        ('name = "mail"\nurl = 5', "not text"),
        (f'name = "mail"\n{URL}\nkinds = ["alarm"]', "some of alert, report"),
        (f'name = "mail"\n{URL}\nseverity = "warn"', 'did you mean "warning"'),
        (f'name = "mail"\n{URL}\nlanguage = "pt"', '"pt-BR"'),
        (f'name = "mail"\n{URL}\nattempts = 0', "1 to 1000"),
        (f'name = "mail"\n{URL}\nurls = "hush"', "unknown name"),
        ('name = "mail"\nurl_variable = "a b"', "environment variable"),
    ],
)
def test_channels_that_cannot_be(tmp_path: Path, table: str, words: str) -> None:
    """Each is told, without what may be secret."""
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f"[[channels]]\n{table}\n")
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)


def test_two_channels_of_one_name(tmp_path: Path) -> None:
    """The second one is told where the first is."""
    table = f'[[channels]]\nname = "mail"\n{URL}\n'
    with pytest.raises(ConfigError, match=r"taken by .*:2"):
        read(tmp_path, table + table)


def test_variables_that_channels_name_are_known(tmp_path: Path) -> None:
    """One that begins as ours do is no mistake then; other ones are."""
    table = '[[channels]]\nname = "mail"\nurl_variable = "ZAPVISOR_MAIL"\n'
    assert read(tmp_path, table, {"ZAPVISOR_MAIL": "hush"}).channels[0].url == ""
    with pytest.raises(ConfigError, match="ZAPVISOR_CHAT"):
        read(tmp_path, table, {"ZAPVISOR_CHAT": "hush"})
