"""``zapvisor connection``, ``zapvisor search``, and lists that go on."""

from pathlib import Path

from daemon_fakes import Control, Run, connection


async def test_a_connection_from_its_making_to_its_end(
    zapvisor: Run, control: Control, short_path: Path
) -> None:
    """Made, shown, changed, deleted; a password is never shown."""
    (short_path / "proxy").write_text("http://ana:s3cret@proxy.example:3128\n")
    made = await zapvisor(
        "connection", "create", "shop", "--proxy", "@proxy", "--no-groups", "--reopen-window", "2h"
    )
    assert (made.code, "zapvisor pair shop" in made.out) == (0, True)
    shown = await zapvisor("connection", "show", "shop")
    assert "http://***@proxy.example:3128  (its own)" in shown.out
    assert "made through the API" in shown.out
    assert "s3cret" not in shown.out
    changed = await zapvisor(
        "connection", "change", "shop", "--default", "proxy", "--reopen-window", "4h", "--json"
    )
    assert (changed.json["settings"]["proxy"], changed.json["effective"]["reopen_window"]) == (
        None,
        "4h",
    )
    control.fleet.connections["shop"] = connection("shop")
    refused = await zapvisor("connection", "delete", "shop")
    assert (refused.code, "log it out first" in refused.err) == (1, True)
    assert (await zapvisor("connection", "delete", "shop", "--force")).code == 0
    assert control.registrar.deleted == [("shop", True)]


async def test_what_is_wrong_with_it(zapvisor: Run, control: Control) -> None:
    """Said by the daemon, or before it is asked."""
    bad = await zapvisor("connection", "create", "Not A Name")
    assert (bad.code, "cannot name a connection" in bad.err) == (1, True)
    assert (await zapvisor("connection", "change", "sales")).code == 2
    assert (await zapvisor("connection", "create", "x", "--proxy", "@nowhere")).code == 2
    assert "change it there" in (await zapvisor("connection", "change", "sales", "--no-groups")).err
    assert "the configuration file" in (await zapvisor("connection", "show", "sales")).out


async def test_messages_are_found(zapvisor: Run, control: Control) -> None:
    """In a table, or as JSON; a query without words is refused."""
    result = await zapvisor("search", "DIA")
    assert result.code == 0
    assert "bom dia" in result.out
    assert "Ana" in result.out
    [hit] = (await zapvisor("search", "dia", "--contact", "5511999990001", "--json")).json
    assert hit["message"] == control.storage.numbers["ANA1"]
    assert "No message fits" in (await zapvisor("search", "nada")).out
    refused = await zapvisor("search", "...")
    assert (refused.code, "there is no word" in refused.err) == (1, True)
    rows = (await zapvisor("conversations", "--query", "bom", "--json")).json
    assert [row["id"] for row in rows] == [control.storage.numbers["ana"]]
    assert (await zapvisor("conversations", "--query", "aná", "--json")).json == rows
    assert (await zapvisor("conversations", "reopen", "1")).out == "Conversation 1 is open.\n"


async def test_a_list_that_goes_on_says_so(zapvisor: Run, control: Control) -> None:
    """With the cursor of the next page; all of it on demand, in the order of the pages."""
    number = str(control.storage.numbers["ana"])
    first = await zapvisor("messages", number, "--limit", "2", "--json")
    assert [row["external_id"] for row in first.json] == ["ANA2", "TEAM1"]
    assert first.err.startswith("There is more: --all, or --cursor ")
    cursor = first.err.split()[-1]
    second = await zapvisor("messages", number, "--cursor", cursor, "--json")
    assert ([row["external_id"] for row in second.json], second.err) == (["ANA1"], "")
    everything = await zapvisor("messages", number, "--limit", "1", "--all", "--json")
    assert [row["external_id"] for row in everything.json] == ["ANA1", "ANA2", "TEAM1"]
    for word in ("contacts", "groups", "outbox", "gaps", "conversations"):
        assert (await zapvisor(word, "--all")).code == 0
    assert (await zapvisor("quarantine", "list", "--all")).code == 0
    assert (await zapvisor("contacts", "--cursor", "nonsense")).code == 1
