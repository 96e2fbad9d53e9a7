"""The log of a whole daemon at level debug, while everything goes wrong: it is what its schema
says, it holds nothing that is secret, and ``zapvisor logs -f`` shows it over a restart."""

import base64
import collections.abc as cabc
import contextlib
import json
import pathlib
import signal
import subprocess
import sys
import typing as t

import jsonschema
import trio

from simulator import open_simulator
from storage.embedded import EmbeddedPostgres
from storage.seal import Sealer, load_or_create_key
from tests.support.daemon_process import TIMEOUT, DaemonProcess, open_daemon
from tests.support.webhook_receiver import Received, open_receiver
from whatsapp.device import Device

SCHEMA: t.Final = pathlib.Path(__file__).parents[2] / "docs" / "log.schema.json"
VALID: t.Final = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
BODY: t.Final = "Rosebud-in-the-attic"
"""In every message's text; other words tell them apart."""
POISON: t.Final = f"{BODY} poison"
NAME: t.Final = "Zuleika Dobson"
DSN_PASSWORD: t.Final = "Dsn-Opensesame"
PROXY_PASSWORD: t.Final = "Proxy-Opensesame"
HOOK_KEY: t.Final = b"Hook-Opensesame-and-then-some-more"
HOOK_QUERY: t.Final = "Query-Opensesame"
NATS_PASSWORD: t.Final = "Nats-Opensesame"
NATS_TOKEN: t.Final = "Nats-Token-Opensesame"
MAIL_PASSWORD: t.Final = "Mail-Opensesame"
CHAT_TOKEN: t.Final = "Chat-Token-Opensesame"


def forms(secret: bytes) -> set[str]:
    """How a secret may stand in a text: plain, in hexadecimal, in base64 at any offset."""
    found = {secret.hex(), secret.hex().upper()}
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret).decode()
        whole = encoded[4 if offset else 0 :].rstrip("=")[:-1]
        found |= {whole, whole.replace("+", "-").replace("/", "_")}
    plain = secret.decode("utf-8", "ignore")
    return found | ({plain, json.dumps(plain)[1:-1]} if len(plain) > 4 else set())


async def refuse(stream: trio.SocketStream) -> None:
    """A NATS server that lets nobody in."""
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(b'INFO {"server_id":"X","headers":true}\r\n')
            told = b""
            while b"\r\n" not in told and (more := await stream.receive_some(4096)):
                told += more
            assert NATS_TOKEN.encode() in told
            await stream.send_all(b"-ERR 'Authorization Violation'\r\n")


async def answer_500(_request: Received) -> tuple[int, dict[str, str]]:
    """A webhook's endpoint that is broken."""
    return 500, {}


HEEDFUL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests may ignore it
runpy.run_module("daemon", run_name="__main__")
"""


@contextlib.asynccontextmanager
async def open_followers() -> cabc.AsyncIterator[str]:
    """Somebody for a webhook, NATS and channels to fail with; the settings for them."""
    secret = "whsec_" + base64.b64encode(HOOK_KEY).decode()
    async with open_receiver() as receiver, trio.open_nursery() as nursery:
        receiver.answer = answer_500
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, refuse, [listener])
        yield (
            f'[nats]\nurl = "nats://u:{NATS_PASSWORD}@127.0.0.1:{port}"\ntoken = "{NATS_TOKEN}"\n'
            f'[[webhooks]]\nname = "crm"\nsecret = "{secret}"\n'
            f'url = "http://127.0.0.1:{receiver.port}/hook?key={HOOK_QUERY}"\n'
            '[[channels]]\nname = "mail"\n'
            f'url = "mailtos://u:{MAIL_PASSWORD}@127.0.0.1:9?from=a@example.com&to=b@example.com"\n'
            '[[channels]]\nname = "chat"\n'
            f'url = "json://127.0.0.1:{receiver.port}/{CHAT_TOKEN}?key={CHAT_TOKEN}"\n'
        )
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def follow(daemon: DaemonProcess) -> cabc.AsyncIterator[trio.Process]:
    """``zapvisor logs -f sales --json`` in a process of its own."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", HEEDFUL, "logs", "-f", "sales", "--json", "-c", str(daemon.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=daemon.directory,
    )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


async def read_until(process: trio.Process, seen: list[dict[str, t.Any]], event: str) -> None:
    """Take lines in until this event has come once more."""
    assert process.stdout is not None
    text = b""
    with trio.fail_after(TIMEOUT):
        while True:
            text += await process.stdout.receive_some(65536)
            *whole, text = text.split(b"\n")
            fresh = [json.loads(each) for each in whole]
            seen += fresh
            if any(each["event"] == event for each in fresh):
                return


def planted(daemon: DaemonProcess, device: Device, *more: str) -> cabc.Iterator[bytes]:
    """All that must not be in the log."""
    for key in (device.noise, device.identity, device.signed_prekey):
        yield key.private
    yield device.adv_secret
    yield load_or_create_key(daemon.directory / "data" / "secret.key", {})
    yield HOOK_KEY
    told = (BODY, NAME, DSN_PASSWORD, PROXY_PASSWORD, HOOK_QUERY, NATS_PASSWORD, NATS_TOKEN)
    yield from (text.encode() for text in (*told, MAIL_PASSWORD, CHAT_TOKEN, *more))


async def test_a_debug_log_of_trouble_is_as_documented_and_holds_no_secret(
    tmp_path: pathlib.Path,
) -> None:
    """Bodies, names, numbers, keys and passwords, in plain, hexadecimal and base64."""
    server = EmbeddedPostgres(tmp_path / "postgres", temporary=True)
    async with server, open_simulator(seed="secrets", listen=("127.0.0.1", 0)) as simulator:
        dsn = server.dsn.replace("@", f":{DSN_PASSWORD}@", 1)
        proxied = (
            f'[[connections]]\nname = "behind"\nproxy = "http://u:{PROXY_PASSWORD}@127.0.0.1:9"'
        )
        async with (
            contextlib.AsyncExitStack() as stack,
            open_followers() as followers,
            open_daemon(
                tmp_path / "d",
                simulator.url,
                simulator.root_key,
                "sales",
                dsn=dsn,
                settings=f"{followers}{proxied}",
            ) as daemon,
        ):
            team = simulator.create_account("team")

            async def scan(qr: str) -> object:
                return await simulator.scan_qr(qr, phone=team.pn.user)

            await daemon.link("sales", scan)
            following = await stack.enter_async_context(follow(daemon))
            seen: list[dict[str, t.Any]] = []
            await read_until(following, seen, "connection.state")

            ana, rui = simulator.create_account(NAME), simulator.create_account("Rui")
            group = simulator.create_group(f"{BODY} group", [ana, rui, team])
            await daemon.request("POST", "/connections/behind/pair")
            made = await daemon.request("POST", "/tokens", {"name": "t", "scopes": ["read"]})
            assert made.is_success, made.text
            token = made.json()["token"]
            logged_in = await daemon.request("POST", "/session", {"token": token})
            [(cookie_name, cookie)] = logged_in.cookies.items()
            assert len(cookie) > 20
            for path in ("/session", f"/messages/{cookie}"):
                headers = {"Cookie": f"{cookie_name}={cookie}"}
                await daemon.request("GET", path, headers=headers)
            wrong = {"Authorization": f"Bearer {token}x", "Cookie": f"{cookie_name}={token}"}
            await daemon.request("GET", f"/connections/{token}/timeline", headers=wrong)
            # The database refuses one text, and its error shows the row.
            await daemon.execute(
                f"ALTER TABLE messages ADD CONSTRAINT no_poison CHECK (text <> '{POISON}')"
            )
            await ana.phone.send_text(team.pn, f"{BODY} first")
            await rui.phone.send_group_text(group.jid, f"{BODY} to all")
            simulator.faults.corrupt(count=1)
            await rui.phone.send_text(team.pn, f"{BODY} corrupted")
            await ana.phone.send_text(team.pn, POISON)
            simulator.faults.duplicate(count=1)
            last = await ana.phone.send_text(team.pn, f"{BODY} last")
            await daemon.until_message(last)
            row = await daemon.send("sales", ana.pn.user, text=f"{BODY} from us")
            await daemon.until_outbox(row["id"], "sent", "delivered", "read")
            for body in ({"to": ana.pn.user, "text": [BODY]}, {"to": BODY}, {"text": BODY}):
                assert (
                    await daemon.request("POST", "/connections/sales/messages", body)
                ).is_client_error
            await simulator.say(b"\x00\xf8\x03" + BODY.encode(), team.companions[0].pn)

            async def quarantined() -> bool:
                return '"event": "Message quarantined"' in daemon.log

            await daemon.until(quarantined, "the poison is in quarantine")

            async def refused() -> bool:
                return '"nats.failing"' in daemon.log and '"webhook.failing"' in daemon.log

            await daemon.until(refused, "NATS and the webhook fail")
            for channel in ("mail", "chat"):
                tried = (await daemon.request("POST", f"/channels/{channel}/test")).json()
                assert not tried["ok"]
                assert "Opensesame" not in tried["error"]

            async def failing() -> bool:
                return "crm fails" in (await daemon.request("GET", "/health")).text

            await daemon.until(failing, "health tells of the webhook")
            await read_until(following, seen, "Message quarantined")
            # The conversation is closed and written to again, after a restart of the daemon.
            [row] = await daemon.query(
                f"SELECT conversation_id AS id FROM messages WHERE external_id = '{last}'"
            )
            await daemon.request("POST", f"/conversations/{row['id']}/close")
            assert await daemon.terminate() == 0
            await daemon.start()
            await daemon.until_state("sales", "online")
            await ana.phone.send_text(team.pn, f"{BODY} again")
            await read_until(following, seen, "Reopening closed conversation")

            following.send_signal(signal.SIGINT)
            assert following.stdout is not None
            with trio.fail_after(TIMEOUT):
                while await following.stdout.receive_some(65536):
                    pass  # it cannot end while it has something to say that nobody reads
                assert await following.wait() == 0
            assert following.stderr is not None
            assert b"Traceback" not in await following.stderr.receive_some(65536)
            [sealed] = await daemon.query(
                "SELECT encode(sealed, 'hex') AS hex FROM device_identity"
            )
            seal = Sealer(load_or_create_key(daemon.directory / "data" / "secret.key", {}))
            opened = seal.open("sales", "device", "", bytes.fromhex(sealed["hex"]))
            assert await daemon.terminate() == 0

        log = daemon.log
        printed = [json.loads(line) for line in log.splitlines()]
        wrong = [line for line in printed if not VALID.is_valid(line)]
        assert not wrong, [
            (line, error.message) for line in wrong[:5] for error in VALID.iter_errors(line)
        ]
        said = {line["event"] for line in printed}
        assert said >= {
            "Message saved",
            "Message already exists, skipping duplicate",
            "Reopening closed conversation",
            "Message could not be decrypted",
            "Message quarantined",
            "daemon.stopped",
            "nats.failing",
            "webhook.failing",
            "channel.failing",
        }
        numbers = [each.pn.user for each in (team, ana, rui)]
        numbers += [each.lid.user for each in (team, ana, rui)]
        for secret in planted(daemon, Device.from_bytes(opened), token, cookie, *numbers):
            for form in forms(secret):
                where = log.find(form)
                assert where < 0, (
                    f"{secret!r} as {form!r}: {log[max(0, where - 300) : where + 100]}"
                )

        assert {each["connection"] for each in seen} == {"sales"}
        own = [each for each in printed if each.get("connection") == "sales"]
        # From the first line that was seen on: the very same lines, each once, over the restart.
        # Only what the first run said after its API had stopped is missing.
        shown = own[own.index(seen[0]) : own.index(seen[-1]) + 1]
        missing = [line for line in shown if line not in seen]
        assert [line for line in shown if line in seen] == seen
        [stopping, *_later] = [each for each in printed if each["event"] == "daemon.stopping"]
        [_first, started] = [each for each in printed if each["event"] == "daemon.started"]
        assert all(
            stopping["timestamp"] <= line["timestamp"] < started["timestamp"] for line in missing
        )
