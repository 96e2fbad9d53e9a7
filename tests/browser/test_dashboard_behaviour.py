"""What the dashboard does, in a real browser, with an API on a stage."""

import pathlib
import typing as t

import pytest
from browser_driver import Page

from tests.browser import stage_props as props
from tests.browser.conftest import OpenPage
from tests.browser.stage import TOKEN, Stage


def asked(stage: Stage, what: str) -> int:
    """How many requests began with this."""
    return sum(each.startswith(what) for each in stage.asked)


async def test_signing_in_and_out(open_page: OpenPage, stage: Stage) -> None:
    """A wrong token says so; a right one opens the page; signing out forgets all."""
    stage.session = None
    page = await open_page()
    await page.goto(stage.url)
    await page.fill("#token", "zv_wrong")
    await page.press("Enter")
    await page.wait("[role=alert]")
    assert "not known" in await page.text("[role=alert]")
    assert await page.js("document.activeElement.id") == "token"
    await page.fill("#token", f"  {TOKEN} ")
    await page.press("Enter")
    await page.wait("[data-verdict]")
    assert await page.count("nav a") == 5
    await page.click("role=button[name=/Sign out/]")
    await page.wait("#token")
    assert await page.js("document.getElementById('token').value") == ""
    assert "vendas" not in await page.text("body")
    assert stage.session is None
    assert all("401" in each for each in await page.problems())  # the browser tells of those


async def test_a_session_that_ends(page: Page, stage: Stage) -> None:
    """When the daemon no longer knows the session, the page asks for a token."""
    stage.session = None
    await page.visit("#/gaps")
    await page.wait("#token")


async def test_what_strangers_write_is_text(page: Page, stage: Stage) -> None:
    """Markup, script and odd links in messages, names and files do nothing but show."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='140']")
    await page.click("[data-message='138'] summary")
    assert await page.js("document.title") == "(!) Ana Souza · zapvisor"
    assert props.XSS in await page.text("[data-message='140'] .text")
    assert props.XSS in await page.text(".conversations")
    assert await page.count("main script, main iframe, main img[src='x'], .file-name b") == 0
    assert await page.text("[data-message='135'] .file-name") == "../../<b>orçamento</b>.pdf"
    links = await page.js(
        "[...document.querySelectorAll('[data-message=\"140\"] a')]"
        ".map(link => [link.getAttribute('href'), link.rel, link.target])"
    )
    safe = ["noopener noreferrer nofollow", "_blank"]
    assert links == [
        ["https://example.test/a?b=", *safe],
        ["https://example.test/casa", *safe],
    ]
    hrefs = await page.js("[...document.links].map(link => link.protocol)")
    assert set(hrefs) <= {"http:", "https:"}
    assert await page.problems() == []


async def test_messages_in_all_their_forms(page: Page, stage: Stage) -> None:
    """Edited, deleted, undecryptable, quoted, with files, reactions and votes."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    assert "hole" in await page.text(".conversations li:first-child")
    assert "may be missing" in await page.text(".thread .notice")
    deleted = "[data-message='138']"
    assert "Deleted for everyone by Ana Souza" in await page.text(deleted)
    assert "CPF" not in await page.text(deleted)
    assert asked(stage, "GET /messages/138/history") == 0
    await page.click(f"{deleted} summary")
    await page.wait(f"{deleted} >> text=meu CPF é fictício")
    edited = "[data-message='137']"
    assert "1.580" not in await page.text(edited)
    await page.click(f"{edited} summary")
    await page.wait(f"{edited} >> text=R$ 1.580")
    assert asked(stage, "GET /messages/137/history") == 1
    assert "could not be decrypted yet" in await page.text("[data-message='139']")
    assert "👍" in await page.text("[data-message='133']")
    assert "R$ 1.850" in await page.text("[data-message='141'] blockquote")
    assert "15h 1 Ana Souza" in await page.text("[data-message='142'] .votes")
    assert await page.count("[data-message='134'] img[loading=lazy]") == 1
    assert await page.count("[data-message='136'] button") == 1
    assert "read" in await page.text("[data-message='132'] .foot")
    assert "forwarded" in await page.text("[data-message='135']")


async def test_messages_come_change_and_go_live(page: Page, stage: Stage) -> None:
    """What happens in the open conversation shows without a reload, also far up."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    await page.click("[data-order=earlier]")
    await page.wait("[data-message='50']", "attached")
    stage.messages.append(props.message(143, "acabou de chegar", sent_at=props.ago(0)))
    stage.tell("message.stored", "suporte", message_id=143, conversation_id=1)
    await page.wait("text=acabou de chegar")
    stage.message(60)["text"] = "agora diz outra coisa"
    stage.tell("message.edited", "suporte", message_id=60, conversation_id=1)
    await page.wait("text=agora diz outra coisa", "attached")
    stage.message(143)["deleted"] = {"by": props.person("Ana Souza"), "at": props.ago(0)}
    stage.tell("message.deleted", "suporte", message_id=143, conversation_id=1)
    await page.wait("[data-message='143'].deleted")
    assert asked(stage, "GET /messages/60") == 1


async def test_what_is_deleted_is_hidden_at_once(page: Page, stage: Stage) -> None:
    """Also while its former versions are open; it shows again only when asked for."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    await page.click("[data-message='137'] summary")
    await page.wait("[data-message='137'] >> text=R$ 1.580")
    stage.message(137)["deleted"] = {"by": props.person("Ana Souza"), "at": props.ago(0)}
    stage.tell("message.deleted", "suporte", message_id=137, conversation_id=1)
    await page.wait("[data-message='137'].deleted")
    assert "1.850" not in await page.text("[data-message='137']")
    await page.click("[data-message='137'] details[data-key=deleted] > summary")
    await page.wait("[data-message='137'] >> text=R$ 1.850")


async def test_what_was_removed_says_why(page: Page, stage: Stage, artefacts: pathlib.Path) -> None:
    """By rules, or on request; a deleted one has nothing to reveal, a removed file cannot be
    fetched, and a forgotten person has no name, here and in the list."""
    nobody = props.person(None) | {"addresses": [], "shown": "?"}
    gone: dict[str, t.Any] = {"text": None, "original_text": None, "media": None}
    stage.message(135).update(removed="retention", **gone)
    stage.message(136)["media"]["state"] = "removed"
    stage.message(138).update(removed="retention", **gone)
    stage.message(133).update(removed="forgotten", sender=nobody, **gone)
    stage.conversations[0].update(chat="forgotten-1@removed", title=None)
    stage.conversations[0]["shown"] = "forgotten-1@removed"
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    await page.shot(artefacts / "conversation-removed.png")
    assert "the rules of retention say" in await page.text("[data-message='135']")
    assert "removed here" in await page.text("[data-message='136']")
    assert await page.count("[data-message='136'] button") == 0
    deleted = await page.text("[data-message='138']")
    assert "Deleted for everyone by Ana Souza" in deleted
    assert "the rules of retention say" in deleted
    assert await page.count("[data-message='138'] summary") == 0
    forgotten = await page.text("[data-message='133']")
    assert "erased on request" in forgotten
    assert "Forgotten person" in forgotten
    assert "Forgotten person" in await page.text(".conversations li:first-child")
    assert "@removed" not in await page.text("body")
    assert await page.problems() == []


async def test_former_content_needs_a_scope(open_page: OpenPage, stage: Stage) -> None:
    """Without it the page says who deleted or edited what and when, and offers no more."""
    stage.sign_in("read", "operate")
    page = await open_page()
    await page.goto(stage.url + "#/conversations/1")
    await page.wait("[data-message='142']")
    deleted, edited = "[data-message='138']", "[data-message='137']"
    assert "Deleted for everyone by Ana Souza" in await page.text(deleted)
    assert "Edited" in await page.text(edited)
    assert await page.count(f"{deleted} summary, {edited} summary") == 0
    assert asked(stage, "GET /messages/137/history") == 0


async def test_former_content_that_is_refused(page: Page, stage: Stage) -> None:
    """The reason stands where it would be; asking again is possible."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    stage.session = {"name": "stage", "scopes": ["read"]}
    await page.click("[data-message='138'] summary")
    await page.wait("[data-message='138'] >> text=this needs the scope history")


async def test_reading_upwards_keeps_the_place(page: Page, stage: Stage) -> None:
    """Earlier messages come above what is read, which stays where it is; and then there is none."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    scroller = "document.querySelector('.thread .messages')"
    near_end = f"{scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight"
    assert await page.js(near_end) < 3
    await page.js(f"{scroller}.scrollTop = 0")
    place = "document.querySelector('[data-message=\"93\"]').getBoundingClientRect().top"
    before = await page.js(place)
    await page.click("[data-order=earlier]")
    await page.wait("[data-message='43']", "attached")
    assert abs(await page.js(place) - before) < 60  # the button may have moved
    assert await page.count("[data-message]") == 100
    await page.click("[data-order=earlier]")
    await page.wait("[data-message='1']", "attached")
    await page.wait("[data-order=earlier]", "detached")
    assert await page.count("[data-message]") == 142


async def test_who_has_no_name_has_a_number(page: Page, stage: Stage) -> None:
    """In the list and above the thread; never the address of a protocol."""
    await page.visit("#/conversations/10")
    await page.wait("#thread-title:has-text('+5511999990010')")
    await page.wait(".conversations .name:has-text('+5511999990010')")
    assert not await page.js("document.body.innerText.includes('@s.whatsapp.net')")


async def test_conversations_are_found(page: Page, stage: Stage) -> None:
    """Filters go to the API, and into the address, so that they can be kept as a bookmark."""
    await page.visit("#/conversations")
    await page.wait(".conversations li")
    await page.select("search select >> nth=0", "closed")
    await page.until("document.querySelectorAll('.conversations li').length === 4")
    await page.fill("search input", "elaine")
    await page.wait("text=No conversation fits")
    await page.select("search select >> nth=0", "")
    await page.wait("text=Elaine Castro")
    assert await page.js("location.hash") == "#/conversations?query=elaine"
    assert stage.asked[-1].endswith("query=elaine")


async def test_a_conversation_is_opened_and_closed(page: Page, stage: Stage) -> None:
    """By buttons that fit its status."""
    await page.visit("#/conversations/1")
    await page.click("[data-order=open]")
    await page.wait(".thread-head .badge:has-text('open')")
    await page.click("[data-order=close]")
    await page.click("[data-order=reopen]")
    await page.wait(".thread-head .badge:has-text('waiting')")
    assert [each for each in stage.asked if each.startswith("POST")] == [
        f"POST /conversations/1/{order}" for order in ("open", "close", "reopen")
    ]


async def test_stopping_a_connection_by_the_keyboard(page: Page, stage: Stage) -> None:
    """The dialog takes the focus and gives it back; Escape changes nothing, Enter does."""
    await page.visit("#/connections/vendas")
    await page.wait("[data-order=stop]")
    await page.js("document.querySelector('[data-order=stop]').focus()")
    await page.press("Enter")
    await page.wait("dialog[open]")
    assert "dialog" in (await page.audit()).roles()
    await page.press("Escape")
    await page.wait("dialog", "detached")
    assert asked(stage, "POST") == 0
    assert await page.js("document.activeElement.dataset.order") == "stop"
    await page.press("Enter")
    await page.wait("dialog[open]")
    await page.press("Tab")
    assert await page.js("document.activeElement.textContent") == "Stop"
    await page.press("Enter")
    await page.wait("h1 + [data-state=stopped]")
    assert asked(stage, "POST /connections/vendas/stop") == 1
    await page.until("document.getElementById('polite').textContent !== ''")


async def test_the_way_of_the_tab_key(page: Page, stage: Stage) -> None:
    """The skip link first, then the pages, then the tools; each shows that it has the focus."""
    found = []
    name = "innerText.trim() || document.activeElement.ariaLabel || document.activeElement.tagName"
    for _ in range(9):
        await page.press("Tab")
        found.append(str(await page.js(f"document.activeElement.{name}")))
        assert await page.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
    places = [each.split("\n")[0] for each in found]
    assert places[0] == "Skip to the content"
    assert places[1:6] == ["Overview", "Conversations", "Alerts", "Gaps", "Quarantine"]
    assert places[7:9] == ["Use the dark theme", "Sign out"]
    await page.js("document.getElementById('skip').focus()")
    await page.press("Enter")
    assert await page.js("document.activeElement.id") == "main"
    assert await page.js("location.hash") in ("", "#/")
    await page.js("document.querySelector('nav li:nth-child(4) a').focus()")
    await page.press("Enter")
    await page.wait("h1:has-text('Gaps')")
    assert await page.js("document.activeElement.tagName") == "H1"


async def test_who_may_only_read(open_page: OpenPage, stage: Stage) -> None:
    """Buttons say why they do nothing, and do nothing."""
    stage.sign_in("read")
    page = await open_page()
    await page.goto(stage.url + "#/connections/matriz")
    await page.wait("[data-order=stop][aria-disabled=true]")
    assert await page.count("[data-order]:not([aria-disabled])") == 0
    await page.click("[data-order=stop]", force=True)
    await page.until("document.getElementById('polite').textContent.includes('scope operate')")
    assert await page.count("dialog") == 0
    assert asked(stage, "POST") == 0


async def test_language_and_theme_are_remembered(page: Page, stage: Stage) -> None:
    """Both change at once, and are the same after a reload."""
    light = await page.js("getComputedStyle(document.body).backgroundColor")
    await page.select(".choice select", "pt-BR")
    await page.wait("nav >> text=Visão geral")
    assert await page.js("document.documentElement.lang") == "pt-BR"
    await page.click("role=button[name='Usar o tema escuro']")
    dark = await page.js("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    await page.call("reload")
    await page.wait("nav >> text=Visão geral")
    assert await page.js("getComputedStyle(document.body).backgroundColor") == dark
    assert await page.js("document.querySelector('.choice select').value") == "pt-BR"
    assert "Suspensa" in await page.text("[data-key=connections]")
    assert await page.problems() == []


async def test_gaps_and_quarantine_are_settled(page: Page, stage: Stage) -> None:
    """A gap is accepted in somebody's name; a message is tried again; both after a look."""
    await page.visit("#/gaps")
    await page.wait("tbody tr[data-key='2']")
    assert await page.count("tbody tr") == 2
    await page.click("tr[data-key='2'] summary")
    assert "May still come" in await page.text("tr[data-key='2'] details")
    await page.click("tr[data-key='2'] button")
    await page.click("dialog button:has-text('Accept')")
    await page.wait("tr[data-key='2']", "detached")
    assert asked(stage, "POST /gaps/2/accept stage") == 1
    await page.visit("#/quarantine")
    await page.wait("tr[data-key='2']")
    assert await page.count("tr[data-key='1'] button[aria-disabled=true]") == 1
    await page.click("tr[data-key='2'] summary")
    await page.wait("tr[data-key='2'] dd:has-text('text')")
    await page.click("tr[data-key='2'] button")
    await page.wait("tr[data-key='2']", "detached")


async def test_a_change_of_state_is_seen_and_said(page: Page, stage: Stage) -> None:
    """Within moments of the event, without touching what the reader has open or in focus."""
    await page.click(".reasons summary")
    await page.fill(".filter", "v")
    stage.connection("vendas").update(state="conflict", reason="conflict", sentence="another one")
    stage.tell("connection.state", "vendas", state="conflict")
    await page.wait("tr[data-key=vendas] [data-state=conflict]")
    await page.until("document.getElementById('polite').textContent === 'vendas: Conflict'")
    assert await page.count(".reasons[open]") == 1
    assert await page.js("document.activeElement.className") == "filter"
    assert await page.js("document.activeElement.value") == "v"


async def test_a_flood_of_events_is_a_few_requests(page: Page, stage: Stage) -> None:
    """Three thousand events in a moment: the page looks again, a few times, and is right."""
    await page.visit("#/conversations/1")
    await page.wait("[data-message='142']")
    await page.until("document.querySelector('[data-live=good]') !== null")
    before = len(stage.asked)
    for number in range(3000):
        stage.tell("message.stored", "suporte", message_id=1000 + number, conversation_id=1)
    stage.messages.append(props.message(143, "a última", sent_at=props.ago(0)))
    stage.tell("message.stored", "suporte", message_id=143, conversation_id=1)
    await page.wait("text=a última")
    assert len(stage.asked) - before < 20


async def test_while_the_database_is_away(
    page: Page, stage: Stage, artefacts: pathlib.Path
) -> None:
    """It says what is wrong, what to do, and what it cannot know; the rest goes on."""
    stage.health = props.without_database()
    stage.tell("connection.state", "vendas", state="online")
    await page.wait("[data-verdict=failing]")
    await page.shot(artefacts / "overview-without-database.png", full=True)
    told = await page.text("[data-verdict]")
    assert "The database does not answer" in told
    assert "What to do: Start PostgreSQL again" in told
    assert await page.count("text=Not known while the database is away.") == 2
    assert "away" in await page.text("[data-key=place]")
    assert await page.count("[data-key=connections] tbody tr") == 2
    assert await page.problems() == []


async def test_webhooks_and_nats_in_trouble(page: Page, stage: Stage) -> None:
    """Each with its error and what to do; without them the page is as it was."""
    well = {"paused": None, "retrying": 0, "dead": 0, "error": None}
    stage.health |= {
        "webhooks": [
            well | {"name": "fine"},
            well | {"name": "crm", "retrying": 2, "dead": 3, "error": "it answered 500"},
            well | {"name": "erp", "paused": "paused by an operator", "retrying": 1},
        ],
        "nats": {"url": "nats://mq.example", "state": "failing", "error": "no route"},
    }
    stage.tell("connection.state", "vendas", state="online")
    await page.wait("[data-key=webhook-crm]")
    fails = await page.text("[data-key=webhook-crm]")
    assert "Webhook crm fails" in fails
    assert "it answered 500" in fails
    assert "zapvisor webhooks test crm" in fails
    assert "has given up 3 deliveries" in await page.text("[data-key=webhook-crm-dead]")
    assert "Webhook erp is paused" in await page.text("[data-key=webhook-erp]")
    assert "no route" in await page.text("[data-key=nats]")
    assert await page.count("[data-key=webhook-fine]") == 0
    assert await page.problems() == []


async def test_after_an_upgrade(page: Page, stage: Stage) -> None:
    """A page that is older than the daemon says so, and loads the new one at a click."""
    assert await page.count("text=Load the new version") == 0
    stage.health["version"] = "9.9.9"
    stage.tell("daemon.started")
    await page.click("text=Load the new version")
    await page.wait("text=zapvisor 9.9.9")
    assert await page.count("text=Load the new version") == 0


async def test_while_the_daemon_starts(open_page: OpenPage, stage: Stage) -> None:
    """The page says so, instead of asking for a token as if that would help."""
    stage.away = True
    page = await open_page()
    await page.goto(stage.url)
    await page.wait("[role=alert]")
    assert "the daemon is starting" in await page.text("[role=alert]")
    stage.away = False
    await page.click("[role=alert] button")
    await page.wait("[data-verdict]")


@pytest.mark.parametrize("size", [(1280, 800), (360, 740)])
async def test_when_the_stream_is_away(
    open_page: OpenPage, stage: Stage, artefacts: pathlib.Path, size: tuple[int, int]
) -> None:
    """The page says since when, goes on looking, and resumes where it was."""
    page = await open_page(width=size[0], height=size[1])
    await page.goto(stage.url)
    await page.wait("[data-live=good]")
    stage.connection("vendas")["state"] = "syncing"
    stage.tell("connection.state", "vendas", state="syncing")
    await page.wait("tr[data-key=vendas] [data-state=syncing]")  # the page has seen it
    stage.events_away = True
    stage.wake()
    await page.wait("[data-live=warn]")
    assert "Not connected since" in await page.text(".live")
    await page.shot(artefacts / f"overview-not-connected-{size[0]}.png")
    stage.connection("vendas")["state"] = "parked"
    stage.events_away = False
    stage.tell("connection.state", "vendas", state="parked")
    await page.wait("[data-live=good]")
    await page.wait("tr[data-key=vendas] [data-state=parked]")
    sockets = [each for each in stage.asked if each.startswith("WS")]
    assert sockets[0] == "WS /events/ws 0"
    assert sockets[-1] == "WS /events/ws 1"
