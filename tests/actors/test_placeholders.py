"""What cannot be read is asked of the own phone, once, and ends filled or with a verdict."""

import collections.abc as cabc
import contextlib
import datetime as dt
import typing as t

import attrs
import trio
import trio.testing

from actors import placeholders
from actors.line import NotOnlineError
from actors.placeholders import Placeholders
from actors.waiting import MAX_WAITING
from storage.api import Envelope, Outcome, Verdict
from storage.errors import StorageUnavailableError
from storage.facts import PlaceholderVerdict
from storage.inbox import StoredMessage, WaitingPlaceholder
from whatsapp import compose, peer
from whatsapp.content import TargetKey
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.peer import Operation, PeerResult, build_protocol, build_response, parse_request
from whatsapp.stanzas import MessageStanza, parse_message
from whatsapp.web_message import HistoryMessage, build_web_message

NAME: t.Final = "sales"
START: t.Final = 1_790_000_000
OWN_DEVICE = Jid.parse("15550009999:3@s.whatsapp.net")
OWN_LID = Jid.parse("900900:3@lid")
OWN = (OWN_DEVICE.bare, OWN_LID.bare)
CUSTOMER = "15550001111@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
DAY: t.Final = 86_400


class Phone:
    """A line on which the requests of a companion can be seen."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, list[TargetKey]]] = []
        self.error: Exception | None = None
        self.priorities: set[str | None] = set()

    async def send_peer(
        self, message: bytes, *, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        request = parse_request(message)
        assert request.operation == Operation.PLACEHOLDER_RESEND
        self.requests.append((trio.current_time(), list(request.keys)))
        self.priorities.add(priority)
        return f"REQUEST{len(self.requests)}"

    @property
    def ids(self) -> list[str]:
        """Of all messages that were asked for, in order."""
        return [key.id for _at, keys in self.requests for key in keys]


class Rows:
    """The rows of earlier lives."""

    def __init__(self) -> None:
        self.waiting: list[WaitingPlaceholder] = []
        self.stored: dict[str, StoredMessage] = {}
        self.away = False
        self.reads = 0

    async def waiting_placeholders(
        self, connection: str | None, limit: int, *, after: int = 0
    ) -> list[WaitingPlaceholder]:
        await trio.lowlevel.checkpoint()
        self.reads += 1
        if self.away:
            raise StorageUnavailableError("away")
        assert connection == NAME
        return [row for row in self.waiting if row.id > after][:limit]

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StorageUnavailableError("away")
        return self.stored.get(external_id)


@attrs.define
class Bench:
    """The task with its surroundings."""

    phone: Phone = attrs.field(factory=Phone)
    rows: Rows = attrs.field(factory=Rows)
    posted: list[tuple[float, Envelope]] = attrs.field(factory=list)
    task: Placeholders = attrs.field(init=False)

    async def post(self, envelope: Envelope) -> Outcome | None:
        await trio.lowlevel.checkpoint()
        self.posted.append((trio.current_time(), envelope))
        filled = envelope.message is not None
        return Outcome(verdict=Verdict.STORED if filled else Verdict.RECORDED, filled=filled)

    @contextlib.asynccontextmanager
    async def running(self) -> cabc.AsyncIterator[Placeholders]:
        async with trio.open_nursery() as nursery:
            self.task = Placeholders(
                NAME,
                self.rows,
                self.post,
                t.cast(t.Any, self.phone),
                wall_clock=lambda: START + trio.current_time(),
                own=OWN,
            )
            await nursery.start(self.task.run)
            yield self.task
            nursery.cancel_scope.cancel()

    @property
    def messages(self) -> list[tuple[str | None, str, str | None]]:
        return [
            (item.message.external_id, item.message.kind, item.message.text)
            for _at, item in self.posted
            if item.message is not None
        ]

    @property
    def verdicts(self) -> list[tuple[float, str, str]]:
        return [
            (at, fact.external_id, fact.verdict)
            for at, item in self.posted
            for fact in item.facts
            if isinstance(fact, PlaceholderVerdict)
        ]

    def answer(self, *results: PeerResult, request: str = "REQUEST1") -> None:
        self.task.answered(build_response(Operation.PLACEHOLDER_RESEND, request, results))


def stanza(message_id: str | None = "A", *children: Node, **attributes: t.Any) -> MessageStanza:
    """A message of the customer that nobody can read."""
    given = {"id": message_id, "from": Jid.parse(CUSTOMER), "t": START, "notify": "Ana"}
    enc = Node("enc", {"type": "msg", "v": 2}, b"ciphertext")
    return parse_message(
        Node("message", given | attributes, children or (enc,)), OWN_DEVICE, OWN_LID
    )


def withheld(message_id: str, kind: str | None = None) -> MessageStanza:
    return stanza(message_id, Node("unavailable", {"type": kind}))


def in_group(message_id: str, participant: str = "77:2@lid") -> MessageStanza:
    return stanza(message_id, **{"from": Jid.parse(GROUP), "participant": Jid.parse(participant)})


def failed(retries: int = 1) -> Outcome:
    return Outcome(verdict=Verdict.PLACEHOLDER, retries=retries)


def resent(message_id: str, **changes: t.Any) -> PeerResult:
    message = HistoryMessage(
        key=TargetKey(remote_jid="77@lid", id=message_id),
        timestamp=START,
        push_name="Ana",
        message=compose.text(f"text {message_id}"),
    )
    return PeerResult(web_message=build_web_message(attrs.evolve(message, **changes)))


def row(number: int, external_id: str, **changes: t.Any) -> WaitingPlaceholder:
    at = dt.datetime.fromtimestamp(START - 100, dt.UTC)
    made = WaitingPlaceholder(
        id=number,
        connection=NAME,
        chat=CUSTOMER,
        chat_alt="77@lid",
        direct=True,
        senders=(CUSTOMER, "77@lid"),
        from_me=False,
        external_id=external_id,
        retries=1,
        reason="bad_mac",
        sent_at=at,
        received_at=at,
    )
    return attrs.evolve(made, **changes)


def stored(external_id: str, state: str) -> StoredMessage:
    """A row as it is found by its id."""
    return StoredMessage(
        id=1,
        connection=NAME,
        conversation=1,
        chat=CUSTOMER,
        chat_alt="77@lid",
        direct=True,
        senders=(CUSTOMER, "77@lid"),
        from_me=False,
        external_id=external_id,
        kind=state,
        state=state,
        lane="live",
        text=None,
        raw=b"",
        target_id=None,
        target_author=None,
        quoted_id=None,
        quoted_author=None,
        mentions=(),
        flags=(),
        detail={},
        sent_at=dt.datetime.fromtimestamp(START, dt.UTC),
    )


# ---- asking


async def test_the_sender_is_given_a_few_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Five seconds after its first failure a message is asked for, in one request with others."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed())
        await trio.sleep(1)
        task.undecryptable(in_group("B"), failed())
        await trio.sleep(4.5)
        assert bench.phone.requests == [(5, [TargetKey(remote_jid=CUSTOMER, id="A")])]
        await trio.sleep(4.5)
        task.undecryptable(stanza("C"), failed())
        task.undecryptable(in_group("D"), failed())
        await trio.sleep(10)
    assert [at for at, _keys in bench.phone.requests] == [5, 6, 15]
    assert bench.phone.requests[1][1] == [TargetKey(remote_jid=GROUP, id="B", participant="77@lid")]
    assert [key.id for key in bench.phone.requests[2][1]] == ["C", "D"]
    assert bench.phone.priorities == {"high_force"}


async def test_what_the_sender_fills_is_not_asked_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A retry that works, under either address of its author, calls the request off."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A", sender_lid=Jid.parse("77@lid")), failed())
        task.undecryptable(stanza("B"), failed())
        await trio.sleep(4)
        task.filled(stanza("A", **{"from": Jid.parse("77@lid")}))
        task.filled(stanza("unheard of"))
        await trio.sleep(100)
    assert bench.phone.ids == ["B"]


async def test_withheld_messages_are_asked_for_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """No sender can help with those; what nobody gives out gets its verdict instead."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(withheld("A"), failed())
        task.undecryptable(withheld("B", "view_once"), failed())
        task.undecryptable(withheld("C", "view_once_unavailable_fanout"), failed())
        await trio.sleep(1)
    assert [at for at, _keys in bench.phone.requests] == [0]
    assert bench.phone.ids == ["A", "B"]
    assert bench.verdicts == [(0, "C", "withheld")]


async def test_one_request_per_message(autojump_clock: trio.testing.MockClock) -> None:
    """However often a message fails, the phone is asked once in a life."""
    bench = Bench()
    async with bench.running() as task:
        for retries in range(1, 6):
            task.undecryptable(stanza("A"), failed(retries))
            await trio.sleep(30)
        await trio.sleep(1000)
        task.undecryptable(stanza("A"), failed(6))
        await trio.sleep(1000)
    assert bench.phone.ids == ["A"]
    assert len(bench.verdicts) == 1


async def test_requests_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """At most 64 messages go into one request."""
    bench = Bench()
    async with bench.running() as task:
        for number in range(150):
            task.undecryptable(stanza(f"A{number}"), failed())
        await trio.sleep(10)
    assert [len(keys) for _at, keys in bench.phone.requests] == [64, 64, 22]
    assert len(set(bench.phone.ids)) == 150


async def test_what_is_remembered_is_bounded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Beyond the bound the rows remember; they are read once there is room."""
    bench = Bench()
    async with bench.running() as task:
        for number in range(MAX_WAITING + 10):
            task.undecryptable(stanza(f"A{number}"), failed(5))
        bench.rows.waiting = [row(number + 1, f"A{number}") for number in range(MAX_WAITING + 10)]
        await trio.sleep(7200)
    assert len(set(bench.phone.ids)) == MAX_WAITING + 10
    assert len(bench.phone.ids) == MAX_WAITING + 10


async def test_what_has_no_id_or_is_no_placeholder_is_not_asked_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A duplicate, a message without id and one of the phone itself are left alone."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A"), Outcome(verdict=Verdict.DUPLICATE))
        task.undecryptable(stanza(None), failed())
        own = {"from": OWN_DEVICE.with_device(0), "category": "peer"}
        task.undecryptable(stanza("B", **own), failed())
        await trio.sleep(100)
    assert bench.phone.ids == []


async def test_a_request_that_cannot_be_sent_is_sent_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Offline moments cost a pause, not the request."""
    bench = Bench()
    bench.phone.error = NotOnlineError("offline")
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed())
        await trio.sleep(50)
        bench.phone.error = None
        await trio.sleep(20)
    assert [at for at, _keys in bench.phone.requests] == [65]


async def test_the_phone_is_not_asked_for_what_is_too_old(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """After 14 days only the sender can help; then there is a verdict."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A", t=START - 15 * DAY), failed())
        task.undecryptable(stanza("B", t=START - 15 * DAY), failed(5))
        await trio.sleep(7200)
    assert bench.phone.ids == []
    assert bench.verdicts == [(5, "B", "too_old"), (3600, "A", "too_old")]


# ---- answers


async def test_an_answer_fills_the_placeholder_in_its_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Chat, author and id are those of the placeholder, whatever addresses the phone uses."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed())
        await trio.sleep(6)
        bench.answer(resent("A"))
        await trio.sleep(10_000)
    assert bench.messages == [("A", "text", "text A")]
    [message] = [item.message for _at, item in bench.posted if item.message]
    assert (message.chat, message.sender, message.sent_at) == (CUSTOMER, CUSTOMER, START)
    assert (message.sender_name, message.from_me) == ("Ana", False)
    assert bench.verdicts == []


async def test_own_messages_are_filled_as_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A copy from the phone that could not be read stays in the customer's chat."""
    bench = Bench()
    copy = {"from": OWN_DEVICE.with_device(0), "recipient": Jid.parse(CUSTOMER)}
    async with bench.running() as task:
        task.undecryptable(stanza("A", **copy), failed())
        await trio.sleep(6)
        [(_at, [key])] = bench.phone.requests
        assert key == TargetKey(remote_jid=CUSTOMER, from_me=True, id="A")
        bench.answer(resent("A", key=key))
        await trio.sleep(1)
    [message] = [item.message for _at, item in bench.posted if item.message]
    assert (message.chat, message.from_me, message.sender) == (CUSTOMER, True, str(OWN[0]))


async def test_two_authors_with_one_id_are_told_apart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Where an id is not enough, the author decides."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(in_group("A", "77:2@lid"), failed())
        task.undecryptable(in_group("A", "78:1@lid"), failed())
        await trio.sleep(6)
        bench.answer(resent("A", participant="78@lid"))
        await trio.sleep(1)
    [message] = [item.message for _at, item in bench.posted if item.message]
    assert message.sender == "78@lid"


async def test_a_late_answer_finds_its_placeholder(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An answer to a request of an earlier life is put where the row says."""
    bench = Bench()
    stored = attrs.make_class(
        "Row", ["state", "chat", "chat_alt", "senders", "from_me", "external_id", "sent_at", "lane"]
    )
    at = dt.datetime.fromtimestamp(START, dt.UTC)
    for name, state in (("A", "undecryptable"), ("B", "stored")):
        bench.rows.stored[name] = stored(
            state, CUSTOMER, None, (CUSTOMER,), False, name, at, "live"
        )
    async with bench.running():
        bench.answer(resent("A"), resent("B"), resent("C"), resent(""))
        await trio.sleep(1)
    assert bench.messages == [("A", "text", "text A")]


async def test_an_answer_outlives_a_database_that_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is taken in once the rows can be read."""
    bench = Bench()
    bench.rows.stored["A"] = stored("A", "undecryptable")
    bench.rows.away = True
    async with bench.running():
        bench.answer(resent("A"))
        await trio.sleep(40)
        bench.rows.away = False
        await trio.sleep(10)
    assert bench.messages == [("A", "text", "text A")]


async def test_content_that_says_nothing_still_fills(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Protocol content leaves no placeholder behind; unreadable content is unknown."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed())
        task.undecryptable(stanza("B"), failed())
        await trio.sleep(6)
        bench.answer(resent("A", message=build_protocol(9)), resent("B", message=b"\xff"))
        await trio.sleep(1)
    assert bench.messages == [("A", "protocol", None), ("B", "unknown", None)]


# ---- verdicts


async def test_a_phone_without_the_message_leaves_it_to_the_sender(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A result of nothing is the end only where the sender cannot help any more."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed(1))
        task.undecryptable(stanza("B"), failed(5))
        task.undecryptable(stanza("C"), failed(5))
        await trio.sleep(6)
        revoked = resent("C", message=b"", stub="revoke")
        bench.answer(PeerResult(), PeerResult(), revoked)
        await trio.sleep(10_000)
    assert bench.verdicts == [
        (6, "B", "not_on_phone"),
        (6, "C", "revoked"),
        (3606, "A", "not_on_phone"),
    ]


async def test_silence_is_a_verdict_when_all_was_tried(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """60 s after the request, or after the last retry of the sender, whichever comes later."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(withheld("A"), failed())
        task.undecryptable(stanza("B"), failed(5))
        task.undecryptable(stanza("C"), failed(1))
        await trio.sleep(200)
        task.undecryptable(stanza("C"), failed(5))
        await trio.sleep(1000)
    assert bench.verdicts == [(60, "A", "gave_up"), (65, "B", "gave_up"), (260, "C", "gave_up")]


async def test_a_retry_after_the_request_still_counts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """While the sender may help there is no verdict, and what it sends ends the wait."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed())
        await trio.sleep(1000)
        task.filled(stanza("A"))
        await trio.sleep(10_000)
    assert bench.verdicts == []


async def test_answers_to_other_questions_are_passed_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nothing that the phone sends ends the task, or a wait that it does not belong to."""
    bench = Bench()
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed(5))
        await trio.sleep(6)
        task.answered(b"\xff\xff")
        task.answered(build_response(Operation.SNAPSHOT_RECOVERY, "REQUEST1", [PeerResult()]))
        task.answered(peer.build_protocol(17))
        bench.answer(PeerResult(web_message=b"\xff"), request="other")
        for _count in range(placeholders.MAX_ANSWERS + 9):
            bench.answer(request="other")
        await trio.sleep(1)
        assert bench.posted == []
        await trio.sleep(2000)
    assert bench.verdicts == [(65, "A", "gave_up")]


# ---- earlier lives


async def test_a_new_life_goes_on_with_what_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Rows without a verdict are asked for, soon after the offline queue has been received."""
    old = dt.datetime.fromtimestamp(START - 15 * DAY, dt.UTC)
    bench = Bench()
    bench.rows.waiting = [
        row(1, "A"),
        row(2, "B", chat=GROUP, chat_alt=None, direct=False),
        row(3, "generated-0123"),
        row(4, "D", reason="withheld: bot_unavailable_fanout"),
        row(5, "E", sent_at=old, retries=5),
        row(6, "F", senders=()),
        row(7, "G", chat="a:b@lid"),
        row(8, "H", reason="withheld: unspecified"),
    ]
    async with bench.running() as task:
        task.undecryptable(stanza("A"), failed())
        await trio.sleep(31)
    assert [(at, [key.id for key in keys]) for at, keys in bench.phone.requests] == [
        (5, ["A"]),
        (5, ["B", "H"]),
    ]
    assert bench.phone.requests[1][1][0].participant == CUSTOMER
    assert bench.verdicts == [(5, "D", "withheld"), (5, "E", "too_old")]


async def test_rows_are_read_page_by_page(autojump_clock: trio.testing.MockClock) -> None:
    """All rows are found, and no row is read twice."""
    bench = Bench()
    bench.rows.waiting = [row(number, f"A{number}") for number in range(1, 601)]
    async with bench.running():
        await trio.sleep(200)
    assert sorted(bench.phone.ids) == sorted(f"A{number}" for number in range(1, 601))
    assert bench.rows.reads == 3


async def test_rows_that_cannot_be_read_now_are_read_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A database that is away costs a pause."""
    bench = Bench()
    bench.rows.waiting = [row(1, "A")]
    bench.rows.away = True
    async with bench.running():
        await trio.sleep(100)
        bench.rows.away = False
        await trio.sleep(100)
    assert bench.phone.ids == ["A"]
