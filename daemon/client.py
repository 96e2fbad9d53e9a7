"""The command line's side of the control socket: HTTP over a unix socket."""

import collections.abc as cabc
import contextlib
import json
import socket
import typing as t
from pathlib import Path

import httpx

from daemon.errors import NoDaemonError, RefusedError

TIMEOUT: t.Final = 35.0  # seconds; longer than the daemon's own deadline on a request
KNOCK_TIMEOUT: t.Final = 5.0  # seconds
PIECE: t.Final = 256 * 1024  # bytes of a file sent at once


class ControlClient:
    """Asks the daemon; every failure is a ``CommandError`` that can be shown as it is."""

    def __init__(self, path: Path, http: httpx.Client, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._http = http
        self._timeout = timeout

    def get(self, path: str, **params: t.Any) -> t.Any:
        """The JSON behind ``path``; None when there is no content (yet)."""
        return self._ask("GET", path, params)

    def post(
        self,
        path: str,
        *,
        body: t.Any = None,
        headers: cabc.Mapping[str, str] | None = None,
        **params: t.Any,
    ) -> t.Any:
        """The JSON with which an order is answered; ``body`` is sent as JSON."""
        content = None if body is None else json.dumps(body).encode()
        return self._ask("POST", path, params, content, headers)

    def page(self, path: str, **params: t.Any) -> tuple[t.Any, str | None]:
        """One page of a list, and the cursor of the next one; None: there is none."""
        answer = self._request("GET", path, params)
        return _content(self._path, answer), answer.headers.get("x-next-cursor")

    def patch(self, path: str, *, body: t.Any) -> t.Any:
        """The JSON with which a change is answered."""
        return self._ask("PATCH", path, {}, json.dumps(body).encode())

    def delete(self, path: str, **params: t.Any) -> t.Any:
        """The JSON with which a deletion is answered."""
        return self._ask("DELETE", path, params)

    def upload(self, path: str, file: t.BinaryIO, size: int) -> t.Any:
        """The JSON with which a file is answered; it is sent piece by piece."""
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        return self._ask("POST", path, {}, iter(lambda: file.read(PIECE), b""), headers)

    def download(self, path: str) -> bytes:
        """The bytes behind ``path``."""
        content: bytes = self._request("GET", path, {}).content
        return content

    def _ask(
        self,
        method: str,
        path: str,
        params: dict[str, t.Any],
        body: bytes | cabc.Iterable[bytes] | None = None,
        headers: cabc.Mapping[str, str] | None = None,
    ) -> t.Any:
        answer = self._request(method, path, params, body, headers)
        return _content(self._path, answer)

    def _request(
        self,
        method: str,
        path: str,
        params: dict[str, t.Any],
        body: bytes | cabc.Iterable[bytes] | None = None,
        headers: cabc.Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, which is no error."""
        given = {key: value for key, value in params.items() if value is not None}
        try:
            answer = self._http.request(
                method, path, params=given, content=body, headers=dict(headers or {})
            )
        except httpx.TimeoutException as error:
            raise NoDaemonError(
                f"the daemon at {self._path} did not answer within {self._timeout:g} s;"
                " look at its log"
            ) from error
        except httpx.TransportError as error:
            raise NoDaemonError(
                f"the daemon at {self._path} went away while it was asked; it may be stopping"
            ) from error
        if answer.is_error:
            content = _content(self._path, answer)
            detail = content.get("detail") if isinstance(content, dict) else None
            raise RefusedError(detail or f"the daemon answered {answer.status_code}")
        return answer


def _content(path: Path, answer: httpx.Response) -> t.Any:
    """The JSON of an answer; None when there is none.

    Raises:
        RefusedError: it is something else.
    """
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        raise RefusedError(f"what answers at {path} is no zapvisor daemon") from error


@contextlib.contextmanager
def open_client(path: Path, timeout: float = TIMEOUT) -> cabc.Iterator[ControlClient]:
    """A client of the daemon whose control socket is at ``path``; ``timeout``: seconds for each
    answer.

    Raises:
        NoDaemonError: nobody answers there.
    """
    _knock(path)
    # No TLS on a unix socket: not to load the authorities saves every command 50 ms.
    transport = httpx.HTTPTransport(uds=str(path), verify=False)
    with httpx.Client(transport=transport, base_url="http://zapvisor", timeout=timeout) as http:
        yield ControlClient(path, http, timeout)


def _knock(path: Path) -> None:
    """Connect once by ourselves: the system's error tells more than an HTTP client's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(KNOCK_TIMEOUT)
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise NoDaemonError(
                f"the control socket {path} may not be used by this user;"
                " run the command as the daemon's user, or join its group"
            ) from error
        except OSError as error:
            raise NoDaemonError(
                f"no daemon answers at {path}; start it with: zapvisor run"
            ) from error
