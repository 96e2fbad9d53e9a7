"""docs/getting-started.md says what really happens: its commands are run, its output compared."""

import importlib.util
import pathlib
import types
import typing as t

SCRIPT: t.Final = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "getting_started.py"


def load() -> types.ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("getting_started", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_transcript_is_what_happens() -> None:
    """Start, pair, receive, answer, stop, break the database, repair it, end: as the document has
    it, but for times, keys and the like."""
    script = load()
    with script.place() as shell:
        _after, differences = script.transcript(script.DOCUMENT.read_text(), shell)
    assert not differences, "\n\n".join(differences)


def test_what_changes_from_run_to_run_is_not_compared() -> None:
    """Times, ages, keys, tokens and widths differ; words and counts do not."""
    normalised = load().normalised
    one = "id  when     who\n────────\n 1  14 s ago  Ana 2026-11-27T15:27:02Z zv_ab-c 0.1 s"
    other = "id  when      who\n──────────\n 1  2 min ago  Ana 2027-01-01T00:00:00.5Z zv_x 35 ms"
    assert normalised(one) == normalised(other)
    assert normalised("messages 3") != normalised("messages 4")
    assert normalised("online") != normalised("backoff")


def test_a_block_is_read_as_a_shell_reads_it() -> None:
    """Continued lines and here-documents belong to their command; the rest was printed."""
    block = "$ cat <<END\na\nEND\nprinted\n$ one \\\n  more\n$ two\n"
    assert list(load().steps(block)) == [
        ("cat <<END\na\nEND\n", "printed\n"),
        ("one \\\n  more\n", ""),
        ("two\n", ""),
    ]
