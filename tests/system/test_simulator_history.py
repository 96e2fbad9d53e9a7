"""What phones hand to their companions: history, single messages, files, addresses."""

import collections.abc as cabc
import functools

import pytest
import trio
import trio.testing
from scripted_companion import NOW, Companion, wall_clock
from simulator_cast import Cast, arrived, gather, linked, of_type
from trio.testing import MockClock

from simulator import Settings, Simulator, open_simulator
from simulator.phone import Chunk, Wrapping
from whatsapp import compose_media, content, history, media_retry, peer, web_message
from whatsapp.content import TargetKey
from whatsapp.history import HistoryChunk, HistoryNotification
from whatsapp.media_retry import MediaOf, RetryResult
from whatsapp.node import Node
from whatsapp.proto import wa_pb2
from whatsapp.web_message import HistoryMessage


@pytest.fixture
async def simulator(autojump_clock: MockClock) -> cabc.AsyncIterator[Simulator]:
    """A simulator in memory whose clock is the test's; phones push nothing by themselves."""
    settings = Settings(history=False)
    async with open_simulator(seed=1, now=wall_clock(), settings=settings) as running:
        yield running


@pytest.fixture
async def cast(simulator: Simulator, nursery: trio.Nursery) -> Cast:
    """Everybody, paired and online."""
    return await gather(simulator, nursery)


async def plaintexts(companion: Companion) -> list[bytes]:
    """The peer messages that have come since the last time, decrypted."""
    nodes = await arrived(companion, "message", lambda n: n.text("category") == "peer")
    return [companion.decrypt(node).raw for node in nodes]


def read_chunk(simulator: Simulator, raw: bytes) -> tuple[HistoryNotification, HistoryChunk]:
    """What a notification offers."""
    notice = history.read_notification(raw)
    packed = notice.inline
    if notice.source is not None:
        packed = simulator.media.open(notice.source)
    assert packed is not None
    return notice, history.read_history(history.inflate(packed))


def old(number: int, text: str = "old") -> HistoryMessage:
    """A message from before the simulation."""
    message = wa_pb2.Message(conversation=f"{text} {number}".encode())
    return HistoryMessage(
        key=TargetKey(remote_jid="15550002222@s.whatsapp.net", id=f"OLD{number:04}"),
        timestamp=NOW - 100_000 + number,
        message=message.SerializeToString(),
    )


async def test_history_is_pushed(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """Chats as the phone knows them, inline or as a file, with what else a chunk holds."""
    phone = cast.desk_account.phone
    group = simulator.create_group("team", [cast.ana, cast.desk_account])
    first = await cast.ana.phone.send_text(cast.desk_account.pn, "first")
    await phone.send_text(cast.ana.pn, "second")
    await cast.ana.phone.send_group_text(group.jid, "in the group")
    chats = tuple(phone.conversation(chat) for chat in phone.chats())
    await phone.push_history(
        Chunk(
            sync_type="initial_bootstrap",
            inline=True,
            progress=50,
            conversations=chats,
            push_names=((str(cast.ana.pn), "Ana"),),
            address_pairs=((str(cast.ana.pn), str(cast.ana.lid)),),
        ),
        Chunk(sync_type="recent", chunk_order=1, conversations=chats[:1]),
    )
    inline, blob = [read_chunk(simulator, raw) for raw in await plaintexts(cast.desk)]
    assert (inline[0].sync_type, inline[0].progress) == ("initial_bootstrap", 50)
    direct, team = inline[1].conversations
    assert (direct.chat, direct.lid, direct.end) == (str(cast.ana.pn), str(cast.ana.lid), 1)
    assert [(m.key.from_me, m.key.id == first) for m in direct.messages] in (
        [(True, False), (False, True)],
        [(False, True), (True, False)],
    )
    assert (team.chat, team.name) == (str(group.jid), "team")
    assert team.messages[0].key.participant == str(cast.ana.lid)
    assert team.messages[0].push_name == "Ana"
    assert inline[1].push_names == ((str(cast.ana.pn), "Ana"),)
    assert blob[0].source is not None
    assert (blob[1].sync_type, blob[1].chunk_order, blob[1].total) == ("recent", 1, 2)


async def test_new_companion_gets_the_prepared_history(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """What a phone has is offered after the pairing; its file can be asked for again."""
    async with open_simulator(seed=1, now=wall_clock()) as simulator:
        account = simulator.create_account("desk")
        account.phone.remember("15550002222@s.whatsapp.net", *map(old, range(3)))
        chat = account.phone.conversation("15550002222@s.whatsapp.net")
        account.phone.history = (Chunk(conversations=(chat,)),)
        desk = await linked(simulator, nursery, "desk")
        nodes = await arrived(desk, "message")
        share, offer = (desk.decrypt(node).raw for node in nodes)
        assert peer.kind_of(share) is peer.PeerKind.KEY_SHARE
        notice, chunk = read_chunk(simulator, offer)
        assert [m.key.id for m in chunk.conversations[0].messages] == [
            "OLD0002",
            "OLD0001",
            "OLD0000",
        ]
        assert notice.source is not None
        simulator.media.expire(notice.source.direct_path)
        failed = {"id": nodes[1].text("id"), "to": desk.jid.bare, "type": "server-error"}
        await desk.send(Node("receipt", {**failed, "category": "peer"}))
        (again,) = await plaintexts(desk)
        assert read_chunk(simulator, again)[1].total == 3


async def test_older_history_on_demand(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """Pages go back in time from the message a companion names, until there is no more."""
    phone, chat = cast.desk_account.phone, "15550002222@s.whatsapp.net"
    phone.remember(chat, *map(old, range(7)))
    oldest, seen, ended = ("ZZZ", NOW), [], None
    while ended is None:
        wanted = peer.OnDemand(
            chat=chat, oldest_id=oldest[0], oldest_from_me=False, oldest_at=oldest[1], count=3
        )
        request_id = f"R{len(seen)}"
        await cast.desk.send_peer(request_id, peer.history_on_demand_request(wanted))
        (raw,) = await plaintexts(cast.desk)
        notice, chunk = read_chunk(simulator, raw)
        assert (notice.sync_type, notice.request_id) == ("on_demand", request_id)
        (page,) = chunk.conversations
        seen += [message.key.id for message in page.messages]
        oldest = (page.messages[-1].key.id, page.messages[-1].timestamp)
        ended = page.end
    assert seen == [f"OLD{number:04}" for number in reversed(range(7))]


async def test_single_messages_on_demand(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """Messages that a companion could not read come from the phone, if it has them."""
    phone = cast.desk_account.phone
    group = simulator.create_group("team", [cast.ana, cast.desk_account])
    direct = await cast.ana.phone.send_text(cast.desk_account.pn, "direct")
    grouped = await cast.ana.phone.send_group_text(group.jid, "grouped")
    phone.remember("15550002222@s.whatsapp.net", old(1))
    keys = [
        TargetKey(remote_jid=str(cast.ana.lid), id=direct),
        TargetKey(remote_jid=str(group.jid), id=grouped, participant=str(cast.ana.lid)),
        TargetKey(remote_jid="15550002222@s.whatsapp.net", id="OLD0001"),
        TargetKey(remote_jid=str(cast.ana.pn), id="unknown"),
    ]
    await cast.desk.send_peer("R", peer.placeholder_resend_request(keys))
    (raw,) = await plaintexts(cast.desk)
    response = peer.parse_response(raw)
    assert response.request_id == "R"
    assert response.results[-1].web_message is None
    found = [
        web_message.read_web_message(result.web_message)
        for result in response.results
        if result.web_message is not None
    ]
    texts = [content.read_content(message.message).text for message in found]
    assert texts == ["direct", "grouped", "old 1"]
    assert (found[0].push_name, found[1].participant) == ("Ana", str(cast.ana.lid))
    phone.answers = False
    await cast.desk.send_peer("S", peer.placeholder_resend_request(keys))
    assert await plaintexts(cast.desk) == []


async def test_withheld_message_is_on_the_phone(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """A message that the server keeps from a companion can be had from its phone."""
    simulator.faults.withhold(cast.desk.jid, kind="view_once")
    sent = await cast.ana.phone.send_text(cast.desk_account.pn, "for the phone only")
    node = await cast.desk.next_message()
    assert node.child("enc") is None
    assert node.required_child("unavailable").text("type") == "view_once"
    await cast.desk.acknowledge(node)
    key = TargetKey(remote_jid=str(cast.ana.pn), id=sent)
    await cast.desk.send_peer("R", peer.placeholder_resend_request([key]))
    (raw,) = await plaintexts(cast.desk)
    (result,) = peer.parse_response(raw).results
    assert result.web_message is not None
    message = web_message.read_web_message(result.web_message).message
    assert content.read_content(message).text == "for the phone only"
    (record,) = simulator.ledger.records(cast.desk.jid)
    assert (record.offered, record.corrupted) == (1, 1)
    assert record.acknowledged_at is not None


async def test_addresses_are_told(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """The phone tells its companions whose number is behind which hidden address."""
    await cast.desk_account.phone.migrate_lids(cast.ana, cast.rui)
    (raw,) = await plaintexts(cast.desk)
    pairs = [(pair.number, pair.lid) for pair in peer.parse_lid_mappings(raw)]
    assert pairs == [(cast.ana.pn, cast.ana.lid), (cast.rui.pn, cast.rui.lid)]


async def test_expired_file_is_uploaded_again(
    autojump_clock: MockClock, simulator: Simulator, cast: Cast
) -> None:
    """Who can show that it knows the file's key gets a new path, or why there is none."""
    source = cast.ana.phone.upload("image", b"a picture", mimetype="image/png")
    key, path = source.media_key, source.direct_path
    data = simulator.media.get(path)
    message = compose_media.media(source, "look")
    sent = await cast.ana.phone.send_message(
        cast.desk_account.pn, message, Wrapping(type="media", mediatype="image")
    )
    node = await cast.desk.next_message()
    assert (node.text("type"), node.required_child("enc").text("mediatype")) == ("media", "image")
    assert cast.desk.decrypt(node).media == source
    simulator.media.expire(path, 410)
    media = MediaOf(id=sent, chat=cast.ana.pn, from_me=False)
    own = cast.desk_account.pn
    await cast.desk.send(media_retry.retry_receipt(media, own, key, bytes(12)))
    (node,) = await arrived(cast.desk, "notification", of_type("mediaretry"))
    verdict = media_retry.open_answer(media_retry.parse_retry_notification(node), key)
    assert verdict.result is RetryResult.SUCCESS
    assert simulator.media.get(verdict.direct_path) == data
    simulator.media.discard(path)
    await cast.desk.send(media_retry.retry_receipt(media, own, key, bytes(12)))
    (node,) = await arrived(cast.desk, "notification", of_type("mediaretry"))
    verdict = media_retry.open_answer(media_retry.parse_retry_notification(node), key)
    assert verdict.result is RetryResult.NOT_FOUND
    unknown = MediaOf(id="unknown", chat=cast.ana.pn, from_me=False)
    await cast.desk.send(media_retry.retry_receipt(unknown, own, key, bytes(12)))
    (node,) = await arrived(cast.desk, "notification", of_type("mediaretry"))
    assert media_retry.parse_retry_notification(node).error is RetryResult.NOT_FOUND
    before = cast.desk_account.phone.failures
    await cast.desk.send(media_retry.retry_receipt(media, own, bytes(32), bytes(12)))
    assert await arrived(cast.desk, "notification", of_type("mediaretry")) == []
    assert cast.desk_account.phone.failures == before + 1


async def test_runs_with_one_seed_are_alike(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The same script over the same seed writes the same stanzas, ciphertexts included."""
    runs = []
    for _ in range(2):
        start = trio.current_time()
        clock = functools.partial(since, start)
        async with open_simulator(seed=7, now=clock) as simulator:
            cast = await gather(simulator, nursery)
            phone = cast.desk_account.phone
            group = await cast.ana.phone.create_group("team", cast.desk_account, cast.rui)
            await cast.rui.phone.send_group_text(group.jid, "hello")
            await phone.set_contact_name(cast.ana, "Ana")
            await phone.push_history(Chunk(conversations=(phone.conversation(group.jid),)))
            await cast.eva.phone.hang_up(await cast.eva.phone.call(cast.desk_account.lid))
            await cast.ana.reinstall()
            await cast.ana.phone.send_text(cast.desk_account.pn, "anew")
            await trio.testing.wait_all_tasks_blocked()
            runs.append(cast.desk.nodes)
    assert runs[0] == runs[1]


def since(start: float) -> float:
    """Unix seconds of a clock that began then."""
    return NOW + trio.current_time() - start
