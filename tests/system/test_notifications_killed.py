"""The real daemon is killed while it sends a mail: every notification arrives, and none that the
server had answered arrives again."""

import json
import pathlib

import trio

from simulator import open_simulator
from tests.support.certificates import authority
from tests.support.daemon_process import open_daemon
from tests.support.smtp_server import HANG, USER, SmtpServer, open_smtp

PASSWORD_IN_URL = "p%40ss%2Fw0rd%20hush"
KEYS = [f"alert:{number}" for number in range(6)]


def queue(keys: list[str]) -> str:
    """As somebody's transaction does."""
    told = [
        {
            "key": key,
            "kind": "alert",
            "connection": None,
            "severity": "critical",
            "subject": key,
            "text": "It does not answer.",
            "html": "<p>It does not answer.</p>",
            "translations": {"pt-BR": {"subject": key, "text": "Não responde.", "html": None}},
            "data": {},
            "channels": None,
            "told": [],
        }
        for key in keys
    ]
    return f"SELECT * FROM enqueue_notifications('{json.dumps(told)}')"


async def test_kill_nine_loses_no_notification(tmp_path: pathlib.Path) -> None:
    """STARTTLS and a password, as a real server wants them. ``kill -9`` while the server has a
    mail and has not answered: only that one is sent again, with its Message-ID; SIGTERM in the
    middle of the others sends none twice; the password is in no log."""
    certificate = authority().issue(tmp_path, "localhost")
    authority().write(tmp_path)
    server = SmtpServer(security="starttls", authentication=True, certificate=certificate)
    with open_smtp(server):
        server.answers += ["250 OK", "250 OK", HANG]
        url = f"mailtos://{USER.replace('@', '%40')}:{PASSWORD_IN_URL}@localhost:{server.port}"
        (tmp_path / "mail.url").write_text(f"{url}?from=zap@example.com&to=ops@example.com\n")
        channel = (
            f'[[channels]]\nname = "mail"\nurl_file = "{tmp_path / "mail.url"}"\n'
            f'language = "pt-BR"\nca_file = "{tmp_path / "authority.pem"}"\n'
        )
        async with (
            open_simulator(seed="mail", listen=("127.0.0.1", 0)) as simulator,
            open_daemon(
                tmp_path / "d", simulator.url, simulator.root_key, "sales", settings=channel
            ) as daemon,
        ):

            async def view(key: str) -> object:
                return (await daemon.request("GET", "/channels/mail")).json()[key]

            async def hangs() -> bool:
                await trio.lowlevel.checkpoint()
                return not server.answers

            await daemon.execute(queue(KEYS[:3]))
            await daemon.execute(queue(KEYS))
            await daemon.until(hangs, "the server has the third mail, and says nothing")
            await daemon.kill()
            await daemon.start()

            async def all_sent() -> bool:
                return await view("pending") == 0

            await daemon.until(all_sent, "all are sent")
            await daemon.execute(queue([*KEYS, "alert:last"]))
            await daemon.terminate()
            await daemon.start()
            await daemon.until(all_sent, "the last one is sent")
            assert (await view("sent"), await view("failed")) == (len(KEYS) + 1, 0)
            test = await daemon.command("channels", "test", "mail")
            assert test["ok"]
            log = daemon.log
    subjects = [mail.message["Subject"] for mail in server.mails]
    assert subjects == [*KEYS, "alert:last", "zapvisor: isto é um teste"]
    assert {mail.part("plain") for mail in server.mails[:-1]} == {"Não responde.\n"}
    assert {(mail.tls, mail.user) for mail in server.mails} == {(True, USER)}
    assert len({mail.message["Message-ID"] for mail in server.mails}) == len(subjects)
    assert "hush" not in log
