"""The simulator's media host: over HTTPS, and in memory."""

import collections.abc as cabc
import ssl

import httpx
import pytest
import trio
from scripted_companion import Companion
from trio.testing import MockClock

from simulator import MediaUnavailableError, Settings, Simulator, files, open_simulator
from simulator.entropy import Entropy
from simulator.media import token
from whatsapp.node import Node

FILE = bytes(range(256)) * 40


@pytest.fixture
async def simulator() -> cabc.AsyncIterator[Simulator]:
    """A simulator on a free port that takes files up to 64 KiB."""
    settings = Settings(media_file_limit=64 * 1024)
    with trio.fail_after(30):
        async with open_simulator(seed=1, listen=("127.0.0.1", 0), settings=settings) as running:
            yield running


@pytest.fixture
async def host(simulator: Simulator) -> cabc.AsyncIterator[httpx.AsyncClient]:
    """A client that trusts the simulator's certificate and no other."""
    trust = ssl.create_default_context(cadata=simulator.certificate)
    async with httpx.AsyncClient(
        base_url=f"https://{simulator.media.host}", verify=trust
    ) as client:
        yield client


async def upload(
    host: httpx.AsyncClient, simulator: Simulator, data: bytes, kind: str = "image"
) -> httpx.Response:
    """Upload as clients do."""
    query = {"auth": simulator.media.auth, "token": token(data)}
    return await host.post(f"/mms/{kind}/{token(data)}", params=query, content=data)


async def test_what_is_uploaded_comes_back(simulator: Simulator, host: httpx.AsyncClient) -> None:
    """Byte for byte, by the address and by the path, whatever parameters are appended."""
    answer = (await upload(host, simulator, FILE, "md-msg-hist")).json()
    assert answer["url"] == f"https://{simulator.media.host}{answer['direct_path']}"
    assert (await host.get(answer["url"])).content == FILE
    appended = f"{answer['direct_path']}&hash=x&mms-type=image&__wa-mms="
    assert (await host.get(appended)).content == FILE
    assert simulator.media.get(answer["direct_path"]) == FILE


@pytest.mark.parametrize(
    ("wanted", "status", "expected"),
    [
        ("bytes=0-15", 206, FILE[:16]),
        ("bytes=10000-", 206, FILE[10000:]),
        ("bytes=-7", 206, FILE[-7:]),
        ("bytes=99999-", 416, b""),
        ("lines=1-2", 200, FILE),
    ],
)
async def test_a_range_of_a_file(
    simulator: Simulator,
    host: httpx.AsyncClient,
    wanted: str,
    status: int,
    expected: bytes,
) -> None:
    """One range of bytes is honoured, anything else ignored."""
    path = simulator.media.put(FILE).direct_path
    answer = await host.get(path, headers={"range": wanted})
    assert (answer.status_code, answer.content) == (status, expected)


async def test_refused_uploads(simulator: Simulator, host: httpx.AsyncClient) -> None:
    """Without authorisation, under another file's token, and too large."""
    assert (await host.post(f"/mms/image/{token(FILE)}", content=FILE)).status_code == 401
    query = {"auth": simulator.media.auth}
    wrong = await host.post(f"/mms/image/{token(b'other')}", params=query, content=FILE)
    assert wrong.status_code == 400
    assert (await upload(host, simulator, bytes(65 * 1024))).status_code == 413
    assert len(simulator.media) == 0


async def test_files_vanish_on_command(simulator: Simulator, host: httpx.AsyncClient) -> None:
    """For a while, for good, or changed on the way; and the same goes for uploads."""
    path = simulator.media.put(FILE).direct_path
    simulator.faults.fail_media("download", 503)
    assert [(await host.get(path)).status_code for _ in range(2)] == [503, 200]
    simulator.faults.fail_media("corrupt")
    assert (await host.get(path)).content != FILE
    assert (await host.get(path)).content == FILE
    simulator.faults.fail_media("upload", 500)
    assert (await upload(host, simulator, FILE)).status_code == 500
    order = {"fault": "expire_media", "path": path, "status": 410}
    assert (await host.post("/admin/fault", json=order)).json()["struck"] == 1
    assert (await host.get(path)).status_code == 410
    anew = (await upload(host, simulator, FILE)).json()["direct_path"]
    assert anew != path
    assert (await host.get(anew)).content == FILE


async def test_media_faults_are_checked(host: httpx.AsyncClient) -> None:
    """Orders that make no sense are refused."""
    for order, status in (
        ({"fault": "fail_media", "part": "sideways"}, 404),
        ({"fault": "fail_media", "status": "many"}, 400),
        ({"fault": "fail_media", "status": 404}, 200),
    ):
        assert (await host.post("/admin/fault", json=order)).status_code == status


async def test_deleted_file_is_gone(simulator: Simulator, host: httpx.AsyncClient) -> None:
    """A companion that has read its history deletes it; unknown files delete as well."""
    path = (await upload(host, simulator, FILE, "md-msg-hist")).json()["direct_path"]
    for _ in range(2):
        assert (await host.delete(f"/mms/md-msg-hist/{token(FILE)}")).status_code == 200
    assert (await host.get(path)).status_code == 404


async def test_companion_is_told_the_host(simulator: Simulator, nursery: trio.Nursery) -> None:
    """The request for hosts is answered with this server's address."""
    desk = Companion(simulator, nursery, "desk")
    await desk.pair("desk")
    await desk.log_in()

    def media_conn(iq_id: str) -> Node:
        return Node("iq", {"id": iq_id, "type": "set", "xmlns": "w:m"}, (Node("media_conn"),))

    told = (await desk.ask(media_conn)).required_child("media_conn")
    assert told.required_child("host").text("hostname") == simulator.media.host
    assert told.text("auth") == simulator.media.auth


async def test_oldest_files_are_forgotten(autojump_clock: MockClock) -> None:
    """The store is bounded; the newest file always fits."""
    async with open_simulator(seed=1, settings=Settings(media_store_limit=100)) as simulator:
        paths = [simulator.media.put(bytes([number]) * 60).direct_path for number in range(3)]
        assert len(simulator.media) == 1
        assert simulator.media.get(paths[-1]) == bytes([2]) * 60
        with pytest.raises(MediaUnavailableError):
            simulator.media.get(paths[0])


@pytest.mark.parametrize("kind", files.INFOS)
def test_files_are_sealed(kind: str) -> None:
    """A sealed file opens with its key and kind, and with nothing else."""
    key = Entropy(1)(32)
    sealed = files.seal(kind, FILE, key)
    assert files.unseal(kind, sealed.data, key) == FILE
    with pytest.raises(ValueError, match="MAC"):
        files.unseal(kind, sealed.data, bytes(32))
