"""The files of what real clients send: fetched, verified, kept under their hash, given out."""

import hashlib
import pathlib
import typing as t

from interop_peer import Driver, raw

from simulator import Account, Simulator
from tests.support.daemon_process import DaemonProcess
from whatsapp.content import media_source

FILE: t.Final = bytes(range(256)) * 1000
LARGE: t.Final = bytes(1_200_000)  # above the limit that the daemon of the tests has
BIT: t.Final = raw(b"\xff\xd8")


def is_(state: str) -> t.Callable[[dict[str, t.Any]], bool]:
    return lambda row: row["media"]["state"] == state


async def test_files_are_kept_as_they_were_sent(
    daemon: DaemonProcess,
    simulator: Simulator,
    team: Account,
    baileys: Driver,
    tmp_path: pathlib.Path,
) -> None:
    """The same bytes, once however often they are sent; empty and too large ones; and those that
    WhatsApp had deleted before they were fetched: the phone uploads them again, if it can."""
    alice = await baileys.connect("alice")
    us = str(team.pn)

    async def document(name: str, data: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        content = {"document": {"url": str(path)}, "fileName": name, "mimetype": "text/plain"}
        return await alice.send_content(us, content)

    async def given_out(number: int) -> bytes:
        answer = await daemon.request("GET", f"/messages/{number}/media")
        assert answer.status_code == 200, answer.text
        return answer.content

    first, again = await document("first.txt", FILE), await document("again.txt", FILE)
    large, empty = await document("large.txt", LARGE), await document("empty.txt", b"")
    sha256 = hashlib.sha256(FILE).hexdigest()
    for message_id in (first, again):
        row = await daemon.until_message(message_id, is_("stored"), "has its file")
        assert row["media"]["blob_sha256"] == sha256
        assert await given_out(row["id"]) == FILE
    blobs = [path for path in (daemon.directory / "data").rglob("*") if path.name == sha256]
    assert [path.read_bytes() for path in blobs] == [FILE]
    row = await daemon.until_message(large, is_("skipped"), "is skipped")
    refused = await daemon.request("GET", f"/messages/{row['id']}/media")
    assert refused.status_code == 409
    asked = await daemon.request("POST", f"/messages/{row['id']}/media")
    assert asked.status_code == 202
    row = await daemon.until_message(empty, is_("stored"), "has its file")
    assert await given_out(row["id"]) == b""

    assert await daemon.terminate() == 0
    expired = await document("expired.txt", FILE[:1000])
    forgotten = await document("gone.txt", FILE[:2000])
    kept: dict[str, bytes] = {}

    async def on_the_phone() -> bool:
        kept.update({name: each.message for (_, _, name), each in team.phone.kept.items()})
        return forgotten in kept

    await daemon.until(on_the_phone, "the phone has both")
    simulator.media.expire()
    lost = media_source(kept[forgotten])
    assert lost is not None
    simulator.media.discard(lost.direct_path)
    await daemon.start()
    row = await daemon.until_message(expired, is_("stored"), "has its file")
    assert await given_out(row["id"]) == FILE[:1000]
    row = await daemon.until_message(forgotten, is_("expired"), "is gone")
    gone = await daemon.request("GET", f"/messages/{row['id']}/media")
    assert gone.status_code == 410
