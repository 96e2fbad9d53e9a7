"""A whole connection against the simulator: what arrives is stored once and acknowledged after."""

import typing as t

import pytest
import trio
import trio.testing

from actors.errors import AlreadyPairedError, UnknownConnectionError
from actors.fleet import ConnectionStatus, Fleet
from simulator import ScanRefusedError
from storage.api import RecordKind
from tests.actors.conftest import FaultyStorage
from tests.actors.world import START, open_world
from whatsapp.framing import frame
from whatsapp.jid import Jid
from whatsapp.node import Node

Clock: t.TypeAlias = trio.testing.MockClock


def texts(storage: FaultyStorage, name: str = "sales") -> list[str]:
    return [row["text"] or "" for row in storage.messages(name) if row["kind"] != "system"]


async def test_a_paired_connection_receives_texts(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Pairing, login and receiving work; each text is stored once, in order."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        for number in range(5):
            await customer.phone.send_text(world.accounts["sales"].pn, f"text {number}")
        await world.settled()
        assert texts(storage) == [f"text {number}" for number in range(5)]
        assert world.simulator.ledger.duplicates_offered() == 0


async def test_nothing_is_acknowledged_before_its_commit(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I1: while the database is away WhatsApp gets no receipt; once it is back, all do."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        device = world.accounts["sales"].companions[0].pn
        storage.away = True
        await customer.phone.send_text(world.accounts["sales"].pn, "while away")
        await trio.sleep(30)
        [record] = world.simulator.ledger.offered(device)[-1:]
        assert record.acknowledged_at is None
        storage.away = False
        await world.settled()
        assert texts(storage) == ["while away"]


async def test_a_long_absence_of_the_database_closes_the_connection_on_purpose(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I11: WhatsApp's queue is the buffer; no retry is counted, and nothing is lost."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        storage.away = True
        for number in range(3):
            await customer.phone.send_text(world.accounts["sales"].pn, f"text {number}")
        await world.until_state("sales", "backoff", "connecting")
        await trio.sleep(1200)
        assert world.fleet.status("sales")[0].retries == 0
        storage.away = False
        await world.until_state("sales", "online")
        await world.settled()
        assert texts(storage) == ["text 0", "text 1", "text 2"]


async def test_a_database_that_is_away_for_the_keys_is_no_crash(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A life that cannot read its keys is held like any other: said so, and not counted."""
    async with open_world(storage, "sales") as world:
        storage.away_for_readers = True
        world.simulator.drop(world.accounts["sales"].pn)
        await world.until(
            lambda: world.fleet.status("sales")[0].reason == "storage_unavailable", "held"
        )
        await trio.sleep(1200)
        status = world.fleet.status("sales")[0]
        assert status.state in ("backoff", "connecting")
        assert status.retries <= 1  # the socket that was dropped
        storage.away_for_readers = False
        await world.until_state("sales", "online")


@pytest.mark.parametrize("group", [False, True], ids=["direct", "group"])
@pytest.mark.parametrize("committed", [False, True], ids=["before-commit", "after-commit"])
async def test_a_kill_at_the_commit_loses_and_doubles_nothing(
    autojump_clock: Clock, storage: FaultyStorage, committed: bool, group: bool
) -> None:
    """I2: records and message commit together, so the redelivered ciphertext opens, or is known.

    The connection dies with envelopes under way, the records in its memory gone; what the server
    delivers again is decrypted from what storage holds, without asking for anything again.
    """
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        team = world.accounts["sales"]
        members = world.simulator.create_group("team", [customer, team])

        async def say(text: str) -> None:
            if group:
                await customer.phone.send_group_text(members.jid, text)
            else:
                await customer.phone.send_text(team.pn, text)

        await say("first")
        await world.settled()
        world.simulator.faults.lose_acks(None, 1000)
        storage.away = not committed
        for number in range(5):
            await say(f"text {number}")
        await trio.sleep(5)
        await world.kill_daemon()
        storage.away = False
        world.simulator.faults.clear()
        await world.start_daemon()
        await world.until_state("sales", "online")
        await world.settled()
        assert texts(storage) == ["first", *(f"text {number}" for number in range(5))]
        status = world.fleet.status("sales")[0]
        assert status.undecryptable == 0
        assert status.duplicates == (5 if committed else 0)


async def test_the_state_that_decrypted_is_stored_with_the_message(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I2: session, identity and sender key are there, and the one-time prekey is used up."""
    async with open_world(storage, "sales") as world:
        records = storage._connections["sales"].records
        customer = world.simulator.create_account("customer")
        group = world.simulator.create_group("team", [customer, world.accounts["sales"]])
        prekeys, sessions = set(records[RecordKind.PREKEY]), set(records[RecordKind.SESSION])
        await customer.phone.send_group_text(group.jid, "hello")
        await world.settled()
        assert len(prekeys - set(records[RecordKind.PREKEY])) == 1
        [address] = set(records[RecordKind.SESSION]) - sessions
        assert address == customer.lid.with_device(0).signal_address
        assert address in records[RecordKind.IDENTITY]
        assert set(records[RecordKind.SENDER_KEY]) == {f"{group.jid}::{address}"}


async def test_a_new_life_waits_for_all_that_the_old_one_posted(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The fence: no record is read while an older life's change of it is under way."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        storage.away = True
        await customer.phone.send_text(world.accounts["sales"].pn, "under way")
        await trio.sleep(1)
        dials = world.dials
        world.simulator.drop(world.accounts["sales"].pn)
        await world.until_state("sales", "connecting")
        await trio.sleep(100)
        assert world.dials == dials
        assert world.fleet.status("sales")[0].reason == "fence"
        storage.away = False
        await world.until_state("sales", "online")
        await world.settled()
        assert texts(storage) == ["under way"]


async def test_redelivery_and_repeats_are_skipped(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I3: a repeated stanza and a stanza delivered twice give one row, and are acknowledged."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        team = world.accounts["sales"]
        message = await customer.phone.send_text(team.pn, "once")
        world.simulator.faults.duplicate(team.companions[0].pn, 1)
        await customer.phone.send_text(team.pn, "twice on the wire")
        await customer.phone.repeat(message)
        await world.settled()
        await trio.sleep(10)
        assert texts(storage) == ["once", "twice on the wire"]
        assert world.fleet.status("sales")[0].duplicates == 2
        assert world.fleet.status("sales")[0].undecryptable == 0


async def test_the_same_id_from_two_customers_is_two_messages(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I3: the sender is part of what makes a message unique."""
    async with open_world(storage, "sales") as world:
        for name in ("anna", "bruno"):
            customer = world.simulator.create_account(name)
            await customer.phone.send_text(
                world.accounts["sales"].pn, f"from {name}", id="3EB0SAME"
            )
        await world.settled()
        assert texts(storage) == ["from anna", "from bruno"]


async def test_group_messages_show_who_wrote_them(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Sender keys work, across a restart of the connection, and a group is one conversation."""
    async with open_world(storage, "sales") as world:
        customers = [world.simulator.create_account(name) for name in ("anna", "bruno")]
        group = world.simulator.create_group("team", [*customers, world.accounts["sales"]])
        for round_ in range(3):
            for customer in customers:
                await customer.phone.send_group_text(group.jid, f"{customer.name} {round_}")
            await world.settled()
            if round_ == 1:
                await world.fleet.restart("sales")
                await world.until_state("sales", "online")
        assert texts(storage) == [f"{name} {n}" for n in range(3) for name in ("anna", "bruno")]
        assert world.fleet.status("sales")[0].undecryptable == 0
        rows = await storage.conversations(status=None, connection="sales", limit=9)
        assert [row.messages for row in rows] == [7]  # and that the group was made


async def test_a_corrupt_ciphertext_leaves_a_placeholder_until_the_retry(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I5: what cannot be read is a row at once; the sender is asked, and fills it in place."""
    async with open_world(storage, "sales") as world:

        def status() -> ConnectionStatus:
            return world.fleet.status("sales")[0]

        customer = world.simulator.create_account("customer")
        team = world.accounts["sales"]
        await customer.phone.send_text(team.pn, "before")
        await world.settled()
        world.simulator.faults.corrupt(team.companions[0].pn, 1)
        await customer.phone.send_text(team.pn, "broken on the way")
        await world.until(lambda: "broken on the way" in texts(storage), "the retry fills the row")
        await customer.phone.send_text(team.pn, "after")
        await world.settled()
        assert texts(storage) == ["before", "broken on the way", "after"]
        rows = storage.messages("sales")
        assert {row["text"]: row["retries"] for row in rows}["broken on the way"] == 1
        assert status().undecryptable == 0


async def test_messages_to_a_stopped_connection_arrive_when_it_is_back(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The server's offline queue is taken over in order."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        await world.fleet.stop("sales")
        await world.until_state("sales", "stopped")
        for number in range(20):
            await customer.phone.send_text(world.accounts["sales"].pn, f"text {number}")
        await world.fleet.start("sales")
        await world.settled()
        assert texts(storage) == [f"text {number}" for number in range(20)]


async def test_whoever_starts_a_connection_sees_it_start(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The status right after the order tells of the new life; one that runs is not waited for."""
    async with open_world(storage, "sales") as world:
        for _attempt in range(10):  # which task runs first is left to chance
            await world.fleet.stop("sales")
            await world.fleet.start("sales")
            assert world.fleet.status("sales")[0].state == "connecting"
        await world.until_state("sales", "online")
        began = trio.current_time()
        await world.fleet.start("sales")
        assert (trio.current_time(), world.fleet.status("sales")[0].state) == (began, "online")


async def test_a_silent_socket_is_found_and_replaced(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A connection that is open but deaf is noticed by the heartbeat and comes back by itself."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        team = world.accounts["sales"]
        world.simulator.faults.stall(team.companions[0].pn)
        await customer.phone.send_text(team.pn, "said to the deaf")
        began = trio.current_time()
        await world.until(
            lambda: world.fleet.status("sales")[0].state != "online", "the deafness is noticed"
        )
        assert trio.current_time() - began < 45
        world.simulator.faults.clear()
        await world.until_state("sales", "online")
        await world.settled()
        assert texts(storage) == ["said to the deaf"]


async def test_one_failing_connection_leaves_the_other_alone(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I6: a flapping account ends in its retry limit; the other one does not even notice."""
    async with open_world(storage, "sales", "support", retry_limit=5, park_interval=None) as world:
        sick, well = world.accounts["sales"], world.accounts["support"]
        world.simulator.faults.fail_login("500", sick.pn, 1000)
        world.simulator.drop(sick.pn)
        customer = world.simulator.create_account("customer")
        for number in range(60):
            await customer.phone.send_text(well.pn, f"text {number}")
            await trio.sleep(5)
        await world.until_state("sales", "parked")
        assert world.fleet.status("sales")[0].retries == 6
        assert world.fleet.status("support")[0].state == "online"
        await world.until(lambda: len(texts(storage, "support")) == 60, "all texts arrive")


@pytest.mark.parametrize(
    ("ending", "state"), [("removed", "logged_out"), ("516", "logged_out"), ("403", "logged_out")]
)
async def test_final_endings_stop_the_connection(
    autojump_clock: Clock, storage: FaultyStorage, ending: str, state: str
) -> None:
    """I8: a logout is not fought, and the credentials stay."""
    async with open_world(storage, "sales") as world:
        await world.simulator.end(ending, world.accounts["sales"].pn)
        await world.until_state("sales", state)
        dials = world.dials
        await trio.sleep(4000)
        assert world.dials == dials
        await world.fleet.start("sales")
        await world.until_state("sales", "online")


@pytest.mark.parametrize(("failure", "state"), [("401", "logged_out"), ("406", "banned")])
async def test_final_login_failures_stop_the_connection(
    autojump_clock: Clock, storage: FaultyStorage, failure: str, state: str
) -> None:
    """Refused logins that no retry can cure are shown as what they are."""
    async with open_world(storage, "sales") as world:
        world.simulator.faults.fail_login(failure, world.accounts["sales"].pn, 1)
        world.simulator.drop(world.accounts["sales"].pn)
        await world.until_state("sales", state)
        dials = world.dials
        await trio.sleep(4000)
        assert world.dials == dials


@pytest.mark.parametrize("ending", ["515", "503", "end"])
async def test_other_endings_are_survived(
    autojump_clock: Clock, storage: FaultyStorage, ending: str
) -> None:
    """A restart, an unavailable server and an ended stream are reconnected from."""
    async with open_world(storage, "sales") as world:
        dials = world.dials
        await world.simulator.end(ending, world.accounts["sales"].pn)
        await world.until(lambda: world.dials > dials, "a new socket")
        await world.until_state("sales", "online")
        assert world.fleet.status("sales")[0].retries == (0 if ending == "515" else 1)


@pytest.mark.parametrize("forgery", ["root", "leaf"])
async def test_a_forged_certificate_is_refused(
    autojump_clock: Clock, storage: FaultyStorage, forgery: t.Literal["root", "leaf"]
) -> None:
    """A server that is not WhatsApp's learns nothing and is shown as such."""
    async with open_world(storage, "sales") as world:
        world.simulator.faults.forged_certificate = forgery
        world.simulator.drop(world.accounts["sales"].pn)
        await world.until(
            lambda: world.fleet.status("sales")[0].reason == "handshake_refused", "refused"
        )
        world.simulator.faults.clear()
        await world.until_state("sales", "online")


async def test_a_fleet_of_none_runs_like_any_other(
    autojump_clock: Clock, storage: FaultyStorage, nursery: trio.Nursery
) -> None:
    """Without a connection in the configuration nothing ends, so nothing is restarted."""
    async with open_world(storage, "sales") as world:
        ended = trio.Event()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await Fleet([], world.fleet._tools).run(task_status)
            ended.set()

        await nursery.start(run)
        await trio.sleep(60)
        assert not ended.is_set()
    nursery.cancel_scope.cancel()


async def test_nobody_scans_the_code(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """Codes follow each other until the last one expires; then the connection is stopped."""
    async with open_world(storage, "sales", paired=False) as world:
        await world.fleet.pair("sales")
        codes = set()
        version = 0
        while True:
            with trio.fail_after(600):
                view = await world.fleet.wait_pairing("sales", version)
            version = view.version
            if view.qr is not None:
                codes.add(view.qr)
            if view.state == "failed":
                break
        assert len(codes) == 6
        await world.until_state("sales", "stopped")
        assert "nobody scanned" in world.fleet.status("sales")[0].sentence
        await world.pair("sales")


async def test_a_phone_with_a_wrong_signature_is_refused(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Strict checks: an account signature that does not verify pairs nothing."""
    async with open_world(storage, "sales", paired=False) as world:
        for forgery in ("signature", "hmac"):
            world.simulator.faults.forged_pairing = forgery  # type: ignore[assignment]
            with pytest.raises(ScanRefusedError):
                await world.pair("sales")
            assert not world.fleet.status("sales")[0].paired


async def test_the_connect_deadline_bounds_a_mute_server(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A server that accepts and says nothing costs one connect timeout, then backoff."""
    async with open_world(storage, "sales", heartbeat_interval=300.0) as world:
        device = world.accounts["sales"].companions[0].pn
        world.simulator.faults.latency = 1e9
        world.simulator.drop(device)
        await world.until_state("sales", "connecting")
        began = trio.current_time()
        await world.until(
            lambda: world.fleet.status("sales")[0].reason == "connect_timeout", "the deadline"
        )
        assert trio.current_time() - began <= 62


async def test_times_are_whatsapps(autojump_clock: Clock, storage: FaultyStorage) -> None:
    """A message carries the time that WhatsApp gave it."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(
            world.accounts["sales"].pn, "then", timestamp=int(START) - 5000
        )
        await world.settled()
        [row] = await storage.conversations(status=None, connection=None, limit=9)
        assert row.last_message_at.timestamp() == int(START) - 5000


async def test_orders_are_obeyed_in_their_order(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A stop right behind a start wins, and an unknown name is told with the known ones."""
    async with open_world(storage, "sales") as world:
        await world.fleet.stop("sales")
        await world.fleet.start("sales")
        await world.fleet.stop("sales")
        await trio.sleep(300)
        assert world.fleet.status("sales")[0].state == "stopped"
        assert world.fleet.status("sales")[0].sentence == "stopped by an operator"
        with pytest.raises(UnknownConnectionError, match="configured: sales"):
            await world.fleet.stop("sails")
        with pytest.raises(AlreadyPairedError, match="--force"):
            await world.fleet.pair("sales")


async def test_a_stopped_connection_stays_stopped_across_a_restart(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """What an operator stopped is not started by a new daemon; all others come back."""
    async with open_world(storage, "sales", "support") as world:
        await world.fleet.stop("sales")
        await world.kill_daemon()
        await world.start_daemon()
        await world.until_state("support", "online")
        assert world.fleet.status("sales")[0].state == "stopped"


async def test_an_unreadable_frame_is_quarantined_and_survived(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I5, I9: authentic bytes that hold no stanza are kept, and the connection goes on."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        [session] = world.simulator._sessions
        garbage = session._stream._transport.sending.encrypt(b"\x00\xf8\x05\x01garbage")  # type: ignore[union-attr]
        await session._transport.send(frame(garbage))
        await customer.phone.send_text(world.accounts["sales"].pn, "after the garbage")
        await world.until(lambda: texts(storage) == ["after the garbage"], "it goes on")
        assert world.fleet.status("sales")[0].quarantined == 1
        assert world.fleet.status("sales")[0].state == "online"


async def test_a_malformed_message_is_quarantined_and_refused(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A message without a ciphertext is kept, acknowledged with an error, and not fatal."""
    async with open_world(storage, "sales") as world:
        [session] = world.simulator._sessions
        node = Node("message", {"from": Jid.parse("1@s.whatsapp.net"), "id": "X", "t": 1})
        await session._transport.send(session._stream.send(node))
        await world.until(lambda: world.fleet.status("sales")[0].quarantined == 1, "quarantined")
        assert world.fleet.status("sales")[0].state == "online"


async def test_decrypted_bytes_that_make_no_sense_are_kept(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I5: a plaintext that is no message is stored as unknown, because its key is spent."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        group = world.simulator.create_group("team", [customer, world.accounts["sales"]])
        await customer.phone.send_message(group.jid, b"\xff\xff\xff")
        await world.settled()
        message = storage.messages("sales")[-1]
        assert message["kind"] == "unknown"
        assert b"\xff\xff\xff" in message["raw"]


async def test_the_teams_own_messages_go_to_the_customers_conversation(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """What the phone sends arrives as a copy, is the team's, and belongs to the customer's chat."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        team = world.accounts["sales"]
        await customer.phone.send_text(team.pn, "question")
        await world.settled()
        await team.phone.send_text(customer.pn, "answer")
        await world.settled()
        [row] = await storage.conversations(status=None, connection=None, limit=9)
        assert row.messages == 2
        assert row.status == "waiting"
        rows = await storage.list_messages("sales", after=0, limit=9)
        assert [(each.text, each.from_me) for each in rows] == [
            ("question", False),
            ("answer", True),
        ]


async def test_number_and_hidden_address_are_one_customer(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A customer who writes by phone number and by LID has one chat and one conversation."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        team = world.accounts["sales"]
        for turn in range(4):
            await customer.phone.send_text(team.lid if turn % 2 else team.pn, f"text {turn}")
            await world.settled()
        [row] = await storage.conversations(status=None, connection=None, limit=9)
        assert row.messages == 4
        assert texts(storage) == [f"text {turn}" for turn in range(4)]


async def test_a_reply_reopens_what_was_closed(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A customer's message to a closed conversation reopens it as waiting."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.accounts["sales"].pn, "hello")
        await world.settled()
        [row] = await storage.conversations(status=None, connection=None, limit=9)
        await storage.close_conversation(row.id)
        await customer.phone.send_text(world.accounts["sales"].pn, "me again")
        await world.settled()
        [again] = await storage.conversations(status=None, connection=None, limit=9)
        assert (again.id, again.status, again.reopened) == (row.id, "waiting", 1)


async def test_an_order_outlives_whoever_gave_it(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I7: a front end that goes away in the middle of a restart leaves no stopped connection."""
    async with open_world(storage, "sales") as world:
        dials = world.dials
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fleet.restart, "sales")
            for _ in range(1000):
                if world.fleet.status("sales")[0].state != "online":
                    break
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await world.until(lambda: world.dials > dials, "it was restarted")
        await world.until_state("sales", "online")


async def test_a_quiet_connection_is_left_alone(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Answered pings are signs of life: a day without a message costs no reconnect."""
    async with open_world(storage, "sales") as world:
        dials = world.dials
        await trio.sleep(86_400)
        assert world.dials == dials
        assert world.fleet.status("sales")[0].state == "online"


async def test_what_the_own_phone_says_is_kept_and_shown_to_nobody(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Keys and offers of history come once, at pairing: taken in, no conversation of ours."""
    async with open_world(storage, "sales"):
        assert storage._connections["sales"].records[RecordKind.APP_STATE_KEY]
        assert [job.sync_type for job in await storage.history_pending("sales", 9)]
        assert texts(storage) == []


async def test_a_flood_while_the_database_is_away_is_no_failure_of_the_connection(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I11: buffers fill, reading stops, pings go unanswered; none of it counts, nothing is lost."""
    async with open_world(storage, "sales", in_flight=8) as world:
        customer = world.simulator.create_account("customer")
        storage.away = True
        for number in range(400):
            await customer.phone.send_text(world.accounts["sales"].pn, f"text {number}")
        await trio.sleep(600)
        assert world.fleet.status("sales")[0].retries == 0
        storage.away = False
        await world.settled()
        assert texts(storage) == [f"text {number}" for number in range(400)]


async def test_a_flood_delays_no_other_connection(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I6, I11: one flooded connection has a bounded share of the writer's mailbox."""
    async with open_world(storage, "sales", "support", in_flight=16) as world:
        customer = world.simulator.create_account("customer")
        storage.away = True
        for number in range(300):
            await customer.phone.send_text(world.accounts["sales"].pn, f"text {number}")
        await trio.sleep(5)
        assert len(world.writer.inbox) <= 20
        await customer.phone.send_text(world.accounts["support"].pn, "one question")
        await trio.sleep(5)
        storage.away = False
        await world.until(lambda: texts(storage, "support") == ["one question"], "it arrives")
        assert len(texts(storage)) <= 300
        await world.settled()


async def test_a_damaged_session_is_started_anew(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """A record that does not open costs a retry of one message, not the connection."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        await customer.phone.send_text(world.accounts["sales"].pn, "before")
        await world.settled()
        await world.fleet.stop("sales")
        sessions = storage._connections["sales"].records[RecordKind.SESSION]
        storage.damaged |= {(RecordKind.SESSION, key) for key in sessions}
        await world.fleet.start("sales")
        await customer.phone.send_text(world.accounts["sales"].pn, "after")
        await world.until(lambda: texts(storage) == ["before", "after"], "the retry arrives")
        assert world.fleet.status("sales")[0].state == "online"


async def test_a_wrong_sealing_key_is_told_and_stops_the_connection(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Keys that do not open are no reason to try again and again, nor to delete them; the state is
    one that health complains of."""
    async with open_world(storage, "sales") as world:
        await world.fleet.stop("sales")
        storage.damaged.add((RecordKind.DEVICE, ""))
        dials = world.dials
        await world.fleet.start("sales")
        await world.until(
            lambda: world.fleet.status("sales")[0].reason == "keys_unreadable", "it is told"
        )
        await trio.sleep(4000)
        assert (world.dials, world.fleet.status("sales")[0].state) == (dials, "parked")
        storage.damaged.clear()
        await world.fleet.start("sales")
        await world.until_state("sales", "online")


async def test_statistics_are_recorded_and_logged(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """Total, processed, skipped and errors of a minute, in one row; none for a quiet minute."""
    async with open_world(storage, "sales") as world:
        customer = world.simulator.create_account("customer")
        team = world.accounts["sales"]
        await trio.sleep(130)
        before = len(storage._sync_runs)
        for number in range(3):
            message = await customer.phone.send_text(team.pn, f"text {number}")
        await customer.phone.repeat(message)
        world.simulator.faults.corrupt(team.companions[0].pn, 1)
        await customer.phone.send_text(team.pn, "broken")
        await trio.sleep(200)
        [run] = [run for _, run in storage._sync_runs[before:]]
        assert (run.total, run.processed, run.skipped, run.errors) == (6, 4, 1, 1)


async def test_a_connection_stopped_while_it_backs_off_is_shown_as_stopped(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """What an operator did is what is shown, not how the last life ended."""
    async with open_world(storage, "sales", backoff_initial=500.0, backoff_max=500.0) as world:
        world.simulator.faults.fail_login("500", world.accounts["sales"].pn, 1000)
        world.simulator.drop(world.accounts["sales"].pn)
        await world.until_state("sales", "backoff")
        await world.fleet.stop("sales")
        status = world.fleet.status("sales")[0]
        assert (status.state, status.sentence) == ("stopped", "stopped by an operator")


async def test_a_logged_out_connection_is_paired_again_without_force(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """The advice given is one that can be followed; the old keys go when the new ones stand."""
    async with open_world(storage, "sales") as world:
        await world.simulator.end("removed", world.accounts["sales"].pn)
        await world.until_state("sales", "logged_out")
        before = dict(storage._connections["sales"].records[RecordKind.DEVICE])
        await world.fleet.pair("sales")
        await world.until(lambda: world.fleet.pairing("sales").qr, "a code to scan")
        assert storage._connections["sales"].records[RecordKind.DEVICE] == before
        qr = world.fleet.pairing("sales").qr
        assert qr is not None
        await world.simulator.scan_qr(qr, phone=world.accounts["sales"].pn.user)
        await world.until_state("sales", "online")
        assert storage._connections["sales"].records[RecordKind.DEVICE] != before


async def test_whose_keys_cannot_be_read_is_paired_again_without_force(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """As docs/operations.md says of a lost secret key; one that an operator had stopped has not
    tried its keys, so it is asked whether that is meant."""
    async with open_world(storage, "sales") as world:
        await world.fleet.stop("sales")
        storage.damaged.add((RecordKind.DEVICE, ""))
        with pytest.raises(AlreadyPairedError):
            await world.fleet.pair("sales")
        await world.fleet.start("sales")
        await world.until_state("sales", "parked")
        await world.fleet.pair("sales")
        await world.until(lambda: world.fleet.pairing("sales").qr, "a code to scan")
        storage.damaged.clear()  # what is written from now on opens
        qr = world.fleet.pairing("sales").qr
        assert qr is not None
        await world.simulator.scan_qr(qr, phone=world.accounts["sales"].pn.user)
        await world.until_state("sales", "online")


async def test_a_pairing_confirmed_twice_pairs_once(
    autojump_clock: Clock, storage: FaultyStorage
) -> None:
    """I9: a server that repeats itself raises nothing and undoes nothing."""
    async with open_world(storage, "sales", paired=False) as world:
        account = world.simulator.create_account("team sales")
        await world.fleet.pair("sales")
        await world.until(lambda: world.fleet.pairing("sales").qr, "a code to scan")
        [session] = world.simulator._sessions
        send = session._stream.send

        def send_twice(node: Node) -> bytes:
            again = send(node) if node.child("pair-success") is not None else b""
            return again + send(node)

        session._stream.send = send_twice  # type: ignore[method-assign]
        qr = world.fleet.pairing("sales").qr
        assert qr is not None
        await world.simulator.scan_qr(qr, phone=account.pn.user)
        await world.until_state("sales", "online")
        assert len(account.companions) == 1
        assert world.fleet.status("sales")[0].retries == 0
