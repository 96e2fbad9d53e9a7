"""Alerts and silences over the control socket and on the command line."""

import typing as t

import attrs
import httpx
import pytest
from daemon_fakes import NOON, Control, Run, problem

from storage.alerts import Alert, AlertChange

FIRED: t.Final = Alert(
    key="down/sales/1",
    rule="down",
    severity="warning",
    of_connections=True,
    subjects=("sales",),
    cause="network",
    since=NOON.timestamp() - 600,
    fired_at=NOON.timestamp() - 300,
    last_seen=NOON.timestamp(),
    notified_at=NOON.timestamp() - 300,
    times=1,
    told=("sales",),
    detail="the network failed",
    facts={"state": "backoff"},
)
OVER: t.Final = attrs.evolve(
    FIRED, key="database//1", rule="database", severity="critical", of_connections=False,
    subjects=(), told=("",), cause="", resolved_at=NOON.timestamp() - 60,
)  # fmt: skip


async def fire(control: Control, *alerts: Alert) -> None:
    """They are stored, and the daemon has just started."""
    changes = [AlertChange(what="fired", alert=each) for each in alerts]
    await control.storage.inbox.save_alerts(changes)
    await control.alerts.load()


async def test_what_is_wrong(client: httpx.AsyncClient, control: Control) -> None:
    """With cause and cure, in the language that is asked for; over or not."""
    await fire(control, OVER, FIRED)
    [row] = (await client.get("/alerts")).json()
    assert (row["id"], row["rule"], row["state"], row["times"]) == (2, "down", "firing", 1)
    assert row["title"] == "No connection to WhatsApp: sales"
    assert "zapvisor timeline sales" in row["cure"]
    assert row["since"] == "2026-03-01T11:50:00Z"
    [same] = (await client.get("/alerts", params={"language": "pt-BR"})).json()
    assert same["title"] == "Sem conexão com o WhatsApp: sales"
    page = await client.get("/alerts", params={"all": True, "limit": 1})
    assert [each["id"] for each in page.json()] == [2]
    rest = await client.get(page.links["next"]["url"])
    assert [(each["id"], each["state"]) for each in rest.json()] == [(1, "resolved")]
    assert (await client.get("/alerts/2")).json() == row


async def test_acknowledging(client: httpx.AsyncClient, control: Control) -> None:
    """Who asks is remembered; of alerts that there are not, that is said."""
    await fire(control, FIRED)
    row = (await client.post("/alerts/1/ack")).json()
    assert (row["state"], row["acknowledged_by"]) == ("acknowledged", "control socket")
    again = (await client.post("/alerts/1/ack", params={"by": "bia"})).json()
    assert again["acknowledged_by"] == "control socket"
    for path in ("/alerts/9/ack", f"/alerts/{2**70}/ack", "/silences/9/end"):
        assert problem(await client.post(path))["status"] == 404


async def test_silencing(client: httpx.AsyncClient, control: Control) -> None:
    """What is silenced is shown with the reason; it can be ended."""
    await fire(control, FIRED)
    made = await client.post(
        "/silences", params={"connection": "sales", "seconds": 7200, "why": "works"}
    )
    assert made.status_code == 201
    assert made.json()["ends_at"] == "2026-03-01T14:00:00Z"
    [row] = (await client.get("/alerts")).json()
    assert row["silenced_by"] == "silence 1"
    [listed] = (await client.get("/silences")).json()
    assert (listed["active"], listed["why"], listed["rule"]) == (True, "works", None)
    assert (await client.post("/silences/1/end")).json()["active"] is False
    assert (await client.get("/silences")).json() == []
    assert len((await client.get("/silences", params={"all": True})).json()) == 1
    [row] = (await client.get("/alerts")).json()
    assert row["silenced_by"] is None


@pytest.mark.parametrize(
    ("params", "status", "said"),
    [
        ({"seconds": 60}, 422, "all=true"),
        ({"seconds": 60, "connection": "sales", "all": True}, 422, "all=true"),
        ({"seconds": 60, "connection": "nobody"}, 404, "nobody"),
        ({"seconds": 60, "all": True, "rule": "x"}, 422, "down"),
        ({"seconds": 0, "all": True}, 400, ""),
        ({"all": True}, 400, ""),
    ],
)
async def test_silences_that_cannot_be(
    client: httpx.AsyncClient, control: Control, params: t.Any, status: int, said: str
) -> None:
    """One clear problem, and nothing is silenced."""
    answer = problem(await client.post("/silences", params=params))
    assert (answer["status"], said in answer["detail"]) == (status, True)
    assert (await client.get("/silences")).json() == []


async def test_languages_there_are_not(client: httpx.AsyncClient, control: Control) -> None:
    """Which there are is said."""
    assert "pt-BR" in problem(await client.get("/alerts", params={"language": "xx"}))["detail"]


async def test_metrics(client: httpx.AsyncClient, control: Control) -> None:
    """By rule and state; what is silenced is no longer firing."""
    await fire(control, FIRED)
    text = (await client.get("/metrics")).text
    assert 'zapvisor_alerts{rule="down",state="firing"} 1.0' in text
    await client.post("/silences", params={"all": True, "seconds": 60})
    text = (await client.get("/metrics")).text
    assert 'zapvisor_alerts{rule="down",state="silenced"} 1.0' in text
    assert 'zapvisor_alerts{rule="down",state="firing"} 0.0' in text


async def test_on_the_command_line(control: Control, zapvisor: Run) -> None:
    """From nothing wrong to somebody who takes care of it."""
    assert (await zapvisor("alerts")).out == "Nothing is wrong.\n"
    assert (await zapvisor("alerts", "--all")).out == "There was no alert yet.\n"
    await fire(control, OVER, FIRED)
    listed = await zapvisor("alerts")
    assert "No connection to WhatsApp: sales" in listed.out
    assert "database" not in listed.out
    assert "The database does not answer" in (await zapvisor("alerts", "--all")).out
    assert [each["id"] for each in (await zapvisor("alerts", "--json")).json] == [2]
    shown = await zapvisor("alerts", "show", "2", "--language", "pt-BR")
    assert "Sem conexão com o WhatsApp: sales" in shown.out
    assert "the network failed" in shown.out
    taken = await zapvisor("alerts", "ack", "2", "--by", "ana")
    assert taken.out == "Alert 2 is acknowledged; ana takes care of it.\n"
    over = await zapvisor("alerts", "ack", "1")
    assert over.out == "Alert 1 is resolved.\n"
    missing = await zapvisor("alerts", "ack", "7")
    assert (missing.code, "zapvisor alerts --all" in missing.err) == (1, True)


async def test_silences_on_the_command_line(control: Control, zapvisor: Run) -> None:
    """Made, listed, ended."""
    made = await zapvisor("silence", "sales", "--for", "2h", "--rule", "down", "--by", "ana")
    assert "zapvisor silence end 1" in made.out
    [row] = (await zapvisor("silences", "--json")).json
    assert (row["connection"], row["rule"], row["made_by"]) == ("sales", "down", "ana")
    assert "sales" in (await zapvisor("silences")).out
    assert (await zapvisor("silence", "end", "1")).out == "Silence 1 is over.\n"
    assert (await zapvisor("silences")).out == "Nothing is silenced.\n"
    assert "closed" in (await zapvisor("silences", "--all")).out
    for tokens in (
        ("silence", "--for", "2h"),
        ("silence", "sales", "--all", "--for", "2h"),
        ("silence", "sales", "--for", "soon"),
        ("silence", "sales"),
    ):
        assert (await zapvisor(*tokens)).code == 2, tokens
    assert (await zapvisor("silence", "nobody", "--for", "2h")).code == 1
