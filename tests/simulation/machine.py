"""Whatever happens to a fleet, in any order: the promises hold at each step, and at the end."""

import collections
import typing as t

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simulator.faults import ENDINGS
from tests.simulation.virtual_daemon import CUSTOMERS, NAMES, STATES, VirtualDaemon
from whatsapp.jid import Jid

names = st.sampled_from(NAMES)
targets = st.sampled_from((*NAMES, None))  # None: all of them
customers = st.integers(0, len(CUSTOMERS) - 1)
counts = st.integers(1, 8)
waits = st.sampled_from((0.05, 0.5, 5.0, 30.0, 120.0, 900.0, 2 * 3600.0, 8 * 3600.0))  # seconds
failures = st.sampled_from(("400", "401", "ban", "405", "500", "unavailable"))
endings = st.sampled_from(sorted(ENDINGS))

simulated: t.Final = collections.Counter[str]()
"""What all machines of this process went through: hours, steps, messages."""


class FleetMachine(RuleBasedStateMachine):
    """Three connections, their customers, and everything that can go wrong."""

    @initialize()
    def begin(self) -> None:
        self.daemon = VirtualDaemon()
        self.stage = self.daemon.stage
        self.reordered = False
        self.touched: set[str] = set()
        """Connections that something happened to; the others must never notice."""
        self.since: dict[str, t.Any] = {}
        self._sync(self._note_since)

    # ---- people

    @rule(customer=customers, name=names, count=counts)
    def write(self, customer: int, name: str, count: int) -> None:
        self.daemon.do(self.stage.write, customer, name, count)

    @rule(customer=customers)
    def write_to_group(self, customer: int) -> None:
        self.daemon.do(self.stage.write_to_group, customer)

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        self.daemon.do(trio.sleep, seconds)

    @rule(pick=st.integers(0, 1000))
    def close_a_conversation(self, pick: int) -> None:
        async def close() -> None:
            rows = await self.stage.storage.conversations(status=None, connection=None, limit=100)
            if rows:
                await self.stage.storage.close_conversation(rows[pick % len(rows)].id)

        self.daemon.do(close)

    # ---- WhatsApp and the network

    @rule(name=targets, kind=st.sampled_from(("drop", "half_open")))
    def lose_the_socket(self, name: str | None, kind: str) -> None:
        self._touch(name)
        simulator = self.stage.world.simulator
        self._sync(simulator.drop if kind == "drop" else simulator.half_open, self._jid(name))

    @rule(name=targets, on=st.booleans())
    def stall(self, name: str | None, on: bool) -> None:
        self._touch(name)
        self._sync(self.stage.world.simulator.faults.stall, self._jid(name), on)

    @rule(name=targets, ending=endings)
    def end(self, name: str | None, ending: str) -> None:
        self._touch(name)
        self.daemon.do(self.stage.world.simulator.end, ending, self._jid(name))

    @rule(name=targets, failure=failures, count=st.integers(1, 40))
    def refuse_logins(self, name: str | None, failure: str, count: int) -> None:
        self._touch(None if failure == "405" else name)  # which is everybody's affair
        self._sync(self.stage.world.simulator.faults.fail_login, failure, self._jid(name), count)

    @rule(on=st.booleans())
    def refuse_connections(self, on: bool) -> None:
        self.stage.world.simulator.faults.refuse_connections = on

    @rule(seconds=st.sampled_from((0.0, 0.2, 3.0)))
    def be_slow(self, seconds: float) -> None:
        self._touch(None)
        self.stage.world.simulator.faults.latency = seconds

    @rule(name=targets, count=counts, kind=st.sampled_from(("duplicate", "corrupt", "lose_acks")))
    def garble(self, name: str | None, count: int, kind: str) -> None:
        self._sync(getattr(self.stage.world.simulator.faults, kind), self._jid(name), count)

    @rule(name=targets, count=counts)
    def reorder(self, name: str | None, count: int) -> None:
        self.reordered = True
        self._sync(self.stage.world.simulator.faults.reorder, self._jid(name), count)

    # ---- the database

    @rule(away=st.booleans(), slowness=st.sampled_from((0.0, 0.0, 0.3, 20.0)), unanswered=counts)
    def change_the_database(self, away: bool, slowness: float, unanswered: int) -> None:
        self._touch(None)
        storage = self.stage.storage
        storage.away, storage.slowness, storage.unanswered = away, slowness, unanswered

    @rule()
    def mend_the_database(self) -> None:
        self.stage.storage.be_well()

    @rule(bugs=st.integers(1, 3))
    def meet_bugs(self, bugs: int) -> None:
        self._touch(None)
        self.stage.storage.bugs = bugs

    # ---- the daemon and its operator

    @precondition(lambda self: self.stage.running)
    @rule()
    def kill(self) -> None:
        self._touch(None)
        self.daemon.do(self.stage.kill)

    @precondition(lambda self: not self.stage.running)
    @rule()
    def start_the_daemon(self) -> None:
        self.daemon.do(self.stage.start)

    @precondition(lambda self: self.stage.running)
    @rule(name=names, order=st.sampled_from(("start", "stop", "restart")))
    def give_an_order(self, name: str, order: str) -> None:
        self._touch(name)
        self.daemon.do(getattr(self.stage.world.fleet, order), name)

    # ---- what is always true

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "daemon"):
            self.daemon.do(self._check)

    async def _check(self) -> None:
        stage = self.stage
        for name in NAMES:
            rows = stage.storage.messages(name)
            stored = collections.Counter(row["external_id"] for row in rows)
            for record in stage.records(name):
                if record.acknowledged_at is not None:
                    assert stored[record.letter.id], f"{name}: acknowledged and not stored"
            texts = [row["text"] for row in rows if row["kind"] == "text"]
            assert len(texts) == len(set(texts)), f"{name}: stored twice"
            if not self.reordered:
                self._check_order(name, rows)
        conversations = await stage.storage.conversations(status=None, connection=None, limit=500)
        live = collections.Counter(
            (row.connection, row.chat) for row in conversations if row.status != "closed"
        )
        assert not [chat for chat, count in live.items() if count > 1], "two live conversations"
        if stage.running:
            self._check_fleet()

    def _check_order(self, name: str, rows: list[dict[str, t.Any]]) -> None:
        last: dict[tuple[str, str], int] = {}
        for row in rows:
            if row["kind"] != "text":
                continue
            key, number = (row["chat"], row["sender"]), int(row["text"])
            assert number > last.get(key, 0), f"{name}: {number} after {last[key]}"
            last[key] = number

    def _check_fleet(self) -> None:
        for row in self.stage.world.fleet.status():
            assert row.state in STATES
            assert row.in_flight <= 256
            if row.name not in self.touched:
                assert row.state == "online", f"{row.name} was untouched: {row}"
                assert row.since == self.since[row.name], f"{row.name} was untouched: {row}"

    # ---- and at the end

    def teardown(self) -> None:
        if not hasattr(self, "daemon"):
            return
        try:
            self._touch(None)
            self.daemon.do(self.stage.be_well)
            self.daemon.do(self._check)
            self.daemon.do(self._check_everything_stored)
            simulated["seconds"] += int(self.daemon.now)
            simulated["messages"] += self.stage.written
            simulated["schedules"] += 1
        finally:
            self.daemon.close()

    async def _check_everything_stored(self) -> None:
        ledger = self.stage.world.simulator.ledger
        for name in NAMES:
            rows = {row["external_id"]: row for row in self.stage.storage.messages(name)}
            for record in self.stage.records(name):
                written = ledger.text(record)
                assert record.letter.id in rows, f"{name}: lost {record}"
                if written is not None:
                    assert rows[record.letter.id]["text"] == written.text, f"{name}: {record}"

    # ---- helpers

    def _sync(self, function: t.Callable[..., object], *arguments: object) -> None:
        async def call() -> None:
            function(*arguments)

        self.daemon.do(call)

    def _note_since(self) -> None:
        self.since = {row.name: row.since for row in self.stage.world.fleet.status()}

    def _touch(self, name: str | None) -> None:
        self.touched |= set(NAMES) if name is None else {name}

    def _jid(self, name: str | None) -> Jid | None:
        return None if name is None else self.stage.account(name).pn
