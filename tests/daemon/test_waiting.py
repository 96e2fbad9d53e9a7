"""While the daemon waits for its database, the control socket and HTTP say so."""

from pathlib import Path

import httpx
import trio
from daemon_fakes import problem

from api.control_socket import control_socket
from daemon.waiting import WaitingRoom


async def test_it_lives_and_waits(short_path: Path) -> None:
    """Alive: yes; anything else: not yet. Why, with the names of places and users, is told on the
    socket alone. Then both places are left to the API."""
    path = short_path / "control.sock"
    with trio.fail_after(20), control_socket(path) as listener:
        async with trio.open_nursery() as nursery:
            room = WaitingRoom(listener, nursery, ("127.0.0.1", 0))
            await room.tell("the database is away: db.internal:5432 refused zapvisor_rw")
            assert room.http is not None
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            said = {}
            for place, client in (
                ("http", httpx.AsyncClient(base_url=f"http://127.0.0.1:{room.http.port}")),
                ("socket", httpx.AsyncClient(transport=transport, base_url="http://zapvisor")),
            ):
                async with client:
                    assert (await client.get("/health/live")).status_code == 200
                    answer = await client.get("/status")
                    assert answer.status_code == 503
                    assert problem(answer)["type"] == "urn:zapvisor:starting"
                    said[place] = problem(answer)["detail"]
            assert said["socket"] == "the database is away: db.internal:5432 refused zapvisor_rw"
            assert said["http"] == "the daemon waits for its database; its log tells why"
            await room.close()
            assert room.http.port is None
