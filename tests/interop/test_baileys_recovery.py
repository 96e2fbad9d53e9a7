"""What did not simply arrive: ciphertexts broken on the way, or withheld from linked devices."""

import typing as t

from interop_peer import Driver, Peer

from simulator import Account, Simulator
from tests.support.daemon_process import DaemonProcess


def filled(row: dict[str, t.Any]) -> bool:
    return bool(row["state"] == "stored")


async def test_what_did_not_arrive_is_filled_in(
    daemon: DaemonProcess, simulator: Simulator, team: Account, baileys: Driver
) -> None:
    """By who wrote it, else by the own phone."""
    alice, bob = await baileys.connect_all("alice", "bob")
    await break_and_retry(daemon, simulator, team, baileys, alice)
    await withhold(daemon, simulator, team, alice, bob)


async def break_and_retry(
    daemon: DaemonProcess, simulator: Simulator, team: Account, baileys: Driver, alice: Peer
) -> None:
    """Of a person, of a group, of an own device; in its place among the others, with one row."""
    team.phone.answers = False
    device = team.companions[0]
    us = str(team.pn)
    group: str = (await alice.call("groupCreate", "deal", [us]))["id"]
    laptop = await baileys.connect("laptop", phone=team.pn.user)
    first = [await alice.send(to, "first") for to in (us, group)]
    first.append(await laptop.send(alice.account, "first"))
    for message_id in first:
        await daemon.until_message(message_id)
    broken: list[str] = []
    for peer, to, text in (
        (alice, us, "to the team"),
        (alice, group, "to the group"),
        (laptop, alice.account, "from the laptop"),
    ):
        simulator.faults.corrupt(device.pn, 1)
        message_id = await peer.send(to, text)
        broken.append(message_id)
        row = await daemon.until_message(message_id, filled, "is filled in")
        assert (row["text"], row["kind"], row["retries"]) == (text, "text", 1)
        assert row["from_me"] is (peer is laptop)
    last = await alice.send(us, "last")
    await daemon.until_message(last)
    rows = await daemon.details("kind <> 'system'")
    assert [row["external_id"] for row in rows] == [*first, *broken, last]


async def withhold(
    daemon: DaemonProcess, simulator: Simulator, team: Account, alice: Peer, bob: Peer
) -> None:
    """Its writer went offline, or the server withholds it: the phone has it. What it may not or
    cannot give is said to be lost."""
    team.phone.answers = True
    device = team.companions[0]
    us = str(team.pn)
    await daemon.until_message(await alice.send(us, "before"))
    simulator.faults.withhold(device.pn, 1)
    withheld = await alice.send(us, "withheld")
    row = await daemon.until_message(withheld, filled, "is filled in")
    assert (row["text"], row["sender"]["name"]) == ("withheld", "alice")
    simulator.faults.corrupt(device.pn, 1)
    broken = await alice.send(us, "broken")
    await alice.disconnect()
    row = await daemon.until_message(broken, filled, "is filled in")
    assert row["text"] == "broken"

    simulator.faults.withhold(device.pn, 1, kind="view_once_unavailable_fanout")
    once = await bob.send(us, "only once")
    row = await daemon.until_message(once, lambda row: row["verdict"], "has a verdict")
    assert (row["kind"], row["verdict"]) == ("undecryptable", "withheld")
    team.phone.keep = lambda _message: None
    simulator.faults.withhold(device.pn, 1)
    lost = await bob.send(us, "lost")
    row = await daemon.until_message(lost, lambda row: row["verdict"], "has a verdict")
    assert (row["kind"], row["verdict"]) == ("undecryptable", "not_on_phone")
