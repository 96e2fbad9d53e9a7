"""Real clients exchange files over the simulator's media host."""

import pathlib
import typing as t

from simulator import Simulator

if t.TYPE_CHECKING:
    from conftest import Driver

FILE: t.Final = bytes(range(256)) * 700


async def test_file_is_exchanged(
    simulator: Simulator, baileys: "Driver", tmp_path: pathlib.Path
) -> None:
    """One client uploads a document, another downloads the same bytes."""
    path = tmp_path / "report.bin"
    path.write_bytes(FILE)
    alice, bob = await baileys.connect("alice"), await baileys.connect("bob")
    document = {"url": str(path)}
    sent = await alice.send(
        bob.account,
        "",
        document=document,
        mimetype="application/octet-stream",
        fileName="report.bin",
    )
    await bob.wait_for(lambda _: any(m["key"]["id"] == sent for m in bob.messages()))
    assert await bob.download(sent) == FILE
    assert len(simulator.media) == 1
