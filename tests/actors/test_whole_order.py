"""The same messages, in whatever order and on whatever ways they come, end as the same inbox."""

import collections.abc as cabc
import pathlib
import tempfile
import typing as t

import attrs
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simulator import Account, Group
from simulator.phone import Chunk, Wrapping
from storage.inbox import MessageDetail, Person
from tests.actors.conftest import NAME
from tests.actors.whole_world import WholeWorld, open_whole
from tests.actors.world import START
from whatsapp import addons, compose
from whatsapp.compose import Context, Quote
from whatsapp.content import TargetKey
from whatsapp.history import HistoryConversation
from whatsapp.web_message import HistoryMessage

POLL: t.Final = compose.poll("When?", ["now", "later"], selectable=1, secret=bytes(range(32)))
SHOWN: t.Final = Wrapping()
SIDE: t.Final = Wrapping(hidden=True)


@attrs.frozen(kw_only=True)
class Line:
    """One message of the script."""

    by: str  # "ana", "bob" or "team"
    to: str  # "team", "hidden" (the team by hidden address), "ana" or "group"
    at: int  # seconds after the beginning
    content: bytes
    wrapping: Wrapping = SHOWN


@attrs.define
class Play:
    """People, what they send, and what has been sent so far."""

    world: WholeWorld
    ana: Account
    bob: Account
    group: Group
    sent: set[str] = attrs.field(factory=set)
    running: bool = True

    def person(self, name: str) -> Account:
        return {"ana": self.ana, "bob": self.bob, "team": self.world.team}[name]

    def script(self) -> dict[str, Line]:
        """All messages by id, in the order of their times."""
        team, ana = self.world.team, self.ana
        by_ana = TargetKey(remote_jid=str(team.pn), from_me=True, id="ONE")
        to_team = TargetKey(remote_jid=str(team.pn), id="REPLY")
        by_team = TargetKey(remote_jid=str(ana.pn), id="ONE")
        in_group = TargetKey(remote_jid=str(self.group.jid), id="G-ONE", participant=str(ana.lid))
        quote = Context(quoted=Quote(id="ONE", author=str(ana.pn), message=compose.text("one")))
        parent = addons.Parent(id="POLL", authors=(str(team.pn),), raw=POLL)
        poll = TargetKey(remote_jid=str(team.pn), id="POLL")
        ballots = {
            option: compose.poll_vote(
                poll, addons.encrypt_vote([option], parent, str(ana.pn), bytes(12)), at
            )
            for at, option in enumerate(("now", "later"), 1)
        }

        def line(by: str, to: str, content: bytes, wrapping: Wrapping = SHOWN) -> Line:
            return Line(by=by, to=to, at=0, content=content, wrapping=wrapping)

        edit, revoke = Wrapping(edit="1"), Wrapping(edit="7")
        lines = {
            "ONE": line("ana", "team", compose.text("one")),
            "REPLY": line("team", "ana", compose.text("reply", quote)),
            "TWO": line("ana", "hidden", compose.text("two", quote)),
            "EDIT-A": line("ana", "hidden", compose.edit(by_ana, "one!", 1), edit),
            "LIKE": line("ana", "team", compose.reaction(to_team, "👍", 1), SIDE),
            "EDIT-B": line("ana", "team", compose.edit(by_ana, "one!!", 2), edit),
            "LOVE": line("ana", "hidden", compose.reaction(to_team, "❤", 2), SIDE),
            "SEEN": line("team", "ana", compose.reaction(by_team, "👀", 3), SIDE),
            "POLL": line("team", "ana", POLL),
            "VOTE-A": line("ana", "team", ballots["now"], SIDE),
            "VOTE-B": line("ana", "team", ballots["later"], SIDE),
            "GONE": line("ana", "team", compose.revoke(attrs.evolve(by_ana, id="TWO")), revoke),
            "G-ONE": line("ana", "group", compose.text("hello all")),
            "G-TWO": line("bob", "group", compose.text("hello ana")),
            "G-LIKE": line("bob", "group", compose.reaction(in_group, "🎉", 4), SIDE),
            "G-GONE": line(
                "bob",
                "group",
                compose.revoke(TargetKey(remote_jid=str(self.group.jid), from_me=True, id="G-TWO")),
                revoke,
            ),
        }
        return {name: attrs.evolve(item, at=at) for at, (name, item) in enumerate(lines.items())}

    # ---- what can happen

    async def act(self, name: str) -> None:
        """One step: a line (a second time: the same ciphertext again), or anything else."""
        lines = self.script()
        if name in lines:
            await self._send(name, lines[name])
            return
        match name:
            case "settle":
                await self._settle()
            case "wait":
                await trio.sleep(40)
            case "chats" | "hidden chats":
                await self._push(lines, hidden=name == "hidden chats")
            case "who is who":
                await self.world.phone.migrate_lids(self.ana, self.bob)
            case "read":
                await self.ana.phone.read(self.world.team.pn, "REPLY")
            case "corrupt":
                self.world.simulator.faults.corrupt(self.world.team.pn)
            case "lose receipts":
                self.world.simulator.faults.lose_acks(self.world.team.pn, 3)
            case "duplicate":
                self.world.simulator.faults.duplicate(self.world.team.pn, 2)
            case "reorder":
                self.world.simulator.faults.reorder(self.world.team.pn)
            case "drop":
                self.world.simulator.drop(self.world.team.pn)
            case "away":
                self.ana.phone.answers = False
            case "kill":
                await self.world.kill_daemon()
                self.running = False
            case _:
                raise AssertionError(name)

    async def _settle(self) -> None:
        """Everything works again, and what the server has no answer for comes once more."""
        world = self.world
        world.simulator.faults.clear()
        dials = world.dials
        if self.running:
            await world.until(lambda: world.simulator.drop(world.team.pn), "there is a connection")
        else:
            await world.start_daemon()
            self.running = True
        await world.until(lambda: world.dials > dials, "it connects")
        await world.until_state(NAME, "online")
        await world.settled()

    async def _send(self, name: str, line: Line) -> None:
        phone = self.person(line.by).phone
        if name in self.sent:
            await phone.repeat(name)
            return
        self.sent.add(name)
        to = {
            "team": self.world.team.pn,
            "hidden": self.world.team.lid,
            "ana": self.ana.pn,
            "group": self.group.jid,
        }[line.to]
        at = int(START) + line.at
        await phone.send_message(to, line.content, line.wrapping, id=name, timestamp=at)

    async def _push(self, lines: dict[str, Line], *, hidden: bool) -> None:
        """All that was ever said, out of the memory of the team's phone."""
        chats: dict[str, list[HistoryMessage]] = {}
        for name, line in reversed(lines.items()):
            chat = str(self.group.jid if line.to == "group" else self.ana.address(hidden))
            author = str(self.person(line.by).lid) if line.to == "group" else None
            mine = line.by == "team"
            message = HistoryMessage(
                key=TargetKey(remote_jid=chat, from_me=mine, id=name, participant=author),
                participant=author,
                timestamp=int(START) + line.at,
                message=line.content,
            )
            chats.setdefault(chat, []).append(message)
        conversations = tuple(
            HistoryConversation(chat=chat, messages=tuple(messages))
            for chat, messages in chats.items()
        )
        await self.world.phone.push_history(Chunk(inline=hidden, conversations=conversations))

    async def finish(self) -> None:
        """Let everything that is under way come to its end."""
        self.ana.phone.answers = True
        await self._settle()

        async def nothing_left() -> bool | None:
            storage = self.world.storage
            left = [
                await storage.waiting_placeholders(NAME, 1),
                await storage.pending_addons(0, 1),
                await storage.history_pending(NAME, 1),
            ]
            return None if any(left) else True

        await self.world.eventually(nothing_left, "everything is read")


# ---- what is compared


async def dump(play: Play) -> dict[str, t.Any]:
    """All that the inbox shows, in words that do not depend on the order of arrival."""
    storage = play.world.storage
    people = await storage.contacts(NAME, limit=500)
    rows = await storage.conversations(status=None, connection=NAME, limit=500)
    return {
        "people": sorted((sorted(row.addresses), row.shown) for row in people),
        "conversations": sorted(row.chat for row in rows),
        "messages": {
            row.chat: [
                said(message)
                for message in await storage.conversation_messages(row.id, limit=500)
                if message.kind != "system"
            ]
            for row in rows
        },
    }


def said(message: MessageDetail) -> dict[str, t.Any]:
    """A message without numbers of rows, and without when and how it arrived."""
    quoted, deleted = message.quoted, message.deleted
    return {
        "id": message.external_id,
        "by": who(message.sender),
        "from_me": message.from_me,
        "kind": message.kind,
        "state": message.state,
        "text": message.text,
        "versions": [(version.text, version.external_id) for version in message.versions],
        "deleted": deleted and (who(deleted.by), deleted.at),
        "reactions": sorted((who(item.sender), item.emoji) for item in message.reactions),
        "votes": sorted((who(item.voter), item.options) for item in message.votes),
        "quoted": quoted
        and (quoted.external_id, quoted.author and who(quoted.author), quoted.text, quoted.kind),
        "flags": message.flags,
        "detail": message.detail,
        # A phone that was away never got some of them.
        "status": "sent" if message.status == "delivered" else message.status,
        "read": sorted(who(item.recipient) for item in message.receipts if item.read_at),
        "at": message.sent_at,
    }


def who(person: Person) -> tuple[str, ...]:
    """A person by their addresses."""
    return tuple(sorted(person.addresses))


def inbox_after(acts: cabc.Iterable[str]) -> dict[str, t.Any]:
    """What the inbox shows when all this has happened to a fresh daemon."""

    async def play_it() -> dict[str, t.Any]:
        with tempfile.TemporaryDirectory() as directory:
            async with open_whole(pathlib.Path(directory)) as world:
                ana, bob = map(world.simulator.create_account, ("Ana", "Bob"))
                group = world.simulator.create_group("all", [ana, bob, world.team])
                play = Play(world, ana, bob, group)
                for name in acts:
                    await play.act(name)
                await play.finish()
                return await dump(play)

    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(play_it, clock=clock, strict_exception_groups=True)


LINES: t.Final = (
    "ONE", "REPLY", "TWO", "EDIT-A", "LIKE", "EDIT-B", "LOVE", "SEEN", "POLL", "VOTE-A", "VOTE-B",
    "GONE", "G-ONE", "G-TWO", "G-LIKE", "G-GONE",
)  # fmt: skip
ALL: t.Final = (*LINES, "read", "who is who")
TROUBLE: t.Final = (
    "settle", "wait", "chats", "hidden chats", "corrupt", "lose receipts", "duplicate", "reorder",
    "drop", "away", "kill", *LINES,
)  # fmt: skip

_plain: list[dict[str, t.Any]] = []


def plain() -> dict[str, t.Any]:
    """The inbox after everything came live, once, and in its order."""
    if not _plain:
        _plain.append(inbox_after(ALL))
    return _plain[0]


def test_the_plain_play_is_what_was_said() -> None:
    """What the other plays are compared with is no empty inbox."""
    shown = plain()
    assert len(shown["people"]) == 2
    direct, group = sorted(shown["messages"].values(), key=len, reverse=True)
    told = {message["id"]: message for message in (*direct, *group)}
    assert [message["id"] for message in direct] == ["ONE", "REPLY", "TWO", "POLL"]
    assert [message["id"] for message in group] == ["G-ONE", "G-TWO"]
    assert [text for text, _id in told["ONE"]["versions"]] == ["one", "one!", "one!!"]
    assert [emoji for _who, emoji in told["REPLY"]["reactions"]] == ["❤"]
    assert told["REPLY"]["status"] == "read"
    assert [options for _who, options in told["POLL"]["votes"]] == [("later",)]
    assert told["TWO"]["deleted"]
    assert told["TWO"]["quoted"][2] == "one!!"
    assert told["G-TWO"]["deleted"]


plays = st.lists(st.sampled_from(TROUBLE), max_size=10).flatmap(
    lambda trouble: st.permutations((*ALL, *trouble))
)


@settings(
    max_examples=5,  # a play takes seconds: raise it by hand
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@example(["hidden chats", *ALL])
@example([*ALL, "chats", "hidden chats"])
@example([*reversed(ALL), "chats"])
@example(["chats", "settle", "hidden chats", "kill", *reversed(ALL)])
@example(["away", "corrupt", "corrupt", "corrupt", *ALL])
@given(plays)
def test_any_order_and_any_way_end_alike(acts: list[str]) -> None:
    """Live, again, late, from history, sent once more, over lost receipts, drops and kills."""
    assert inbox_after(acts) == plain()
