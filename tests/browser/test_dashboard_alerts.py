"""The alerts of the dashboard, in a real browser, with an API on a stage."""

from browser_driver import Page

from tests.browser import stage_props as props
from tests.browser.conftest import OpenPage
from tests.browser.stage import Stage


async def test_the_list(page: Page, stage: Stage) -> None:
    """State, since, cause and advice; those that are over when asked for."""
    over = props.alert(1, state="resolved", resolved_at=props.ago(60), title="Everything was bad")
    fleet = props.alert(
        3, rule="database", severity="critical", connection=None, subjects=[],
        title="The database does not answer",
    )  # fmt: skip
    stage.alerts = [fleet, props.alert(2), over]
    await page.visit("#/alerts")
    await page.wait("tr[data-key='2']")
    row = await page.text("tr[data-key='2']")
    assert "No connection to WhatsApp: vendas" in row
    assert "firing" in row
    assert "Look at the network." in row
    await page.click("tr[data-key='2'] summary")
    assert "The network of this machine." in await page.text("tr[data-key='2'] details")
    assert "<b>reset</b>" in await page.text("tr[data-key='2'] details")
    assert "critical" in await page.text("tr[data-key='3']")
    assert await page.count("tr[data-key='1']") == 0
    await page.wait("nav a[href='#/alerts'] .count:has-text('2')")
    await page.click("main input[type=checkbox]")
    await page.wait("tr[data-key='1']")
    assert await page.problems() == []


async def test_acknowledging(page: Page, stage: Stage) -> None:
    """One click; it stays in the list with who takes care of it."""
    stage.alerts = [props.alert(2)]
    await page.visit("#/alerts")
    await page.click("tr[data-key='2'] [data-order=acknowledge]")
    await page.wait("text=acknowledged")
    assert "POST /alerts/2/ack stage" in stage.asked
    assert await page.count("[data-order=acknowledge]") == 0


async def test_silencing(page: Page, stage: Stage) -> None:
    """For a time that is asked for; what concerns no connection is silenced by its rule."""
    fleet = props.alert(3, rule="database", connection=None, subjects=[], title="Database")
    stage.alerts = [props.alert(2), fleet]
    await page.visit("#/alerts")
    await page.click("tr[data-key='2'] [data-order=silence]")
    await page.click("dialog >> role=button[name=/^4h/]")
    await page.wait("tr[data-key='2'] >> text=silenced")
    assert "POST /silences vendas all=False down 14400" in stage.asked
    await page.click("tr[data-key='3'] [data-order=silence]")
    await page.click("dialog >> role=button[name=/^1h/]")
    await page.wait("tr[data-key='3'] >> text=silenced")
    assert "POST /silences None all=True database 3600" in stage.asked


async def test_reading_is_not_operating(open_page: OpenPage, stage: Stage) -> None:
    """A token that may only read sees the buttons, and why they do nothing."""
    stage.sign_in("read")
    stage.alerts = [props.alert(2)]
    page = await open_page()
    await page.goto(f"{stage.url}#/alerts")
    await page.wait("tr[data-key='2']")
    assert await page.count("[data-order=acknowledge][aria-disabled=true]") == 1
    await page.js("document.querySelector('[data-order=acknowledge]').click()")
    assert not [each for each in stage.asked if each.startswith("POST /alerts")]


async def test_alerts_come_and_go_on_the_overview(page: Page, stage: Stage) -> None:
    """With the events, in the language of whoever looks."""
    await page.visit("#/")
    await page.wait("[data-verdict]")
    assert "No connection to WhatsApp" not in await page.text("main")
    stage.alerts = [props.alert(2)]
    stage.tell("alert.fired", "vendas", alert_id=2)
    await page.wait("[data-key='alert-2']")
    assert "Look at the network." in await page.text("[data-key='alert-2']")
    stage.alerts = []
    stage.tell("alert.resolved", "vendas", alert_id=2)
    await page.wait("[data-key='alert-2']", "detached")
    assert "GET /alerts all=False language=en" in stage.asked


async def test_what_could_not_be_stored_yet(page: Page, stage: Stage) -> None:
    """While the database is away alerts have no number: each is shown, none is acknowledged."""
    away = props.alert(
        0, id=None, rule="database", connection=None, subjects=[], title="The database is away"
    )  # fmt: skip
    full = props.alert(0, id=None, rule="disk", connection=None, subjects=["/"], title="Full")
    stage.alerts = [away, full]
    await page.visit("#/alerts")
    await page.wait("tr[data-key='database']")
    assert "Full" in await page.text("tr[data-key='disk /']")
    assert await page.count("[data-order=acknowledge]") == 0
    assert await page.count("[data-order=silence]") == 2
    assert await page.problems() == []
