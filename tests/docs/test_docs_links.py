"""Links of the documents lead somewhere: files exist, anchors are headings."""

import functools
import pathlib
import re
import subprocess
import typing as t
import urllib.parse

import pytest

ROOT: t.Final = pathlib.Path(__file__).resolve().parents[2]

_FENCE: t.Final = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.DOTALL | re.MULTILINE)
_CODE: t.Final = re.compile(r"`[^`\n]*`")
_LINK: t.Final = re.compile(r"\[[^\[\]]*\]\(<?([^()<>\s]+)>?(?: \"[^\"]*\")?\)")
_HEADING: t.Final = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ANCHOR: t.Final = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


def documents() -> list[pathlib.Path]:
    """Every Markdown file of the repository, those that are not committed yet included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:  # an archive without its history
        found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]
    else:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    return sorted(path for path in found if path.exists())


def links(text: str) -> list[str]:
    """Where the prose of a document leads."""
    return _LINK.findall(_CODE.sub("`code`", _FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """What a link into a document may name: the headings, as repository hosts spell them."""
    seen: dict[str, int] = {}
    found = set(_ANCHOR.findall(text))
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = seen.get(slug, 0)
        seen[slug] = number + 1
        found.add(slug if number == 0 else f"{slug}-{number}")
    return found


@functools.cache
def anchors_of(path: pathlib.Path) -> frozenset[str]:
    """The anchors of a file."""
    return frozenset(anchors(path.read_text()))


def broken(path: pathlib.Path, text: str) -> list[str]:
    """The links of a document that lead nowhere in the repository."""
    wrong = []
    for link in links(text):
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or parts.netloc:
            continue  # out of the repository
        place = urllib.parse.unquote(parts.path)
        target = (path.parent / place).resolve() if place else path
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (parts.fragment and not _has_anchor(path, text, target, parts.fragment)):
            wrong.append(link)
    return wrong


def _has_anchor(path: pathlib.Path, text: str, target: pathlib.Path, fragment: str) -> bool:
    return fragment in (anchors(text) if target == path else anchors_of(target))


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    """Every relative link of a document names a file, and a heading of it."""
    assert broken(path, path.read_text()) == []


def test_every_document_is_in_the_index() -> None:
    """Whoever opens docs/ finds all of it."""
    index = ROOT / "docs" / "README.md"
    named = {
        (index.parent / link).resolve() for link in links(index.read_text()) if ":" not in link
    }
    assert {path for path in documents() if path.parent == index.parent} - {index} <= named


def test_wrong_links_are_found() -> None:
    """The test can fail: a missing file, a missing heading, a path out of the repository."""
    text = (
        "# One `code` heading\n[a](nowhere.md) [b](#one-code-heading) [c](#two) [d](../../x)"
        " [e](CHANGELOG.md#nothing) [f](https://example.com/x) `[g](x.md)`\n"
        "```\n# No [h](y.md)\n```\n"
    )
    assert broken(ROOT / "README.md", text) == [
        "nowhere.md",
        "#two",
        "../../x",
        "CHANGELOG.md#nothing",
    ]
