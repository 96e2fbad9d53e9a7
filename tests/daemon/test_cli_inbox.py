"""The commands that send and read, against the app on a real socket."""

from pathlib import Path

import pytest
import trio
from daemon_fakes import ANA, GROUP, NOON, Control, Run

from storage.api import Lane
from storage.facts import (
    AddressPair,
    GroupSnapshot,
    HistoryChatCount,
    HistoryOffered,
    HistoryStep,
    OutboxStep,
)

LID = "900000000001@lid"


def step(number: int, state: str, reason: str | None = None) -> OutboxStep:
    """A step of the sender."""
    return OutboxStep(id=number, state=state, reason=reason, at=NOON.timestamp())


async def test_sending_a_text(zapvisor: Run, control: Control) -> None:
    """Queued, once for a key however often; the number may be written as people do."""
    result = await zapvisor("send", "sales", "+55 11 99999-0001", "olá, Ana", "--key", "k1")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Message ")
    assert result.out.endswith(" is queued.\n")
    first = (await zapvisor("send", "sales", ANA, "olá, Ana", "--key", "k1", "--json")).json
    assert (first["chat"], first["body"], first["key"]) == (ANA, {"text": "olá, Ana"}, "k1")
    other = await zapvisor("send", "sales", ANA, "outra", "--key", "k1")
    assert other.code == 1
    assert "used for another request" in other.err
    keys = [(await zapvisor("send", "sales", ANA, "olá", "--json")).json["key"] for _ in range(2)]
    assert keys[0] != keys[1]
    assert len((await zapvisor("outbox", "--json")).json) == 3


@pytest.mark.parametrize(
    ("options", "kind", "body"),
    [
        (("oi", "--reply", "{ANA1}"), "reply", {"text": "oi", "quoted": "ANA1"}),
        (("oi", "--reply", "3EB0ABC"), "reply", {"text": "oi", "quoted": "3EB0ABC"}),
        (("👍", "--react", "{ANA1}"), "reaction", {"target": "ANA1", "emoji": "👍"}),
        (("--react", "{ANA1}"), "reaction", {"target": "ANA1", "emoji": ""}),
        (("olá!", "--edit", "{TEAM1}"), "edit", {"target": "TEAM1", "text": "olá!"}),
        (("--revoke", "{TEAM1}"), "revoke", {"target": "TEAM1"}),
    ],
)
async def test_what_refers_to_a_message(
    zapvisor: Run, control: Control, options: tuple[str, ...], kind: str, body: dict[str, str]
) -> None:
    """By the number it has here, or by WhatsApp's id."""
    tokens = [option.format_map(control.storage.numbers) for option in options]
    row = (await zapvisor("send", "sales", ANA, *tokens, "--json")).json
    assert (row["kind"], row["body"]) == (kind, body)


async def test_sending_a_file(zapvisor: Run, control: Control, short_path: Path) -> None:
    """It is uploaded, and sent as what it is, with the text as its caption."""
    (short_path / "praia.jpg").write_bytes(b"jpeg" * 200_000)
    row = (
        await zapvisor(
            "send", "sales", ANA, "a praia", "--file", "praia.jpg", "--reply", "X1", "--json"
        )
    ).json
    sha256 = row["body"].pop("file")
    assert len(control.files.files[bytes.fromhex(sha256)]) == 800_000
    assert row["kind"] == "media"
    assert row["body"] == {
        "kind": "image",
        "mimetype": "image/jpeg",
        "name": "praia.jpg",
        "caption": "a praia",
        "quoted": "X1",
    }
    (short_path / "contas.xyz").write_bytes(b"")
    row = (await zapvisor("send", "sales", ANA, "--file", "contas.xyz", "--json")).json
    assert (row["body"]["kind"], "caption" in row["body"]) == ("document", False)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ((), "there is no text"),
        (("a", "--reply", "1", "--edit", "2"), "--reply and --edit exclude each other"),
        (("a", "--edit", "1", "--file", "x"), "--file and --edit exclude each other"),
        (("a", "--revoke", "1"), "--revoke takes no text"),
        (("--edit", "1"), "there is no text"),
        (("--file", "missing.jpg"), "cannot be read"),
        (("a", "--key", "ação"), "only ASCII"),
    ],
)
async def test_wrong_usage(
    zapvisor: Run, control: Control, tokens: tuple[str, ...], words: str
) -> None:
    """One line and exit code 2; nothing is queued."""
    result = await zapvisor("send", "sales", ANA, *tokens)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert (await zapvisor("outbox", "--json")).json == []


async def test_what_the_daemon_refuses(zapvisor: Run, control: Control) -> None:
    """Its words are shown, with exit code 1."""
    for tokens, words in (
        (("send", "sales", "12", "olá"), "is no address"),
        (("send", "nobody", ANA, "olá"), "no connection is called 'nobody'"),
        (("send", "sales", ANA, "olá", "--reply", "999"), "sales has no message 999"),
        (("outbox", "retry", "999"), "there is no outbox message 999"),
        (("messages", "999"), "there is no conversation 999"),
        (("contacts", "undo", "999"), "there is no merge 999"),
        (("history", "nobody"), "no connection is called 'nobody'"),
        (("history", "sales", "--older", GROUP), "no message yet"),
    ):
        result = await zapvisor(*tokens)
        assert (result.code, result.out) == (1, "")
        assert words in result.err


async def test_waiting_until_it_is_sent(
    zapvisor: Run, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 0 once WhatsApp has it, 1 when it failed, nobody knows, or it takes too long."""
    monkeypatch.setattr("daemon.cli_sending.PAUSE", 0.01)
    for state, code, words in (
        ("sent", 0, "is sent."),
        ("delivered", 0, "is delivered."),
        ("failed", 1, "is failed: not on WhatsApp"),
        ("unknown", 1, "is unknown: not on WhatsApp"),
    ):
        results = []

        async def send() -> None:
            results.append(await zapvisor("send", "sales", ANA, "olá", "--wait"))  # noqa: B023

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while not (rows := await control.storage.outbox_list(state="queued")):
                await trio.sleep(0.005)
            await control.storage.take(step(rows[0].id, state, "not on WhatsApp"))
        assert results[0].code == code
        assert words in results[0].out + results[0].err
    late = await zapvisor("send", "sales", ANA, "olá", "--wait", "--timeout", "0.05")
    assert late.code == 1
    assert "is still queued after 0.05 s" in late.err


async def test_the_outbox(zapvisor: Run, control: Control) -> None:
    """A row for each message with its state and reason; what is unknown is sent again by order."""
    assert "Nothing was to be sent" in (await zapvisor("outbox")).out
    number = (await zapvisor("send", "sales", ANA, "olá", "--json")).json["id"]
    await control.storage.take(step(number, "sending"), step(number, "unknown", "interrupted"))
    result = await zapvisor("outbox", "--connection", "sales", "--state", "unknown")
    _header, _rule, line = result.out.splitlines()
    assert line.split()[:5] == [str(number), "sales", ANA, "text", "unknown"]
    assert line.rstrip().endswith("interrupted")
    assert (await zapvisor("outbox", "--connection", "support", "--json")).json == []
    assert (await zapvisor("outbox", "retry", str(number))).out == f"Message {number} is queued.\n"
    again = await zapvisor("outbox", "retry", str(number))
    assert (again.code, "is queued, not unknown" in again.err) == (1, True)


async def test_messages(zapvisor: Run, control: Control) -> None:
    """Who said what, oldest first; files with their state."""
    numbers = control.storage.numbers
    result = await zapvisor("messages", str(numbers["ana"]))
    lines = [line.split() for line in result.out.splitlines()[2:]]
    assert [line[0] for line in lines] == [str(numbers[name]) for name in ("ANA1", "ANA2", "TEAM1")]
    assert "Ana" in lines[0]
    assert lines[0][-2:] == ["bom", "dia"]
    assert result.out.splitlines()[3].rstrip().endswith("[image praia.jpg, pending]")
    assert "team" in lines[2]
    rows = (await zapvisor("messages", str(numbers["ana"]), "--limit", "1", "--json")).json
    assert [row["external_id"] for row in rows] == ["TEAM1"]
    before = ("--before", str(numbers["ANA1"]))
    assert (
        "No message comes before" in (await zapvisor("messages", str(numbers["ana"]), *before)).out
    )


async def test_messages_as_they_became(zapvisor: Run, control: Control) -> None:
    """Edited, deleted, answered and reacted to in one line each."""
    side = {"lane": Lane.SIDE, "target_id": "ANA1", "target_author": ANA}
    take = control.storage.take
    await take(external_id="E1", kind="edit", text="bom dia!", **side)
    await take(external_id="R1", kind="reaction", text="🙂", **side)
    await take(external_id="D1", kind="revoke", text=None, **side)
    await take(external_id="Q1", text="resposta", quoted_id="ANA1", quoted_author=ANA)
    await take(external_id="U1", kind="undecryptable", text=None, raw=b"", reason="no session")
    out = (await zapvisor("messages", str(control.storage.numbers["ana"]))).out
    assert "(edited) (deleted) 🙂" in out
    assert "bom dia!" not in out  # see zapvisor history show
    assert "↪ text · resposta" in out
    assert "[undecryptable: no session]" in out


async def test_people_and_groups(zapvisor: Run, control: Control) -> None:
    """Tables of contacts, merges and groups; a merge is undone by order."""
    assert "No contacts were merged" in (await zapvisor("contacts", "merges")).out
    assert "No group is known" in (await zapvisor("groups")).out
    await control.storage.take(external_id="LID1", chat=LID, sender=LID)
    await control.storage.take(
        AddressPair(number=ANA, lid=LID, source="usync"),
        GroupSnapshot(group=GROUP, at=NOON.timestamp(), subject="Família", announce=True),
    )
    [line] = (await zapvisor("contacts", "--query", "Ana")).out.splitlines()[2:]
    assert line.split()[1:] == ["sales", "Ana", "+5511999990001", f"{ANA},", LID]
    assert "No contact fits" in (await zapvisor("contacts", "--query", "nobody")).out
    [merge] = (await zapvisor("contacts", "merges", "--json")).json
    assert f"usync: {LID}" in (await zapvisor("contacts", "merges")).out
    undone = await zapvisor("contacts", "undo", str(merge["id"]))
    assert undone.out == f"Contacts {merge['survivor']} and {merge['merged']} are two again.\n"
    group = (await zapvisor("groups", "--connection", "sales")).out.splitlines()[2]
    assert group.split() == ["sales", GROUP, "admins", "Família"]


async def test_history(zapvisor: Run, control: Control) -> None:
    """The summary, the failures and the chats; older messages are asked for by order."""
    assert "parts: none offered" in (await zapvisor("history", "sales")).out
    counts = tuple(
        HistoryChatCount(chat=f"{number}@s.whatsapp.net", offered=number, stored=number)
        for number in range(1, 33)
    )
    offers = [
        HistoryOffered(key=key, notification=b"n", sync_type="recent", chunk_order=1, progress=40)
        for key in ("h1", "h2")
    ]
    await control.storage.take(
        *offers,
        HistoryStep(key="h1", state="done", position=528, total=528, counts=counts),
        HistoryStep(key="h2", state="failed", position=3, total=9, error="the file is gone"),
    )
    out = (await zapvisor("history", "sales")).out
    assert out.splitlines()[:3] == [
        "40 % · 531 of 537 messages taken in",
        "parts: 1 done, 1 failed",
        "failed: the file is gone",
    ]
    assert "and 2 more chats" in out
    assert "1 pending" in (await zapvisor("history", "sales", "--retry")).out
    asked = await zapvisor("history", "sales", "--older", ANA, "--count", "20")
    assert asked.out.startswith("Asked the phone for 20 messages")
    assert ("older", "sales", ANA, 20) in control.actions.asked
    assert (await zapvisor("history", "sales", "--older", ANA, "--retry")).code == 2
    assert (await zapvisor("history", "sales", "--json")).json["percent"] == 40


async def test_logging_out(zapvisor: Run, control: Control) -> None:
    """The state it led to is shown."""
    result = await zapvisor("logout", "sales")
    assert (result.code, result.out) == (0, "sales is logged_out: logged out by an operator\n")
    assert control.fleet.orders == [("logout", "sales")]


async def test_pairing_by_code(zapvisor: Run, control: Control) -> None:
    """The code is shown in two halves, with what to do on the phone."""
    fleet, results = control.fleet, []

    async def pair() -> None:
        results.append(await zapvisor("pair", "support", "--code", "+55 11 99999-0009"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair)
        await fleet.until(lambda: bool(fleet.orders))
        await fleet.tell_and_wait("support", state="code", code="ABCD1234", expires_in=170.0)
        fleet.tell("support", state="paired", sentence="Paired as ***0009.")
    assert fleet.orders == [("code", "support", "5511999990009")]
    lines = results[0].out.splitlines()
    assert lines[0] == "ABCD-1234"
    assert "Link with phone number" in lines[1]
    assert "good for 170 s" in lines[2]
    assert lines[-1] == "Paired as ***0009."
    refused = await zapvisor("pair", "support", "--code", "12")
    assert (refused.code, "phone: " in refused.err) == (1, True)


async def test_reprocessing(zapvisor: Run, control: Control) -> None:
    """Waits for the end of the run; a run that failed is an error."""
    for ending, code, words in (
        ({"read": 10, "changed": 2, "still_unknown": 1}, 0, "Read 10 messages anew: 2 changed"),
        ({"state": "failed", "error": "the database is away"}, 1, "the database is away"),
    ):
        results = []

        async def reprocess() -> None:
            results.append(await zapvisor("reprocess", "sales"))  # noqa: B023

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reprocess)
            while control.reprocess.now.state != "running":
                await trio.sleep(0.005)
            control.reprocess.end(**ending)
        assert results[0].code == code
        assert words in results[0].out + results[0].err


@pytest.mark.parametrize(
    "tokens",
    [
        ("send", "sales", ANA, "olá"),
        ("outbox",),
        ("messages", "1"),
        ("contacts",),
        ("groups",),
        ("history", "sales"),
        ("logout", "sales"),
        ("reprocess",),
    ],
)
async def test_no_daemon(zapvisor: Run, short_path: Path, tokens: tuple[str, ...]) -> None:
    """Every command says where it looked and what to do."""
    result = await zapvisor(*tokens)
    path = short_path / "control.sock"
    assert result.err == f"zapvisor: no daemon answers at {path}; start it with: zapvisor run\n"
