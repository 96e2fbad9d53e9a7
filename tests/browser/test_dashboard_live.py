"""The dashboard of a real daemon, in a real browser, with a simulated phone and a real database."""

import pathlib
import typing as t

import trio
from browser_driver import Page

import simulator as simulator_package
from simulator import Account, Simulator, open_simulator
from simulator.letters import Wrapping
from tests.browser import stage_props as props
from tests.browser.conftest import OpenPage
from tests.support.daemon_process import DaemonProcess, open_daemon
from whatsapp import compose
from whatsapp.content import TargetKey

EDIT: t.Final = Wrapping(edit="1")
REVOKE: t.Final = Wrapping(edit="7")


DARK_SHARE: t.Final = """(() => {
    const picture = document.querySelector('img.qr'), canvas = document.createElement('canvas')
    const size = canvas.width = canvas.height = 200, context = canvas.getContext('2d')
    context.fillStyle = '#fff'
    context.fillRect(0, 0, size, size)
    context.drawImage(picture, 0, 0, size, size)
    const {data} = context.getImageData(0, 0, size, size)
    return data.filter((value, index) => index % 4 === 0 && value < 128).length / size / size
})()"""


async def sign_in(page: Page, daemon: DaemonProcess) -> str:
    """Paste a token that was made on the control socket; the token."""
    made = await daemon.request(
        "POST", "/tokens", {"name": "dashboard", "scopes": ["operate", "history"]}
    )
    assert made.status_code == 201, made.text
    token: str = made.json()["token"]
    await page.goto(f"{daemon.http_address}/")
    await page.fill("#token", token)
    await page.press("Enter")
    await page.wait("[data-verdict]")
    return token


async def pair(page: Page, daemon: DaemonProcess, simulator: Simulator, team: Account) -> str:
    """Scan what the page shows; the text of the code."""
    await page.click("text=vendas")
    await page.click("[data-order=pair]")
    await page.wait("img.qr")
    await page.until("document.querySelector('img.qr')?.naturalWidth > 100")
    assert 0.2 < await page.js(DARK_SHARE) < 0.6  # it is drawn, and on white
    news = (await daemon.request("GET", "/connections/vendas/pairing")).json()
    await simulator.scan_qr(news["qr"], phone=team.pn.user)
    await page.wait("[data-pairing=paired]")
    await page.click("dialog button:has-text('Close')")
    await page.wait("h1 + [data-state=online]")
    code: str = news["qr"]
    return code


async def test_a_first_hour(
    open_page: OpenPage, tmp_path: pathlib.Path, artefacts: pathlib.Path
) -> None:
    """Sign in, pair by the picture on the page, read what is written, edited and deleted as it
    happens, and stop a connection by its button."""
    settings = simulator_package.Settings(restart_pause=0.1)
    with trio.fail_after(120):
        async with (
            open_simulator(listen=("127.0.0.1", 0), settings=settings) as simulator,
            open_daemon(
                tmp_path / "daemon",
                simulator.url,
                simulator.root_key,
                "vendas",
                "suporte",
                http="127.0.0.1:0",
            ) as daemon,
        ):
            page = await open_page(width=1280, height=820)
            token = await sign_in(page, daemon)
            await page.wait("[data-live=good]")
            await page.shot(artefacts / "live-1-signed-in.png", full=True)
            team, ana = simulator.create_account("team"), simulator.create_account("ana")
            code = await pair(page, daemon, simulator, team)
            await page.shot(artefacts / "live-2-paired.png", full=True)

            await page.visit("#/conversations")
            await page.wait(".list .empty")
            first = await ana.phone.send_text(team.pn, "bom dia, ainda tem?")
            await page.click(".conversations a")
            await page.wait("text=bom dia, ainda tem?")
            key = TargetKey(remote_jid=str(team.pn), from_me=True, id=first)
            now = 1_000 * int(simulator.world.now())
            edited = compose.edit(key, "bom dia! ainda tem o azul?", now)
            await ana.phone.send_message(team.pn, edited, EDIT)
            await page.wait("text=ainda tem o azul?")
            await page.click(".versions summary")
            await page.wait(".versions:has-text('bom dia, ainda tem?')")
            await page.shot(artefacts / "live-3-edited.png")
            await ana.phone.send_text(team.pn, "esquece")
            await page.wait("text=esquece")
            await ana.phone.send_message(team.pn, compose.revoke(key), REVOKE)
            await page.wait(".message.deleted")
            assert "azul" not in await page.text(".message.deleted")
            await page.click(".message.deleted summary")
            await page.wait("text=ainda tem o azul?")
            await page.shot(artefacts / "live-4-deleted.png")
            await page.click("[data-order=open]")
            await page.wait(".thread-head .badge:has-text('open')")

            await page.visit("#/connections/vendas")
            await page.click("[data-order=stop]")
            await page.click("dialog button:has-text('Stop')")
            await page.wait("h1 + [data-state=stopped]")
            await page.wait(".timeline li:first-child [data-state=stopped]")
            await page.shot(artefacts / "live-5-stopped.png", full=True)

            await shapes_are_those_of_the_stage(daemon)
            odd = [each for each in await page.problems() if not _expected(each)]
            assert odd == []
            for secret in (token, code, "ainda tem"):
                assert secret not in daemon.log


def _expected(problem: str) -> bool:
    """A browser tells of every answer that is no success: there was no session at first."""
    return "401" in problem and "/session" in problem


async def shapes_are_those_of_the_stage(daemon: DaemonProcess) -> None:
    """What the stage says has no field that the real API has not."""

    async def get(path: str) -> t.Any:
        return (await daemon.request("GET", path)).raise_for_status().json()

    health, staged = await get("/health/detailed"), props.health()
    assert set(staged) <= set(health)
    for part in ("writer", "database", "disk", "loop", "gaps", "conversations", "outbox"):
        assert set(staged[part]) <= set(health[part]), part
    assert set(staged["sync"]["hour"]) <= set(health["sync"]["hour"])
    assert set(props.connection("x")) <= set(health["connections"][0])
    [conversation] = await get("/conversations")
    assert set(props.conversations()[0]) <= set(conversation)
    [message, _other] = await get(f"/conversations/{conversation['id']}/messages")
    assert set(props.message(1, "")) <= set(message)
    assert set(props.person("")) <= set(message["sender"])
    timeline, told = await get("/connections/vendas/timeline"), props.timeline("vendas", 7)
    assert set(told) <= set(timeline)
    assert set(told["days"][0]) <= set(timeline["days"][0])
    assert set(told["transitions"][0]) <= set(timeline["transitions"][0])
    assert set(props.statistics("day")[0]) <= set((await get("/statistics?step=day"))[0])
    gaps = await get("/gaps")
    assert set(props.gap(1)) <= set(gaps[0])
