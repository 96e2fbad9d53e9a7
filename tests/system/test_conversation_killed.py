"""The daemon killed in the middle of history, of sending, of files, of what it could not read.

Each table that records progress is slowed down, so that the kills find something under way.
"""

import collections
import collections.abc as cabc
import contextlib
import hashlib
import pathlib
import typing as t

import attrs
import httpx
import pytest
import trio

from simulator import Account, Settings, Simulator, open_simulator
from simulator.phone import Chunk
from tests.support.daemon_process import PAUSE, TIMEOUT, DaemonProcess, open_daemon
from whatsapp import compose
from whatsapp.content import TargetKey
from whatsapp.history import HistoryConversation
from whatsapp.node import Node
from whatsapp.web_message import HistoryMessage

NAME: t.Final = "sales"
OLD: t.Final = 1_780_000_000  # unix seconds, when the history was
MAX_IN_DOUBT: t.Final = 16  # messages that wait for the server at once, at most
IN_FLIGHT: t.Final = 192  # messages of history that may be committed before one that is live


@attrs.frozen
class Stage:
    """A simulator, a daemon, and the account that it is for."""

    simulator: Simulator
    daemon: DaemonProcess
    team: Account

    async def link(self) -> None:
        """Pair the connection with the team's phone."""

        async def scan(qr: str) -> object:
            return await self.simulator.scan_qr(qr, phone=self.team.pn.user)

        await self.daemon.link(NAME, scan)

    async def count(self, table: str, where: str) -> int:
        """Rows of a table."""
        [row] = await self.daemon.query(f"SELECT count(*) AS n FROM {table} WHERE {where}")
        return int(row["n"])

    async def until_count(self, number: int, table: str, where: str) -> None:
        """Wait until so many rows are like this."""

        async def reached() -> bool:
            return await self.count(table, where) >= number

        await self.daemon.until(reached, f"{number} of {table} where {where}")

    async def restart(self) -> None:
        """``kill -9`` if it runs, and a new process."""
        if self.daemon.process is not None and self.daemon.process.poll() is None:
            await self.daemon.kill()
        await self.daemon.start()

    async def settled(self) -> None:
        """Wait until the server has an answer for all that it owes the connection."""

        async def answered() -> bool:
            return not any(len(device.queue) for device in self.team.companions)

        await self.daemon.until(answered, "everything is acknowledged")


@pytest.fixture
async def stage(tmp_path: pathlib.Path) -> cabc.AsyncIterator[Stage]:
    """Nobody is paired yet."""
    settings = Settings(restart_pause=0.1)
    async with open_simulator(
        seed="killed", listen=("127.0.0.1", 0), settings=settings
    ) as simulator:
        certificate = tmp_path / "media.pem"
        certificate.write_text(simulator.certificate)
        async with open_daemon(
            tmp_path / "d",
            simulator.url,
            simulator.root_key,
            NAME,
            settings='[sending]\ngap = "0s"\nper_minute = 10000\n'
            f'[media]\nca_file = "{certificate}"\nhosts = ["{simulator.media.host}"]\n',
        ) as daemon:
            yield Stage(simulator, daemon, simulator.create_account("team"))


# ---- history


def history_of(team: Account) -> tuple[tuple[Chunk, ...], dict[str, str]]:
    """600 messages in five chunks, some of them in two; and all of them by id."""
    people = [f"1555800{number:04}@s.whatsapp.net" for number in range(5)]
    group = "120363999999999999@g.us"
    texts: dict[str, str] = {}

    def message(number: int) -> HistoryMessage:
        chat = group if number % 6 == 5 else people[number % 6]
        author = people[number % 5] if chat == group else None
        texts[f"OLD{number:04}"] = f"old {number}"
        return HistoryMessage(
            key=TargetKey(
                remote_jid=chat,
                from_me=author is None and number % 7 == 0,
                id=f"OLD{number:04}",
                participant=author,
            ),
            participant=author,
            timestamp=OLD + number,
            message=compose.text(f"old {number}"),
        )

    def chunk(sync_type: str, order: int, numbers: range, **more: t.Any) -> Chunk:
        chats: dict[str, list[HistoryMessage]] = collections.defaultdict(list)
        for number in reversed(numbers):
            item = message(number)
            chats[item.key.remote_jid].append(item)
        conversations = tuple(
            HistoryConversation(chat=chat, messages=tuple(items)) for chat, items in chats.items()
        )
        return Chunk(sync_type=sync_type, chunk_order=order, conversations=conversations, **more)

    chunks = (
        chunk("initial_bootstrap", 0, range(540, 600), inline=True, progress=10),
        chunk("recent", 1, range(410, 550), progress=30),
        chunk("recent", 2, range(280, 420), progress=50, inline=True),
        chunk("recent", 3, range(150, 290), progress=70),
        chunk("full", 4, range(160), progress=100),
    )
    return chunks, texts


async def test_history_and_live_messages_survive_kills(stage: Stage) -> None:
    """Every message of the history and every live one is there once; the live ones overtake."""
    chunks, old = history_of(stage.team)
    stage.team.phone.history = chunks
    await stage.daemon.slow_down("history_chunks", 0.15)
    customers = [stage.simulator.create_account(f"customer {number}") for number in range(3)]
    live: dict[str, str] = {}
    history_at: dict[str, int] = {}  # how much of it was stored when a live one was written
    imported = trio.Event()

    async def write() -> None:
        while not imported.is_set():
            run, before = stage.daemon.runs, await stage.count("messages", "lane = 'history'")
            for customer in customers:
                text = f"live {len(live)}"
                sent = await customer.phone.send_text(stage.team.pn, text)
                live[sent] = text
            newest = list(live)[-len(customers) :]
            ids = ", ".join(f"'{message_id}'" for message_id in newest)
            await stage.until_count(len(newest), "messages", f"external_id IN ({ids})")
            if run == stage.daemon.runs:
                history_at.update(dict.fromkeys(newest, before))

    await stage.link()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for goal in (80, 230, 420):
            await stage.until_count(goal, "messages", "lane = 'history'")
            if goal == 80:  # an orderly end comes in the middle, too
                assert await stage.daemon.terminate() == 0
            await stage.restart()
        await stage.until_count(len(chunks), "history_chunks", "state = 'done'")
        imported.set()
    await stage.settled()
    rows = await stage.daemon.messages()
    assert {row["external_id"]: row["text"] for row in rows} == old | live
    assert len(rows) == len(old) + len(live)
    waited = []  # messages of the history that came after a live one was written, and before it
    for count, row in enumerate(row for row in rows if row["external_id"] in live):
        before = rows.index(row) - count
        if before < len(old) and row["external_id"] in history_at:
            waited.append(before - history_at[row["external_id"]])
    assert len(waited) >= len(customers)
    assert max(waited) <= IN_FLIGHT
    progress = (await stage.daemon.request("GET", f"/connections/{NAME}/history")).json()
    assert progress["percent"] == 100
    assert progress["position"] == progress["total"] == 640
    assert {state: many for state, many in progress["chunks"].items() if many} == {"done": 5}
    assert sum(chat["offered"] for chat in progress["chats"]) == 640
    assert sum(chat["stored"] + chat["duplicate"] for chat in progress["chats"]) == 640
    assert not stage.simulator.ledger.unacknowledged(stage.team.companions[0].pn)


# ---- sending


class Silent:
    """A phone that takes messages and confirms none: receipts settle no doubt about them."""

    def __init__(self, account: Account) -> None:
        self.taken: collections.Counter[str] = collections.Counter()  # copies, by message
        self._took = trio.Event()
        account.phone.receive = self._receive  # type: ignore[method-assign]

    def _receive(self, node: Node) -> None:
        if node.tag == "message":
            self.taken[node.required_text("id")] += 1
            self._took.set()
            self._took = trio.Event()

    async def until_taken(self, number: int) -> None:
        """Return the moment it has so many messages."""
        while self.taken.total() < number:
            await self._took.wait()


async def test_the_outbox_survives_kills(stage: Stage) -> None:
    """Nobody gets a message twice; each one is sent, or known to be in doubt."""
    await stage.link()
    await stage.daemon.slow_down("outbox", 0.05)
    customers = [stage.simulator.create_account(f"customer {number}") for number in range(3)]
    silent = Silent(customers[2])
    rows: dict[int, dict[str, t.Any]] = {}

    async def ask() -> None:
        for number in range(30):
            to = customers[number % 3].pn.user
            while number not in rows:
                with contextlib.suppress(httpx.TransportError):  # killed: asked for once more
                    rows[number] = await stage.daemon.send(
                        NAME, f"+{to}", kind="text", text=f"text {number}", key=f"key {number}"
                    )
                await trio.sleep(PAUSE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for goal in (2, 5, 8):
            with trio.fail_after(TIMEOUT):
                await silent.until_taken(goal)
            await stage.restart()  # before it is recorded that the server has it

    async def done() -> bool:
        return not await stage.count("outbox", "state IN ('queued', 'sending')")

    await stage.daemon.until(done, "everything was sent")
    await stage.settled()
    stored = {row["key"]: row for row in await stage.daemon.query("SELECT * FROM outbox")}
    assert len(stored) == len(rows) == 30
    arrived = silent.taken + collections.Counter(
        got.id for customer in customers for got in customer.phone.inbox
    )
    assert set(arrived.values()) == {1}
    for number, row in rows.items():
        now, there = stored[f"key {number}"], row["external_id"] in arrived
        assert now["external_id"] == row["external_id"]
        if number % 3 == 2:
            assert now["state"] == "unknown" or (now["state"], there) == ("sent", True)
        else:
            assert (now["state"], there) in (("delivered", True), ("unknown", False)), now
    shown = {row["external_id"] for row in await stage.daemon.messages()}
    assert len(shown) == len(await stage.daemon.messages()) == 30
    doubtful = [row for row in stored.values() if row["state"] == "unknown"]
    assert len(doubtful) <= 3 * MAX_IN_DOUBT  # none, if every kill came between two messages
    for row in doubtful:  # an operator decides
        await stage.daemon.request("POST", f"/outbox/{row['id']}/retry")
        await stage.daemon.until_outbox(row["id"], "sent", "delivered")
    assert len(await stage.daemon.messages()) == 30


# ---- files


async def test_files_survive_kills(stage: Stage, tmp_path: pathlib.Path) -> None:
    """Every file is stored whole, under its hash, once; nothing else is left behind."""
    await stage.link()
    await stage.daemon.slow_down("media", 0.05)
    customer = stage.simulator.create_account("customer")
    content: dict[str, bytes] = {}
    for number in range(20):
        data = hashlib.sha256(b"%d" % (number // 2)).digest() * 12_000  # each of them twice
        source = customer.phone.upload("image", data, mimetype="image/jpeg")
        content[await customer.phone.send_message(stage.team.pn, compose.media(source))] = data
    for goal in (3, 8, 14):
        await stage.until_count(goal, "media", "state = 'stored'")
        await stage.restart()
    await stage.until_count(20, "media", "state = 'stored'")
    await stage.settled()
    rows = await stage.daemon.query(
        "SELECT m.external_id, encode(f.blob_sha256, 'hex') AS sha256, f.blob_size AS size"
        " FROM media f JOIN messages m ON (m.connection_id, m.id)"
        " = (f.connection_id, f.message_id)"
    )
    expected = {
        message_id: (hashlib.sha256(data).hexdigest(), len(data))
        for message_id, data in content.items()
    }
    assert {row["external_id"]: (row["sha256"], row["size"]) for row in rows} == expected
    directory = tmp_path / "d" / "data" / "media"
    files = {path.name: path for path in directory.rglob("*") if path.is_file()}
    assert set(files) == {sha256 for sha256, _size in expected.values()}
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name


# ---- what could not be read


@pytest.mark.slow
async def test_placeholders_survive_a_kill(stage: Stage) -> None:
    """The next daemon asks the phone for what the last one could not read; the senders, who
    were asked by the last one, are gone."""
    await stage.link()
    customer = stage.simulator.create_account("customer")
    customer.phone.answers = False
    stage.simulator.faults.corrupt(stage.team.pn, 3)
    sent = {
        await customer.phone.send_text(stage.team.pn, f"broken {n}"): f"broken {n}"
        for n in range(3)
    }
    await stage.until_count(3, "messages", "state = 'undecryptable'")
    await stage.restart()
    await stage.until_count(3, "messages", "state = 'stored'")
    rows = await stage.daemon.messages()
    assert {row["external_id"]: row["text"] for row in rows} == sent
    assert len(rows) == 3
    assert stage.team.phone.asked.total() == 1
