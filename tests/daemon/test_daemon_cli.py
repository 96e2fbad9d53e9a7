"""The command line against the app on a real socket, with a fleet that only remembers."""

import datetime as dt
import io
import json
from pathlib import Path

import pytest
import trio
import trio.testing
from daemon_fakes import NOON, Control, Run, connection

from api.views import DeafSuspicionView, IncidentView
from daemon.screen import age, console, draw_qr


async def test_status(zapvisor: Run, control: Control) -> None:
    """A row for each connection with the words that describe it; JSON for programs."""
    control.fleet.connections["support"] = connection(
        "support",
        state="backoff",
        sentence="the network is away",
        retries=4,
        next_attempt_in=61.0,
        last_message_at=None,
    )
    result = await zapvisor("status")
    header, _rule, sales, support = (line.rstrip() for line in result.out.splitlines())
    assert header.split()[:3] == ["name", "state", "for"]
    assert sales.split()[:2] == ["sales", "online"]
    assert sales.endswith("logged in")
    assert support.split()[:2] == ["support", "backoff"]
    assert support.endswith("the network is away; next try in 1 min")
    assert result.code == 0
    rows = (await zapvisor("status", "--json")).json
    assert [(row["name"], row["retries"]) for row in rows] == [("sales", 0), ("support", 4)]


async def test_status_of_a_connection_that_may_be_deaf(zapvisor: Run, control: Control) -> None:
    """What is suspected is said with the state."""
    suspicion = DeafSuspicionView(since=NOON, why="no message for 42 min")
    control.fleet.connections["sales"] = connection("sales", deaf=1, deaf_suspicion=suspicion)
    lines = (await zapvisor("status")).out.splitlines()
    [sales] = [line.rstrip() for line in lines if line.startswith("sales")]
    assert sales.endswith("logged in; may not hear: no message for 42 min")
    row = (await zapvisor("status", "--json")).json[0]
    assert (row["name"], row["deaf"]) == ("sales", 1)
    assert row["deaf_suspicion"]["why"] == "no message for 42 min"


async def test_status_of_nothing(zapvisor: Run, control: Control) -> None:
    """Without connections the table would be empty: the cure is said instead."""
    control.fleet.connections.clear()
    assert "[[connections]]" in (await zapvisor("status")).out
    assert (await zapvisor("status", "--json")).json == []


@pytest.mark.parametrize("order", ["start", "stop", "restart"])
async def test_orders(zapvisor: Run, control: Control, order: str) -> None:
    """The fleet is told, and the answer is the state it led to."""
    result = await zapvisor(order, "sales")
    assert result.code == 0
    assert result.out.startswith("sales is ")
    assert (await zapvisor(order, "sales", "--json")).json["name"] == "sales"
    assert control.fleet.orders == [(order, "sales")] * 2


@pytest.mark.parametrize(
    "tokens",
    [
        ("start", "nobody"),
        ("stop", "nobody"),
        ("restart", "nobody"),
        ("pair", "nobody"),
        ("conversations", "--connection", "nobody"),
    ],
)
async def test_unknown_names(zapvisor: Run, control: Control, tokens: tuple[str, ...]) -> None:
    """One line says which names there are; exit code 1."""
    result = await zapvisor(*tokens)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("zapvisor: no connection is called 'nobody'; configured: sales")
    assert control.fleet.orders == []


@pytest.mark.parametrize("name", ["..", "a/b", "a?b", "ação", " "])
async def test_names_stay_one_segment(zapvisor: Run, control: Control, name: str) -> None:
    """Whatever is given as a name, no other resource is reached with it."""
    result = await zapvisor("stop", name)
    assert result.code in (1, 2)
    assert result.err.startswith("zapvisor: ")
    assert control.fleet.orders == []


async def test_health(zapvisor: Run, control: Control) -> None:
    """The exit code is the verdict; the reasons are printed."""
    result = await zapvisor("health")
    assert (result.code, result.out.splitlines()[0]) == (0, "ok")
    assert "1 waiting, 0 open, 1 closed" in result.out
    assert "12 stored (not every delivery holds one), 1 duplicates skipped" in result.out
    control.fleet.connections["support"] = connection(
        "support", state="logged_out", sentence="Logged out on the phone."
    )
    result = await zapvisor("health")
    assert (result.code, result.out.splitlines()[0]) == (1, "degraded")
    assert "support is logged_out: Logged out on the phone." in result.out
    control.storage.away = True
    result = await zapvisor("health", "--json")
    assert (result.code, result.json["verdict"]) == (2, "failing")


async def test_an_incident_is_one_line(zapvisor: Run, control: Control) -> None:
    """What concerns many connections is told once: above the table, and among the reasons."""
    sentence = "2 connections failed alike: WhatsApp cannot be reached"
    since = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    control.fleet.now.append(
        IncidentView(code="outage", since=since, sentence=sentence, connections=2)
    )
    held = {"state": "backoff", "reason": "outage", "sentence": "held back"}
    for name in ("sales", "support"):
        control.fleet.connections[name] = connection(name, **held)
    first = (await zapvisor("status")).out.splitlines()[0]
    assert first.startswith("outage since ")
    assert first.endswith(sentence)
    assert len((await zapvisor("status", "--json")).json) == 2
    result = await zapvisor("health")
    assert result.code == 2
    assert f"- outage: {sentence}" in result.out
    assert "- no connection works" in result.out
    assert "held back" not in result.out
    [incident] = (await zapvisor("health", "--json")).json["incidents"]
    assert incident == {
        "code": "outage",
        "since": since.isoformat().replace("+00:00", "Z"),
        "sentence": sentence,
        "connections": 2,
    }


async def test_conversations(zapvisor: Run, control: Control) -> None:
    """Listed, filtered, opened, closed."""
    result = await zapvisor("conversations")
    assert [line.split()[2] for line in result.out.splitlines()[2:]] == ["waiting", "closed"]
    result = await zapvisor("conversations", "--status", "closed", "--json")
    assert [row["id"] for row in result.json] == [2]
    assert "No conversation fits" in (await zapvisor("conversations", "--status", "open")).out
    assert (await zapvisor("conversations", "open", "1")).out == "Conversation 1 is open.\n"
    assert (await zapvisor("conversations", "close", "1", "--json")).json["status"] == "closed"
    result = await zapvisor("conversations", "open", "2")
    assert (result.code, "conversation 1 of the same chat is live" in result.err) == (1, True)
    result = await zapvisor("conversations", "close", "9")
    assert "there is no conversation 9" in result.err
    assert control.storage.rows[1].status == "closed"


async def test_pairing_follows_the_codes(zapvisor: Run, control: Control) -> None:
    """Every code is drawn as it comes, and being paired ends it with exit code 0."""
    fleet, results = control.fleet, []
    fleet.tell("support", state="failed", sentence="An attempt of yesterday.")

    async def pair() -> None:
        results.append(await zapvisor("pair", "support", "--json"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair)
        await fleet.until(lambda: bool(fleet.orders))
        await fleet.tell_and_wait("support", state="code", qr="2@first,b,c,d", expires_in=60.0)
        await fleet.tell_and_wait("support", state="code", qr="2@second,b,c,d", expires_in=20.0)
        fleet.tell("support", state="paired", sentence="Paired as ***0001.")
    (result,) = results
    seen = [json.loads(line) for line in result.out.splitlines()]
    assert [news["qr"] for news in seen] == ["2@first,b,c,d", "2@second,b,c,d", None]
    assert (result.code, seen[-1]["sentence"]) == (0, "Paired as ***0001.")


async def test_pairing_draws_and_fails(zapvisor: Run, control: Control) -> None:
    """Without ``--json`` the code is drawn; a failure is one line and exit code 1."""
    fleet, results = control.fleet, []

    async def pair() -> None:
        results.append(await zapvisor("pair", "sales", "--force"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair)
        await fleet.until(lambda: bool(fleet.orders))
        await fleet.tell_and_wait("sales", state="code", qr="2@first,b,c,d", expires_in=60.0)
        fleet.tell("sales", state="failed", sentence="Nobody scanned a code in time.")
    (result,) = results
    assert fleet.orders == [("pair", "sales", True)]
    assert "█" in result.out
    assert "good for 60 s" in result.out
    assert result.err == "zapvisor: sales was not paired: Nobody scanned a code in time.\n"
    assert result.code == 1


async def test_pairing_a_paired_connection(zapvisor: Run, control: Control) -> None:
    """Refused without ``--force``, which the message names."""
    result = await zapvisor("pair", "sales")
    assert result.code == 1
    assert "--force" in result.err


@pytest.mark.parametrize(
    ("tokens", "code"),
    [
        (("status",), 1),
        (("start", "sales"), 1),
        (("pair", "sales"), 1),
        (("conversations",), 1),
        (("health",), 2),
    ],
)
async def test_no_daemon(
    zapvisor: Run, short_path: Path, tokens: tuple[str, ...], code: int
) -> None:
    """Every command says where it looked and what to do."""
    result = await zapvisor(*tokens)
    assert (result.code, result.out) == (code, "")
    path = short_path / "control.sock"
    assert result.err == f"zapvisor: no daemon answers at {path}; start it with: zapvisor run\n"


async def test_something_else_answers(zapvisor: Run, short_path: Path) -> None:
    """A stranger on the socket, or a daemon that dies, is one clear line."""

    async def answer(stream: trio.SocketStream) -> None:
        if await stream.receive_some():
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    for handler, words in ((answer, "is no zapvisor daemon"), (hang_up, "went away")):
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        path = short_path / "control.sock"
        path.unlink(missing_ok=True)
        await listening.bind(str(path))
        listening.listen()
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(listening)
            nursery.start_soon(trio.serve_listeners, handler, [listener])
            result = await zapvisor("status")
            nursery.cancel_scope.cancel()
        await listener.aclose()
        assert result.code == 1
        assert words in result.err


async def test_bad_configuration(zapvisor: Run, short_path: Path) -> None:
    """Every problem is printed, and the exit code is 2, for every command."""
    (short_path / "supervisor.toml").write_text('[daemon]\nlog_levle = "info"\n[stroage]\n')
    for tokens in (("status",), ("run",), ("config", "check")):
        result = await zapvisor(*tokens)
        assert result.code == 2
        assert result.out == ""
        first, second = [line for line in result.err.splitlines() if "supervisor.toml" in line]
        assert "log_level" in first
        assert "storage" in second
    result = await zapvisor("config", "check", "--json")
    assert (result.code, result.json["ok"], len(result.json["problems"])) == (2, False, 2)


async def test_good_configuration(zapvisor: Run, short_path: Path) -> None:
    """A file that is fine is said to be, with its connections."""
    (short_path / "other.toml").write_text('[[connections]]\nname = "sales"\n')
    result = await zapvisor("config", "check", "other.toml")
    assert (result.code, result.out) == (0, "other.toml: fine; connections: sales\n")
    result = await zapvisor("config", "check", "other.toml", "--json")
    assert result.json["connections"] == ["sales"]
    assert (await zapvisor("config", "check", "missing.toml")).code == 2
    assert (await zapvisor("config", "check")).code == 0


async def test_version(zapvisor: Run) -> None:
    """Known without a daemon."""
    assert (await zapvisor("version")).out.startswith("zapvisor 0.")
    assert set((await zapvisor("version", "--json")).json) == {"version", "python"}


def test_a_reader_that_has_seen_enough() -> None:
    """``zapvisor health | head -1`` ends by the pipe, not with the exit code of a failure."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        console(Gone()).print("a table")


def test_ages() -> None:
    """The largest unit alone; never negative, whatever the clocks say."""
    seconds = {-5: "0 s", 59: "59 s", 60: "1 min", 7199: "1 h", 86_400 * 3: "3 d"}
    for passed, words in seconds.items():
        assert age(NOON.isoformat(), NOON + dt.timedelta(seconds=passed)) == words
    assert age(None, NOON) == "–"


def test_a_pairing_code_fits_a_terminal() -> None:
    """The longest code that pairing gives is drawn in 80 columns and 40 lines."""
    text = ",".join(["2@" + "a" * 150, "b" * 44, "c" * 44, "d" * 44, "1"])
    lines = draw_qr(text, colours=False).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert draw_qr(text, colours=True).startswith("\x1b[97;40m")
