"""Files that are stored here, on their way into messages of ours."""

from actors.composition import UnsendableError
from actors.line import Line
from actors.media_http import MediaHttp, MediaTooLargeError
from storage.blobs import HASH_LENGTH, Blobs
from whatsapp.errors import LocalProtocolError
from whatsapp.media_source import MediaSource


class StoredUploads:
    """Uploads blobs over one connection; fits ``actors.composition.Upload``."""

    def __init__(self, blobs: Blobs, http: MediaHttp, line: Line) -> None:
        self._blobs = blobs
        self._http = http
        self._line = line

    async def __call__(self, file: str, kind: str) -> MediaSource:
        """Put the blob whose SHA-256 is ``file`` (hexadecimal) on WhatsApp's servers.

        Raises:
            UnsendableError: there is no such blob or kind, or it is larger than is taken.
            MediaUnavailableError: not now.
            StorageUnavailableError: the blob cannot be read, or there is no room; not now.
        """
        sha256 = _hash(file)
        if await self._blobs.size(sha256) is None:
            raise UnsendableError("the file is not stored here (any more)")
        try:
            return await self._http.upload(self._line, kind, self._blobs.open(sha256))
        except (MediaTooLargeError, LocalProtocolError) as error:
            raise UnsendableError(str(error)) from error


def _hash(file: str) -> bytes:
    try:
        sha256 = bytes.fromhex(file)
    except ValueError as error:
        raise UnsendableError("the file is not named by its SHA-256") from error
    if len(sha256) != HASH_LENGTH:
        raise UnsendableError("the file is not named by its SHA-256")
    return sha256
