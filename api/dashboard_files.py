"""The files of the dashboard, read once: their types, tags, and the version of them all.

They are served below a name made of their content, so that a browser may keep them for ever and
still never mixes two versions. Only the page itself is asked for each time.
"""

import collections.abc as cabc
import hashlib
import html
import importlib.resources
import typing as t
from importlib.resources.abc import Traversable

import attrs

PAGE: t.Final = "index.html"
PLACE: t.Final = "{{files}}"  # in the page: where the files are
MODULES: t.Final = "<!-- {{modules}} -->"  # in the page: what to load at once
TYPES: t.Final[cabc.Mapping[str, str]] = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_VERSION_LENGTH: t.Final = 16  # characters


@attrs.frozen(kw_only=True)
class StaticFile:
    """One file as it is sent."""

    content: bytes = attrs.field(repr=False)
    media_type: str
    etag: str


@attrs.frozen(kw_only=True)
class DashboardFiles:
    """The page, and the files that it loads by their paths."""

    version: str
    page: StaticFile
    files: cabc.Mapping[str, StaticFile]


def load_dashboard(root: Traversable | None = None) -> DashboardFiles:
    """Read the files that are packaged beside this module.

    Raises:
        ValueError: one has a name whose type is not known.
    """
    found = dict(_walk(root or importlib.resources.files("api") / "dashboard", ""))
    page = found.pop(PAGE)
    digest = hashlib.sha256()
    for path, content in sorted(found.items()):
        digest.update(b"%s\0%d\0" % (path.encode(), len(content)))
        digest.update(content)
    version = digest.hexdigest()[:_VERSION_LENGTH]
    modules = "\n".join(
        f'<link rel="modulepreload" href="{PLACE}/{html.escape(path)}">'
        for path in sorted(found)
        if path.endswith(".js") and not path.startswith("early")
    )
    text = page.decode().replace(MODULES, modules).replace(PLACE, version)
    return DashboardFiles(
        version=version,
        page=_file(PAGE, text.encode()),
        files={path: _file(path, content) for path, content in found.items()},
    )


def _walk(directory: Traversable, prefix: str) -> cabc.Iterator[tuple[str, bytes]]:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif not entry.name.startswith("."):
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _file(path: str, content: bytes) -> StaticFile:
    extension = path.rpartition(".")[2]
    if extension not in TYPES:
        raise ValueError(f"the dashboard has no type for {path}")
    etag = f'"{hashlib.sha256(content).hexdigest()[:_VERSION_LENGTH]}"'
    return StaticFile(content=content, media_type=TYPES[extension], etag=etag)
