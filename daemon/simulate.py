"""``zapvisor simulate``: the simulator by itself, with its addresses on the first line."""

import functools
import sys

import trio

from daemon.errors import StartError
from daemon.logs import configure_logs
from daemon.run import one_line_errors
from daemon.screen import print_json
from daemon.signals import obey_signals
from simulator.core import Simulator
from simulator.run import serve


def run_simulator(
    listen: tuple[str, int], *, group: str | None, seed: int | None, as_json: bool
) -> int:
    """Serve until a signal; 0.

    Raises:
        StartError: the address is taken or not ours.
    """
    configure_logs(stream=sys.stderr)
    with one_line_errors():
        trio.run(_run, listen, group, seed, functools.partial(_announce, as_json=as_json))
    return 0


async def _run(
    listen: tuple[str, int],
    group: str | None,
    seed: int | None,
    ready: functools.partial[None],
) -> None:
    async with trio.open_nursery() as nursery:
        stop = nursery.cancel_scope.cancel
        await nursery.start(functools.partial(obey_signals, foreground=True), stop, stop)
        try:
            await serve(listen, group, seed=seed, ready=ready)
        except* OSError as errors:
            reason = errors.exceptions[0]
            while isinstance(reason, BaseExceptionGroup):
                reason = reason.exceptions[0]
            host, port = listen
            problem = reason.strerror if isinstance(reason, OSError) else reason
            raise StartError(
                f"the simulator cannot listen on {host}:{port}: {problem}; choose another --listen"
            ) from errors


def _announce(simulator: Simulator, *, as_json: bool) -> None:
    facts = {
        "url": simulator.url,
        "http_url": simulator.http_url,
        "root_key": simulator.root_key.hex(),
    }
    if as_json:
        print_json(facts)
        return
    sys.stdout.write(
        f"the simulator listens on {facts['url']}\n"
        f"root key {facts['root_key']}\n"
        f"scan a code: curl --data-binary @code.txt {facts['http_url']}/admin/mock-phone/scan-qr\n"
        "have somebody write: curl --data-binary Hello"
        f" '{facts['http_url']}/admin/mock-phone/say?name=Ana&to=NUMBER'\n"
    )
    sys.stdout.flush()
