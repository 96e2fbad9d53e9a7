"""The files of the dashboard: what is served how, and what they may not contain."""

import json
import pathlib
import re
import typing as t

import httpx
import pytest
from hatchling.builders.wheel import WheelBuilder
from litestar import Litestar

import api
from api.dashboard_files import load_dashboard
from api.problems import HANDLERS
from api.routes_dashboard import POLICY, dashboard_routes

ROOT: t.Final = pathlib.Path(api.__file__).parent / "dashboard"
SOURCES: t.Final = sorted(path for path in ROOT.rglob("*") if path.suffix in (".js", ".html"))


@pytest.fixture
async def client() -> t.AsyncIterator[httpx.AsyncClient]:
    """Asks the routes of the dashboard alone."""
    app = Litestar(
        dashboard_routes(t.cast("t.Any", None)), exception_handlers=HANDLERS, logging_config=None
    )
    transport = httpx.ASGITransport(t.cast("t.Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://zapvisor") as client:
        yield client


async def test_the_page(client: httpx.AsyncClient) -> None:
    """Asked for each time, under a policy that lets nothing but its own files in."""
    page = await client.get("/dashboard/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    again = await client.get("/dashboard/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_way_to_it(client: httpx.AsyncClient) -> None:
    """Relative, so that a proxy may have all of it under any path."""
    for path in ("/", "/dashboard"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "dashboard/")


async def test_files_are_for_ever(client: httpx.AsyncClient) -> None:
    """Below a name made of their content; everything that the page names is there."""
    page = (await client.get("/dashboard/")).text
    assert "{{" not in page
    names = re.findall(r'(?:href|src)="([0-9a-f]{16}/[^"]+)"', page)
    assert len(names) == len(set(re.findall(r"[0-9a-f]{16}/\S+\.\w+", page))) + 1  # app.js twice
    for name in names:
        answer = await client.get(f"/dashboard/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-security-policy"] == POLICY
    kinds = {name.rpartition(".")[2] for name in names}
    assert kinds == {"css", "js", "svg"}


@pytest.mark.parametrize(
    "path",
    ["0000000000000000/app.js", "{version}/nothing.js", "{version}/../routes_dashboard.py",
     "{version}/%2e%2e/routes_dashboard.py", "{version}/index.html", "{version}/"],
)  # fmt: skip
async def test_files_that_there_are_not(client: httpx.AsyncClient, path: str) -> None:
    """Of another version, or outside: 404, whatever the spelling."""
    version = load_dashboard().version
    answer = await client.get(f"/dashboard/{path.format(version=version)}")
    assert answer.status_code == 404


def test_another_content_is_another_version(tmp_path: pathlib.Path) -> None:
    """So a browser never mixes two."""
    (tmp_path / "views").mkdir()
    (tmp_path / "index.html").write_text("{{files}}/views/a.js <!-- {{modules}} -->")
    (tmp_path / "views" / "a.js").write_text("1")
    first = load_dashboard(tmp_path)
    assert first.page.content.decode().startswith(f"{first.version}/views/a.js <link")
    (tmp_path / "views" / "a.js").write_text("2")
    second = load_dashboard(tmp_path)
    assert first.version != second.version
    assert first.page.etag != second.page.etag
    (tmp_path / "b.exe").write_text("")
    with pytest.raises(ValueError, match="no type for b"):
        load_dashboard(tmp_path)


def test_the_wheel_has_them() -> None:
    """Every file beside the module is packaged."""
    builder = WheelBuilder(str(ROOT.parents[1]))
    packaged = {each.distribution_path for each in builder.recurse_included_files()}
    wanted = {f"api/dashboard/{path.relative_to(ROOT)}" for path in ROOT.rglob("*.*")}
    assert len(wanted) > 20
    assert wanted <= packaged


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_nothing_that_could_run_what_strangers_write(source: pathlib.Path) -> None:
    """No markup from strings, no code from strings, no inline style or script, nothing from
    elsewhere."""
    text = source.read_text()
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
        r"|\beval\(|new Function|srcdoc|\bstyle=|'style'|\son\w+=\"|javascript:|import\("
    )
    assert re.findall(forbidden, text) == []
    elsewhere = re.findall(r"https?://[\w.]+", text)
    assert set(elsewhere) <= {"http://www.w3.org"}  # a namespace, which nobody loads


def texts(language: str) -> dict[str, str]:
    """A catalogue."""
    found: dict[str, str] = json.loads((ROOT / "texts" / f"{language}.json").read_text())
    return found


def test_both_languages_say_the_same() -> None:
    """The same keys, the same gaps to fill in, and no text left out."""
    english, portuguese = texts("en"), texts("pt-BR")
    assert list(english) == list(portuguese)
    for key, text in english.items():
        assert text.strip(), key
        assert portuguese[key].strip(), key
        assert sorted(re.findall(r"{\w+}", text)) == sorted(
            re.findall(r"{\w+}", portuguese[key])
        ), key
    same = [key for key in english if english[key] == portuguese[key] and " " in english[key]]
    assert [key for key in same if re.sub(r"{\w+}|\W", "", english[key])] == []


def test_every_text_is_there_and_used() -> None:
    """Keys that are written out in the modules are in the catalogues, and the other way round."""
    code = "\n".join(path.read_text() for path in SOURCES)
    english = set(texts("en"))
    plural = {key.rpartition(".")[0] for key in english if key.endswith(".other")}
    literal = set(re.findall(r"\bt\('([\w.]+)'", code))
    assert literal - english - plural == set()
    groups = set(re.findall(r"`([\w.]+)\.\$\{", code)) | set(re.findall(r"word\('(\w+)'", code))
    groups |= set(re.findall(r"steps\('([\w.]+)'", code)) | {"why"}
    spoken = set(re.findall(r"'([a-z]\w*(?:\.\w+)+)'", code))
    unused = {
        key
        for key in english
        if key not in spoken
        and key.rpartition(".")[0] not in spoken | groups
        and not any(key.startswith(f"{group}.") for group in groups)
    }
    assert unused == set()


def test_modules_are_complete() -> None:
    """What a module imports is exported by the one that it names."""
    for source in (path for path in SOURCES if path.suffix == ".js"):
        for names, place in re.findall(r"import \{([^}]+)\} from '([^']+)'", source.read_text()):
            other = (source.parent / place).resolve()
            exported = other.read_text()
            for name in (each.strip().partition(" as ")[0] for each in names.split(",")):
                pattern = rf"export (?:async )?(?:function|const|class) {re.escape(name)}\b"
                assert re.search(pattern, exported), f"{source.name}: {name} of {place}"
