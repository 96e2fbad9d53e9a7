"""Every harness of ``fuzz/`` without a fuzzer: the kept corpus, and what Hypothesis makes of it."""

import pathlib
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import __main__ as fuzz
from fuzz import fields, trees
from fuzz.harness import Target
from fuzz.targets import TARGETS

WORDS: t.Final = ("count", "from", "id", "item", "jid", "key", "list", "participant", "t", "type")


def corpus(name: str) -> list[pathlib.Path]:
    return sorted(fuzz.CORPUS.joinpath(name).iterdir())


def test_every_harness_has_a_corpus() -> None:
    """And nothing lies around for a harness that is gone."""
    assert {path.name for path in fuzz.CORPUS.iterdir()} == set(TARGETS)
    assert all(map(corpus, TARGETS))


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_breaks_nothing(name: str) -> None:
    """What reaches every corner, and all that ever broke something."""
    for path in corpus(name):
        TARGETS[name].run(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300))
def test_any_bytes_break_nothing(name: str, data: bytes) -> None:
    """Bytes from a peer raise nothing but ``RemoteProtocolError``, which harnesses let pass."""
    TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_changed_inputs_break_nothing(name: str, data: st.DataObject, seed: int) -> None:
    """The same for inputs that are nearly right."""
    target = TARGETS[name]
    start = data.draw(st.sampled_from(corpus(name))).read_bytes()
    changed = _changed(target, start, seed)
    target.run(start if changed is None else changed)


def _changed(target: Target, data: bytes, seed: int) -> bytes | None:
    if target.form == "node":
        return trees.mutate(data, target.max_length, seed, WORDS)
    skipped = int(target.form == "choice")
    if target.form == "bytes":
        at = seed % max(len(data), 1)
        return data[:at] + bytes([seed >> 24 & 0xFF]) + data[at + 1 :]
    tail = fields.mutate(data[skipped:], target.max_length, seed)
    return None if tail is None else data[:skipped] + tail
