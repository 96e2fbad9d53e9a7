"""The gap ledger over the control socket and on the command line."""

import httpx
import pytest
from daemon_fakes import NOON, Control, Run, problem

from storage.api import Envelope
from storage.gaps import OutageBegan, QueueAnnounced, QueueDrained

AT = NOON.timestamp()


async def outage(control: Control, name: str, announced: int, *, over: bool = True) -> int:
    """An outage of which everything announced is missing; the number of its row."""
    login = f"{name} {announced}"
    steps = [
        OutageBegan(kind="ended", reason="network", at=AT - 3600),
        QueueAnnounced(
            login=login, number=0, at=AT, announced=announced, messages=None, horizon=None
        ),
        QueueDrained(login=login, number=1, at=AT),
    ]
    inbox = control.storage.inbox
    await inbox.apply([Envelope(connection=name, gap=step) for step in steps[: 2 + over]])
    return (await inbox.gaps(name))[0].id


async def test_gaps_by_connection(client: httpx.AsyncClient, control: Control) -> None:
    """All of them or one connection's, those that are open or all, page by page."""
    await outage(control, "sales", 0)
    missing = await outage(control, "sales", 2)
    other = await outage(control, "support", 1)
    rows = (await client.get("/gaps")).json()
    assert [row["id"] for row in rows[:2]] == [other, missing]
    assert [row["state"] for row in rows] == ["open", "open", "closed"]
    assert (rows[1]["missing"], rows[1]["connection"], rows[1]["kind"]) == (2, "sales", "ended")
    assert rows[1]["from_at"] == "2026-03-01T11:00:00Z"
    [row] = (await client.get("/connections/sales/gaps?open_only=true")).json()
    assert row == rows[1]
    assert (await client.get(f"/gaps?before={missing}")).json() == rows[2:]
    assert (await client.get("/gaps?limit=1")).json() == rows[:1]
    assert problem(await client.get("/connections/nobody/gaps"))["status"] == 404


async def test_accepting(client: httpx.AsyncClient, control: Control) -> None:
    """Who accepted is kept; a gap that is closed, or goes on, is refused with the reason."""
    number = await outage(control, "sales", 2)
    row = (await client.post(f"/gaps/{number}/accept?by=ana")).json()
    assert (row["state"], row["accepted_by"], row["missing"]) == ("closed", "ana", 2)
    again = problem(await client.post(f"/gaps/{number}/accept"))
    assert (again["status"], "closed already" in again["detail"]) == (409, True)
    ongoing = await outage(control, "sales", 3, over=False)
    assert "goes on" in problem(await client.post(f"/gaps/{ongoing}/accept"))["detail"]


@pytest.mark.parametrize("number", ["0", "999", "-1", str(2**63), str(2**80)])
async def test_gaps_there_are_not(client: httpx.AsyncClient, number: str) -> None:
    """404, whatever the number."""
    found = problem(await client.post(f"/gaps/{number}/accept"))
    assert (found["status"], found["type"]) == (404, "urn:zapvisor:unknown-gap")


async def test_the_command(zapvisor: Run, control: Control) -> None:
    """A line for each, which says how it began and what it waits for."""
    assert (await zapvisor("gaps")).out == "No gap fits.\n"
    await outage(control, "sales", 0)
    number = await outage(control, "support", 2)
    lines = (await zapvisor("gaps")).out.splitlines()
    assert len(lines) == 4
    assert "some were announced and never sent" in lines[2]
    assert "the connection ended (network); everything came" in lines[3]
    assert [row["id"] for row in (await zapvisor("gaps", "--open", "--json")).json] == [number]
    assert (await zapvisor("gaps", "sales", "--open")).out == "No gap fits.\n"
    result = await zapvisor("gaps", "accept", str(number), "--by", "ana")
    assert result.out == f"Gap {number} of support is accepted: 2 missing.\n"
    assert "accepted by ana" in (await zapvisor("gaps", "support")).out
    result = await zapvisor("gaps", "accept", str(number))
    assert (result.code, "closed already" in result.err) == (1, True)
    assert "configured: sales" in (await zapvisor("gaps", "nobody")).err


async def test_health_names_open_gaps(zapvisor: Run, control: Control) -> None:
    """Degraded, with what is missing; an outage that goes on shows as the connection's state."""
    await outage(control, "sales", 2)
    await outage(control, "support", 1, over=False)
    control.storage.counts["gaps"] = await control.storage.inbox.gap_statistics()
    result = await zapvisor("health")
    assert (result.code, result.out.splitlines()[0]) == (1, "degraded")
    assert "1 gap is open (2 never came); see zapvisor gaps --open" in result.out
    assert "1 open, 1 ongoing; 2 never came" in result.out
