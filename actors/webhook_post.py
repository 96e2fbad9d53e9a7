"""One attempt to deliver an event to a webhook: the request, its signature, what the answer means.

The headers are those of the Standard Webhooks specification: ``webhook-id`` is the same for every
attempt, ``webhook-timestamp`` is the attempt's, ``webhook-signature`` is ``v1,`` and the base64 of
an HMAC-SHA256 over ``id.timestamp.body``.
"""

import base64
import binascii
import contextlib
import datetime as dt
import email.utils
import hashlib
import hmac
import json
import ssl
import typing as t
import urllib.parse

import attrs
import httpx
import trio

from storage.events import EventRow

PREFIX: t.Final = "whsec_"
MAX_ANSWER: t.Final = 64 * 1024  # bytes of an answer that are read, to use the connection again
MAX_RETRY_AFTER: t.Final = 3600.0  # seconds
GONE: t.Final = 410
HOPELESS: t.Final = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431, 501, 505})
"""What an endpoint answers that will not take this event, whenever it is asked."""


@attrs.frozen(kw_only=True)
class WebhookSettings:
    """One webhook; ``types`` and ``connections`` None: all."""

    name: str
    url: str = attrs.field(repr=False)  # may hold a password
    secret: bytes = attrs.field(repr=False)
    patterns: tuple[str, ...] = ("*",)  # as written
    types: frozenset[str] | None = None
    connections: frozenset[str] | None = None
    timeout: float = 15.0  # seconds for one attempt
    attempts: int = 15  # then an event is dead
    concurrency: int = 4

    @property
    def shown_url(self) -> str:
        """Without what may be secret."""
        parts = urllib.parse.urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))


@attrs.frozen(kw_only=True)
class Answer:
    """What came of an attempt; ``error`` None: it was delivered."""

    status: int | None = None
    error: str | None = None
    retry_after: float | None = None  # seconds, as the endpoint asks

    @property
    def gone(self) -> bool:
        """The endpoint wants no more events."""
        return self.status == GONE

    @property
    def hopeless(self) -> bool:
        """The endpoint will not take this event."""
        return self.status in HOPELESS


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: base64 after ``whsec_``, else the text itself.

    Raises:
        ValueError: it is not base64, or shorter than 24 bytes.
    """
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error as error:
            raise ValueError("what follows whsec_ must be base64") from error
    else:
        key = secret.encode()
    if len(key) < 24:
        raise ValueError("it must have at least 24 bytes; `zapvisor webhooks secret` makes one")
    return key


def envelope(event: EventRow) -> dict[str, t.Any]:
    """An event as JSON tells it everywhere."""
    return {
        "id": event.id,
        "type": event.type,
        "at": event.at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
        "connection": event.connection,
        "data": event.data,
    }


def envelope_json(event: EventRow) -> str:
    """The same in one line."""
    return json.dumps(envelope(event), ensure_ascii=False, separators=(",", ":"))


def signed_headers(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt."""
    signed = b".".join((message_id.encode(), b"%d" % timestamp, body))
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "user-agent": "zapvisor",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


class Poster:
    """Sends events to one endpoint. Certificates are verified, redirects are not followed, and
    the proxies of the environment are not used."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            follow_redirects=False,
            trust_env=False,
            timeout=settings.timeout,
            limits=httpx.Limits(
                max_connections=settings.concurrency + 1,
                max_keepalive_connections=settings.concurrency,
            ),
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def post(self, message_id: str, body: bytes, now: float) -> Answer:
        """One attempt at ``now`` (unix seconds); it takes no longer than the timeout."""
        headers = signed_headers(self._settings.secret, message_id, int(now), body)
        try:
            with trio.fail_after(self._settings.timeout):
                async with self._client.stream(
                    "POST", self._settings.url, content=body, headers=headers
                ) as response:
                    await _read_some(response)
                    return _judge(response, now)
        except (trio.TooSlowError, httpx.TimeoutException):
            return Answer(error=f"no answer within {self._settings.timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            return Answer(error=f"{type(error).__name__}: {error}"[:500])


async def _read_some(response: httpx.Response) -> None:
    size = 0
    async with contextlib.aclosing(t.cast("t.Any", response.aiter_raw())) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_ANSWER:
                return


def _judge(response: httpx.Response, now: float) -> Answer:
    status = response.status_code
    if response.is_success:
        return Answer(status=status)
    if response.is_redirect:
        return Answer(status=status, error=f"it answered {status}: redirects are not followed")
    return Answer(
        status=status,
        error=f"it answered {status}",
        retry_after=_retry_after(response.headers.get("retry-after"), now),
    )


def _retry_after(written: str | None, now: float) -> float | None:
    """Seconds, from a number or a date; nothing when it makes no sense."""
    if written is None:
        return None
    if written.isascii() and written.isdigit():
        seconds = float(written[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(written).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
