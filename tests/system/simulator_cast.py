"""The people of the simulator's tests: two desks with companions, and who has a phone only."""

import collections.abc as cabc

import attrs
import trio
import trio.testing
from scripted_companion import Companion

from simulator import Account, Simulator
from whatsapp.node import Node


@attrs.frozen
class Cast:
    """Everybody, paired and online."""

    simulator: Simulator
    desk: Companion
    desk_account: Account
    ana: Account
    rui: Account
    eva: Account


async def gather(simulator: Simulator, nursery: trio.Nursery) -> Cast:
    """Let everybody come."""
    desk = await linked(simulator, nursery, "desk")
    people = [simulator.create_account(name) for name in ("Ana", "Rui", "Eva")]
    return Cast(simulator, desk, simulator.world.account(desk.jid), *people)


async def linked(
    simulator: Simulator, nursery: trio.Nursery, name: str, of: str | None = None
) -> Companion:
    """One more companion of somebody (``name``, if not told), online."""
    companion = Companion(simulator, nursery, name)
    await companion.pair(of or name)
    await companion.log_in()
    return companion


async def arrived(
    companion: Companion, tag: str, accept: cabc.Callable[[Node], bool] = lambda _: True
) -> list[Node]:
    """What has come to a companion of this tag since the last time it was asked."""
    await trio.testing.wait_all_tasks_blocked()
    found = [node for node in companion.nodes if node.tag == tag and accept(node)]
    for node in found:
        companion.nodes.remove(node)
    return found


def of_type(kind: str | None) -> cabc.Callable[[Node], bool]:
    """Accepts stanzas of this type."""
    return lambda node: node.text("type") == kind
