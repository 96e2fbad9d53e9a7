"""What the dashboard shows when much comes at once, or answers come in another order."""

import pytest
import trio
from browser_driver import Page

from tests.browser import stage_props as props
from tests.browser.stage import Stage


async def shown(page: Page) -> list[int]:
    """The numbers of the messages on the page, from the top."""
    items = "[...document.querySelectorAll('[data-message]')]"
    found: list[int] = await page.js(f"{items}.map(each => Number(each.dataset.message))")
    return found


async def test_more_came_than_one_answer_holds(page: Page, stage: Stage) -> None:
    """The page shows the newest, and what came before them, without a hole in between."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    late = stage.held["GET /conversations/1/messages before=93"] = trio.Event()
    await page.click("[data-order=earlier]")
    stage.messages += [props.message(number, f"Nova {number}") for number in range(143, 223)]
    stage.tell("message.stored", "suporte", message_id=222, conversation_id=1)
    await page.wait("[data-message='222']", "attached")
    assert await shown(page) == list(range(173, 223))
    late.set()  # what was asked for before no longer fits
    await page.wait("[data-order=earlier]:not([aria-disabled])", "attached")
    assert await shown(page) == list(range(173, 223))
    await page.click("[data-order=earlier]")
    await page.wait("[data-message='123']", "attached")
    assert await shown(page) == list(range(123, 223))


async def test_an_empty_conversation_is_flooded(page: Page, stage: Stage) -> None:
    """It was complete; now it is not."""
    many = [stage.messages.pop() for _ in range(len(stage.messages))][::-1]
    await page.visit("#/conversations/1")
    await page.wait("[data-key='thread-1'] ol", "attached")
    stage.messages += many
    stage.tell("message.stored", "suporte", message_id=142, conversation_id=1)
    await page.wait("[data-message='142']")
    await page.click("[data-order=earlier]")
    await page.wait("[data-message='43']", "attached")


async def test_events_that_nobody_can_tell_any_more(page: Page, stage: Stage) -> None:
    """What changed meanwhile is seen, also far up, and the reader keeps what was loaded."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    stage.messages.append(props.message(143, "acabou de chegar", sent_at=props.ago(0)))
    stage.tell("message.stored", "suporte", message_id=143, conversation_id=1)
    await page.wait("[data-message='143']")
    await page.click("[data-order=earlier]")
    await page.wait("[data-message='43']", "attached")
    stage.events_away = True
    stage.wake()
    await page.wait("[data-live=warn]")
    stage.message(60)["text"] = "agora diz outra coisa"
    stage.forget_events()
    stage.events_away = False
    await page.wait("text=agora diz outra coisa", "attached")
    assert await shown(page) == list(range(43, 144))


async def test_a_change_while_nothing_is_answered(page: Page, stage: Stage) -> None:
    """It is not forgotten: the next answer brings it, also far up."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    stage.messages.append(props.message(143, "acabou de chegar", sent_at=props.ago(0)))
    stage.tell("message.stored", "suporte", message_id=143, conversation_id=1)
    await page.wait("[data-message='143']")
    await page.click("[data-order=earlier]")
    await page.wait("[data-message='60']", "attached")
    stage.away = True
    stage.message(60)["text"] = "agora diz outra coisa"
    stage.tell("message.edited", "suporte", message_id=60, conversation_id=1)
    await page.wait(".thread [role=alert]")
    stage.away = False
    await page.click(".thread [role=alert] button")
    await page.wait("text=agora diz outra coisa", "attached")


LISTS = {
    "#/gaps?all": ("GET /gaps name={connection} open_only=False after={after}", "tbody tr"),
    "#/quarantine": ("GET /quarantine connection={connection} after={after}", "tbody tr"),
    "#/conversations": (
        "GET /conversations after={after} status=None connection={connection} query=None",
        ".conversations li",
    ),
}


def fill(stage: Stage) -> None:
    """Sixty rows of each kind, five of them of one connection."""
    names = ["vendas"] * 55 + ["suporte"] * 5
    stage.gaps = [props.gap(100 + n, connection=name) for n, name in enumerate(names)]
    row, talk = stage.quarantine[0], stage.conversations[0]
    stage.quarantine = [row | {"id": 100 + n, "connection": c} for n, c in enumerate(names)]
    stage.conversations = [talk | {"id": 100 + n, "connection": c} for n, c in enumerate(names)]


async def answers(page: Page, what: str) -> int:
    """How many answers to such requests have come to the browser."""
    path = what.split()[1]
    found = "performance.getEntriesByType('resource').map(each => new URL(each.name).pathname)"
    return int(await page.js(f"{found}.filter(each => each === '{path}').length"))


@pytest.mark.parametrize("place", LISTS)
@pytest.mark.parametrize("late", ["refresh", "more"])
async def test_an_answer_to_what_is_no_longer_asked(
    page: Page, stage: Stage, place: str, late: str
) -> None:
    """Another connection was chosen meanwhile: its rows show, and stay."""
    fill(stage)
    what, rows = LISTS[place]
    what = what.format(connection=None, after=0 if late == "refresh" else 50)
    held = stage.held[what] = trio.Event()
    await page.visit(place)
    if late == "more":
        await page.wait(rows)
        await page.click("main button:text-matches('older|more', 'i')")
    while what not in stage.asked:
        await trio.sleep(0.01)
    await page.select("main .filters label:has-text('Connection') select", "suporte")
    await page.until(f"document.querySelectorAll('main {rows}').length === 5")
    before = await answers(page, what)
    held.set()
    while await answers(page, what) == before:
        await trio.sleep(0.01)
    await page.js("new Promise(done => setTimeout(done, 50))")  # three frames to show it in
    assert await page.count(f"main {rows}") == 5
    assert await page.count("main [role=alert]") == 0
