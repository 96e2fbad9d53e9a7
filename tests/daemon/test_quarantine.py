"""``/quarantine`` and ``zapvisor quarantine``."""

import stat
from pathlib import Path

import httpx
import pytest
from daemon_fakes import ANA, Control, Run, problem

from actors.line import NotOnlineError
from actors.restoring import NoWayOutError, SlowRetryError
from storage.api import ChatKind, Envelope, ReceivedMessage

SECRET = "the words of a customer"


async def poison(control: Control, external_id: str = "Q1", *, kept: bool = True) -> int:
    """Something in quarantine; its number."""
    message = ReceivedMessage(
        chat=ANA,
        chat_kind=ChatKind.DIRECT,
        sender=ANA,
        sender_name="Ana",
        from_me=False,
        external_id=external_id,
        kind="text",
        text=SECRET,
        sent_at=1_700_000_000,
        raw=SECRET.encode(),
    )
    envelope = Envelope(
        connection="sales",
        message=message if kept else None,
        stanza=b"\x00\xffstanza " + external_id.encode(),
    )
    await control.storage.inbox.quarantine(envelope, "a row that PostgreSQL refused")
    return (await control.storage.inbox.quarantined())[0].id


async def test_listing(client: httpx.AsyncClient, control: Control) -> None:
    """The newest first, page by page, without a word of what they say."""
    first, second = await poison(control, "Q1"), await poison(control, "Q2", kept=False)
    answer = await client.get("/quarantine")
    assert [row["id"] for row in answer.json()] == [second, first]
    assert [row["way_out"] for row in answer.json()] == ["stanza", "message"]
    assert SECRET not in answer.text
    assert (await client.get(f"/quarantine?before={second}")).json()[0]["id"] == first
    assert (await client.get("/quarantine?connection=support")).json() == []
    assert (await client.get("/quarantine?connection=nobody")).status_code == 404


async def test_one_row(client: httpx.AsyncClient, control: Control) -> None:
    """What is known of it; its bytes only where they are asked for."""
    number = await poison(control)
    answer = await client.get(f"/quarantine/{number}")
    assert SECRET not in answer.text
    row = answer.json()
    assert (row["chat"], row["external_id"], row["kind"]) == (ANA, "Q1", "text")
    assert (row["error"], row["attempts"], row["sent_at"]) == (
        "a row that PostgreSQL refused",
        1,
        1_700_000_000,
    )
    stanza = await client.get(f"/quarantine/{number}/stanza")
    assert stanza.content == b"\x00\xffstanza Q1"
    assert stanza.headers["content-type"] == "application/octet-stream"
    for path in ("/quarantine/99", "/quarantine/99/stanza", f"/quarantine/{2**70}"):
        refused = await client.get(path)
        assert refused.status_code == 404
        assert "zapvisor quarantine list" in problem(refused)["detail"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotOnlineError("sales is not online"), 409),
        (NoWayOutError("nothing was kept"), 409),
        (SlowRetryError("still under way"), 504),
    ],
)
async def test_it_cannot_be_tried(
    client: httpx.AsyncClient, control: Control, error: Exception, status: int
) -> None:
    """The reason is told."""
    number = await poison(control)
    control.restorer.error = error
    refused = await client.post(f"/quarantine/{number}/retry")
    assert refused.status_code == status
    assert problem(refused)["detail"] == str(error)


async def test_what_the_operator_sees(zapvisor: Run, control: Control) -> None:
    """A table, then one row with the way out of it."""
    assert (await zapvisor("quarantine", "list")).out == "Nothing is in quarantine.\n"
    number = await poison(control)
    listed = await zapvisor("quarantine", "list", "--connection", "sales")
    assert listed.code == 0
    assert "a row that PostgreSQL refused" in listed.out
    shown = await zapvisor("quarantine", "show", str(number))
    assert "the message was read and is kept: retry stores it" in shown.out
    assert SECRET not in listed.out + shown.out
    assert (await zapvisor("quarantine", "show", "99")).code == 1


async def test_the_bytes_go_to_a_file_of_ones_own(
    zapvisor: Run, control: Control, short_path: Path
) -> None:
    """New, and readable by nobody else; an existing file is not touched."""
    number = await poison(control)
    result = await zapvisor("quarantine", "show", str(number), "--raw", "out.bin", "--json")
    assert result.json["raw_file"] == "out.bin"
    path = short_path / "out.bin"
    assert path.read_bytes() == b"\x00\xffstanza Q1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = await zapvisor("quarantine", "show", str(number), "--raw", "out.bin")
    assert again.code == 2
    assert "nothing was overwritten" in again.err
    nowhere = await zapvisor("quarantine", "show", str(number), "--raw", "no/out.bin")
    assert nowhere.code == 2
    assert "No such file" in nowhere.err


async def test_retrying_one(zapvisor: Run, control: Control) -> None:
    """Exit code 1 while it fails, 0 once it is stored; then again 0, and nothing happens."""
    number = str(await poison(control))
    control.restorer.refused = "refused for another reason"
    failed = await zapvisor("quarantine", "retry", number)
    assert failed.code == 1
    assert failed.out == f"Row {number} is not stored: refused for another reason\n"
    control.restorer.refused = None
    stored = await zapvisor("quarantine", "retry", number)
    assert stored.code == 0
    assert stored.out.startswith(f"Row {number} is stored: message ")
    assert (await zapvisor("quarantine", "retry", number)).code == 0
    [row] = (await zapvisor("quarantine", "list", "--resolved", "--json")).json
    assert (row["resolution"], row["attempts"]) == ("stored", 3)
    assert (await zapvisor("quarantine", "list", "--json")).json == []


async def test_retrying_all(zapvisor: Run, control: Control) -> None:
    """Whatever has a way out, the oldest first; what cannot be tried keeps no other from it."""
    none = await zapvisor("quarantine", "retry", "--all")
    assert (none.code, none.out) == (0, "Nothing in quarantine has a way out.\n")
    for number in range(3):
        await poison(control, f"Q{number}")
    result = await zapvisor("quarantine", "retry", "--all")
    assert result.code == 0
    assert result.out.endswith("3 of 3 are stored now.\n")
    await poison(control, "Q9")
    control.restorer.error = NotOnlineError("sales is not online")
    result = await zapvisor("quarantine", "retry", "--all", "--json")
    assert result.code == 1
    assert [row["error"] for row in result.json] == ["sales is not online"]


@pytest.mark.parametrize("tokens", [(), ("1", "--all"), ("1", "--connection", "sales")])
async def test_one_or_all(zapvisor: Run, control: Control, tokens: tuple[str, ...]) -> None:
    """One has to say which."""
    result = await zapvisor("quarantine", "retry", *tokens)
    assert result.code == 2
    assert "--all" in result.err
