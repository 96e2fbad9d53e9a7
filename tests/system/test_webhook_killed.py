"""The real daemon is killed while it delivers: its webhook is sent every event in the end."""

import pathlib

import trio

from simulator import open_simulator
from tests.support.daemon_process import open_daemon
from tests.support.webhook_receiver import Received, open_receiver

EVENTS = 60


async def test_kill_nine_loses_no_delivery(tmp_path: pathlib.Path) -> None:
    """What was answered but not stored is sent again, with the same id; the stream, its position
    and the attempts are all in the database. ``kill -9`` twice: in the middle of a request, and
    while a failed event waits for its next attempt."""
    async with (
        open_receiver() as receiver,
        open_simulator(seed="webhook", listen=("127.0.0.1", 0)) as server,
    ):
        reached = trio.Event()

        async def hold(_request: Received) -> tuple[int, dict[str, str]]:
            if len(receiver.requests) == EVENTS // 2:
                reached.set()
                await trio.sleep_forever()
            return 200, {}

        async def refuse(_request: Received) -> tuple[int, dict[str, str]]:
            await trio.lowlevel.checkpoint()
            return 500, {}

        receiver.answer = hold
        webhook = (
            f'[[webhooks]]\nname = "crm"\nurl = "{receiver.url}"\n'
            f'secret = "{"s" * 32}"\ntypes = ["gap.*"]\n'
        )
        async with open_daemon(
            tmp_path / "d", server.url, server.root_key, "sales", settings=webhook
        ) as daemon:

            async def view(key: str) -> object:
                return (await daemon.request("GET", "/webhooks/crm")).json()[key]

            await daemon.until(lambda: view("newest"), "the webhook follows")
            await daemon.execute(
                f"SELECT put_event('gap.opened', 'sales', '{{}}') FROM generate_series(1, {EVENTS})"
            )
            with trio.fail_after(60):
                await reached.wait()
            await daemon.kill()
            receiver.answer = refuse
            await daemon.start()
            await daemon.until(lambda: view("retrying"), "a failed delivery waits")
            await daemon.kill()
            receiver.answer = None
            await daemon.start()
            [head] = (await daemon.request("GET", "/webhooks/crm/deliveries?limit=1")).json()
            assert head["attempts"] >= 1
            await daemon.request("POST", f"/webhooks/crm/replay?event={head['event_id']}")

            async def done() -> bool:
                return len(set(receiver.ids)) == EVENTS and await view("pending") == 0

            await daemon.until(done, "everything is delivered")
            assert (await view("dead"), await view("lost")) == (0, 0)
        kept = {each.headers["webhook-id"]: each.event["id"] for each in receiver.requests}
        assert kept == {f"evt_{event_id}": event_id for event_id in receiver.ids}
        assert "secret" not in daemon.log
        assert "s" * 32 not in daemon.log
