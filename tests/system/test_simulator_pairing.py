"""Pairing with the simulator, and how it goes wrong."""

import collections.abc as cabc

import pytest
import trio
import trio.testing
from scripted_companion import Companion, wall_clock
from trio.testing import MockClock

from simulator import ScanRefusedError, Simulator, open_simulator
from simulator.entropy import Entropy
from simulator.faults import Forgery
from simulator.model import Device
from whatsapp import pairing, pairing_code
from whatsapp.errors import RemoteProtocolError
from whatsapp.node import Node
from whatsapp.pairing import PairingError
from whatsapp.pairing_code import CodePairing


@pytest.fixture
async def simulator(autojump_clock: MockClock) -> cabc.AsyncIterator[Simulator]:
    """A simulator in memory whose clock is the test's."""
    async with open_simulator(seed=1, now=wall_clock()) as running:
        yield running


@pytest.fixture
async def companion(simulator: Simulator, nursery: trio.Nursery) -> Companion:
    """A companion that shows its codes."""
    companion = Companion(simulator, nursery, "desk")
    await companion.connect()
    return companion


async def codes(companion: Companion) -> list[str]:
    """The QR texts of a companion that registers."""
    offer = await companion.wait_for("iq")
    return [pairing.qr_text(ref, companion.device) for ref in pairing.parse_pair_device(offer)]


@pytest.mark.parametrize("text", ["", "hello", "a,b,c,d", "https://wa.me/settings/linked_devices#"])
async def test_other_texts_are_no_codes(
    autojump_clock: MockClock, simulator: Simulator, text: str
) -> None:
    """Scanning anything else is refused, with a reason."""
    with pytest.raises(ScanRefusedError):
        await simulator.scan_qr(text)


@pytest.mark.parametrize(("index", "shown_until"), [(0, 60), (1, 80), (5, 160)])
async def test_codes_expire_one_after_the_other(
    autojump_clock: MockClock,
    simulator: Simulator,
    companion: Companion,
    index: int,
    shown_until: float,
) -> None:
    """The first code is good for 60 s, each later one for 20 s more."""
    text = (await codes(companion))[index]
    await trio.sleep_until(shown_until + 1)
    with pytest.raises(ScanRefusedError, match="too late"):
        await simulator.scan_qr(text)


async def test_unscanned_companion_is_disconnected(
    autojump_clock: MockClock, simulator: Simulator, companion: Companion
) -> None:
    """After the last code the connection ends."""
    await codes(companion)
    with trio.fail_after(170):
        await companion.ended.wait()
    assert trio.current_time() >= 160


async def test_codes_expire_on_command(
    autojump_clock: MockClock, simulator: Simulator, companion: Companion
) -> None:
    """A fault makes the codes on every screen too old."""
    (text, *_) = await codes(companion)
    simulator.expire_qr()
    with pytest.raises(ScanRefusedError, match="too late"):
        await simulator.scan_qr(text)


async def test_code_with_foreign_keys_is_refused(
    autojump_clock: MockClock, simulator: Simulator, companion: Companion, nursery: trio.Nursery
) -> None:
    """The keys in the QR text must be those of the companion that shows it."""
    (text, *_) = await codes(companion)
    stranger = Companion(simulator, nursery, "stranger")
    ref = text.removeprefix("https://wa.me/settings/linked_devices#").split(",")[0]
    with pytest.raises(ScanRefusedError, match="other keys"):
        await simulator.scan_qr(pairing.qr_text(ref, stranger.device))


@pytest.mark.parametrize("part", ["hmac", "signature"])
async def test_forged_pairing_is_refused_by_a_strict_companion(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, part: str
) -> None:
    """One wrong bit in what the phone signed makes the companion refuse."""
    simulator.faults.forged_pairing = "hmac" if part == "hmac" else "signature"
    companion = Companion(simulator, nursery, "desk")
    await companion.connect()
    (text, *_) = await codes(companion)

    async def scan() -> None:
        with pytest.raises(ScanRefusedError, match="did not confirm"):
            await simulator.scan_qr(text, name="Ana")

    async with trio.open_nursery() as scanning:
        scanning.start_soon(scan)
        success = await companion.wait_for("iq", lambda n: n.child("pair-success") is not None)
        with pytest.raises(PairingError) as caught:
            pairing.accept_pair_success(companion.device, success, bytes)
        await companion.send(caught.value.reply)
    assert simulator.accounts[0].companions == ()


@pytest.mark.parametrize("forgery", ["root", "leaf"])
async def test_forged_certificate_is_refused_by_a_strict_client(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery, forgery: Forgery
) -> None:
    """A chain from another root, or for another server's key, ends the handshake."""
    simulator.faults.forged_certificate = forgery
    companion = Companion(simulator, nursery, "desk")
    await companion.connect()
    await companion.ended.wait()
    assert isinstance(companion.failure, RemoteProtocolError)


async def shown_code(companion: Companion, phone: str) -> CodePairing:
    """A companion that shows a code for a number."""
    await companion.wait_for("iq")
    shown = CodePairing.begin(phone, Entropy("code"))
    answer = await companion.ask(shown.hello, companion.device, Entropy("hello"))
    assert pairing_code.parse_hello_answer(answer)
    return shown


async def finish_by_code(companion: Companion, shown: CodePairing) -> Node:
    """Do the companion's last stage; the server's answer to it."""
    told = await companion.wait_for("notification")
    companion.nodes.remove(told)
    hello = pairing_code.parse_primary_hello(told)
    assert hello is not None
    companion.device, finish = shown.finish("finish", companion.device, hello, Entropy("finish"))
    await companion.send(finish)
    return await companion.wait_for("iq", lambda node: node.text("id") == "finish")


async def test_pairing_by_code(
    autojump_clock: MockClock, simulator: Simulator, companion: Companion
) -> None:
    """The code typed on the phone links the companion, which may log in."""
    account = simulator.create_account("Ana", "15550001111")
    shown = await shown_code(companion, "+1 555 000 1111")
    typed = pairing_code.shown(shown.code).lower()
    linked: list[Device] = []

    async def enter() -> None:
        linked.append(await account.phone.enter_code(typed))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter)
        assert (await finish_by_code(companion, shown)).text("type") == "result"
        success = await companion.wait_for("iq", lambda n: n.child("pair-success") is not None)
        companion.device, reply = pairing.accept_pair_success(
            companion.device, success, Entropy("reply")
        )
        await companion.send(reply)
    await companion.ended.wait()
    await companion.log_in()
    assert linked == [account.companions[0]]
    assert companion.jid == linked[0].pn


async def test_wrong_code_can_be_corrected(
    autojump_clock: MockClock, simulator: Simulator, companion: Companion
) -> None:
    """Another code is refused to both sides; after three tries this one is, too."""
    account = simulator.create_account("Ana", "15550001111")
    shown = await shown_code(companion, "15550001111")

    async def mistype() -> None:
        with pytest.raises(ScanRefusedError, match="not the code"):
            await account.phone.enter_code("ABCDEFGH")

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mistype)
            answer = await finish_by_code(companion, shown)
        assert answer.text("type") == "error"
        companion.nodes.remove(answer)
    with pytest.raises(ScanRefusedError, match="expired"):
        await account.phone.enter_code(shown.code)


async def test_codes_that_cannot_be(
    autojump_clock: MockClock, simulator: Simulator, companion: Companion
) -> None:
    """Texts that are no codes, numbers nobody waits for, companions without a real name."""
    with pytest.raises(ScanRefusedError, match="eight characters"):
        await simulator.enter_code("OOOO-OOOO", "15550001111")
    with pytest.raises(ScanRefusedError, match="no companion"):
        await simulator.enter_code("ABCD-EFGH", "15550001111")
    await companion.wait_for("iq")
    shown = CodePairing.begin("15550001111", Entropy("code"))
    refused = await companion.ask(
        lambda iq_id: shown.hello(iq_id, companion.device, Entropy("hello"), display="zapvisor")
    )
    assert refused.required_child("error").text("code") == "400"
    await shown_code(companion, "15550001111")
    await trio.sleep(181)
    with pytest.raises(ScanRefusedError):
        await simulator.enter_code(shown.code, "15550001111")


async def test_phone_number_follows_from_the_name(
    autojump_clock: MockClock, simulator: Simulator, nursery: trio.Nursery
) -> None:
    """The same name means the same account: its second companion gets the next number."""
    first = Companion(simulator, nursery, "first")
    await first.pair("Ana")
    second = Companion(simulator, nursery, "second")
    await second.pair("Ana")
    (account,) = simulator.accounts
    assert [device.number for device in account.companions] == [1, 2]
    assert account.pn.user.startswith("1555")


async def test_refused_connections(autojump_clock: MockClock, simulator: Simulator) -> None:
    """In memory, too, a server can be down."""
    simulator.faults.refuse_connections = True
    with pytest.raises(ConnectionRefusedError):
        await simulator.connect()
