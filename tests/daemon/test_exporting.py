"""``zapvisor export`` through a daemon that ends meanwhile."""

import contextlib
import http.server
import json
import os
import pathlib
import socketserver
import threading
import typing as t

import pytest

from config.load import load_config
from daemon.errors import NoDaemonError
from daemon.exporting import run_export

ORDER: t.Final = {"form": "jsonl", "name": None, "s3": False, "directory": None}


class _Mortal(http.server.BaseHTTPRequestHandler):
    """Begins exports, unless it is dead at once; goes away when it is asked how far one is."""

    dead_at_once = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.dead_at_once:
            self.do_GET()
            return
        row = {"id": 1, "name": "mine", "state": "running", "counts": {}}
        body = json.dumps(row).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """No answer, and nobody listens any more."""
        os.unlink(str(self.server.server_address))

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.mark.parametrize(
    ("dead_at_once", "words"), [(False, "The export mine is begun"), (True, "went away")]
)
def test_the_daemon_ends(short_path: pathlib.Path, dead_at_once: bool, words: str) -> None:
    """The command says so, and does not write a second export beside the one that it began."""
    file = short_path / "supervisor.toml"
    file.write_text(f'[daemon]\ndata_dir = "{short_path}"\n')
    config = load_config(file, {})

    class Handler(_Mortal):
        pass

    Handler.dead_at_once = dead_at_once
    with socketserver.ThreadingUnixStreamServer(str(config.control_socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with contextlib.ExitStack() as stack:
            stack.callback(thread.join, 10)
            stack.callback(server.shutdown)
            with pytest.raises(NoDaemonError, match=words):
                run_export(config, dict(ORDER), resume=False, progress=lambda _counts: None)
    assert not config.export_directory.exists()
