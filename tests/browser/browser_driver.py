"""A real browser as tests hold it: orders to the node process behind JSON lines."""

import itertools
import json
import pathlib
import subprocess
import threading
import typing as t

import attrs
import trio

HERE: t.Final = pathlib.Path(__file__).parent
TIMEOUT: t.Final = 60.0  # seconds; after that the browser is ended


class BrowserError(Exception):
    """The browser could not do it; the text is its own."""


@attrs.define(kw_only=True)
class Audit:
    """What is to be said against a page."""

    measured: int  # texts whose contrast was computed
    faint: list[str]  # texts with too little contrast
    wide: list[str]  # elements that reach beyond the right edge
    scrolls: bool  # sideways
    headings: list[tuple[int, str]]
    small: list[str]  # controls that are hard to hit with a finger
    tree: list[dict[str, str]]  # role and name, as a screen reader gets them

    def nameless(self) -> list[str]:
        """The roles of controls and pictures without a name."""
        named = {
            "button", "link", "textbox", "searchbox", "combobox", "checkbox", "img", "image",
            "table", "dialog", "navigation", "region", "group", "radio", "figure",
        }  # fmt: skip
        optional = {"figure", "group"}
        return [
            node["role"]
            for node in self.tree
            if node["role"] in named - optional and not node["name"].strip()
        ]

    def roles(self) -> set[str]:
        """Every role there is."""
        return {node["role"] for node in self.tree}


class Browser:
    """One Chromium for many tests."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            ["node", str(HERE / "browser.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=HERE,
            text=True,
        )
        self.version: str = self._read()["ready"]

    def close(self) -> None:
        """End it."""
        try:
            self._process.communicate(timeout=10)
        finally:
            self._process.kill()
            self._process.communicate()

    async def call(self, op: str, **order: t.Any) -> t.Any:
        """One order, and its answer.

        Raises:
            BrowserError: it was not possible.
        """
        return await trio.to_thread.run_sync(self._call, op, order)

    async def open(self, **options: t.Any) -> "Page":
        """A page of a browser that has seen nothing yet."""
        return Page(browser=self, number=await self.call("open", **options))

    def _call(self, op: str, order: dict[str, t.Any]) -> t.Any:
        with self._lock:
            number = next(self._numbers)
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"id": number, "op": op, **order}) + "\n")
            self._process.stdin.flush()
            answer = self._read()
        assert answer["re"] == number
        if not answer["ok"]:
            raise BrowserError(f"{op} {order}: {answer['error']}")
        return answer["value"]

    def _read(self) -> dict[str, t.Any]:
        assert self._process.stdout is not None
        watchdog = threading.Timer(TIMEOUT, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise BrowserError("the browser is gone")
        found: dict[str, t.Any] = json.loads(line)
        return found


@attrs.define(kw_only=True)
class Page:
    """One page. Selectors are those of playwright: CSS, ``text=…``, ``role=button[name="…"]``."""

    browser: Browser
    number: int

    async def call(self, op: str, **order: t.Any) -> t.Any:
        """One order to this page."""
        return await self.browser.call(op, page=self.number, **order)

    async def goto(self, url: str) -> None:
        """Load a page; only its host may be asked for anything from now on."""
        await self.call("goto", url=url)

    async def visit(self, place: str) -> None:
        """Go to a place of the dashboard, such as ``#/gaps``."""
        await self.call("js", expression=f"location.hash = {json.dumps(place)}")

    async def click(self, selector: str, *, force: bool = False) -> None:
        """Click, once it can be; or, with ``force``, although it says that it does nothing."""
        await self.call("click", selector=selector, force=force)

    async def fill(self, selector: str, value: str) -> None:
        """Write into a field."""
        await self.call("fill", selector=selector, value=value)

    async def select(self, selector: str, value: str) -> None:
        """Choose from a list."""
        await self.call("select", selector=selector, value=value)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            await self.call("press", keys=key)

    async def wait(self, selector: str, state: str = "visible") -> None:
        """Wait until something is there; or, ``hidden``, not any more."""
        await self.call("wait", selector=selector, state=state)

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        await self.call("until", expression=expression)

    async def text(self, selector: str) -> str:
        """What one reads there."""
        return str(await self.call("text", selector=selector))

    async def count(self, selector: str) -> int:
        """How many there are."""
        return int(await self.call("count", selector=selector))

    async def js(self, expression: str) -> t.Any:
        """The value of an expression in the page."""
        return await self.call("js", expression=expression)

    async def shot(self, path: pathlib.Path, *, full: bool = False) -> None:
        """A picture of it."""
        await self.call("shot", path=str(path), full=full)

    async def audit(self) -> Audit:
        """Look for what makes it hard to use."""
        return Audit(**await self.call("audit"))

    async def problems(self) -> list[str]:
        """What went wrong since the last time: console, policy, requests to elsewhere."""
        return list(await self.call("problems"))

    async def close(self) -> None:
        """Close it."""
        await self.call("close")
