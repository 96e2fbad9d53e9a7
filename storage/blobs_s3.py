"""Blobs in an S3 bucket.

A blob is collected in a temporary file on the disk first, and uploaded under its address when it
is complete: only then is the address known, and only then has it been verified. S3 shows an
object when its upload is complete, so nothing needs to be copied or cleaned up there, and what
is given up was never uploaded. The price is room on the disk for the files under way.
"""

import collections.abc as cabc
import contextlib
import datetime as dt
import functools
import pathlib
import typing as t

import obstore
import trio
from obstore.exceptions import BaseError
from obstore.store import S3Store

from storage.blobs import (
    Blob,
    BlobMissingError,
    Blobs,
    BlobWriter,
    S3Settings,
    Spool,
    address_of,
    in_thread,
    make_temporary,
    spooling,
)
from storage.errors import StorageUnavailableError

if t.TYPE_CHECKING:  # these are types alone: the library has no such names at run time
    from obstore.store import ClientConfig, S3Config

PART: t.Final = 8 * 1024 * 1024  # bytes; more are uploaded in parts of this size
PARTS_AT_ONCE: t.Final = 2  # of one file
THREADS: t.Final = 16  # requests at once
REQUEST_TIMEOUT: t.Final = 120  # seconds for one part
CONNECT_TIMEOUT: t.Final = 10  # seconds
RETRIES: t.Final = 3

T = t.TypeVar("T")


class S3Blobs(Blobs):
    """See the module. A cancelled request is left to end in its thread: it does no harm."""

    def __init__(self, settings: S3Settings, directory: pathlib.Path) -> None:
        """``directory``: on the disk, for files under way."""
        self._bucket = settings.bucket
        self._temporary = directory / "tmp"
        self._limiter = trio.CapacityLimiter(THREADS)
        self._store = open_store(settings)

    async def prepare(self) -> int:
        """See :meth:`Blobs.prepare`; does not ask the server anything."""
        return await in_thread(functools.partial(make_temporary, self._temporary))

    @contextlib.asynccontextmanager
    async def writing(self) -> cabc.AsyncIterator[BlobWriter]:
        """See :meth:`Blobs.writing`."""
        async with spooling(self._temporary) as spool:
            yield _S3Writer(spool, self)

    async def size(self, sha256: bytes) -> int | None:
        """See :meth:`Blobs.size`."""
        try:
            found = await self._ask(
                functools.partial(obstore.head, self._store, address_of(sha256))
            )
        except FileNotFoundError:
            return None
        size: int = found["size"]
        return size

    async def read(self, sha256: bytes, start: int, length: int) -> bytes:
        """See :meth:`Blobs.read`."""
        get = functools.partial(
            obstore.get_range, self._store, address_of(sha256), start=start, length=length
        )
        try:
            return bytes(await self._ask(get))
        except FileNotFoundError as error:
            raise BlobMissingError(sha256) from error

    async def delete(self, sha256: bytes) -> None:
        """See :meth:`Blobs.delete`."""
        with contextlib.suppress(FileNotFoundError):
            await self._ask(functools.partial(obstore.delete, self._store, address_of(sha256)))

    def path(self, sha256: bytes) -> None:
        """None: it is not on the disk."""

    async def upload(self, spool: Spool) -> None:
        """Put a complete temporary file at its address, unless it is there already."""
        if await self.size(spool.sha256) == spool.size:
            return
        await self._ask(
            functools.partial(
                obstore.put,
                self._store,
                address_of(spool.sha256),
                spool.path,
                chunk_size=PART,
                max_concurrency=PARTS_AT_ONCE,
            )
        )

    async def _ask(self, work: cabc.Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._limiter
            )
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise StorageUnavailableError(describe(self._bucket, error)) from error


class _S3Writer:
    def __init__(self, spool: Spool, blobs: S3Blobs) -> None:
        self._spool = spool
        self._blobs = blobs

    @property
    def sha256(self) -> bytes:
        return self._spool.sha256

    async def write(self, data: bytes) -> None:
        await self._spool.write(data)

    async def commit(self) -> Blob:
        await self._spool.flush()
        await self._blobs.upload(self._spool)
        return Blob(self._spool.sha256, self._spool.size)


def open_store(settings: S3Settings) -> S3Store:
    """A client of the bucket; nothing is asked yet.

    Raises:
        StorageUnavailableError: the settings make no client.
    """
    config: S3Config = {}
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if settings.region:
        config["region"] = settings.region
    if settings.access_key:
        config["access_key_id"] = settings.access_key
        config["secret_access_key"] = settings.secret_key
    client: ClientConfig = {
        "timeout": dt.timedelta(seconds=REQUEST_TIMEOUT),
        "connect_timeout": dt.timedelta(seconds=CONNECT_TIMEOUT),
        "allow_http": settings.endpoint.startswith("http://"),
    }
    if settings.ca_file is not None:
        client["root_certificate"] = settings.ca_file.read_bytes()
    try:
        return S3Store(
            settings.bucket,
            prefix=settings.prefix or None,
            config=config,
            client_options=client,
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": dt.timedelta(seconds=REQUEST_TIMEOUT),
            },
        )
    except (BaseError, ValueError) as error:
        raise StorageUnavailableError(describe(settings.bucket, error)) from error


def describe(bucket: str, error: Exception | str) -> str:
    """What went wrong, for people."""
    first_line = str(error).partition("\n")[0]
    return f"S3 bucket {bucket}: {first_line[:300]}"
