"""Forgetting, and rules of retention, over the control socket and on the command line."""

import json
import stat
from pathlib import Path

import httpx
import pytest
from daemon_fakes import ACCOUNT, ANA, NOON, Control, Run, problem

from storage.api import Verdict

NUMBER = ANA.partition("@")[0]
DONE = 200  # looks at an erasure


async def finished(client: httpx.AsyncClient, number: int) -> dict[str, object]:
    """The erasure, once it is done."""
    for _ in range(DONE):
        row: dict[str, object] = (await client.get(f"/erasures/{number}")).json()
        if row["state"] == "done":
            return row
    raise AssertionError("it is never done")


async def test_forgetting_a_contact(client: httpx.AsyncClient, control: Control) -> None:
    """It is begun at once and done soon; then they are unknown, and what comes again is dropped."""
    [ana] = (await client.get("/contacts")).json()
    answer = await client.post(f"/contacts/{ana['id']}/forget?by=dpo")
    assert answer.status_code == 202
    row = await finished(client, answer.json()["id"])
    assert row["requested_by"] == "dpo"
    assert row["program"] == "zapvisor 1.2.3"
    assert row["erased"] == {"addresses": 1, "messages": 4, "names": 1}
    assert NUMBER not in json.dumps(row)
    assert (await client.get("/contacts")).json() == []
    assert [each["id"] for each in (await client.get("/erasures")).json()] == [row["id"]]
    again = problem(await client.post(f"/contacts/{ana['id']}/forget"))
    assert (again["status"], again["type"]) == (404, "urn:zapvisor:unknown-contact")
    late = await control.storage.take(external_id="ANA9", text="bom dia")
    assert late.verdict is Verdict.FORGOTTEN
    assert control.files_removed


async def test_forgetting_by_number(client: httpx.AsyncClient) -> None:
    """A number as people write it; a dry run only tells who that is."""
    order = {"contact": "+55 11 99999-0001", "dry_run": True}
    who = (await client.post("/erasures", json=order)).json()
    assert (who["name"], who["addresses"], who["known_on"]) == ("Ana", [ANA], ["sales"])
    assert (await client.get("/erasures")).json() == []
    answer = await client.post("/erasures", json={"contact": NUMBER, "by": "dpo"})
    assert answer.status_code == 202
    await finished(client, answer.json()["id"])


@pytest.mark.parametrize(
    ("order", "status", "words"),
    [
        ({"contact": "+55 11 98888-7777"}, 404, "there is no contact"),
        ({"contact": "99"}, 404, "there is no contact"),
        ({"contact": "?"}, 422, "is no address"),
        ({"contact": NUMBER, "by": ""}, 422, "by: 1 to 200"),
        ({"contact": NUMBER, "connection": "nobody"}, 404, "configured: sales"),
        ({"contact": NUMBER, "connection": "support"}, 404, "there is no contact"),
        ({"contact": ACCOUNT}, 409, "the account of a connection itself"),
    ],
)
async def test_orders_that_are_refused(
    client: httpx.AsyncClient, order: dict[str, object], status: int, words: str
) -> None:
    """With what is wrong; nothing is erased."""
    found = problem(await client.post("/erasures", json=order))
    assert (found["status"], words in found["detail"]) == (status, True), found
    assert (await client.get("/erasures")).json() == []


async def test_erasures_there_are_not(client: httpx.AsyncClient) -> None:
    """404, whatever the number."""
    for number in ("0", "7", str(2**70)):
        assert problem(await client.get(f"/erasures/{number}"))["status"] == 404


async def test_the_command(zapvisor: Run, control: Control, tmp_path: Path) -> None:
    """It asks first; then it waits, and writes a certificate that names nobody."""
    assert (await zapvisor("forget", "--list")).out == "Nobody was forgotten.\n"
    shown = await zapvisor("forget", NUMBER, "--dry-run")
    assert f"Addresses:   {ANA}" in shown.out
    refused = await zapvisor("forget", NUMBER)
    assert (refused.code, "say --yes" in refused.err) == (2, True)
    path = tmp_path / "certificate.json"
    done = await zapvisor("forget", NUMBER, "--yes", "--by", "dpo", "--certificate", str(path))
    assert done.code == 0, done.err
    assert "Certificate of erasure no. 1" in done.out
    assert "  4  messages of theirs" in done.out
    found = json.loads(path.read_text())
    assert (found["state"], found["requested_by"], found["erased"]["messages"]) == (
        "done",
        "dpo",
        4,
    )
    text = path.with_name("certificate.json.txt")
    assert text.read_text() == done.out
    for each in (path, text):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
        assert NUMBER not in each.read_text()
    assert "dpo" in (await zapvisor("forget", "--list")).out
    again = await zapvisor("forget", NUMBER, "--yes")
    assert (again.code, "there is no contact" in again.err) == (1, True)
    other = tmp_path / "again.json"
    await zapvisor("forget", "--show", "1", "--certificate", str(other))
    assert json.loads(other.read_text()) == found
    taken = await zapvisor("forget", "--show", "1", "--certificate", str(path))
    assert (taken.code, "exists already" in taken.err) == (2, True)


@pytest.mark.parametrize("arguments", [(), ("1", "--list"), ("1", "--show", "1")])
async def test_what_makes_no_order(zapvisor: Run, arguments: tuple[str, ...]) -> None:
    """One thing at a time."""
    result = await zapvisor("forget", *arguments)
    assert (result.code, "give a contact to forget" in result.err) == (2, True)


async def test_retention(zapvisor: Run, control: Control) -> None:
    """The rules, what each would remove now, and what was removed when."""
    old = int(NOON.timestamp()) - 8 * 86_400
    await control.storage.take(external_id="OLD", text="bom dia", sent_at=old)
    shown = (await zapvisor("retention")).out
    assert "content of text of sales after 7d, live conversations too (short" in shown
    assert "Nothing was removed so far." in shown
    found = await zapvisor("retention", "--dry-run", "--json")
    assert found.code == 0, found.err
    [row] = found.json
    assert (row["connection"], row["messages"], row["files"]) == ("sales", 1, 0)
    assert await control.retention.sweep() == 1
    assert (await zapvisor("retention", "--dry-run")).out == "The rules would remove nothing now.\n"
    [run] = (await zapvisor("retention", "--json")).json["removed"]
    assert (run["messages"], run["connection"]) == (1, "sales")
    again = await control.storage.take(external_id="OLD", text="bom dia", sent_at=old)
    assert again.verdict is Verdict.DUPLICATE
