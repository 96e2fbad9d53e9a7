"""``zapvisor simulate``: the simulator by itself, for real clients."""

import typing as t

import trio

from simulator.core import Simulator, open_simulator


async def serve(
    listen: tuple[str, int],
    group: str | None = None,
    *,
    seed: int | str | None = None,
    ready: t.Callable[[Simulator], None] | None = None,
) -> None:
    """Run until cancelled. ``group`` names one group that every account becomes a member of.

    ``ready`` is called once connections are accepted.

    Raises:
        OSError: the address is taken or not ours.
    """
    async with open_simulator(seed=seed, listen=listen) as simulator:
        if group is not None:
            simulator.group_of_everyone(group)
        if ready is not None:
            ready(simulator)
        await trio.sleep_forever()
