"""A small S3 endpoint over HTTP, for the tests of S3Blobs.

Objects in memory; PUT, GET with ranges, HEAD, DELETE, bulk deletion and multipart uploads, with
S3's own rules where a client could break them: every request's signature (version 4) is checked,
all parts but the last have 5 MiB at least, an object shows when its upload is complete.
"""

import collections.abc as cabc
import contextlib
import hashlib
import hmac
import http.server
import re
import threading
import typing as t
import urllib.parse
import xml.etree.ElementTree as ET

import attrs

SMALLEST_PART: t.Final = 5 * 1024 * 1024
REGION: t.Final = "sa-east-1"
ACCESS_KEY: t.Final = "AKTEST"
SECRET_KEY: t.Final = "not-a-real-secret"


@attrs.define
class Bucket:
    """What the endpoint holds, and what it is told to do wrong."""

    name: str = "inbox"
    objects: dict[str, bytes] = attrs.field(factory=dict)
    uploads: dict[str, dict[int, bytes]] = attrs.field(factory=dict)
    requests: list[str] = attrs.field(factory=list)
    fail_with: int = 0
    """Every request is answered with this status."""
    hold: threading.Event | None = None
    """Uploads of objects wait for it."""


@attrs.frozen
class Endpoint:
    """A running endpoint."""

    url: str
    bucket: Bucket


@contextlib.contextmanager
def running() -> cabc.Iterator[Endpoint]:
    """An endpoint on a port of its own, with an empty bucket."""
    bucket = Bucket()

    class Handler(_Handler):
        state = bucket

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Endpoint(f"http://127.0.0.1:{server.server_port}", bucket)
    finally:
        if bucket.hold is not None:
            bucket.hold.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Bucket

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        self.state.requests.append(f"{self.command} {key} {','.join(sorted(asked))}".strip())
        if self.state.fail_with:
            self._answer(self.state.fail_with, b"<Error><Code>Broken</Code></Error>")
        elif not self._is_signed(path, query, body):
            self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        elif bucket != self.state.name:
            self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        else:
            self._dispatch(key, asked, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _dispatch(self, key: str, asked: dict[str, str], body: bytes) -> None:
        match self.command:
            case "PUT" if "uploadId" in asked:
                self.state.uploads[asked["uploadId"]][int(asked["partNumber"])] = body
                self._answer(200, etag=_etag(body))
            case "PUT":
                if self.state.hold is not None:
                    self.state.hold.wait(10)
                self.state.objects[key] = body
                self._answer(200, etag=_etag(body))
            case "POST" if "uploads" in asked:
                upload = f"upload-{len(self.state.requests)}"
                self.state.uploads[upload] = {}
                self._answer(200, _xml("InitiateMultipartUploadResult", UploadId=upload))
            case "POST" if "uploadId" in asked:
                self._complete(key, asked["uploadId"], body)
            case "POST" if "delete" in asked:
                self._delete([element.text or "" for element in _named("Key", body)])
            case "DELETE" if "uploadId" in asked:
                self.state.uploads.pop(asked["uploadId"], None)
                self._answer(204)
            case "DELETE":
                self.state.objects.pop(key, None)
                self._answer(204)
            case "GET" if "list-type" in asked:
                self._list(asked["prefix"])
            case "GET" | "HEAD" if key in self.state.objects:
                self._give(self.state.objects[key])
            case _:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _complete(self, key: str, upload: str, body: bytes) -> None:
        parts = self.state.uploads[upload]
        named = [int(element.text or "0") for element in _named("PartNumber", body)]
        contents = [parts[number] for number in named]
        if named != sorted(parts) or any(len(part) < SMALLEST_PART for part in contents[:-1]):
            self._answer(400, b"<Error><Code>EntityTooSmall</Code></Error>")
            return
        self.state.objects[key] = b"".join(contents)
        del self.state.uploads[upload]
        result = _xml("CompleteMultipartUploadResult", ETag=_etag(body), Key=key)
        self._answer(200, result)

    def _list(self, prefix: str) -> None:
        found = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            f"<Size>{len(data)}</Size><ETag>{_etag(data)}</ETag></Contents>"
            for key, data in sorted(self.state.objects.items())
            if key.startswith(prefix)
        )
        head = "<IsTruncated>false</IsTruncated>"
        self._answer(200, f"<ListBucketResult>{head}{found}</ListBucketResult>".encode())

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            self.state.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _give(self, data: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._answer(200, data, etag=_etag(data))
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if first > last:
            self._answer(416, b"<Error><Code>InvalidRange</Code></Error>")
            return
        span = f"bytes {first}-{last}/{len(data)}"
        self._answer(206, data[first : last + 1], etag=_etag(data), content_range=span)

    def _answer(
        self, status: int, body: bytes = b"", *, etag: str = "", content_range: str = ""
    ) -> None:
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        if content_range:
            self.send_header("Content-Range", content_range)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _is_signed(self, path: str, query: str, body: bytes) -> bool:
        """AWS signature version 4, computed anew from the request."""
        given = re.fullmatch(
            rf"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/(\d{{8}})/{REGION}/s3/aws4_request, ?"
            r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})",
            self.headers.get("Authorization", ""),
        )
        payload = self.headers.get("x-amz-content-sha256", "")
        if given is None or payload not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            return False
        day, names, signature = given[1], given[2], given[3]
        pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
        canonical = "\n".join(
            [
                self.command,
                path,
                urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote, safe="-_.~"),
                *(f"{name}:{self.headers.get(name, '').strip()}" for name in names.split(";")),
                "",
                names,
                payload,
            ]
        )
        scope = f"{day}/{REGION}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, digest])
        key = f"AWS4{SECRET_KEY}".encode()
        for part in (day, REGION, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing."""


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _named(name: str, body: bytes) -> list[ET.Element]:
    return [element for element in ET.fromstring(body).iter() if element.tag.endswith(name)]


def _xml(name: str, **fields: str) -> bytes:
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return f'<?xml version="1.0"?><{name}>{inner}</{name}>'.encode()
