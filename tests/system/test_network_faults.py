"""The daemon while the network to WhatsApp fails in one way after the other."""

import pathlib

import trio

from simulator import Simulator, open_simulator
from simulator.tcp_proxy import Flow, TcpProxy, open_tcp_proxy
from tests.support.daemon_process import DaemonProcess, open_daemon
from tests.support.forward_proxy import ForwardProxy, open_forward_proxy
from tests.support.traffic import Traffic


class Faults:
    """What happens to the network, in turn. Each is there until the daemon has noticed, unless it
    is one that goes unnoticed; afterwards all is well."""

    def __init__(self, daemon: DaemonProcess, simulator: Simulator, proxy: TcpProxy) -> None:
        self.daemon = daemon
        self.simulator = simulator
        self.proxy = proxy
        self._known = 0  # the newest transition before the fault of now

    async def begin(self) -> None:
        """Count only what comes from here on."""
        [row] = await self.daemon.query("SELECT coalesce(max(id), 0) AS id FROM connection_events")
        self._known = row["id"]

    async def cut(self) -> None:
        self.proxy.cut()

    async def reset(self) -> None:
        self.proxy.reset()
        await self.told("network")

    async def half_open(self) -> None:
        assert self.proxy.half_open()
        await self.told("heartbeat_missed")

    async def stalled(self) -> None:
        self.proxy.flow(down=Flow(stalled=True))
        await self.told("heartbeat_missed")

    async def deaf_server(self) -> None:
        self.proxy.flow(up=Flow(stalled=True))
        await self.told("heartbeat_missed")

    async def refused(self) -> None:
        self.proxy.shut()
        self.proxy.reset()
        await self.told("network", "refused")

    async def reset_in_the_handshake(self) -> None:
        for count in (0, 150, 400):
            self.proxy.reset_after(count)
        self.proxy.cut()

    async def byte_by_byte(self) -> None:
        self.proxy.cut()
        self.proxy.flow(up=Flow(piece=1), down=Flow(piece=1))
        await self.told("online")

    async def doubled_and_reordered(self) -> None:
        self.simulator.faults.duplicate(None, 5)
        self.simulator.faults.reorder(None, 4)
        self.simulator.faults.lose_acks(None, 5)
        await trio.sleep(0.5)
        self.proxy.cut()  # what was acknowledged in vain is delivered again

    async def told(self, reason: str, text: str = "") -> None:
        """A transition with this reason is recorded, and shown by ``status``."""

        async def recorded() -> bool:
            rows = await self.daemon.query(
                f"SELECT sentence FROM connection_events"
                f" WHERE reason = '{reason}' AND id > {self._known}"
            )
            return any(text in row["sentence"] for row in rows)

        await self.daemon.until(recorded, f"the daemon tells {reason} {text}")


async def test_every_fault_of_the_network_under_load(tmp_path: pathlib.Path) -> None:
    """Connections end, hang, crawl and are refused, messages come twice and out of order: nothing
    is lost or doubled, and the connection is back each time, by itself. Another connection, through
    a proxy that refuses for a while, fails alone, and nobody reads its password."""
    async with (
        open_simulator(seed="network", listen=("127.0.0.1", 0)) as simulator,
        open_tcp_proxy(("127.0.0.1", _port(simulator.url))) as proxy,
        open_forward_proxy(user="u", names={"only.there": "127.0.0.1"}) as forward,
        open_daemon(
            tmp_path / "d",
            f"ws://127.0.0.1:{proxy.port}/ws/chat",
            simulator.root_key,
            "sales",
            supervision='heartbeat_interval = "500ms"\nheartbeat_timeout = "1s"',
            settings='[[connections]]\nname = "far"\n'
            f'proxy = "socks5h://u:s3cret@127.0.0.1:{forward.port}"',
        ) as daemon,
    ):
        team, others = simulator.create_account("team"), simulator.create_account("others")
        await daemon.link("sales", lambda qr: simulator.scan_qr(qr, phone=team.pn.user))
        await daemon.link("far", lambda qr: simulator.scan_qr(qr, phone=others.pn.user))
        assert forward.asked
        # Of two who take turns, what the server reorders changes the order of neither.
        traffic, far = Traffic.to(simulator, team, 2), Traffic.to(simulator, others, 2)
        faults = Faults(daemon, simulator, proxy)
        async with trio.open_nursery() as nursery:
            await nursery.start(traffic.run)
            await nursery.start(far.run)
            for strike in (
                faults.cut,
                faults.reset,
                faults.half_open,
                faults.stalled,
                faults.deaf_server,
                faults.refused,
                faults.reset_in_the_handshake,
                faults.byte_by_byte,
                faults.doubled_and_reordered,
            ):
                await faults.begin()
                await strike()
                proxy.clear()
                await daemon.until_state("sales", "online")
            await _proxy_refuses(daemon, proxy, forward)
            nursery.cancel_scope.cancel()
        await traffic.settled(daemon)
        await far.settled(daemon)
        assert await daemon.terminate() == 0
        assert "s3cret" not in daemon.log


async def _proxy_refuses(daemon: DaemonProcess, proxy: TcpProxy, forward: ForwardProxy) -> None:
    forward.socks_reply = 2
    proxy.cut()

    async def told() -> bool:
        (row,) = [each for each in await daemon.status() if each["name"] == "far"]
        assert "s3cret" not in row["sentence"]
        return bool(row["reason"] == "proxy_failed" and "not allowed" in row["sentence"])

    await daemon.until(told, "the status tells what the proxy says")
    await daemon.until_state("sales", "online")
    forward.socks_reply = 0
    await daemon.until_state("far", "online")


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])
