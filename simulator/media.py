"""The media host: files as clients upload them (encrypted), by direct path.

Source: docs/protocol.md#media-host
"""

import base64
import collections
import hashlib
import typing as t

import attrs

from simulator import files
from simulator.entropy import Entropy
from simulator.errors import MediaUnavailableError
from simulator.faults import Faults
from simulator.settings import Settings
from whatsapp.media_source import MediaSource

NOWHERE: t.Final = "media.invalid"  # the host while the simulator does not listen
TTL: t.Final = 300  # seconds a client may keep what it was told of the hosts

_NOT_FOUND: t.Final = 404
_PLACES: t.Final = {"history": "md-msg-hist", "app_state": "md-app-state"}


@attrs.frozen
class Upload:
    """Where an uploaded file lies."""

    direct_path: str
    url: str


class MediaStore:
    """Every uploaded file; bounded, the oldest are forgotten first.

    Uploading the same bytes again gives them another path: an expired one stays expired.
    """

    def __init__(self, entropy: Entropy, faults: Faults, settings: Settings) -> None:
        self._faults = faults
        self._limit = settings.media_store_limit
        self._files: collections.OrderedDict[str, bytes] = collections.OrderedDict()
        self._gone: dict[str, int] = {}
        self._uploads = 0
        self._size = 0
        self._keys = entropy.fork("keys")
        self.auth = entropy(24).hex()
        self.host = NOWHERE

    def __len__(self) -> int:
        return len(self._files)

    def put(self, data: bytes, kind: str = "image") -> Upload:
        """Store one file; where it lies."""
        self._uploads += 1
        path = f"/v/{kind}/{self._uploads}-{token(data)}.enc"
        self._files[path] = data
        self._size += len(data)
        while self._size > self._limit and len(self._files) > 1:
            _, dropped = self._files.popitem(last=False)
            self._size -= len(dropped)
        direct_path = f"{path}?x=1"  # some clients append further parameters with "&"
        return Upload(direct_path, f"https://{self.host}{direct_path}")

    def put_sealed(
        self, kind: str, plaintext: bytes, *, mimetype: str | None = None, name: str | None = None
    ) -> MediaSource:
        """Encrypt a file under a fresh key and store it, as phones do; ``kind`` as in `files`."""
        sealed = files.seal(kind, plaintext, self._keys(32))
        stored = self.put(sealed.data, _PLACES.get(kind, kind))
        return MediaSource(
            kind=kind,
            media_key=sealed.media_key,
            direct_path=stored.direct_path,
            url=stored.url,
            sha256=sealed.sha256,
            enc_sha256=sealed.enc_sha256,
            length=sealed.length,
            mimetype=mimetype,
            file_name=name,
        )

    def open(self, source: MediaSource) -> bytes:
        """The plaintext of a file; in memory, where no HTTP is, this is downloading.

        Raises:
            MediaUnavailableError: see `get`.
            ValueError: it was changed on the way, or is for another key.
        """
        data = self.get(source.direct_path)
        return files.unseal(source.kind, data, source.media_key) if source.media_key else data

    def get(self, direct_path: str) -> bytes:
        """The file of a direct path, whatever parameters follow.

        Raises:
            MediaUnavailableError: unknown, expired, or a fault says so; with the HTTP status.
        """
        path = _key(direct_path)
        if (status := self._faults.take_media("download")) is not None:
            raise MediaUnavailableError(status)
        if path in self._gone:
            raise MediaUnavailableError(self._gone[path])
        if (data := self._files.get(path)) is None:
            raise MediaUnavailableError(_NOT_FOUND)
        if self._faults.take_media("corrupt") is not None:
            where = len(data) // 2
            data = data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :] if data else b"\0"
        return data

    def expire(self, direct_path: str | None = None, status: int = 404) -> int:
        """Answer for one file (or all there are) with ``status`` from now on; how many."""
        paths = list(self._files) if direct_path is None else [_key(direct_path)]
        for path in paths:
            self._gone[path] = status
        return len(paths)

    def revive(self, direct_path: str) -> Upload | None:
        """Upload a file anew whose path expired; None when it was never there or is forgotten."""
        path = _key(direct_path)
        if (data := self._files.get(path)) is None:
            return None
        return self.put(data, path.split("/")[2])

    def discard(self, direct_path: str) -> None:
        """Forget one file, if it is there."""
        if (data := self._files.pop(_key(direct_path), None)) is not None:
            self._size -= len(data)

    def named(self, name: str) -> str | None:
        """The path of the newest file uploaded under this token, if any."""
        wanted = name.rstrip("=")
        return next((path for path in reversed(self._files) if f"-{wanted}." in path), None)


def token(data: bytes) -> str:
    """What clients call an upload: base64url of its SHA-256, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _key(direct_path: str) -> str:
    return direct_path.partition("?")[0].partition("&")[0]
