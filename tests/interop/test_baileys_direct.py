"""Real clients against the simulator: what it proves about the simulator, it proves for good."""

import typing as t

import trio

from simulator import Simulator

if t.TYPE_CHECKING:
    from conftest import Driver


async def test_two_clients_pair_and_write_to_each_other(
    simulator: Simulator, baileys: "Driver"
) -> None:
    """Two real clients pair by QR code, and each reads what the other wrote, once."""
    alice, bob = await baileys.connect("alice"), await baileys.connect("bob")
    await alice.send(bob.account, "hello Bob")
    await bob.wait_for_text("hello Bob")
    await bob.send(alice.account, "hello Alice")
    await alice.wait_for_text("hello Alice")
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(bob.messages_with("hello Bob")) == 1
    assert len(alice.messages_with("hello Alice")) == 1
