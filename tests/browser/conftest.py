"""A real browser, the stage, and where pictures are kept."""

import collections.abc as cabc
import os
import pathlib
import shutil
import typing as t

import pytest
import trio
from browser_driver import Browser, Page

from tests.browser.stage import Stage, open_stage

HERE: t.Final = pathlib.Path(__file__).parent
CHROMIUM: t.Final = os.environ.get("CHROMIUM", "/usr/bin/chromium")
NEEDS: t.Final = frozenset({"browser", "page", "open_page"})


def missing() -> str | None:
    """Why there can be no browser on this machine."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (HERE / "node_modules" / "playwright-core").is_dir():
        return "tests/browser/node_modules is missing: run `make interop`"
    if shutil.which(CHROMIUM) is None:
        return f"there is no {CHROMIUM}; the variable CHROMIUM may name another"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the browser is skipped without one, unless it is required."""
    reason = missing()
    for item in items:
        if HERE not in item.path.parents or not NEEDS & set(getattr(item, "fixturenames", ())):
            continue
        item.add_marker(pytest.mark.interop)
        if reason is not None and os.environ.get("REQUIRE_INTEROP") != "1":
            item.add_marker(pytest.mark.skip(reason=f"no browser: {reason}"))


@pytest.fixture(scope="session")
def browser() -> cabc.Iterator[Browser]:
    """One Chromium for all tests."""
    assert (reason := missing()) is None, f"REQUIRE_INTEROP is set, but {reason}"
    running = Browser()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def artefacts() -> pathlib.Path:
    """Where pictures of the pages are kept: in the directory that ARTEFACTS names, or here."""
    place = pathlib.Path(os.environ.get("ARTEFACTS", HERE / "artefacts"))
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture
async def stage() -> cabc.AsyncIterator[Stage]:
    """A daemon that says what the test wants, with somebody signed in who may do all."""
    with trio.fail_after(60):
        async with open_stage() as stage:
            stage.sign_in()
            yield stage


class OpenPage(t.Protocol):
    """Opens a page with ``browser_driver.Browser.open``'s options."""

    async def __call__(self, **options: t.Any) -> Page: ...


@pytest.fixture
async def open_page(browser: Browser) -> cabc.AsyncIterator[OpenPage]:
    """Opens pages that are closed after the test."""
    opened: list[Page] = []

    async def open_one(**options: t.Any) -> Page:
        opened.append(await browser.open(**options))
        return opened[-1]

    yield open_one
    for page in opened:
        await page.close()


@pytest.fixture
async def page(open_page: OpenPage, stage: Stage) -> Page:
    """A wide, light, English page of the stage, which has loaded."""
    opened = await open_page()
    await opened.goto(stage.url)
    await opened.wait("[data-verdict]")
    return opened
