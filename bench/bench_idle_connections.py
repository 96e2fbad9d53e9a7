"""Memory of one idle, online connection: the slope of this process's memory over their number.

The daemon's parts run here, on embedded PostgreSQL; the simulator is another process. Prints one
JSON object. Usage: bench_idle_connections.py [CONNECTIONS ...]
"""

import contextlib
import gc
import json
import pathlib
import secrets
import socket
import subprocess
import sys
import tempfile

import httpx
import trio

from actors.assembly import make_fleet, make_writer
from actors.fleet import Fleet
from config.model import Config, ConnectionConfig, StorageConfig, WhatsAppConfig
from daemon.logs import configure_logs
from storage.open import open_storage

DEADLINE = 120.0  # seconds for one connection to be paired and online


def proportional_memory() -> float:
    """KiB of this process, shared pages divided among their users."""
    for line in pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    raise RuntimeError("no Pss in /proc/self/smaps_rollup")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def pair(fleet: Fleet, name: str, http: httpx.AsyncClient) -> None:
    await fleet.pair(name)
    version = 0
    with trio.fail_after(DEADLINE):
        while True:
            view = await fleet.wait_pairing(name, version)
            version = view.version
            if view.state == "code" and view.qr is not None:
                answer = await http.post(
                    "/admin/mock-phone/scan-qr", params={"name": name}, content=view.qr
                )
                answer.raise_for_status()
            if view.state == "paired":
                break
        while fleet.status(name)[0].state != "online":
            await trio.sleep(0.02)


async def measure(counts: list[int], directory: pathlib.Path, port: int) -> dict[str, object]:
    names = [f"line-{number:04}" for number in range(max(counts))]
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        with trio.fail_after(30):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    root_key = (await http.get("/admin/root")).text
                    break
                await trio.sleep(0.1)
        config = Config(
            storage=StorageConfig(),
            whatsapp=WhatsAppConfig(url=f"ws://127.0.0.1:{port}/ws/chat", root_key=root_key),
            connections=tuple(ConnectionConfig(name=name) for name in names),
            base_dir=directory,
        )
        async with open_storage(
            dsn="embedded", data_dir=directory / "data", key=secrets.token_bytes(32),
            pool_size=5, command_timeout=30, temporary=True,
        ) as storage, trio.open_nursery() as nursery:  # fmt: skip
            writer = make_writer(config, storage)
            fleet = await make_fleet(config, storage, writer)
            await nursery.start(writer.run)
            await nursery.start(fleet.run)
            gc.collect()
            points = [(0, proportional_memory())]
            online = 0
            for count in counts:
                for name in names[online:count]:
                    await pair(fleet, name, http)
                online = count
                await trio.sleep(3)
                gc.collect()
                points.append((count, proportional_memory()))
            nursery.cancel_scope.cancel()
    (first, low), (last, high) = points[1], points[-1]
    return {
        "points": [{"connections": count, "pss_kib": round(kib)} for count, kib in points],
        "kib_per_connection": round((high - low) / (last - first), 1),
    }


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [25, 50, 100]
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="zapvisor-bench-") as directory:
        configure_logs(form="json", level="error")
        simulator = subprocess.Popen(
            [sys.executable, "-m", "daemon", "simulate", "--listen", f"127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            print(json.dumps(trio.run(measure, counts, pathlib.Path(directory), port)))
        finally:
            simulator.kill()
            simulator.wait()


if __name__ == "__main__":
    main()
