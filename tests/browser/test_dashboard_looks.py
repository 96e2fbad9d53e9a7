"""How the dashboard looks: wide and on a phone, light and dark, in both languages. The pictures are
kept; what can be said about them without eyes is checked here."""

import itertools
import pathlib
import typing as t

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.stage import Stage
from tests.browser.stage_props import alert, calm

PLACES: t.Final = {
    "overview": ("#/", "#traffic-chart, [data-key=traffic-chart] svg"),
    "connection": ("#/connections/matriz", "[data-key=uptime-chart] svg"),
    "conversations": ("#/conversations", ".conversations li"),
    "thread": ("#/conversations/1", "[data-message='142']"),
    "alerts": ("#/alerts", "tbody tr"),
    "gaps": ("#/gaps?all", "tbody tr"),
    "quarantine": ("#/quarantine", "tbody tr"),
}
WIDE: t.Final = {"width": 1440, "height": 900}
PHONE: t.Final = {"width": 360, "height": 740}
LOOKS: t.Final = {
    "wide-light-en": WIDE | {"scheme": "light", "locale": "en-GB"},
    "phone-dark-pt": PHONE | {"scheme": "dark", "locale": "pt-BR"},
    "wide-dark-pt": WIDE | {"scheme": "dark", "locale": "pt-BR"},
    "phone-light-en": PHONE | {"scheme": "light", "locale": "en-GB"},
}
SOME: t.Final = ("overview", "thread")  # where the second pair of looks is enough


@pytest.mark.parametrize("look", LOOKS)
async def test_every_page_in_every_look(
    open_page: OpenPage, stage: Stage, artefacts: pathlib.Path, look: str
) -> None:
    """Nothing sticks out, everything can be read, has its name, and breaks no rule."""
    stage.alerts = [alert(1), alert(2, severity="critical", silenced_by="silence 1")]
    page = await open_page(**LOOKS[look])
    await page.goto(stage.url)
    await page.wait("[data-verdict]")
    for name, (place, there) in PLACES.items():
        if look in tuple(LOOKS)[2:] and name not in SOME:
            continue
        await page.visit(place)
        await page.wait(there)
        await page.shot(artefacts / f"{name}-{look}.png", full=True)
        found = await page.audit()
        assert (found.wide, found.scrolls) == ([], False), f"{name}: wider than the screen"
        assert found.measured > 20, f"{name}: nothing was measured"
        assert found.faint == [], f"{name}: too little contrast"
        assert found.nameless() == [], f"{name}: a control without a name"
        assert found.small == [], f"{name}: too small for a finger"
        levels = [level for level, _text in found.headings]
        assert levels.count(1) == 1, f"{name}: {found.headings}"
        steps = [after - before for before, after in itertools.pairwise(levels)]
        assert max([0, *steps]) <= 1, f"{name}: a heading is left out: {found.headings}"
        assert {"banner", "navigation", "main"} <= found.roles()
        assert await page.problems() == [], name


async def test_a_good_day(open_page: OpenPage, stage: Stage, artefacts: pathlib.Path) -> None:
    """When all is well, that is all that is said."""
    stage.health = calm()
    page = await open_page(**LOOKS["wide-light-en"])
    await page.goto(stage.url)
    await page.wait("[data-verdict=ok]")
    await page.wait("[data-key=traffic-chart] svg")
    await page.shot(artefacts / "overview-calm.png", full=True)
    assert await page.text("[data-verdict] h2") == "All is well"
    assert await page.count(".troubles li") == 0
    assert await page.js("document.title") == "Overview · zapvisor"


@pytest.mark.parametrize("look", ["wide-light-en", "phone-dark-pt"])
async def test_pairing_looks(
    open_page: OpenPage, stage: Stage, artefacts: pathlib.Path, look: str
) -> None:
    """The picture to scan, the letters to type, and the end."""
    page = await open_page(**LOOKS[look])
    await page.goto(stage.url + "#/connections/novo-numero")
    await page.click("[data-order=pair]")
    await page.wait("img.qr")
    await page.until("document.querySelector('img.qr').naturalWidth > 100")
    await page.shot(artefacts / f"pairing-qr-{look}.png")
    found = await page.audit()
    assert (found.wide, found.faint, found.nameless()) == ([], [], [])
    await page.click("dialog summary")
    await page.fill("#phone", "+55 11 99999-0009")
    await page.press("Tab")
    stage.pairing["version"] += 1  # a new picture, while somebody writes
    stage.wake()
    version = stage.pairing["version"]
    await page.until(f"document.querySelector('img.qr').src.endsWith('version={version}')")
    assert await page.js("document.getElementById('phone').value") == "+55 11 99999-0009"
    await page.press("Enter")
    await page.wait(".letters")
    assert await page.text(".letters") == "ABCD-1234"
    await page.shot(artefacts / f"pairing-code-{look}.png")
    stage.pairing |= {"version": stage.pairing["version"] + 1, "state": "paired", "code": None}
    stage.wake()
    await page.wait("[data-pairing=paired]")
    await page.shot(artefacts / f"pairing-done-{look}.png")
    assert await page.problems() == []


async def test_signing_in_looks(open_page: OpenPage, stage: Stage, artefacts: pathlib.Path) -> None:
    """One field, and how to get what belongs into it."""
    stage.session = None
    page = await open_page(**LOOKS["phone-dark-pt"])
    await page.goto(stage.url)
    await page.wait("#token")
    await page.shot(artefacts / "login.png")
    found = await page.audit()
    assert (found.wide, found.faint, found.nameless()) == ([], [], [])
