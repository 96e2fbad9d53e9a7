"""``[[retention]]``: what may stand there, and how a misspelt kind is told."""

import re
import tomllib
from pathlib import Path

import attrs
import pytest

from actors.notices import CALL, SYSTEM
from actors.reading import PROTOCOL
from config.errors import ConfigError
from config.load import load_config
from config.model import Config
from config.retention import RetentionConfig, RetentionWhat
from storage.exports.whatsapp_records import OMITTED
from whatsapp.content_kinds import STORED_KINDS

SAMPLE = Path(__file__).resolve().parents[2] / "supervisor.toml"


def read(tmp_path: Path, table: str) -> Config:
    """The configuration with a rule of these lines, from line 2 on."""
    path = tmp_path / "supervisor.toml"
    path.write_text(f"[[retention]]\n{table}\n")
    return load_config(path, {})


def test_the_sample_shows_a_rule(tmp_path: Path) -> None:
    """The commented table holds every key, with the values that apply without it."""
    comment = SAMPLE.read_text().partition("# [[retention]]\n")[2].partition("\n\n")[0]
    text = re.sub(r"(?m)^# ", "", comment)
    assert list(tomllib.loads(text)) == [each.name for each in attrs.fields(RetentionConfig)]
    (rule,) = read(tmp_path, text).retention
    assert rule == RetentionConfig(after=365 * 86400)


def test_every_kind_of_message_may_have_a_rule(tmp_path: Path) -> None:
    """What messages say, and what the program makes of them."""
    assert {"text", "voice", "poll_vote", "unknown", CALL, SYSTEM, PROTOCOL, OMITTED} < STORED_KINDS
    kinds = ", ".join(f'"{kind}"' for kind in sorted(STORED_KINDS))
    (rule,) = read(tmp_path, f'after = "40d"\nkinds = [{kinds}]\nwhat = "media"').retention
    assert set(rule.kinds) == STORED_KINDS
    assert rule.what is RetentionWhat.MEDIA


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('after = "40d"\nkinds = ["text", "vioce"]', '"vioce" is unknown; expected kinds of'),
        ('after = "40d"\nkinds = ["vioce"]', 'did you mean "voice"?'),
        ('after = "40d"\nkinds = ["Images"]', 'did you mean "image"?'),
        ('after = "40d"\nkinds = ["none"]', '"none" is unknown'),
        ('after = "40d"\nkinds = []', "the array is empty"),
        ('after = "40d"\nkinds = "*"', "not an array of texts"),
        ('after = "1h"', "out of range"),
        ('what = "files"\nkinds = ["*"]\nafter = "40d"', "unknown"),
        ('kinds = ["*"]', "the rule has no after"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, table: str, said: str) -> None:
    """With their place, and what was meant."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, table)
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert "retention[1]" in problem.key
